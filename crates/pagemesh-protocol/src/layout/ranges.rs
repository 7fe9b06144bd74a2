//! The layout of messages about locked ranges of entry regions.

use super::{DecodeError, Fields, access_bit, kind};
use crate::ids::{Access, ByteRange, NodeId, RegionId, Ticket};
use crate::limits::RANGE_PIECE_BYTES;
use crate::message::Message;

/// Added to an access: the call does not stand in line.
const TRIES: u8 = 2;

/// The fixed part of `message`, if it is one of these.
pub(super) fn fields(message: &Message) -> Option<Fields> {
    Some(match *message {
        Message::RangeAcquire { range, ticket, access, waits, .. } => Fields {
            detail: access_bit(access) | if waits { 0 } else { TRIES },
            ..on_range(kind::RANGE_ACQUIRE, range, ticket)
        },
        Message::RangeGrant { region, ticket, stamp, died } => Fields {
            detail: u8::from(died.is_some()),
            node: died.map_or(0, NodeId::get),
            number: stamp,
            ..in_region(kind::RANGE_GRANT, region, ticket)
        },
        Message::RangeBusy { region, ticket } => in_region(kind::RANGE_BUSY, region, ticket),
        Message::RangeRelease { range, ticket, unused } => {
            Fields { detail: u8::from(unused), ..on_range(kind::RANGE_RELEASE, range, ticket) }
        }
        Message::RangeBytes { range, ticket } => on_range(kind::RANGE_BYTES, range, ticket),
        Message::RangePart { region, ticket, next } => {
            Fields { name: next, ..in_region(kind::RANGE_PART, region, ticket) }
        }
        Message::RangeMore { range, ticket, .. } => on_range(kind::RANGE_MORE, range, ticket),
        Message::RangeWrite { range, ticket } => on_range(kind::RANGE_WRITE, range, ticket),
        _ => return None,
    })
}

fn in_region(kind: u8, region: RegionId, ticket: Ticket) -> Fields {
    Fields { kind, region: region.0, word: ticket.to_wire(), ..Fields::default() }
}

fn on_range(kind: u8, range: ByteRange, ticket: Ticket) -> Fields {
    Fields { name: range.start, number: range.bytes, ..in_region(kind, range.region, ticket) }
}

pub(super) fn decode(f: &Fields, rest: &[u8]) -> Result<Message, DecodeError> {
    let (region, ticket) = (RegionId(f.region), f.ticket());
    let since = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(match f.kind {
        kind::RANGE_ACQUIRE if f.detail > (1 | TRIES) => return Err(f.bad("detail", f.detail as u64)),
        kind::RANGE_ACQUIRE => {
            let access = if f.detail & 1 == 0 { Access::Read } else { Access::Write };
            let waits = f.detail & TRIES == 0;
            Message::RangeAcquire { range: range(f, u64::MAX)?, ticket, access, waits, since }
        }
        kind::RANGE_GRANT => {
            let died = if f.flag()? { Some(f.node()?) } else { None };
            Message::RangeGrant { region, ticket, stamp: f.number, died }
        }
        kind::RANGE_BUSY => Message::RangeBusy { region, ticket },
        kind::RANGE_RELEASE => {
            Message::RangeRelease { range: range(f, u64::MAX)?, ticket, unused: f.flag()? }
        }
        kind::RANGE_BYTES => Message::RangeBytes { range: range(f, RANGE_PIECE_BYTES)?, ticket },
        kind::RANGE_PART => Message::RangePart { region, ticket, next: f.name },
        kind::RANGE_MORE => Message::RangeMore { range: range(f, u64::MAX)?, ticket, since },
        kind::RANGE_WRITE => Message::RangeWrite { range: range(f, RANGE_PIECE_BYTES)?, ticket },
        other => return Err(DecodeError::Kind(other)),
    })
}

/// A range of at least one byte and at most `most`, whose end is a number too.
fn range(f: &Fields, most: u64) -> Result<ByteRange, DecodeError> {
    if f.number == 0 || f.number > most || f.name.checked_add(f.number).is_none() {
        return Err(f.bad("bytes of the range", f.number));
    }
    Ok(ByteRange { region: RegionId(f.region), start: f.name, bytes: f.number })
}
