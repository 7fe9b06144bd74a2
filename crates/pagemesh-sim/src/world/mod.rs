//! The simulated mesh: engines, memories, links and threads, and the loop that picks what happens next.

mod applications;
mod completion;
mod feed;
mod inspect;
mod loss;
mod perform;

pub(crate) use loss::Manner;

use crate::breach::Breach;
use crate::config::Config;
use crate::event::{Event, Words};
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

/// Streams of a seed, beside the one of its configuration; threads have those from [`THREAD_STREAM`] on.
const SCHEDULE_STREAM: u64 = 1;
const NETWORK_STREAM: u64 = 2;
const SABOTAGE_STREAM: u64 = 3;
const THREAD_STREAM: u64 = 100;

/// Ticket slots of a simulated node: more than threads, few enough to be used again soon.
const TICKETS: usize = 64;
const BARRIERS: usize = 16;
const PINS: usize = 64;

/// All pages are checked once in so many steps; those that a step touched are checked at once.
const FULL_CHECK_STEPS: u64 = 512;

/// What happened in a run, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Steps: one thread's step, one delivery, one expiry.
    pub steps: u64,
    /// Messages sent from node to node.
    pub messages: u64,
    /// Of these, messages with a page's bytes.
    pub payloads: u64,
    /// Accesses that the rights allowed.
    pub hits: u64,
    /// Accesses that faulted.
    pub faults: u64,
    /// Most faults that one access needed.
    pub retries_max: u64,
    /// Most nodes that were served while another waited for the same page; not counted where threads give up.
    pub passed_max: u64,
    /// Calls that ended well.
    pub completed: u64,
    /// Calls that failed, with a reason.
    pub failed: u64,
    /// Calls that were given up.
    pub cancelled: u64,
    /// Nodes that went before the end.
    pub lost: u64,
    /// Nodes that left at the end.
    pub left: u64,
    /// Faults that were planted.
    pub planted: u64,
}

impl Counts {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.payloads += other.payloads;
        self.hits += other.hits;
        self.faults += other.faults;
        self.retries_max = self.retries_max.max(other.retries_max);
        self.passed_max = self.passed_max.max(other.passed_max);
        self.completed += other.completed;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.lost += other.lost;
        self.left += other.left;
        self.planted += other.planted;
    }
}

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
    /// Pages that are pinned.
    pub(crate) pins: PinBoard,
    /// Calls made by hand that ended in the current event: nobody uses their pages.
    used: Vec<(usize, Ticket)>,
    /// The pages of calls made by hand are held until that is ended by hand too.
    pub(crate) slow_threads: bool,
    saboteur: Saboteur,
    schedule: Random,
    /// Losses that have not happened yet, the last first.
    losses: Vec<crate::config::LossPlan>,
    /// Connections that are gone and not yet reported.
    closures: usize,
    /// Pages that the current step touched.
    touched: Vec<PageAddress>,
    choices: Vec<Choice>,
    actions: Actions,
}

impl World {
    pub(crate) fn new(config: Config, options: Options) -> World {
        let seed = config.seed;
        let node = |index: u16| EngineConfig {
            tickets: TICKETS,
            locks: config.lock_bound,
            barriers: BARRIERS,
            pins: PINS,
            ..EngineConfig::new(NodeId::new(index), config.nodes)
        };
        let mut nodes: Vec<Node> =
            (0..config.nodes).map(|i| Node::new(node(i), config.blocked[i as usize].clone())).collect();
        if let Some(fault) = options.planted {
            for node in &mut nodes {
                node.engine.plant(fault);
            }
        }
        let threads = (0..config.nodes as usize * config.threads)
            .map(|i| Thread::new(&config, i, Random::stream(seed, THREAD_STREAM + i as u64)));
        let mut losses = config.losses.clone();
        losses.sort_by_key(|loss| std::cmp::Reverse(loss.step));
        World {
            nodes,
            threads: threads.collect(),
            network: Network::new(config.nodes as usize, config.timing, Random::stream(seed, NETWORK_STREAM)),
            truth: Truth::default(),
            referee: Referee::new(config.nodes, config.locks.len()),
            counts: Counts::default(),
            trace: Trace::new(options.trace),
            time: 0,
            ended: Vec::new(),
            turns: Turns::new(config.nodes),
            pins: PinBoard::new(config.nodes),
            used: Vec::new(),
            slow_threads: false,
            saboteur: Saboteur::new(options.sabotage, Random::stream(seed, SABOTAGE_STREAM)),
            schedule: Random::stream(seed, SCHEDULE_STREAM),
            losses,
            closures: 0,
            touched: Vec::new(),
            choices: Vec::new(),
            actions: Actions::new(),
            config,
        }
    }

    /// Runs every program to its end, then lets the nodes leave if the seed says so.
    pub(crate) fn run(&mut self) -> Result<(), Breach> {
        while self.step()? {}
        self.check_end()?;
        if self.config.leave {
            for index in 0..self.nodes.len() {
                self.nodes[index].leave_at = Some(self.time + self.schedule.below(2000));
            }
            while self.step()? {}
            self.check_left()?;
        }
        Ok(())
    }

    /// Lets one thing happen; false when nothing can.
    pub(crate) fn step(&mut self) -> Result<bool, Breach> {
        if self.losses.last().is_some_and(|loss| loss.step <= self.counts.steps) {
            let loss = self.losses.pop().expect("it was just seen");
            self.lose(loss.node as usize, if loss.goodbye { Manner::Goodbye } else { Manner::Death });
        }
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
        let soonest = self.collect(&mut choices);
        if choices.is_empty() && soonest < u64::MAX {
            self.time = self.time.max(soonest);
            self.collect(&mut choices);
        }
        let chosen = (!choices.is_empty()).then(|| choices[self.schedule.index(choices.len())]);
        self.choices = choices;
        chosen
    }

    /// Fills `choices` with what can happen now; returns when something can, at the earliest.
    fn collect(&self, choices: &mut Vec<Choice>) -> u64 {
        choices.clear();
        let mut soonest = u64::MAX;
        let now = self.time;
        let mut offer = |at: u64, choice: Choice| {
            soonest = soonest.min(at);
            if at <= now {
                choices.push(choice);
            }
        };
        if !self.network.is_empty() {
            for (link, at) in self.network.heads() {
                offer(at, Choice::Deliver(link));
            }
        }
        for thread in &self.threads {
            match thread.activity {
                Activity::Ready(at) => offer(at, Choice::Think(thread.index)),
                Activity::Waiting { deadline: Some(at), .. } => offer(at, Choice::Expire(thread.index)),
                _ => {}
            }
        }
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            if let Some(proposal) = node.proposals.front() {
                offer(proposal.at, Choice::MapRegion(index));
            }
            if let Some(at) = node.postponed_at {
                offer(at, Choice::Postponed(index));
            }
            if let Some(at) = node.leave_at {
                offer(at, Choice::Leave(index));
            }
        }
        soonest
    }

    /// Takes the first parcel off a link.
    pub(crate) fn deliver(&mut self, link: usize) -> Result<(), Breach> {
        let (from, to) = self.network.ends(link);
        match self.network.pop(link) {
            Some(Parcel::Message { message, payload }) => {
                self.note_arrival(&message);
                self.feed(to, Event::Message { from: NodeId::new(from as u16), message, payload })
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
        let mapped = self.nodes[index].map_region(proposal.region, proposal.spec);
        self.truth.add(proposal.region, proposal.spec.pages);
        self.feed(index, Event::RegionMapped { region: proposal.region, round: proposal.round, mapped })
    }

    /// A pause of a thread, microseconds.
    fn pause(&mut self) -> u64 {
        let timing = self.config.timing;
        if timing.unordered { 0 } else { self.schedule.below(timing.think_us) }
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
