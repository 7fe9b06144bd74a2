//! What programs are measured against must be what it is said to be: as many processes as there are nodes, all of which map one file, with
//! nothing in between. A process of those that dies must end the program with a word: nobody else would notice, since the kernel tells
//! nobody that who holds a word in shared memory is gone.

mod life_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use life_support::user_support::command;
use life_support::{GAME_DEADLINE, Game, is_running};
use rustix::process::{Pid, Signal, kill_process};

const NODES: usize = 3;

/// What users are promised.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// A program that is done at once in one thread, and hands over a million times between processes.
fn long_on_plain_memory() -> Game {
    let mut command = command(Path::new(env!("CARGO_BIN_EXE_pagemesh")));
    command.args(["demo", "fibonacci", "--size", "1048576", "-n", &NODES.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Game::start(command)
}

/// The files in memory that a process maps as a whole, shared and writable, by their numbers.
fn files_in_memory(process: Pid) -> BTreeSet<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let words = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let whole = words.filter(|words| {
        words.len() > 5 && words[1] == "rw-s" && words[2] == "00000000" && words[5].starts_with("/memfd:")
    });
    whole.map(|words| words[4].to_owned()).collect()
}

/// Processor time that a process has used, in ticks of 10 ms; proc_pid_stat(5).
fn ticks(process: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum()
}

#[test]
fn all_nodes_map_one_file_and_one_that_dies_ends_the_program() {
    for victim in [1, 0] {
        let mut game = long_on_plain_memory();
        let nodes: Vec<Pid> = (0..NODES)
            .map(|node| game.wait_for("process of a node", GAME_DEADLINE, |game| game.node(node)))
            .collect();
        // Each pair of nodes has a file for its messages; this one all of them have.
        game.wait_for("file that all nodes map", GAME_DEADLINE, |_| {
            let files = nodes.iter().map(|node| files_in_memory(*node));
            let common = files.reduce(|one, other| one.intersection(&other).cloned().collect());
            (common.unwrap_or_default().len() == 1).then_some(())
        });
        // Joining and the program in one thread take less: it has begun.
        let before: Vec<u64> = nodes.iter().map(|node| ticks(*node)).collect();
        game.wait_for("work on plain memory", GAME_DEADLINE, |_| {
            nodes.iter().zip(&before).all(|(node, before)| ticks(*node) > before + 10).then_some(())
        });
        kill_process(nodes[victim], Signal::KILL).expect("the node runs");
        for node in (0..NODES).filter(|node| *node != victim) {
            let report = format!("pagemesh demo fibonacci: node {node}: fibonacci on plain came to no end: ");
            game.wait_for(&format!("line `{report}..`"), REPORT_LIMIT, |game| {
                game.stderr.get().lines().any(|line| line.starts_with(&report)).then_some(())
            });
        }
        for node in nodes {
            game.wait_for("end of a node", REPORT_LIMIT, |_| (!is_running(node)).then_some(()));
        }
        let finished = game.finish(REPORT_LIMIT);
        assert!(matches!(finished.status.code(), Some(1 | 137)), "{finished:?}");
        assert!(finished.stderr.contains(&format!("node {victim} died")), "{}", finished.stderr);
        assert_eq!(finished.stdout, "", "no result is claimed");
    }
}
