//! The layout of messages about atomic operations, and about meetings.

use super::{DecodeError, Fields, kind, named, objects, on_page};
use crate::atomic::{AtomicChange, AtomicOperation, WORDS_OF_PAGE};
use crate::ids::{PageAddress, Ticket};
use crate::message::{MeetingEnd, Message};

const AGREED: u8 = 0;
const DIFFERS: u8 = 1;
const BROKEN: u8 = 2;
const ADD: u8 = 0;
const SWAP: u8 = 1;
const COMPARE_SWAP: u8 = 2;

pub(super) fn fields(message: &Message) -> Fields {
    let about = |kind, page: PageAddress, ticket: Ticket| on_page(kind, page, ticket.to_wire(), 0);
    match *message {
        Message::AtomicRequest { page, ticket, operation } => {
            with_operation(operation, about(kind::ATOMIC_REQUEST, page, ticket))
        }
        Message::AtomicForward { page, requester, ticket, operation } => {
            let fields = Fields { node: requester.get(), ..about(kind::ATOMIC_FORWARD, page, ticket) };
            with_operation(operation, fields)
        }
        Message::AtomicDone { page, requester, ticket, old } => {
            Fields { node: requester.get(), number: old, ..about(kind::ATOMIC_DONE, page, ticket) }
        }
        Message::AtomicReply { page, ticket, old } => {
            Fields { number: old, ..about(kind::ATOMIC_REPLY, page, ticket) }
        }
        Message::AtomicDeny { page, ticket, lost_with } => {
            Fields { node: lost_with.get(), ..about(kind::ATOMIC_DENY, page, ticket) }
        }
        Message::AtomicCancel { page, ticket } => about(kind::ATOMIC_CANCEL, page, ticket),
        Message::AtomicWithdrawn { page, ticket } => about(kind::ATOMIC_WITHDRAWN, page, ticket),
        _ => meeting_fields(message),
    }
}

fn meeting_fields(message: &Message) -> Fields {
    match *message {
        Message::MeetingArrive { ticket, root, number, leaves } => Fields {
            detail: u8::from(leaves),
            node: root.get(),
            number,
            ..named(kind::MEETING_ARRIVE, 0, ticket)
        },
        Message::MeetingOver { ticket, end } => {
            let (detail, node, number) = match end {
                MeetingEnd::Agreed { round } => (AGREED, 0, round),
                MeetingEnd::Differs { root, number } => (DIFFERS, root.get(), number),
                MeetingEnd::Broken { lost } => (BROKEN, lost.get(), 0),
            };
            Fields { detail, node, number, ..named(kind::MEETING_OVER, 0, ticket) }
        }
        Message::Piece { round, offset, last } => Fields {
            kind: kind::PIECE,
            detail: u8::from(last),
            word: offset,
            number: round,
            ..Fields::default()
        },
        _ => objects::fields(message),
    }
}

/// The word's place stands where other messages have their round.
fn with_operation(operation: AtomicOperation, mut fields: Fields) -> Fields {
    (fields.detail, fields.number) = match operation.change {
        AtomicChange::Add(value) => (ADD, value),
        AtomicChange::Swap(value) => (SWAP, value),
        AtomicChange::CompareSwap { desired, .. } => (COMPARE_SWAP, desired),
    };
    fields.round = operation.word;
    fields
}

/// After the fixed part: what the word is expected to be, 0 where that does not matter.
pub(super) fn write_expected(operation: AtomicOperation, out: &mut [u8]) {
    let expected = match operation.change {
        AtomicChange::CompareSwap { expected, .. } => expected,
        _ => 0,
    };
    out[..8].copy_from_slice(&expected.to_le_bytes());
}

fn operation(f: &Fields, rest: &[u8]) -> Result<AtomicOperation, DecodeError> {
    if f.round >= WORDS_OF_PAGE {
        return Err(f.bad("word of the page", f.round as u64));
    }
    let mut expected = [0; 8];
    expected.copy_from_slice(rest);
    let expected = u64::from_le_bytes(expected);
    let change = match f.detail {
        COMPARE_SWAP => AtomicChange::CompareSwap { expected, desired: f.number },
        _ if expected != 0 => return Err(f.bad("expected word", expected)),
        ADD => AtomicChange::Add(f.number),
        SWAP => AtomicChange::Swap(f.number),
        other => return Err(f.bad("operation", other as u64)),
    };
    Ok(AtomicOperation { word: f.round, change })
}

pub(super) fn decode(f: &Fields, rest: &[u8]) -> Result<Message, DecodeError> {
    let (page, ticket) = (f.page(), f.ticket());
    Ok(match f.kind {
        kind::ATOMIC_REQUEST => Message::AtomicRequest { page, ticket, operation: operation(f, rest)? },
        kind::ATOMIC_FORWARD => {
            Message::AtomicForward { page, requester: f.node()?, ticket, operation: operation(f, rest)? }
        }
        kind::ATOMIC_DONE => Message::AtomicDone { page, requester: f.node()?, ticket, old: f.number },
        kind::ATOMIC_REPLY => Message::AtomicReply { page, ticket, old: f.number },
        kind::ATOMIC_DENY => Message::AtomicDeny { page, ticket, lost_with: f.node()? },
        kind::ATOMIC_CANCEL => Message::AtomicCancel { page, ticket },
        kind::ATOMIC_WITHDRAWN => Message::AtomicWithdrawn { page, ticket },
        kind::MEETING_ARRIVE => {
            Message::MeetingArrive { ticket, root: f.node()?, number: f.number, leaves: f.flag()? }
        }
        kind::MEETING_OVER => {
            let end = match f.detail {
                AGREED => MeetingEnd::Agreed { round: f.number },
                DIFFERS => MeetingEnd::Differs { root: f.node()?, number: f.number },
                BROKEN => MeetingEnd::Broken { lost: f.node()? },
                other => return Err(f.bad("end", other as u64)),
            };
            Message::MeetingOver { ticket, end }
        }
        kind::PIECE => Message::Piece { round: f.number, offset: f.word, last: f.flag()? },
        other => return Err(DecodeError::Kind(other)),
    })
}
