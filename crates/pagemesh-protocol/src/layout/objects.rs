//! The layout of messages about reader-writer locks, semaphores and condition variables.

use super::{DecodeError, Fields, access_bit, kind, named};
use crate::ids::{ConditionId, NodeId, RwLockId, SemaphoreId, Ticket};
use crate::limits::SEMAPHORE_UNITS;
use crate::message::{HandOver, Message, Named};

/// Added to an access or alone: the call does not stand in line.
const TRIES: u8 = 2;

pub(super) fn fields(message: &Message) -> Fields {
    match *message {
        Message::RwAcquire { lock, ticket, access, waits } => Fields {
            detail: access_bit(access) | if waits { 0 } else { TRIES },
            ..named(kind::RW_ACQUIRE, lock.0, ticket)
        },
        Message::RwGrant { lock, ticket, died } => Fields {
            detail: u8::from(died.is_some()),
            node: died.map_or(0, NodeId::get),
            ..named(kind::RW_GRANT, lock.0, ticket)
        },
        Message::RwBusy { lock, ticket } => named(kind::RW_BUSY, lock.0, ticket),
        Message::RwRelease { lock, ticket } => named(kind::RW_RELEASE, lock.0, ticket),
        Message::RwLeave { lock, ticket, access } => {
            Fields { detail: access_bit(access), ..named(kind::RW_LEAVE, lock.0, ticket) }
        }
        Message::RwRecall { lock, next } => {
            let (detail, node, number) =
                next.map_or((0, 0, 0), |(node, ticket)| (1, node.get(), ticket.to_wire() as u64));
            Fields { kind: kind::RW_RECALL, detail, name: lock.0, node, number, ..Fields::default() }
        }
        Message::RwHold { lock, ticket, access } => {
            Fields { detail: access_bit(access), ..named(kind::RW_HOLD, lock.0, ticket) }
        }
        Message::RwYield { lock, next } => {
            let detail = match next {
                Named::Left => 0,
                Named::LetIn => 1,
                Named::KeptInMind => 2,
            };
            Fields { kind: kind::RW_YIELD, detail, name: lock.0, ..Fields::default() }
        }
        Message::RwHandOver { lock, ticket, step } => {
            let (detail, node, number) = match step {
                HandOver::Forget => (0, 0, 0),
                HandOver::Next { node, ticket } => (1, node.get(), ticket.to_wire() as u64),
                HandOver::Passed { count } => (2, 0, count as u64),
                HandOver::Forgotten => (3, 0, 0),
            };
            Fields { detail, node, number, ..named(kind::RW_HAND_OVER, lock.0, ticket) }
        }
        Message::SemaphoreInit { semaphore, ticket, value } => {
            Fields { number: value as u64, ..named(kind::SEMAPHORE_INIT, semaphore.0, ticket) }
        }
        Message::SemaphoreWait { semaphore, ticket, waits } => {
            Fields { detail: u8::from(!waits), ..named(kind::SEMAPHORE_WAIT, semaphore.0, ticket) }
        }
        Message::SemaphoreGrant { semaphore, ticket } => named(kind::SEMAPHORE_GRANT, semaphore.0, ticket),
        Message::SemaphoreBusy { semaphore, ticket } => named(kind::SEMAPHORE_BUSY, semaphore.0, ticket),
        Message::SemaphoreCancel { semaphore, ticket } => named(kind::SEMAPHORE_CANCEL, semaphore.0, ticket),
        Message::SemaphorePost { semaphore, ticket } => named(kind::SEMAPHORE_POST, semaphore.0, ticket),
        Message::SemaphoreReturn { semaphore } => {
            Fields { kind: kind::SEMAPHORE_RETURN, name: semaphore.0, ..Fields::default() }
        }
        Message::SemaphoreDone { semaphore, ticket } => named(kind::SEMAPHORE_DONE, semaphore.0, ticket),
        Message::SemaphoreMismatch { semaphore, ticket, first } => {
            Fields { number: first as u64, ..named(kind::SEMAPHORE_MISMATCH, semaphore.0, ticket) }
        }
        Message::SemaphoreFull { semaphore, ticket } => named(kind::SEMAPHORE_FULL, semaphore.0, ticket),
        _ => condition_fields(message),
    }
}

fn condition_fields(message: &Message) -> Fields {
    let about = |kind, condition: ConditionId, ticket: Ticket| named(kind, condition.0, ticket);
    match *message {
        Message::ConditionWait { condition, ticket } => about(kind::CONDITION_WAIT, condition, ticket),
        Message::ConditionQueued { condition, ticket } => about(kind::CONDITION_QUEUED, condition, ticket),
        Message::ConditionSignal { condition, all } => Fields {
            kind: kind::CONDITION_SIGNAL,
            detail: u8::from(all),
            name: condition.0,
            ..Fields::default()
        },
        Message::ConditionWoken { condition, ticket } => about(kind::CONDITION_WOKEN, condition, ticket),
        Message::ConditionCancel { condition, ticket } => about(kind::CONDITION_CANCEL, condition, ticket),
        Message::ConditionWithdrawn { condition, ticket } => {
            about(kind::CONDITION_WITHDRAWN, condition, ticket)
        }
        _ => unreachable!("every other message is encoded by the caller"),
    }
}

pub(super) fn decode(f: &Fields) -> Result<Message, DecodeError> {
    let (lock, semaphore, condition) = (RwLockId(f.name), SemaphoreId(f.name), ConditionId(f.name));
    let ticket = f.ticket();
    let units = || {
        let units = u32::try_from(f.number).ok().filter(|units| *units <= SEMAPHORE_UNITS);
        units.ok_or_else(|| f.bad("units", f.number))
    };
    let other = || {
        let name = u32::try_from(f.number).map_err(|_| f.bad("ticket of the next", f.number))?;
        Ok(Ticket::from_wire(name))
    };
    let count = || {
        let count = u32::try_from(f.number).ok().filter(|count| *count > 0);
        count.ok_or_else(|| f.bad("count", f.number))
    };
    Ok(match f.kind {
        kind::RW_ACQUIRE if f.detail > TRIES | 1 => return Err(f.bad("detail", f.detail as u64)),
        kind::RW_ACQUIRE => {
            Message::RwAcquire { lock, ticket, access: f.access(), waits: f.detail & TRIES == 0 }
        }
        kind::RW_GRANT => {
            let died = if f.flag()? { Some(f.node()?) } else { None };
            Message::RwGrant { lock, ticket, died }
        }
        kind::RW_BUSY => Message::RwBusy { lock, ticket },
        kind::RW_RELEASE => Message::RwRelease { lock, ticket },
        kind::RW_LEAVE | kind::RW_HOLD if f.detail > 1 => return Err(f.bad("detail", f.detail as u64)),
        kind::RW_LEAVE => Message::RwLeave { lock, ticket, access: f.access() },
        kind::RW_RECALL => {
            let next = if f.flag()? { Some((f.node()?, other()?)) } else { None };
            Message::RwRecall { lock, next }
        }
        kind::RW_HOLD => Message::RwHold { lock, ticket, access: f.access() },
        kind::RW_YIELD => {
            let next = match f.detail {
                0 => Named::Left,
                1 => Named::LetIn,
                2 => Named::KeptInMind,
                strange => return Err(f.bad("detail", strange as u64)),
            };
            Message::RwYield { lock, next }
        }
        kind::RW_HAND_OVER => {
            let step = match f.detail {
                0 => HandOver::Forget,
                1 => HandOver::Next { node: f.node()?, ticket: other()? },
                2 => HandOver::Passed { count: count()? },
                3 => HandOver::Forgotten,
                strange => return Err(f.bad("detail", strange as u64)),
            };
            Message::RwHandOver { lock, ticket, step }
        }
        kind::SEMAPHORE_INIT => Message::SemaphoreInit { semaphore, ticket, value: units()? },
        kind::SEMAPHORE_WAIT => Message::SemaphoreWait { semaphore, ticket, waits: !f.flag()? },
        kind::SEMAPHORE_GRANT => Message::SemaphoreGrant { semaphore, ticket },
        kind::SEMAPHORE_BUSY => Message::SemaphoreBusy { semaphore, ticket },
        kind::SEMAPHORE_CANCEL => Message::SemaphoreCancel { semaphore, ticket },
        kind::SEMAPHORE_POST => Message::SemaphorePost { semaphore, ticket },
        kind::SEMAPHORE_RETURN => Message::SemaphoreReturn { semaphore },
        kind::SEMAPHORE_DONE => Message::SemaphoreDone { semaphore, ticket },
        kind::SEMAPHORE_MISMATCH => Message::SemaphoreMismatch { semaphore, ticket, first: units()? },
        kind::SEMAPHORE_FULL => Message::SemaphoreFull { semaphore, ticket },
        kind::CONDITION_WAIT => Message::ConditionWait { condition, ticket },
        kind::CONDITION_QUEUED => Message::ConditionQueued { condition, ticket },
        kind::CONDITION_SIGNAL => Message::ConditionSignal { condition, all: f.flag()? },
        kind::CONDITION_WOKEN => Message::ConditionWoken { condition, ticket },
        kind::CONDITION_CANCEL => Message::ConditionCancel { condition, ticket },
        kind::CONDITION_WITHDRAWN => Message::ConditionWithdrawn { condition, ticket },
        other => return Err(DecodeError::Kind(other)),
    })
}
