//! A node that is broken, old or hostile must not be able to confuse, stop or crash its neighbours. So every message that
//! no well-behaved node sends is refused with the reason, and leaves the engine and the caller's actions exactly as they
//! were, which every check here looks at; answers that are merely late change nothing.

mod common;

use common::{
    INVALIDATE, INVALIDATE_ACK, PAGE, REGION, Subject, asked, barrier_at, data, deny, done, fetch, forwarded,
    grant, lock_at, node, recall, report, request, returned, send, ticket, zero_grant,
};
use pagemesh_protocol::Access::{Read, Write};
use pagemesh_protocol::{
    Action, BarrierId, DirectoryState, LockId, Message, NodeId, PageAddress, PageOwner, PageState, Placement,
    RegionId, RegionRefusal, RegionSpec, RequestId, View, limits,
};

const HOME: u16 = 1;
const THIS: u16 = 2;
const COUNT: u16 = 5;

const NO_SUCH_PAGE: &str = "the page does not exist here";
const NOT_ITS_HOME: &str = "it is not the home of the page";
const NOT_HOME_HERE: &str = "this node is not the home of the page";
const NOT_ASKED: &str = "the page was not asked for in this way";
const NOT_COORDINATOR: &str = "this node is not the coordinator";
const NOT_FROM_COORDINATOR: &str = "it is not the coordinator";
const NO_MEMBER: &str = "the placement names a node that is not in the mesh";

fn holder() -> Subject {
    Subject::mapped(THIS, COUNT, HOME)
}

fn home() -> Subject {
    Subject::mapped(HOME, COUNT, HOME)
}

fn coordinator() -> Subject {
    Subject::new(0, COUNT)
}

/// The same message about another page.
fn about(page: PageAddress, message: Message) -> Message {
    match message {
        Message::PageRequest { request, access, .. } => Message::PageRequest { page, request, access },
        Message::Data { request, access, .. } => Message::Data { page, request, access },
        Message::Grant { request, access, zero, .. } => Message::Grant { page, request, access, zero },
        Message::Deny { request, lost_with, .. } => Message::Deny { page, request, lost_with },
        Message::Fetch { request, access, requester, .. } => {
            Message::Fetch { page, request, access, requester }
        }
        Message::Done { request, installed, .. } => Message::Done { page, request, installed },
        Message::Recall { request, .. } => Message::Recall { page, request },
        Message::Invalidate { .. } => Message::Invalidate { page },
        Message::InvalidateAck { .. } => Message::InvalidateAck { page },
        Message::Evict { .. } => Message::Evict { page },
        Message::OwnerQuery { ticket, .. } => Message::OwnerQuery { page, ticket },
        Message::OwnerReply { ticket, owner, .. } => Message::OwnerReply { page, ticket, owner },
        Message::HomeClaim { request, .. } => Message::HomeClaim { page, request },
        Message::HomeNamed { request, home, .. } => Message::HomeNamed { page, request, home },
        Message::HomeQuery { ticket, .. } => Message::HomeQuery { page, ticket },
        Message::HomeReply { ticket, home, .. } => Message::HomeReply { page, ticket, home },
        other => panic!("{other:?} is about no page"),
    }
}

fn owner_query() -> Message {
    Message::OwnerQuery { page: PAGE, ticket: ticket(5) }
}

#[test]
fn a_node_that_was_lost_is_no_member() {
    let mut subject = home();
    subject.loses(3);
    assert_eq!(subject.refuses(3, request(7, Read)), "it is not a member of the view");
    assert_eq!(subject.refuses(3, Message::Goodbye), "it is not a member of the view");
}

#[test]
fn a_node_that_never_joined_is_no_member() {
    assert_eq!(home().refuses(COUNT, request(7, Read)), "it is not a member of the view");
    assert_eq!(home().refuses(63, request(7, Read)), "it is not a member of the view");
}

#[test]
fn a_message_of_another_view_is_refused() {
    for view in [View(0), View(2), View(u32::MAX)] {
        assert_eq!(home().refuses_in(view, 3, request(7, Read)), "it is in another view");
    }
}

#[test]
fn a_page_that_does_not_exist_is_nobodys() {
    let outside = PageAddress { page: common::PAGES, ..PAGE };
    let far_outside = PageAddress { page: u64::MAX, ..PAGE };
    let nowhere = PageAddress { region: RegionId(u16::MAX), ..PAGE };
    for page in [outside, far_outside, nowhere] {
        for message in [
            request(7, Read),
            data(7, Read),
            grant(7, Write),
            deny(7, 3),
            fetch(7, Read, 4),
            report(7, true),
            recall(7),
            INVALIDATE,
            INVALIDATE_ACK,
            Message::Evict { page: PAGE },
            owner_query(),
            Message::OwnerReply { page: PAGE, ticket: ticket(5), owner: PageOwner::Nobody },
            Message::HomeClaim { page: PAGE, request: RequestId(7) },
            Message::HomeNamed { page: PAGE, request: RequestId(7), home: node(3) },
            Message::HomeQuery { page: PAGE, ticket: ticket(5) },
            Message::HomeReply { page: PAGE, ticket: ticket(5), home: None },
        ] {
            assert_eq!(holder().refuses(HOME, about(page, message)), NO_SUCH_PAGE, "{message:?}");
        }
    }
    assert_eq!(Subject::new(THIS, COUNT).refuses(HOME, request(7, Read)), NO_SUCH_PAGE);
}

#[test]
fn only_the_home_of_a_page_decides_about_it() {
    let mut subject = holder();
    subject.fault(1, Read);
    for message in
        [zero_grant(0, Read), grant(0, Write), deny(0, 4), fetch(0, Read, 4), recall(0), INVALIDATE]
    {
        assert_eq!(subject.refuses(3, message), NOT_ITS_HOME, "{message:?}");
    }
}

#[test]
fn only_the_home_of_a_page_is_asked_about_it() {
    let evict = Message::Evict { page: PAGE };
    for message in [request(7, Read), report(7, true), INVALIDATE_ACK, evict, owner_query()] {
        assert_eq!(holder().refuses(3, message), NOT_HOME_HERE, "{message:?}");
    }
}

#[test]
fn an_answer_must_be_to_what_was_asked() {
    let mut reader = holder();
    reader.fault(1, Read);
    assert_eq!(reader.refuses(3, data(0, Write)), NOT_ASKED);
    assert_eq!(reader.refuses(HOME, zero_grant(0, Write)), NOT_ASKED);
    let mut writer = holder();
    writer.fault(1, Write);
    assert_eq!(writer.refuses(3, data(0, Read)), NOT_ASKED);
    assert_eq!(writer.refuses(HOME, zero_grant(0, Read)), NOT_ASKED);
}

#[test]
fn an_answer_must_fit_the_copy_that_is_held() {
    let unfit = "the grant does not fit the copy that is held";
    let mut invalid = holder();
    invalid.fault(1, Write);
    assert_eq!(invalid.refuses(HOME, grant(0, Write)), unfit, "there are no bytes to be used");
    let mut reader = holder();
    reader.fault(1, Read);
    assert_eq!(reader.refuses(HOME, grant(0, Read)), unfit);
    let mut upgrading = holder();
    upgrading.fault(1, Read);
    upgrading.hears(HOME, data(0, Read));
    upgrading.fault(2, Write);
    assert_eq!(upgrading.refuses(HOME, zero_grant(1, Write)), unfit, "the page is not zero");
    assert_eq!(upgrading.refuses(3, data(1, Write)), NOT_ASKED, "there is a copy already");
}

#[test]
fn a_copy_that_is_not_held_cannot_be_fetched_or_dropped() {
    let none = "there is no copy here to be fetched";
    let not_shared = "there is no shared copy here to be dropped";
    let mut invalid = holder();
    assert_eq!(invalid.refuses(HOME, fetch(7, Read, 4)), none);
    assert_eq!(invalid.refuses(HOME, fetch(7, Write, 4)), none);
    assert_eq!(invalid.refuses(HOME, INVALIDATE), not_shared);
    let mut modified = holder();
    modified.fault(1, Write);
    modified.hears(HOME, zero_grant(0, Write));
    assert_eq!(modified.refuses(HOME, INVALIDATE), not_shared, "the only copy is not thrown away");
}

#[test]
fn a_copy_goes_only_to_another_member() {
    let mut subject = holder();
    subject.fault(1, Read);
    subject.hears(HOME, data(0, Read));
    for requester in [THIS, COUNT, 63] {
        assert_eq!(subject.refuses(HOME, fetch(7, Read, requester)), "the copy cannot go to this requester");
    }
}

#[test]
fn an_acknowledgement_must_have_been_asked_for() {
    assert_eq!(home().refuses(3, INVALIDATE_ACK), "no sharer was told to drop its copy");
    let not_told = "it was not told to drop its copy";
    let mut moving = home().modified_by(3);
    moving.hears(4, request(7, Read));
    assert_eq!(moving.refuses(3, INVALIDATE_ACK), not_told);
    let mut invalidating = home().shared_by(&[HOME, 3, 4]);
    invalidating.fault(1, Write);
    assert_eq!(invalidating.refuses(2, INVALIDATE_ACK), not_told, "a node without a copy");
    assert_eq!(invalidating.refuses(0, INVALIDATE_ACK), not_told, "a bystander");
    invalidating.hears(3, INVALIDATE_ACK);
    assert_eq!(invalidating.refuses(3, INVALIDATE_ACK), not_told, "a second time");
}

#[test]
fn a_report_must_be_of_the_copy_that_is_on_its_way() {
    let not_moving = "no copy is on its way";
    let another = "the copy is on its way to another";
    assert_eq!(home().refuses(3, report(7, true)), not_moving);
    let mut invalidating = home().shared_by(&[HOME, 3]);
    invalidating.fault(1, Write);
    invalidating.hears(2, request(7, Write));
    assert_eq!(invalidating.refuses(2, report(7, true)), not_moving);
    let mut moving = home().modified_by(3);
    moving.hears(4, request(7, Read));
    assert_eq!(moving.refuses(3, report(7, true)), another, "the supplier");
    assert_eq!(moving.refuses(4, report(8, true)), another, "another request");
    assert_eq!(moving.refuses(4, report(7, false)), "it was not asked whether the copy came");
    moving.hears(4, report(7, true));
    assert_eq!(moving.refuses(4, report(7, true)), not_moving, "a second time");
}

#[test]
fn a_node_may_have_only_so_many_requests_open() {
    let mut subject = home().modified_by(3);
    for id in 0..limits::REQUESTS_PER_PEER {
        subject.hears(4, request(id, Read));
    }
    let bound = "it has more requests open than a node may";
    assert_eq!(subject.refuses(4, request(limits::REQUESTS_PER_PEER, Read)), bound);
    let elsewhere = PageAddress { page: 4, ..PAGE };
    assert_eq!(subject.refuses(4, about(elsewhere, request(9999, Read))), bound, "on all pages together");
    assert_eq!(subject.hears(2, request(0, Read)), [], "the bound is each node's own");
    subject.hears(4, report(0, true));
    assert_eq!(subject.hears(4, request(5000, Read)).len(), 0, "one was answered, so one more may come");
}

#[test]
fn only_the_home_of_a_lock_says_who_comes_next_or_asks_for_it() {
    let (lock, not_home) = (lock_at(HOME, COUNT, 0), "it is not the home of the lock");
    let mut subject = Subject::new(THIS, COUNT);
    subject.holds_for_home(1, lock, HOME);
    assert_eq!(subject.refuses(3, forwarded(lock, 1, 3, 1)), not_home);
    assert_eq!(subject.refuses(3, Message::LockQuery { lock, round: 1 }), not_home);
    assert_eq!(subject.refuses(3, Message::LockBusy { lock, ticket: ticket(1) }), not_home);
    let strange = "the next to have the lock is no other node of the mesh";
    assert_eq!(subject.refuses(HOME, forwarded(lock, 1, THIS, 1)), strange);
    assert_eq!(subject.refuses(HOME, forwarded(lock, 1, COUNT, 1)), strange);
    for lost in [HOME, COUNT] {
        let cut = Message::LockCut { node: node(lost) };
        assert_eq!(subject.refuses(HOME, cut), "it cannot have lost such a node");
    }
}

#[test]
fn who_has_a_lock_or_waits_for_it_does_not_ask_for_it() {
    let (lock, ticket) = (lock_at(HOME, COUNT, 0), ticket(1));
    let mut subject = Subject::new(HOME, COUNT);
    subject.hears(3, Message::LockAcquire { lock, ticket });
    for message in [Message::LockAcquire { lock, ticket }, Message::LockTry { lock, ticket }] {
        assert_eq!(subject.refuses(3, message), "it asks for a lock that it has or waits for");
    }
}

#[test]
fn only_the_home_of_a_lock_or_barrier_is_asked_for_it() {
    let not_home = "this node is not the home of the lock";
    let (lock, ticket) = (lock_at(HOME, COUNT, 0), ticket(1));
    let mut subject = Subject::new(THIS, COUNT);
    assert_eq!(subject.refuses(3, Message::LockAcquire { lock, ticket }), not_home);
    assert_eq!(subject.refuses(3, Message::LockTry { lock, ticket }), not_home);
    assert_eq!(subject.refuses(3, returned(lock, 1)), not_home);
    assert_eq!(subject.refuses(3, Message::LockHeld { lock, ticket, node: node(0) }), not_home);
    assert_eq!(subject.refuses(3, Message::LockState { lock, round: 1, state: None }), not_home);
    let not_home = "this node is not the home of the barrier";
    let barrier = barrier_at(HOME, COUNT, 0);
    let arrive = Message::BarrierArrive { barrier, ticket, participants: 2 };
    assert_eq!(subject.refuses(3, arrive), not_home);
    assert_eq!(subject.refuses(3, Message::BarrierCancel { barrier, ticket }), not_home);
}

fn open(spec: RegionSpec) -> Message {
    Message::RegionOpen { ticket: ticket(1), create: true, spec }
}

fn proposal(region: RegionId, spec: RegionSpec) -> Message {
    Message::RegionMap { region, round: 0, spec }
}

fn impossible_regions() -> [RegionSpec; 2] {
    let good = asked("grid", Placement::Cyclic);
    [RegionSpec { pages: 0, ..good }, RegionSpec { address: 4095, ..good }]
}

#[test]
fn only_the_coordinator_is_asked_for_regions() {
    let good = asked("grid", Placement::Cyclic);
    assert_eq!(Subject::new(1, COUNT).refuses(2, open(good)), NOT_COORDINATOR);
    let answer = Message::RegionMapped { region: REGION, round: 0, mapped: true };
    assert_eq!(Subject::new(1, COUNT).refuses(2, answer), NOT_COORDINATOR);
}

#[test]
fn only_the_coordinator_says_what_is_mapped() {
    let good = asked("grid", Placement::Cyclic);
    let mut subject = Subject::new(1, COUNT);
    for message in [
        proposal(REGION, good),
        Message::RegionDrop { region: REGION, round: 0 },
        Message::RegionReady { ticket: ticket(1), region: REGION, spec: good },
    ] {
        assert_eq!(subject.refuses(2, message), NOT_FROM_COORDINATOR);
    }
}

#[test]
fn a_region_that_cannot_be_is_not_wanted_and_not_proposed() {
    let wanted = "a region has at least one page and begins on a page boundary";
    for bad in impossible_regions() {
        assert_eq!(coordinator().refuses(2, open(bad)), wanted, "{bad:?}");
        assert_eq!(
            Subject::new(1, COUNT).refuses(0, proposal(REGION, bad)),
            "there can be no such region",
            "{bad:?}"
        );
    }
    let far = asked("grid", Placement::Single(node(COUNT)));
    assert_eq!(coordinator().refuses(2, open(far)), NO_MEMBER);
    assert_eq!(Subject::new(1, COUNT).refuses(0, proposal(REGION, far)), NO_MEMBER);
    let good = asked("grid", Placement::Cyclic);
    let same_place = RegionId(limits::REGIONS as u16);
    let mut proposed = Subject::new(1, COUNT);
    proposed.hears(0, proposal(REGION, good));
    assert_eq!(proposed.refuses(0, proposal(same_place, good)), "there can be no such region");
    proposed.maps(REGION, 0, true);
    assert_eq!(proposed.refuses(0, proposal(same_place, good)), "there can be no such region");
}

#[test]
fn an_answer_about_a_region_must_be_to_a_proposal() {
    let answer = |region| Message::RegionMapped { region, round: 0, mapped: true };
    let mut subject = coordinator();
    assert_eq!(subject.refuses(2, answer(REGION)), "no such region was proposed");
    subject.opens(1, true, asked("grid", Placement::Cyclic));
    assert_eq!(subject.refuses(2, answer(RegionId(1))), "no such region was proposed");
    subject.hears(2, answer(REGION));
    assert_eq!(subject.refuses(2, answer(REGION)), "it has answered already");
}

#[test]
fn a_region_is_ready_only_where_it_is_mapped() {
    let mut subject = Subject::new(1, COUNT);
    let spec = RegionSpec { address: limits::REGION_BASE, ..asked("grid", Placement::Cyclic) };
    let ready = Message::RegionReady { ticket: ticket(1), region: REGION, spec };
    subject.opens(1, true, asked("grid", Placement::Cyclic));
    assert_eq!(subject.refuses(0, ready), "this region is not mapped here");
    subject.hears(0, proposal(REGION, spec));
    assert_eq!(subject.refuses(0, ready), "this region is not mapped here");
    subject.maps(REGION, 0, true);
    let other = RegionSpec { pages: 1, ..spec };
    let elsewhere = Message::RegionReady { ticket: ticket(1), region: REGION, spec: other };
    assert_eq!(subject.refuses(0, elsewhere), "this region is not mapped here");
}

/// The coordinator may take a region back while nobody has it; later, waiting calls and pointers of the application would be left
/// without their pages.
#[test]
fn a_region_in_use_is_neither_dropped_nor_proposed_anew() {
    let spec = RegionSpec { address: limits::REGION_BASE, ..asked("grid", Placement::Cyclic) };
    let mapped = || {
        let mut subject = Subject::new(1, COUNT);
        subject.opens(1, true, asked("grid", Placement::Cyclic));
        subject.hears(0, proposal(REGION, spec));
        subject.maps(REGION, 0, true);
        subject
    };
    let drop = Message::RegionDrop { region: REGION, round: 0 };
    let page = PageAddress::new(REGION, 1);
    let (mut given, mut asked_for, mut touched) = (mapped(), mapped(), mapped());
    given.hears(0, Message::RegionReady { ticket: ticket(1), region: REGION, spec });
    asked_for.hears(3, Message::PageRequest { page, request: RequestId(1), access: Read });
    touched.fault(2, Read);
    for subject in [&mut given, &mut asked_for, &mut touched] {
        assert_eq!(subject.refuses(0, drop), "the region is in use here");
        assert_eq!(subject.refuses(0, proposal(REGION, spec)), "the region is in use here");
    }
    assert_eq!(mapped().hears(0, drop), [Action::UnmapRegion(REGION)]);
}

/// Nobody was given a region that is still being agreed on, so nobody has a reason to ask for its pages; were the coordinator to rely
/// on it then, it could neither propose it anew nor drop it.
#[test]
fn pages_of_a_region_that_is_not_agreed_on_are_nobodys() {
    let agreeing = || {
        let mut subject = coordinator();
        subject.opens(1, true, asked("grid", Placement::Cyclic));
        subject.maps(REGION, 0, true);
        for from in 1..COUNT - 1 {
            subject.hears(from, Message::RegionMapped { region: REGION, round: 0, mapped: true });
        }
        subject
    };
    let page = PageAddress::new(REGION, 0);
    let asked_for = Message::PageRequest { page, request: RequestId(1), access: Read };
    let mut dropping = agreeing();
    assert_eq!(dropping.refuses(1, asked_for), NO_SUCH_PAGE);
    assert!(dropping.loses(2).contains(&Action::UnmapRegion(REGION)));
    let mut proposing = agreeing();
    assert_eq!(proposing.refuses(1, asked_for), NO_SUCH_PAGE);
    let taken = Message::RegionMapped { region: REGION, round: 0, mapped: false };
    assert!(proposing.hears(COUNT - 1, taken).contains(&Action::UnmapRegion(REGION)));
    let mut ready = agreeing();
    ready.hears(COUNT - 1, Message::RegionMapped { region: REGION, round: 0, mapped: true });
    assert_ne!(ready.hears(1, asked_for), []);
}

/// The caller's answer names the round: with two proposals of one round, the answer to the first would be taken for the second's,
/// and that one's would unmap a region in use.
#[test]
fn a_round_is_proposed_once() {
    let spec = RegionSpec { address: limits::REGION_BASE, ..asked("grid", Placement::Cyclic) };
    let round = |round| Message::RegionMap { region: REGION, round, spec };
    let again = "the round of the region was proposed before";
    let mut subject = Subject::new(1, COUNT);
    subject.hears(0, round(0));
    assert_eq!(subject.refuses(0, round(0)), again);
    subject.hears(0, Message::RegionDrop { region: REGION, round: 0 });
    assert_eq!(subject.refuses(0, round(0)), again);
    subject.hears(0, round(u16::MAX));
    assert_eq!(subject.refuses(0, round(u16::MAX)), again);
    subject.maps(REGION, 0, true);
    subject.maps(REGION, u16::MAX, true);
    assert_eq!(subject.engine.region(REGION), Some(spec));
}

/// Every answer that ends a call by its ticket alone.
fn answers(slot: u16, lock: LockId, barrier: BarrierId) -> Vec<Message> {
    let ticket = ticket(slot);
    vec![
        Message::OwnerReply { page: PAGE, ticket, owner: PageOwner::Nobody },
        Message::LockGrant { lock, ticket, died: None },
        Message::LockGrant { lock, ticket, died: Some(node(4)) },
        Message::LockBusy { lock, ticket },
        Message::BarrierRelease { barrier, ticket, plan: None },
        Message::BarrierMismatch { barrier, ticket, first: 1, this: 2 },
        Message::BarrierBroken { barrier, ticket, node: node(4) },
        Message::SyncRefused { ticket },
        Message::RegionRefused { ticket, refusal: RegionRefusal::Exhausted },
        Message::RegionBroken { ticket, node: node(4) },
    ]
}

/// Gives `message` to `subject`, which may refuse it or not, but must not act on it.
fn is_harmless(subject: &mut Subject, from: NodeId, message: Message) {
    let mut out = Vec::new();
    let view = subject.engine.view();
    let _ = subject.engine.on_message(from, view, &message, &mut out);
    assert_eq!(out, [], "{message:?} from node {from}");
}

#[test]
fn an_answer_to_something_else_does_not_end_a_wait_for_a_page() {
    let (lock, barrier) = (lock_at(0, COUNT, 0), barrier_at(0, COUNT, 0));
    for message in answers(1, lock, barrier) {
        let mut subject = Subject::mapped(THIS, COUNT, 0);
        subject.fault(1, Read);
        subject.fault(2, Read);
        is_harmless(&mut subject, node(0), message);
        assert_eq!(
            subject.hears(0, data(0, Read)),
            [Action::Fill(PAGE), Action::MapRead(PAGE), done(2), done(1)],
            "after {message:?}"
        );
    }
}

#[test]
fn an_answer_to_something_else_does_not_end_a_wait_for_a_lock_or_barrier() {
    let (lock, barrier) = (lock_at(0, COUNT, 0), barrier_at(0, COUNT, 0));
    for message in answers(1, lock_at(0, COUNT, 1), barrier_at(0, COUNT, 1)) {
        if matches!(message, Message::SyncRefused { .. }) {
            continue; // It names no lock or barrier: it does end either wait.
        }
        let mut subject = holder();
        subject.acquires(1, lock);
        is_harmless(&mut subject, node(0), message);
        let granted = Message::LockGrant { lock, ticket: ticket(1), died: None };
        assert_eq!(subject.hears(0, granted), [done(1)], "after {message:?}");

        let mut subject = holder();
        subject.arrives(1, barrier, 4);
        is_harmless(&mut subject, node(0), message);
        let released = Message::BarrierRelease { barrier, ticket: ticket(1), plan: None };
        assert_eq!(subject.hears(0, released), [done(1)], "after {message:?}");
    }
}

#[test]
fn only_the_one_who_was_asked_answers() {
    let (lock, barrier) = (lock_at(0, COUNT, 0), barrier_at(0, COUNT, 0));
    for message in answers(1, lock, barrier) {
        let mut subject = holder();
        match message {
            Message::OwnerReply { .. } => {
                subject.act(|engine, out| engine.on_owner_query(ticket(1), PAGE, out));
            }
            // A lock comes from whoever had it before, which only the home knows.
            Message::LockGrant { .. } => continue,
            Message::LockBusy { .. } | Message::SyncRefused { .. } => {
                subject.acquires(1, lock);
            }
            Message::RegionRefused { .. } | Message::RegionBroken { .. } => {
                subject.opens(1, true, asked("grid", Placement::Cyclic));
            }
            _ => {
                subject.arrives(1, barrier, 4);
            }
        }
        is_harmless(&mut subject, node(3), message);
        assert!(!subject.engine.is_quiet(), "{message:?} from a bystander ended the call");
    }
}

#[test]
fn a_ticket_beyond_the_table_is_nobodys() {
    let ticket = pagemesh_protocol::Ticket::new(u16::MAX, 1);
    let lock = lock_at(HOME, COUNT, 0);
    assert_eq!(holder().hears(HOME, Message::LockGrant { lock, ticket, died: None }), []);
    assert_eq!(
        holder().hears(HOME, Message::OwnerReply { page: PAGE, ticket, owner: PageOwner::Nobody }),
        []
    );
}

#[test]
fn no_message_from_anyone_makes_an_engine_panic_or_lose_its_calls() {
    let spec = asked("grid", Placement::Cyclic);
    let (lock, barrier) = (lock_at(HOME, COUNT, 0), barrier_at(HOME, COUNT, 0));
    let (region, round, ticket) = (REGION, 0, ticket(1));
    let page = PAGE;
    let mut all = answers(1, lock, barrier);
    all.extend([
        deny(0, 3),
        report(0, true),
        report(0, false),
        recall(0),
        INVALIDATE,
        INVALIDATE_ACK,
        Message::Evict { page: PAGE },
        owner_query(),
        Message::LockAcquire { lock, ticket },
        Message::LockTry { lock, ticket },
        returned(lock, 1),
        Message::LockRelease { lock, ticket, died: Some(node(4)), wanted: Some((node(4), ticket)) },
        forwarded(lock, 1, 4, 1),
        Message::LockForward { lock, ticket, node: node(4), wanted: ticket, waits: false },
        Message::LockQuery { lock, round: 1 },
        Message::LockState { lock, round: 1, state: Some((ticket, true)) },
        Message::LockHeld { lock, ticket, node: node(4) },
        Message::LockCut { node: node(4) },
        Message::BarrierArrive { barrier, ticket, participants: 3 },
        Message::BarrierCancel { barrier, ticket },
        Message::RegionOpen { ticket, create: true, spec },
        Message::RegionOpen { ticket, create: false, spec },
        Message::RegionMap { region: RegionId(1), round, spec },
        Message::RegionMapped { region, round, mapped: true },
        Message::RegionDrop { region: RegionId(1), round },
        Message::RegionReady { ticket, region, spec },
        Message::Leaving,
    ]);
    for access in [Read, Write] {
        all.extend([request(0, access), data(0, access), grant(0, access), zero_grant(0, access)]);
        all.push(fetch(0, access, 4));
        all.push(Message::PageRequest { page, request: RequestId(1), access });
    }
    // Every ordered pair of messages, from every pair of senders, at a holder and at a home that wait for something.
    for this in [HOME, THIS] {
        for first in &all {
            for second in &all {
                for (one, other) in [(0, 0), (3, 3), (0, 3), (HOME, 4), (HOME, HOME)] {
                    let mut subject = Subject::mapped(this, COUNT, HOME);
                    subject.fault(1, Write);
                    for (from, message) in [(one, first), (other, second)] {
                        if from != this {
                            let view = subject.engine.view();
                            let mut out = Vec::new();
                            let _ = subject.engine.on_message(node(from), view, message, &mut out);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn goodbye_is_passed_on_and_changes_nothing_else() {
    let mut subject = home().modified_by(3);
    assert_eq!(subject.hears(3, Message::Goodbye), [Action::Departed(node(3))]);
    assert_eq!(
        subject.entry().state,
        DirectoryState::Modified(node(3)),
        "its copy is there until it is lost"
    );
    assert_eq!(subject.hears(4, request(7, Read)), [send(3, fetch(7, Read, 4))]);
    assert_eq!(subject.loses(3), [send(4, recall(7))]);
    assert_eq!(subject.state(), PageState::Invalid);
}
