//! What every waiting call of this node waits for.

use super::conditions::ConditionWait;
use super::pins::PinId;
use crate::atomic::AtomicOperation;
use crate::ids::{Access, BarrierId, ByteRange, LockId, NodeId, PageAddress, RwLockId, SemaphoreId, Ticket};

/// What a page is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Purpose {
    /// A thread touches it next, and it is held until then.
    Touch,
    /// It may be touched some time.
    Prefetch,
    /// It stays for this pin.
    Pin(PinId),
    /// For this to be done to it.
    Atomic(AtomicOperation),
}

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Wait {
    /// Nothing: the slot is free.
    Idle,
    /// A page; `next` is the slot of the next call that waits for it.
    Page { page: PageAddress, access: Access, purpose: Purpose, next: Option<u16> },
    /// Nothing any more: it has the page, and its thread has not gone on yet.
    Resuming(PageAddress),
    /// The owner of a page, from the node that was asked.
    Owner { page: PageAddress, asked: NodeId },
    /// The home of a page, from its anchor.
    Home { page: PageAddress, asked: NodeId },
    /// An atomic operation on a page, by the page's home, which was asked.
    Atomic { page: PageAddress, asked: NodeId },
    /// The home of a page, from its anchor, that is to be asked for an atomic operation.
    AtomicHome { page: PageAddress, asked: NodeId, operation: AtomicOperation },
    /// All nodes, to meet.
    Meeting,
    /// What `root` passes on in this round.
    Pieces { root: NodeId, round: u64 },
    /// A lock.
    Lock(LockId),
    /// A barrier.
    Barrier(BarrierId),
    /// A reader-writer lock. Of several calls for it, the one with the smaller `order` came first.
    RwLock { lock: RwLockId, access: Access, waits: bool, order: u64 },
    /// A unit of a semaphore.
    Semaphore(SemaphoreId),
    /// The answer to a unit or a value that was given to a semaphore.
    SemaphoreAnswer(SemaphoreId),
    /// A signal.
    Condition(ConditionWait),
    /// A range of an entry region, of which all is here that was written up to `since`.
    Range { range: ByteRange, since: u64 },
    /// A region.
    Region,
    /// The coordinator, to count that a region was closed.
    RegionClose,
    /// All others, to be done too.
    Leave,
}

#[derive(Clone, Debug)]
pub(super) struct Tickets {
    slots: Vec<(Ticket, Wait)>,
}

impl Tickets {
    pub(super) fn new(count: usize) -> Tickets {
        Tickets { slots: vec![(Ticket::new(0, 0), Wait::Idle); count] }
    }

    /// Records that `ticket` waits.
    ///
    /// # Panics
    /// When its slot is already waiting: the runtime gives a slot to one call at a time.
    pub(super) fn begin(&mut self, ticket: Ticket, wait: Wait) {
        let slot = &mut self.slots[ticket.slot as usize];
        assert_eq!(slot.1, Wait::Idle, "ticket slot {} is waiting already", ticket.slot);
        *slot = (ticket, wait);
    }

    /// Frees the slot of `ticket`; false when `ticket` does not wait (any more).
    pub(super) fn end(&mut self, ticket: Ticket) -> bool {
        match self.slots.get_mut(ticket.slot as usize) {
            Some((holder, wait)) if *holder == ticket && *wait != Wait::Idle => {
                *wait = Wait::Idle;
                true
            }
            _ => false,
        }
    }

    pub(super) fn wait(&self, ticket: Ticket) -> Wait {
        match self.slots.get(ticket.slot as usize) {
            Some((holder, wait)) if *holder == ticket => *wait,
            _ => Wait::Idle,
        }
    }

    /// The call in `slot` and what it waits for.
    pub(super) fn slot(&self, slot: u16) -> (Ticket, Wait) {
        self.slots[slot as usize]
    }

    /// Puts `slot` before `next` in the list of those who wait for a page.
    pub(super) fn link(&mut self, slot: u16, to: Option<u16>) {
        if let Wait::Page { next, .. } = &mut self.slots[slot as usize].1 {
            *next = to;
        }
    }

    /// Calls that wait, in the order of their slots.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Ticket, Wait)> {
        self.slots.iter().copied().filter(|(_, wait)| *wait != Wait::Idle)
    }

    pub(super) fn all_idle(&self) -> bool {
        self.waiting().next().is_none()
    }
}
