//! Every message survives its own bytes, and no bytes break the decoder.

use super::*;
use crate::atomic::{AtomicChange, AtomicOperation};
use crate::ids::{ByteRange, ConditionId, LockId, NodeSet, RwLockId, SemaphoreId};
use crate::message::{BarrierPlan, Collect, HandOver, Hint, MeetingEnd, Named, ReaderCopy, SyncObject};
use crate::sharers::Sharers;
use proptest::prelude::*;

const RW: RwLockId = RwLockId(0x0102_0304_0506_0708);
const SEMAPHORE: SemaphoreId = SemaphoreId(0x0102_0304_0506_0708);
const CONDITION: ConditionId = ConditionId(0x0102_0304_0506_0708);

fn spec() -> RegionSpec {
    RegionSpec {
        name: RegionName::new("grid").unwrap(),
        pages: 77,
        placement: Placement::Single(NodeId::new(3)),
        protocol: Protocol::WriteInvalidate,
        unit: Unit::KiB64,
        address: 0x2000_0000_0000,
    }
}

fn atomic(word: u16, change: AtomicChange) -> AtomicOperation {
    AtomicOperation { word, change }
}

fn compare_swap() -> AtomicChange {
    AtomicChange::CompareSwap { expected: u64::MAX, desired: 0x0102_0304_0506_0708 }
}

fn atomics(page: PageAddress, ticket: Ticket) -> [Message; 9] {
    let node = NodeId::new(1023);
    [
        Message::AtomicRequest { page, ticket, operation: atomic(511, AtomicChange::Add(u64::MAX)) },
        Message::AtomicRequest { page, ticket, operation: atomic(0, AtomicChange::Swap(7)) },
        Message::AtomicRequest { page, ticket, operation: atomic(9, compare_swap()) },
        Message::AtomicForward { page, requester: node, ticket, operation: atomic(9, compare_swap()) },
        Message::AtomicDone { page, requester: node, ticket, old: u64::MAX },
        Message::AtomicReply { page, ticket, old: u64::MAX },
        Message::AtomicDeny { page, ticket, lost_with: node },
        Message::AtomicCancel { page, ticket },
        Message::AtomicWithdrawn { page, ticket },
    ]
}

fn messages_about_ranges() -> Vec<Message> {
    let (region, ticket, node) = (RegionId(255), Ticket::new(1023, 77), NodeId::new(1023));
    let range = ByteRange { region, start: 1 << 43, bytes: 4096 };
    vec![
        Message::RangeAcquire { range, ticket, access: Access::Read, waits: true, since: u64::MAX },
        Message::RangeAcquire { range, ticket, access: Access::Write, waits: false, since: 0 },
        Message::RangeGrant { region, ticket, stamp: 1 << 40, died: None },
        Message::RangeGrant { region, ticket, stamp: 0, died: Some(node) },
        Message::RangeBusy { region, ticket },
        Message::RangeRelease { range, ticket, unused: false },
        Message::RangeRelease { range, ticket, unused: true },
        Message::RangeBytes { range, ticket },
        Message::RangePart { region, ticket, next: 77 },
        Message::RangeMore { range, ticket, since: 9 },
        Message::RangeWrite { range, ticket },
    ]
}

fn messages_of_locks() -> Vec<Message> {
    let (lock, ticket, node) = (LockId(u64::MAX), Ticket::new(1023, 77), NodeId::new(1023));
    vec![
        Message::LockAcquire { lock, ticket },
        Message::LockGrant { lock, ticket, died: None },
        Message::LockGrant { lock, ticket, died: Some(node) },
        Message::LockRelease { lock, ticket, died: None, wanted: None },
        Message::LockRelease { lock, ticket, died: Some(node), wanted: None },
        Message::LockRelease { lock, ticket, died: None, wanted: Some((node, ticket)) },
        Message::LockRelease { lock, ticket, died: Some(node), wanted: Some((NodeId::new(7), ticket)) },
        Message::LockForward { lock, ticket, node, wanted: Ticket::new(3, 4), waits: true },
        Message::LockForward { lock, ticket, node, wanted: Ticket::new(3, 4), waits: false },
        Message::LockQuery { lock, round: 9 },
        Message::LockState { lock, round: 9, state: None },
        Message::LockState { lock, round: 9, state: Some((ticket, false)) },
        Message::LockState { lock, round: 9, state: Some((ticket, true)) },
        Message::LockHeld { lock, ticket, node },
        Message::LockCut { node },
        Message::LockTry { lock, ticket },
        Message::LockBusy { lock, ticket },
    ]
}

fn meetings(ticket: Ticket) -> [Message; 5] {
    let (node, number) = (NodeId::new(1023), u64::MAX);
    let over = |end| Message::MeetingOver { ticket, end };
    [
        Message::MeetingArrive { ticket, root: node, number, leaves: true },
        over(MeetingEnd::Agreed { round: number }),
        over(MeetingEnd::Differs { root: node, number }),
        over(MeetingEnd::Broken { lost: node }),
        Message::Piece { round: number, offset: u32::MAX, last: true },
    ]
}

fn messages_of_reader_writer_locks(ticket: Ticket, node: NodeId) -> [Message; 19] {
    [
        Message::RwAcquire { lock: RW, ticket, access: Access::Read, waits: true },
        Message::RwAcquire { lock: RW, ticket, access: Access::Write, waits: false },
        Message::RwGrant { lock: RW, ticket, died: None },
        Message::RwGrant { lock: RW, ticket, died: Some(node) },
        Message::RwBusy { lock: RW, ticket },
        Message::RwRelease { lock: RW, ticket },
        Message::RwLeave { lock: RW, ticket, access: Access::Read },
        Message::RwLeave { lock: RW, ticket, access: Access::Write },
        Message::RwRecall { lock: RW, next: None },
        Message::RwRecall { lock: RW, next: Some((node, ticket)) },
        Message::RwHold { lock: RW, ticket, access: Access::Read },
        Message::RwHold { lock: RW, ticket, access: Access::Write },
        Message::RwYield { lock: RW, next: Named::Left },
        Message::RwYield { lock: RW, next: Named::LetIn },
        Message::RwYield { lock: RW, next: Named::KeptInMind },
        Message::RwHandOver { lock: RW, ticket, step: HandOver::Forget },
        Message::RwHandOver { lock: RW, ticket, step: HandOver::Next { node, ticket } },
        Message::RwHandOver { lock: RW, ticket, step: HandOver::Passed { count: 3 } },
        Message::RwHandOver { lock: RW, ticket, step: HandOver::Forgotten },
    ]
}

fn updates(page: PageAddress, node: NodeId) -> [Message; 3] {
    [
        Message::Follow { page, reader: node },
        Message::Unfollow { page, reader: node },
        Message::Update { page, writer: node, interval: 7, own: u64::MAX },
    ]
}

fn about_drops(page: PageAddress, node: NodeId) -> [Message; 8] {
    let request = RequestId(u32::MAX);
    let few = Sharers::of([0, 3, 77, 1023].into_iter().map(NodeId::new).collect()).unwrap();
    let one = Sharers::of(NodeSet::only(node)).unwrap();
    [
        Collect::Drop { requester: node, again: false, grant: few },
        Collect::Drop { requester: node, again: true, grant: Sharers::NONE },
        Collect::Dropped,
        Collect::Grant(few),
        Collect::Grant(one),
        Collect::Data(few),
        Collect::Unheard(node),
        Collect::Gone { sharer: node, grant: one },
    ]
    .map(|step| Message::Collect { page, request, step })
}

fn about_hints(page: PageAddress, node: NodeId) -> [Message; 8] {
    let served = |copy| Hint::Served { reader: node, copy };
    [
        Hint::Read,
        Hint::Miss,
        Hint::Got(true),
        Hint::Got(false),
        served(ReaderCopy::Here),
        served(ReaderCopy::Unused),
        served(ReaderCopy::Unheard),
        Hint::Known,
    ]
    .map(|step| Message::Hint { page, request: RequestId(u32::MAX), step })
}

fn about_trees() -> [Message; 7] {
    let (barrier, ticket, node) = (BarrierId(5), Ticket::new(1023, 77), NodeId::new(1023));
    let plan = Some(BarrierPlan { generation: 9, participants: u32::MAX });
    [
        Message::BarrierRelease { barrier, ticket, plan: None },
        Message::BarrierRelease { barrier, ticket, plan },
        Message::BarrierGathered { barrier, generation: 7, round: 1 << 40 },
        Message::BarrierOpened { barrier, generation: u32::MAX, round: 1 },
        Message::BarrierDissolve { barrier, generation: 1, round: 0, cut: false },
        Message::BarrierDissolve { barrier, generation: 1, round: 3, cut: true },
        Message::BarrierKnown { home: node, writer: NodeId::new(4), interval: 1 << 61 },
    ]
}

fn questions_of_holds() -> Vec<Message> {
    let range = ByteRange { region: RegionId(255), start: 1 << 43, bytes: 4096 };
    let objects = [
        SyncObject::Lock(LockId(u64::MAX)),
        SyncObject::RwLock(RW),
        SyncObject::Semaphore(SEMAPHORE),
        SyncObject::Barrier(BarrierId(7)),
        SyncObject::Range(range),
    ];
    let holds = [None, Some(Access::Read), Some(Access::Write)];
    let replies =
        holds.map(|hold| Message::HoldReply { question: u32::MAX, hold, waiting: 1024, since_ms: u64::MAX });
    let queries = objects.map(|object| Message::HoldQuery { object, question: 7 });
    queries.into_iter().chain(replies).collect()
}

fn every_message() -> Vec<Message> {
    let page = PageAddress::new(RegionId(2), 0x1_2345_6789);
    let (request, ticket) = (RequestId(0xdead_beef), Ticket::new(1023, 77));
    let (barrier, node) = (BarrierId(5), NodeId::new(1023));
    let (region, round, spec) = (RegionId(255), 15, spec());
    let mut all = vec![
        Message::Deny { page, request, lost_with: node },
        Message::Done { page, request, installed: true },
        Message::Done { page, request, installed: false },
        Message::Recall { page, request },
        Message::Invalidate { page },
        Message::InvalidateAck { page },
        Message::Evict { page },
        Message::OwnerQuery { page, ticket },
        Message::HomeClaim { page, request },
        Message::HomeNamed { page, request, home: node },
        Message::HomeQuery { page, ticket },
        Message::HomeReply { page, ticket, home: None },
        Message::HomeReply { page, ticket, home: Some(node) },
        Message::BarrierArrive { barrier, ticket, participants: 4 },
        Message::BarrierCancel { barrier, ticket },
        Message::BarrierMismatch { barrier, ticket, first: 3, this: 4 },
        Message::BarrierBroken { barrier, ticket, node },
        Message::SyncRefused { ticket },
        Message::RegionOpen { ticket, create: true, spec },
        Message::RegionOpen { ticket, create: false, spec },
        Message::RegionMap { region, round, spec },
        Message::RegionMapped { region, round, mapped: true },
        Message::RegionDrop { region, round },
        Message::RegionReady { ticket, region, spec },
        Message::RegionBroken { ticket, node },
        Message::RegionClose { ticket, region },
        Message::RegionClosed { ticket },
        Message::RegionGone { region },
        Message::RegionForgotten { region },
        Message::Diff { page, interval: 7, last: true },
        Message::Lend { page, interval: 7 },
        Message::LendReply { page, taken: true },
        Message::LendReply { page, taken: false },
        Message::CallIn { page },
        Message::Return { page, interval: u64::MAX },
        Message::Diff { page, interval: u64::MAX, last: false },
        Message::Need { page, request, writer: node, interval: 7 },
        Message::Wrote { writer: node, interval: 7, first: page, count: 9 },
        Message::Told { writer: node, interval: 7 },
        Message::Knows { writer: node, interval: 7 },
        Message::Settled { writer: node, interval: 7 },
        Message::SemaphoreInit { semaphore: SEMAPHORE, ticket, value: 7 },
        Message::SemaphoreWait { semaphore: SEMAPHORE, ticket, waits: true },
        Message::SemaphoreWait { semaphore: SEMAPHORE, ticket, waits: false },
        Message::SemaphoreGrant { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreBusy { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreCancel { semaphore: SEMAPHORE, ticket },
        Message::SemaphorePost { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreReturn { semaphore: SEMAPHORE },
        Message::SemaphoreDone { semaphore: SEMAPHORE, ticket },
        Message::SemaphoreMismatch { semaphore: SEMAPHORE, ticket, first: 7 },
        Message::SemaphoreFull { semaphore: SEMAPHORE, ticket },
        Message::ConditionWait { condition: CONDITION, ticket },
        Message::ConditionQueued { condition: CONDITION, ticket },
        Message::ConditionSignal { condition: CONDITION, all: false },
        Message::ConditionSignal { condition: CONDITION, all: true },
        Message::ConditionWoken { condition: CONDITION, ticket },
        Message::ConditionCancel { condition: CONDITION, ticket },
        Message::ConditionWithdrawn { condition: CONDITION, ticket },
        Message::Goodbye,
        Message::Leaving,
    ];
    all.extend(atomics(page, ticket));
    all.extend(messages_about_ranges());
    all.extend(updates(page, node));
    all.extend(messages_of_locks());
    all.extend(meetings(ticket));
    all.extend(messages_of_reader_writer_locks(ticket, node));
    all.extend(about_trees());
    all.extend(about_drops(page, node));
    all.extend(about_hints(page, node));
    all.extend(questions_of_holds());
    for access in [Access::Read, Access::Write] {
        all.push(Message::PageRequest { page, request, access });
        all.push(Message::Data { page, request, access });
        all.push(Message::Fetch { page, request, access, requester: node });
        for zero in [false, true] {
            all.push(Message::Grant { page, request, access, zero });
        }
    }
    for owner in [PageOwner::Nobody, PageOwner::Node(node), PageOwner::Lost(node)] {
        all.push(Message::OwnerReply { page, ticket, owner });
    }
    for refusal in [
        RegionRefusal::SizeDiffers { pages: 9 },
        RegionRefusal::OptionsDiffer,
        RegionRefusal::AddressDiffers { address: 4096 },
        RegionRefusal::AddressTaken { node, address: 8192 },
        RegionRefusal::Exhausted,
    ] {
        all.push(Message::RegionRefused { ticket, refusal });
    }
    all
}

#[test]
fn every_message_survives_the_wire() {
    let mut seen = std::collections::BTreeSet::new();
    for message in every_message() {
        let mut bytes = [0xff; Message::MAX_BYTES];
        let length = message.encode(View(9), &mut bytes);
        assert_eq!(Message::decode(&bytes[..length]), Ok((View(9), message)));
        seen.insert(bytes[0]);
    }
    assert_eq!(seen.len(), kind::ALL.len(), "a kind is missing from this test");
}

#[test]
fn the_wire_document_lists_every_kind() {
    let document = include_str!("../../../../docs/wire.md");
    for (name, value) in kind::ALL {
        let row = format!("| {value} | {name} |");
        assert!(document.contains(&row), "docs/wire.md lacks the row that begins {row}");
    }
}

#[test]
fn a_request_is_laid_out_as_documented() {
    let page = PageAddress::new(RegionId(0x0201), 0x0807_0605_0403_0201);
    let message = Message::PageRequest { page, request: RequestId(0x0403_0201), access: Access::Write };
    let mut bytes = [0; Message::MAX_BYTES];
    assert_eq!(message.encode(View(0x0403_0201), &mut bytes), 32);
    let expected = [
        1, 1, 1, 2, 1, 2, 3, 4, // kind, access, region, view
        1, 2, 3, 4, 5, 6, 7, 8, // page
        1, 2, 3, 4, 0, 0, 0, 0, // request, node, round
        0, 0, 0, 0, 0, 0, 0, 0, // number
    ];
    assert_eq!(bytes[..32], expected);
}

#[test]
fn every_protocol_placement_and_unit_survives_the_wire() {
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release, Protocol::Entry] {
        for placement in
            [Placement::Cyclic, Placement::Single(NodeId::new(1023)), Placement::Block, Placement::FirstTouch]
        {
            for unit in Unit::ALL {
                let spec = RegionSpec { placement, protocol, unit, ..spec() };
                let message = Message::RegionMap { region: RegionId(1), round: 2, spec };
                let mut bytes = [0xff; Message::MAX_BYTES];
                let length = message.encode(View(9), &mut bytes);
                assert_eq!(Message::decode(&bytes[..length]), Ok((View(9), message)));
            }
        }
    }
}

#[test]
fn wrong_lengths_and_values_are_named() {
    let mut bytes = [0; Message::MAX_BYTES];
    let length = Message::Goodbye.encode(View(1), &mut bytes);
    for cut in 0..length {
        assert!(matches!(Message::decode(&bytes[..cut]), Err(DecodeError::Length { .. })));
    }
    bytes[0] = 200;
    assert_eq!(Message::decode(&bytes[..32]), Err(DecodeError::Kind(200)));
    let length = Message::RegionOpen { ticket: Ticket::new(0, 0), create: true, spec: spec() }
        .encode(View(1), &mut bytes);
    bytes[32 + 20] = 64;
    assert!(matches!(Message::decode(&bytes[..length]), Err(DecodeError::Field { .. })));
    let (page, ticket) = (PageAddress::new(RegionId(0), 1), Ticket::new(0, 0));
    for (place, value) in [(22, 0), (1, 3), (32, 1)] {
        let operation = atomic(511, AtomicChange::Add(1));
        let length = Message::AtomicRequest { page, ticket, operation }.encode(View(1), &mut bytes);
        assert!(Message::decode(&bytes[..length]).is_ok());
        if place == 22 {
            // The word after the last.
            bytes[22..24].copy_from_slice(&512_u16.to_le_bytes());
        } else {
            bytes[place] = value;
        }
        assert!(matches!(Message::decode(&bytes[..length]), Err(DecodeError::Field { .. })), "byte {place}");
        assert!(matches!(Message::decode(&bytes[..32]), Err(DecodeError::Length { .. })));
    }
}

#[test]
fn no_range_is_empty_or_ends_beyond_all_numbers() {
    let (region, ticket) = (RegionId(1), Ticket::new(1, 1));
    let refused = |start, bytes| {
        let range = ByteRange { region, start, bytes };
        let mut out = [0; Message::MAX_BYTES];
        let length = Message::RangeRelease { range, ticket, unused: false }.encode(View(1), &mut out);
        let release = Message::decode(&out[..length]);
        let length = Message::RangeWrite { range, ticket }.encode(View(1), &mut out);
        (release.is_err(), Message::decode(&out[..length]).is_err())
    };
    assert_eq!(refused(0, 0), (true, true));
    assert_eq!(refused(u64::MAX, 1), (true, true));
    assert_eq!(refused(0, 4097), (false, true), "one message carries a page at most");
    assert_eq!(refused(u64::MAX - 4096, 4096), (false, false));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..140)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn what_decodes_encodes_to_an_equal_message(
        kind in (0u8..225).prop_filter("kinds that are not used", |kind| !(183..210).contains(kind) && !(216..220).contains(kind) && !(160..180).contains(kind) && !(105..110).contains(kind) && !(114..120).contains(kind) && !(128..140).contains(kind) && !(150..156).contains(kind)), mut bytes in proptest::collection::vec(any::<u8>(), 120), small in any::<bool>()
    ) {
        bytes[0] = kind;
        if small { bytes[1] &= 3; bytes[20] = 1; bytes[21] = 0; }
        for length in [32, 40, 120] {
            if let Ok((view, message)) = Message::decode(&bytes[..length]) {
                let mut again = [0; Message::MAX_BYTES];
                let written = message.encode(view, &mut again);
                prop_assert_eq!(Message::decode(&again[..written]), Ok((view, message)));
            }
        }
    }
}
