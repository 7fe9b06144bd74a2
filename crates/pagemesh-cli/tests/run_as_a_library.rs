//! Other commands start their nodes through `launch`: what they ask for must reach the nodes, and what happened must come
//! back as a value. This file is a program of its own (no test harness), because a program that calls `launch` must
//! call `helper` first in its `main`.

use std::env;
use std::process::{Command, ExitCode};

use pagemesh_cli::run::{Launch, LaunchError, NodeEnd, NodeFailure, Outcome, Output, helper, launch};

fn main() -> ExitCode {
    if let Some(code) = helper() {
        return code;
    }
    match env::args().nth(1).as_deref() {
        Some("case: copies of this program") => copies_of_this_program(),
        Some("case: node") => node(),
        Some("case: failure") => failure(),
        // Whatever the harness of the other tests would take: list, filters and options.
        Some("--list") => {
            println!("what_is_asked_for_reaches_the_nodes: test\nwhat_happened_comes_back: test");
        }
        _ => {
            what_is_asked_for_reaches_the_nodes();
            what_happened_comes_back();
            println!("test result: ok. 2 passed");
        }
    }
    ExitCode::SUCCESS
}

/// Runs this program once more: a process calls `launch` once.
fn case(name: &str) -> (String, String) {
    let output = Command::new(env::current_exe().unwrap()).arg(name).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{name}: {err}");
    (String::from_utf8(output.stdout).unwrap(), err)
}

fn what_is_asked_for_reaches_the_nodes() {
    let (out, err) = case("case: copies of this program");
    assert_eq!(out, "node 0 draws");
    let mut lines: Vec<&str> = err.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["node 0 greets the world", "node 1 greets the world", "node 2 greets the world"]);
}

fn copies_of_this_program() {
    let outcome = launch(&Launch {
        arguments: vec!["case: node".into()],
        environment: vec![("GREETED".into(), "the world".into())],
        stdout: Output::Inherited,
        stderr: Output::Lines,
        ..Launch::new(3, env::current_exe().unwrap())
    });
    assert_eq!(outcome.unwrap(), Outcome { failure: None, interrupted: None, output_lost: false });
}

fn node() {
    let number = env::var("PAGEMESH_NODE").unwrap();
    if number == "0" {
        print!("node 0 draws");
    }
    eprint!("node {number} greets {}", env::var("GREETED").unwrap());
}

fn what_happened_comes_back() {
    let (_, err) = case("case: failure");
    assert_eq!(err, "my command: node 1 exited with code 9\n");
}

fn failure() {
    let nothing = launch(&Launch::new(2, "/no/such/program"));
    assert!(matches!(nothing, Err(LaunchError::ProgramNotFound { .. })), "{nothing:?}");
    let outcome = launch(&Launch {
        title: "my command".to_owned(),
        arguments: vec!["-c".into(), "[ $PAGEMESH_NODE = 1 ] && exit 9; exec sleep 1000".into()],
        ..Launch::new(2, "sh")
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.failure, Some(NodeFailure { node: 1, end: NodeEnd::Exited(9) }));
    assert_eq!(outcome.code(), 9);
}
