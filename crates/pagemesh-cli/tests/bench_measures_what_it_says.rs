//! A bench that measures the wrong thing is worse than none. Each suite runs here on real processes with very few samples: every page
//! must have been in the state that the figure's name says (the suites check that themselves, and fail), every figure must have
//! positive, ordered numbers for each round, and beside each the baseline of as many rounds. How long anything took is not
//! looked at.

use pagemesh_bench::{Mode, Ratio, Report, Run};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(3);
const ROUNDS: usize = 2;

/// Runs `pagemesh bench` to its end.
fn bench(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    let mut child = Command::new(env!("CARGO_BIN_EXE_pagemesh"))
        .arg("bench")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("bench {arguments:?} does not end: {}", std::fs::read_to_string(err).unwrap());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    };
    Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The runs of a suite, whose numbers were checked when they were read.
fn measured(suite: &str, more: &[&str]) -> Vec<Run> {
    let rounds = ROUNDS.to_string();
    let found = bench(&[&[suite, "--rounds", &rounds, "--samples", "8", "--json", "-"], more].concat());
    assert!(found.status.success(), "{suite}: {}{}", text(&found.stdout), text(&found.stderr));
    let report = Report::parse(Path::new(suite), &found.stdout).unwrap();
    for run in &report.runs {
        assert_eq!(run.suite, suite);
        for figure in &run.figures {
            let rounds = figure.measured.rounds.len();
            let moved = matches!(figure.ratio(), Ratio::BaselineMoved(_));
            assert!(rounds == ROUNDS || moved && rounds == 3 * ROUNDS, "{suite}: {rounds}: {}", figure.name);
            assert!(figure.left_out <= 2 * ROUNDS, "{suite}: {}: {}", figure.name, figure.left_out);
        }
    }
    report.runs
}

fn names(run: &Run) -> Vec<&str> {
    run.figures.iter().map(|figure| figure.name.as_str()).collect()
}

#[test]
fn faults_of_every_kind_are_measured() {
    let runs = measured("fault", &["--mode", "one-core", "--mode", "free"]);
    let links: Vec<&str> = runs.iter().map(|run| run.transport.as_str()).collect();
    assert_eq!(links, ["TCP", "shared memory", "TCP"]);
    for run in &runs {
        assert_eq!((run.nodes, run.figures.len()), (4, 26));
        assert_eq!(run.stages.len(), 7, "{:?}", run.stages);
        assert!(run.figures.iter().all(|figure| figure.baseline.is_some()), "{:?}", names(run));
        for name in [
            "read, modified at a third node",
            "read, modified at a third node, its owner known",
            "upgrade, 3 other sharers",
            "upgrade, homed here: no message",
            "read, homed here, its data here: no message",
            "read, its home computes",
        ] {
            assert!(names(run).contains(&name), "{:?}", names(run));
        }
    }
}

#[test]
fn a_fault_through_a_ring_is_measured_beside_a_program_that_asks_through_memory() {
    if !Mode::OwnCores.is_possible() {
        // Said on stderr itself, which the harness does not keep to itself.
        let _ = std::io::stderr().write_all(b"not run: nodes with cores of their own take two cores\n");
        return;
    }
    let which = ["--mode", "own-cores", "--transport", "ring", "--figures", "read, clean at its home"];
    let runs = measured("fault", &which);
    assert_eq!((runs.len(), runs[0].transport.as_str()), (1, "shared memory"));
    let figure = &runs[0].figures[0];
    let by_sigbus = runs[0].pager == "sigbus";
    assert_eq!(figure.name, "read, clean at its home");
    assert_eq!(figure.baseline.as_ref().unwrap().name.contains("mailbox"), by_sigbus);
    assert_eq!(figure.target.is_some(), by_sigbus);
}

#[test]
fn synchronisation_is_measured_for_two_nodes_and_for_more() {
    let runs = measured("sync", &["--mode", "one-core"]);
    let nodes: Vec<usize> = runs.iter().map(|run| run.nodes).collect();
    assert_eq!(nodes, [2, 4, 8]);
    for run in &runs {
        let barrier = format!("barrier of {}", run.nodes);
        assert!(names(run).contains(&barrier.as_str()), "{:?}", names(run));
        for lock in ["lock", "reader-writer lock"] {
            let name = format!("{lock}, given back to who waits: until that one has it");
            assert!(names(run).contains(&name.as_str()), "{:?}", names(run));
        }
    }
    assert!(names(&runs[0]).contains(&"lock and unlock, this node had it last"));
    assert!(names(&runs[1]).contains(&"lock, a third node had it last"));
}

#[test]
fn bulk_has_rates() {
    let runs = measured("bulk", &["--mode", "free", "--transport", "ring"]);
    assert_eq!((runs.len(), runs[0].transport.as_str()), (1, "shared memory"));
    assert_eq!(runs[0].figures.len(), 13);
    for figure in &runs[0].figures {
        let pages = match figure.name.as_str() {
            "read in no order, 1 page of 16" => 20,
            "read in order, every second page" => 160,
            _ => 320,
        };
        assert_eq!(figure.bytes, Some(pages * 4096), "{}", figure.name);
        assert!(figure.megabytes_per_second().unwrap() > 0.0, "{}", figure.name);
    }
}

#[test]
fn release_scale_and_idle_are_measured() {
    let release = measured("release", &["--mode", "one-core"]);
    assert_eq!(release[0].figures.len(), 7);
    let scale = measured("scale", &["--nodes", "3"]);
    assert_eq!(names(&scale[0]), ["3 nodes read, time for each page"]);
    let of_threads = measured("scale", &["--nodes", "2"]);
    assert_eq!(of_threads[0].figures.len(), 5);
    let name = "read by 4 threads, different shards, time for each page";
    assert!(names(&of_threads[0]).contains(&name), "{:?}", names(&of_threads[0]));
    let idle = measured("idle", &[]);
    assert_eq!(idle[0].figures.len(), 1);
    assert!(idle[0].figures[0].baseline.is_none());
}

#[test]
fn programs_are_measured_beside_plain_memory() {
    let runs = measured("app", &["--nodes", "2"]);
    assert_eq!(runs[0].figures.len(), 18);
    for name in ["jacobi, release", "fibonacci, as many processes on one mapping"] {
        assert!(names(&runs[0]).contains(&name), "{:?}", names(&runs[0]));
    }
}

#[test]
fn a_report_is_kept_shown_documented_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, document) = (path("report.json"), path("document.md"));
    std::fs::write(&document, "# Costs\n<!-- bench tables: begin -->\n<!-- bench tables: end -->\n").unwrap();
    let found = bench(&["idle", "--samples", "1", "--json", &json, "--docs", &document]);
    assert!(found.status.success(), "{}", text(&found.stderr));
    assert!(text(&found.stdout).contains("idle, free: 2 nodes, 1 round,"), "{}", text(&found.stdout));
    let written = std::fs::read_to_string(&document).unwrap();
    assert!(written.starts_with("# Costs\n") && written.contains("| processor time of"), "{written}");

    let compared = bench(&["compare", &json, &json]);
    assert!(compared.status.success(), "{}", text(&compared.stderr));
    assert!(text(&compared.stdout).contains("0 of 1 figures moved"), "{}", text(&compared.stdout));
    std::fs::write(path("bad.json"), "{\"schema\": 7}").unwrap();
    let refused = bench(&["compare", &json, &path("bad.json")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("has schema 7"), "{}", text(&refused.stderr));
}

#[test]
fn what_cannot_be_measured_is_refused_before_any_node_starts() {
    let without_marks = tempfile::NamedTempFile::new().unwrap();
    let path = without_marks.path().to_str().unwrap();
    for (arguments, said) in [
        (["bulk", "--nodes", "3"], "takes 2 to 2 nodes"),
        (["fault", "--mode", "sideways"], "none of one-core, own-cores, free"),
        (["idle", "--docs", path], "has no lines"),
        (["idle", "--docs", "/nowhere/at-all.md"], "reading the document"),
    ] {
        let found = bench(&arguments);
        assert!(!found.status.success(), "{arguments:?}");
        let complaint = text(&found.stderr);
        assert!(complaint.contains(said) && !complaint.contains("2 nodes\n"), "{arguments:?}: {complaint}");
    }
}
