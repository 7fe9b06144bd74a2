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

/// The lock that is given back.
const LOCK: u64 = 77;

#[derive(Clone, Copy)]
enum Work {
    /// The first write to each page that is here for reading.
    FirstWrite,
    /// Giving a lock back after writing so many bytes on so many pages.
    Flush { bytes: usize, pages: usize },
}

struct Writing<'a> {
    ground: &'a Ground,
    work: Work,
    words: SharedSlice<u64>,
}

/// The cases of the suite. They share their pages.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let words = ground.pages("release", HOME, PAGES_MOST, Protocol::Release)?;
    let flush = |bytes, pages| Work::Flush { bytes, pages };
    let works = [Work::FirstWrite, flush(8, 1), flush(512, 1), flush(4096, 1), flush(8, 16), flush(4096, 16)];
    Ok(works
        .into_iter()
        .map(|work| Box::new(Writing { ground, work, words: words.clone() }) as Box<dyn Case>)
        .collect())
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
            Work::Flush { bytes, pages: 1 } => format!("unlock after writing {bytes} B on 1 page"),
            Work::Flush { bytes, pages } => {
                format!("unlock after writing {bytes} B on each of {pages} pages")
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
        let lock = self.ground.mesh.lock(LOCK);
        let mut samples = Samples::default();
        match self.work {
            Work::FirstWrite => {
                let guard = lock.acquire()?;
                for page in 0..self.pages() {
                    let began = Instant::now();
                    self.words.set(page * WORDS + 1, round as u64 + 1)?;
                    samples.add(began.elapsed());
                }
                drop(guard);
            }
            Work::Flush { bytes, pages } => {
                for number in 0..self.flushes() {
                    let guard = lock.acquire()?;
                    // Never what was there before: other rounds and other cases write to the same pages.
                    let written = vec![(round << 20 | (number + 1)) as u64 | (bytes as u64) << 48; bytes / 8];
                    for page in 0..pages {
                        self.words.write(page * WORDS, &written)?;
                    }
                    let began = Instant::now();
                    drop(guard);
                    samples.add(began.elapsed());
                }
            }
        }
        Ok(samples)
    }
}
