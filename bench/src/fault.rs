//! What a page fault costs: read misses on a page of another node, and what the kernel charges for the same bytes.

use crate::machine;
use crate::raw::{self, Baseline};
use crate::summary::Summary;
use anyhow::{Context, Result, bail};
use pagemesh::{Config, Mesh, NodeId, PageState, Placement, RegionOptions, SharedSlice};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// Where the nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinning {
    /// Both on one core: the work of both sides, nothing in parallel.
    OneCore,
    /// Each on a core of its own.
    OwnCores,
    /// Wherever the kernel puts them.
    Free,
}

impl FaultBench {
    /// Nodes that it takes: the reader, the home, and a third.
    pub const NODES: usize = 3;
}

impl FromStr for Pinning {
    type Err = String;

    fn from_str(text: &str) -> Result<Pinning, String> {
        match text {
            "one-core" => Ok(Pinning::OneCore),
            "own-cores" => Ok(Pinning::OwnCores),
            "free" => Ok(Pinning::Free),
            other => Err(format!("{other:?} is none of one-core, own-cores, free")),
        }
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pinning::OneCore => "one-core",
            Pinning::OwnCores => "own-cores",
            Pinning::Free => "free",
        })
    }
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct FaultBench {
    /// Pages faulted in for each figure in each round.
    pub pages: usize,
    /// Rounds; every figure is measured once in each, in turn.
    pub rounds: usize,
    /// Where the nodes run.
    pub pinning: Pinning,
    /// Threads of the reader that fault at a time, each on pages of its own.
    pub threads: usize,
}

/// The node that has the pages' directory, and in most cases the pages.
const HOME: NodeId = NodeId::new(0);
/// The node that measures.
const READER: NodeId = NodeId::new(1);

/// A kind of read miss.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The node that writes the pages before, if any.
    writer: Option<NodeId>,
    /// The home reads them then, so that it has a clean copy.
    home_reads: bool,
    /// The reader had the pages before, so that its memory is there; else the kernel has to find some first.
    again: bool,
    /// The reader is their home, so that no message is needed.
    local: bool,
}

impl Kind {
    const fn again(name: &'static str, writer: NodeId, home_reads: bool) -> Kind {
        Kind { name, writer: Some(writer), home_reads, again: true, local: false }
    }

    const fn first(name: &'static str, local: bool) -> Kind {
        Kind { name, writer: None, home_reads: !local, again: false, local }
    }
}

const THIRD: NodeId = NodeId::new(2);

const KINDS: [Kind; 5] = [
    Kind::again("read miss, clean at its home", THIRD, true),
    Kind::again("read miss, modified at its home", HOME, false),
    Kind::again("read miss, modified at a third node", THIRD, false),
    Kind::first("first touch ever, clean at its home", false),
    Kind::first("first touch ever, homed here", true),
];

struct Measuring {
    mesh: Mesh,
    words: SharedSlice<u64>,
    /// The pages whose home is the reader.
    local: SharedSlice<u64>,
    machine: String,
}

/// Plays one of the nodes; node 1 measures and returns the report, the others have the pages.
///
/// # Errors
/// When the nodes cannot join or share, or a page holds the wrong bytes.
pub fn run_node(bench: FaultBench) -> Result<Option<String>> {
    let mesh = Mesh::join(Config::from_env()?)?;
    if mesh.nodes() != FaultBench::NODES {
        bail!("the fault bench needs {} nodes, and has {}", FaultBench::NODES, mesh.nodes());
    }
    let machine = machine::describe();
    pin(bench.pinning, mesh.node())?;
    let words = pages_at(&mesh, HOME, bench)?;
    let local = pages_at(&mesh, READER, bench)?;
    let measuring = Measuring { mesh, words, local, machine };
    let report = if measuring.mesh.node() == READER {
        Some(measuring.measure(bench)?)
    } else {
        measuring.own(bench)?;
        None
    };
    measuring.mesh.leave()?;
    Ok(report)
}

/// A region with room for everything, whose directory is at one node. Only what is touched of it costs memory.
fn pages_at(mesh: &Mesh, home: NodeId, bench: FaultBench) -> Result<SharedSlice<u64>> {
    let pages = 1 + KINDS.iter().map(|kind| kind.pages(bench)).sum::<usize>();
    let options = RegionOptions::new(pages * PAGE).placement(Placement::Single(home));
    let region = mesh.region(&format!("bench at {home}"), options)?;
    Ok(region.slice(0, pages * PAGE / 8)?)
}

fn pin(pinning: Pinning, node: NodeId) -> Result<()> {
    let allowed = sched_getaffinity(None).context("asking for the cores that may be used")?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let core = match pinning {
        Pinning::Free => return Ok(()),
        Pinning::OneCore => cores.last(),
        Pinning::OwnCores if cores.len() < 2 => bail!("own cores were asked for, and there is one"),
        // The third node shares the home's core; it sleeps but in its own rows.
        Pinning::OwnCores => cores.get(usize::from(node == READER)),
    };
    let mut set = CpuSet::new();
    set.set(*core.context("no core may be used")?);
    // Threads that run already keep their cores: the service thread is set through its own number.
    for task in std::fs::read_dir("/proc/self/task").context("listing this process's threads")? {
        let name = task?.file_name();
        let thread =
            name.to_str().and_then(|text| text.parse().ok()).and_then(rustix::process::Pid::from_raw);
        sched_setaffinity(thread, &set).context("choosing a core")?;
    }
    Ok(())
}

impl Kind {
    /// Pages of the region that are used for it.
    fn pages(self, bench: FaultBench) -> usize {
        if self.again { bench.pages } else { bench.pages * bench.rounds }
    }
}

/// The first word of page `page` of kind `kind` in round `round`.
fn word(bench: FaultBench, round: usize, kind: usize, page: usize) -> usize {
    let before: usize = KINDS[..kind].iter().map(|kind| kind.pages(bench)).sum();
    let page = if KINDS[kind].again { page } else { round * bench.pages + page };
    (1 + before + page) * PAGE / 8
}

/// What that word holds when it was written.
fn stamp(round: usize, page: usize) -> u64 {
    (round as u64) << 32 | (page as u64 + 1)
}

impl Measuring {
    /// The nodes that do not measure: answer pings, and get the pages of each round into the state that they are to be found
    /// in.
    fn own(&self, bench: FaultBench) -> Result<()> {
        let node = self.mesh.node();
        if node == HOME {
            self.words.set(0, raw::serve()?.into())?;
        }
        let turn = self.mesh.barrier(1);
        turn.wait()?;
        turn.wait()?;
        for round in 0..bench.rounds {
            for (kind, Kind { writer, .. }) in KINDS.into_iter().enumerate() {
                for page in (0..bench.pages).filter(|_| writer == Some(node)) {
                    self.words.set(word(bench, round, kind, page), stamp(round, page))?;
                }
            }
            turn.wait()?;
            for (kind, Kind { home_reads, .. }) in KINDS.into_iter().enumerate() {
                for page in (0..bench.pages).filter(|_| home_reads && node == HOME) {
                    self.words.get(word(bench, round, kind, page))?;
                }
            }
            turn.wait()?;
            turn.wait()?;
        }
        Ok(())
    }

    fn measure(&self, bench: FaultBench) -> Result<String> {
        let turn = self.mesh.barrier(1);
        turn.wait()?;
        let mut baseline = Baseline::connect(self.words.get(0)? as u16)?;
        let mut raw = vec![Summary::default(); bench.rounds];
        let mut faults = vec![vec![Summary::default(); bench.rounds]; KINDS.len()];
        let order = shuffled(bench.pages);
        for (kind, _) in KINDS.iter().enumerate().filter(|(_, kind)| kind.again) {
            for page in &order {
                self.words.get(word(bench, 0, kind, *page))?;
            }
        }
        turn.wait()?;
        for round in 0..bench.rounds {
            turn.wait()?;
            turn.wait()?;
            for _ in 0..bench.pages {
                raw[round].add(baseline.ping()?);
            }
            for (kind, found) in faults.iter_mut().enumerate() {
                found[round] = self.miss_all(bench, round, kind, &order)?;
            }
            turn.wait()?;
        }
        let nodes = format!("{}\npager {}", self.machine, self.mesh.pager().kind);
        Ok(report(bench, &nodes, &raw, &faults))
    }

    /// Faults the pages of `order` in, by several threads at a time.
    fn miss_all(&self, bench: FaultBench, round: usize, kind: usize, order: &[usize]) -> Result<Summary> {
        let share = order.len().div_ceil(bench.threads);
        let miss_share = &|pages: &[usize]| -> Result<Summary> {
            let mut found = Summary::default();
            for page in pages {
                found.add(self.miss(bench, round, kind, *page)?);
            }
            Ok(found)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                order.chunks(share).map(|pages| scope.spawn(move || miss_share(pages))).collect();
            let mut all = Summary::default();
            for thread in threads {
                all.merge(&thread.join().expect("a measuring thread does not panic")?);
            }
            Ok(all)
        })
    }

    /// Faults one page in.
    fn miss(&self, bench: FaultBench, round: usize, kind: usize, page: usize) -> Result<Duration> {
        let at = word(bench, round, kind, page);
        let words = if KINDS[kind].local { &self.local } else { &self.words };
        let state = words.region().page_state(at * 8 / PAGE);
        if state != PageState::Invalid {
            bail!("page {page} was to be missing and is {state}");
        }
        let began = Instant::now();
        let found = words.get(at)?;
        let took = began.elapsed();
        let expected = if KINDS[kind].writer.is_some() { stamp(round, page) } else { 0 };
        if found != expected {
            bail!("page {page} of round {round} holds {found}, not {expected}");
        }
        Ok(took)
    }
}

/// `0..count` in an order that no prefetcher guesses; the same in every run.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}

fn report(bench: FaultBench, machine: &str, raw: &[Summary], faults: &[Vec<Summary>]) -> String {
    let FaultBench { pages, rounds, pinning, threads } = bench;
    let mut text = format!(
        "{machine}, loopback TCP, {pinning}, threads: {threads}, {rounds} rounds of {pages} pages each, random order\n\n"
    );
    text += "                                       p50 us   p90 us   p99 us   ratio of p50 (lowest - highest round)\n";
    text += &row("raw TCP, 64 B -> 4160 B", raw, None);
    for (kind, samples) in KINDS.iter().zip(faults) {
        text += &row(kind.name, samples, Some(raw));
    }
    text
}

fn row(name: &str, rounds: &[Summary], baseline: Option<&[Summary]>) -> String {
    let mut all = Summary::default();
    for round in rounds {
        all.merge(round);
    }
    let figures = format!(
        "{name:<36} {:>8.1} {:>8.1} {:>8.1}",
        all.p50_us(),
        all.percentile_us(90),
        all.percentile_us(99)
    );
    let Some(baseline) = baseline else { return figures + "\n" };
    let mut ratios: Vec<f64> =
        rounds.iter().zip(baseline).map(|(round, base)| round.p50_us() / base.p50_us()).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    format!("{figures}   {median:.2} ({:.2} - {:.2})\n", ratios[0], ratios[ratios.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_visits_every_page_once() {
        let mut order = shuffled(1000);
        assert!(order.iter().enumerate().any(|(index, page)| index != *page));
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
