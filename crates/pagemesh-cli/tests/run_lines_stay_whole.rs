//! Whoever reads the output of several nodes, a person or a program, relies on lines: each whole, each with its node in
//! front, each on the stream it was written to, none lost, whatever their number, length or bytes.

mod run_support;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::Stdio;

use run_support::{Launcher, Stray, children, finish, numbers, run_script, state, until};

/// The lines of each node, without the prefix.
fn by_node(out: &[u8]) -> HashMap<u8, Vec<&[u8]>> {
    assert!(out.is_empty() || out.ends_with(b"\n"));
    let mut nodes: HashMap<u8, Vec<&[u8]>> = HashMap::new();
    for line in out.split_inclusive(|byte| *byte == b'\n') {
        let (prefix, text) = line.split_at(4);
        assert!(
            matches!(prefix, [b'[', b'0'..=b'9', b']', b' ']),
            "torn: {:?}",
            String::from_utf8_lossy(prefix)
        );
        nodes.entry(prefix[1] - b'0').or_default().push(&text[..text.len() - 1]);
    }
    nodes
}

#[test]
fn stdout_stays_stdout_and_stderr_stays_stderr() {
    let finished = finish(run_script(&["-n", "2"], "echo out; echo err >&2"));
    for (node, lines) in by_node(&finished.out) {
        assert_eq!(lines, [b"out"], "node {node}");
    }
    for (node, lines) in by_node(&finished.err) {
        assert_eq!(lines, [b"err"], "node {node}");
    }
    assert_eq!(by_node(&finished.out).len() + by_node(&finished.err).len(), 4);
}

#[test]
fn thousands_of_lines_from_all_nodes_at_once_arrive_in_order() {
    let script =
        "seq -f \"out $PAGEMESH_NODE %.0f\" 5000 & seq -f \"err $PAGEMESH_NODE %.0f\" 5000 >&2; wait";
    let finished = finish(run_script(&["-n", "4"], script));
    assert_eq!(finished.code(), Some(0));
    for (name, stream) in [("out", &finished.out), ("err", &finished.err)] {
        let nodes = by_node(stream);
        assert_eq!(nodes.len(), 4);
        for (node, lines) in nodes {
            let expected: Vec<String> = (1..=5000).map(|line| format!("{name} {node} {line}")).collect();
            let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
            assert_eq!(lines, expected, "node {node}");
        }
    }
}

#[test]
fn lines_stay_whole_when_both_streams_go_to_one_file() {
    let mut file = tempfile::tempfile().unwrap();
    let script = "line=$(printf %05000d $PAGEMESH_NODE); i=0; \
                  while [ $i -lt 100 ]; do echo o$line; echo e$line >&2; i=$((i+1)); done";
    let mut command = run_script(&["-n", "3"], script);
    command.stdout(file.try_clone().unwrap()).stderr(file.try_clone().unwrap());
    assert!(command.status().unwrap().success());
    file.rewind().unwrap();
    let mut out = Vec::new();
    file.read_to_end(&mut out).unwrap();
    let nodes = by_node(&out);
    assert_eq!(nodes.len(), 3);
    for (node, lines) in nodes {
        assert_eq!(lines.len(), 200);
        let digits = format!("{node:05000}");
        for line in lines {
            assert!(
                matches!(line[0], b'o' | b'e') && line[1..] == *digits.as_bytes(),
                "torn line of node {node}"
            );
        }
    }
}

#[test]
fn lines_of_a_megabyte_are_not_torn() {
    let script = "for line in 1 2 3; do head -c 1048576 /dev/zero | tr '\\0' $PAGEMESH_NODE; echo; done";
    let finished = finish(run_script(&["-n", "4"], script));
    let nodes = by_node(&finished.out);
    assert_eq!(nodes.len(), 4);
    for (node, lines) in nodes {
        assert_eq!(lines.len(), 3);
        for line in lines {
            assert!(line.len() == 1 << 20 && line.iter().all(|byte| *byte == node + b'0'), "node {node}");
        }
    }
}

#[test]
fn bytes_that_are_no_text_pass_unchanged() {
    let finished = finish(run_script(&["-n", "1"], "printf '\\377\\376\\000\\r\\n\\200'"));
    assert_eq!(finished.out, b"[0] \xff\xfe\0\r\n[0] \x80\n");
}

#[test]
fn a_last_line_without_a_newline_is_kept_and_ended() {
    let finished = finish(run_script(&["-n", "3"], "printf last"));
    let nodes = by_node(&finished.out);
    assert!(nodes.len() == 3 && nodes.values().all(|lines| *lines == [b"last"]), "{finished:?}");
}

#[test]
fn without_prefix_the_nodes_have_the_streams_themselves() {
    let finished = finish(run_script(&["-n", "1", "--no-prefix"], "printf out; printf err >&2"));
    assert_eq!((finished.out.as_slice(), finished.err.as_slice()), (b"out".as_slice(), b"err".as_slice()));
}

#[test]
fn a_daemon_that_holds_the_output_open_does_not_hold_up_the_end() {
    let launcher = Launcher::start(run_script(&["-n", "2"], "setsid sleep 1000 & echo daemon $!; echo done"));
    let finished = launcher.finish();
    assert_eq!(finished.code(), Some(0));
    let lines: Vec<String> = finished.out().lines().map(str::to_owned).collect();
    let daemons: Vec<Stray> = numbers(&lines, "daemon").into_iter().map(Stray).collect();
    assert_eq!(daemons.len(), 2);
    assert_eq!(lines.iter().filter(|line| line.ends_with("done")).count(), 2);
}

#[test]
fn a_daemon_that_never_stops_writing_does_not_hold_up_the_end() {
    let finished = finish(run_script(&["-n", "1"], "setsid yes & echo daemon $!"));
    assert_eq!(finished.code(), Some(0));
    let lines: Vec<String> = finished.out().lines().map(str::to_owned).collect();
    drop(Stray(numbers(&lines, "daemon")[0]));
}

#[test]
fn a_reader_that_takes_its_time_loses_nothing() {
    // The launcher's stdout holds 64 KiB (pipe(7)): it is full when the nodes have ended, and their pipes are not empty.
    let mut command = run_script(&["-n", "4"], "head -c 60000 /dev/zero | tr '\\0' $PAGEMESH_NODE");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let launcher = i32::try_from(child.id()).unwrap();
    // Ended nodes stay zombies, and the guard is the one child that is alive.
    let nodes_ended = || {
        let alive = children(launcher);
        !alive.is_empty() && alive.iter().all(|(_, name)| name == "pagemesh-guard")
    };
    until("the nodes have ended", || nodes_ended() && state(launcher).is_some());
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(child.wait().unwrap().success());
    let nodes = by_node(&out);
    assert!(nodes.len() == 4 && nodes.values().all(|lines| lines.len() == 1 && lines[0].len() == 60000));
}

#[test]
fn a_reader_that_leaves_ends_the_nodes_as_a_pipe_does() {
    let mut command = run_script(&["-n", "2"], "while :; do echo line; done");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 9];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141), "{err}");
    assert!(err.contains("was killed by signal 13 (SIGPIPE)"), "{err}");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let mut command = run_script(&["-n", "1"], "echo lost");
    let output = command.stdout(File::create("/dev/full").unwrap()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("pagemesh run: cannot write the nodes' output: No space left on device"), "{err}");
}
