//! The simulated mesh: engines, memories, links and threads, and the loop that picks what happens next.

mod access;
mod applications;
mod atomics;
mod completion;
mod counts;
mod cuts;
mod feed;
mod inspect;
mod loss;
mod observe;
mod perform;
mod phases;

pub use counts::Counts;

pub(crate) use loss::Manner;

use crate::breach::Breach;
use crate::config::{Config, CutPlan, LossPlan, PausePlan};
use crate::event::{Event, Words};
use crate::history::History;
use crate::network::{Network, Parcel};
use crate::node::Node;
use crate::pins::PinBoard;
use crate::random::Random;
use crate::referee::Referee;
use crate::run::Options;
use crate::sabotage::Saboteur;
use crate::thread::{Activity, Thread};
use crate::trace::Trace;
use crate::truth::Truth;
use crate::turns::Turns;
use pagemesh_protocol::{Actions, EngineConfig, NodeId, Outcome, PageAddress, Ticket};
use std::collections::BTreeMap;

/// Streams of the schedule, beside those of the configuration.
const SCHEDULE_STREAM: u64 = 1;
const NETWORK_STREAM: u64 = 2;
const SABOTAGE_STREAM: u64 = 3;
const SHARDING_STREAM: u64 = 12;

/// Ticket slots of a simulated node: more than threads, few enough to be used again soon.
const TICKETS: usize = 64;
const BARRIERS: usize = 32;
const PINS: usize = 64;

/// All pages are checked once in so many steps; those that a step touched are checked at once.
const FULL_CHECK_STEPS: u64 = 512;

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Deliver(usize),
    Think(usize),
    Expire(usize),
    MapRegion(usize),
    Postponed(usize),
    Leave(usize),
}

/// A simulated mesh.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) truth: Truth,
    pub(crate) referee: Referee,
    pub(crate) threads: Vec<Thread>,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    /// Microseconds since the start.
    pub(crate) time: u64,
    /// Ended calls that no thread made.
    pub(crate) ended: Vec<(usize, Ticket, Outcome)>,
    /// Requests that homes have heard and not served.
    pub(crate) turns: Turns,
    /// Operations that were done and whose calls have not ended, each with what the word was.
    operated: BTreeMap<(NodeId, Ticket), u64>,
    /// Pages that are pinned.
    pub(crate) pins: PinBoard,
    /// Calls made by hand that ended in the current event: nobody uses their pages.
    used: Vec<(usize, Ticket)>,
    /// The pages of calls made by hand are held until that is ended by hand too.
    pub(crate) slow_threads: bool,
    /// What the threads saw and did.
    history: History,
    saboteur: Saboteur,
    schedule: Random,
    /// Faults that have not happened yet, the last first.
    losses: Vec<LossPlan>,
    cuts: Vec<CutPlan>,
    pauses: Vec<PausePlan>,
    /// Pairs of nodes whose connection broke while both lived.
    severed: Vec<(usize, usize)>,
    /// No more faults.
    calm: bool,
    /// How often others were served before a request is counted: no fault spoils it.
    counts_turns: bool,
    /// Connections that are gone and not yet reported.
    closures: usize,
    /// Pages that the current step touched.
    touched: Vec<PageAddress>,
    choices: Vec<Choice>,
    actions: Actions,
}

impl World {
    pub(crate) fn new(config: Config, options: Options) -> World {
        let schedule = config.schedule.unwrap_or(config.seed);
        let stream = |number| Random::stream(schedule, number);
        let node = |index: u16| EngineConfig {
            tickets: TICKETS,
            locks: config.lock_bound,
            barriers: BARRIERS,
            barrier_fan: config.barrier_fan,
            gathered: config.gathered,
            hint_patience: config.hint_patience,
            pins: PINS,
            ..EngineConfig::new(NodeId::new(index), config.nodes)
        };
        let sharding = options.sharding.draw(config.nodes, &mut stream(SHARDING_STREAM));
        let mut nodes: Vec<Node> = (0..config.nodes)
            .map(|i| Node::new(node(i), sharding[i as usize], config.blocked[i as usize].clone()))
            .collect();
        if let Some(fault) = options.planted {
            for node in &mut nodes {
                node.engine.plant(fault);
            }
        }
        let threads = (0..config.thread_count()).map(|index| Thread::new(&config, index));
        let mut faults = config.faults.clone();
        faults.losses.sort_by_key(|loss| std::cmp::Reverse(loss.step));
        faults.cuts.sort_by_key(|cut| std::cmp::Reverse(cut.step));
        faults.pauses.sort_by_key(|pause| std::cmp::Reverse(pause.step));
        World {
            nodes,
            threads: threads.collect(),
            network: Network::new(config.nodes as usize, config.timing, stream(NETWORK_STREAM)),
            truth: Truth::default(),
            referee: Referee::new(config.nodes, config.barrier_fan, config.locks.len()),
            counts: Counts::default(),
            trace: Trace::new(options.trace),
            time: 0,
            ended: Vec::new(),
            turns: Turns::new(config.nodes),
            operated: BTreeMap::new(),
            pins: PinBoard::new(config.nodes),
            used: Vec::new(),
            slow_threads: false,
            history: History::default(),
            saboteur: Saboteur::new(options.sabotage, stream(SABOTAGE_STREAM)),
            schedule: stream(SCHEDULE_STREAM),
            counts_turns: faults.cancel_percent == 0
                && faults.late_cancel_percent == 0
                && faults.spurious_percent == 0
                && faults.cuts.is_empty(),
            losses: faults.losses,
            cuts: faults.cuts,
            pauses: faults.pauses,
            severed: Vec::new(),
            calm: false,
            closures: 0,
            touched: Vec::new(),
            choices: Vec::new(),
            actions: Actions::new(),
            config,
        }
    }

    /// Lets one thing happen; false when nothing can.
    pub(crate) fn step(&mut self) -> Result<bool, Breach> {
        self.strike();
        let Some(choice) = self.choose() else { return Ok(false) };
        self.counts.steps += 1;
        if self.counts.steps > self.config.step_bound {
            return Err(Breach::Stuck(format!("{} steps and no end", self.counts.steps)));
        }
        match choice {
            Choice::Deliver(link) => self.deliver(link)?,
            Choice::Think(thread) => self.think(thread)?,
            Choice::Expire(thread) => self.give_up(thread)?,
            Choice::MapRegion(node) => self.map_region(node)?,
            Choice::Postponed(node) => {
                self.nodes[node].postponed_at = None;
                self.feed(node, Event::Postponed)?;
            }
            Choice::Leave(node) => self.start_leaving(node)?,
        }
        self.check_touched()?;
        if self.counts.steps.is_multiple_of(FULL_CHECK_STEPS) {
            self.check_all()?;
        }
        self.counts.planted = self.saboteur.planted;
        Ok(true)
    }

    /// One of all things that can happen now; when there is none, time goes on to the next.
    fn choose(&mut self) -> Option<Choice> {
        self.time += u64::from(self.config.timing.unordered);
        let mut choices = std::mem::take(&mut self.choices);
        if let Some(soonest) = self.collect(&mut choices) {
            self.time = soonest;
        }
        let chosen = (!choices.is_empty()).then(|| choices[self.schedule.index(choices.len())]);
        self.choices = choices;
        chosen
    }

    /// Fills `choices` with what can happen now or, if nothing can, with what can happen next; returns when that is.
    fn collect(&self, choices: &mut Vec<Choice>) -> Option<u64> {
        choices.clear();
        let mut soonest = u64::MAX;
        let now = self.time;
        let mut offer = |at: u64, choice: Choice| {
            let at = at.max(now);
            if at < soonest {
                soonest = at;
                choices.clear();
            }
            if at == soonest {
                choices.push(choice);
            }
        };
        let runs_at = |node: usize, at: u64| at.max(self.nodes[node].paused_until);
        if !self.network.is_empty() {
            for (link, at) in self.network.heads() {
                offer(runs_at(self.network.ends(link).1, at), Choice::Deliver(link));
            }
        }
        for thread in &self.threads {
            match thread.activity {
                Activity::Ready(at) => offer(runs_at(thread.node, at), Choice::Think(thread.index)),
                Activity::Waiting { deadline: Some(at), .. } => {
                    offer(runs_at(thread.node, at), Choice::Expire(thread.index));
                }
                _ => {}
            }
        }
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            if let Some(proposal) = node.proposals.front() {
                offer(runs_at(index, proposal.at), Choice::MapRegion(index));
            }
            if let Some(at) = node.postponed_at {
                offer(runs_at(index, at), Choice::Postponed(index));
            }
            if let Some(at) = node.leave_at {
                offer(runs_at(index, at), Choice::Leave(index));
            }
        }
        (!choices.is_empty()).then_some(soonest)
    }

    /// Takes the first parcel off a link.
    pub(crate) fn deliver(&mut self, link: usize) -> Result<(), Breach> {
        let (from, to) = self.network.ends(link);
        match self.network.pop(link) {
            Some(Parcel::Message { message, payload }) => {
                self.note_arrival(&message);
                self.feed(to, Event::Message { from: NodeId::new(from as u16), message, payload })
            }
            Some(Parcel::Hurry) => {
                self.network.hurry(self.network.link(to, from), self.time);
                Ok(())
            }
            Some(Parcel::Closed) => {
                self.closures -= 1;
                self.feed(to, Event::PeerLost { node: NodeId::new(from as u16) })
            }
            None => Ok(()),
        }
    }

    /// Checks everything, after a call or delivery by hand.
    pub(crate) fn check(&mut self) -> Result<(), Breach> {
        self.check_touched()?;
        self.check_all()
    }

    fn map_region(&mut self, index: usize) -> Result<(), Breach> {
        let Some(proposal) = self.nodes[index].proposals.pop_front() else { return Ok(()) };
        let Some(spec) = proposal.spec else {
            return self.feed(index, Event::RegionForgotten { region: proposal.region });
        };
        let mapped = self.nodes[index].map_region(proposal.region, spec);
        self.truth.add(proposal.region, spec.pages);
        self.feed(index, Event::RegionMapped { region: proposal.region, round: proposal.round, mapped })
    }

    /// A pause of a thread of node `at`, microseconds.
    fn pause(&mut self, at: usize) -> u64 {
        let timing = self.config.timing;
        let slow = !self.calm && timing.slow_node == Some(at as u16);
        let factor = if slow { timing.slow_factor } else { 1 };
        if timing.unordered { 0 } else { self.schedule.below(timing.think_us) * factor }
    }

    fn note_departure(&mut self, message: &pagemesh_protocol::Message) {
        if let Some(page) = crate::event::page_of(message).and_then(|page| self.truth.page_mut(page)) {
            page.in_flight += 1;
        }
    }

    /// `message` is no longer on its way.
    fn note_arrival(&mut self, message: &pagemesh_protocol::Message) {
        let Some(page) = crate::event::page_of(message) else { return };
        if let Some(truth) = self.truth.page_mut(page) {
            truth.in_flight -= 1;
        }
        self.touched.push(page);
    }

    /// The bytes that a node would send.
    fn bytes(&self, at: usize, page: PageAddress) -> Option<Words> {
        self.nodes[at].copy(page).map(|copy| copy.words)
    }
}
