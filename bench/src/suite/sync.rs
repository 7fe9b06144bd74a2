//! Locks, barriers and atomic instructions.

use super::fault::{Act, act};
use super::hand_over::{HandOver, Kind};
use crate::ground::{Case, Ground, HOME, PAGE, READER, THIRD, WORDS};
use crate::report::Target;
use crate::samples::Samples;
use anyhow::{Context, Result};
use pagemesh::{Lock, NodeId, Protocol, SharedSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What takes less than the clock is measured so many times over.
const BATCH: u32 = 16;

/// Adds of a node that has a competitor, for each sample that a plan asks for: the page is to change hands often.
const ADDS_EACH: usize = 100;

/// The barrier that is measured.
const MEASURED: u64 = 1_000_001;

/// The first lock of each case.
const LOCKS: u64 = 1 << 32;

/// The most locks that are looked at for one that has its home at [`HOME`].
const LOCKS_TRIED: u64 = 1000;

/// A case on locks.
#[derive(Clone, Copy)]
enum Locking {
    /// Taken and given back by the node that had it last.
    Again,
    /// Taken and given back by the last of these, after the others have had it in turn.
    After(&'static str, &'static [NodeId]),
    /// Wanted by all nodes at a time.
    Contended,
}

struct Locks<'a> {
    ground: &'a Ground,
    locking: Locking,
    /// All of them have the home [`HOME`].
    set: Vec<Lock>,
}

struct Meeting<'a> {
    ground: &'a Ground,
}

/// A case on atomic instructions.
#[derive(Clone, Copy)]
enum Adding {
    Here,
    Elsewhere,
    Contended,
}

struct Atomics<'a> {
    ground: &'a Ground,
    adding: Adding,
    words: SharedSlice<u64>,
    plain: AtomicU64,
}

/// The cases of the suite. Where there are more than two nodes, only those that more nodes change.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let mut cases: Vec<Box<dyn Case>> = vec![Box::new(Meeting { ground })];
    let mut lock = |locking| -> Result<()> {
        let number = cases.len() as u64;
        cases.push(Box::new(Locks { ground, locking, set: locks(ground, locking, number)? }));
        Ok(())
    };
    if ground.mesh.nodes() == 2 {
        lock(Locking::Again)?;
        lock(Locking::After("lock, its home had it last", &[HOME]))?;
    } else {
        lock(Locking::After("lock, a third node had it last", &[HOME, THIRD]))?;
    }
    lock(Locking::Contended)?;
    for kind in [Kind::Mutex, Kind::Writer] {
        let case = cases.len() as u64;
        let number = numbers(ground, 1, case)?[0];
        let given = ground.pages(&format!("hand-over {case}"), HOME, 1, Protocol::WriteInvalidate)?;
        cases.push(Box::new(HandOver { ground, kind, number, given }));
    }
    if ground.mesh.nodes() == 2 {
        for (number, adding) in [Adding::Here, Adding::Elsewhere, Adding::Contended].into_iter().enumerate() {
            let pages = if matches!(adding, Adding::Elsewhere) { ground.plan.samples } else { 1 };
            let words = ground.pages(&format!("atomics {number}"), HOME, pages, Protocol::WriteInvalidate)?;
            cases.push(Box::new(Atomics { ground, adding, words, plain: AtomicU64::new(0) }));
        }
    }
    Ok(cases)
}

/// Numbers of locks of any kind that have their home at [`HOME`]. That node finds out, since taking such a lock for the first time costs it no
/// message. What else it says meanwhile only makes it try one more.
fn numbers(ground: &Ground, wanted: usize, case: u64) -> Result<Vec<u64>> {
    let first = LOCKS * case;
    let name = format!("locks {case}");
    let found = ground.pages(&name, HOME, wanted.div_ceil(WORDS), Protocol::WriteInvalidate)?;
    if ground.node() == HOME {
        let mut count = 0;
        for id in first..first + LOCKS_TRIED + 32 * wanted as u64 {
            let before = ground.mesh.stats().messages_sent;
            drop(ground.mesh.lock(id).acquire()?);
            if ground.mesh.stats().messages_sent == before {
                found.set(count, id)?;
                count += 1;
            }
            if count == wanted {
                break;
            }
        }
        (count == wanted).then_some(()).context("no locks were found that have their home here")?;
    }
    ground.mesh.barrier(MEASURED).wait()?;
    (0..wanted).map(|at| Ok(found.get(at)?)).collect()
}

fn locks(ground: &Ground, locking: Locking, case: u64) -> Result<Vec<Lock>> {
    let wanted = match locking {
        Locking::Again | Locking::Contended => 1,
        Locking::After(..) => (ground.plan.samples / 4).max(1),
    };
    Ok(numbers(ground, wanted, case)?.into_iter().map(|id| ground.mesh.lock(id)).collect())
}

impl Locks<'_> {
    /// The home of the lock passes the request on to the node that had the lock.
    fn comes_from_third(&self) -> bool {
        matches!(self.locking, Locking::After(_, [.., last]) if *last == THIRD)
    }
}

fn take_once(lock: &Lock) -> Result<()> {
    drop(lock.acquire()?);
    Ok(())
}

impl Case for Locks<'_> {
    fn name(&self) -> String {
        match self.locking {
            Locking::Again => "lock and unlock, this node had it last".to_owned(),
            Locking::After(name, _) => name.to_owned(),
            Locking::Contended => format!("lock and unlock, {} nodes want it", self.ground.mesh.nodes()),
        }
    }

    fn target(&self) -> Option<Target> {
        match self.locking {
            Locking::Again => Some(Target::P50(0.1)),
            Locking::After(..) => Some(Target::Ratio(1.5)),
            Locking::Contended => None,
        }
    }

    fn baseline(&self) -> Option<String> {
        // What costs no message has no round trip to be held against.
        let hops = if self.comes_from_third() { "64 B by two hops" } else { "64 B" };
        (!matches!(self.locking, Locking::Again)).then(|| format!("raw TCP, {hops} and 64 B"))
    }

    fn steps(&self) -> usize {
        if let Locking::After(_, nodes) = self.locking { nodes.len() } else { 0 }
    }

    fn prepare(&self, _: usize, step: usize) -> Result<()> {
        match self.locking {
            Locking::After(_, nodes) if nodes[step] == self.ground.node() => {
                self.set.iter().try_for_each(take_once)
            }
            _ => Ok(()),
        }
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        let count = self.ground.plan.samples;
        if self.comes_from_third() {
            return self.ground.circle(64, count);
        }
        self.ground.pinger.borrow_mut().ping(64, 64, count)
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        match self.locking {
            Locking::Again => {
                for _ in 0..self.ground.plan.samples.div_ceil(BATCH as usize) {
                    let began = Instant::now();
                    for _ in 0..BATCH {
                        take_once(&self.set[0])?;
                    }
                    samples.add(began.elapsed() / BATCH);
                }
            }
            Locking::After(..) => {
                for lock in &self.set {
                    let began = Instant::now();
                    let guard = lock.acquire()?;
                    samples.add(began.elapsed());
                    drop(guard);
                }
            }
            Locking::Contended => {
                for _ in 0..self.ground.plan.samples {
                    let began = Instant::now();
                    take_once(&self.set[0])?;
                    samples.add(began.elapsed());
                }
            }
        }
        Ok(samples)
    }

    fn accompany(&self, round: usize) -> Result<()> {
        if matches!(self.locking, Locking::Contended) { self.measure(round).map(drop) } else { Ok(()) }
    }
}

impl Case for Meeting<'_> {
    fn name(&self) -> String {
        format!("barrier of {}", self.ground.mesh.nodes())
    }

    fn target(&self) -> Option<Target> {
        (self.ground.mesh.nodes() <= 4).then_some(Target::Ratio(1.25))
    }

    fn baseline(&self) -> Option<String> {
        Some("a bare coordinator on TCP".to_owned())
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        self.ground.meeting.borrow_mut().meet(self.ground.plan.samples)
    }

    fn accompany_baseline(&self, round: usize) -> Result<()> {
        self.measure_baseline(round).map(drop)
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        let barrier = self.ground.mesh.barrier(MEASURED);
        let mut samples = Samples::default();
        for _ in 0..self.ground.plan.samples {
            let began = Instant::now();
            barrier.wait()?;
            samples.add(began.elapsed());
        }
        Ok(samples)
    }

    fn accompany(&self, round: usize) -> Result<()> {
        self.measure(round).map(drop)
    }
}

impl Case for Atomics<'_> {
    fn name(&self) -> String {
        match self.adding {
            Adding::Here => "add to a word, its page is here",
            Adding::Elsewhere => "add to a word, its page is elsewhere",
            Adding::Contended => "add to a word, 2 nodes do so: time for each",
        }
        .to_owned()
    }

    fn baseline(&self) -> Option<String> {
        match self.adding {
            Adding::Here => Some("the same in private memory".to_owned()),
            Adding::Elsewhere => Some("raw TCP, 64 B and 4160 B".to_owned()),
            // How often the page changes hands is not given.
            Adding::Contended => None,
        }
    }

    fn steps(&self) -> usize {
        1
    }

    fn prepare(&self, round: usize, _: usize) -> Result<()> {
        let node = if matches!(self.adding, Adding::Here) { READER } else { HOME };
        if node == self.ground.node() {
            act(Act::Write, &self.words, 0..self.words.len() / WORDS, round)?;
        }
        Ok(())
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        let count = self.ground.plan.samples;
        if !matches!(self.adding, Adding::Here) {
            return self.ground.pinger.borrow_mut().ping(64, 64 + PAGE, count);
        }
        in_batches(count, || {
            self.plain.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        match self.adding {
            Adding::Here => {
                samples =
                    in_batches(self.ground.plan.samples, || Ok(self.words.fetch_add(1, 1).map(drop)?))?;
            }
            Adding::Elsewhere => {
                for page in 0..self.words.len() / WORDS {
                    let began = Instant::now();
                    self.words.fetch_add(page * WORDS + 1, 1)?;
                    samples.add(began.elapsed());
                }
            }
            // One sample: most adds meet the page here, and a few wait for it. What counts is how many there are in a second.
            Adding::Contended => {
                let count = self.ground.plan.samples * ADDS_EACH;
                let began = Instant::now();
                for _ in 0..count {
                    self.words.fetch_add(1, 1)?;
                }
                samples.add(began.elapsed() / count as u32);
            }
        }
        Ok(samples)
    }

    fn accompany(&self, round: usize) -> Result<()> {
        if matches!(self.adding, Adding::Contended) { self.measure(round).map(drop) } else { Ok(()) }
    }
}

/// About `count` times, timed in batches.
fn in_batches(count: usize, mut once: impl FnMut() -> Result<()>) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count.div_ceil(BATCH as usize) {
        let began = Instant::now();
        for _ in 0..BATCH {
            once()?;
        }
        samples.add(began.elapsed() / BATCH);
    }
    Ok(samples)
}
