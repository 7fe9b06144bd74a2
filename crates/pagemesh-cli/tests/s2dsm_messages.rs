//! A message is the whole content of its page, to the byte, on both sides; too long a one is cut at a character.
//!
//! What goes wrong here goes wrong silently: a tail of the older message, half a character, a page without an end.

mod s2dsm_support;

use s2dsm_support::player::{
    COMMAND_PROMPT, Connection, FAULT, MESSAGE_PROMPT, page, page_prompt, pair_with_pages,
};
use s2dsm_support::user_support::for_every_user_and_pager;

#[test]
fn a_long_message_is_cut_at_a_character_boundary_with_a_notice() {
    let (mut first, mut second) = pair_with_pages(Connection::Pipes, 1);
    // 4095 is no multiple of 4: the crab that crosses the limit does not come in half.
    for (character, kept_bytes) in [("a", 4095), ("é", 4094), ("🦀", 4092)] {
        let typed = character.repeat(3000).repeat(4 / character.len());
        let kept = &typed[..kept_bytes];
        let said = first.write("0", &typed, 1);
        let (notice, content) = said.split_once('\n').unwrap();
        assert!(notice.starts_with(" [!] ") && notice.contains(&typed.len().to_string()), "{notice}");
        assert!(notice.contains("4095"), "{notice}");
        assert_eq!(content, [FAULT, &page(0, kept)].concat());
        assert_eq!(second.read("0", 1), [FAULT, &page(0, kept)].concat());
    }
}

#[test]
fn the_longest_message_is_kept_without_a_notice() {
    let (mut first, mut second) = pair_with_pages(Connection::Pipes, 1);
    let longest = "b".repeat(4095);
    assert_eq!(first.write("0", &longest, 1), [FAULT, &page(0, &longest)].concat());
    assert_eq!(second.read("0", 1), [FAULT, &page(0, &longest)].concat());
}

#[test]
fn a_terminal_cuts_the_line_itself_and_the_notice_says_so() {
    let (mut first, mut second) = pair_with_pages(Connection::Terminal, 1);
    assert_eq!(first.answer("w", &page_prompt(1)), "");
    assert_eq!(first.answer("0", MESSAGE_PROMPT), "");
    // The kernel keeps 4095 bytes of a line: one whole character less than the odd limit.
    let typed = "é".repeat(2500);
    for piece in typed.as_bytes().chunks(500) {
        first.type_bytes(piece);
    }
    first.type_line("");
    let said = first.expect(COMMAND_PROMPT);
    let kept = "é".repeat(2047);
    assert!(said.contains(" [!] A terminal hands over at most 4095 bytes of a line"), "{said}");
    assert!(said.ends_with(&[FAULT, &page(0, &kept), COMMAND_PROMPT].concat()), "{said}");
    assert_eq!(second.read("0", 1), [FAULT, &page(0, &kept)].concat());
}

#[test]
fn a_short_message_leaves_nothing_of_a_long_one() {
    let (mut first, mut second) = pair_with_pages(Connection::Pipes, 2);
    first.write("-1", "a long message that was here before", 2);
    assert_eq!(second.write("1", "short", 2), [FAULT, &page(1, "short")].concat());
    assert_eq!(first.read("1", 2), [FAULT, &page(1, "short")].concat());
    assert_eq!(first.write("0", "", 2), page(0, ""));
    assert_eq!(second.read("0", 2), [FAULT, &page(0, "")].concat());
}

#[test]
fn text_of_any_language_and_shape_arrives() {
    for_every_user_and_pager(|_| texts_arrive());
}

fn texts_arrive() {
    let (mut first, mut second) = pair_with_pages(Connection::Terminal, 1);
    for text in ["příliš žluťoučký kůň", "共有メモリ", "  spaces  ", "q", "-1", "tab\tstop"] {
        assert_eq!(first.answer("w", &page_prompt(1)), "");
        assert_eq!(first.answer("0", MESSAGE_PROMPT), "");
        first.type_line(text);
        let said = first.expect(COMMAND_PROMPT);
        assert!(said.ends_with(&[FAULT, &page(0, text), COMMAND_PROMPT].concat()), "{said:?}");
        assert_eq!(second.read("0", 1), [FAULT, &page(0, text)].concat());
    }
}

/// A file or another program at the input: everything is there before the first question.
#[test]
fn all_commands_at_once_through_a_pipe() {
    for_every_user_and_pager(|_| commands_at_once());
}

fn commands_at_once() {
    let (mut first, mut second) = s2dsm_support::player::pair(Connection::Pipes, &[]);
    first.type_bytes(b"2\nr\n0\nw\n1\nhello\nv\nbad\nw\n-1\nno newline at the end");
    first.end_input();
    let (said, status) = first.finish();
    assert_eq!(status.code(), Some(0), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with(" > ") && !line.is_empty()).collect();
    assert!(lines[0].starts_with(" [*] Mapped address: 0x"));
    assert_eq!(
        lines[1..],
        [
            " [x] PAGEFAULT",
            " [*] Page 0:",
            " [x] PAGEFAULT",
            " [*] Page 1:",
            "hello",
            " [*] Page 0: SHARED",
            " [*] Page 1: MODIFIED",
            " [!] Commands are r, w, v, and q to leave.",
            " [x] PAGEFAULT",
            " [*] Page 0:",
            "no newline at the end",
            " [*] Page 1:",
            "no newline at the end",
        ]
    );
    second.expect("The peer (node 0) has left");
}
