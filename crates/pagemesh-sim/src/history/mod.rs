//! What the threads of a run saw, and whether one order of everything explains it.
//!
//! Sequential consistency (Lamport 1979) asks for one order of all accesses in which each thread's are in its program's order and
//! each read returns the last write. [`History::check`] builds the graph of what must come before what: program order, a
//! write before those who read it, the writes of a word in the order in which they replaced each other, a read before the
//! write that replaced what it read, the release of a lock before its next acquisition, all arrivals at a barrier before anyone
//! passes. The history is sequentially consistent if and only if this graph has no cycle (Shasha and Snir 1988).
//!
//! A recorded write names the value that it replaced in the writer's own copy, so the order of the writes of a word comes from the
//! bytes themselves and not from the simulator's clock; two writes that replaced the same value are a lost write. Where a
//! history does not say what was replaced, the order is derived as far as it can be, by saturation (Gibbons and Korach 1997 show
//! that to decide it in general is NP-complete): every cycle that is found is one, but a history without any may still be wrong.

mod graph;

use graph::Graph;
use pagemesh_protocol::{BarrierId, LockId, PageAddress};
use std::collections::BTreeMap;
use std::fmt;

/// A word of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The page.
    pub page: PageAddress,
    /// Which of its words.
    pub word: u8,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}]", self.page, self.word)
    }
}

/// What a thread did. Every word is 0 at first, and no value is written twice to one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Found `value`.
    Read {
        /// Where.
        location: Location,
        /// What was found.
        value: u64,
    },
    /// Wrote `value`.
    Write {
        /// Where.
        location: Location,
        /// What was written.
        value: u64,
        /// What was there before, if that is known.
        replaced: Option<u64>,
    },
    /// Took a lock.
    Acquire(LockId),
    /// Is about to give it back.
    Release(LockId),
    /// Arrives at a barrier for the so-manieth time.
    Arrive(BarrierId, u32),
    /// Passes it.
    Pass(BarrierId, u32),
}

/// A deed and who did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Step of the run.
    pub step: u64,
    /// The node.
    pub node: u16,
    /// The thread, by its number in the whole mesh.
    pub thread: u16,
    /// What it did.
    pub deed: Deed,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { step, node, thread, deed } = self;
        write!(f, "step {step}: thread {thread} of node {node} ")?;
        match deed {
            Deed::Read { location, value } => write!(f, "reads {value:#x} from {location:?}"),
            Deed::Write { location, value, replaced: Some(before) } => {
                write!(f, "writes {value:#x} to {location:?}, where {before:#x} was")
            }
            Deed::Write { location, value, .. } => write!(f, "writes {value:#x} to {location:?}"),
            Deed::Acquire(lock) => write!(f, "takes lock {:#x}", lock.0),
            Deed::Release(lock) => write!(f, "gives back lock {:#x}", lock.0),
            Deed::Arrive(barrier, turn) => write!(f, "arrives at barrier {}, turn {turn}", barrier.0),
            Deed::Pass(barrier, turn) => write!(f, "passes barrier {}, turn {turn}", barrier.0),
        }
    }
}

/// Why one deed must come before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The same thread did it first.
    Program,
    /// The second reads what the first wrote.
    ReadsFrom,
    /// The second overwrites the first.
    Overwrites,
    /// The first read what the second overwrote.
    ReadBefore,
    /// A lock went from the first to the second.
    Lock,
    /// The second passed a barrier that waited for the first.
    Barrier,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Program => "comes earlier in the same thread than",
            Reason::ReadsFrom => "is read by",
            Reason::Overwrites => "is overwritten by",
            Reason::ReadBefore => "has not seen",
            Reason::Lock => "hands the lock to",
            Reason::Barrier => "is waited for by",
        })
    }
}

/// No order explains a history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disorder {
    /// A value was read or replaced that nobody ever wrote.
    NeverWritten(Entry),
    /// The same value was written twice to one word: the history says too little to be judged.
    WrittenTwice(Box<[Entry; 2]>),
    /// Two writes replaced the same value, so that one of them is lost.
    LostWrite(Box<[Entry; 2]>),
    /// Each comes before the next, and the last before the first.
    Cycle(Vec<(Entry, Reason)>),
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disorder::NeverWritten(entry) => write!(f, "a value that nobody wrote: {entry}"),
            Disorder::WrittenTwice(pair) => {
                write!(f, "a value was written twice:\n    {}\n    {}", pair[0], pair[1])
            }
            Disorder::LostWrite(pair) => {
                write!(f, "both replaced the same value, so one is lost:\n    {}\n    {}", pair[0], pair[1])
            }
            Disorder::Cycle(path) => {
                write!(f, "no order of all accesses explains what was read:")?;
                for (entry, reason) in path {
                    write!(f, "\n    {entry}\n      {reason}")?;
                }
                write!(f, " the first of these")
            }
        }
    }
}

impl std::error::Error for Disorder {}

/// The deeds of a run: those of each thread in its program's order, lock and barrier deeds in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
}

/// The writes of one word.
#[derive(Debug, Default)]
struct Writes {
    /// Value written, and the write's index.
    by_value: BTreeMap<u64, usize>,
    /// Value replaced, and the index of the write that did.
    replacing: BTreeMap<u64, usize>,
    /// Index of each read, and the value that it found.
    reads: Vec<(usize, u64)>,
    /// Some write does not say what it replaced.
    partial: bool,
}

impl History {
    /// Adds a deed.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// How many deeds it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether one order explains everything.
    ///
    /// # Errors
    /// What cannot be explained, with the deeds that contradict each other.
    pub fn check(&self) -> Result<(), Disorder> {
        let words = self.words()?;
        let mut graph = Graph::new(self.entries.len());
        self.add_program_order(&mut graph);
        self.add_synchronisation(&mut graph);
        let mut partial = Vec::new();
        for writes in words.into_values() {
            for (read, value) in &writes.reads {
                if let Some(write) = writes.by_value.get(value) {
                    graph.add(*write, *read, Reason::ReadsFrom);
                }
            }
            if writes.partial {
                partial.push(writes);
            } else {
                add_known_order(&writes, &mut graph);
            }
        }
        let cycle = if partial.is_empty() { graph.cycle() } else { saturate(&mut graph, &partial) };
        match cycle {
            None => Ok(()),
            Some(path) => Err(Disorder::Cycle(
                path.into_iter().map(|(index, reason)| (self.entries[index], reason)).collect(),
            )),
        }
    }

    /// Writes and reads of each word.
    fn words(&self) -> Result<BTreeMap<Location, Writes>, Disorder> {
        let mut words: BTreeMap<Location, Writes> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let Deed::Write { location, value, replaced } = entry.deed else { continue };
            let writes = words.entry(location).or_default();
            if let Some(other) = writes.by_value.insert(value, index) {
                return Err(Disorder::WrittenTwice(Box::new([self.entries[other], *entry])));
            }
            match replaced.map(|before| writes.replacing.insert(before, index)) {
                None => writes.partial = true,
                Some(None) => {}
                Some(Some(other)) => {
                    return Err(Disorder::LostWrite(Box::new([self.entries[other], *entry])));
                }
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            match entry.deed {
                Deed::Read { location, value } => {
                    let writes = words.entry(location).or_default();
                    if value != 0 && !writes.by_value.contains_key(&value) {
                        return Err(Disorder::NeverWritten(*entry));
                    }
                    writes.reads.push((index, value));
                }
                Deed::Write { location, replaced: Some(before), .. } => {
                    let known = words.get(&location).is_some_and(|w| w.by_value.contains_key(&before));
                    if before != 0 && !known {
                        return Err(Disorder::NeverWritten(*entry));
                    }
                }
                _ => {}
            }
        }
        Ok(words)
    }

    fn add_program_order(&self, graph: &mut Graph) {
        let mut last: Vec<Option<usize>> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let thread = entry.thread as usize;
            if last.len() <= thread {
                last.resize(thread + 1, None);
            }
            if let Some(before) = last[thread].replace(index) {
                graph.add(before, index, Reason::Program);
            }
        }
    }

    fn add_synchronisation(&self, graph: &mut Graph) {
        let mut released: BTreeMap<LockId, usize> = BTreeMap::new();
        let mut arrived: BTreeMap<(BarrierId, u32), Vec<usize>> = BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            match entry.deed {
                Deed::Release(lock) => {
                    released.insert(lock, index);
                }
                Deed::Acquire(lock) => {
                    if let Some(before) = released.get(&lock) {
                        graph.add(*before, index, Reason::Lock);
                    }
                }
                Deed::Arrive(barrier, turn) => arrived.entry((barrier, turn)).or_default().push(index),
                Deed::Pass(..) | Deed::Read { .. } | Deed::Write { .. } => {}
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if let Deed::Pass(barrier, turn) = entry.deed {
                for before in arrived.get(&(barrier, turn)).into_iter().flatten() {
                    graph.add(*before, index, Reason::Barrier);
                }
            }
        }
    }
}

/// A word whose writes all say what they replaced.
fn add_known_order(writes: &Writes, graph: &mut Graph) {
    for (before, write) in &writes.replacing {
        if let Some(replaced) = writes.by_value.get(before) {
            graph.add(*replaced, *write, Reason::Overwrites);
        }
    }
    for (read, value) in &writes.reads {
        if let Some(next) = writes.replacing.get(value) {
            graph.add(*read, *next, Reason::ReadBefore);
        }
    }
}

/// Adds what follows from what is known until nothing more does, or there is a cycle.
fn saturate(graph: &mut Graph, partial: &[Writes]) -> Option<Vec<(usize, Reason)>> {
    for writes in partial {
        // What is known of these is known at once; and every write comes after the zero at the beginning.
        add_known_order(writes, graph);
        for (read, _) in writes.reads.iter().filter(|(_, value)| *value == 0) {
            for write in writes.by_value.values() {
                graph.add(*read, *write, Reason::ReadBefore);
            }
        }
    }
    loop {
        if let Some(cycle) = graph.cycle() {
            return Some(cycle);
        }
        let reach = graph.closure();
        let mut news = Vec::new();
        for writes in partial {
            for (read, value) in writes.reads.iter().copied() {
                let Some(seen) = writes.by_value.get(&value).copied() else { continue };
                for other in writes.by_value.values().copied().filter(|other| *other != seen) {
                    // What comes before a read and is not what it saw was overwritten by what it saw.
                    if reach.contains(other, read) && !reach.contains(other, seen) {
                        news.push((other, seen, Reason::Overwrites));
                    }
                    if reach.contains(seen, other) && !reach.contains(read, other) {
                        news.push((read, other, Reason::ReadBefore));
                    }
                }
            }
        }
        if news.is_empty() {
            return None;
        }
        for (before, after, reason) in news {
            graph.add(before, after, reason);
        }
    }
}
