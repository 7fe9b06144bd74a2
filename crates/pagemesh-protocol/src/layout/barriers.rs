//! The layout of messages about barriers that are gathered in a tree.

use super::{DecodeError, Fields, kind, named};
use crate::ids::{BarrierId, NodeId};
use crate::message::{BarrierPlan, Message};

fn gathered(kind: u8, barrier: BarrierId, generation: u32, round: u64) -> Fields {
    Fields { kind, name: barrier.0, word: generation, number: round, ..Fields::default() }
}

pub(super) fn fields(message: &Message) -> Fields {
    match *message {
        Message::BarrierRelease { barrier, ticket, plan } => Fields {
            number: plan.map_or(0, |plan| u64::from(plan.generation) | u64::from(plan.participants) << 32),
            ..named(kind::BARRIER_RELEASE, barrier.0, ticket)
        },
        Message::BarrierGathered { barrier, generation, round } => {
            gathered(kind::BARRIER_GATHERED, barrier, generation, round)
        }
        Message::BarrierOpened { barrier, generation, round } => {
            gathered(kind::BARRIER_OPENED, barrier, generation, round)
        }
        Message::BarrierDissolve { barrier, generation, round, cut } => {
            Fields { detail: u8::from(cut), ..gathered(kind::BARRIER_DISSOLVE, barrier, generation, round) }
        }
        Message::BarrierKnown { home, writer, interval } => Fields {
            kind: kind::BARRIER_KNOWN,
            round: home.get(),
            node: writer.get(),
            number: interval,
            ..Fields::default()
        },
        _ => unreachable!("the caller hands over no other message"),
    }
}

pub(super) fn decode(f: &Fields) -> Result<Message, DecodeError> {
    let (barrier, generation, round) = (BarrierId(f.name), f.word, f.number);
    let gathers = matches!(f.kind, kind::BARRIER_GATHERED | kind::BARRIER_OPENED | kind::BARRIER_DISSOLVE);
    if gathers && generation == 0 {
        return Err(f.bad("generation", 0));
    }
    Ok(match f.kind {
        kind::BARRIER_RELEASE => {
            let plan = match (f.number as u32, (f.number >> 32) as u32) {
                (0, 0) => None,
                (0, _) | (_, 0) => return Err(f.bad("plan", f.number)),
                (generation, participants) => Some(BarrierPlan { generation, participants }),
            };
            Message::BarrierRelease { barrier, ticket: f.ticket(), plan }
        }
        kind::BARRIER_GATHERED => Message::BarrierGathered { barrier, generation, round },
        kind::BARRIER_OPENED => Message::BarrierOpened { barrier, generation, round },
        kind::BARRIER_DISSOLVE => Message::BarrierDissolve { barrier, generation, round, cut: f.flag()? },
        kind::BARRIER_KNOWN => {
            let home = NodeId::checked(f.round).ok_or_else(|| f.bad("home", u64::from(f.round)))?;
            Message::BarrierKnown { home, writer: f.node()?, interval: f.number }
        }
        other => return Err(DecodeError::Kind(other)),
    })
}
