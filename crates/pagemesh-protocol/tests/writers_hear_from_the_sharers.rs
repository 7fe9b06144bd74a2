//! A writer that goes on while somebody can still read the page makes two truths of it; one that waits for a word that will not come
//! hangs. Where few share a page they tell the writer themselves that their copies are gone. So it has to write just when all have said so
//! whom the home has named, in whatever order that comes; nobody else may take their part; and a loss of any of them has to come to an end.

mod common;

use common::{
    INVALIDATE_ACK, PAGE, Subject, at_rest, data, data_after, deny, done, drop_again, drop_for,
    drop_granting, dropped, failed, fetch, gone, grant, grant_after, node, report, request, send, ticket,
    unheard, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{Action, DirectoryState, Failure, Message, PageState, PinHolder, PinId, Protocol};

const HOME: u16 = 1;
const THIS: u16 = 2;
const COUNT: u16 = 8;

const NOT_AWAITED: &str = "nobody waits for its copy to go";
const NOT_ASKED: &str = "the page was not asked for in this way";

fn holder() -> Subject {
    Subject::mapped(THIS, COUNT, HOME)
}

fn reader() -> Subject {
    let mut subject = holder();
    subject.fault(900, Read);
    subject.hears(HOME, data(0, Read));
    subject
}

/// A reader that has asked, as its request 1, to write.
fn upgrading() -> Subject {
    let mut subject = reader();
    assert_eq!(subject.fault(1, Write), [send(HOME, request(1, Write))]);
    subject
}

/// A home of which node 2 has asked to write what 3 and 4 share with it.
fn collecting() -> Subject {
    let mut subject = Subject::mapped(HOME, COUNT, HOME).shared_by(&[2, 3, 4]);
    subject.hears(2, request(20, Write));
    subject
}

fn written() -> [Action; 3] {
    [Action::Unprotect(PAGE), send(HOME, report(1, true)), done(1)]
}

// The writer.

#[test]
fn the_last_word_gives_the_right_to_write_whoever_says_it() {
    let words = [(HOME, grant_after(1, &[3, 4])), (3, dropped(1)), (4, dropped(1))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut subject = upgrading();
        for (place, which) in order.into_iter().enumerate() {
            assert_eq!(subject.state(), PageState::Shared);
            let (from, message) = words[which];
            let expected = if place == 2 { written().to_vec() } else { Vec::new() };
            assert_eq!(subject.hears(from, message), expected, "{order:?}");
        }
        assert_eq!(subject.state(), PageState::Modified);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_sharer_that_brings_the_grant_has_dropped_its_copy() {
    for order in [[3, 4], [4, 3]] {
        let mut subject = upgrading();
        let word = |sharer| if sharer == 4 { grant_after(1, &[3, 4]) } else { dropped(1) };
        assert_eq!(subject.hears(order[0], word(order[0])), []);
        assert_eq!(subject.state(), PageState::Shared);
        assert_eq!(subject.hears(order[1], word(order[1])), written());
    }
    let mut subject = upgrading();
    assert_eq!(subject.hears(3, grant_after(1, &[3])), written());
}

#[test]
fn a_grant_that_was_with_a_sharer_comes_with_the_news_of_its_loss() {
    let mut subject = upgrading();
    assert_eq!(subject.hears(4, dropped(1)), []);
    assert_eq!(subject.hears(HOME, gone(1, 3, &[3, 4])), written());

    let mut subject = upgrading();
    assert_eq!(subject.hears(HOME, gone(1, 3, &[3, 4])), []);
    assert_eq!(subject.hears(3, grant_after(1, &[3, 4])), [], "it had said so before it was lost");
    assert_eq!(subject.hears(4, dropped(1)), written());
}

#[test]
fn bytes_are_kept_until_the_sharers_have_dropped_theirs() {
    let mut subject = holder();
    subject.fault(1, Write);
    assert_eq!(subject.hears(HOME, data_after(0, &[3])), [Action::Fill(PAGE)]);
    assert_eq!(subject.state(), PageState::Invalid, "others may still read it");
    assert_eq!(subject.fault(2, Read), [], "a reader waits with the writer");
    assert_eq!(
        subject.hears(3, dropped(0)),
        [Action::MapWrite(PAGE), send(HOME, report(0, true)), done(2), done(1)]
    );
    assert!(subject.engine.is_quiet());
}

#[test]
fn who_waits_to_write_reads_on() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3]));
    assert_eq!(subject.fault(2, Read), [Action::MapRead(PAGE), done(2)]);
}

#[test]
fn a_right_that_nobody_waits_for_any_more_is_taken_all_the_same() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3]));
    subject.cancel(1);
    assert_eq!(subject.hears(3, dropped(1)), written()[..2]);
    assert_eq!(subject.state(), PageState::Modified);
}

#[test]
fn a_copy_that_waits_to_be_written_is_not_given_back() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3]));
    assert_eq!(subject.act(|engine, out| engine.on_evict(PAGE, out)), []);
}

#[test]
fn a_word_for_a_request_that_is_over_changes_nothing() {
    let mut subject = upgrading();
    assert_eq!(subject.hears(3, dropped(0)), []);
    assert_eq!(subject.hears(HOME, grant_after(0, &[3])), []);
    assert_eq!(subject.hears(HOME, gone(0, 3, &[3])), []);
    assert_eq!(subject.state(), PageState::Shared);
    assert_eq!(subject.hears(HOME, grant(1, Write)), [Action::Unprotect(PAGE), done(1)]);
}

// The sharer.

#[test]
fn a_copy_is_unmapped_before_the_writer_hears_of_it() {
    let mut subject = reader();
    assert_eq!(subject.hears(HOME, drop_for(30, 3)), [Action::Unmap(PAGE), send(3, dropped(30))]);
    assert_eq!(subject.state(), PageState::Invalid);

    let mut subject = reader();
    let granting = drop_granting(30, 3, &[THIS, 4]);
    assert_eq!(subject.hears(HOME, granting), [Action::Unmap(PAGE), send(3, grant_after(30, &[THIS, 4]))]);
}

#[test]
fn a_copy_is_used_before_it_goes_to_a_writer_too() {
    let mut subject = holder();
    subject.slow_threads = true;
    subject.fault(1, Read);
    subject.hears(HOME, data(0, Read));
    assert_eq!(subject.hears(HOME, drop_for(30, 3)), []);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send(3, dropped(30))]);
}

#[test]
fn a_pinned_copy_stays_until_the_pin_ends() {
    let mut subject = holder();
    let (pin, thread) = (PinId(1), PinHolder(1));
    subject.act(|engine, out| engine.on_pin(ticket(1), (pin, thread), PAGE, Read, out));
    subject.hears(HOME, data(0, Read));
    assert!(matches!(subject.hears(HOME, drop_for(30, 3))[..], [Action::AwaitUnpin(_)]));
    let unpinned = subject.act(|engine, out| _ = engine.on_unpin(pin, out));
    assert_eq!(unpinned, [Action::Unmap(PAGE), send(3, dropped(30))]);
}

#[test]
fn a_sharer_that_wants_to_write_itself_drops_its_copy_and_is_served_later() {
    let mut subject = upgrading();
    assert_eq!(subject.hears(HOME, drop_for(30, 3)), [Action::Unmap(PAGE), send(3, dropped(30))]);
    assert_eq!(
        subject.hears(3, data(1, Write)),
        [Action::Fill(PAGE), Action::MapWrite(PAGE), send(HOME, report(1, true)), done(1)]
    );
}

#[test]
fn a_sharer_that_is_asked_again_tells_the_home() {
    let mut subject = reader();
    subject.hears(HOME, drop_for(30, 3));
    assert_eq!(subject.hears(HOME, drop_again(30, 3)), [send(HOME, INVALIDATE_ACK)]);

    let mut subject = holder();
    subject.slow_threads = true;
    subject.fault(1, Read);
    subject.hears(HOME, data(0, Read));
    assert_eq!(subject.hears(HOME, drop_for(30, 3)), []);
    assert_eq!(subject.hears(HOME, drop_again(30, 3)), [], "its thread still uses it");
    subject.resumes(1);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send(HOME, INVALIDATE_ACK)]);
}

// Losses.

#[test]
fn a_sharer_that_the_home_has_lost_counts_as_one_that_has_said_so() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3, 4]));
    assert_eq!(subject.hears(HOME, gone(1, 3, &[3, 4])), []);
    assert_eq!(subject.hears(3, dropped(1)), [], "it had said so before it was lost");
    assert_eq!(subject.hears(4, dropped(1)), written());
}

#[test]
fn a_writer_that_has_lost_a_sharer_asks_the_home_and_goes_on_when_that_says_so() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3]));
    assert_eq!(subject.loses(3), [send(HOME, unheard(1, 3))]);
    assert_eq!(subject.state(), PageState::Shared, "it may be alive, and others trust it");
    assert_eq!(subject.hears(HOME, gone(1, 3, &[3])), written());
}

#[test]
fn a_writer_that_had_lost_a_sharer_before_asks_when_it_hears_its_name() {
    let mut subject = upgrading();
    assert_eq!(
        subject.loses(3),
        [send(HOME, unheard(1, 3))],
        "it may be the one that was to name the sharers"
    );
    assert_eq!(subject.hears(HOME, grant_after(1, &[3])), [send(HOME, unheard(1, 3))]);
    assert_eq!(subject.hears(HOME, gone(1, 3, &[3])), written());
}

#[test]
fn a_sharer_that_had_said_so_is_not_missed() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3, 4]));
    subject.hears(3, dropped(1));
    assert_eq!(subject.loses(3), []);
    assert_eq!(subject.hears(4, dropped(1)), written());
}

#[test]
fn a_home_asks_a_sharer_that_it_trusts_and_tells_the_writer() {
    let mut subject = collecting();
    assert_eq!(subject.hears(2, unheard(20, 3)), [send(3, drop_again(20, 2))]);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), [send(2, gone(20, 3, &[3, 4]))]);
    assert_eq!(subject.hears(2, unheard(20, 3)), [], "it asked twice, and is about to hear");
    assert_eq!(subject.hears(2, report(20, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_home_that_loses_the_sharer_itself_tells_the_writer_once() {
    let mut subject = collecting();
    assert_eq!(subject.loses(3), [send(2, gone(20, 3, &[3, 4]))]);
    assert_eq!(subject.hears(2, unheard(20, 3)), [], "it was told");

    let mut subject = collecting();
    subject.hears(2, unheard(20, 3));
    assert_eq!(subject.loses(3), [send(2, gone(20, 3, &[3, 4]))]);
}

#[test]
fn sharers_that_were_asked_again_may_answer_after_the_writer_was_lost() {
    let mut subject = collecting();
    subject.hears(2, unheard(20, 3));
    assert_eq!(subject.hears(5, request(50, Read)), []);
    assert_eq!(subject.loses(2), []);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), [send(5, deny(50, 2))]);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_writer_that_loses_the_home_fails_and_keeps_what_it_could_read() {
    let mut subject = upgrading();
    subject.hears(HOME, grant_after(1, &[3]));
    assert_eq!(subject.loses(HOME), [failed(1, Failure::PeerLost(node(HOME)))]);
    assert_eq!(subject.hears(3, dropped(1)), []);
    assert_eq!(subject.state(), PageState::Shared);
    assert!(subject.engine.is_quiet());
}

#[test]
fn a_sharer_whose_home_is_lost_keeps_a_copy_that_its_thread_uses() {
    let mut subject = holder();
    subject.slow_threads = true;
    subject.fault(1, Read);
    subject.hears(HOME, data(0, Read));
    subject.hears(HOME, drop_for(30, 3));
    subject.loses(HOME);
    assert_eq!(subject.resumes(1), []);
    assert_eq!(subject.state(), PageState::Shared);
}

// Lies.

#[test]
fn nobody_takes_the_part_of_a_sharer() {
    let mut subject = upgrading();
    assert_eq!(subject.refuses(HOME, dropped(1)), "it names in its grant who has still to say so");
    assert_eq!(subject.hears(5, dropped(1)), [], "it may be one whom the home is about to name");
    assert_eq!(subject.refuses(5, dropped(1)), "it has said so before");
    assert_eq!(subject.hears(HOME, grant_after(1, &[3, 4])), [], "and is not");
    assert_eq!(subject.refuses(6, dropped(1)), NOT_AWAITED);
    subject.hears(3, dropped(1));
    assert_eq!(subject.refuses(3, dropped(1)), "it has said so before");
    assert_eq!(subject.hears(4, dropped(1)), written());
}

#[test]
fn what_is_said_of_a_page_must_be_about_a_write_that_was_asked_for() {
    let mut reading = holder();
    reading.fault(1, Read);
    assert_eq!(reading.refuses(3, dropped(0)), NOT_ASKED);
    assert_eq!(reading.refuses(HOME, grant_after(0, &[3])), NOT_ASKED);
    let mut subject = upgrading();
    assert_eq!(subject.refuses(HOME, gone(1, 3, &[4])), NOT_AWAITED);
    assert_eq!(subject.refuses(HOME, data_after(1, &[3])), "the grant does not fit the copy that is held");
    subject.hears(HOME, grant_after(1, &[3]));
    assert_eq!(subject.refuses(4, grant_after(1, &[4])), NOT_ASKED, "the home has named others");
    for message in [grant_after(1, &[3]), grant(1, Write), zero_grant(1, Write), data(1, Write)] {
        assert_eq!(subject.refuses(HOME, message), NOT_ASKED);
    }
    assert_eq!(subject.refuses(HOME, gone(1, 4, &[3, 4])), NOT_AWAITED);
    let mut writing = holder();
    writing.fault(1, Write);
    assert_eq!(writing.refuses(HOME, grant_after(0, &[3])), "the grant does not fit the copy that is held");
}

#[test]
fn only_others_can_be_named_as_sharers() {
    for named in [THIS, HOME, COUNT, 1023] {
        let mut subject = upgrading();
        assert_eq!(subject.refuses(HOME, grant_after(1, &[named])), "these nodes cannot be its sharers");
    }
    let neither = "it is neither the home nor among the sharers";
    assert_eq!(upgrading().refuses(5, grant_after(1, &[3, 4])), neither);
    assert_eq!(
        reader().refuses(HOME, drop_granting(30, 3, &[4])),
        "this node is not among the sharers of the grant"
    );
}

#[test]
fn only_the_home_has_copies_dropped_and_only_for_another() {
    let not_its_home = "it is not the home of the page";
    let mut subject = reader();
    for message in [drop_for(30, 4), drop_again(30, 4), data_after(1, &[4]), gone(1, 4, &[4])] {
        assert_eq!(subject.refuses(3, message), not_its_home);
    }
    for requester in [THIS, HOME, COUNT, 63] {
        let refused = "the copy cannot be dropped for this requester";
        assert_eq!(subject.refuses(HOME, drop_for(30, requester)), refused);
    }
    assert_eq!(subject.refuses(HOME, drop_again(30, 3)), "it was not told before to drop its copy");
    let none = "there is no shared copy here to be dropped";
    assert_eq!(holder().refuses(HOME, drop_for(30, 3)), none);
    let mut writer = holder();
    writer.fault(1, Write);
    writer.hears(HOME, zero_grant(0, Write));
    assert_eq!(writer.refuses(HOME, drop_for(30, 3)), none);
    let mut migrating = Subject::following(Protocol::Migration, THIS, COUNT, HOME);
    assert_eq!(migrating.refuses(HOME, drop_for(30, 3)), "the page's protocol knows no such access");
}

#[test]
fn a_home_is_asked_about_a_sharer_by_the_writer_that_waits_for_it() {
    let mut subject = collecting();
    assert_eq!(subject.refuses(3, INVALIDATE_ACK), "it was not told to drop its copy");
    for (from, early_or_late) in [(5, unheard(20, 3)), (2, unheard(21, 3)), (2, unheard(20, 5))] {
        assert_eq!(subject.hears(from, early_or_late), [], "of whom it was to hear it does not know");
    }
    assert_eq!(subject.refuses(2, report(20, false)), "no copy is on its way");
    assert_eq!(subject.refuses(5, report(20, true)), "no copy is on its way");
    assert_eq!(subject.hears(2, unheard(20, 3)), [send(3, drop_again(20, 2))]);
    assert_eq!(subject.hears(2, unheard(20, 3)), [], "the sharer was asked");
    subject.hears(2, report(20, true));
    assert_eq!(subject.hears(2, unheard(20, 4)), []);
    assert_eq!(subject.refuses(2, report(20, true)), "no copy is on its way");
}

// The home.

/// What comes by a sharer may overtake a Fetch for a lost node, which is met only later.
#[test]
fn a_home_that_has_lost_a_node_says_its_grants_itself() {
    let mut subject = Subject::mapped(HOME, COUNT, HOME).shared_by(&[2, 3, 4]);
    subject.loses(7);
    assert_eq!(
        subject.hears(2, request(20, Write)),
        [send(3, drop_for(20, 2)), send(4, drop_for(20, 2)), send(2, grant_after(20, &[3, 4]))]
    );
}

#[test]
fn a_home_whose_thread_uses_its_copy_hears_from_the_sharers_itself() {
    let mut subject = Subject::mapped(HOME, COUNT, HOME).shared_by(&[2, 3]);
    subject.slow_threads = true;
    subject.fault(1, Read);
    subject.hears(2, data(0, Read));
    assert_eq!(subject.hears(2, request(70, Write)), [send(3, Message::Invalidate { page: PAGE })]);
    assert_eq!(subject.hears(3, INVALIDATE_ACK), []);
    assert_eq!(subject.resumes(1), [Action::Postpone]);
    assert_eq!(subject.postponed(), [Action::Unmap(PAGE), send(2, grant(70, Write))]);
}

#[test]
fn the_bytes_of_a_third_node_are_sent_when_all_others_are_gone() {
    let mut subject = Subject::mapped(HOME, COUNT, HOME).shared_by(&[3, 4]);
    assert_eq!(subject.hears(2, request(70, Write)), [send(4, Message::Invalidate { page: PAGE })]);
    assert_eq!(subject.hears(4, INVALIDATE_ACK), [send(3, fetch(70, Write, 2))]);
}
