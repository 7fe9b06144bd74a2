//! When a node is killed, every other node says within 5 s which one is gone, and the command fails: a game that hangs,
//! or that goes on with the rows of a dead node missing, would be worse than none.

mod life_support;

use std::time::Duration;

use life_support::user_support::for_every_user_and_pager;
use life_support::{GAME_DEADLINE, Game, is_running, life};
use rustix::process::{Pid, Signal, kill_process};

const NODES: usize = 4;

/// What users are promised.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// A game that goes on for ever, with its nodes' processes, after it has begun.
fn endless_game(options: &str) -> (Game, Vec<Pid>) {
    let mut game = Game::start(life(&format!(
        "-n {NODES} --pattern acorn --generations 18446744073709551615 --view {options}"
    )));
    // Frames show that all nodes have joined and that generations pass.
    game.wait_for("generation", GAME_DEADLINE, |game| {
        let stdout = game.stdout.get();
        let status =
            stdout.lines().rev().find_map(|line| line.strip_prefix("generation ")?.split_once(" of "));
        (status?.0.parse::<u64>().ok()? > 3).then_some(())
    });
    let nodes = (0..NODES)
        .map(|node| game.wait_for("process of a node", GAME_DEADLINE, |game| game.node(node)))
        .collect();
    (game, nodes)
}

#[track_caller]
fn assert_all_gone(game: &mut Game, nodes: &[Pid]) {
    for &node in nodes {
        game.wait_for("end of a node", REPORT_LIMIT, |_| (!is_running(node)).then_some(()));
    }
}

fn kill_and_check(victim: usize) {
    let (mut game, nodes) = endless_game("");
    kill_process(nodes[victim], Signal::KILL).expect("the node runs");
    for node in (0..NODES).filter(|&node| node != victim) {
        let report =
            format!("pagemesh demo life: node {node}: node {victim} died or was cut off in generation ");
        game.wait_for(&format!("line `{report}..`"), REPORT_LIMIT, |game| {
            game.stderr.get().lines().any(|line| line.starts_with(&report)).then_some(())
        });
    }
    assert_all_gone(&mut game, &nodes);
    let finished = game.finish(REPORT_LIMIT);
    // The launcher may see a survivor end, with 1, before it sees the victim's 137.
    assert!(matches!(finished.status.code(), Some(1 | 137)), "{finished:?}");
    assert!(
        finished.stderr.contains(&format!("node {victim} was killed by signal 9")),
        "{}",
        finished.stderr
    );
    assert!(!finished.stdout.lines().any(|line| line.starts_with("population ")), "no result is claimed");
}

#[test]
fn a_killed_node_is_reported_by_all_others() {
    kill_and_check(2);
    kill_and_check(3);
}

#[test]
fn it_is_for_every_user_with_every_pager() {
    for_every_user_and_pager(|_| kill_and_check(1));
}

#[test]
fn the_killed_coordinator_is_reported_by_all_others() {
    kill_and_check(0);
}

#[test]
fn an_interrupted_game_ends_quietly_on_all_nodes() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (mut game, nodes) = endless_game("");
        game.signal_launcher(signal);
        assert_all_gone(&mut game, &nodes);
        let finished = game.finish(REPORT_LIMIT);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
        assert!(!finished.stderr.contains("died"), "nobody died: {}", finished.stderr);
    }
}

#[test]
fn a_failed_game_leaves_no_empty_output_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("last.rle");
    let (game, nodes) = endless_game(&format!("--output {}", output.display()));
    kill_process(nodes[1], Signal::KILL).expect("the node runs");
    assert!(!game.finish(2 * REPORT_LIMIT).status.success());
    assert!(!output.exists());
}
