//! Locks, barriers, and what a node's death may do.

use super::event::{Action, Event, LossKind, ThreadName};
use super::program::World;
use super::violation::Violation;
use std::collections::BTreeMap;

/// No lock is held by two threads at a time. `events` are those of each thread, in order.
pub(super) fn locks(threads: &BTreeMap<ThreadName, &[Event]>, killed: Option<u16>) -> Vec<Violation> {
    // By lock: taken, given back or last seen holding, and by which event.
    let mut holds: BTreeMap<u32, Vec<(u64, u64, Event)>> = BTreeMap::new();
    for (by, events) in threads {
        let mut held: BTreeMap<u32, Event> = BTreeMap::new();
        for event in events.iter().filter(|event| event.loss.is_none()) {
            match event.action {
                Action::Acquire { lock } => {
                    held.insert(lock, *event);
                }
                Action::Release { lock } => {
                    if let Some(taken) = held.remove(&lock) {
                        holds.entry(lock).or_default().push((taken.return_ns, event.call_ns, taken));
                    }
                }
                _ => {}
            }
        }
        let last_seen = events.last().map_or(0, |event| event.return_ns);
        for (lock, taken) in held {
            // The killed held it at least as long as it was seen doing something.
            let until = if killed == Some(by.node) { last_seen } else { u64::MAX };
            holds.entry(lock).or_default().push((taken.return_ns, until, taken));
        }
    }
    let mut violations = Vec::new();
    for holds in holds.values_mut() {
        holds.sort_by_key(|(from, _, _)| *from);
        for pair in holds.windows(2) {
            let [(_, until, first), (from, _, second)] = pair else { continue };
            if from < until {
                violations.push(Violation::HeldTwice { first: *first, second: *second });
            }
        }
    }
    violations
}

/// Nobody is through a barrier before everybody has come to it.
pub(super) fn barriers(events: &[Event]) -> Vec<Violation> {
    let mut passed: BTreeMap<u32, (Event, Event)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.loss.is_none()) {
        if let Action::Barrier { barrier } = event.action {
            let (early, late) = passed.entry(barrier).or_insert((*event, *event));
            if event.return_ns < early.return_ns {
                *early = *event;
            }
            if event.call_ns > late.call_ns {
                *late = *event;
            }
        }
    }
    let wrong = passed.into_values().filter(|(early, late)| early.return_ns < late.call_ns);
    wrong.map(|(early, late)| Violation::BarrierPassed { early, late }).collect()
}

/// Failures name the killed node, lost pages stay lost, and what must be lost is reported to every node that is left.
pub(super) fn losses(events: &[Event], world: World, killed: Option<u16>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut failed_reads: BTreeMap<(u16, usize, usize), Event> = BTreeMap::new();
    let page_of = |event: &Event| {
        let place = event.action.word().map(|word| world.place(word));
        place.map(|place| (event.by.node, place.region, place.page))
    };
    for event in events {
        let Some(loss) = event.loss else { continue };
        if killed != Some(loss.node) {
            violations.push(Violation::WronglyFailed { event: *event });
        }
        if let (Action::Read { .. }, Some(page)) = (event.action, page_of(event)) {
            let first = failed_reads.entry(page).or_insert(*event);
            if event.return_ns < first.return_ns {
                *first = *event;
            }
        }
    }
    for event in events.iter().filter(|event| event.loss.is_none()) {
        let failed = page_of(event).and_then(|page| failed_reads.get(&page));
        if let Some(failed) = failed.filter(|failed| failed.return_ns < event.call_ns) {
            violations.push(Violation::CameBack { failed: *failed, later: *event });
        }
    }
    if let Some(killed) = killed {
        violations.extend(will(events, world, killed));
    }
    violations
}

/// What the killed node wrote last, to pages that nobody else had: each other node must be told that they are lost.
fn will(events: &[Event], world: World, killed: u16) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in (0..world.nodes as u16).filter(|node| *node != killed) {
        for home in 0..world.nodes {
            let word = world.will(home);
            let kind = if home == usize::from(killed) { LossKind::Peer } else { LossKind::Page };
            let told = events.iter().find(|event| event.by.node == node && event.action.word() == Some(word));
            match told {
                None => violations.push(Violation::NotTold { node, word }),
                Some(event) if event.loss.is_none_or(|loss| loss.kind != kind) => {
                    violations.push(Violation::NotLost { event: *event });
                }
                Some(_) => {}
            }
        }
    }
    violations
}
