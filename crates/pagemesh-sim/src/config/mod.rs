//! What a seed decides before the first step: the mesh, the programs of its threads, and which faults exist.
//!
//! Each seed first picks what it has at all (swarm testing, Groce et al. 2012): runs in which one pattern or fault is absent
//! find what runs with a little of everything hide.

mod faults;
mod regions;

pub use faults::{CutPlan, FaultPlan, LossPlan, PausePlan, Timing};
pub use regions::RegionPlan;

use crate::program::{PATTERNS, Program, Workload};
use crate::random::Random;
use pagemesh_protocol::{NodeId, Placement, limits};

/// Everything that a seed decides before the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each excludes none of the others")]
pub struct Config {
    /// The seed.
    pub seed: u64,
    /// What decides the order of events and the times of messages, when a failure was made smaller; else the seed does.
    pub schedule: Option<u64>,
    /// Nodes.
    pub nodes: u16,
    /// Application threads of each node.
    pub threads: usize,
    /// Regions, side by side.
    pub regions: Vec<RegionPlan>,
    /// Per node, addresses at which something else lies.
    pub blocked: Vec<Vec<u64>>,
    /// What the programs are drawn from.
    pub workload: Workload,
    /// What each thread does, the threads of node 0 first.
    pub programs: Vec<Program>,
    /// Times.
    pub timing: Timing,
    /// Faults.
    pub faults: FaultPlan,
    /// Names of the locks.
    pub locks: Vec<u64>,
    /// Locks that one home can have in use.
    pub lock_bound: usize,
    /// Children of a node in the tree of a barrier; small ones, so that small meshes have trees.
    pub barrier_fan: u16,
    /// Barriers of one home that are gathered in a tree.
    pub gathered: usize,
    /// Wrong hints in a row for which a node has patience; with 0 it asks no owner in a home's place.
    pub hint_patience: u8,
    /// Reports that nobody waits for are put off until something else is sent.
    pub puts_off: bool,
    /// Participants of the barrier that threads give up.
    pub timed_participants: u32,
    /// Nodes that announce that they leave as soon as their own threads are through.
    pub early_leavers: Vec<u16>,
    /// Whether the nodes leave at the end.
    pub leave: bool,
    /// Whether each node uses pages and locks once more when all faults are over.
    pub audit: bool,
    /// Whether every access is compared at once with what was written last. Without it only the recorded history is
    /// judged, at the end.
    pub instant_checks: bool,
    /// A run that takes more steps makes no progress.
    pub step_bound: u64,
}

/// The streams of a seed from which its configuration is drawn: one for each part, so that a new draw in one moves no other.
const SHAPE_STREAM: u64 = 0;
const REGION_STREAM: u64 = 4;
const FAULT_STREAM: u64 = 5;
const TIMING_STREAM: u64 = 6;
const PROGRAM_STREAM: u64 = 7;
const EVICTION_STREAM: u64 = 8;
const TREE_STREAM: u64 = 9;
const HINT_STREAM: u64 = 10;
const LATE_STREAM: u64 = 11;

/// Threads of a mesh: more cost time and find little that fewer do not.
const THREADS_MAX: u64 = 16;
/// Steps of the engines that one step of a program takes, about: only to spread faults over the run.
const SPREAD: u64 = 6;

impl Config {
    /// What `seed` stands for.
    pub fn draw(seed: u64) -> Config {
        let random = &mut Random::stream(seed, SHAPE_STREAM);
        let nodes = random.between(2, 8) as u16;
        let threads = random.between(1, 4).min(THREADS_MAX / nodes as u64) as usize;
        let locks: Vec<u64> = (0..random.between(2, 4)).map(|_| random.bits()).collect();
        let lock_bound = if random.chance(10) { 1 } else { 64 };
        let leave = random.chance(50);
        let workload = Workload::draw(random);
        let region_random = &mut Random::stream(seed, REGION_STREAM);
        let regions = regions::draw_regions(region_random, nodes);
        let blocked = regions::draw_blocked(region_random, nodes, &regions);
        let mut config = Config {
            seed,
            schedule: None,
            nodes,
            threads,
            regions,
            blocked,
            workload,
            programs: Vec::new(),
            timing: Timing::draw(&mut Random::stream(seed, TIMING_STREAM), nodes),
            faults: FaultPlan::default(),
            locks,
            lock_bound,
            barrier_fan: limits::BARRIER_FAN,
            gathered: limits::GATHERED_BARRIERS,
            hint_patience: 0,
            puts_off: false,
            timed_participants: 2,
            early_leavers: Vec::new(),
            leave,
            audit: true,
            instant_checks: true,
            step_bound: 500_000,
        };
        let fault_random = &mut Random::stream(seed, FAULT_STREAM);
        let length = workload.steps(config.thread_count()) * SPREAD;
        config.faults = FaultPlan::draw(fault_random, nodes, length);
        if fault_random.chance(15) {
            config.early_leavers = (0..nodes).filter(|_| fault_random.chance(40)).collect();
        }
        config.draw_trees(&mut Random::stream(seed, TREE_STREAM));
        let hint_random = &mut Random::stream(seed, HINT_STREAM);
        config.hint_patience = [0, 1, limits::HINT_PATIENCE, u8::MAX][hint_random.index(4)];
        config.puts_off = Random::stream(seed, LATE_STREAM).chance(50);
        config.draw_programs();
        config
    }

    /// In half of the runs barriers of all nodes are gathered in trees.
    fn draw_trees(&mut self, random: &mut Random) {
        if random.chance(50) {
            return;
        }
        self.barrier_fan = random.between(1, 3) as u16;
        self.gathered = [limits::GATHERED_BARRIERS, 1][random.index(2)];
        if random.chance(60) {
            self.timed_participants = self.thread_count() as u32;
        }
    }

    /// Draws the programs anew, after the workload or the size of the mesh was changed.
    pub fn draw_programs(&mut self) {
        let random = &mut Random::stream(self.seed, PROGRAM_STREAM);
        self.programs = Program::draw_all(self, random);
        let random = &mut Random::stream(self.seed, EVICTION_STREAM);
        let percent = if random.chance(50) { 0 } else { random.between(2, 50) as u32 };
        self.programs.iter_mut().for_each(|program| program.add_evictions(percent, random));
    }

    /// Nodes and nothing else: no threads, no region, no delays. For tests that drive the world by hand.
    pub fn bare(nodes: u16) -> Config {
        Config {
            seed: 0,
            schedule: None,
            nodes,
            threads: 0,
            regions: Vec::new(),
            blocked: vec![Vec::new(); nodes as usize],
            workload: Workload { weights: [1; PATTERNS.len()], ..Workload::default() },
            programs: Vec::new(),
            timing: Timing { unordered: true, ..Timing::default() },
            faults: FaultPlan::default(),
            locks: vec![1, 2],
            lock_bound: 64,
            barrier_fan: limits::BARRIER_FAN,
            gathered: limits::GATHERED_BARRIERS,
            hint_patience: 0,
            puts_off: false,
            timed_participants: 2,
            early_leavers: Vec::new(),
            leave: false,
            audit: true,
            instant_checks: true,
            step_bound: 500_000,
        }
    }

    /// Takes a node out; those after it move up.
    pub(crate) fn remove_node(&mut self, gone: u16) {
        let renamed = |node: u16| if node > gone { node - 1 } else { node };
        let threads = gone as usize * self.threads..(gone as usize + 1) * self.threads;
        self.programs.drain(threads);
        self.blocked.remove(gone as usize);
        self.nodes -= 1;
        let faults = &mut self.faults;
        faults.losses.retain(|loss| loss.node != gone);
        faults.losses.iter_mut().for_each(|loss| loss.node = renamed(loss.node));
        faults.cuts.retain(|cut| cut.one != gone && cut.other != gone);
        for cut in &mut faults.cuts {
            (cut.one, cut.other) = (renamed(cut.one), renamed(cut.other));
        }
        faults.pauses.retain(|pause| pause.node != gone);
        faults.pauses.iter_mut().for_each(|pause| pause.node = renamed(pause.node));
        self.early_leavers.retain(|node| *node != gone);
        self.early_leavers.iter_mut().for_each(|node| *node = renamed(*node));
        self.timing.slow_node = self.timing.slow_node.filter(|node| *node != gone).map(renamed);
        for plan in &mut self.regions {
            if let Placement::Single(home) = &mut plan.placement {
                *home = NodeId::new(renamed(home.get()).min(self.nodes - 1));
            }
        }
    }

    /// Threads of all nodes.
    pub fn thread_count(&self) -> usize {
        self.nodes as usize * self.threads
    }

    /// Whether calls may fail because a node goes, or because two lose each other.
    pub fn has_losses(&self) -> bool {
        !self.faults.losses.is_empty() || self.has_cuts()
    }

    /// Whether two living nodes may lose each other.
    pub fn has_cuts(&self) -> bool {
        !self.faults.cuts.is_empty()
    }
}
