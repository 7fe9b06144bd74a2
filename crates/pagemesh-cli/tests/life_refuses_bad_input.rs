//! What cannot be played is refused with a message that says why, before any node is started.

mod life_support;

use std::fs;
use std::path::Path;

use life_support::{Finished, finished};

/// The code for a command line that makes no sense, and for one that asks for something that cannot be done.
const USAGE: i32 = 2;
const FAILURE: i32 = 1;

#[track_caller]
fn assert_refused(arguments: &str, code: i32, says: &[&str]) {
    let Finished { status, stdout, stderr } = finished(arguments);
    assert_eq!(status.code(), Some(code), "{arguments}: {stderr}");
    assert_eq!(stdout, "", "{arguments}");
    for word in says {
        assert!(stderr.contains(word), "{arguments}: `{stderr}` should say `{word}`");
    }
    assert!(!stderr.contains("node 0"), "{arguments}: a node was started: {stderr}");
    assert!(!stderr.contains("panicked"), "{arguments}: {stderr}");
}

#[test]
fn command_lines_that_make_no_sense() {
    for grid in
        ["640", "x", "640x", "640x-1", "640*480", "0x10", "10x0", "40000x10", "99999999999999999999x1"]
    {
        assert_refused(&format!("--grid={grid}"), USAGE, &["--grid", grid]);
    }
    assert_refused("--grid 32769x1", USAGE, &["32768"]);
    for nodes in ["0", "65", "-1", "two"] {
        assert_refused(&format!("-n={nodes}"), USAGE, &[nodes]);
    }
    for generations in ["-1", "many", "1e6", "99999999999999999999"] {
        assert_refused(&format!("--generations={generations}"), USAGE, &[generations]);
    }
    assert_refused("--speed 5", USAGE, &["--view"]);
    assert_refused("--view --speed 0", USAGE, &["--speed"]);
    assert_refused("r-pentomino", USAGE, &["r-pentomino"]);
}

#[test]
fn patterns_that_do_not_fit() {
    assert_refused("--pattern gosper-gun --grid 35x9", FAILURE, &["36x9", "35x9", "larger grid"]);
    assert_refused("--pattern glider --grid 3x2", FAILURE, &["3x3", "3x2"]);
}

#[test]
fn files_that_cannot_be_read() {
    assert_refused(
        "--pattern /nowhere/at/all.rle",
        FAILURE,
        &["/nowhere/at/all.rle", "No such file", "r-pentomino"],
    );
    assert_refused("--pattern R-Pentomino", FAILURE, &["R-Pentomino", "r-pentomino"]);
    assert_refused("--pattern /", FAILURE, &["directory"]);
    assert_refused("--pattern /dev/zero", FAILURE, &["64 MiB"]);
    assert_refused("--pattern /dev/null", FAILURE, &["line 1, column 1", "header"]);
}

fn with_file(directory: &Path, text: &str) -> String {
    let file = directory.join("pattern.rle");
    fs::write(&file, text).expect("the file is written");
    format!("--pattern {}", file.display())
}

#[test]
fn files_that_are_wrong_are_refused_with_line_and_column() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let header = "#C a comment\nx = 3, y = 3, rule = B3/S23\n";
    assert_refused(&with_file(directory, &format!("{header}bob$2b?")), FAILURE, &["line 3, column 7", "`?`"]);
    assert_refused(
        &with_file(directory, &format!("{header}bob$2bo$3o")),
        FAILURE,
        &["line 3, column 11", "!"],
    );
    assert_refused(&with_file(directory, &format!("{header}4o!")), FAILURE, &["line 3, column 2", "3x3"]);
    assert_refused(
        &with_file(directory, "x = 3, y = 3, rule = B36/S23\no!"),
        FAILURE,
        &["line 1, column 22", "B36/S23", "B3/S23"],
    );
    assert_refused(&with_file(directory, "x = 3, y = 33000\no!"), FAILURE, &["line 1", "32768"]);
    assert_refused(&with_file(directory, "x = 641, y = 1\no!"), FAILURE, &["641x1", "640x640"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_refused(&format!("--output {}", directory.path().display()), FAILURE, &["cannot be written"]);
    assert_refused("--output /nowhere/at/all.rle", FAILURE, &["/nowhere/at/all.rle", "cannot be written"]);
}

#[test]
fn a_refused_game_leaves_no_output_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("last.rle");
    assert_refused(&format!("--pattern /nowhere --output {}", output.display()), FAILURE, &["/nowhere"]);
    assert!(!output.exists());
}
