//! The layout of messages about reads that go to the owner of a page without its home.

use super::{DecodeError, Fields, kind, on_page};
use crate::ids::{PageAddress, RequestId};
use crate::message::{Hint, Message, ReaderCopy};

pub(super) fn fields(page: PageAddress, request: RequestId, step: Hint) -> Fields {
    let of = |kind, detail| on_page(kind, page, request.0, detail);
    match step {
        Hint::Read => of(kind::HINT_READ, 0),
        Hint::Miss => of(kind::HINT_MISS, 0),
        Hint::Got(is_here) => of(kind::HINT_GOT, u8::from(is_here)),
        Hint::Served { reader, copy } => {
            let detail = match copy {
                ReaderCopy::Unused => 0,
                ReaderCopy::Here => 1,
                ReaderCopy::Unheard => 2,
            };
            Fields { node: reader.get(), ..of(kind::HINT_SERVED, detail) }
        }
        Hint::Known => of(kind::HINT_KNOWN, 0),
    }
}

pub(super) fn decode(f: &Fields) -> Result<Message, DecodeError> {
    let step = match f.kind {
        kind::HINT_READ => Hint::Read,
        kind::HINT_MISS => Hint::Miss,
        kind::HINT_GOT => Hint::Got(f.flag()?),
        kind::HINT_SERVED => {
            let copy = match f.detail {
                0 => ReaderCopy::Unused,
                1 => ReaderCopy::Here,
                2 => ReaderCopy::Unheard,
                other => return Err(f.bad("what the reader said", other as u64)),
            };
            Hint::Served { reader: f.node()?, copy }
        }
        kind::HINT_KNOWN => Hint::Known,
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(Message::Hint { page: f.page(), request: f.request(), step })
}
