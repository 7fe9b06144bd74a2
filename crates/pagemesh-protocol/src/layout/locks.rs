//! The layout of messages about mutual-exclusion locks.

use super::{DecodeError, Fields, kind, named};
use crate::ids::{LockId, NodeId, Ticket};
use crate::message::Message;

/// The token comes with the news of who was lost with it.
const DIED: u8 = 1;
/// The token is for one who tries.
const WANTED: u8 = 2;

fn with_news(kind: u8, lock: LockId, ticket: Ticket, died: Option<NodeId>) -> Fields {
    let (detail, node) = (u8::from(died.is_some()), died.map_or(0, NodeId::get));
    Fields { detail, node, ..named(kind, lock.0, ticket) }
}

pub(super) fn fields(message: &Message) -> Fields {
    let about = |kind, lock: LockId, ticket| named(kind, lock.0, ticket);
    match *message {
        Message::LockAcquire { lock, ticket } => about(kind::LOCK_ACQUIRE, lock, ticket),
        Message::LockTry { lock, ticket } => about(kind::LOCK_TRY, lock, ticket),
        Message::LockBusy { lock, ticket } => about(kind::LOCK_BUSY, lock, ticket),
        Message::LockGrant { lock, ticket, died } => with_news(kind::LOCK_GRANT, lock, ticket, died),
        Message::LockRelease { lock, ticket, died, wanted } => {
            let fields = with_news(kind::LOCK_RELEASE, lock, ticket, died);
            match wanted {
                None => fields,
                Some((node, wanted)) => Fields {
                    detail: fields.detail | WANTED,
                    round: node.get(),
                    number: wanted.to_wire() as u64,
                    ..fields
                },
            }
        }
        Message::LockForward { lock, ticket, node, wanted, waits } => Fields {
            detail: u8::from(!waits),
            node: node.get(),
            number: wanted.to_wire() as u64,
            ..about(kind::LOCK_FORWARD, lock, ticket)
        },
        Message::LockQuery { lock, round } => {
            Fields { kind: kind::LOCK_QUERY, name: lock.0, number: round, ..Fields::default() }
        }
        Message::LockState { lock, round, state } => {
            let (detail, word) = match state {
                None => (0, 0),
                Some((name, has)) => (1 + u8::from(has), name.to_wire()),
            };
            let name = lock.0;
            Fields { kind: kind::LOCK_STATE, detail, name, word, number: round, ..Fields::default() }
        }
        Message::LockCut { node } => Fields { kind: kind::LOCK_CUT, node: node.get(), ..Fields::default() },
        Message::LockHeld { lock, ticket, node } => {
            Fields { node: node.get(), ..about(kind::LOCK_HELD, lock, ticket) }
        }
        _ => unreachable!("every other message is encoded by the caller"),
    }
}

pub(super) fn decode(f: &Fields) -> Result<Message, DecodeError> {
    let (lock, ticket) = (LockId(f.name), f.ticket());
    let wanted = || {
        let name = u32::try_from(f.number).map_err(|_| f.bad("wanted ticket", f.number))?;
        Ok(Ticket::from_wire(name))
    };
    Ok(match f.kind {
        kind::LOCK_ACQUIRE => Message::LockAcquire { lock, ticket },
        kind::LOCK_TRY => Message::LockTry { lock, ticket },
        kind::LOCK_BUSY => Message::LockBusy { lock, ticket },
        kind::LOCK_GRANT => {
            let died = if f.flag()? { Some(f.node()?) } else { None };
            Message::LockGrant { lock, ticket, died }
        }
        kind::LOCK_RELEASE if f.detail > DIED | WANTED => return Err(f.bad("detail", f.detail as u64)),
        kind::LOCK_RELEASE => {
            let died = if f.detail & DIED != 0 { Some(f.node()?) } else { None };
            let wanted = if f.detail & WANTED != 0 {
                let node = NodeId::checked(f.round).ok_or_else(|| f.bad("wanted node", f.round as u64))?;
                Some((node, wanted()?))
            } else {
                None
            };
            Message::LockRelease { lock, ticket, died, wanted }
        }
        kind::LOCK_FORWARD => {
            Message::LockForward { lock, ticket, node: f.node()?, wanted: wanted()?, waits: !f.flag()? }
        }
        kind::LOCK_QUERY => Message::LockQuery { lock, round: f.number },
        kind::LOCK_STATE => {
            let state = match f.detail {
                0 => None,
                1 | 2 => Some((ticket, f.detail == 2)),
                other => return Err(f.bad("detail", other as u64)),
            };
            Message::LockState { lock, round: f.number, state }
        }
        kind::LOCK_HELD => Message::LockHeld { lock, ticket, node: f.node()? },
        kind::LOCK_CUT => Message::LockCut { node: f.node()? },
        other => return Err(DecodeError::Kind(other)),
    })
}
