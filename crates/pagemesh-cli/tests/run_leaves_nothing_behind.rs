//! A run that is over, however it came to its end, leaves no process: forgotten nodes hold ports, memory and cores, and
//! nobody knows where they came from.

mod run_support;

use std::process::Command;

use run_support::{Launcher, PAGEMESH, children, finish, is_alive, numbers, run_script, until_gone};
use rustix::process::{Pid, Signal, kill_process};

/// A node with something it started, that says the numbers of both and ends by itself only after a long time.
const STUBBORN: &str = "trap '' INT TERM HUP; sleep 1000 & echo ids $$ $!; wait; sleep 1000";

fn guard_of(launcher: &Launcher) -> i32 {
    let children = children(launcher.pid().as_raw_nonzero().get());
    children.iter().find(|(_, name)| name == "pagemesh-guard").unwrap().0
}

#[test]
fn a_killed_launcher_takes_the_nodes_and_all_they_started_with_it() {
    let mut launcher = Launcher::start(run_script(&["-n", "3"], STUBBORN));
    let mut ids = numbers(&launcher.wait_for("ids", 3), "ids");
    assert!(ids.len() == 6 && ids.iter().all(|id| is_alive(*id)));
    ids.push(guard_of(&launcher));
    launcher.signal(Signal::KILL);
    until_gone(&ids);
}

#[test]
fn a_killed_launcher_takes_the_nodes_with_it_even_without_its_guard() {
    let mut launcher =
        Launcher::start(run_script(&["-n", "3"], "trap '' TERM; echo ids $$; while :; do sleep 1; done"));
    let ids = numbers(&launcher.wait_for("ids", 3), "ids");
    let guard = guard_of(&launcher);
    kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
    until_gone(&[guard]);
    assert!(ids.iter().all(|id| is_alive(*id)));
    launcher.signal(Signal::KILL);
    until_gone(&ids);
}

#[test]
fn a_node_whose_launcher_died_before_it_began_does_not_begin() {
    // Process 1 stands for a launcher that is not this process' parent.
    let output = Command::new(PAGEMESH)
        .args(["__pagemesh-node", "1", "title", "/bin/echo", "echo", "begun"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
}

#[test]
fn a_run_works_without_its_guard() {
    let mut launcher = Launcher::start(run_script(&["-n", "2"], "echo ready; read line; echo done"));
    launcher.wait_for("ready", 2);
    let guard = guard_of(&launcher);
    kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
    until_gone(&[guard]);
    let finished = launcher.finish();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert_eq!(finished.out().matches("done").count(), 2);
}

#[test]
fn what_the_nodes_left_in_their_groups_ends_with_the_run() {
    let mut launcher = Launcher::start(run_script(&["-n", "2"], "sleep 1000 >/dev/null 2>&1 & echo ids $!"));
    let ids = numbers(&launcher.wait_for("ids", 2), "ids");
    assert_eq!(launcher.finish().code(), Some(0));
    until_gone(&ids);
}

#[test]
fn a_program_that_is_not_there_is_an_error_before_anything_starts() {
    let mut command = Command::new(PAGEMESH);
    command.args(["run", "-n", "2", "--", "no-such-program-anywhere"]);
    let finished = finish(command);
    assert_eq!(finished.code(), Some(127));
    assert!(finished.out.is_empty());
    let expected = "pagemesh run: cannot find the program \"no-such-program-anywhere\": ";
    assert!(finished.err().starts_with(expected) && finished.err().lines().count() == 1, "{finished:?}");
}

#[test]
fn a_file_that_cannot_be_executed_is_an_error_before_anything_starts() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path(), "/".as_ref()] {
        let mut command = Command::new(PAGEMESH);
        command.args(["run", "-n", "2", "--"]).arg(path);
        let finished = finish(command);
        assert_eq!(finished.code(), Some(126));
        assert!(finished.err().starts_with("pagemesh run: cannot execute the program "), "{finished:?}");
        assert_eq!(finished.err().lines().count(), 1);
    }
}

#[test]
fn a_script_without_its_interpreter_is_told_by_the_node() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(PAGEMESH);
    command.args(["run", "-n", "1", "--"]).arg(path);
    let finished = finish(command);
    assert_eq!(finished.code(), Some(127));
    assert!(finished.err().contains("[0] pagemesh run: cannot execute the program "), "{finished:?}");
}
