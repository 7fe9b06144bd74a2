//! Random runs about pins: threads of several nodes pin ranges that overlap, nest pins, touch pages between them, hold on beyond
//! the deadline, and nodes die.
//!
//! Without deadlines a run has to come to its end by itself: then nobody waits for pins in a circle. With them, no pin may be
//! broken but by one, and the end of each pin has to tell the truth.

use crate::breach::Breach;
use crate::event::{Event, WORDS};
use crate::lockstep::Lockstep;
use crate::node::Rights;
use crate::random::Random;
use crate::trace::TraceMode;
use crate::world::Manner;
use pagemesh_protocol::{
    Access, NodeId, Outcome, PageAddress, PinHolder, PinId, Placement, Protocol, RegionId, Ticket,
};
use std::fmt;

/// What a seed stands for here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinners {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: u16,
    /// Threads of each node.
    pub threads: usize,
    /// Pages of the one region.
    pub pages: u64,
    /// How they are kept coherent.
    pub protocol: Protocol,
    /// Their homes.
    pub placement: Placement,
    /// What each thread does before it ends, in pins and touches.
    pub operations: u32,
    /// How many of 1000 steps are the passing of a deadline; 0: no deadline ever passes.
    pub deadlines_permille: u32,
    /// A node that dies, and after how many steps.
    pub loss: Option<(u16, u64)>,
}

/// What happened in a run, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PinCounts {
    /// Steps: one delivery, or one step of a thread.
    pub steps: u64,
    /// Pins that got all their pages.
    pub pins: u64,
    /// Of these, pins inside another of the same thread.
    pub nested: u64,
    /// Pages that were pinned.
    pub pages: u64,
    /// Pages that a deadline took from a pin.
    pub taken: u64,
    /// Waits of demands for pins.
    pub waits: u64,
    /// Pins and touches that failed because a node died.
    pub failed: u64,
}

impl PinCounts {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &PinCounts) {
        self.steps += other.steps;
        self.pins += other.pins;
        self.nested += other.nested;
        self.pages += other.pages;
        self.taken += other.taken;
        self.waits += other.waits;
        self.failed += other.failed;
    }
}

/// A run in which a guarantee did not hold.
#[derive(Debug)]
pub struct PinFailed {
    /// What the seed decided.
    pub config: Pinners,
    /// What did not hold.
    pub breach: Breach,
    /// The last events.
    pub trace: Vec<String>,
}

impl fmt::Display for PinFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed: {}", self.config.seed, self.breach)?;
        writeln!(f, "configuration: {:?}", self.config)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let seed = self.config.seed;
        write!(f, "again: cargo run --release -p pagemesh-sim --example pinners -- {seed} 1")
    }
}

impl std::error::Error for PinFailed {}

/// A run that takes more steps makes no progress.
const STEP_BOUND: u64 = 400_000;
/// Trace lines of a report.
const TRACE_LINES: usize = 80;
const CONFIG_STREAM: u64 = 40;
const STEP_STREAM: u64 = 41;

impl Pinners {
    /// What `seed` stands for.
    pub fn draw(seed: u64) -> Pinners {
        let random = &mut Random::stream(seed, CONFIG_STREAM);
        let nodes = random.between(2, 5) as u16;
        let pages = random.between(3, 10);
        let protocol = if random.chance(40) { Protocol::Migration } else { Protocol::WriteInvalidate };
        let placement = match random.below(4) {
            0 => Placement::Cyclic,
            1 => Placement::Block,
            2 => Placement::FirstTouch,
            _ => Placement::Single(NodeId::new(random.below(nodes as u64) as u16)),
        };
        Pinners {
            seed,
            nodes,
            threads: random.between(1, 3) as usize,
            pages,
            protocol,
            placement,
            operations: random.between(5, 25) as u32,
            deadlines_permille: if random.chance(50) { 0 } else { random.between(1, 60) as u32 },
            loss: random.chance(30).then(|| (random.below(nodes as u64) as u16, random.below(2500))),
        }
    }
}

/// What a thread is about.
#[derive(Clone, Debug)]
enum Doing {
    Nothing,
    /// It waits for page `next` of a pin.
    Pinning {
        ticket: Ticket,
        next: u64,
    },
    /// It has all pages of its newest pin, until this step.
    Holding {
        until: u64,
    },
    Touching {
        ticket: Ticket,
        page: PageAddress,
        access: Access,
    },
}

/// A range of pages that a thread pins.
#[derive(Clone, Copy, Debug)]
struct Range {
    pin: PinId,
    first: u64,
    /// The page after the last.
    end: u64,
    access: Access,
}

#[derive(Clone, Debug)]
struct Thread {
    node: usize,
    holder: PinHolder,
    doing: Doing,
    /// Pins, the outermost first; the newest is being taken or held.
    ranges: Vec<Range>,
    left: u32,
}

struct Run {
    mesh: Lockstep,
    config: Pinners,
    region: RegionId,
    random: Random,
    threads: Vec<Thread>,
    pins: u64,
    counts: PinCounts,
}

/// Runs what `config` says.
///
/// # Errors
/// When a guarantee does not hold; the same configuration fails in the same way again.
pub fn run_pins(config: &Pinners) -> Result<PinCounts, Box<PinFailed>> {
    let mut mesh = Lockstep::seeded(config.nodes, config.seed, TraceMode::Tail(TRACE_LINES));
    let fail = |mesh: Lockstep, breach| {
        Err(Box::new(PinFailed { config: *config, breach, trace: mesh.into_trace() }))
    };
    let region = match mesh.open_region_of(config.protocol, config.pages, config.placement) {
        Ok(region) => region,
        Err(breach) => return fail(mesh, breach),
    };
    mesh.slow_threads();
    let thread = |index: usize| Thread {
        node: index / config.threads,
        holder: PinHolder(index as u64),
        doing: Doing::Nothing,
        ranges: Vec::new(),
        left: config.operations,
    };
    let threads = (0..config.nodes as usize * config.threads).map(thread).collect();
    let random = Random::stream(config.seed, STEP_STREAM);
    let counts = PinCounts::default();
    let mut run = Run { mesh, config: *config, region, random, threads, pins: 0, counts };
    match run.run() {
        Ok(()) => Ok(run.counts),
        Err(breach) => fail(run.mesh, breach),
    }
}

impl Run {
    fn run(&mut self) -> Result<(), Breach> {
        while self.threads.iter().any(|thread| self.is_busy(thread)) {
            self.counts.steps += 1;
            if self.counts.steps > STEP_BOUND {
                return Err(Breach::Stuck(format!("{} steps and no end: {:?}", STEP_BOUND, self.threads)));
            }
            self.step()?;
        }
        self.mesh.settle()?;
        self.counts.pages = self.mesh.world.pins.pages;
        self.counts.taken = self.mesh.world.pins.taken;
        self.counts.waits = self.mesh.world.pins.awaited;
        self.mesh.world.check_end()
    }

    fn is_busy(&self, thread: &Thread) -> bool {
        let idle = matches!(thread.doing, Doing::Nothing) && thread.left == 0;
        !idle && self.mesh.world.nodes[thread.node].alive
    }

    fn step(&mut self) -> Result<(), Breach> {
        if let Some((node, step)) = self.config.loss
            && step == self.counts.steps
        {
            self.mesh.world.lose(node as usize, Manner::Death);
        }
        if self.config.deadlines_permille as u64 > self.random.below(1000) {
            return self.pass_deadline();
        }
        if self.random.chance(55) && self.mesh.world.step()? {
            return Ok(());
        }
        let index = self.random.index(self.threads.len());
        if self.is_busy(&self.threads[index]) { self.think(index) } else { Ok(()) }
    }

    fn pass_deadline(&mut self) -> Result<(), Breach> {
        let node = self.random.index(self.config.nodes as usize);
        let waits = &self.mesh.world.pins.waits[node];
        if waits.is_empty() || !self.mesh.world.nodes[node].alive {
            return Ok(());
        }
        let up_to = waits[self.random.index(waits.len())];
        self.mesh.feed(node, Event::PinsExpired { up_to })
    }

    fn think(&mut self, index: usize) -> Result<(), Breach> {
        let at = self.threads[index].node;
        match self.threads[index].doing {
            Doing::Nothing => self.begin(index),
            Doing::Pinning { ticket, next } => match self.ended(at, ticket) {
                None => Ok(()),
                Some(Outcome::Done) => self.pin_next(index, next + 1),
                Some(_) => {
                    self.counts.failed += 1;
                    self.end_pin(index)
                }
            },
            Doing::Holding { until } => {
                self.use_pinned(index)?;
                if self.counts.steps >= until {
                    self.end_pin(index)
                } else if self.threads[index].ranges.len() < 2 && self.random.chance(10) {
                    self.nest(index)
                } else {
                    Ok(())
                }
            }
            Doing::Touching { ticket, page, access } => self.touch(index, ticket, page, access),
        }
    }

    fn ended(&mut self, node: usize, ticket: Ticket) -> Option<Outcome> {
        let ended = &mut self.mesh.world.ended;
        let place = ended.iter().position(|over| (over.0, over.1) == (node, ticket))?;
        Some(ended.swap_remove(place).2)
    }

    fn begin(&mut self, index: usize) -> Result<(), Breach> {
        self.threads[index].left -= 1;
        let at = self.threads[index].node;
        let access = if self.random.chance(50) { Access::Write } else { Access::Read };
        if self.random.chance(35) {
            let page = PageAddress::new(self.region, self.random.below(self.config.pages));
            if !self.mesh.state(at, page).allows(access) {
                let ticket = self.mesh.fault(at, page, access)?;
                self.threads[index].doing = Doing::Touching { ticket, page, access };
            }
            return Ok(());
        }
        let first = self.random.below(self.config.pages);
        let end = self.random.between(first + 1, self.config.pages);
        self.pin(index, first, end, access)
    }

    /// Pins a part of what the thread has pinned already, with no more rights.
    fn nest(&mut self, index: usize) -> Result<(), Breach> {
        let outer = self.threads[index].ranges[0];
        let first = self.random.between(outer.first, outer.end - 1);
        let end = self.random.between(first + 1, outer.end);
        let access = if self.random.chance(50) { Access::Read } else { outer.access };
        self.counts.nested += 1;
        self.pin(index, first, end, access)
    }

    fn pin(&mut self, index: usize, first: u64, end: u64, access: Access) -> Result<(), Breach> {
        self.pins += 1;
        self.threads[index].ranges.push(Range { pin: PinId(self.pins), first, end, access });
        self.pin_next(index, first)
    }

    /// Pages are taken in the order of their numbers, one after the other.
    fn pin_next(&mut self, index: usize, next: u64) -> Result<(), Breach> {
        let Thread { node, holder, ref ranges, .. } = self.threads[index];
        let Range { pin, end, access, .. } = ranges[ranges.len() - 1];
        if next >= end {
            self.counts.pins += 1;
            // Some hold on for long: others need the deadline, or patience.
            let hold = if self.random.chance(10) { 1500 } else { 40 };
            let until = self.counts.steps + self.random.below(hold);
            self.threads[index].doing = Doing::Holding { until };
            return Ok(());
        }
        let page = PageAddress::new(self.region, next);
        let ticket = self.mesh.pin(node, (pin.0, holder.0), page, access)?;
        self.threads[index].doing = Doing::Pinning { ticket, next };
        Ok(())
    }

    fn end_pin(&mut self, index: usize) -> Result<(), Breach> {
        let thread = &mut self.threads[index];
        let range = thread.ranges.pop().expect("it pins");
        thread.doing = match thread.ranges.last() {
            Some(_) => Doing::Holding { until: self.counts.steps + 5 },
            None => Doing::Nothing,
        };
        let node = thread.node;
        self.mesh.feed(node, Event::Unpin { pin: range.pin })
    }

    /// A system call works on a page that is still held: it finds the newest bytes, and writes some.
    fn use_pinned(&mut self, index: usize) -> Result<(), Breach> {
        let Thread { node, ref ranges, .. } = self.threads[index];
        let Range { pin, first, end, access } = ranges[ranges.len() - 1];
        let page = PageAddress::new(self.region, self.random.between(first, end - 1));
        if self.mesh.world.pins.is_held(node, pin, page) {
            self.use_page(node, page, access)?;
        }
        Ok(())
    }

    fn use_page(&mut self, at: usize, page: PageAddress, access: Access) -> Result<(), Breach> {
        let world = &mut self.mesh.world;
        let needed = if access == Access::Write { Rights::Write } else { Rights::Read };
        let found = world.nodes[at].copy(page);
        let latest = world.truth.page(page).map(|truth| truth.latest);
        match (found, latest) {
            (Some(found), Some(latest)) if found.rights >= needed && found.words == latest => {}
            _ => {
                return Err(Breach::Data(format!("n{at} finds {page:?} as {found:?}; it is {latest:x?}")));
            }
        }
        if access == Access::Write {
            let (value, word) = (world.truth.fresh_value(0), self.random.index(WORDS));
            if let Some(copy) = world.nodes[at].copy_mut(page) {
                copy.words[word] = value;
            }
            if let Some(truth) = world.truth.page_mut(page) {
                truth.previous = truth.latest;
                truth.latest[word] = value;
            }
        }
        Ok(())
    }

    /// The fault of a thread may have ended: it uses the page, and goes on.
    fn touch(
        &mut self,
        index: usize,
        ticket: Ticket,
        page: PageAddress,
        access: Access,
    ) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let Some(outcome) = self.ended(at, ticket) else { return Ok(()) };
        self.threads[index].doing = Doing::Nothing;
        if outcome != Outcome::Done {
            self.counts.failed += 1;
            return Ok(());
        }
        if self.mesh.state(at, page).allows(access) {
            self.use_page(at, page, access)?;
        }
        self.mesh.resume(at, ticket)
    }
}
