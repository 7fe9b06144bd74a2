//! The layout of messages about pages that are sent along.

use super::{DecodeError, Fields, kind, on_page};
use crate::ids::{NodeId, PageAddress};
use crate::message::Message;

/// The fixed part of `message`, if it is one of these.
pub(super) fn fields(message: &Message) -> Option<Fields> {
    Some(match *message {
        Message::Follow { page, reader } => of_node(kind::FOLLOW, page, reader),
        Message::Unfollow { page, reader } => of_node(kind::UNFOLLOW, page, reader),
        Message::Update { page, writer, interval, .. } => {
            Fields { number: interval, ..of_node(kind::UPDATE, page, writer) }
        }
        _ => return None,
    })
}

fn of_node(kind: u8, page: PageAddress, node: NodeId) -> Fields {
    Fields { node: node.get(), ..on_page(kind, page, 0, 0) }
}

pub(super) fn decode(f: &Fields, rest: &[u8]) -> Result<Message, DecodeError> {
    let (page, node) = (f.page(), f.node()?);
    let own = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(match f.kind {
        kind::FOLLOW => Message::Follow { page, reader: node },
        kind::UNFOLLOW => Message::Unfollow { page, reader: node },
        kind::UPDATE => Message::Update { page, writer: node, interval: f.number, own },
        other => return Err(DecodeError::Kind(other)),
    })
}
