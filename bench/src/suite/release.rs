//! Writes and synchronisation of release regions.

use super::fault::{Act, act};
use crate::ground::{Case, Ground, HOME, READER, WORDS};
use crate::report::Target;
use crate::samples::Samples;
use anyhow::Result;
use pagemesh::{Protocol, SharedSlice};
use std::time::Instant;

/// Pages that are written before one release, at most: the twins of an interval are bounded.
const PAGES_MOST: usize = 256;

/// Releases of a round, at least.
const FLUSHES_LEAST: usize = 20;

/// The lock that is held, and the condition that is signalled: a lock that nobody waits for stays where it is and releases nothing.
const LOCK: u64 = 77;

/// The barrier that is reached before and after each page is read again.
const REREAD: u64 = 1_000_078;

/// Pages of which the reader reads the first word in each turn, and turns before that is measured: by then it is known what is read.
const REREAD_PAGES: usize = 16;
const REREAD_BYTES: usize = REREAD_PAGES * WORDS * size_of::<u64>();
const EARLY_TURNS: usize = 8;

#[derive(Clone, Copy)]
enum Work {
    /// The first write to each page that is here for reading.
    FirstWrite,
    /// A signal after writing so many bytes on so many pages: a release that waits for nobody.
    Flush { bytes: usize, pages: usize },
}

struct Writing<'a> {
    ground: &'a Ground,
    work: Work,
    words: SharedSlice<u64>,
}

/// A producer and a consumer: the home writes some pages before each barrier, and the reader reads them after it.
struct Rereading<'a> {
    ground: &'a Ground,
    words: SharedSlice<u64>,
}

/// The cases of the suite. Those that write share their pages.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let words = ground.pages("release", HOME, PAGES_MOST, Protocol::Release)?;
    let flush = |bytes, pages| Work::Flush { bytes, pages };
    let works = [Work::FirstWrite, flush(8, 1), flush(512, 1), flush(4096, 1), flush(8, 16), flush(4096, 16)];
    let writing = works
        .into_iter()
        .map(|work| Box::new(Writing { ground, work, words: words.clone() }) as Box<dyn Case>);
    let mut cases: Vec<Box<dyn Case + '_>> = writing.collect();
    let words = ground.pages("reread", HOME, REREAD_PAGES, Protocol::Release)?;
    cases.push(Box::new(Rereading { ground, words }));
    Ok(cases)
}

impl Rereading<'_> {
    fn turns(&self) -> usize {
        EARLY_TURNS + self.ground.plan.samples
    }
}

impl Case for Rereading<'_> {
    fn name(&self) -> String {
        format!("read of {REREAD_PAGES} pages that their home writes before each barrier")
    }

    fn baseline(&self) -> Option<String> {
        Some(format!("raw TCP, 64 B and {REREAD_BYTES} B"))
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        self.ground.pinger.borrow_mut().ping(64, REREAD_BYTES, self.ground.plan.samples)
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        let barrier = self.ground.mesh.barrier(REREAD);
        let mut samples = Samples::default();
        for turn in 0..self.turns() {
            barrier.wait()?;
            let began = Instant::now();
            for page in 0..REREAD_PAGES {
                std::hint::black_box(self.words.get(page * WORDS)?);
            }
            let took = began.elapsed();
            if turn >= EARLY_TURNS {
                samples.add(took);
            }
            barrier.wait()?;
        }
        Ok(samples)
    }

    fn accompany(&self, round: usize) -> Result<()> {
        let barrier = self.ground.mesh.barrier(REREAD);
        for turn in 0..self.turns() {
            if self.ground.node() == HOME {
                for page in 0..REREAD_PAGES {
                    self.words.set(page * WORDS, (round << 20 | turn) as u64)?;
                }
            }
            barrier.wait()?;
            barrier.wait()?;
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// Pages that are read before a round.
    fn pages(&self) -> usize {
        match self.work {
            Work::FirstWrite => self.ground.plan.samples.min(PAGES_MOST),
            Work::Flush { pages, .. } => pages,
        }
    }

    fn flushes(&self) -> usize {
        (self.ground.plan.samples / self.pages()).max(self.ground.plan.samples.min(FLUSHES_LEAST))
    }
}

impl Case for Writing<'_> {
    fn name(&self) -> String {
        match self.work {
            Work::FirstWrite => "first write to a page that is here".to_owned(),
            Work::Flush { bytes, pages: 1 } => format!("signal after writing {bytes} B on 1 page"),
            Work::Flush { bytes, pages } => {
                format!("signal after writing {bytes} B on each of {pages} pages")
            }
        }
    }

    fn target(&self) -> Option<Target> {
        matches!(self.work, Work::FirstWrite).then_some(Target::P50(1.1))
    }

    fn baseline(&self) -> Option<String> {
        match self.work {
            Work::FirstWrite => None,
            Work::Flush { bytes, pages } => Some(format!("raw TCP, {} B and 64 B", 64 + bytes * pages)),
        }
    }

    fn steps(&self) -> usize {
        1
    }

    fn prepare(&self, round: usize, _: usize) -> Result<()> {
        if self.ground.node() == READER {
            act(Act::Read, &self.words, 0..self.pages(), round)?;
        }
        Ok(())
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        match self.work {
            Work::FirstWrite => Ok(Samples::default()),
            Work::Flush { bytes, pages } => {
                self.ground.pinger.borrow_mut().ping(64 + bytes * pages, 64, self.flushes())
            }
        }
    }

    fn measure(&self, round: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        match self.work {
            Work::FirstWrite => {
                let guard = self.ground.mesh.lock(LOCK).acquire()?;
                for page in 0..self.pages() {
                    let began = Instant::now();
                    self.words.set(page * WORDS + 1, round as u64 + 1)?;
                    samples.add(began.elapsed());
                }
                drop(guard);
            }
            Work::Flush { bytes, pages } => {
                let condition = self.ground.mesh.condvar(LOCK);
                for number in 0..self.flushes() {
                    // Never what was there before: other rounds and other cases write to the same pages.
                    let written = vec![(round << 20 | (number + 1)) as u64 | (bytes as u64) << 48; bytes / 8];
                    for page in 0..pages {
                        self.words.write(page * WORDS, &written)?;
                    }
                    let began = Instant::now();
                    condition.notify_one()?;
                    samples.add(began.elapsed());
                }
            }
        }
        Ok(samples)
    }
}
