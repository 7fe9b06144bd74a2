//! `uffd_demo` teaches by what it prints: each first touch faults exactly once, and what it says of a fault is so.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The example, which `cargo test` builds beside the tests.
fn demo(argument: &str) -> Output {
    let test = std::env::current_exe().expect("this test has a path");
    let built: PathBuf =
        test.ancestors().nth(2).expect("tests lie two folders deep").join("examples/uffd_demo");
    assert!(built.exists(), "{} is not built; run `cargo test -p pagemesh-memory`", built.display());
    Command::new(built).arg(argument).output().expect("it starts")
}

#[test]
fn each_first_touch_faults_once_and_is_told() {
    for pages in [1, 2, 5] {
        let shown = demo(&pages.to_string());
        let text = String::from_utf8(shown.stdout).expect("text");
        assert!(shown.status.success(), "{text}");
        let touches = text.lines().take_while(|line| !line.starts_with("A page that is there"));
        let resolved = touches.filter(|line| line.contains("[fault ") && line.contains("mapped it")).count();
        assert_eq!(resolved, pages, "{text}");
        // One more by the store to a page that was loaded first, one by the page that is taken away.
        let last = format!("{} faults in all", pages + 2);
        assert!(text.lines().last().is_some_and(|line| line.starts_with(&last)), "{text}");
    }
}

#[test]
fn a_count_that_makes_no_sense_is_refused() {
    for wrong in ["0", "-1", "many", "99999999999999999999"] {
        let refused = demo(wrong);
        assert!(!refused.status.success(), "{wrong} was taken");
        assert!(!refused.stderr.is_empty(), "{wrong} was refused without a word");
    }
}
