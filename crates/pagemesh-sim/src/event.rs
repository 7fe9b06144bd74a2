//! What is told to an engine, as plain data, and who waits for what.

use pagemesh_protocol::{
    Access, AtomicOperation, BarrierId, LockId, Message, NodeId, PageAddress, PinHolder, PinId, PinWait,
    RegionId, RegionSpec, Ticket,
};

/// Words of a simulated page: enough for several threads to share it falsely.
pub(crate) const WORDS: usize = 8;

/// The bytes of a page.
pub(crate) type Words = [u64; WORDS];

/// One call of an engine's `on_*` methods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Message { from: NodeId, message: Message, payload: Option<Words> },
    Fault { ticket: Ticket, page: PageAddress, access: Access },
    Prefetch { ticket: Ticket, page: PageAddress, access: Access },
    Evict { page: PageAddress },
    Resumed { ticket: Ticket },
    Postponed,
    Pin { ticket: Ticket, pin: PinId, holder: PinHolder, page: PageAddress, access: Access },
    Unpin { pin: PinId },
    PinsExpired { up_to: PinWait },
    OwnerQuery { ticket: Ticket, page: PageAddress },
    HomeQuery { ticket: Ticket, page: PageAddress },
    LockAcquire { ticket: Ticket, lock: LockId },
    LockTry { ticket: Ticket, lock: LockId },
    LockRelease { ticket: Ticket, lock: LockId },
    BarrierArrive { ticket: Ticket, barrier: BarrierId, participants: u32 },
    RegionOpen { ticket: Ticket, create: bool, spec: RegionSpec },
    RegionMapped { region: RegionId, round: u16, mapped: bool },
    RegionForgotten { region: RegionId },
    Atomic { ticket: Ticket, page: PageAddress, operation: AtomicOperation },
    AtomicGiveUp { ticket: Ticket },
    Cancel { ticket: Ticket },
    PeerLost { node: NodeId },
    Leave { ticket: Ticket },
}

/// What a waiting call wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Page {
        page: PageAddress,
        access: Access,
    },
    Pin {
        pin: PinId,
        page: PageAddress,
        access: Access,
    },
    /// `touched`: whether somebody had used the page before the question was asked.
    Owner {
        page: PageAddress,
        touched: bool,
    },
    /// As with the owner.
    Home {
        page: PageAddress,
        touched: bool,
    },
    /// An atomic operation on this page.
    Atomic {
        page: PageAddress,
    },
    Lock(LockId),
    Barrier(BarrierId),
    /// Which of the configuration's regions.
    Region(usize),
    Leave,
}

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// A simulated application thread, by its index.
    Thread(usize),
    /// A thread that does not wait for it.
    Background,
    /// The node itself, or a test that drives the world by hand.
    Script,
}

impl Event {
    /// The page that the event is about.
    pub(crate) fn page(&self) -> Option<PageAddress> {
        match self {
            Event::Message { message, .. } => page_of(message),
            Event::Fault { page, .. }
            | Event::Prefetch { page, .. }
            | Event::Evict { page }
            | Event::Atomic { page, .. }
            | Event::OwnerQuery { page, .. }
            | Event::HomeQuery { page, .. } => Some(*page),
            _ => None,
        }
    }
}

/// The page that a message is about.
pub(crate) fn page_of(message: &Message) -> Option<PageAddress> {
    match *message {
        Message::PageRequest { page, .. }
        | Message::Data { page, .. }
        | Message::Grant { page, .. }
        | Message::Deny { page, .. }
        | Message::Fetch { page, .. }
        | Message::Done { page, .. }
        | Message::Recall { page, .. }
        | Message::Invalidate { page }
        | Message::InvalidateAck { page }
        | Message::Collect { page, .. }
        | Message::Hint { page, .. }
        | Message::Evict { page }
        | Message::AtomicRequest { page, .. }
        | Message::AtomicForward { page, .. }
        | Message::AtomicDone { page, .. }
        | Message::AtomicReply { page, .. }
        | Message::AtomicDeny { page, .. } => Some(page),
        _ => None,
    }
}
