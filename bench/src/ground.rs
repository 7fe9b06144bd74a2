//! What every suite stands on: nodes that go through the same cases in step, and the baselines beside them.

use crate::machine;
use crate::plan::{Plan, Suite};
use crate::raw::{self, BarrierMember, BulkReader, Circle, Pinger};
use crate::report::{BASELINE_MOVES_MOST, Baseline, Figure, Measured, Run, Stage, Target};
use crate::samples::Samples;
use anyhow::{Context, Result, bail};
use pagemesh::{
    Barrier, Config, LinkKind, Mesh, NodeId, OwnerHints, Placement, Protocol, RegionOptions, SharedSlice,
    Unit,
};
use std::cell::RefCell;
use std::ops::Range;
use std::time::{Duration, Instant};

pub(crate) const PAGE: usize = 4096;
pub(crate) const WORDS: usize = PAGE / 8;

/// The node that has the directory of most pages, and many of the pages.
pub(crate) const HOME: NodeId = NodeId::new(0);
/// The node that measures, where there are two or more.
pub(crate) const READER: NodeId = NodeId::new(1);
/// A node that is neither.
pub(crate) const THIRD: NodeId = NodeId::new(2);
/// And one more.
pub(crate) const FOURTH: NodeId = NodeId::new(3);

/// How long a node waits for what other nodes are to bring about.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The barrier at which all nodes take turns; the suites have the numbers after it.
const TURN: u64 = 1_000_000;

/// What a node of a suite has.
pub(crate) struct Ground {
    pub(crate) mesh: Mesh,
    pub(crate) plan: Plan,
    turn: Barrier,
    /// To the home, or on [`Ground::ring`] to the next node.
    pub(crate) pinger: RefCell<Pinger>,
    pub(crate) ring: RefCell<Pinger>,
    /// On the reader, where there is a third node: by way of the home to that one, and back from there.
    circle: RefCell<Option<Circle>>,
    /// One more to the home, for who takes it.
    pub(crate) spare: RefCell<Option<Pinger>>,
    pub(crate) bulk: RefCell<BulkReader>,
    pub(crate) meeting: RefCell<BarrierMember>,
    /// A word on a page of its own for each case, by which its reader tells the others that it is done.
    over: SharedSlice<u64>,
}

/// One thing to measure. All nodes have the same cases, and go through them in step.
pub(crate) trait Case {
    /// What it is called in tables.
    fn name(&self) -> String;

    /// What it is to reach.
    fn target(&self) -> Option<Target> {
        None
    }

    /// The baseline's name, if there is one.
    fn baseline(&self) -> Option<String>;

    /// Bytes that each sample moves, where a rate is to be told.
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// How many steps of preparation each round has, with a barrier of all nodes between.
    fn steps(&self) -> usize {
        0
    }

    /// Does this node's part of a step.
    fn prepare(&self, _round: usize, _step: usize) -> Result<()> {
        Ok(())
    }

    /// Measures the baseline, on the reader.
    fn measure_baseline(&self, _round: usize) -> Result<Samples> {
        Ok(Samples::default())
    }

    /// What the other nodes do meanwhile.
    fn accompany_baseline(&self, _round: usize) -> Result<()> {
        Ok(())
    }

    /// Measures, on the reader.
    fn measure(&self, round: usize) -> Result<Samples>;

    /// What the other nodes do meanwhile.
    fn accompany(&self, _round: usize) -> Result<()> {
        Ok(())
    }

    /// Where the time of what was measured went, if that was traced.
    fn stages(&self) -> Vec<Stage> {
        Vec::new()
    }
}

impl Ground {
    /// What messages to the next node go through.
    fn transport(&self) -> String {
        let next = (self.mesh.node().index() + 1) % self.mesh.nodes();
        match self.mesh.link(NodeId::new(next as u16)) {
            Some(LinkKind::Ring) => "shared memory".to_owned(),
            Some(LinkKind::Tcp(_)) => "TCP".to_owned(),
            None => "none".to_owned(),
        }
    }

    /// Joins the mesh that the environment names, and sets the baselines up.
    pub(crate) fn join(plan: Plan) -> Result<Ground> {
        let mut config = Config::from_env()?.spin(plan.mode.spin()).transport(plan.link.transport());
        if matches!(plan.suite, Suite::Fault | Suite::Scale) {
            // Each page is to be missed by itself, and asked of its home where a case does not say otherwise.
            config = config.read_ahead(false).owner_hints(OwnerHints::Off);
        }
        let mesh = Mesh::join(config)?;
        let (node, nodes) = (mesh.node().index(), mesh.nodes());
        if nodes != plan.nodes {
            bail!("{} nodes were to measure, and there are {nodes}", plan.nodes);
        }
        plan.mode.pin(node, is_reader(&mesh))?;
        let spin = plan.mode.spin();
        let options = RegionOptions::new((nodes + 3) * PAGE).placement(Placement::Single(HOME));
        let ports: SharedSlice<u64> = mesh.region("bench ports", options)?.slice(0, (nodes + 3) * WORDS)?;
        // Pings, the spare, the ring and bulk: four callers a node, though most call node 0.
        ports.set(node * WORDS, raw::serve_all(4 * nodes, spin)?.into())?;
        if mesh.node() == HOME {
            ports.set(nodes * WORDS, raw::serve_barrier(nodes)?.into())?;
            ports.set((nodes + 1) * WORDS, raw::serve_middle(spin)?.into())?;
        }
        if mesh.node() == THIRD {
            ports.set((nodes + 2) * WORDS, raw::serve_last(spin)?.into())?;
        }
        let turn = mesh.barrier(TURN);
        turn.wait()?;
        let port = |place: usize| -> Result<u16> { Ok(ports.get(place * WORDS)? as u16) };
        let pinger = RefCell::new(Pinger::connect(port(HOME.index())?, spin)?);
        let ring = RefCell::new(Pinger::connect(port((node + 1) % nodes)?, spin)?);
        let spare = RefCell::new(Some(Pinger::connect(port(HOME.index())?, spin)?));
        let has_circle = is_reader(&mesh) && nodes > THIRD.index();
        let circle =
            has_circle.then(|| Circle::connect(port(nodes + 1)?, port(nodes + 2)?, spin)).transpose()?;
        let circle = RefCell::new(circle);
        let bulk = RefCell::new(BulkReader::connect(port(HOME.index())?, spin)?);
        // Who shares a core with the coordinator must not keep it from running.
        let alone = if is_reader(&mesh) { spin } else { Duration::ZERO };
        let meeting = RefCell::new(BarrierMember::connect(port(nodes)?, alone)?);
        let options = RegionOptions::new(MOST_CASES * PAGE).placement(Placement::Single(HOME));
        let over = mesh.region("bench over", options)?.slice(0, MOST_CASES * WORDS)?;
        turn.wait()?;
        Ok(Ground { mesh, plan, turn, pinger, ring, circle, spare, bulk, meeting, over })
    }

    /// On the reader: `count` times 64 bytes to the home, from there to the third node, and `reply` bytes from that one.
    pub(crate) fn circle(&self, reply: usize, count: usize) -> Result<Samples> {
        self.circle.borrow_mut().as_mut().context("there is no third node")?.go(reply, count)
    }

    pub(crate) fn node(&self) -> NodeId {
        self.mesh.node()
    }

    /// Whether this node measures.
    pub(crate) fn is_reader(&self) -> bool {
        is_reader(&self.mesh)
    }

    /// `pages` pages of a region of their own, with one home.
    pub(crate) fn pages(
        &self,
        name: &str,
        home: NodeId,
        pages: usize,
        protocol: Protocol,
    ) -> Result<SharedSlice<u64>> {
        self.region(
            name,
            RegionOptions::new(pages * PAGE).placement(Placement::Single(home)).protocol(protocol),
        )
    }

    /// All of a region that is kept coherent by write-invalidate, with one home, and with this unit.
    pub(crate) fn units(&self, name: &str, pages: usize, unit: Unit) -> Result<SharedSlice<u64>> {
        self.region(
            name,
            RegionOptions::new(pages * PAGE).placement(Placement::Single(HOME)).unit(unit.bytes()),
        )
    }

    fn region(&self, name: &str, options: RegionOptions) -> Result<SharedSlice<u64>> {
        let pages = options.pages();
        Ok(self.mesh.region(name, options)?.slice(0, pages * WORDS)?)
    }

    /// On the reader: tells the others that the case with this number is over in this round.
    pub(crate) fn tell_over(&self, case: usize, round: usize) -> Result<()> {
        Ok(self.over.set(case * WORDS, round as u64 + 1)?)
    }

    /// On other nodes: whether the reader has said so.
    pub(crate) fn is_over(&self, case: usize, round: usize) -> Result<bool> {
        Ok(self.over.get(case * WORDS)? > round as u64)
    }

    /// Goes through all cases, round by round; the reader returns what it found. A case whose baseline moved has more rounds.
    pub(crate) fn measure(&self, cases: &[Box<dyn Case + '_>]) -> Result<Vec<Figure>> {
        let rounds = self.plan.rounds;
        let mut found = vec![Rounds::default(); cases.len()];
        for round in 0..self.plan.most_rounds() {
            for (number, (case, found)) in cases.iter().zip(&mut found).enumerate() {
                if round >= rounds && !self.wants_more(number, round, found)? {
                    continue;
                }
                let told = || format!("{} in round {round}", case.name());
                found.push(self.round(&**case, round).with_context(told)?);
            }
        }
        if !self.is_reader() {
            return Ok(Vec::new());
        }
        let target = |case: &dyn Case| self.plan.mode.asks(case.target());
        let pairs = cases.iter().zip(found);
        pairs.map(|(case, found)| found.figure(&**case, rounds, target(&**case))).collect()
    }

    /// Whether the reader wants another round of this case.
    fn wants_more(&self, number: usize, round: usize, found: &Rounds) -> Result<bool> {
        let word = number * WORDS + 1;
        if self.is_reader() && found.steadiest(self.plan.rounds).is_none() {
            self.over.set(word, round as u64 + 1)?;
        }
        self.turn.wait()?;
        Ok(self.over.get(word)? == round as u64 + 1)
    }

    fn round(&self, case: &dyn Case, round: usize) -> Result<(Samples, Samples)> {
        self.turn.wait()?;
        for step in 0..case.steps() {
            case.prepare(round, step)?;
            self.turn.wait()?;
        }
        let (mut measured, mut base) = (Samples::default(), Samples::default());
        // Who comes first changes from round to round: what is left of one does not always meet the other.
        for turn in [round % 2, (round + 1) % 2] {
            match (turn, self.is_reader()) {
                (0, _) if case.baseline().is_none() => continue,
                (0, true) => base = case.measure_baseline(round)?,
                (0, false) => case.accompany_baseline(round)?,
                (_, true) => measured = case.measure(round)?,
                (_, false) => case.accompany(round)?,
            }
            self.turn.wait()?;
        }
        Ok((measured, base))
    }

    /// What the reader found, and under what.
    pub(crate) fn run(&self, load_before: f64, figures: Vec<Figure>, stages: Vec<Stage>) -> Run {
        Run {
            suite: self.plan.suite.to_string(),
            mode: self.plan.mode,
            nodes: self.mesh.nodes(),
            pager: self.mesh.pager().kind.to_string(),
            transport: self.transport(),
            load_before,
            load_after: machine::load(),
            figures,
            stages,
        }
    }
}

/// Cases of a suite at most.
const MOST_CASES: usize = 64;

/// A home takes so many given back at a time, and half of them are surely no more than it takes.
const EVICT_AT_A_TIME: usize = 512;

/// Gives these pages back and waits until they are gone.
pub(crate) fn evict(words: &SharedSlice<u64>, pages: Range<usize>) -> Result<()> {
    let region = words.region();
    let deadline = Instant::now() + PATIENCE;
    for start in pages.clone().step_by(EVICT_AT_A_TIME) {
        let some = start..(start + EVICT_AT_A_TIME).min(pages.end);
        while some.clone().any(|page| region.page_state(page) != pagemesh::PageState::Invalid) {
            if Instant::now() > deadline {
                bail!("pages that were given back do not go");
            }
            region.evict(some.clone());
            std::thread::yield_now();
        }
    }
    Ok(())
}

fn is_reader(mesh: &Mesh) -> bool {
    mesh.node() == READER || mesh.nodes() == 1
}

/// What the rounds of one case found: the case, and its baseline.
#[derive(Debug, Default, Clone)]
struct Rounds {
    measured: Vec<Samples>,
    baseline: Vec<Samples>,
}

impl Rounds {
    fn push(&mut self, (measured, baseline): (Samples, Samples)) {
        self.measured.push(measured);
        self.baseline.push(baseline);
    }

    /// Those `wanted` rounds, in their order, in which the baseline was quickest and did not move; `None` when it moved in any so
    /// many. Nothing but the baseline decides.
    fn steadiest(&self, wanted: usize) -> Option<Vec<usize>> {
        let medians = self.baseline.iter().map(|samples| samples.statistics().map_or(1.0, |found| found.p50));
        let mut by_baseline: Vec<(f64, usize)> = medians.zip(0..).collect();
        by_baseline.sort_by(|one, other| one.0.total_cmp(&other.0));
        let steady = |rounds: &&[(f64, usize)]| match rounds {
            [first, .., last] => last.0 <= first.0 * BASELINE_MOVES_MOST,
            _ => true,
        };
        let found = by_baseline.windows(wanted).find(steady)?;
        let mut rounds: Vec<usize> = found.iter().map(|(_, round)| *round).collect();
        rounds.sort_unstable();
        Some(rounds)
    }

    fn figure(self, case: &dyn Case, wanted: usize, target: Option<Target>) -> Result<Figure> {
        let name = case.name();
        let all = self.measured.len();
        let kept = self.steadiest(wanted).unwrap_or_else(|| (0..all).collect());
        let of = |rounds: &[Samples]| {
            let kept: Vec<Samples> = kept.iter().map(|round| rounds[*round].clone()).collect();
            Measured::from_rounds(&kept).with_context(|| format!("{name}: a round found nothing"))
        };
        let baseline = match case.baseline() {
            Some(name) => Some(Baseline { name, measured: of(&self.baseline)? }),
            None => None,
        };
        let measured = of(&self.measured)?;
        let left_out = all - kept.len();
        Ok(Figure { name, measured, baseline, target, bytes: case.bytes(), left_out })
    }
}

/// `0..count` in an order that no prefetcher guesses; the same in every run.
pub(crate) fn shuffled(count: usize) -> Vec<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(baseline: &[u64]) -> Rounds {
        let mut rounds = Rounds::default();
        for micros in baseline {
            let mut samples = Samples::default();
            samples.add(Duration::from_micros(*micros));
            rounds.push((samples.clone(), samples));
        }
        rounds
    }

    #[test]
    fn rounds_are_kept_by_their_baselines_the_quickest_that_did_not_move() {
        assert_eq!(rounds(&[10, 11, 12]).steadiest(3), Some(vec![0, 1, 2]));
        assert_eq!(rounds(&[10, 11, 13]).steadiest(3), None);
        assert_eq!(rounds(&[10, 40, 11, 41, 12, 42]).steadiest(3), Some(vec![0, 2, 4]));
        assert_eq!(rounds(&[40, 10, 41, 42]).steadiest(3), Some(vec![0, 2, 3]));
        assert_eq!(rounds(&[10]).steadiest(1), Some(vec![0]));
        assert_eq!(rounds(&[10, 20]).steadiest(3), None, "there are not so many yet");
    }

    #[test]
    fn the_order_visits_every_page_once() {
        let mut order = shuffled(1000);
        assert!(order.iter().enumerate().any(|(index, page)| index != *page));
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
