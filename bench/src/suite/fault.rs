//! What a page fault costs, by who has the page.

use crate::ground::{Case, FOURTH, Ground, HOME, PAGE, READER, THIRD, WORDS, evict, shuffled};
use crate::mode::Mode;
use crate::plan::Link;
use crate::raw::{Answerer, Asker, BarePager, BareProgram};
use crate::report::{Stage, Target};
use crate::samples::Samples;
use anyhow::{Context, Result, bail};
use pagemesh::pager::PagerKind;
use pagemesh::{Access, NodeId, OwnerHints, PageState, Protocol, SharedSlice};
use rustix::fd::OwnedFd;
use std::cell::RefCell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a node does to the pages before.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Read,
    Write,
    Evict,
}

/// What a kind of fault is held against, most often a raw round trip.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    /// 64 bytes there, a page and 64 bytes back.
    Page,
    /// 64 bytes both ways.
    Message,
    /// 64 bytes to the home and on to a third node, and from there a page and 64 bytes, or 64 bytes.
    PageByThird,
    MessageByThird,
    /// The same fault, resolved by the pager alone.
    Pager,
    /// The same fault, resolved by a bare program, which copies a page that is read into place; by the pager alone where that is not `sigbus`.
    Program,
    /// As [`Against::Program`], and the page's bytes are in place.
    ProgramWithoutCopy,
    /// A bare program that asks the home for the page through memory.
    Mailbox,
    /// The same fault on other pages, while the home computes nothing.
    Quiet,
}

/// What resolves the faults.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Mesh,
    /// And takes the time of each stage.
    TracedMesh,
    /// Nothing of pagemesh but its pager.
    BareProgram,
}

/// A kind of fault.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Who brings the pages into the state in which they are to be found, one after the other.
    steps: &'static [(NodeId, Act)],
    access: Access,
    state: PageState,
    against: Against,
    /// In order of address.
    sequential: bool,
    by: By,
    /// The reader's threads that fault at a time.
    threads: usize,
    protocol: Protocol,
    /// The node that has the pages' directory.
    home: NodeId,
    /// Pages that nobody touched are taken.
    fresh: bool,
    /// The reader asks the node that it has heard to own a page.
    hinted: bool,
    /// Where all nodes have one core, and where not.
    targets: [Option<Target>; 2],
}

const CLEAN_AT_HOME: &[(NodeId, Act)] = &[(THIRD, Act::Write), (HOME, Act::Read)];

const ONLY_HERE: &[(NodeId, Act)] = &[(READER, Act::Write), (THIRD, Act::Read), (THIRD, Act::Evict)];

impl Kind {
    const fn read(name: &'static str, steps: &'static [(NodeId, Act)]) -> Kind {
        Kind {
            name,
            steps,
            access: Access::Read,
            state: PageState::Invalid,
            against: Against::Page,
            sequential: false,
            by: By::Mesh,
            threads: 1,
            protocol: Protocol::WriteInvalidate,
            home: HOME,
            fresh: false,
            hinted: false,
            targets: [None; 2],
        }
    }

    const fn write(name: &'static str, steps: &'static [(NodeId, Act)]) -> Kind {
        Kind { access: Access::Write, ..Kind::read(name, steps) }
    }

    const fn upgrade(name: &'static str, steps: &'static [(NodeId, Act)]) -> Kind {
        Kind { state: PageState::Shared, against: Against::Message, ..Kind::write(name, steps) }
    }

    const fn first(name: &'static str, home: NodeId) -> Kind {
        Kind { home, fresh: true, ..Kind::read(name, &[]) }
    }

    /// Of pages that nobody else has to be asked for.
    const fn alone(self) -> Kind {
        Kind {
            home: READER,
            against: Against::Program,
            targets: [Some(Target::Ratio(BESIDE_PROGRAM_MOST)); 2],
            ..self
        }
    }

    const fn to(self, one_core: f64, elsewhere: Option<f64>) -> Kind {
        let other = match elsewhere {
            Some(ratio) => Some(Target::Ratio(ratio)),
            None => None,
        };
        Kind { targets: [Some(Target::Ratio(one_core)), other], ..self }
    }

    const fn threads(self, name: &'static str, threads: usize) -> Kind {
        Kind { name, threads, targets: [None; 2], ..self }
    }
}

const CLEAN: Kind = Kind::read("read, clean at its home", CLEAN_AT_HOME).to(1.85, Some(2.1));

/// Where the aim was 5.4 us, the least program that resolves such a fault took 4.3.
const BESIDE_PROGRAM_MOST: f64 = 5.4 / 4.3;

/// Where it was 7 us, such a program that asks through memory took 5.5.
const BESIDE_MAILBOX_MOST: f64 = 7.0 / 5.5;

/// Whoever writes a page of a release region sends its home what changed; as long as nobody has used the page there, it is not mapped.
const DATA_HERE: Kind = Kind {
    protocol: Protocol::Release,
    fresh: true,
    ..Kind::read("read, homed here, its data here: no message", &[(THIRD, Act::Write)]).alone()
};

const KINDS: [Kind; 26] = [
    Kind::upgrade("upgrade, homed here: no message", ONLY_HERE).alone(),
    DATA_HERE,
    Kind {
        name: "read, homed here, its data here: nothing to copy",
        against: Against::ProgramWithoutCopy,
        targets: [None; 2],
        ..DATA_HERE
    },
    Kind { against: Against::Pager, ..Kind::first("first touch, homed here: no message", READER) },
    Kind { against: Against::Message, ..Kind::first("first touch, homed elsewhere", HOME) },
    Kind { by: By::BareProgram, ..Kind::read("a bare program: fault, fetch, publish", &[]) },
    CLEAN,
    Kind {
        name: "read, clean at its home, its stages timed",
        by: By::TracedMesh,
        targets: [None; 2],
        ..CLEAN
    },
    Kind { sequential: true, targets: [None; 2], ..Kind::read("read in order of address", CLEAN_AT_HOME) },
    Kind::read("read, modified at its home", &[(HOME, Act::Write)]),
    Kind {
        against: Against::PageByThird,
        ..Kind::read("read, modified at a third node", &[(THIRD, Act::Write)])
    },
    Kind {
        hinted: true,
        ..Kind::read(
            "read, modified at a third node, its owner known",
            &[(THIRD, Act::Write), (READER, Act::Read), (THIRD, Act::Write)],
        )
    },
    Kind::write(
        "write miss, clean at its home alone",
        &[(THIRD, Act::Write), (HOME, Act::Read), (THIRD, Act::Evict)],
    )
    .to(2.0, None),
    Kind::write("write miss, clean at its home and a third", CLEAN_AT_HOME),
    Kind::write("write miss, modified at its home", &[(HOME, Act::Write)]),
    Kind {
        against: Against::PageByThird,
        ..Kind::write("write miss, modified at a third node", &[(THIRD, Act::Write)])
    },
    Kind::upgrade("upgrade, no other sharer", ONLY_HERE),
    Kind {
        home: READER,
        ..Kind::upgrade("upgrade, homed here, 1 other sharer", &[(READER, Act::Write), (THIRD, Act::Read)])
    }
    .to(2.0, None),
    Kind::upgrade("upgrade, its home the 1 other sharer", &[(READER, Act::Write), (HOME, Act::Read)])
        .to(2.0, None),
    Kind {
        against: Against::MessageByThird,
        ..Kind::upgrade("upgrade, 1 other sharer", &[(READER, Act::Write), (THIRD, Act::Read)])
    }
    .to(2.0, None),
    Kind::upgrade(
        "upgrade, 2 other sharers",
        &[(READER, Act::Write), (THIRD, Act::Read), (FOURTH, Act::Read)],
    ),
    Kind::upgrade(
        "upgrade, 3 other sharers",
        &[(READER, Act::Write), (THIRD, Act::Read), (FOURTH, Act::Read), (HOME, Act::Read)],
    ),
    CLEAN.threads("read by 2 threads, time for each page", 2),
    CLEAN.threads("read by 3 threads, time for each page", 3),
    CLEAN.threads("read by 4 threads, time for each page", 4),
    Kind {
        name: "read, its home computes",
        against: Against::Quiet,
        targets: [Some(Target::Tail { p50: 2.0, p99: 3.0 }); 2],
        ..CLEAN
    },
];

/// One kind of fault on pages of its own.
struct Faults<'a> {
    ground: &'a Ground,
    kind: Kind,
    number: usize,
    words: SharedSlice<u64>,
    bare: Bare,
    /// Of traced faults: each stage, and last what is none of them.
    stages: RefCell<Vec<(&'static str, Samples)>>,
}

/// What a node has for the bare side of a case.
enum Bare {
    Nothing,
    Pager(BarePager),
    Program(RefCell<BareProgram>),
    /// The reader's side of [`Against::Mailbox`], and the home's.
    Asker(RefCell<BareProgram>, Asker),
    Answerer(Answerer),
}

/// What is no stage of pagemesh's own.
const KERNEL: &str = "the rest: trap, signal, return from it, the access again";

/// The cases of the suite. `plain` is room for a mailbox, where the plan has one.
pub(super) fn cases(ground: &Ground, plain: Option<OwnedFd>) -> Result<Vec<Box<dyn Case + '_>>> {
    let (mut plain, mut cases) = (plain, Vec::<Box<dyn Case>>::new());
    for (number, kind) in KINDS.into_iter().enumerate() {
        let kind = Kind { against: against(ground, &kind), ..kind };
        let pages = match kind {
            Kind { fresh: true, .. } => ground.plan.samples * ground.plan.most_rounds(),
            Kind { against: Against::Quiet, .. } => 2 * ground.plan.samples,
            _ => ground.plan.samples,
        };
        let words = ground.pages(&format!("fault {number}"), kind.home, pages, kind.protocol)?;
        if kind.hinted {
            words.region().owner_hints(OwnerHints::On);
        }
        let bare = bare(ground, &kind, pages, &mut plain)?;
        cases.push(Box::new(Faults { ground, kind, number, words, bare, stages: RefCell::default() }));
    }
    Ok(cases)
}

/// What a kind of fault is held against here.
fn against(ground: &Ground, kind: &Kind) -> Against {
    let is_sigbus = ground.mesh.pager().kind == PagerKind::Sigbus;
    match kind.against {
        Against::Page if kind.name == CLEAN.name && is_sigbus && ground.plan.has_mailbox() => {
            Against::Mailbox
        }
        Against::Program | Against::ProgramWithoutCopy if !is_sigbus => Against::Pager,
        against => against,
    }
}

fn bare(ground: &Ground, kind: &Kind, pages: usize, plain: &mut Option<OwnedFd>) -> Result<Bare> {
    let program = || BareProgram::new(pages).map(RefCell::new);
    let mut mailbox = || plain.take().context("faults were to be measured beside a mailbox, without one");
    Ok(match kind.against {
        Against::Mailbox if ground.is_reader() => Bare::Asker(program()?, Asker::open(mailbox()?)?),
        Against::Mailbox if ground.node() == HOME => Bare::Answerer(Answerer::open(mailbox()?, pages)?),
        _ if !ground.is_reader() => Bare::Nothing,
        Against::Program | Against::ProgramWithoutCopy => Bare::Program(program()?),
        _ if kind.by == By::BareProgram => {
            Bare::Pager(BarePager::new(ground.mesh.pager().kind, pages, ground.spare.take())?)
        }
        Against::Pager => Bare::Pager(BarePager::new(ground.mesh.pager().kind, pages, None)?),
        _ => Bare::Nothing,
    })
}

/// What the first word of a page holds when it was written before a round.
pub(super) fn stamp(round: usize, page: usize) -> u64 {
    (round as u64) << 32 | (page as u64 + 1)
}

/// Brings pages into a state.
pub(super) fn act(act: Act, words: &SharedSlice<u64>, pages: Range<usize>, round: usize) -> Result<()> {
    match act {
        Act::Read => {
            words.region().prefetch(pages.clone())?;
            // A hint only: each is touched too.
            for page in pages {
                words.get(page * WORDS)?;
            }
        }
        Act::Write => {
            words.region().prefetch_for_writing(pages.clone())?;
            for page in pages {
                words.set(page * WORDS, stamp(round, page))?;
            }
        }
        Act::Evict => evict(words, pages)?,
    }
    Ok(())
}

impl Faults<'_> {
    fn pages(&self) -> usize {
        self.words.len() / WORDS
    }

    /// The pages that a round of a kind with fresh ones is about.
    fn fresh(&self, round: usize) -> Range<usize> {
        let count = self.ground.plan.samples;
        round * count..(round + 1) * count
    }

    /// The pages of a round, in the order in which they are touched.
    fn order(&self, round: usize) -> Vec<usize> {
        let count = self.ground.plan.samples;
        let first = if self.kind.fresh { self.fresh(round).start } else { 0 };
        let order = if self.kind.sequential { (0..count).collect() } else { shuffled(count) };
        order.into_iter().map(|page| first + page).collect()
    }

    /// Touches one page, and checks that it was as it should be before and after.
    fn touch(&self, round: usize, page: usize) -> Result<Duration> {
        let Kind { state, access, .. } = self.kind;
        let found = self.words.region().page_state(page);
        // Who reads in order may get pages before it asks.
        if found != state && !self.kind.sequential {
            bail!("page {page} was to be {state} and is {found}");
        }
        let place = page * WORDS;
        let began = Instant::now();
        match access {
            Access::Write => self.words.set(place + 1, 1)?,
            Access::Read => drop(self.words.get(place)?),
        }
        let took = began.elapsed();
        if self.kind.by == By::TracedMesh {
            self.note_stages(took);
        }
        let held = self.words.get(place)?;
        let expected = if self.kind.steps.is_empty() { 0 } else { stamp(round, page) };
        if held != expected {
            bail!("page {page} holds {held}, not {expected}");
        }
        Ok(took)
    }

    fn note_stages(&self, took: Duration) {
        let trace = self.ground.mesh.last_fault();
        let own: Duration = trace.stages.iter().map(|(_, took)| *took).sum();
        let all = trace.stages.into_iter().chain([(KERNEL, took.saturating_sub(own))]);
        let mut stages = self.stages.borrow_mut();
        for (place, (name, took)) in all.enumerate() {
            if stages.len() == place {
                stages.push((name, Samples::default()));
            }
            stages[place].1.add(took);
        }
    }

    fn touch_all(&self, round: usize, pages: &[usize]) -> Result<Samples> {
        let mut samples = Samples::default();
        let before = self.ground.mesh.stats().messages_sent;
        for page in pages {
            samples.add(self.touch(round, *page)?);
        }
        let sent = self.ground.mesh.stats().messages_sent - before;
        // Now and then one is about something else.
        let needs_none = matches!(self.kind.against, Against::Program | Against::ProgramWithoutCopy);
        if needs_none && 2 * sent > pages.len() as u64 {
            bail!("{} pages that need no message took {sent}", pages.len());
        }
        Ok(samples)
    }

    /// By several threads at a time: one sample, the time for each page.
    fn touch_in_parallel(&self, round: usize, pages: &[usize]) -> Result<Samples> {
        let began = Instant::now();
        let share = pages.len().div_ceil(self.kind.threads);
        let words = &self.words;
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = pages
                .chunks(share)
                .map(|pages| {
                    scope.spawn(move || -> Result<()> {
                        for page in pages {
                            let held = words.get(page * WORDS)?;
                            if held != stamp(round, *page) {
                                bail!("page {page} holds {held}, not {}", stamp(round, *page));
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })?;
        let mut samples = Samples::default();
        samples.add(began.elapsed() / pages.len() as u32);
        Ok(samples)
    }

    /// Number of the word that tells the home that the reader is done: one for each half of a case with two.
    fn over(&self, is_baseline: bool) -> usize {
        2 * self.number + usize::from(is_baseline)
    }

    /// The home's part while the reader reads: its service thread answers, since no thread of it waits.
    fn stay_until_over(&self, round: usize, is_baseline: bool, computes: bool) -> Result<()> {
        if self.ground.node() != HOME {
            return Ok(());
        }
        while !self.ground.is_over(self.over(is_baseline), round)? {
            if computes {
                compute();
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

/// Some microseconds of work that no compiler leaves out.
fn compute() {
    let mut state = 1_u64;
    for step in 0..100_000_u64 {
        state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
}

impl Case for Faults<'_> {
    fn name(&self) -> String {
        self.kind.name.to_owned()
    }

    fn target(&self) -> Option<Target> {
        match (self.ground.plan.link, self.ground.plan.mode) {
            // Of another pager it is not known what it can reach.
            _ if self.kind.against == Against::Pager => None,
            (Link::Tcp, Mode::OneCore) => self.kind.targets[0],
            (Link::Tcp, _) => self.kind.targets[1],
            (Link::Ring, _) if self.kind.against == Against::Mailbox => {
                Some(Target::Ratio(BESIDE_MAILBOX_MOST))
            }
            // Ratios to TCP say little here.
            (Link::Ring, _) => None,
        }
    }

    fn baseline(&self) -> Option<String> {
        let name = match self.kind.against {
            Against::Page => "raw TCP, 64 B and 4160 B",
            Against::Message => "raw TCP, 64 B and 64 B",
            Against::PageByThird => "raw TCP, 64 B by two hops and 4160 B",
            Against::MessageByThird => "raw TCP, 64 B by two hops and 64 B",
            Against::Pager => "the pager alone",
            Against::Program if self.kind.access == Access::Write => "a bare program: fault, unprotect",
            Against::Program => "a bare program: fault, copy, publish",
            Against::ProgramWithoutCopy => "a bare program: fault, publish",
            Against::Mailbox => "a bare program: fault, mailbox, publish",
            Against::Quiet => "the same, its home does nothing",
        };
        Some(name.to_owned())
    }

    fn steps(&self) -> usize {
        self.kind.steps.len()
    }

    fn prepare(&self, round: usize, step: usize) -> Result<()> {
        let (node, deed) = self.kind.steps[step];
        if node == self.ground.node() {
            let pages = if self.kind.fresh { self.fresh(round) } else { 0..self.pages() };
            act(deed, &self.words, pages, round)?;
        }
        if let (0, Bare::Answerer(answerer)) = (step, &self.bare) {
            answerer.write(|page| stamp(round, page));
        }
        Ok(())
    }

    fn measure_baseline(&self, round: usize) -> Result<Samples> {
        let count = self.ground.plan.samples;
        let mut pinger = self.ground.pinger.borrow_mut();
        match (self.kind.against, &self.bare) {
            (Against::Page, _) => pinger.ping(64, 64 + PAGE, count),
            (Against::Message, _) => pinger.ping(64, 64, count),
            (Against::PageByThird, _) => self.ground.circle(64 + PAGE, count),
            (Against::MessageByThird, _) => self.ground.circle(64, count),
            (Against::Pager, Bare::Pager(bare)) => match self.kind.access {
                Access::Write => bare.upgrade(&self.order(round)),
                Access::Read if self.kind.steps.is_empty() => bare.touch(self.order(round).into_iter()),
                Access::Read => bare.fetch(&self.order(round)),
            },
            (Against::Program, Bare::Program(bare)) => match self.kind.access {
                Access::Write => bare.borrow_mut().upgrade(&self.order(round)),
                Access::Read => bare.borrow_mut().publish(&self.order(round), true, stamp(round, 0)),
            },
            (Against::ProgramWithoutCopy, Bare::Program(bare)) => {
                bare.borrow_mut().publish(&self.order(round), false, stamp(round, 0))
            }
            (Against::Mailbox, Bare::Asker(bare, asker)) => {
                bare.borrow_mut().ask(asker, &self.order(round), |page| stamp(round, page))
            }
            (Against::Pager | Against::Program | Against::ProgramWithoutCopy | Against::Mailbox, _) => {
                bail!("only the reader measures")
            }
            (Against::Quiet, _) => {
                let pages: Vec<usize> = self.order(round).iter().map(|page| count + page).collect();
                let samples = self.touch_all(round, &pages)?;
                self.ground.tell_over(self.over(true), round)?;
                Ok(samples)
            }
        }
    }

    fn accompany_baseline(&self, round: usize) -> Result<()> {
        match (self.kind.against, &self.bare) {
            (Against::Quiet, _) => self.stay_until_over(round, true, false),
            (_, Bare::Answerer(answerer)) => answerer.serve(),
            _ => Ok(()),
        }
    }

    fn measure(&self, round: usize) -> Result<Samples> {
        let order = self.order(round);
        if let (By::BareProgram, Bare::Pager(bare)) = (self.kind.by, &self.bare) {
            return bare.fetch(&order);
        }
        if self.kind.threads > 1 {
            return self.touch_in_parallel(round, &order);
        }
        self.ground.mesh.trace_faults(self.kind.by == By::TracedMesh);
        let samples = self.touch_all(round, &order)?;
        self.ground.mesh.trace_faults(false);
        if self.kind.against == Against::Quiet {
            self.ground.tell_over(self.over(false), round)?;
        }
        Ok(samples)
    }

    fn accompany(&self, round: usize) -> Result<()> {
        if self.kind.against == Against::Quiet { self.stay_until_over(round, false, true) } else { Ok(()) }
    }

    fn stages(&self) -> Vec<Stage> {
        let stages = self.stages.borrow();
        let stage = |(name, samples): &(&str, Samples)| {
            Some(Stage { name: (*name).to_owned(), took: samples.statistics()? })
        };
        stages.iter().filter_map(stage).collect()
    }
}
