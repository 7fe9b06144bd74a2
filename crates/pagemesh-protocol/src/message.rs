//! The messages between nodes, and their layout to the byte.
//!
//! A message is 32 bytes, little-endian; the four that speak of a region's properties are followed by 88 bytes more. Page
//! bytes follow a message as the payload of its frame. `docs/wire.md` draws the layout and a test here reads it.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 1 | detail: access, flag or code, by kind |
//! | 2 | 2 | region |
//! | 4 | 4 | view |
//! | 8 | 8 | name: page, lock or barrier |
//! | 16 | 4 | request or ticket |
//! | 20 | 2 | node |
//! | 22 | 2 | round |
//! | 24 | 8 | number |

use crate::action::{PageOwner, RegionRefusal};
use crate::ids::{Access, BarrierId, LockId, NodeId, PageAddress, RegionId, RequestId, Ticket, View};
use crate::limits::{REGION_NAME_BYTES, REGION_PAGES};
use crate::placement::{Placement, Protocol};
use std::fmt;

/// Bytes of every message's fixed part.
const FIXED_BYTES: usize = 32;
/// Bytes of a region's properties, where a message carries them.
const SPEC_BYTES: usize = 88;

/// A region's name: 1 to 63 bytes of UTF-8 without NUL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName {
    bytes: [u8; REGION_NAME_BYTES],
    length: u8,
}

/// Why a text is no region name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a region name has 1 to {REGION_NAME_BYTES} bytes and no NUL; this one has {found} bytes; choose another"
)]
pub struct RegionNameError {
    /// Bytes of the refused name.
    pub found: usize,
}

impl RegionName {
    /// Checks `name`.
    ///
    /// # Errors
    /// When it is empty, too long, or contains NUL.
    pub fn new(name: &str) -> Result<RegionName, RegionNameError> {
        if name.is_empty() || name.len() > REGION_NAME_BYTES || name.contains('\0') {
            return Err(RegionNameError { found: name.len() });
        }
        let mut bytes = [0; REGION_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(RegionName { bytes, length: name.len() as u8 })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length as usize]).unwrap_or_default()
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What all nodes agree on about a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionSpec {
    /// Its name.
    pub name: RegionName,
    /// Its size; 0 only in a question for an existing region.
    pub pages: u64,
    /// Where its pages have their homes.
    pub placement: Placement,
    /// How its copies are kept coherent.
    pub protocol: Protocol,
    /// Its first byte's virtual address on every node; 0 while none was chosen.
    pub address: u64,
}

/// What one node says to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message {
    /// To the home: grant me `access` to the page.
    PageRequest {
        /// The page.
        page: PageAddress,
        /// The requester's name for this request.
        request: RequestId,
        /// What is wanted.
        access: Access,
    },
    /// From the page's home or owner to the requester: the page's bytes (in the payload), with `access` to them.
    Data {
        /// The page.
        page: PageAddress,
        /// The request that this answers.
        request: RequestId,
        /// What is granted.
        access: Access,
    },
    /// From the home to the requester: `access` without bytes; the requester has them, or they are zero.
    Grant {
        /// The page.
        page: PageAddress,
        /// The request that this answers.
        request: RequestId,
        /// What is granted.
        access: Access,
        /// Whether the page is all zeros, never touched before.
        zero: bool,
    },
    /// From the home to the requester: the only copy went with node `lost_with`.
    Deny {
        /// The page.
        page: PageAddress,
        /// The request that this answers.
        request: RequestId,
        /// The node that held the only copy.
        lost_with: NodeId,
    },
    /// From the home to the owner: send your copy to `requester`, and keep no more than `access` leaves you.
    Fetch {
        /// The page.
        page: PageAddress,
        /// The requester's name for its request.
        request: RequestId,
        /// What the requester wants: after a read the owner keeps a readable copy, after a write none.
        access: Access,
        /// Where the bytes go.
        requester: NodeId,
    },
    /// From the requester to the home: the owner's bytes have come and are in use; or, to a [`Message::Recall`], have not.
    Done {
        /// The page.
        page: PageAddress,
        /// The request.
        request: RequestId,
        /// Whether the bytes have come.
        installed: bool,
    },
    /// From the home to the requester, when the owner that was to send the bytes was lost: have they come?
    Recall {
        /// The page.
        page: PageAddress,
        /// The request.
        request: RequestId,
    },
    /// From the home to a sharer: drop your copy.
    Invalidate {
        /// The page.
        page: PageAddress,
    },
    /// From a sharer to the home: the copy is gone.
    InvalidateAck {
        /// The page.
        page: PageAddress,
    },
    /// To the home: who owns this page?
    OwnerQuery {
        /// The page.
        page: PageAddress,
        /// The asker's waiting call.
        ticket: Ticket,
    },
    /// The answer.
    OwnerReply {
        /// The page.
        page: PageAddress,
        /// The waiting call.
        ticket: Ticket,
        /// Who.
        owner: PageOwner,
    },
    /// To the lock's home: I want it.
    LockAcquire {
        /// The lock.
        lock: LockId,
        /// The waiting call, and from the grant on the proof of holding.
        ticket: Ticket,
    },
    /// From the lock's home: you have it; or, with `died`, its holder died and it was set free.
    LockGrant {
        /// The lock.
        lock: LockId,
        /// The waiting call.
        ticket: Ticket,
        /// The node that died with the lock; this call then does not hold it.
        died: Option<NodeId>,
    },
    /// To the lock's home: I no longer want or hold it.
    LockRelease {
        /// The lock.
        lock: LockId,
        /// As in the request.
        ticket: Ticket,
    },
    /// To the barrier's home: one more has arrived.
    BarrierArrive {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// How many make it complete.
        participants: u32,
    },
    /// To the barrier's home: this call no longer waits.
    BarrierCancel {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the barrier's home: all have arrived.
    BarrierRelease {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the barrier's home: others said `first`.
    BarrierMismatch {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// What the first to arrive said.
        first: u32,
        /// What this call said.
        this: u32,
    },
    /// From the barrier's home: node `node` is lost, so this barrier cannot complete.
    BarrierBroken {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// The lost node.
        node: NodeId,
    },
    /// From a lock's or barrier's home: its table is full.
    SyncRefused {
        /// The waiting call.
        ticket: Ticket,
    },
    /// To the coordinator: create this region or tell me where it is; `create` false waits until somebody creates it.
    RegionOpen {
        /// The waiting call.
        ticket: Ticket,
        /// Whether to create it.
        create: bool,
        /// What is asked for.
        spec: RegionSpec,
    },
    /// From the coordinator to everyone: map this.
    RegionMap {
        /// The region.
        region: RegionId,
        /// The round of the agreement.
        round: u16,
        /// Its properties, with a proposed address.
        spec: RegionSpec,
    },
    /// To the coordinator: mapped, or the address is taken here.
    RegionMapped {
        /// The region.
        region: RegionId,
        /// The round that this answers.
        round: u16,
        /// Whether it is mapped.
        mapped: bool,
    },
    /// From the coordinator to everyone: give the mapping up.
    RegionDrop {
        /// The region.
        region: RegionId,
        /// The round that is given up.
        round: u16,
    },
    /// From the coordinator to one who asked: the region is mapped everywhere.
    RegionReady {
        /// The waiting call.
        ticket: Ticket,
        /// The region.
        region: RegionId,
        /// Its properties as agreed.
        spec: RegionSpec,
    },
    /// From the coordinator to one who asked: it cannot be had.
    RegionRefused {
        /// The waiting call.
        ticket: Ticket,
        /// Why.
        refusal: RegionRefusal,
    },
    /// From the coordinator to one who asked: it cannot be agreed on, because this node is lost.
    RegionBroken {
        /// The waiting call.
        ticket: Ticket,
        /// The lost node.
        node: NodeId,
    },
    /// To everyone: I am done with the shared memory, and go on serving until everyone is.
    Leaving,
    /// To everyone: I am gone.
    Goodbye,
}

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
    OWNER_QUERY = 10, OWNER_REPLY = 11,
    LOCK_ACQUIRE = 16, LOCK_GRANT = 17, LOCK_RELEASE = 18,
    BARRIER_ARRIVE = 20, BARRIER_CANCEL = 21, BARRIER_RELEASE = 22, BARRIER_MISMATCH = 23, BARRIER_BROKEN = 24,
    SYNC_REFUSED = 25,
    REGION_OPEN = 32, REGION_MAP = 33, REGION_MAPPED = 34, REGION_DROP = 35, REGION_READY = 36, REGION_REFUSED = 37,
    REGION_BROKEN = 38,
    GOODBYE = 48, LEAVING = 49,
}

impl Message {
    /// The longest message, bytes.
    pub const MAX_BYTES: usize = FIXED_BYTES + SPEC_BYTES;

    /// Whether handling the message may map memory or allocate: such a message is not for a thread in a fault handler.
    /// What may come after it on the same link does not depend on it until this node has answered it.
    pub const fn is_cold(&self) -> bool {
        matches!(
            self,
            Message::RegionOpen { .. }
                | Message::RegionMap { .. }
                | Message::RegionMapped { .. }
                | Message::RegionDrop { .. }
                | Message::RegionReady { .. }
                | Message::RegionRefused { .. }
                | Message::RegionBroken { .. }
                | Message::Leaving
                | Message::Goodbye
        )
    }

    /// Whether a page's bytes follow the message.
    pub const fn has_payload(&self) -> bool {
        matches!(self, Message::Data { .. })
    }

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
            Message::OwnerQuery { page, ticket } => on_page(kind::OWNER_QUERY, page, ticket.to_wire(), 0),
            Message::OwnerReply { page, ticket, owner } => {
                let (detail, node) = match owner {
                    PageOwner::Nobody => (0, 0),
                    PageOwner::Node(node) => (1, node.get()),
                    PageOwner::Lost(node) => (2, node.get()),
                };
                Fields { node, ..on_page(kind::OWNER_REPLY, page, ticket.to_wire(), detail) }
            }
            _ => self.sync_fields(),
        }
    }

    fn sync_fields(&self) -> Fields {
        match *self {
            Message::LockAcquire { lock, ticket } => named(kind::LOCK_ACQUIRE, lock.0, ticket),
            Message::LockGrant { lock, ticket, died } => Fields {
                detail: u8::from(died.is_some()),
                node: died.map_or(0, NodeId::get),
                ..named(kind::LOCK_GRANT, lock.0, ticket)
            },
            Message::LockRelease { lock, ticket } => named(kind::LOCK_RELEASE, lock.0, ticket),
            Message::BarrierArrive { barrier, ticket, participants } => {
                Fields { number: participants as u64, ..named(kind::BARRIER_ARRIVE, barrier.0, ticket) }
            }
            Message::BarrierCancel { barrier, ticket } => named(kind::BARRIER_CANCEL, barrier.0, ticket),
            Message::BarrierRelease { barrier, ticket } => named(kind::BARRIER_RELEASE, barrier.0, ticket),
            Message::BarrierMismatch { barrier, ticket, first, this } => Fields {
                number: first as u64 | (this as u64) << 32,
                ..named(kind::BARRIER_MISMATCH, barrier.0, ticket)
            },
            Message::BarrierBroken { barrier, ticket, node } => {
                Fields { node: node.get(), ..named(kind::BARRIER_BROKEN, barrier.0, ticket) }
            }
            Message::SyncRefused { ticket } => named(kind::SYNC_REFUSED, 0, ticket),
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
            Message::Leaving => Fields { kind: kind::LEAVING, ..Fields::default() },
            _ => Fields { kind: kind::GOODBYE, ..Fields::default() },
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
        let long = matches!(fields.kind, kind::REGION_OPEN | kind::REGION_MAP | kind::REGION_READY);
        let expected = if long { FIXED_BYTES + SPEC_BYTES } else { FIXED_BYTES };
        if bytes.len() != expected {
            return Err(DecodeError::Length { kind: fields.kind, expected, found: bytes.len() });
        }
        let message = match fields.kind {
            kind::PAGE_REQUEST..=kind::OWNER_REPLY => decode_page(&fields)?,
            kind::LOCK_ACQUIRE..=kind::SYNC_REFUSED => decode_sync(&fields)?,
            _ => decode_region(&fields, rest)?,
        };
        Ok((View(fields.view), message))
    }
}

fn on_page(kind: u8, page: PageAddress, word: u32, detail: u8) -> Fields {
    Fields { kind, detail, region: page.region.0, name: page.page, word, ..Fields::default() }
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
        kind::OWNER_QUERY => Message::OwnerQuery { page, ticket },
        kind::OWNER_REPLY => {
            let owner = match f.detail {
                0 => PageOwner::Nobody,
                1 => PageOwner::Node(f.node()?),
                _ => PageOwner::Lost(f.node()?),
            };
            Message::OwnerReply { page, ticket, owner }
        }
        other => return Err(DecodeError::Kind(other)),
    })
}

fn decode_sync(f: &Fields) -> Result<Message, DecodeError> {
    let (lock, barrier, ticket) = (LockId(f.name), BarrierId(f.name), f.ticket());
    Ok(match f.kind {
        kind::LOCK_ACQUIRE => Message::LockAcquire { lock, ticket },
        kind::LOCK_GRANT => {
            let died = if f.flag()? { Some(f.node()?) } else { None };
            Message::LockGrant { lock, ticket, died }
        }
        kind::LOCK_RELEASE => Message::LockRelease { lock, ticket },
        kind::BARRIER_ARRIVE => {
            let participants = u32::try_from(f.number)
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(|| f.bad("participants", f.number))?;
            Message::BarrierArrive { barrier, ticket, participants }
        }
        kind::BARRIER_CANCEL => Message::BarrierCancel { barrier, ticket },
        kind::BARRIER_RELEASE => Message::BarrierRelease { barrier, ticket },
        kind::BARRIER_MISMATCH => {
            let (first, this) = (f.number as u32, (f.number >> 32) as u32);
            Message::BarrierMismatch { barrier, ticket, first, this }
        }
        kind::BARRIER_BROKEN => Message::BarrierBroken { barrier, ticket, node: f.node()? },
        kind::SYNC_REFUSED => Message::SyncRefused { ticket },
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
        kind::GOODBYE => Message::Goodbye,
        kind::LEAVING => Message::Leaving,
        other => return Err(DecodeError::Kind(other)),
    })
}

/// Layout of a region's properties: pages 8, address 8, protocol 1, placement 1, placement node 2, name length 1, name 63,
/// reserved 4.
fn write_spec(spec: &RegionSpec, out: &mut [u8]) {
    out[..SPEC_BYTES].fill(0);
    out[0..8].copy_from_slice(&spec.pages.to_le_bytes());
    out[8..16].copy_from_slice(&spec.address.to_le_bytes());
    out[16] = match spec.protocol {
        Protocol::WriteInvalidate => 0,
    };
    let (placement, node) = match spec.placement {
        Placement::Cyclic => (0, 0),
        Placement::Single(node) => (1, node.get()),
    };
    out[17] = placement;
    out[18..20].copy_from_slice(&node.to_le_bytes());
    out[20] = spec.name.length;
    out[21..84].copy_from_slice(&spec.name.bytes);
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
        other => return Err(f.bad("protocol", other as u64)),
    };
    let node = u16::from_le_bytes([bytes[18], bytes[19]]);
    let placement = match bytes[17] {
        0 => Placement::Cyclic,
        1 => Placement::Single(NodeId::checked(node).ok_or_else(|| f.bad("placement node", node as u64))?),
        other => return Err(f.bad("placement", other as u64)),
    };
    let length = bytes[20] as usize;
    let name = bytes
        .get(21..21 + length.min(REGION_NAME_BYTES))
        .and_then(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.len() == length)
        .and_then(|text| RegionName::new(text).ok())
        .ok_or_else(|| f.bad("name length", length as u64))?;
    Ok(RegionSpec { name, pages, placement, protocol, address: word(8) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec() -> RegionSpec {
        RegionSpec {
            name: RegionName::new("grid").unwrap(),
            pages: 77,
            placement: Placement::Single(NodeId::new(3)),
            protocol: Protocol::WriteInvalidate,
            address: 0x2000_0000_0000,
        }
    }

    fn every_message() -> Vec<Message> {
        let page = PageAddress::new(RegionId(2), 0x1_2345_6789);
        let (request, ticket) = (RequestId(0xdead_beef), Ticket::new(1023, 77));
        let (lock, barrier, node) = (LockId(u64::MAX), BarrierId(5), NodeId::new(63));
        let (region, round, spec) = (RegionId(255), 15, spec());
        let mut all = vec![
            Message::Deny { page, request, lost_with: node },
            Message::Done { page, request, installed: true },
            Message::Done { page, request, installed: false },
            Message::Recall { page, request },
            Message::Invalidate { page },
            Message::InvalidateAck { page },
            Message::OwnerQuery { page, ticket },
            Message::LockAcquire { lock, ticket },
            Message::LockGrant { lock, ticket, died: None },
            Message::LockGrant { lock, ticket, died: Some(node) },
            Message::LockRelease { lock, ticket },
            Message::BarrierArrive { barrier, ticket, participants: 4 },
            Message::BarrierCancel { barrier, ticket },
            Message::BarrierRelease { barrier, ticket },
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
            Message::Goodbye,
            Message::Leaving,
        ];
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
        let document = include_str!("../../../docs/wire.md");
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
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..140)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn what_decodes_encodes_to_an_equal_message(
            kind in 0u8..50, mut bytes in proptest::collection::vec(any::<u8>(), 120), small in any::<bool>()
        ) {
            bytes[0] = kind;
            if small { bytes[1] &= 3; bytes[20] = 1; bytes[21] = 0; }
            for length in [32, 120] {
                if let Ok((view, message)) = Message::decode(&bytes[..length]) {
                    let mut again = [0; Message::MAX_BYTES];
                    let written = message.encode(view, &mut again);
                    prop_assert_eq!(Message::decode(&again[..written]), Ok((view, message)));
                }
            }
        }
    }
}
