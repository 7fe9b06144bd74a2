//! How fast much memory is read and written in order of address, and beside it, how fast pages are read in no order.

use super::fault::{Act, act};
use crate::ground::{Case, Ground, HOME, PAGE, READER, WORDS};
use crate::mode::Mode;
use crate::plan::Link;
use crate::raw::Through;
use crate::report::Target;
use crate::samples::Samples;
use anyhow::{Result, bail};
use pagemesh::{Access, SharedSlice, Unit};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// Pages that are moved for each sample that a plan asks for, in 64ths: with the usual 500 it is 64 MiB.
const PAGES_EACH_64: usize = 2097;

/// Of so many pages one is read, where they are read in no order: each is missed by itself.
const SCATTERED: usize = 16;

/// Pages asked for at a time; 1 is left to the faults themselves.
const DEPTHS: [usize; 3] = [1, 16, 64];

/// How often a round moves the bytes by the baseline.
const RAW_PASSES: usize = 3;

/// Pages copied at a time.
const PIECE: usize = 64;

/// What all is held against.
const BASELINE: &str = "raw TCP, as many bytes";

/// In which order pages are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Address,
    /// By address, and every second one only.
    EverySecond,
    /// None: 1 of [`SCATTERED`].
    Scattered,
}

struct Moving<'a> {
    ground: &'a Ground,
    access: Access,
    order: Order,
    depth: usize,
    unit: Unit,
    words: SharedSlice<u64>,
    /// What is read goes here, and what is written comes from here.
    private: Rc<RefCell<Vec<u64>>>,
}

/// The cases of the suite. Those with the same unit share their pages.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let pages = (ground.plan.samples * PAGES_EACH_64 / 64).next_multiple_of(PIECE);
    let private = Rc::new(RefCell::new(vec![1; PIECE * WORDS]));
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    if ground.plan.link == Link::Tcp {
        cases.push(Box::new(OneBuffer { ground, bytes: pages * PAGE }));
    }
    for unit in Unit::ALL {
        let words = ground.units(&format!("bulk {}", unit.bytes()), pages, unit)?;
        // Who asks for pages himself has no use for larger units.
        let asking = if unit == Unit::Page { &DEPTHS[..] } else { &DEPTHS[..1] };
        for access in [Access::Read, Access::Write] {
            for depth in asking.iter().copied().filter(|depth| access == Access::Read || *depth != 16) {
                let (words, private) = (words.clone(), private.clone());
                let order = Order::Address;
                cases.push(Box::new(Moving { ground, access, order, depth, unit, words, private }));
            }
        }
        if unit == Unit::Page {
            for order in [Order::EverySecond, Order::Scattered] {
                let (access, depth) = (Access::Read, 1);
                let (words, private) = (words.clone(), private.clone());
                cases.push(Box::new(Moving { ground, access, order, depth, unit, words, private }));
            }
        }
    }
    Ok(cases)
}

/// A bare program, a few times: it is so much shorter that one alone would catch less of what else the machine does.
fn raw(ground: &Ground, bytes: usize, through: Through) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..RAW_PASSES {
        samples.add(ground.bulk.borrow_mut().read(bytes, through)?);
    }
    Ok(samples)
}

/// The bare program without the cost of memory that no cache holds, beside itself.
struct OneBuffer<'a> {
    ground: &'a Ground,
    bytes: usize,
}

impl Case for OneBuffer<'_> {
    fn name(&self) -> String {
        "a bare stream from one buffer into one".to_owned()
    }

    fn baseline(&self) -> Option<String> {
        Some(BASELINE.to_owned())
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes as u64)
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        raw(self.ground, self.bytes, Through::Memory)
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        raw(self.ground, self.bytes, Through::OneBuffer)
    }
}

impl Moving<'_> {
    fn pages(&self) -> usize {
        let all = self.words.len() / WORDS;
        match self.order {
            Order::Address => all,
            Order::EverySecond => all / 2,
            Order::Scattered => all / SCATTERED,
        }
    }

    /// Reads pages in an order in which no two neighbours come at a distance that is like that of others.
    fn read_scattered(&self, round: usize) -> Result<()> {
        let mut state = round as u64;
        for block in 0..self.pages() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // One in each block, and the blocks far from each other.
            let block = block * 37 % self.pages();
            self.look_at(block * SCATTERED + (state >> 33) as usize % SCATTERED, round)?;
        }
        Ok(())
    }

    fn look_at(&self, page: usize, round: usize) -> Result<()> {
        let found = self.words.get(page * WORDS)?;
        let expected = (round as u64) << 32 | (page as u64 + 1);
        if found != expected {
            bail!("page {page} holds {found}, not {expected}");
        }
        Ok(())
    }

    fn move_in_order(&self, round: usize) -> Result<()> {
        let mut private = self.private.borrow_mut();
        let region = self.words.region();
        for start in (0..self.words.len() / WORDS).step_by(PIECE) {
            for ahead in (start..start + PIECE).step_by(self.depth) {
                match (self.depth, self.access) {
                    (1, _) => break,
                    (_, Access::Write) => region.prefetch_for_writing(ahead..ahead + self.depth)?,
                    (_, _) => region.prefetch(ahead..ahead + self.depth)?,
                }
            }
            match self.access {
                Access::Write => self.words.write(start * WORDS, &private)?,
                Access::Read => self.words.read(start * WORDS, &mut private)?,
            }
        }
        let last = self.words.len() / WORDS - PIECE;
        let expected = (round as u64) << 32 | (last as u64 + 1);
        if self.access == Access::Read && private[0] != expected {
            bail!("page {last} holds {}, not {expected}", private[0]);
        }
        Ok(())
    }
}

impl Case for Moving<'_> {
    fn name(&self) -> String {
        match self.order {
            Order::Address => {}
            Order::EverySecond => return "read in order, every second page".to_owned(),
            Order::Scattered => return format!("read in no order, 1 page of {SCATTERED}"),
        }
        let what = if self.access == Access::Read { "read" } else { "write" };
        match (self.depth, self.unit) {
            (1, Unit::Page) => format!("{what} in order, page by page"),
            (1, unit) => format!("{what} in order, units of {} KiB", unit.bytes() >> 10),
            (depth, _) => format!("{what} in order, {depth} pages asked for"),
        }
    }

    fn target(&self) -> Option<Target> {
        match (self.ground.plan.link, self.ground.plan.mode, self.access) {
            (_, _, Access::Write) => None,
            // What is asked for by hand shows what a depth is worth.
            _ if self.order != Order::Address || self.depth > 1 => None,
            // 60 % of the raw rate.
            (Link::Tcp, _, Access::Read) => Some(Target::Ratio(1.0 / 0.6)),
            // So many bytes in a microsecond.
            (Link::Ring, Mode::OwnCores, _) => self.bytes().map(|bytes| Target::P50(bytes as f64 / 2500.0)),
            (Link::Ring, _, _) => None,
        }
    }

    fn baseline(&self) -> Option<String> {
        Some(BASELINE.to_owned())
    }

    fn bytes(&self) -> Option<u64> {
        Some((self.pages() * PAGE) as u64)
    }

    fn steps(&self) -> usize {
        2
    }

    /// The reader has had every page and the home has written it since, whatever case came before: a page that a node never had, or not for long, takes longer
    /// to come by up to a fifth, since the kernel's tables of it are in no cache.
    fn prepare(&self, round: usize, step: usize) -> Result<()> {
        let all = 0..self.words.len() / WORDS;
        match step {
            0 if self.ground.node() == READER => act(Act::Read, &self.words, all, round),
            1 if self.ground.node() == HOME => act(Act::Write, &self.words, all, round),
            _ => Ok(()),
        }
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        raw(self.ground, self.pages() * PAGE, Through::Memory)
    }

    fn measure(&self, round: usize) -> Result<Samples> {
        let began = Instant::now();
        match self.order {
            Order::Address => self.move_in_order(round)?,
            Order::EverySecond => (0..self.pages()).try_for_each(|page| self.look_at(2 * page, round))?,
            Order::Scattered => self.read_scattered(round)?,
        }
        let took = began.elapsed();
        let mut samples = Samples::default();
        samples.add(took);
        Ok(samples)
    }
}
