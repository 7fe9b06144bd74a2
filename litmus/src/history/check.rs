//! All that happened, and what is wrong with it.

use super::event::{Action, Event, RECORD_BYTES, ThreadName, unique_value, writer_of};
use super::program::World;
use super::rules;
use super::violation::Violation;
use super::words::{self, Operation};
use std::collections::{BTreeMap, BTreeSet};

/// The operations of all threads.
#[derive(Debug, Clone)]
pub struct History {
    world: World,
    killed: Option<u16>,
    /// By thread and sequence.
    events: Vec<Event>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Operations that were checked.
    pub operations: usize,
    /// Those that found a value which another thread wrote.
    pub communications: usize,
    /// Those that failed, for the loss of a node.
    pub failures: usize,
    /// What is wrong; nothing, if all is well.
    pub violations: Vec<Violation>,
}

impl History {
    /// A history of these events. `killed` is the node that was killed on purpose, if one was.
    pub fn new(world: World, killed: Option<u16>, mut events: Vec<Event>) -> History {
        events.sort_by_key(|event| (event.by, event.sequence));
        History { world, killed, events }
    }

    /// The history that the nodes reported; none when a report holds something else.
    pub fn read(world: World, killed: Option<u16>, reports: &[Vec<u8>]) -> Option<History> {
        let mut events = Vec::new();
        for (node, report) in reports.iter().enumerate() {
            // The killed may have left half a record.
            for record in report.chunks_exact(RECORD_BYTES) {
                events.push(Event::read(node as u16, record.try_into().ok()?)?);
            }
        }
        Some(History::new(world, killed, events))
    }

    /// Decides whether it can have happened so.
    pub fn check(&self) -> Findings {
        let threads = self.threads();
        let mut violations = rules::losses(&self.events, self.world, self.killed);
        violations.extend(rules::locks(&threads, self.killed));
        violations.extend(rules::barriers(&self.events));
        let mut words: BTreeMap<u32, Vec<Operation>> = BTreeMap::new();
        for events in threads.values() {
            for operation in operations(events) {
                if let Some(word) = operation.event.action.word() {
                    words.entry(word).or_default().push(operation);
                }
            }
        }
        self.adopt_unfinished(&threads, &mut words);
        let done: BTreeMap<u64, Event> = self.failed_writes();
        for (word, operations) in &words {
            let found = operations.iter().find_map(|operation| {
                let failed = done.get(&operation.event.action.found()?)?;
                Some(Violation::FailedButDone { failed: *failed, found: operation.event })
            });
            violations.extend(found.or_else(|| words::judge(*word, operations)));
        }
        Findings {
            operations: self.events.len(),
            communications: self.events.iter().filter(|event| is_communication(event)).count(),
            failures: self.events.iter().filter(|event| event.loss.is_some()).count(),
            violations,
        }
    }

    fn threads(&self) -> BTreeMap<ThreadName, &[Event]> {
        let parts = self.events.chunk_by(|one, next| one.by == next.by);
        parts.filter_map(|events| Some((events.first()?.by, events))).collect()
    }

    /// Values that failed operations were to write.
    fn failed_writes(&self) -> BTreeMap<u64, Event> {
        let failed = self.events.iter().filter(|event| event.loss.is_some());
        let writes =
            failed.filter(|event| !matches!(event.action, Action::Read { .. } | Action::Increment { .. }));
        let values = writes.filter(|event| event.action.word().is_some());
        values.map(|event| (unique_value(event.by, event.sequence), *event)).collect()
    }

    /// Each thread of the killed node had one operation under way, of which there is no record. It may have been done, or not: if its
    /// value was found, it was.
    fn adopt_unfinished(
        &self,
        threads: &BTreeMap<ThreadName, &[Event]>,
        words: &mut BTreeMap<u32, Vec<Operation>>,
    ) {
        let Some(killed) = self.killed else { return };
        let last = threads.iter().filter(|(by, _)| by.node == killed);
        let mut unfinished: BTreeMap<ThreadName, Event> =
            last.filter_map(|(by, events)| Some((*by, *events.last()?))).collect();
        for (word, operations) in words {
            let wrote: BTreeSet<u64> =
                operations.iter().filter_map(|operation| operation.event.action.wrote()).collect();
            let found: BTreeSet<u64> =
                operations.iter().filter_map(|operation| operation.event.action.found()).collect();
            for value in found.into_iter().filter(|value| *value != 0 && !wrote.contains(value)) {
                let (by, action) = match writer_of(value) {
                    Some((by, _)) => (Some(by), Action::Write { word: *word, value }),
                    None => (
                        unfinished.keys().next().copied(),
                        Action::Increment { word: *word, found: value.wrapping_sub(1) },
                    ),
                };
                let Some(before) = by.and_then(|by| unfinished.get(&by)).copied() else { continue };
                let sequence = before.sequence + 1;
                if writer_of(value).is_some_and(|(_, wanted)| wanted != sequence) {
                    continue;
                }
                unfinished.remove(&before.by);
                let (call_ns, return_ns) = (before.return_ns, u64::MAX);
                let event =
                    Event { sequence, call_ns, return_ns, settled: false, action, loss: None, ..before };
                operations.push(Operation { event, over_ns: u64::MAX });
            }
        }
    }
}

/// Whether an operation found what another thread wrote.
fn is_communication(event: &Event) -> bool {
    let found = event.action.found().filter(|_| event.loss.is_none());
    found.and_then(writer_of).is_some_and(|(by, _)| by != event.by)
}

/// What one thread did, and when it was over for everybody.
fn operations(events: &[Event]) -> Vec<Operation> {
    let mut over = vec![u64::MAX; events.len()];
    let mut next_settled = u64::MAX;
    for (index, event) in events.iter().enumerate().rev() {
        if event.settled {
            next_settled = event.return_ns;
        }
        let is_store = matches!(event.action, Action::Write { .. });
        over[index] = if is_store { next_settled } else { event.return_ns };
    }
    // A read of a store that nobody else can see yet.
    for (index, event) in events.iter().enumerate() {
        let own = event.action.found().and_then(writer_of).filter(|(by, _)| *by == event.by);
        if let Some((_, sequence)) = own
            && let Ok(writer) = events.binary_search_by_key(&sequence, |event| event.sequence)
        {
            over[index] = over[index].max(over[writer]);
        }
    }
    let done = events.iter().zip(over).filter(|(event, _)| event.loss.is_none());
    done.map(|(event, over_ns)| Operation { event: *event, over_ns }).collect()
}
