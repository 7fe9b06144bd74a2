//! The layout of messages to the byte: encoding, and decoding with every field checked.
//!
//! A message is 32 bytes, little-endian; those that speak of a region's properties are followed by 88 bytes more, and those
//! that ask for an atomic operation, or for bytes of a range, and updates, by 8. Page
//! bytes follow a message as the payload of its frame. `docs/wire.md` draws the layout and a test here reads it.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 1 | detail: access, flag or code, by kind |
//! | 2 | 2 | region |
//! | 4 | 4 | view |
//! | 8 | 8 | name: page, lock, barrier, semaphore or condition; first byte of a range |
//! | 16 | 4 | request or ticket |
//! | 20 | 2 | node |
//! | 22 | 2 | round |
//! | 24 | 8 | number |

use crate::action::{PageOwner, RegionRefusal};
use crate::ids::{Access, BarrierId, NodeId, PageAddress, RegionId, RequestId, Ticket, View};
use crate::limits::{REGION_NAME_BYTES, REGION_PAGES};
use crate::message::Message;
use crate::placement::{Placement, Protocol};
use crate::region::{RegionName, RegionSpec, Unit};
pub use runs::{Run, RunKind};

/// Bytes of every message's fixed part.
const FIXED_BYTES: usize = 32;
/// Bytes of a region's properties, where a message carries them.
const SPEC_BYTES: usize = 88;
/// Where the unit is in it, after the longest name.
const UNIT_AT: usize = 84;
/// Bytes of what a word is expected to be, where a message carries it.
const EXPECTED_BYTES: usize = 8;
/// Bytes of a time of a master, or of a second interval, where a message carries one.
const SINCE_BYTES: usize = 8;

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The length does not fit the kind.
    #[error("a message of kind {kind} has {expected} bytes, this one has {found}")]
    Length {
        /// First byte of the message, 0 when there was none.
        kind: u8,
        /// What the kind wants.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// The kind is not known to this version.
    #[error("unknown message kind {0}")]
    Kind(u8),
    /// A field holds a value that its type does not have.
    #[error("message kind {kind}: {field} cannot be {value}")]
    Field {
        /// The message kind.
        kind: u8,
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
}

/// The fields of the fixed part, before they mean anything.
#[derive(Default)]
struct Fields {
    kind: u8,
    detail: u8,
    region: u16,
    view: u32,
    name: u64,
    word: u32,
    node: u16,
    round: u16,
    number: u64,
}

impl Fields {
    fn write(&self, out: &mut [u8]) {
        out[0] = self.kind;
        out[1] = self.detail;
        out[2..4].copy_from_slice(&self.region.to_le_bytes());
        out[4..8].copy_from_slice(&self.view.to_le_bytes());
        out[8..16].copy_from_slice(&self.name.to_le_bytes());
        out[16..20].copy_from_slice(&self.word.to_le_bytes());
        out[20..22].copy_from_slice(&self.node.to_le_bytes());
        out[22..24].copy_from_slice(&self.round.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
    }

    fn read(bytes: &[u8; FIXED_BYTES]) -> Fields {
        let [kind, detail, r0, r1, v0, v1, v2, v3, n0, n1, n2, n3, n4, n5, n6, n7, rest @ ..] = *bytes;
        let [w0, w1, w2, w3, d0, d1, o0, o1, u0, u1, u2, u3, u4, u5, u6, u7] = rest;
        Fields {
            kind,
            detail,
            region: u16::from_le_bytes([r0, r1]),
            view: u32::from_le_bytes([v0, v1, v2, v3]),
            name: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            word: u32::from_le_bytes([w0, w1, w2, w3]),
            node: u16::from_le_bytes([d0, d1]),
            round: u16::from_le_bytes([o0, o1]),
            number: u64::from_le_bytes([u0, u1, u2, u3, u4, u5, u6, u7]),
        }
    }

    fn bad(&self, field: &'static str, value: u64) -> DecodeError {
        DecodeError::Field { kind: self.kind, field, value }
    }

    fn page(&self) -> PageAddress {
        PageAddress::new(RegionId(self.region), self.name)
    }

    fn request(&self) -> RequestId {
        RequestId(self.word)
    }

    fn ticket(&self) -> Ticket {
        Ticket::from_wire(self.word)
    }

    fn access(&self) -> Access {
        if self.detail & 1 == 0 { Access::Read } else { Access::Write }
    }

    fn flag(&self) -> Result<bool, DecodeError> {
        match self.detail {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.bad("flag", other as u64)),
        }
    }

    fn node(&self) -> Result<NodeId, DecodeError> {
        NodeId::checked(self.node).ok_or_else(|| self.bad("node", self.node as u64))
    }
}

fn access_bit(access: Access) -> u8 {
    match access {
        Access::Read => 0,
        Access::Write => 1,
    }
}

macro_rules! kinds {
    ($($name:ident = $value:literal),* $(,)?) => {
        /// First byte of each message; the numbers are for ever.
        mod kind {
            $(pub(super) const $name: u8 = $value;)*
            #[cfg(test)]
            pub(super) const ALL: &[(&str, u8)] = &[$((stringify!($name), $value)),*];
        }
    };
}

kinds! {
    PAGE_REQUEST = 1, DATA = 2, GRANT = 3, DENY = 4, FETCH = 5, DONE = 6, RECALL = 7, INVALIDATE = 8, INVALIDATE_ACK = 9,
    OWNER_QUERY = 10, OWNER_REPLY = 11, HOME_CLAIM = 12, HOME_NAMED = 13, HOME_QUERY = 14, HOME_REPLY = 15,
    LOCK_ACQUIRE = 16, LOCK_GRANT = 17, LOCK_RELEASE = 18, LOCK_TRY = 19,
    BARRIER_ARRIVE = 20, BARRIER_CANCEL = 21, BARRIER_RELEASE = 22, BARRIER_MISMATCH = 23, BARRIER_BROKEN = 24,
    SYNC_REFUSED = 25, LOCK_BUSY = 26,
    BARRIER_GATHERED = 165, BARRIER_OPENED = 166, BARRIER_DISSOLVE = 167, BARRIER_KNOWN = 168,
    REGION_OPEN = 32, REGION_MAP = 33, REGION_MAPPED = 34, REGION_DROP = 35, REGION_READY = 36, REGION_REFUSED = 37,
    REGION_BROKEN = 38,
    GOODBYE = 48, LEAVING = 49,
    REGION_CLOSE = 156, REGION_GONE = 157, REGION_FORGOTTEN = 158, REGION_CLOSED = 159,
    DIFF = 64, NEED = 65, WROTE = 66, TOLD = 67, KNOWS = 68, SETTLED = 69,
    EVICT = 70,
    RW_ACQUIRE = 80, RW_GRANT = 81, RW_BUSY = 82, RW_RELEASE = 83,
    SEMAPHORE_INIT = 84, SEMAPHORE_WAIT = 85, SEMAPHORE_GRANT = 86, SEMAPHORE_BUSY = 87, SEMAPHORE_CANCEL = 88,
    SEMAPHORE_POST = 89, SEMAPHORE_RETURN = 90, SEMAPHORE_DONE = 91, SEMAPHORE_MISMATCH = 92, SEMAPHORE_FULL = 93,
    CONDITION_WAIT = 94, CONDITION_QUEUED = 95, CONDITION_SIGNAL = 96, CONDITION_WOKEN = 97, CONDITION_CANCEL = 98,
    CONDITION_WITHDRAWN = 99,
    LEND = 110, LEND_REPLY = 111, CALL_IN = 112, RETURN = 113,
    ATOMIC_REQUEST = 140, ATOMIC_REPLY = 141, ATOMIC_DENY = 142, ATOMIC_FORWARD = 143, ATOMIC_DONE = 144,
    ATOMIC_CANCEL = 145, ATOMIC_WITHDRAWN = 146,
    RANGE_ACQUIRE = 120, RANGE_GRANT = 121, RANGE_BUSY = 122, RANGE_RELEASE = 123, RANGE_BYTES = 124, RANGE_PART = 125,
    RANGE_MORE = 126, RANGE_WRITE = 127,
    LOCK_FORWARD = 100, LOCK_QUERY = 101, LOCK_STATE = 102, LOCK_CUT = 103, LOCK_HELD = 104,
    MEETING_ARRIVE = 147, MEETING_OVER = 148, PIECE = 149,
    HOLD_QUERY = 150, HOLD_REPLY = 151,
    RW_LEAVE = 170, RW_RECALL = 171, RW_HOLD = 172, RW_YIELD = 173, RW_HAND_OVER = 190,
    FOLLOW = 180, UNFOLLOW = 181, UPDATE = 182,
    DROP = 210, DROPPED = 211, GRANT_AFTER = 212, DATA_AFTER = 213, UNHEARD = 214, GONE = 215,
    HINT_READ = 220, HINT_MISS = 221, HINT_GOT = 222, HINT_SERVED = 223, HINT_KNOWN = 224,
}

impl Message {
    /// The longest message, bytes.
    pub const MAX_BYTES: usize = FIXED_BYTES + SPEC_BYTES;

    /// Writes the message as sent by a member of `view`; returns how many bytes of `out` it takes.
    pub fn encode(&self, view: View, out: &mut [u8; Message::MAX_BYTES]) -> usize {
        let mut fields = self.fields();
        fields.view = view.0;
        fields.write(&mut out[..FIXED_BYTES]);
        match self {
            Message::RegionOpen { spec, .. }
            | Message::RegionMap { spec, .. }
            | Message::RegionReady { spec, .. } => {
                write_spec(spec, &mut out[FIXED_BYTES..]);
                FIXED_BYTES + SPEC_BYTES
            }
            Message::AtomicRequest { operation, .. } | Message::AtomicForward { operation, .. } => {
                atomics::write_expected(*operation, &mut out[FIXED_BYTES..]);
                FIXED_BYTES + EXPECTED_BYTES
            }
            Message::RangeAcquire { since, .. }
            | Message::RangeMore { since, .. }
            | Message::Update { own: since, .. } => {
                out[FIXED_BYTES..FIXED_BYTES + SINCE_BYTES].copy_from_slice(&since.to_le_bytes());
                FIXED_BYTES + SINCE_BYTES
            }
            _ => FIXED_BYTES,
        }
    }

    fn fields(&self) -> Fields {
        match *self {
            Message::PageRequest { page, request, access } => {
                on_page(kind::PAGE_REQUEST, page, request.0, access_bit(access))
            }
            Message::Data { page, request, access } => {
                on_page(kind::DATA, page, request.0, access_bit(access))
            }
            Message::Grant { page, request, access, zero } => {
                on_page(kind::GRANT, page, request.0, access_bit(access) | u8::from(zero) << 1)
            }
            Message::Deny { page, request, lost_with } => {
                Fields { node: lost_with.get(), ..on_page(kind::DENY, page, request.0, 0) }
            }
            Message::Fetch { page, request, access, requester } => {
                Fields { node: requester.get(), ..on_page(kind::FETCH, page, request.0, access_bit(access)) }
            }
            Message::Done { page, request, installed } => {
                on_page(kind::DONE, page, request.0, u8::from(installed))
            }
            Message::Recall { page, request } => on_page(kind::RECALL, page, request.0, 0),
            Message::Invalidate { page } => on_page(kind::INVALIDATE, page, 0, 0),
            Message::InvalidateAck { page } => on_page(kind::INVALIDATE_ACK, page, 0, 0),
            Message::Evict { page } => on_page(kind::EVICT, page, 0, 0),
            Message::Collect { page, request, step } => collecting::fields(page, request, step),
            Message::Hint { page, request, step } => hints::fields(page, request, step),
            Message::OwnerQuery { page, ticket } => on_page(kind::OWNER_QUERY, page, ticket.to_wire(), 0),
            Message::OwnerReply { page, ticket, owner } => {
                let (detail, node) = match owner {
                    PageOwner::Nobody => (0, 0),
                    PageOwner::Node(node) => (1, node.get()),
                    PageOwner::Lost(node) => (2, node.get()),
                };
                Fields { node, ..on_page(kind::OWNER_REPLY, page, ticket.to_wire(), detail) }
            }
            Message::HomeClaim { page, request } => on_page(kind::HOME_CLAIM, page, request.0, 0),
            Message::HomeNamed { page, request, home } => {
                Fields { node: home.get(), ..on_page(kind::HOME_NAMED, page, request.0, 0) }
            }
            Message::HomeQuery { page, ticket } => on_page(kind::HOME_QUERY, page, ticket.to_wire(), 0),
            Message::HomeReply { page, ticket, home } => Fields {
                node: home.map_or(0, NodeId::get),
                ..on_page(kind::HOME_REPLY, page, ticket.to_wire(), u8::from(home.is_some()))
            },
            _ => self.sync_fields(),
        }
    }

    fn sync_fields(&self) -> Fields {
        match *self {
            Message::BarrierArrive { barrier, ticket, participants } => {
                Fields { number: participants as u64, ..named(kind::BARRIER_ARRIVE, barrier.0, ticket) }
            }
            Message::BarrierCancel { barrier, ticket } => named(kind::BARRIER_CANCEL, barrier.0, ticket),
            Message::BarrierRelease { .. }
            | Message::BarrierGathered { .. }
            | Message::BarrierOpened { .. }
            | Message::BarrierDissolve { .. }
            | Message::BarrierKnown { .. } => barriers::fields(self),
            Message::BarrierMismatch { barrier, ticket, first, this } => Fields {
                number: first as u64 | (this as u64) << 32,
                ..named(kind::BARRIER_MISMATCH, barrier.0, ticket)
            },
            Message::BarrierBroken { barrier, ticket, node } => {
                Fields { node: node.get(), ..named(kind::BARRIER_BROKEN, barrier.0, ticket) }
            }
            Message::SyncRefused { ticket } => named(kind::SYNC_REFUSED, 0, ticket),
            Message::LockAcquire { .. }
            | Message::LockTry { .. }
            | Message::LockBusy { .. }
            | Message::LockGrant { .. }
            | Message::LockRelease { .. }
            | Message::LockForward { .. }
            | Message::LockQuery { .. }
            | Message::LockState { .. }
            | Message::LockCut { .. }
            | Message::LockHeld { .. } => locks::fields(self),
            _ => self.region_fields(),
        }
    }

    fn region_fields(&self) -> Fields {
        match *self {
            Message::RegionOpen { ticket, create, .. } => {
                Fields { detail: u8::from(create), ..named(kind::REGION_OPEN, 0, ticket) }
            }
            Message::RegionMap { region, round, .. } => agreement(kind::REGION_MAP, region, round, 0),
            Message::RegionMapped { region, round, mapped } => {
                agreement(kind::REGION_MAPPED, region, round, u8::from(mapped))
            }
            Message::RegionDrop { region, round } => agreement(kind::REGION_DROP, region, round, 0),
            Message::RegionReady { ticket, region, .. } => {
                Fields { region: region.0, ..named(kind::REGION_READY, 0, ticket) }
            }
            Message::RegionRefused { ticket, refusal } => {
                let (detail, node, number) = match refusal {
                    RegionRefusal::SizeDiffers { pages } => (0, 0, pages),
                    RegionRefusal::OptionsDiffer => (1, 0, 0),
                    RegionRefusal::AddressDiffers { address } => (2, 0, address),
                    RegionRefusal::AddressTaken { node, address } => (3, node.get(), address),
                    RegionRefusal::Exhausted => (4, 0, 0),
                };
                Fields { detail, node, number, ..named(kind::REGION_REFUSED, 0, ticket) }
            }
            Message::RegionBroken { ticket, node } => {
                Fields { node: node.get(), ..named(kind::REGION_BROKEN, 0, ticket) }
            }
            Message::Diff { page, interval, last } => {
                Fields { number: interval, ..on_page(kind::DIFF, page, 0, u8::from(last)) }
            }
            Message::Need { page, request, writer, interval } => {
                let node = writer.get();
                Fields { node, number: interval, ..on_page(kind::NEED, page, request.0, 0) }
            }
            Message::Wrote { writer, interval, first, count } => {
                let node = writer.get();
                Fields { node, number: interval, ..on_page(kind::WROTE, first, count, 0) }
            }
            Message::Told { writer, interval } => on_interval(kind::TOLD, writer, interval),
            Message::Knows { writer, interval } => on_interval(kind::KNOWS, writer, interval),
            Message::Settled { writer, interval } => on_interval(kind::SETTLED, writer, interval),
            Message::Lend { page, interval } => {
                Fields { number: interval, ..on_page(kind::LEND, page, 0, 0) }
            }
            Message::LendReply { page, taken } => on_page(kind::LEND_REPLY, page, 0, u8::from(taken)),
            Message::CallIn { page } => on_page(kind::CALL_IN, page, 0, 0),
            Message::Return { page, interval } => {
                Fields { number: interval, ..on_page(kind::RETURN, page, 0, 0) }
            }
            Message::Leaving => Fields { kind: kind::LEAVING, ..Fields::default() },
            Message::RegionClose { ticket, region } => {
                Fields { region: region.0, ..named(kind::REGION_CLOSE, 0, ticket) }
            }
            Message::RegionClosed { ticket } => named(kind::REGION_CLOSED, 0, ticket),
            Message::RegionGone { region } => agreement(kind::REGION_GONE, region, 0, 0),
            Message::RegionForgotten { region } => agreement(kind::REGION_FORGOTTEN, region, 0, 0),
            Message::Goodbye => Fields { kind: kind::GOODBYE, ..Fields::default() },
            _ => updates::fields(self)
                .or_else(|| ranges::fields(self))
                .or_else(|| holds::fields(self))
                .unwrap_or_else(|| atomics::fields(self)),
        }
    }

    /// Reads a message and the view that its sender was in.
    ///
    /// # Errors
    /// When the bytes are not exactly one message of a known kind with possible values; whether the values make
    /// sense here is for the engine to say.
    pub fn decode(bytes: &[u8]) -> Result<(View, Message), DecodeError> {
        let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
            let kind = bytes.first().copied().unwrap_or(0);
            return Err(DecodeError::Length { kind, expected: FIXED_BYTES, found: bytes.len() });
        };
        let fields = Fields::read(fixed);
        let more = match fields.kind {
            kind::REGION_OPEN | kind::REGION_MAP | kind::REGION_READY => SPEC_BYTES,
            kind::ATOMIC_REQUEST | kind::ATOMIC_FORWARD => EXPECTED_BYTES,
            kind::RANGE_ACQUIRE | kind::RANGE_MORE | kind::UPDATE => SINCE_BYTES,
            _ => 0,
        };
        let expected = FIXED_BYTES + more;
        if bytes.len() != expected {
            return Err(DecodeError::Length { kind: fields.kind, expected, found: bytes.len() });
        }
        let message = match fields.kind {
            kind::PAGE_REQUEST..=kind::HOME_REPLY | kind::EVICT => decode_page(&fields)?,
            kind::LOCK_ACQUIRE..=kind::LOCK_TRY | kind::LOCK_BUSY | kind::LOCK_FORWARD..=kind::LOCK_HELD => {
                locks::decode(&fields)?
            }
            kind::BARRIER_RELEASE | kind::BARRIER_GATHERED..=kind::BARRIER_KNOWN => {
                barriers::decode(&fields)?
            }
            kind::BARRIER_ARRIVE..=kind::SYNC_REFUSED => decode_sync(&fields)?,
            kind::DIFF..=kind::SETTLED | kind::LEND..=kind::RETURN => decode_release(&fields)?,
            kind::RW_ACQUIRE..=kind::CONDITION_WITHDRAWN
            | kind::RW_LEAVE..=kind::RW_YIELD
            | kind::RW_HAND_OVER => objects::decode(&fields)?,
            kind::ATOMIC_REQUEST..=kind::PIECE => atomics::decode(&fields, rest)?,
            kind::HOLD_QUERY | kind::HOLD_REPLY => holds::decode(&fields)?,
            kind::RANGE_ACQUIRE..=kind::RANGE_WRITE => ranges::decode(&fields, rest)?,
            kind::FOLLOW..=kind::UPDATE => updates::decode(&fields, rest)?,
            kind::DROP..=kind::GONE => collecting::decode(&fields)?,
            kind::HINT_READ..=kind::HINT_KNOWN => hints::decode(&fields)?,
            _ => decode_region(&fields, rest)?,
        };
        Ok((View(fields.view), message))
    }
}

fn on_page(kind: u8, page: PageAddress, word: u32, detail: u8) -> Fields {
    Fields { kind, detail, region: page.region.0, name: page.page, word, ..Fields::default() }
}

fn on_interval(kind: u8, writer: NodeId, interval: u64) -> Fields {
    Fields { kind, node: writer.get(), number: interval, ..Fields::default() }
}

fn named(kind: u8, name: u64, ticket: Ticket) -> Fields {
    Fields { kind, name, word: ticket.to_wire(), ..Fields::default() }
}

fn agreement(kind: u8, region: RegionId, round: u16, detail: u8) -> Fields {
    Fields { kind, detail, region: region.0, round, ..Fields::default() }
}

fn decode_page(f: &Fields) -> Result<Message, DecodeError> {
    let (page, request, ticket) = (f.page(), f.request(), f.ticket());
    let detail_limit = match f.kind {
        kind::GRANT => 3,
        kind::OWNER_REPLY => 2,
        _ => 1,
    };
    if f.detail > detail_limit {
        return Err(f.bad("detail", f.detail as u64));
    }
    Ok(match f.kind {
        kind::PAGE_REQUEST => Message::PageRequest { page, request, access: f.access() },
        kind::DATA => Message::Data { page, request, access: f.access() },
        kind::GRANT => Message::Grant { page, request, access: f.access(), zero: f.detail & 2 != 0 },
        kind::DENY => Message::Deny { page, request, lost_with: f.node()? },
        kind::FETCH => Message::Fetch { page, request, access: f.access(), requester: f.node()? },
        kind::DONE => Message::Done { page, request, installed: f.flag()? },
        kind::RECALL => Message::Recall { page, request },
        kind::INVALIDATE => Message::Invalidate { page },
        kind::INVALIDATE_ACK => Message::InvalidateAck { page },
        kind::EVICT => Message::Evict { page },
        kind::OWNER_QUERY => Message::OwnerQuery { page, ticket },
        kind::OWNER_REPLY => {
            let owner = match f.detail {
                0 => PageOwner::Nobody,
                1 => PageOwner::Node(f.node()?),
                _ => PageOwner::Lost(f.node()?),
            };
            Message::OwnerReply { page, ticket, owner }
        }
        kind::HOME_CLAIM => Message::HomeClaim { page, request },
        kind::HOME_NAMED => Message::HomeNamed { page, request, home: f.node()? },
        kind::HOME_QUERY => Message::HomeQuery { page, ticket },
        kind::HOME_REPLY => {
            let home = if f.flag()? { Some(f.node()?) } else { None };
            Message::HomeReply { page, ticket, home }
        }
        other => return Err(DecodeError::Kind(other)),
    })
}

fn decode_sync(f: &Fields) -> Result<Message, DecodeError> {
    let (barrier, ticket) = (BarrierId(f.name), f.ticket());
    Ok(match f.kind {
        kind::BARRIER_ARRIVE => {
            let participants = u32::try_from(f.number)
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(|| f.bad("participants", f.number))?;
            Message::BarrierArrive { barrier, ticket, participants }
        }
        kind::BARRIER_CANCEL => Message::BarrierCancel { barrier, ticket },
        kind::BARRIER_MISMATCH => {
            let (first, this) = (f.number as u32, (f.number >> 32) as u32);
            Message::BarrierMismatch { barrier, ticket, first, this }
        }
        kind::BARRIER_BROKEN => Message::BarrierBroken { barrier, ticket, node: f.node()? },
        kind::SYNC_REFUSED => Message::SyncRefused { ticket },
        other => return Err(DecodeError::Kind(other)),
    })
}

fn decode_release(f: &Fields) -> Result<Message, DecodeError> {
    let (page, interval) = (f.page(), f.number);
    Ok(match f.kind {
        kind::DIFF => Message::Diff { page, interval, last: f.flag()? },
        kind::NEED => Message::Need { page, request: f.request(), writer: f.node()?, interval },
        kind::WROTE if f.word == 0 => return Err(f.bad("count", 0)),
        kind::WROTE => Message::Wrote { writer: f.node()?, interval, first: page, count: f.word },
        kind::TOLD => Message::Told { writer: f.node()?, interval },
        kind::KNOWS => Message::Knows { writer: f.node()?, interval },
        kind::SETTLED => Message::Settled { writer: f.node()?, interval },
        kind::LEND => Message::Lend { page, interval },
        kind::LEND_REPLY => Message::LendReply { page, taken: f.flag()? },
        kind::CALL_IN => Message::CallIn { page },
        kind::RETURN => Message::Return { page, interval },
        other => return Err(DecodeError::Kind(other)),
    })
}

fn decode_region(f: &Fields, rest: &[u8]) -> Result<Message, DecodeError> {
    let (region, round, ticket) = (RegionId(f.region), f.round, f.ticket());
    Ok(match f.kind {
        kind::REGION_OPEN => Message::RegionOpen { ticket, create: f.flag()?, spec: read_spec(f, rest)? },
        kind::REGION_MAP => Message::RegionMap { region, round, spec: read_spec(f, rest)? },
        kind::REGION_MAPPED => Message::RegionMapped { region, round, mapped: f.flag()? },
        kind::REGION_DROP => Message::RegionDrop { region, round },
        kind::REGION_READY => Message::RegionReady { ticket, region, spec: read_spec(f, rest)? },
        kind::REGION_REFUSED => {
            let refusal = match f.detail {
                0 => RegionRefusal::SizeDiffers { pages: f.number },
                1 => RegionRefusal::OptionsDiffer,
                2 => RegionRefusal::AddressDiffers { address: f.number },
                3 => RegionRefusal::AddressTaken { node: f.node()?, address: f.number },
                4 => RegionRefusal::Exhausted,
                other => return Err(f.bad("refusal", other as u64)),
            };
            Message::RegionRefused { ticket, refusal }
        }
        kind::REGION_BROKEN => Message::RegionBroken { ticket, node: f.node()? },
        kind::REGION_CLOSE => Message::RegionClose { ticket, region },
        kind::REGION_CLOSED => Message::RegionClosed { ticket },
        kind::REGION_GONE => Message::RegionGone { region },
        kind::REGION_FORGOTTEN => Message::RegionForgotten { region },
        kind::GOODBYE => Message::Goodbye,
        kind::LEAVING => Message::Leaving,
        other => return Err(DecodeError::Kind(other)),
    })
}

/// Layout of a region's properties: pages 8, address 8, protocol 1, placement 1, placement node 2, name length 1, name 63,
/// unit 1, reserved 3.
fn write_spec(spec: &RegionSpec, out: &mut [u8]) {
    out[..SPEC_BYTES].fill(0);
    out[0..8].copy_from_slice(&spec.pages.to_le_bytes());
    out[8..16].copy_from_slice(&spec.address.to_le_bytes());
    out[16] = match spec.protocol {
        Protocol::WriteInvalidate => 0,
        Protocol::Migration => 1,
        Protocol::Release => 2,
        Protocol::Entry => 3,
    };
    let (placement, node) = match spec.placement {
        Placement::Cyclic => (0, 0),
        Placement::Single(node) => (1, node.get()),
        Placement::Block => (2, 0),
        Placement::FirstTouch => (3, 0),
    };
    out[17] = placement;
    out[18..20].copy_from_slice(&node.to_le_bytes());
    let name = spec.name.as_str().as_bytes();
    out[20] = name.len() as u8;
    out[21..21 + name.len()].copy_from_slice(name);
    out[UNIT_AT] = match spec.unit {
        Unit::Page => 0,
        Unit::KiB16 => 1,
        Unit::KiB64 => 2,
        Unit::MiB2 => 3,
    };
}

fn read_spec(f: &Fields, bytes: &[u8]) -> Result<RegionSpec, DecodeError> {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let pages = word(0);
    if pages > REGION_PAGES {
        return Err(f.bad("pages", pages));
    }
    let protocol = match bytes[16] {
        0 => Protocol::WriteInvalidate,
        1 => Protocol::Migration,
        2 => Protocol::Release,
        3 => Protocol::Entry,
        other => return Err(f.bad("protocol", other as u64)),
    };
    let node = u16::from_le_bytes([bytes[18], bytes[19]]);
    let placement = match bytes[17] {
        0 => Placement::Cyclic,
        1 => Placement::Single(NodeId::checked(node).ok_or_else(|| f.bad("placement node", node as u64))?),
        2 => Placement::Block,
        3 => Placement::FirstTouch,
        other => return Err(f.bad("placement", other as u64)),
    };
    let length = bytes[20] as usize;
    let name = bytes
        .get(21..21 + length.min(REGION_NAME_BYTES))
        .and_then(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.len() == length)
        .and_then(|text| RegionName::new(text).ok())
        .ok_or_else(|| f.bad("name length", length as u64))?;
    let unit = match bytes[UNIT_AT] {
        0 => Unit::Page,
        1 => Unit::KiB16,
        2 => Unit::KiB64,
        3 => Unit::MiB2,
        other => return Err(f.bad("unit", other as u64)),
    };
    Ok(RegionSpec { name, pages, placement, protocol, unit, address: word(8) })
}

mod atomics;
mod barriers;
mod collecting;
mod hints;
mod holds;
mod locks;
mod objects;
mod ranges;
mod runs;
#[cfg(test)]
mod tests;
mod updates;
