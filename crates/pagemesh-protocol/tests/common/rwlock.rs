//! What is said about reader-writer locks of four nodes, most of it about one.

use super::{node, number_at, ticket};
use pagemesh_protocol::{Access, Message, RwLockId};

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

pub(crate) fn busy(slot: u16) -> Message {
    Message::RwBusy { lock: lock(), ticket: ticket(slot) }
}
