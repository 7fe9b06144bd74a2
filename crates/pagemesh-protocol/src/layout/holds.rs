//! The layout of messages about who holds what is waited for in vain.

use super::{DecodeError, Fields, kind};
use crate::ids::{Access, BarrierId, ByteRange, LockId, RegionId, RwLockId, SemaphoreId};
use crate::message::{Message, SyncObject};

/// The fixed part of `message`, if it is one of these.
pub(super) fn fields(message: &Message) -> Option<Fields> {
    match *message {
        Message::HoldQuery { object, question } => {
            let (detail, name) = match object {
                SyncObject::Lock(LockId(name)) => (0, name),
                SyncObject::RwLock(RwLockId(name)) => (1, name),
                SyncObject::Semaphore(SemaphoreId(name)) => (2, name),
                SyncObject::Barrier(BarrierId(name)) => (3, name),
                SyncObject::Range(range) => (4, range.start),
            };
            let (region, number) = match object {
                SyncObject::Range(range) => (range.region.0, range.bytes),
                _ => (0, 0),
            };
            let kind = kind::HOLD_QUERY;
            Some(Fields { kind, detail, region, name, word: question, number, ..Fields::default() })
        }
        Message::HoldReply { question, hold, waiting, since_ms } => Some(Fields {
            kind: kind::HOLD_REPLY,
            detail: match hold {
                None => 0,
                Some(Access::Read) => 1,
                Some(Access::Write) => 2,
            },
            name: u64::from(waiting),
            word: question,
            number: since_ms,
            ..Fields::default()
        }),
        _ => None,
    }
}

pub(super) fn decode(f: &Fields) -> Result<Message, DecodeError> {
    let question = f.word;
    Ok(match f.kind {
        kind::HOLD_QUERY => {
            let object = match f.detail {
                0 => SyncObject::Lock(LockId(f.name)),
                1 => SyncObject::RwLock(RwLockId(f.name)),
                2 => SyncObject::Semaphore(SemaphoreId(f.name)),
                3 => SyncObject::Barrier(BarrierId(f.name)),
                4 if f.number == 0 || f.name.checked_add(f.number).is_none() => {
                    return Err(f.bad("bytes of the range", f.number));
                }
                4 => SyncObject::Range(ByteRange {
                    region: RegionId(f.region),
                    start: f.name,
                    bytes: f.number,
                }),
                other => return Err(f.bad("object", u64::from(other))),
            };
            Message::HoldQuery { object, question }
        }
        kind::HOLD_REPLY => {
            let hold = match f.detail {
                0 => None,
                1 => Some(Access::Read),
                2 => Some(Access::Write),
                other => return Err(f.bad("hold", u64::from(other))),
            };
            let waiting = u32::try_from(f.name).map_err(|_| f.bad("calls that wait", f.name))?;
            Message::HoldReply { question, hold, waiting, since_ms: f.number }
        }
        other => return Err(DecodeError::Kind(other)),
    })
}
