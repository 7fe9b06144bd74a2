//! The promise of the memory model, tried on real processes: litmus tests never show what the processor's own model forbids, and what
//! random programs saw can have happened, also when a node is killed. With every pager. The long campaigns are commands
//! (docs/consistency.md); here each shape runs a few hundred times.

mod user_support;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough on a machine that is busy with others.
const DEADLINE: Duration = Duration::from_mins(5);

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        // What is no text is shown as far as it is.
        let _ = stream.read_to_string(&mut text);
        text
    })
}

/// Waits for the end, at most until the deadline.
fn ended(mut child: Child) -> Ended {
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (stdout, stderr) = (collect(stdout), collect(stderr));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break Some(status);
        }
        if Instant::now() > deadline {
            // Its nodes die with it.
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().expect("it only reads");
    Ended { code: status.and_then(|status| status.code()), stdout: text(stdout), stderr: text(stderr) }
}

fn pagemesh(arguments: &str) -> Ended {
    let mut command = user_support::command(Path::new(env!("CARGO_BIN_EXE_pagemesh")));
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(command.spawn().expect("pagemesh starts"))
}

/// Every pager that can be had here.
fn pagers() -> Vec<String> {
    use pagemesh::pager::{PagerKind, choose};
    let had = PagerKind::ALL.into_iter().filter(|kind| match choose(Some(*kind)) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("without the {kind} pager: {error}");
            false
        }
    });
    had.map(|kind| kind.to_string()).collect()
}

#[test]
fn no_shape_shows_what_the_model_forbids() {
    let tests = pagemesh("litmus --list")
        .stdout
        .lines()
        .filter(|line| line.contains(" outcomes are allowed"))
        .count();
    assert!(tests >= 30, "only {tests} tests");
    for (seed, pager) in pagers().into_iter().enumerate() {
        for nodes in [2, 4] {
            let found =
                pagemesh(&format!("litmus -n {nodes} --iterations 180 --pager {pager} --seed {seed}"));
            assert_eq!(found.code, Some(0), "{found:?}");
            let complete = found.stdout.lines().filter(|line| {
                // Name, protocol, executions, allowed, seen, forbidden.
                let words: Vec<&str> = line.split_whitespace().collect();
                words.get(2) == Some(&"180") && words.get(5) == Some(&"0")
            });
            assert_eq!(complete.count(), 2 * tests, "{}", found.stdout);
        }
    }
}

/// Checks what `pagemesh history` says of a run without violations, and returns how many operations found another thread's value.
fn communications(found: &Ended) -> usize {
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stdout.trim_end().ends_with(" 0 violations"), "{found:?}");
    let said =
        found.stdout.split(", ").find_map(|part| part.strip_suffix(" found what another thread wrote"));
    said.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{found:?}"))
}

#[test]
fn what_random_programs_saw_can_have_happened() {
    for (seed, pager) in pagers().into_iter().enumerate() {
        let found = pagemesh(&format!("history --seconds 2 --pager {pager} --seed {seed}"));
        assert!(communications(&found) > 100, "{found:?}");
        assert!(found.stdout.contains(" 0 failed with the killed node"), "{found:?}");
    }
}

#[test]
fn what_programs_without_data_races_saw_in_release_regions_can_have_happened() {
    for (seed, pager) in pagers().into_iter().enumerate() {
        let found =
            pagemesh(&format!("history --seconds 1 --pager {pager} --seed {seed} --protocol release"));
        assert!(communications(&found) > 100, "{found:?}");
    }
}

#[test]
fn it_can_have_happened_also_where_a_node_was_killed() {
    for (seed, pager) in pagers().into_iter().enumerate() {
        for victim in [0, 2] {
            let found =
                pagemesh(&format!("history --seconds 1 --pager {pager} --seed {seed} --kill {victim}"));
            assert!(communications(&found) > 100, "{found:?}");
            assert!(!found.stdout.contains(" 0 failed with the killed node"), "{found:?}");
            assert!(found.stderr.contains(&format!("node {victim} was killed by signal 9")), "{found:?}");
        }
    }
}

/// A few executions of each shape and a short history: what differs between users is how they get at the memory.
#[test]
fn every_user_has_what_is_promised_with_every_pager() {
    user_support::for_every_user_and_pager(|setting| {
        let litmus = pagemesh("litmus -n 2 --iterations 30");
        assert_eq!(litmus.code, Some(0), "{setting:?}: {litmus:?}");
        let history = pagemesh("history --seconds 1 -n 2");
        assert!(communications(&history) > 10, "{setting:?}: {history:?}");
    });
}

#[test]
fn what_cannot_be_run_is_refused_in_words() {
    for (arguments, said) in [
        ("litmus NOSUCH", "there is no test \"NOSUCH\""),
        ("history --kill 3 -n 3", "there is no node 3 to kill among 3"),
        ("history --kill 1 --protocol release", "may be lost"),
    ] {
        let found = pagemesh(arguments);
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(found.stderr.contains(said), "{found:?}");
    }
}
