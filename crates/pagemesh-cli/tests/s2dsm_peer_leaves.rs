//! When one user leaves, the other is told at once, keeps the prompt, and keeps what is on this side.
//!
//! A page whose only copy went with the peer is an error that names the page and the peer, soon: an empty page would be a
//! lie, and waiting for ever is no answer.

mod s2dsm_support;

use s2dsm_support::player::{
    COMMAND_PROMPT, Connection, FAULT, PATIENCE, Player, page, page_prompt, pair, pair_with_pages, states,
};
use s2dsm_support::user_support::for_every_user_and_pager;
use std::time::Duration;

/// How soon the loss of a page must be reported.
const SOON: Duration = Duration::from_secs(5);

/// How the peer goes.
#[derive(Clone, Copy, Debug)]
enum Departure {
    Quits,
    EndsInput,
    IsKilled,
}

fn go(mut player: Player, departure: Departure) {
    match departure {
        Departure::Quits => player.type_line("q"),
        Departure::EndsInput => player.end_input(),
        Departure::IsKilled => {
            player.kill();
            return;
        }
    }
    let (said, status) = player.finish();
    assert_eq!(status.code(), Some(0), "{said}");
}

/// Node `leaver` goes; the other keeps page 0 (both had it) and page 2 (its own), and has lost page 1.
fn one_leaves(connection: Connection, leaver: u16, departure: Departure) {
    let (first, second) = pair_with_pages(connection, 4);
    let (mut leaving, mut staying) = if leaver == 0 { (first, second) } else { (second, first) };
    leaving.write("0", "in both", 4);
    staying.read("0", 4);
    staying.write("2", "mine", 4);
    leaving.write("1", "lost", 4);
    leaving.write("3", "lost as well", 4);
    assert_eq!(staying.view(), states("SIMI"));

    go(leaving, departure);
    // The notice comes by itself, and the prompt after it.
    let notice = staying.expect_within(COMMAND_PROMPT, SOON);
    let expected = match departure {
        Departure::IsKilled => format!("\n [!] The peer (node {leaver}) has left without a word"),
        _ => format!("\n [!] The peer (node {leaver}) has left.\n"),
    };
    assert!(notice.starts_with(&expected), "{departure:?}: {notice}");

    assert_eq!(staying.read("0", 4), page(0, "in both"));
    assert_eq!(staying.read("2", 4), page(2, "mine"));
    assert_eq!(staying.write("2", "still mine", 4), page(2, "still mine"));
    for command in ["r", "w"] {
        for lost in ["1", "3"] {
            assert_eq!(staying.answer(command, &page_prompt(4)), "");
            if command == "w" {
                assert_eq!(staying.answer(lost, " > Type your new message: "), "");
                staying.type_line("anything");
            } else {
                staying.type_line(lost);
            }
            let said = staying.expect_within(COMMAND_PROMPT, SOON);
            assert!(said.contains(&format!(" [!] Page {lost} cannot be ")), "{said}");
            assert!(said.contains(&format!("node {leaver}")), "the peer is named: {said}");
            assert!(!said.contains(" [*] Page"), "never an empty page: {said}");
        }
    }
    // The rest of all pages is still shown.
    let all = staying.read("-1", 4);
    assert!(all.starts_with(&page(0, "in both")), "{all}");
    assert!(all.contains(&page(2, "still mine")), "{all}");
    assert_eq!(all.matches(" cannot be read: ").count(), 2, "{all}");

    staying.type_line("q");
    assert_eq!(staying.finish().1.code(), Some(0));
}

#[test]
fn the_second_quits() {
    one_leaves(Connection::Terminal, 1, Departure::Quits);
}

#[test]
fn the_first_quits() {
    one_leaves(Connection::Terminal, 0, Departure::Quits);
}

#[test]
fn the_input_of_the_second_ends() {
    one_leaves(Connection::Pipes, 1, Departure::EndsInput);
}

#[test]
fn the_input_of_the_first_ends() {
    one_leaves(Connection::Terminal, 0, Departure::EndsInput);
}

#[test]
fn the_second_is_killed() {
    one_leaves(Connection::Terminal, 1, Departure::IsKilled);
}

#[test]
fn the_first_is_killed() {
    one_leaves(Connection::Pipes, 0, Departure::IsKilled);
}

/// A page that both had can still be written by the one who stays.
#[test]
fn a_shared_copy_can_be_written_when_the_peer_has_left() {
    for_every_user_and_pager(|_| the_peer_of_a_shared_copy_leaves());
}

fn the_peer_of_a_shared_copy_leaves() {
    let (mut first, mut second) = pair_with_pages(Connection::Pipes, 1);
    second.write("0", "in both", 1);
    first.read("0", 1);
    go(second, Departure::Quits);
    first.expect_within(COMMAND_PROMPT, SOON);
    assert_eq!(first.write("0", "mine now", 1), [FAULT, &page(0, "mine now")].concat());
    assert_eq!(first.view(), states("M"));
}

#[test]
fn the_first_leaves_at_its_question() {
    for departure in [Departure::Quits, Departure::EndsInput, Departure::IsKilled] {
        let (first, second) = pair(Connection::Terminal, &[]);
        go(first, departure);
        let (said, status) = second.finish();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("s2dsm: the peer (node 0) left before the pages were mapped"), "{said}");
    }
}

#[test]
fn the_second_leaves_while_the_first_is_asked() {
    let (mut first, mut second) = pair(Connection::Terminal, &[]);
    second.kill();
    let notice = first.expect("(greater than 0)?");
    assert!(notice.contains(" [!] The peer (node 1) has left"), "{notice}");
    first.type_line("q");
    assert_eq!(first.finish().1.code(), Some(0));
}

#[test]
fn in_stage_1c_the_peer_is_missed_but_not_needed() {
    let (mut first, mut second) = pair(Connection::Terminal, &["--stage", "1c"]);
    let prompt = s2dsm_support::player::LOCAL_COMMAND_PROMPT;
    first.answer("2", prompt);
    second.expect(prompt);
    go(first, Departure::Quits);
    let notice = second.expect_within(prompt, PATIENCE);
    assert!(notice.contains(" [!] The peer (node 0) has left."), "{notice}");
    assert_eq!(second.answer("r", &page_prompt(2)), "");
    assert_eq!(second.answer("1", prompt), [FAULT, &page(1, "")].concat());
}
