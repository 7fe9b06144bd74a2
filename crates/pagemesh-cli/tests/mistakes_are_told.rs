//! Everyone mistypes a setting, fills a disk or pipes into `head`. What was wrong must then be said once, by the command that was called
//! and before minutes of work where that can be; and nothing may panic, or lose what was measured.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(2);

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs `pagemesh` to its end, with these variables.
fn pagemesh(arguments: &str, variables: &[(&str, &str)], stdout: Option<Stdio>) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemesh"));
    command.args(arguments.split_whitespace()).envs(variables.iter().copied()).stdin(Stdio::null());
    command.stdout(stdout.unwrap_or_else(|| File::create(&out).unwrap().into()));
    let mut child = command.stderr(File::create(&err).unwrap()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{arguments} does not end: {}", fs::read_to_string(err).unwrap());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    };
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    Ended { status, stdout: text(&out), stderr: text(&err) }
}

#[track_caller]
fn assert_refused(arguments: &str, variables: &[(&str, &str)], code: i32, said: &str) {
    let ended = pagemesh(arguments, variables, None);
    assert_eq!(ended.status.code(), Some(code), "{arguments}: {}", ended.stderr);
    assert_eq!(ended.stderr, format!("{said}\n"), "{arguments}");
    assert_eq!(ended.stdout, "", "{arguments}");
}

#[test]
fn a_full_standard_output_is_told_once() {
    for arguments in [
        "doctor",
        "bench idle --samples 1",
        "bench idle --samples 1 --json -",
        "litmus --list",
        "demo fibonacci --size 9",
        "demo life --generations 3",
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = pagemesh(arguments, &[], Some(full.into()));
        assert_eq!(ended.status.code(), Some(1), "{arguments}: {}", ended.stderr);
        let told = ended.stderr.matches("standard output cannot be written: No space left on device").count();
        assert_eq!(told, 1, "{arguments}: {}", ended.stderr);
        let blames = ["panicked", "node 1"].iter().any(|word| ended.stderr.contains(word));
        assert!(!blames, "{arguments}: {}", ended.stderr);
    }
}

#[test]
fn nothing_is_said_to_who_stops_reading() {
    for arguments in ["doctor", "litmus --list"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = pagemesh(arguments, &[], Some(writer.into()));
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(1), ""), "{arguments}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_not_lost() {
    let ended = pagemesh("bench idle --samples 1 --json /dev/full", &[], None);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the report cannot be written to /dev/full; make room"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains("processor time of"), "what was measured is shown: {}", ended.stdout);

    let said = "pagemesh bench: the report cannot be written to /nowhere/a.json: No such file or directory (os error 2)";
    assert_refused("bench idle --samples 1 --json /nowhere/a.json", &[], 1, said);

    // Nobody asked for an empty file, and nobody wants an old report lost.
    let folder = tempfile::tempdir().unwrap();
    for old in [None, Some("old")] {
        let path = folder.path().join(old.unwrap_or("new"));
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let arguments = format!("bench idle --samples 1 --figures nothing --json {}", path.display());
        let ended = pagemesh(&arguments, &[], None);
        assert!(ended.stderr.contains("no figure of these suites"), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(path).ok().as_deref(), old);
    }
}

#[test]
fn a_limit_on_files_is_told() {
    // The processes of the nodes inherit it; in blocks of 1024 bytes, or of 512.
    for (blocks, arguments) in
        [(1, "demo fibonacci --size 9"), (50, "demo jacobi --size 130 --rounds 1"), (1, "demo life")]
    {
        let mut limited = Command::new("sh");
        let script = format!("ulimit -f {blocks}; exec {} {arguments}", env!("CARGO_BIN_EXE_pagemesh"));
        let ended = limited.args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments}: {told}");
        let words = ["RLIMIT_FSIZE", "File too large"];
        // Each node says so for itself, and who started it says that it ended, in whatever order.
        let counts = told.lines().map(|line| words.map(|word| line.matches(word).count()));
        let said: Vec<[usize; 2]> = counts.filter(|counts| *counts != [0, 0]).collect();
        let once = said.iter().all(|counts| *counts == [1, 0] || *counts == [0, 1]);
        assert!(!said.is_empty() && once, "{arguments}: {told}");
    }
}

#[test]
fn the_end_of_a_game_is_said_though_it_cannot_be_kept() {
    let ended = pagemesh("demo life --generations 3 --output /dev/full", &[], None);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("output file `/dev/full` cannot be written"), "{}", ended.stderr);
    assert!(ended.stdout.contains("population 9"), "{}", ended.stdout);
}

#[test]
fn a_report_that_is_none_is_told_with_one_reason() {
    for (content, said) in [
        (None, "cannot be read: No such file or directory (os error 2); name a file"),
        (Some(""), "is no report: EOF while parsing a value at line 1 column 0; name a file"),
        (Some("{\"a\": 1}"), "is no report: it names no schema; name a file"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let path = path.display();
        let said = format!("pagemesh bench: {path} {said} that `pagemesh bench --json` wrote");
        assert_refused(&format!("bench compare {path} {path}"), &[], 1, &said);
    }
}

#[test]
fn a_wrong_setting_is_told_once_and_before_any_node_starts() {
    for (command, code) in [
        ("demo fibonacci", 1),
        ("demo life", 1),
        ("bench idle", 1),
        ("litmus", 1),
        ("history", 1),
        ("doctor", 2),
    ] {
        let title =
            if command == "bench idle" { "pagemesh bench".to_owned() } else { format!("pagemesh {command}") };
        for (name, value, wanted) in [
            ("PAGEMESH_SHARDS", "99", "a number of shards from 1 to 64, or auto"),
            ("PAGEMESH_TRANSPORT", "pigeon", "auto, tcp or ring"),
        ] {
            let said = format!("{title}: {name} is {value:?}; set it to {wanted}");
            assert_refused(command, &[(name, value)], code, &said);
        }
    }
}

#[test]
fn a_setting_that_nothing_reads_is_told() {
    let ended = pagemesh("demo fibonacci --size 9", &[("PAGEMESH_PAGRE", "sigsegv")], None);
    assert!(ended.status.success(), "{}", ended.stderr);
    let said = "warning: PAGEMESH_PAGRE is set, and nothing reads it; PAGEMESH_PAGER is a setting\n";
    assert_eq!(ended.stderr, format!("pagemesh demo fibonacci: {said}"));
    let ended = pagemesh("run -n 2 true", &[("PAGEMESH_PAGRE", "sigsegv")], None);
    assert_eq!(ended.stderr, format!("pagemesh run: {said}"));

    let ended = pagemesh("demo fibonacci --size 9", &[("PAGEMESH_LOG", "debu")], None);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("pagemesh: warning: PAGEMESH_LOG is \"debu\"; set it to off, error,"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_missing_interpreter_is_called_one() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/nowhere/at/all\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let ended = pagemesh(&format!("run -n 1 {}", script.display()), &[], None);
    assert_eq!(ended.status.code(), Some(127));
    assert!(ended.stderr.contains("its interpreter is not there"), "{}", ended.stderr);
}
