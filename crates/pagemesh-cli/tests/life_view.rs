//! The view draws the grid live and says whose page each cell is on, on a terminal and through a pipe, and a terminal is
//! given back as it was, however the game ends.

mod life_support;

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::time::Duration;

use life_support::{GAME_DEADLINE, Game, Text, finished, life};
use rustix::process::{Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Starts a game on a terminal of 100 by 40 characters; returns what it shows.
fn on_terminal(arguments: &str, variable: Option<(&str, &str)>) -> (Game, Text) {
    let controller: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&controller).expect("it is ours");
    unlockpt(&controller).expect("it can be opened");
    let name = ptsname(&controller, Vec::new()).expect("it has a name").into_string().expect("an ASCII name");
    let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&controller, size).expect("a size");
    let terminal = OpenOptions::new().read(true).write(true).open(name).expect("the other end");
    let mut command = life(arguments);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdout(terminal);
    if let Some((name, value)) = variable {
        command.env(name, value);
    }
    let shown = Text::collect(File::from(controller));
    (Game::start(command), shown)
}

#[track_caller]
fn assert_restored(shown: &str) {
    let (last_hidden, last_shown) = (shown.rfind(HIDE_CURSOR), shown.rfind(SHOW_CURSOR));
    assert!(last_hidden.is_some(), "frames were drawn");
    assert!(last_hidden < last_shown, "the cursor is back");
    assert!(shown.rfind("\x1b[0m") > shown.rfind("\x1b[38;"), "the colours are back");
}

#[test]
fn frames_through_a_pipe_are_plain_text() {
    let finished = finished("-n 4 --pattern glider --grid 60x40 --generations 12 --view");
    assert!(finished.status.success(), "{finished:?}");
    assert!(!finished.stdout.contains('\x1b'), "{}", finished.stdout);
    let frames: Vec<&str> = finished.stdout.split("\n\n").collect();
    assert!(frames[0].contains("\ngeneration 0 of 12, population 5"), "{}", frames[0]);
    assert!(finished.stdout.contains("\ngeneration 12 of 12, population 5"), "{}", finished.stdout);
    for frame in &frames[..frames.len() - 1] {
        assert!(frame.contains("owned by node 0 1 2 3"), "{frame}");
        let cells = frame.split("\ngeneration").next().unwrap_or_default();
        assert!(cells.chars().all(|cell| "0123.\n".contains(cell)), "owners are known: {cells}");
        assert!(cells.chars().any(|cell| cell != '.' && cell != '\n'), "the glider is drawn: {cells}");
    }
    assert_eq!(finished.stdout.lines().last(), Some("population 5"));
}

#[test]
fn owners_are_the_nodes_that_compute_the_rows() {
    // 512 rows of 8 bytes: each node's rows fill one page, so the last writer of every page is known.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("blocks.rle");
    let mut pattern = String::from("x = 64, y = 2048\n");
    for _ in 0..4 {
        pattern.push_str("255$31b2o$31b2o$255$");
    }
    pattern.push('!');
    std::fs::write(&file, pattern).expect("the file is written");
    let finished =
        finished(&format!("-n 4 --grid 64x2048 --generations 0 --view --pattern {}", file.display()));
    assert!(finished.status.success(), "{finished:?}");
    let owners: String =
        finished.stdout.lines().take(21).flat_map(str::chars).filter(|&cell| cell != '.').collect();
    assert_eq!(owners, "0123", "{}", finished.stdout);
}

#[test]
fn a_terminal_shows_colours_and_is_given_back_at_the_end() {
    let (game, shown) = on_terminal("-n 2 --generations 40 --view", None);
    let finished = game.finish(GAME_DEADLINE);
    assert!(finished.status.success(), "{finished:?}");
    let shown = shown.complete();
    assert_restored(&shown);
    for sequence in ["38;5;203m", "48;5;52m", "38;5;83m", "48;5;22m"] {
        assert!(shown.contains(sequence), "the colours of nodes 0 and 1: {shown:?}");
    }
    assert!(shown.contains("generation 40 of 40, population "), "{shown:?}");
    let last = shown.trim_end().lines().last().unwrap_or_default();
    assert!(last.starts_with("population "), "{last:?}");
}

#[test]
fn a_terminal_without_colours_shows_digits() {
    let (game, shown) = on_terminal("-n 2 --generations 10 --view", Some(("NO_COLOR", "1")));
    assert!(game.finish(GAME_DEADLINE).status.success());
    let shown = shown.complete();
    assert!(!shown.contains("\x1b[38;"), "{shown:?}");
    assert!(shown.contains(HIDE_CURSOR));
}

#[test]
fn a_dumb_terminal_shows_plain_frames() {
    let (game, shown) = on_terminal("-n 2 --generations 3 --view", Some(("TERM", "dumb")));
    assert!(game.finish(GAME_DEADLINE).status.success());
    let shown = shown.complete();
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

fn endless_on_terminal() -> (Game, Text) {
    let (mut game, shown) = on_terminal("-n 3 --generations 1000000000 --view", None);
    game.wait_for("frame", GAME_DEADLINE, |_| shown.get().contains("generation 1").then_some(()));
    (game, shown)
}

#[test]
fn a_terminal_is_given_back_when_the_game_is_interrupted() {
    let (game, shown) = endless_on_terminal();
    game.signal_launcher(Signal::INT);
    assert_eq!(game.finish(Duration::from_secs(10)).status.code(), Some(130));
    assert_restored(&shown.complete());
}

#[test]
fn a_terminal_is_given_back_when_a_node_dies_even_the_one_that_draws() {
    for victim in [0, 1] {
        let (mut game, shown) = endless_on_terminal();
        let process = game.wait_for("process of a node", GAME_DEADLINE, |game| game.node(victim));
        kill_process(process, Signal::KILL).expect("the node runs");
        assert!(!game.finish(Duration::from_secs(10)).status.success());
        assert_restored(&shown.complete());
    }
}
