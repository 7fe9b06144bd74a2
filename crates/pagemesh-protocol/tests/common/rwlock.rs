//! What is said about reader-writer locks of four nodes, most of it about one.

use super::{node, number_at, ticket};
use pagemesh_protocol::{Access, HandOver, Message, RwLockId};

/// The home of all these locks.
pub(crate) const HOME: u16 = 1;

pub(crate) fn numbered(place: usize) -> RwLockId {
    RwLockId(number_at(HOME, 4, place))
}

pub(crate) fn lock() -> RwLockId {
    numbered(0)
}

pub(crate) fn acquire(slot: u16, access: Access) -> Message {
    Message::RwAcquire { lock: lock(), ticket: ticket(slot), access, waits: true }
}

pub(crate) fn attempt(slot: u16, access: Access) -> Message {
    Message::RwAcquire { lock: lock(), ticket: ticket(slot), access, waits: false }
}

pub(crate) fn release(slot: u16) -> Message {
    Message::RwRelease { lock: lock(), ticket: ticket(slot) }
}

pub(crate) fn granted(slot: u16) -> Message {
    Message::RwGrant { lock: lock(), ticket: ticket(slot), died: None }
}

pub(crate) fn died(slot: u16, writer: u16) -> Message {
    Message::RwGrant { lock: lock(), ticket: ticket(slot), died: Some(node(writer)) }
}

fn hand_over(slot: u16, step: HandOver) -> Message {
    Message::RwHandOver { lock: lock(), ticket: ticket(slot), step }
}

/// After call `slot` of the receiver comes that call of node `to`.
pub(crate) fn next(slot: u16, to: u16, its: u16) -> Message {
    hand_over(slot, HandOver::Next { node: node(to), ticket: ticket(its) })
}

/// Call `slot` of the sender has let in so many.
pub(crate) fn passed(slot: u16, count: u32) -> Message {
    hand_over(slot, HandOver::Passed { count })
}

pub(crate) fn forget(slot: u16) -> Message {
    hand_over(slot, HandOver::Forget)
}

pub(crate) fn forgotten(slot: u16) -> Message {
    hand_over(slot, HandOver::Forgotten)
}

pub(crate) fn busy(slot: u16) -> Message {
    Message::RwBusy { lock: lock(), ticket: ticket(slot) }
}
