//! How fast much memory is read and written in order of address.

use super::fault::{Act, act};
use crate::ground::{Case, Ground, HOME, PAGE, WORDS};
use crate::mode::Mode;
use crate::plan::Link;
use crate::report::Target;
use crate::samples::Samples;
use anyhow::{Result, bail};
use pagemesh::{Access, SharedSlice, Unit};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// Pages that are moved, for each sample that a plan asks for: 64 MiB for 1024.
const PAGES_EACH: usize = 16;

/// Pages asked for at a time; 1 is left to the faults themselves.
const DEPTHS: [usize; 3] = [1, 16, 64];

/// How often a round moves the bytes by the baseline.
const RAW_PASSES: usize = 3;

/// Pages copied at a time.
const PIECE: usize = 64;

struct Moving<'a> {
    ground: &'a Ground,
    access: Access,
    depth: usize,
    unit: Unit,
    words: SharedSlice<u64>,
    /// What is read goes here, and what is written comes from here.
    private: Rc<RefCell<Vec<u64>>>,
}

/// The cases of the suite. Those with the same unit share their pages.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let pages = (ground.plan.samples * PAGES_EACH).next_multiple_of(PIECE);
    let private = Rc::new(RefCell::new(vec![1; PIECE * WORDS]));
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for unit in Unit::ALL {
        let words = ground.units(&format!("bulk {}", unit.bytes()), pages, unit)?;
        // Who asks for pages himself has no use for larger units.
        let asking = if unit == Unit::Page { &DEPTHS[..] } else { &DEPTHS[..1] };
        for access in [Access::Read, Access::Write] {
            for depth in asking.iter().copied().filter(|depth| access == Access::Read || *depth != 16) {
                let (words, private) = (words.clone(), private.clone());
                cases.push(Box::new(Moving { ground, access, depth, unit, words, private }));
            }
        }
    }
    Ok(cases)
}

impl Case for Moving<'_> {
    fn name(&self) -> String {
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
            // 60 % of the raw rate.
            (Link::Tcp, _, Access::Read) => Some(Target::Ratio(1.0 / 0.6)),
            // So many bytes in a microsecond.
            (Link::Ring, Mode::OwnCores, _) => self.bytes().map(|bytes| Target::P50(bytes as f64 / 2500.0)),
            (Link::Ring, _, _) => None,
        }
    }

    fn baseline(&self) -> Option<String> {
        Some("raw TCP, as many bytes".to_owned())
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.words.len() as u64 * 8)
    }

    fn steps(&self) -> usize {
        1
    }

    fn prepare(&self, round: usize, _: usize) -> Result<()> {
        if self.ground.node() == HOME {
            act(Act::Write, &self.words, 0..self.words.len() / WORDS, round)?;
        }
        Ok(())
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        // It is so much shorter that one alone would catch less of what else the machine does.
        for _ in 0..RAW_PASSES {
            samples.add(self.ground.bulk.borrow_mut().read(self.words.len() / WORDS * PAGE)?);
        }
        Ok(samples)
    }

    fn measure(&self, round: usize) -> Result<Samples> {
        let mut private = self.private.borrow_mut();
        let region = self.words.region();
        let began = Instant::now();
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
        let took = began.elapsed();
        let last = self.words.len() / WORDS - PIECE;
        let expected = (round as u64) << 32 | (last as u64 + 1);
        if self.access == Access::Read && private[0] != expected {
            bail!("page {last} holds {}, not {expected}", private[0]);
        }
        let mut samples = Samples::default();
        samples.add(took);
        Ok(samples)
    }
}
