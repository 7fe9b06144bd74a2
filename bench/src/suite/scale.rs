//! Faults of all nodes at the same time, each on pages of the next one; and of the threads of one.

use super::fault::{Act, act};
use super::shards;
use crate::ground::{Case, Ground, PAGE, WORDS, shuffled};
use crate::samples::Samples;
use anyhow::{Context, Result};
use pagemesh::{NodeId, Protocol, SharedSlice};
use std::time::Instant;

struct Ring<'a> {
    ground: &'a Ground,
    /// Pages of each node.
    pages: Vec<SharedSlice<u64>>,
}

/// The cases of the suite.
pub(super) fn cases(ground: &Ground) -> Result<Vec<Box<dyn Case + '_>>> {
    let pages: Result<Vec<_>> = (0..ground.mesh.nodes())
        .map(|node| {
            let home = NodeId::new(node as u16);
            ground.pages(&format!("ring {node}"), home, ground.plan.samples, Protocol::WriteInvalidate)
        })
        .collect();
    let mut cases: Vec<Box<dyn Case>> = vec![Box::new(Ring { ground, pages: pages? })];
    if ground.mesh.nodes() == 2 {
        cases.extend(shards::cases(ground)?);
    }
    Ok(cases)
}

impl Ring<'_> {
    /// One sample, the time for each page: what a single fault takes says little where nodes share cores.
    fn read(&self) -> Result<Samples> {
        let next = (self.ground.node().index() + 1) % self.pages.len();
        let words = self.pages.get(next).context("every node has pages")?;
        let order = shuffled(self.ground.plan.samples);
        let began = Instant::now();
        for page in &order {
            words.get(page * WORDS)?;
        }
        let mut samples = Samples::default();
        samples.add(began.elapsed() / order.len() as u32);
        Ok(samples)
    }

    fn ping(&self) -> Result<Samples> {
        let count = self.ground.plan.samples;
        let began = Instant::now();
        self.ground.ring.borrow_mut().ping(64, 64 + PAGE, count)?;
        let mut samples = Samples::default();
        samples.add(began.elapsed() / count as u32);
        Ok(samples)
    }
}

impl Case for Ring<'_> {
    fn name(&self) -> String {
        format!("{} nodes read, time for each page", self.ground.mesh.nodes())
    }

    fn baseline(&self) -> Option<String> {
        Some("raw TCP, all nodes at a time".to_owned())
    }

    fn steps(&self) -> usize {
        1
    }

    fn prepare(&self, round: usize, _: usize) -> Result<()> {
        let own = &self.pages[self.ground.node().index()];
        act(Act::Write, own, 0..self.ground.plan.samples, round)
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        self.ping()
    }

    fn accompany_baseline(&self, _: usize) -> Result<()> {
        self.ping().map(drop)
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        self.read()
    }

    fn accompany(&self, _: usize) -> Result<()> {
        self.read().map(drop)
    }
}
