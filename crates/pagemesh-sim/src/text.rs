//! Events, messages and actions in few words, for traces.

use crate::event::{Event, page_of};
use pagemesh_protocol::{Action, Message, PageAddress};

/// An event, without the page that it is about.
#[allow(
    clippy::match_wildcard_for_single_variants,
    reason = "an event without words of its own is told as it is"
)]
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Message { from, message, payload } => {
            format!("<- n{from}: {}{}", text(message), if payload.is_some() { " +page" } else { "" })
        }
        Event::Fault { ticket, access, .. } => format!("Fault({access:?}, {ticket:?})"),
        Event::Prefetch { ticket, access, .. } => format!("Prefetch({access:?}, {ticket:?})"),
        Event::Evict { .. } => "Evict".to_owned(),
        Event::Resumed { ticket } => format!("Resumed({ticket:?})"),
        Event::OwnerQuery { ticket, .. } => format!("OwnerQuery({ticket:?})"),
        Event::HomeQuery { ticket, .. } => format!("HomeQuery({ticket:?})"),
        Event::LockAcquire { ticket, lock } => format!("LockAcquire({:x}, {ticket:?})", lock.0),
        Event::LockTry { ticket, lock } => format!("LockTry({:x}, {ticket:?})", lock.0),
        Event::LockRelease { ticket, lock } => format!("LockRelease({:x}, {ticket:?})", lock.0),
        Event::BarrierArrive { ticket, barrier, participants } => {
            format!("BarrierArrive({}, of {participants}, {ticket:?})", barrier.0)
        }
        Event::RegionOpen { ticket, create, spec } => {
            format!("RegionOpen({:?}, {}{ticket:?})", spec.name, if *create { "create, " } else { "" })
        }
        Event::RegionMapped { region, round, mapped } => {
            format!("RegionMapped(r{}, round {round}, {mapped})", region.0)
        }
        Event::Cancel { ticket } => format!("Cancel({ticket:?})"),
        Event::PeerLost { node } => format!("PeerLost(n{node})"),
        Event::Leave { ticket } => format!("Leave({ticket:?})"),
        other => format!("{other:?}"),
    }
}

/// An action.
pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Send { to, message, payload } => {
            let page = page_of(message).map_or_else(String::new, |page| format!("{page:?} "));
            format!("[to n{to}: {page}{}{}]", text(message), if payload.is_some() { " +page" } else { "" })
        }
        Action::MapRegion { region, round, spec } => {
            format!("MapRegion(r{}, round {round}, at {:#x})", region.0, spec.address)
        }
        Action::ForgetRegion(region) => format!("ForgetRegion(r{})", region.0),
        Action::UnmapRegion(region) => format!("UnmapRegion(r{})", region.0),
        Action::Complete { ticket, outcome } => match outcome {
            pagemesh_protocol::Outcome::Region { region, .. } => {
                format!("Complete({ticket:?}, r{})", region.0)
            }
            outcome => format!("Complete({ticket:?}, {outcome:?})"),
        },
        other => format!("{other:?}"),
    }
}

/// The page that an action changes, or sends a message about.
pub(crate) fn action_page(action: &Action) -> Option<PageAddress> {
    match action {
        Action::Send { message, .. } => page_of(message),
        Action::Fill(page)
        | Action::FillZero(page)
        | Action::MapRead(page)
        | Action::MapWrite(page)
        | Action::Unprotect(page)
        | Action::Protect(page)
        | Action::Unmap(page)
        | Action::Atomic { page, .. } => Some(*page),
        _ => None,
    }
}

/// A message, without its page.
fn text(message: &Message) -> String {
    match message {
        Message::PageRequest { request, access, .. } => format!("PageRequest({access:?}, #{})", request.0),
        Message::Data { request, access, .. } => format!("Data({access:?}, #{})", request.0),
        Message::Grant { request, access, zero, .. } => {
            format!("Grant({access:?}, #{}{})", request.0, if *zero { ", zero" } else { "" })
        }
        Message::Deny { request, lost_with, .. } => format!("Deny(#{}, lost with n{lost_with})", request.0),
        Message::Fetch { request, access, requester, .. } => {
            format!("Fetch({access:?}, #{}, for n{requester})", request.0)
        }
        Message::Done { request, installed, .. } => {
            format!("Done(#{}{})", request.0, if *installed { "" } else { ", has not come" })
        }
        Message::Recall { request, .. } => format!("Recall(#{})", request.0),
        Message::Invalidate { .. } => "Invalidate".to_owned(),
        Message::InvalidateAck { .. } => "InvalidateAck".to_owned(),
        Message::Collect { request, step, .. } => format!("{step:?}(#{})", request.0),
        Message::Hint { request, step, .. } => format!("Hint{step:?}(#{})", request.0),
        Message::Evict { .. } => "Evict".to_owned(),
        Message::HomeClaim { request, .. } => format!("HomeClaim(#{})", request.0),
        Message::HomeNamed { request, home, .. } => format!("HomeNamed(#{}, n{home})", request.0),
        Message::LockAcquire { lock, ticket } => format!("LockAcquire({:x}, {ticket:?})", lock.0),
        Message::LockGrant { lock, ticket, died: None } => format!("LockGrant({:x}, {ticket:?})", lock.0),
        Message::LockForward { lock, ticket, node, wanted, waits } => {
            format!("LockForward({:x}, {ticket:?}, to {node:?} {wanted:?}, waits {waits})", lock.0)
        }
        Message::BarrierArrive { barrier, ticket, participants } => {
            format!("BarrierArrive({}, of {participants}, {ticket:?})", barrier.0)
        }
        Message::BarrierRelease { barrier, ticket, plan } => {
            let plan = plan.map_or(String::new(), |plan| format!(", gathered: {}", plan.generation));
            format!("BarrierRelease({}, {ticket:?}{plan})", barrier.0)
        }
        Message::RegionOpen { ticket, create, spec } => {
            format!("RegionOpen({:?}, {}{ticket:?})", spec.name, if *create { "create, " } else { "" })
        }
        Message::RegionMap { region, round, spec } => {
            format!("RegionMap(r{} {:?}, round {round}, at {:#x})", region.0, spec.name, spec.address)
        }
        Message::RegionMapped { region, round, mapped } => {
            format!("RegionMapped(r{}, round {round}, {mapped})", region.0)
        }
        Message::RegionReady { ticket, region, .. } => format!("RegionReady(r{}, {ticket:?})", region.0),
        other => format!("{other:?}"),
    }
}
