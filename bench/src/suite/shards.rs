//! Faults of several threads of one node at the same time, by whether one shard decides about their pages or several.

use super::fault::{Act, act, stamp};
use crate::ground::{Case, Ground, HOME, READER, WORDS, shuffled};
use crate::samples::Samples;
use anyhow::{Result, bail};
use pagemesh::{Config, NodeId, Protocol, SharedSlice};
use std::ops::Range;
use std::sync::Barrier;
use std::time::Instant;

/// Neighbouring pages that one shard decides about.
const STRIPE: usize = 512;
/// Threads that fault at the same time.
const THREADS: [usize; 2] = [1, 4];
const THREADS_MOST: usize = THREADS[1];
/// Shards that a node has at most: from a stripe to the next of the same shard are no more.
const SHARDS_MOST: usize = 64;
/// Pages that a thread touches at most; the others of its stripe are the baseline's.
const PAGES_MOST: usize = STRIPE / 2;

/// Where the pages are that are touched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the reader, which is their home, and alone has them: to write them takes no message.
    Here,
    /// At their home, which has written them.
    There,
}

/// Whose pages the threads touch at the same time, each in a stripe of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    OneShard,
    Several,
}

struct Touching<'a> {
    ground: &'a Ground,
    place: Place,
    threads: usize,
    /// How many shards the reader has.
    shards: usize,
    words: SharedSlice<u64>,
}

/// The cases: of both places, with one thread and with several.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let shards = usize::from(Config::shards_from_env()?);
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (place, home, name) in [(Place::Here, READER, "shards here"), (Place::There, HOME, "shards there")] {
        let pages = ((THREADS_MOST - 1) * SHARDS_MOST + 1) * STRIPE;
        let words = ground.pages(name, home, pages, Protocol::WriteInvalidate)?;
        for threads in THREADS {
            cases.push(Box::new(Touching { ground, place, threads, shards, words: words.clone() }));
        }
    }
    Ok(cases)
}

impl Touching<'_> {
    /// How many pages a thread touches.
    fn count(&self) -> usize {
        self.ground.plan.samples.min(PAGES_MOST)
    }

    /// The first page that this thread touches.
    fn first(&self, thread: usize, of: Of) -> usize {
        match of {
            Of::Several => thread * STRIPE,
            Of::OneShard => thread * self.shards * STRIPE + PAGES_MOST,
        }
    }

    fn act_on_all(&self, deed: Act, round: usize) -> Result<()> {
        for of in [Of::OneShard, Of::Several] {
            for thread in 0..self.threads {
                let first = self.first(thread, of);
                act(deed, &self.words, first..first + self.count(), round)?;
            }
        }
        Ok(())
    }

    /// One sample, the time for each page.
    fn touch_all(&self, round: usize, of: Of) -> Result<Samples> {
        let start = Barrier::new(self.threads);
        let times = std::thread::scope(|scope| -> Result<Vec<_>> {
            let (words, place, count) = (&self.words, self.place, self.count());
            let thread = |thread: usize| {
                let (first, start) = (self.first(thread, of), &start);
                scope.spawn(move || touch(words, place, first..first + count, round, start))
            };
            let running: Vec<_> = (0..self.threads).map(thread).collect();
            let ended = running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.collect()
        })?;
        let began = times.iter().map(|(began, _)| *began).min();
        let ended = times.iter().map(|(_, ended)| *ended).max();
        let mut samples = Samples::default();
        if let Some((began, ended)) = began.zip(ended) {
            samples.add((ended - began) / (self.threads * self.count()) as u32);
        }
        Ok(samples)
    }
}

/// What a thread does: returns when it began and ended.
fn touch(
    words: &SharedSlice<u64>,
    place: Place,
    pages: Range<usize>,
    round: usize,
    start: &Barrier,
) -> Result<(Instant, Instant)> {
    let order = shuffled(pages.len());
    start.wait();
    let began = Instant::now();
    for page in order.into_iter().map(|page| pages.start + page) {
        if place == Place::Here {
            words.set(page * WORDS + 1, 1)?;
            continue;
        }
        let held = words.get(page * WORDS)?;
        if held != stamp(round, page) {
            bail!("page {page} holds {held}, not {}", stamp(round, page));
        }
    }
    Ok((began, Instant::now()))
}

impl Case for Touching<'_> {
    fn name(&self) -> String {
        let what = match self.place {
            Place::Here => "write, no message, by",
            Place::There => "read by",
        };
        let whose =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        format!("{what} {whose}, different shards, time for each page")
    }

    fn baseline(&self) -> Option<String> {
        Some(format!("the same, all of 1 shard of {}", self.shards))
    }

    fn steps(&self) -> usize {
        match self.place {
            Place::Here => 3,
            Place::There => 1,
        }
    }

    fn prepare(&self, round: usize, step: usize) -> Result<()> {
        let steps: &[(NodeId, Act)] = match self.place {
            Place::Here => &[(READER, Act::Write), (HOME, Act::Read), (HOME, Act::Evict)],
            Place::There => &[(HOME, Act::Write)],
        };
        let (node, deed) = steps[step];
        if node == self.ground.node() { self.act_on_all(deed, round) } else { Ok(()) }
    }

    fn measure_baseline(&self, round: usize) -> Result<Samples> {
        self.touch_all(round, Of::OneShard)
    }

    fn measure(&self, round: usize) -> Result<Samples> {
        self.touch_all(round, Of::Several)
    }
}
