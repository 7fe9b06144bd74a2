//! A failure of thousands of events explains nothing: it has to become a few lines, by itself, that break the same guarantee each
//! time they are run, and the command that a report names has to show them again.

use pagemesh_sim::{Options, Sabotage, run, shrink};
use std::mem::discriminant;
use std::process::Command;

/// What a person can take in: mapping a region on a few nodes takes most of the lines.
const LINES: usize = 50;
const OPERATIONS: usize = 8;

/// Output and success of the simulator.
fn simulator(arguments: &[&str]) -> (String, bool) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pagemesh-sim")).args(arguments).output().expect("it starts");
    (String::from_utf8(output.stdout).expect("it is text"), output.status.success())
}

/// Failures among which one has to become so small. What depends on who comes first does not always stay when a program gets smaller: a lock
/// that two have at a time shows only where two want it at a time.
const FAILURES: usize = 4;

#[test]
fn a_planted_fault_is_shown_in_a_few_lines() {
    for sabotage in [Sabotage::SkipFill, Sabotage::LoseUnmap, Sabotage::StaleData, Sabotage::DoubleLockGrant]
    {
        let options = Options { sabotage: Some(sabotage), ..Options::default() };
        let mut failures = (0..100).filter_map(|seed| run(seed, options).err());
        let few = failures.by_ref().take(FAILURES).find(|failed| {
            let small = shrink(failed, options);
            assert_eq!(discriminant(&small.failed.breach), discriminant(&failed.breach), "{}", small.failed);
            let operations: usize = small.failed.config.programs.iter().map(|p| p.patterns().count()).sum();
            let lines = small.failed.trace.len();
            println!("{sabotage:?}: {} runs, {operations} operations, {lines} lines", small.runs);
            let again = shrink(failed, options);
            assert_eq!(
                again.failed.to_string(),
                small.failed.to_string(),
                "it is made small in the same way again"
            );
            lines <= LINES && operations <= OPERATIONS
        });
        assert!(few.is_some(), "{sabotage:?}: none of {FAILURES} became small");
    }
}

#[test]
fn the_commands_of_a_report_show_the_failure_again() {
    let (report, fine) = simulator(&["--seeds", "100", "--jobs", "2", "--plant", "SkipFill"]);
    assert!(!fine && report.contains(" INVALID->") && report.contains("thread"), "{report}");
    for (label, mark) in [("again, small: ", "smaller, after"), ("again, whole: ", "failed at step")] {
        let command = report.lines().find_map(|line| line.strip_prefix(label)).expect("a command is named");
        let arguments: Vec<&str> =
            command.split(" -- ").nth(1).expect("it has arguments").split(' ').collect();
        let (again, fine) = simulator(&arguments);
        assert!(!fine && again.contains(mark), "{command}: {again}");
        let breach = again.lines().find(|line| line.contains("failed at step"));
        assert_eq!(breach, report.lines().find(|line| line.contains("failed at step")), "{command}");
    }
}

#[test]
fn the_first_failing_seed_is_the_same_on_any_number_of_cores() {
    let failing = |jobs: &str| {
        let (report, fine) = simulator(&["--seeds", "100", "--jobs", jobs, "--plant", "TwoHomes"]);
        assert!(!fine, "{report}");
        let story = report.find("failed at step").expect("it tells of the failure");
        let start = report[..story].rfind('\n').map_or(0, |line| line + 1);
        report[start..].to_owned()
    };
    assert_eq!(failing("1"), failing("3"));
}

#[test]
fn a_summary_tells_what_was_covered() {
    let (one, fine) = simulator(&["--seeds", "60"]);
    assert!(fine, "{one}");
    for part in
        ["runs by nodes", "write-invalidate cyclic", "migration", "deaths", "judged", "every guarantee held"]
    {
        assert!(one.contains(part), "{part} is missing: {one}");
    }
    let (two, _) = simulator(&["--seeds", "60", "--jobs", "2"]);
    // All but the last line, which tells the time.
    let body = |text: &str| text.trim_end().rsplit_once('\n').map(|(body, _)| body.to_owned());
    assert_eq!(body(&one), body(&two));
}
