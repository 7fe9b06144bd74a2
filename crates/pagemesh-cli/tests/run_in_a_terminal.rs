//! In a terminal the launcher must behave like the one program it stands for: Ctrl-C reaches every node once, node 0 can
//! read what is typed, Ctrl-Z and `fg` stop and continue all, and the terminal is given back in the end.

mod run_support;

use std::time::Instant;

use run_support::{PAGEMESH, PATIENCE, Terminal, children, is_alive, numbers, state, until, until_gone};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

fn run(nodes: &str, script: &str) -> Terminal {
    Terminal::start(PAGEMESH, &["run", "-n", nodes, "--", "sh", "-c", script])
}

#[test]
fn ctrl_c_reaches_every_node() {
    let mut terminal = run("3", "trap 'echo got it; exit 0' INT; echo ready; while :; do sleep 0.1; done");
    terminal.wait_for("ready", 3);
    terminal.type_text(CTRL_C);
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(130), "{seen}");
    assert_eq!(seen.matches("got it").count(), 3, "{seen}");
    assert!(!seen.contains("pagemesh run:"), "{seen}");
}

#[test]
fn ctrl_c_ends_plain_programs_without_a_word() {
    let mut terminal = run("3", "echo ready; exec sleep 1000");
    terminal.wait_for("ready", 3);
    terminal.type_text(CTRL_C);
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(130), "{seen}");
    assert!(!seen.contains("pagemesh run:"), "{seen}");
}

#[test]
fn no_node_gets_ctrl_c_twice() {
    let mut terminal = run("3", "trap 'echo counted' INT; echo ready; while :; do sleep 0.1; done");
    terminal.wait_for("ready", 3);
    terminal.type_text(CTRL_C);
    // They go on until they are killed: time enough for a second one to arrive.
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(130), "{seen}");
    assert_eq!(seen.matches("counted").count(), 3, "{seen}");
    assert_eq!(seen.matches("did not end in time and is killed").count(), 3, "{seen}");
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let mut terminal = run("2", "trap '' INT; echo ids $$; while :; do sleep 0.1; done");
    terminal.wait_for("ids", 2);
    let deadline = Instant::now() + PATIENCE;
    let mut typed_at: Option<Instant> = None;
    // Two that come together count as one, so some are typed.
    while !terminal.seen.contains("is killed at once") {
        assert!(Instant::now() < deadline, "{}", terminal.seen);
        if typed_at.is_none_or(|at| at.elapsed() > PATIENCE / 200) {
            terminal.type_text(CTRL_C);
            typed_at = Some(Instant::now());
        }
        terminal.read_some();
    }
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(130), "{seen}");
}

#[test]
fn ctrl_c_still_works_when_node_0_has_ended() {
    let mut terminal =
        run("2", "[ $PAGEMESH_NODE = 0 ] && { echo gone; exit 0; }; echo ready; exec sleep 1000");
    terminal.wait_for("gone", 1);
    terminal.wait_for("ready", 1);
    terminal.type_text(CTRL_C);
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(130), "{seen}");
}

#[test]
fn node_0_reads_what_is_typed() {
    let mut terminal = run("3", "if read line; then echo got $line; else echo nothing; fi");
    terminal.wait_for("nothing", 2);
    terminal.type_text("some words\n");
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("[0] got some words\r\n"), "{seen}");
}

#[test]
fn node_0_can_change_the_modes_and_a_killed_one_leaves_them_as_they_were() {
    let mut terminal = run("1", "stty -echo -icanon && echo raw && kill -9 $$");
    terminal.wait_for("was killed", 1);
    let modes = || tcgetattr(terminal.master()).unwrap().local_modes;
    until("the modes are back", || modes().contains(LocalModes::ECHO | LocalModes::ICANON));
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(137), "{seen}");
    assert!(seen.contains("[0] raw"), "{seen}");
}

#[test]
fn the_terminal_is_given_back_to_the_calling_script() {
    let script =
        "\"$0\" run -n 2 -- true; read line; echo script got $line; \"$0\" run -n 2 -- false; echo code $?";
    let mut terminal = Terminal::start("sh", &["-c", script, PAGEMESH]);
    terminal.type_text("the rest\n");
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("script got the rest"), "{seen}");
    assert!(seen.contains("code 1"), "{seen}");
}

#[test]
fn a_killed_launcher_gives_the_terminal_back() {
    // Until the guard has seen the death, the script is in the background and its reads fail.
    let script = "\"$0\" run -n 2 -- sh -c 'echo ids $$; sleep 1000; :'; \
                  until read line; do sleep 0.01; done; echo script got $line";
    let mut terminal = Terminal::start("sh", &["-c", script, PAGEMESH]);
    terminal.wait_for("ids", 2);
    let lines: Vec<String> = terminal.seen.lines().map(str::to_owned).collect();
    let ids = numbers(&lines, "ids");
    let shell = terminal.pid();
    let launcher = children(shell).into_iter().find(|(_, name)| name == "pagemesh").unwrap().0;
    kill_process(Pid::from_raw(launcher).unwrap(), Signal::KILL).unwrap();
    until_gone(&ids);
    terminal.type_text("the rest\n");
    let (_, seen) = terminal.finish();
    assert!(seen.contains("script got the rest"), "{seen}");
}

#[test]
fn ctrl_z_stops_all_and_fg_continues_all() {
    let mut terminal = Terminal::start("sh", &["-i"]);
    terminal.wait_for("prompt> ", 1);
    let script = "echo \"i\"\"ds $$\"; read line; echo \"go\"\"t $line\"";
    // `exec`: a shell that waits in vfork(2) for a child that was stopped before its exec is not in state T.
    terminal.type_text(&format!("{PAGEMESH} run -n 2 -- sh -c '{script}; exec sleep 1000'\n"));
    terminal.wait_for("] ids ", 2);
    let lines: Vec<String> = terminal.seen.lines().map(str::to_owned).collect();
    let ids = numbers(&lines, "] ids");
    assert_eq!(ids.len(), 2, "{}", terminal.seen);
    terminal.type_text(CTRL_Z);
    terminal.wait_for("prompt> ", 2);
    assert!(terminal.seen.contains("Stopped"), "{}", terminal.seen);
    until("both nodes are stopped", || ids.iter().all(|id| state(*id) == Some('T')));
    terminal.type_text("fg\n");
    until("both nodes go on", || ids.iter().all(|id| is_alive(*id) && state(*id) != Some('T')));
    terminal.type_text("more\n");
    terminal.wait_for("[0] got more", 1);
    terminal.type_text(CTRL_C);
    terminal.wait_for("prompt> ", 3);
    until_gone(&ids);
    terminal.type_text("echo co\"de\" $?; exit\n");
    let (_, seen) = terminal.finish();
    assert!(seen.contains("code 130"), "{seen}");
}

#[test]
fn a_launcher_in_the_background_gets_the_terminal_with_fg() {
    let mut terminal = Terminal::start("sh", &["-i"]);
    terminal.wait_for("prompt> ", 1);
    let script = "echo \"i\"\"ds $$\"; read line; echo \"go\"\"t $line\"";
    terminal.type_text(&format!("{PAGEMESH} run -n 1 -- sh -c '{script}' &\n"));
    terminal.wait_for("] ids ", 1);
    let lines: Vec<String> = terminal.seen.lines().map(str::to_owned).collect();
    let ids = numbers(&lines, "] ids");
    until("the node is stopped for reading", || state(ids[0]) == Some('T'));
    terminal.type_text("fg\n");
    until("the node goes on", || state(ids[0]) != Some('T'));
    terminal.type_text("more\n");
    terminal.wait_for("[0] got more", 1);
    terminal.type_text("exit\n");
    let (_, seen) = terminal.finish();
    assert!(seen.contains("[0] got more"), "{seen}");
}

#[test]
fn ctrl_z_does_nothing_where_nobody_could_continue() {
    // The launcher leads the session: its parent is elsewhere, and there is no `fg`.
    let mut terminal = run("1", "echo ready; while read line; do echo got $line; done");
    terminal.wait_for("ready", 1);
    terminal.type_text(CTRL_Z);
    terminal.type_text("more\n");
    terminal.wait_for("[0] got more", 1);
    terminal.type_text("\x04");
    let (code, seen) = terminal.finish();
    assert_eq!(code, Some(0), "{seen}");
}
