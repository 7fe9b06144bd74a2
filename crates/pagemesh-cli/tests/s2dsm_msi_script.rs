//! The views, reads and writes of two users show exactly what the MSI protocol says, step by step.
//!
//! The states in this file are worked out by hand. A read of an INVALID page makes the reader SHARED and a MODIFIED peer
//! SHARED; a write makes the writer MODIFIED and the peer INVALID; nothing else changes anything. A PAGEFAULT line belongs
//! to each read of an INVALID page and each write to a page that is not MODIFIED.

mod s2dsm_support;

use s2dsm_support::player::{
    Connection, FAULT, LOCAL_COMMAND_PROMPT, Player, assert_mapped, page, page_prompt, pair, pair_with_pages,
    states,
};
use s2dsm_support::user_support::for_every_user_and_pager;

const MESSAGE: &str = "Hello Userfaultfd!";
const TO_ALL: &str = "Writing this to all pages!";

/// Both views, one letter a page.
fn assert_states(first: &mut Player, in_first: &str, second: &mut Player, in_second: &str) {
    assert_eq!(first.view(), states(in_first));
    assert_eq!(second.view(), states(in_second));
}

fn eighteen_steps(connection: Connection) {
    // 1: the two processes with three pages; 2, 3: nobody has touched any.
    let (mut first, mut second) = pair_with_pages(connection, 3);
    assert_states(&mut first, "III", &mut second, "III");

    // 4: the first read of page 0 by anybody: an empty page, and only the reader has it. 5, 6.
    assert_eq!(first.read("0", 3), [FAULT, &page(0, "")].concat());
    assert_states(&mut first, "SII", &mut second, "III");

    // 7: page 0 is there, the others are not. 8, 9.
    assert_eq!(first.read("-1", 3), [&page(0, ""), FAULT, &page(1, ""), FAULT, &page(2, "")].concat());
    assert_states(&mut first, "SSS", &mut second, "III");

    // 10: the writer takes page 2 from the reader, in one fault. 11, 12.
    assert_eq!(second.write("2", MESSAGE, 3), [FAULT, &page(2, MESSAGE)].concat());
    assert_states(&mut first, "SSI", &mut second, "IIM");

    // 13: pages 0 and 1 are upgraded, page 2 is fetched and taken: one fault each. 14, 15.
    let written = [FAULT, &page(0, TO_ALL), FAULT, &page(1, TO_ALL), FAULT, &page(2, TO_ALL)].concat();
    assert_eq!(first.write("-1", TO_ALL, 3), written);
    assert_states(&mut first, "MMM", &mut second, "III");

    // 16: all there. 17, 18.
    assert_eq!(first.read("-1", 3), [page(0, TO_ALL), page(1, TO_ALL), page(2, TO_ALL)].concat());
    assert_states(&mut first, "MMM", &mut second, "III");

    // And what the one wrote the other reads, which leaves both with a copy.
    assert_eq!(second.read("1", 3), [FAULT, &page(1, TO_ALL)].concat());
    assert_states(&mut first, "MSM", &mut second, "ISI");

    for player in [first, second] {
        let mut player = player;
        player.type_line("q");
        let (_, status) = player.finish();
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn eighteen_steps_on_terminals() {
    for_every_user_and_pager(|_| eighteen_steps(Connection::Terminal));
}

#[test]
fn eighteen_steps_through_pipes() {
    for_every_user_and_pager(|_| eighteen_steps(Connection::Pipes));
}

#[test]
fn no_fault_from_modified_and_none_on_the_side_that_answers() {
    let (mut first, mut second) = pair_with_pages(Connection::Pipes, 2);
    // A write to a page INVALID on both sides is one fault.
    assert_eq!(first.write("1", "one", 2), [FAULT, &page(1, "one")].concat());
    assert_eq!(first.write("1", "two", 2), page(1, "two"));
    assert_eq!(first.read("1", 2), page(1, "two"));
    assert_eq!(second.read("1", 2), [FAULT, &page(1, "two")].concat());
    assert_states(&mut first, "IS", &mut second, "IS");
    // The second answered from SHARED and printed nothing meanwhile: its next output is its view.
    assert_eq!(first.write("1", "three", 2), [FAULT, &page(1, "three")].concat());
    assert_states(&mut first, "IM", &mut second, "II");
    assert_eq!(second.write("1", "four", 2), [FAULT, &page(1, "four")].concat());
    assert_states(&mut first, "II", &mut second, "IM");
    assert_eq!(first.read("1", 2), [FAULT, &page(1, "four")].concat());
    assert_states(&mut first, "IS", &mut second, "IS");
    assert_eq!(second.read("1", 2), page(1, "four"));
}

#[test]
fn rubbish_is_answered_by_the_prompt_again() {
    let (mut first, _second) = pair_with_pages(Connection::Terminal, 3);
    assert_eq!(first.answer("x", "(r:read, w:write, v:view msi array): ").matches(" [!] ").count(), 1);
    assert_eq!(first.answer("r", &page_prompt(3)), "");
    for rubbish in ["3", "-2", "one", ""] {
        assert_eq!(first.answer(rubbish, &page_prompt(3)).matches(" [!] ").count(), 1, "{rubbish}");
    }
    assert_eq!(
        first.answer("2", "(r:read, w:write, v:view msi array): "),
        [FAULT, &page(2, ""), " > Which command should I run? "].concat()
    );
}

#[test]
fn the_number_of_pages_is_asked_again_on_rubbish() {
    let (mut first, mut second) = pair(Connection::Terminal, &[]);
    for rubbish in ["", "three", "0", "-1", "1.5", "1048577", "99999999999999999999"] {
        let prompt = "(greater than 0)?";
        assert_eq!(first.answer(rubbish, prompt).matches(" [!] ").count(), 1, "{rubbish}");
    }
    let mapped = first.answer("1", " > ");
    assert_mapped(&mapped, 1);
    assert_eq!(second.expect(" > "), mapped + " > ");
    assert_eq!(first.expect("array): ").len(), second.expect("array): ").len());
    // A region of one page is asked for in the same words.
    assert_eq!(first.answer("r", "(0-0, or -1 for all): "), " > For which page? ");
}

#[test]
fn stage_1b_shows_the_same_range_on_both_sides_and_exits() {
    for_every_user_and_pager(|_| stage_1b());
}

fn stage_1b() {
    let (mut first, second) = pair(Connection::Terminal, &["--stage", "1b"]);
    first.type_line("5");
    let (first_said, first_status) = first.finish();
    let (second_said, second_status) = second.finish();
    assert_eq!((first_status.code(), second_status.code()), (Some(0), Some(0)), "{first_said}{second_said}");
    assert_mapped(first_said.strip_prefix("5\n").unwrap(), 5);
    assert_mapped(&second_said, 5);
    assert_eq!(first_said.strip_prefix("5\n"), Some(&*second_said));
}

/// The seven operations of the first part: local memory, where only a first touch faults, whatever its kind.
#[test]
fn stage_1c_faults_once_a_page() {
    for_every_user_and_pager(|_| stage_1c());
}

fn stage_1c() {
    let (mut first, mut second) = pair(Connection::Terminal, &["--stage", "1c"]);
    let mapped = first.answer("3", LOCAL_COMMAND_PROMPT);
    assert_mapped(&mapped, 3);
    assert_eq!(second.expect(LOCAL_COMMAND_PROMPT), [&*mapped, LOCAL_COMMAND_PROMPT].concat());

    let local_read = |player: &mut Player, which: &str| {
        assert_eq!(player.answer("r", &page_prompt(3)), "");
        player.answer(which, LOCAL_COMMAND_PROMPT)
    };
    let local_write = |player: &mut Player, which: &str, message: &str| {
        assert_eq!(player.answer("w", &page_prompt(3)), "");
        assert_eq!(player.answer(which, " > Type your new message: "), "");
        player.answer(message, LOCAL_COMMAND_PROMPT)
    };
    assert_eq!(local_read(&mut first, "0"), [FAULT, &page(0, "")].concat());
    assert_eq!(
        local_read(&mut first, "-1"),
        [&page(0, ""), FAULT, &page(1, ""), FAULT, &page(2, "")].concat()
    );
    assert_eq!(local_write(&mut first, "2", MESSAGE), page(2, MESSAGE));
    assert_eq!(local_read(&mut first, "-1"), [page(0, ""), page(1, ""), page(2, MESSAGE)].concat());
    let all = [page(0, TO_ALL), page(1, TO_ALL), page(2, TO_ALL)].concat();
    assert_eq!(local_write(&mut first, "-1", TO_ALL), all);
    assert_eq!(local_read(&mut first, "-1"), all);

    // The other process has its own pages; here the first touch is a write.
    assert_eq!(local_write(&mut second, "1", "mine"), [FAULT, &page(1, "mine")].concat());
    assert_eq!(
        local_read(&mut second, "-1"),
        [FAULT, &page(0, ""), &page(1, "mine"), FAULT, &page(2, "")].concat()
    );
    assert_eq!(local_read(&mut first, "1"), page(1, TO_ALL));
    assert_eq!(first.answer("v", LOCAL_COMMAND_PROMPT).matches(" [!] ").count(), 1);
}

/// The first has left before the second looks: what the second needs to map its pages reached it before.
#[test]
fn in_stage_1c_a_first_process_in_a_hurry_leaves_nobody_behind() {
    for _ in 0..10 {
        let (mut first, mut second) = pair(Connection::Pipes, &["--stage", "1c"]);
        first.type_bytes(b"2\nw\n-1\nhurry\nq\n");
        let mapped = second.expect("pages)\n");
        assert_mapped(&mapped, 2);
        second.expect(LOCAL_COMMAND_PROMPT);
        let (said, status) = first.finish();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains(&[FAULT, &page(0, "hurry"), FAULT, &page(1, "hurry")].concat()), "{said}");
        second.expect("The peer (node 0) has left.\n");
    }
}
