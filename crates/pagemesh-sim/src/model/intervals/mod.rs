//! The same for release regions: every run of a small mesh whose programs have no data races.
//!
//! [`check_intervals`] lets the threads of a few real engines take locks, read and write cells, give copies back and meet at a barrier, in
//! every order, while messages arrive in every order. Cells are guarded as [`IntervalPlan`] tells, so each read has one right
//! answer: the last write by the checker's own book, whatever twins, diffs and notices do. Nobody passes a barrier before all have come,
//! rights are what the engine says, twins are made before the application can write, and when nothing can happen any more nobody waits.
//!
//! Where kernels note writes, a second thread of each node may store at any moment, also between two actions of an event. Pages that are sent
//! along may be lost on the way, and come about only after some rounds of a program: these are played before, in one order.
//!
//! Intervals are numbered without end, so the operations of a thread are bounded, and with them the states. Nobody dies here,
//! nothing is pinned, and nobody gives up; programs without data races in the simulator have all of that.

mod local;
mod plan;
mod rounds;
mod search;

pub use plan::{
    IntervalPlan, full_interval_plans, hunting_interval_plans, small_interval_plans, tracking_interval_plans,
    update_interval_plans,
};

use super::{Broken, Explored};
use local::Local;
use pagemesh_protocol::{Action, NodeId, Protocol, RegionName, RegionSpec, Ticket, Unit, View, limits};
use search::Search;
use std::collections::VecDeque;
use std::time::Instant;

/// Looks at every state that `plan` can come to, but no more than `bound`.
///
/// # Errors
/// When a guarantee does not hold in one of them.
///
/// # Panics
/// When the plan is larger than the checker's tables.
pub fn check_intervals(plan: &IntervalPlan, bound: usize) -> Result<Explored, Box<Broken<IntervalPlan>>> {
    plan.check();
    let began = Instant::now();
    let broken = |breach, trace, states| Box::new(Broken { plan: plan.clone(), breach, trace, states });
    let (nodes, book) = rounds::play(plan, start(plan)).map_err(|found| broken(found.0, found.1, 1))?;
    let mut search = Search::new(plan, nodes, book);
    match search.run(bound) {
        Ok((depth, complete)) => Ok(Explored {
            states: search.states.len(),
            transitions: search.transitions,
            depth,
            locals: search.node_states(),
            complete,
            bytes: search.states.bytes(),
            time: began.elapsed(),
        }),
        Err(found) => {
            let (trace, states) = (search.trace(&found), search.states.len());
            Err(broken(found.breach, trace, states))
        }
    }
}

/// The nodes once the region is mapped on all of them and its opener has been told.
fn start(plan: &IntervalPlan) -> Vec<Local> {
    let mut nodes: Vec<Local> = (0..plan.nodes).map(|node| Local::new(plan, NodeId::new(node))).collect();
    let name = RegionName::new("checked").expect("it is short");
    let (pages, placement, address) = (plan.pages, plan.placement, limits::REGION_BASE);
    let spec = RegionSpec { name, pages, placement, protocol: Protocol::Release, unit: Unit::Page, address };
    let (mut under_way, mut out) = (VecDeque::new(), Vec::new());
    nodes[0].engine.on_region_open(Ticket::new(0, 1), true, spec, &mut out);
    under_way.extend(out.drain(..).map(|action| (0, action)));
    while let Some((at, action)) = under_way.pop_front() {
        let to = match action {
            Action::Send { to, message, .. } => {
                let (from, engine) = (NodeId::new(at as u16), &mut nodes[to.index()].engine);
                engine
                    .on_message(from, View::FIRST, &message, &mut out)
                    .expect("engines keep to their protocol");
                to.index()
            }
            Action::MapRegion { region, round, .. } => {
                nodes[at].engine.on_region_mapped(region, round, true, &mut out);
                if plan.tracked {
                    nodes[at].engine.track_writes(region);
                }
                at
            }
            _ => at,
        };
        under_way.extend(out.drain(..).map(|action| (to, action)));
    }
    assert!(nodes.iter().all(|node| node.engine.region(local::REGION).is_some()), "it is mapped everywhere");
    let tracked = nodes.iter().all(|node| node.engine.tracks_writes(local::REGION) == plan.tracked);
    assert!(tracked, "writes are noted on all nodes, or on none");
    nodes
}
