//! A model checker for the real engine: every run of a small mesh, not some of them.
//!
//! [`check`] lets a few engines with a few pages meet everything that can happen, in every order: the oldest message of any link
//! arrives, a thread begins an access, a lock, a barrier or a prefetch, touches what it was given, gives up waiting, a node gives
//! a copy back, and a node dies. Every state is looked at once. Breadth first, so that a breach comes with a shortest way to it.
//!
//! In every state: a page has one writer or many readers (one holder, where it migrates); whoever may read has the bytes
//! that were written last, by the checker's own book; nobody doubts a page's home; a lock has one holder; nobody passes a
//! barrier before all have come; a page is not taken from a thread before it has used it; a call fails only for a
//! reason; requests of other nodes are served in the order in which their home has heard them. While nothing about a page is under way, its home knows exactly who has it. When nothing at all is under way, nobody
//! waits but for a lock that somebody holds or for others to come to a barrier, and no engine has work left. From every
//! state what is under way comes to an end.
//!
//! Nothing bounds the length of a run: names of requests and of calls are used again when nobody knows them any more, and
//! bytes are either the latest or not, so the states are finitely many although threads go on for ever.
//!
//! What is not modelled: regions of both protocols at once, opening and closing regions, more than one death, questions for
//! owners and homes, and giving up at barriers. The seeded simulator has all of these. Release regions have a checker of their own:
//! [`check_intervals`].

mod checks;
mod intervals;
mod local;
mod names;
mod plan;
mod plans;
mod search;
mod step;
mod store;
mod trace;
mod turns;

pub use intervals::{
    IntervalPlan, check_intervals, full_interval_plans, hunting_interval_plans, small_interval_plans,
    tracking_interval_plans, update_interval_plans,
};
pub use plan::Plan;
pub use plans::{full_plans, hunting_plans, plans_with_hints, small_plans};

use crate::breach::Breach;
use local::{Local, REGION};
use pagemesh_protocol::{Action, NodeId, RegionName, RegionSpec, Unit, limits};
use search::Search;
use std::fmt;
use std::time::{Duration, Instant};

/// What a finished check has seen.
#[derive(Clone, Copy, Debug)]
pub struct Explored {
    /// Different states of the mesh.
    pub states: usize,
    /// Ways from one to the next.
    pub transitions: u64,
    /// Most events from the start to a state, on the shortest way.
    pub depth: u32,
    /// Different states of single nodes.
    pub locals: usize,
    /// Whether these are all states that there are; else the bound was met.
    pub complete: bool,
    /// Memory of the table of states, bytes.
    pub bytes: usize,
    /// How long it took.
    pub time: Duration,
}

/// A guarantee that does not hold.
#[derive(Clone, Debug)]
pub struct Broken<P = Plan> {
    /// What was checked.
    pub plan: P,
    /// What did not hold.
    pub breach: Breach,
    /// A shortest way to it, one line an event.
    pub trace: Vec<String>,
    /// States that were looked at before.
    pub states: usize,
}

impl<P: fmt::Display> fmt::Display for Broken<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.plan, self.breach)?;
        writeln!(f, "the shortest way there has {} events:", self.trace.len())?;
        write!(f, "{}", self.trace.join("\n"))
    }
}

impl<P: fmt::Debug + fmt::Display> std::error::Error for Broken<P> {}

/// Looks at every state that `plan` can come to, but no more than `bound`.
///
/// # Errors
/// When a guarantee does not hold in one of them.
///
/// # Panics
/// When the plan is larger than the checker's tables.
pub fn check(plan: &Plan, bound: usize) -> Result<Explored, Box<Broken>> {
    plan.check();
    let began = Instant::now();
    let mut search = Search::new(plan, start(plan));
    match search.run(bound) {
        Ok((depth, complete)) => Ok(Explored {
            states: search.states.len(),
            transitions: search.transitions,
            depth,
            locals: search.sizes().0,
            complete,
            bytes: search.states.bytes(),
            time: began.elapsed(),
        }),
        Err(found) => {
            let trace = search.trace(&found);
            let states = search.states.len();
            Err(Box::new(Broken { plan: plan.clone(), breach: found.breach, trace, states }))
        }
    }
}

/// The nodes once the region is mapped on all of them and its opener has been told.
fn start(plan: &Plan) -> Vec<Local> {
    let mut nodes: Vec<Local> = (0..plan.nodes).map(|node| Local::new(plan, NodeId::new(node))).collect();
    let name = RegionName::new("checked").expect("it is short");
    let spec = RegionSpec {
        name,
        pages: plan.pages,
        placement: plan.placement,
        protocol: plan.protocol,
        unit: Unit::Page,
        address: limits::REGION_BASE,
    };
    let mut under_way = std::collections::VecDeque::new();
    let mut out = Vec::new();
    let ticket = nodes[0].ticket(0);
    nodes[0].engine.on_region_open(ticket, true, spec, &mut out);
    under_way.extend(out.drain(..).map(|action| (0, action)));
    while let Some((at, action)) = under_way.pop_front() {
        let to = match action {
            Action::Send { to, message, .. } => {
                let from = NodeId::new(at as u16);
                let engine = &mut nodes[to.index()].engine;
                let view = engine.view();
                engine.on_message(from, view, &message, &mut out).expect("engines keep to their protocol");
                to.index()
            }
            Action::MapRegion { region, round, .. } => {
                nodes[at].engine.on_region_mapped(region, round, true, &mut out);
                at
            }
            _ => at,
        };
        under_way.extend(out.drain(..).map(|action| (to, action)));
    }
    assert!(nodes.iter().all(|node| node.engine.region(REGION).is_some()), "the region is mapped everywhere");
    nodes
}
