//! Where pages migrate there is one copy of each, always: two would be two memories. So every touch, reading too, takes the
//! page away from where it was, nothing else can be asked or answered, and those who want a page get it in the order in
//! which they asked.

mod common;

use common::mesh::Mesh;
use common::{
    INVALIDATE, PAGE, Subject, at_rest, data, deny, done, failed, fetch, grant, node, recall, report,
    request, send, send_page, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, DirectoryState, Failure, Message, PageOwner, PageState, Placement, Protocol,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const OTHER: u16 = 4;
const UNKNOWN: &str = "the page's protocol knows no such access";

/// Node 2, which is no home.
fn holder() -> Subject {
    Subject::following(Protocol::Migration, THIS, 8, HOME)
}

/// Node 2 with the page; its request 0 is over.
fn with_page() -> Subject {
    let mut subject = holder();
    subject.fault(900, Write);
    subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(subject.state(), PageState::Modified);
    subject
}

fn home() -> Subject {
    Subject::following(Protocol::Migration, HOME, 8, HOME)
}

#[test]
fn to_read_is_to_ask_for_the_page_itself() {
    for access in [Read, Write] {
        let mut subject = holder();
        assert_eq!(subject.fault(1, access), [send(HOME, request(0, Write))]);
        assert_eq!(
            subject.hears(3, data(0, Write)),
            [Action::Fill(PAGE), Action::MapWrite(PAGE), send(HOME, report(0, true)), done(1)]
        );
        assert_eq!(subject.state(), PageState::Modified);
        assert!(subject.engine.is_quiet());
    }
}

#[test]
fn a_first_read_gets_the_zero_page_for_writing_too() {
    let mut subject = holder();
    subject.fault(1, Read);
    let actions = subject.hears(HOME, zero_grant(0, Write));
    assert_eq!(actions, [Action::FillZero(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.fault(2, Write), [Action::MapWrite(PAGE), done(2)], "no upgrade is needed");
}

#[test]
fn readers_and_writers_of_one_node_share_one_request() {
    let mut subject = holder();
    assert_eq!(subject.fault(1, Read), [send(HOME, request(0, Write))]);
    assert_eq!(subject.fault(2, Write), []);
    assert_eq!(subject.fault(3, Read), []);
    assert_eq!(
        subject.hears(HOME, data(0, Write)),
        [Action::Fill(PAGE), Action::MapWrite(PAGE), done(3), done(2), done(1)]
    );
}

#[test]
fn the_holder_gives_the_page_up_before_it_sends_it() {
    let mut subject = with_page();
    assert_eq!(
        subject.hears(HOME, fetch(70, Write, OTHER)),
        [Action::Unmap(PAGE), send_page(OTHER, data(70, Write))]
    );
    assert_eq!(subject.state(), PageState::Invalid);
}

#[test]
fn nothing_but_the_whole_page_can_be_asked_answered_or_dropped() {
    assert_eq!(home().refuses(3, request(7, Read)), UNKNOWN);
    assert_eq!(with_page().refuses(HOME, fetch(7, Read, OTHER)), UNKNOWN);
    assert_eq!(with_page().refuses(HOME, INVALIDATE), "there is no shared copy here to be dropped");
    let mut reader = holder();
    reader.fault(1, Read);
    for answer in [data(0, Read), zero_grant(0, Read), grant(0, Read)] {
        assert_eq!(reader.refuses(HOME, answer), "the page was not asked for in this way");
    }
    assert_eq!(reader.refuses(HOME, grant(0, Write)), "the grant does not fit the copy that is held");
}

#[test]
fn a_home_gives_a_page_to_whoever_asks() {
    let mut subject = home();
    assert_eq!(subject.hears(2, request(70, Write)), [send(2, zero_grant(70, Write))]);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
    assert_eq!(subject.hears(3, request(71, Write)), [send(2, fetch(71, Write, 3))]);
    assert_eq!(subject.hears(3, report(71, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(3)), &[3]));
    assert_eq!(subject.fault(1, Read), [send(3, fetch(0, Write, HOME))]);
    assert_eq!(subject.hears(3, data(0, Write)), [Action::Fill(PAGE), Action::MapWrite(PAGE), done(1)]);
    assert_eq!(subject.hears(2, request(72, Write)), [Action::Unmap(PAGE), send_page(2, data(72, Write))]);
    assert_eq!(subject.state(), PageState::Invalid);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(2)), &[2]));
    assert!(subject.engine.is_quiet());
}

#[test]
fn the_home_says_where_the_page_is() {
    let asked = Message::OwnerQuery { page: PAGE, ticket: ticket(5) };
    let mut subject = home();
    let answer = |owner| [send(3, Message::OwnerReply { page: PAGE, ticket: ticket(5), owner })];
    assert_eq!(subject.hears(3, asked), answer(PageOwner::Nobody));
    subject.hears(2, request(70, Write));
    assert_eq!(subject.hears(3, asked), answer(PageOwner::Node(node(2))));
}

#[test]
fn those_who_want_a_page_all_the_time_get_it_in_turn() {
    let mut subject = home();
    subject.hears(2, request(0, Write));
    // The request under which each node asks; whoever has to give the page up asks again at once.
    let mut requests = [0; 8];
    let mut moved = subject.hears(3, request(0, Write));
    for number in 4..8 {
        assert_eq!(subject.hears(number, request(0, Write)), []);
    }
    let mut holder = 2;
    let mut served = Vec::new();
    for _ in 0..30 {
        requests[holder as usize] += 1;
        assert_eq!(subject.hears(holder, request(requests[holder as usize], Write)), []);
        let [Action::Send { to, message: Message::Fetch { requester, .. }, .. }] = moved[..] else {
            panic!("the page is sent on: {moved:?}");
        };
        assert_eq!(to, node(holder));
        holder = requester.get();
        served.push(holder);
        moved = subject.hears(holder, report(requests[holder as usize], true));
    }
    assert_eq!(served, [3, 4, 5, 6, 7, 2].repeat(5));
}

#[test]
fn losses_are_told_as_with_any_protocol() {
    let mut subject = home();
    subject.hears(2, request(70, Write));
    subject.hears(3, request(71, Write));
    assert_eq!(subject.loses(2), [send(3, recall(71))], "did it come?");
    assert_eq!(subject.hears(3, report(71, true)), []);
    assert_eq!(subject.entry(), at_rest(DirectoryState::Modified(node(3)), &[3]));
    subject.hears(4, request(72, Write));
    assert_eq!(subject.loses(4), [], "nobody can know whether it came");
    assert_eq!(subject.hears(5, request(73, Write)), [send(5, deny(73, 4))]);
    assert_eq!(subject.fault(1, Read), [failed(1, Failure::PageLost(node(4)))]);

    let mut without_home = holder();
    without_home.fault(1, Read);
    let lost = Failure::PeerLost(node(HOME));
    assert_eq!(without_home.loses(HOME), [failed(1, lost)]);
    let mut holding = with_page();
    holding.loses(HOME);
    assert_eq!(holding.fault(1, Write), [Action::MapWrite(PAGE), done(1)], "what is held stays");
}

#[test]
fn blocks_are_touched_by_their_homes_without_a_message() {
    let mut mesh = Mesh::following(Protocol::Migration, 4, Placement::Block);
    let page = |number| pagemesh_protocol::PageAddress { page: number, ..PAGE };
    for number in 0..4 {
        for offset in 0..common::PAGES / 4 {
            let sent = mesh.accesses(number, page(number as u64 * 16 + offset), Write);
            assert_eq!(sent, []);
        }
    }
    assert_eq!(mesh.accesses(3, page(0), Read).len(), 2, "the home has it");
    assert_eq!(mesh.accesses(2, page(0), Read).len(), 4, "a third node has it");
    assert_eq!(mesh.accesses(2, page(0), Write).len(), 0);
    mesh.check_coherence((0..common::PAGES).map(page));
}
