//! The layout of messages about pages whose sharers tell the writer themselves that their copies are gone.

use super::{DecodeError, Fields, kind, on_page};
use crate::ids::{PageAddress, RequestId};
use crate::message::{Collect, Message};
use crate::sharers::Sharers;

pub(super) fn fields(page: PageAddress, request: RequestId, step: Collect) -> Fields {
    let of = |kind| on_page(kind, page, request.0, 0);
    match step {
        Collect::Drop { requester, again, grant } => {
            let (node, detail, number) = (requester.get(), u8::from(again), grant.to_wire());
            Fields { detail, node, number, ..of(kind::DROP) }
        }
        Collect::Dropped => of(kind::DROPPED),
        Collect::Grant(sharers) => Fields { number: sharers.to_wire(), ..of(kind::GRANT_AFTER) },
        Collect::Data(sharers) => Fields { number: sharers.to_wire(), ..of(kind::DATA_AFTER) },
        Collect::Unheard(sharer) => Fields { node: sharer.get(), ..of(kind::UNHEARD) },
        Collect::Gone { sharer, grant } => {
            Fields { node: sharer.get(), number: grant.to_wire(), ..of(kind::GONE) }
        }
    }
}

pub(super) fn decode(f: &Fields) -> Result<Message, DecodeError> {
    let few = || Sharers::from_wire(f.number).ok_or_else(|| f.bad("sharers", f.number));
    let sharers = || few().and_then(|few| if few.is_empty() { Err(f.bad("sharers", 0)) } else { Ok(few) });
    let step = match f.kind {
        kind::DROP => Collect::Drop { requester: f.node()?, again: f.flag()?, grant: few()? },
        kind::DROPPED => Collect::Dropped,
        kind::GRANT_AFTER => Collect::Grant(sharers()?),
        kind::DATA_AFTER => Collect::Data(sharers()?),
        kind::UNHEARD => Collect::Unheard(f.node()?),
        kind::GONE => Collect::Gone { sharer: f.node()?, grant: sharers()? },
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(Message::Collect { page: f.page(), request: f.request(), step })
}
