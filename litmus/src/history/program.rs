//! Random programs, and the words that they use.

use super::event::ThreadName;
use crate::random::Random;

/// Pages of each region.
const PAGES: u32 = 6;

/// Words of each page: two for everything, one that is only incremented, and one that a lock protects. Words that have nothing
/// to do with each other share pages, as they do in programs.
const PAGE_WORDS: u32 = 4;

/// Locks.
const LOCKS: u32 = 4;

/// Bytes from word to word.
const WORD_STEP_BYTES: usize = 256;

/// Where a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of its region.
    pub region: usize,
    /// Its page there.
    pub page: usize,
    /// Its byte in the region.
    pub byte: usize,
}

/// The words of a run: those of each region, first of those that serve any program, then of those that serve programs without data races; and after them the last will of the node that is killed, one on a page of its own
/// for every node, which is home of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    /// Nodes.
    pub nodes: usize,
    /// Regions that the programs use in any way.
    pub regions: usize,
    /// Release regions, of which each word is used only under its lock, or by one writer or by readers until the next barrier.
    pub released: usize,
}

impl World {
    /// Bytes of a region.
    pub const fn region_bytes(self) -> usize {
        PAGES as usize * 4096
    }

    /// Words that programs use.
    pub const fn words(self) -> u32 {
        self.pages() * PAGE_WORDS
    }

    const fn pages(self) -> u32 {
        (self.regions + self.released) as u32 * PAGES
    }

    /// The word of the will whose page has its home at `node`.
    pub const fn will(self, node: usize) -> u32 {
        self.words() + node as u32
    }

    /// Where a word is. The will is a region after the others.
    pub const fn place(self, word: u32) -> Place {
        if word >= self.words() {
            let page = (word - self.words()) as usize;
            return Place { region: self.regions + self.released, page, byte: page * 4096 };
        }
        let (all_pages, slot) = (word / PAGE_WORDS, (word % PAGE_WORDS) as usize);
        let (region, page) = ((all_pages / PAGES) as usize, (all_pages % PAGES) as usize);
        Place { region, page, byte: page * 4096 + slot * WORD_STEP_BYTES }
    }

    fn any_page(self, random: &mut Random) -> u32 {
        random.below(self.regions * PAGES as usize) as u32
    }

    /// A word for loads, stores and exchanges.
    fn any_free(self, random: &mut Random) -> u32 {
        self.any_page(random) * PAGE_WORDS + random.below(2) as u32
    }

    fn any_counter(self, random: &mut Random) -> u32 {
        self.any_page(random) * PAGE_WORDS + 2
    }

    /// A word that `lock` protects.
    fn any_protected(self, random: &mut Random, lock: u32) -> u32 {
        let page = (random.below((self.pages() / LOCKS) as usize) as u32) * LOCKS + lock;
        page * PAGE_WORDS + 3
    }

    /// A word of a release region that belongs to one writer, or to readers, until the next barrier.
    fn any_phased(self, random: &mut Random) -> u32 {
        let first = self.regions as u32 * PAGES;
        let page = first + random.below(self.released * PAGES as usize) as u32;
        page * PAGE_WORDS + random.below(PAGE_WORDS as usize - 1) as u32
    }

    /// Who alone uses such a word in an even phase.
    const fn writer(self, word: u32, phase: u32) -> ThreadName {
        ThreadName { node: ((word + phase / 2) as usize % self.nodes) as u16, thread: 0 }
    }
}

/// A step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Load a word.
    Read(u32),
    /// Store a new value.
    Write(u32),
    /// Exchange it for a new value.
    Swap(u32),
    /// Exchange it for a new value if it is what this thread saw last.
    CompareExchange(u32),
    /// Add 1.
    Increment(u32),
    /// A fence.
    Fence,
    /// Take a lock, load or (true) store words that it protects, and give it back.
    Locked(u32, Vec<(u32, bool)>),
    /// Do nothing for so many nanoseconds.
    Pause(u64),
}

/// What one thread does: the same steps for the same seed, for ever.
#[derive(Debug, Clone)]
pub struct Program {
    world: World,
    by: ThreadName,
    phase: u32,
    random: Random,
}

impl Program {
    /// The program of a thread.
    pub fn new(world: World, seed: u64, by: ThreadName) -> Program {
        Program { world, by, phase: 0, random: Random::part(seed, &[by.node.into(), by.thread.into()]) }
    }

    /// All threads have met at a barrier, or begin: this phase lasts until they meet again.
    pub fn enter(&mut self, phase: u32) {
        self.phase = phase;
    }

    /// The next step, and whether a fence follows each of its accesses.
    pub fn next_step(&mut self) -> (Step, bool) {
        let Program { world, random, .. } = self;
        if world.released > 0 && (world.regions == 0 || random.once_in(3)) {
            return self.next_without_races();
        }
        let step = match random.below(100) {
            0..30 => Step::Read(world.any_free(random)),
            30..38 => Step::Read(world.any_counter(random)),
            38..60 => Step::Write(world.any_free(random)),
            60..66 => Step::Swap(world.any_free(random)),
            66..72 => Step::CompareExchange(world.any_free(random)),
            72..80 => Step::Increment(world.any_counter(random)),
            80..83 => Step::Fence,
            83..93 => locked(*world, random),
            _ => Step::Pause(random.below(30_000) as u64),
        };
        (step, self.random.once_in(2))
    }

    /// A step that release regions serve.
    fn next_without_races(&mut self) -> (Step, bool) {
        let Program { world, by, phase, ref mut random } = *self;
        let word = world.any_phased(random);
        let writes = phase.is_multiple_of(2);
        let step = match random.below(100) {
            0..60 if !writes => Step::Read(word),
            0..60 if world.writer(word, phase) == by => {
                if random.once_in(3) {
                    Step::Read(word)
                } else {
                    Step::Write(word)
                }
            }
            90.. => Step::Pause(random.below(30_000) as u64),
            _ => locked(world, random),
        };
        (step, self.random.once_in(2))
    }
}

fn locked(world: World, random: &mut Random) -> Step {
    let lock = random.below(LOCKS as usize) as u32;
    let accesses = 1 + random.below(4);
    let access = |_| (world.any_protected(random, lock), random.once_in(2));
    Step::Locked(lock, (0..accesses).map(access).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_seed_gives_each_thread_one_program() {
        let world = World { nodes: 3, regions: 2, released: 1 };
        let steps = |seed, node, thread| {
            let mut program = Program::new(world, seed, ThreadName { node, thread });
            (0..200).map(|_| program.next_step()).collect::<Vec<_>>()
        };
        assert_eq!(steps(4, 0, 1), steps(4, 0, 1));
        assert_ne!(steps(4, 0, 1), steps(4, 1, 0));
        assert_ne!(steps(4, 0, 1), steps(5, 0, 1));
    }

    #[test]
    fn words_have_places_and_uses_of_their_own() {
        let world = World { nodes: 4, regions: 2, released: 0 };
        let places: BTreeSet<(usize, usize)> =
            (0..world.words() + 4).map(|word| world.place(word)).map(|at| (at.region, at.byte)).collect();
        assert_eq!(places.len(), world.words() as usize + 4);
        let mut uses = vec![BTreeSet::new(); world.words() as usize];
        let mut program = Program::new(world, 1, ThreadName { node: 0, thread: 0 });
        for _ in 0..20_000 {
            match program.next_step().0 {
                Step::Write(word) | Step::Swap(word) | Step::CompareExchange(word) => {
                    uses[word as usize].insert("free");
                }
                Step::Increment(word) => {
                    uses[word as usize].insert("counter");
                }
                Step::Locked(lock, accesses) => {
                    for (word, _) in accesses {
                        uses[word as usize].insert(["lock 0", "lock 1", "lock 2", "lock 3"][lock as usize]);
                    }
                }
                Step::Read(_) | Step::Fence | Step::Pause(_) => {}
            }
        }
        assert!(uses.iter().all(|uses| uses.len() == 1), "{uses:?}");
    }
    /// A word of a release region that two threads use at once, one of them to write it, would be promised nothing.
    #[test]
    fn programs_on_release_regions_have_no_data_races() {
        for regions in [0, 2] {
            let world = World { nodes: 3, regions, released: 2 };
            let first = regions as u32 * PAGES * PAGE_WORDS;
            let names = (0..3).flat_map(|node| (0..2).map(move |thread| ThreadName { node, thread }));
            let mut programs: Vec<_> = names.map(|by| (by, Program::new(world, 7, by))).collect();
            let (mut written, mut read) = (0, 0);
            for phase in 1..200 {
                let mut writers: BTreeMap<u32, BTreeSet<ThreadName>> = BTreeMap::new();
                let mut users = writers.clone();
                for (by, program) in &mut programs {
                    program.enter(phase);
                    for _ in 0..60 {
                        let (word, writes) = match program.next_step().0 {
                            Step::Read(word) => (word, false),
                            Step::Write(word) => (word, true),
                            Step::Swap(word) | Step::CompareExchange(word) | Step::Increment(word) => {
                                assert!(word < first, "an atomic on a release region");
                                continue;
                            }
                            Step::Locked(lock, accesses) => {
                                let its =
                                    |word: u32| word % PAGE_WORDS == 3 && word / PAGE_WORDS % LOCKS == lock;
                                assert!(accesses.iter().all(|(word, _)| its(*word)));
                                continue;
                            }
                            Step::Fence | Step::Pause(_) => continue,
                        };
                        if word < first {
                            continue;
                        }
                        assert!(word % PAGE_WORDS != 3 && word < world.words());
                        users.entry(word).or_default().insert(*by);
                        if writes {
                            writers.entry(word).or_default().insert(*by);
                        }
                        (written, read) = (written + u32::from(writes), read + u32::from(!writes));
                    }
                }
                for (word, writers) in writers {
                    assert!(writers.len() == 1 && users[&word] == writers, "word {word} in phase {phase}");
                }
            }
            assert!(written > 500 && read > 500, "{written} writes, {read} reads");
        }
    }
}
