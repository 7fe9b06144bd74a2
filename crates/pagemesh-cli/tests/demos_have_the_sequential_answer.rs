//! A demo that printed times of a wrong computation would be worse than none. Every program gives the answer of its sequential version
//! on one, two and three nodes under every protocol; the table has a line for each, and what cannot be done is said and exits
//! with a code that scripts see.

mod life_support;

use std::path::Path;
use std::process::Stdio;

use life_support::user_support::{command, for_every_user_and_pager};
use life_support::{Finished, GAME_DEADLINE, Game};

const PROGRAMS: [&str; 6] = ["jacobi", "matrix", "salesman", "quicksort", "histogram", "fibonacci"];
const MEMORIES: [&str; 5] = ["sequential", "plain", "write-invalidate", "migration", "release"];

fn demo(arguments: &str) -> Finished {
    let mut command = command(Path::new(env!("CARGO_BIN_EXE_pagemesh")));
    command.arg("demo").args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Game::start(command).finish(GAME_DEADLINE)
}

/// The lines of the table after its head, word by word.
fn table(stdout: &str) -> Vec<Vec<&str>> {
    let after_head = stdout.lines().skip_while(|line| !line.starts_with("program "));
    let lines = after_head.skip(1).take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().collect()).collect()
}

#[track_caller]
fn assert_compares(arguments: &str) {
    let finished = demo(arguments);
    assert!(finished.status.success(), "{arguments}: {finished:?}");
    assert_eq!(finished.stderr, "", "{arguments}");
    let table = table(&finished.stdout);
    let expected: Vec<[&str; 2]> =
        PROGRAMS.iter().flat_map(|program| MEMORIES.map(|memory| [*program, memory])).collect();
    let found: Vec<[&str; 2]> = table.iter().map(|line| [line[0], line[1]]).collect();
    assert_eq!(found, expected, "{arguments}: {}", finished.stdout);
    for line in &table {
        // Times, ratios and counts are numbers; the sequential program has no counts, and nothing to be compared with.
        let numbers = line[2..].iter().map(|word| word.parse::<f64>()).collect::<Result<Vec<_>, _>>();
        let count = if line[1] == "sequential" {
            2
        } else if line[1] == "plain" {
            3
        } else {
            8
        };
        assert_eq!(numbers.map(|numbers| numbers.len()), Ok(count), "{line:?}");
    }
    assert_eq!(finished.stdout.lines().last(), Some("every answer is that of the sequential program"));
}

#[test]
fn every_program_is_right_on_one_to_three_nodes_under_every_protocol() {
    for nodes in 1..=3 {
        // Twice: the second run finds the memory as the first has left it.
        assert_compares(&format!("compare -n {nodes} --sizes small --repeat 2 --seed {nodes}"));
    }
}

#[test]
fn every_program_is_right_for_every_user_with_every_pager() {
    for_every_user_and_pager(|_| assert_compares("compare -n 2 --sizes small --repeat 1"));
}

#[test]
fn one_program_is_measured_by_itself() {
    for (arguments, memory) in [
        ("jacobi --size 70 --rounds 3", "release"),
        ("matrix --size 33 --protocol migration", "migration"),
        ("salesman --size 6 --protocol write-invalidate", "write-invalidate"),
        ("quicksort --size 1 -n 3", "release"),
        ("histogram --size 1 --rounds 2", "release"),
        ("fibonacci --size 2 -n 3", "release"),
    ] {
        let finished = demo(&format!("{arguments} --repeat 1"));
        assert!(finished.status.success(), "{arguments}: {finished:?}");
        let program = arguments.split_whitespace().next().unwrap_or_default();
        let found: Vec<[&str; 2]> = table(&finished.stdout).iter().map(|line| [line[0], line[1]]).collect();
        assert_eq!(found, [[program, "sequential"], [program, "plain"], [program, memory]], "{finished:?}");
    }
}

#[test]
fn sizes_smaller_than_the_number_of_nodes_are_enough() {
    for arguments in ["jacobi --size 3", "matrix --size 1", "salesman --size 4", "quicksort --size 2"] {
        let finished = demo(&format!("{arguments} -n 5 --repeat 1"));
        assert!(finished.status.success(), "{arguments}: {finished:?}");
    }
}

#[test]
fn the_entry_protocol_is_refused_with_the_reason() {
    for program in PROGRAMS {
        let refused = demo(&format!("{program} --protocol entry"));
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
        assert!(refused.stderr.contains("locks and barriers, which bring nothing"), "{}", refused.stderr);
    }
}

#[test]
fn sizes_out_of_range_are_refused_before_any_node_starts() {
    for (arguments, said) in [
        (
            "salesman --size 3",
            "pagemesh demo salesman: salesman cannot have a size of 3: it is cities, 4 to 24",
        ),
        ("matrix --rounds 2", "pagemesh demo matrix: matrix cannot have 2 rounds; ask for 1 to 1"),
        ("jacobi --size 2", "pagemesh demo jacobi: jacobi cannot have a size of 2"),
    ] {
        let finished = demo(arguments);
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.starts_with(said) && finished.stdout.is_empty(), "{finished:?}");
    }
    assert_eq!(demo("jacobi --protocol msi").status.code(), Some(2));
}
