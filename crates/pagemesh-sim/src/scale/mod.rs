//! What a mesh of many nodes costs: standard workloads on real engines, in a machine with fixed delays.
//!
//! Nothing is random and no clock is read, so the same engines give the same numbers on every machine. The model is simple on
//! purpose: a message is [`DELAY_US`] on its way, a node handles one event at a time in [`HANDLING_US`] and then needs
//! [`SENDING_US`] for each message that it sends. That is enough to see what grows with the nodes and who stands in line
//! where; it does not foretell the microseconds of a real network.

mod mesh;
mod plot;
mod table;
mod workload;

pub use plot::plot;
pub use table::{MEASURES, Measure, barriers, csv, tables, with_tables};
pub use workload::Workload;

use mesh::Mesh;
use pagemesh_protocol::{Protocol, limits};

/// How long a message is on its way, microseconds.
pub const DELAY_US: u64 = 25;
/// How long a node is busy with one event, microseconds.
pub const HANDLING_US: u64 = 2;
/// How long a node is busy with sending one message, microseconds.
pub const SENDING_US: u64 = 1;

/// One workload with one protocol on one number of nodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// What the nodes did.
    pub workload: Workload,
    /// How pages are kept coherent; `None` where there are none.
    pub protocol: Option<Protocol>,
    /// How many nodes there were.
    pub nodes: u16,
    /// Page accesses, locks taken and given back, arrivals at a barrier.
    pub operations: u64,
    /// Messages between two nodes.
    pub messages: u64,
    /// Their bytes on the wire, pages and framing included.
    pub bytes: u64,
    /// The most bytes that the directory entry of one page took.
    pub directory_bytes: usize,
    /// The most requests and calls that stood in line at one home.
    pub in_line: usize,
    /// The most messages that had come to one node and were not handled.
    pub inbox: usize,
    /// The most runs of pages that one node held write notices of.
    pub notices: usize,
    /// The time that all operations together took, microseconds of the model.
    pub waited_us: u64,
}

impl Sample {
    /// `count` for each operation.
    pub fn per_operation(&self, count: u64) -> f64 {
        count as f64 / self.operations.max(1) as f64
    }
}

/// What one round of a barrier of all nodes costs, when it has been entered before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierRound {
    /// How many nodes there are.
    pub nodes: u16,
    /// Children of a node in the tree, if there is one.
    pub fan: Option<u16>,
    /// The most messages that one node sends and hears.
    pub busiest: u64,
    /// Messages one after the other, of which each can be sent only when the one before has been handled.
    pub depth: u32,
    /// Messages in all.
    pub messages: u64,
    /// How long a thread waits, on average, microseconds of the model.
    pub waits_us: u64,
}

/// One round of a barrier of all, once it has been entered before: counted one by one, or gathered in a tree with `fan` children a node.
pub fn barrier_round(nodes: u16, fan: Option<u16>) -> BarrierRound {
    let mut mesh = Mesh::with_trees(nodes, fan);
    let everyone = || (0..nodes).map(|node| (node, vec![workload::Step::Barrier])).collect();
    mesh.run(everyone());
    mesh.busiest();
    mesh.run(everyone());
    let counts = mesh.counts();
    let (busiest, depth) = mesh.busiest();
    let waits_us = counts.waited_us / counts.operations.max(1);
    BarrierRound { nodes, fan, busiest, depth, messages: counts.messages, waits_us }
}

/// The numbers of nodes that are looked at: powers of two up to [`limits::NODES`].
pub fn node_counts() -> impl Iterator<Item = u16> {
    (1..).map(|power| 1u16 << power).take_while(|nodes| *nodes as usize <= limits::NODES)
}

/// Every workload with every protocol on every number of nodes up to `nodes_max`; each line of the result is one
/// workload with one protocol, in the order of the nodes.
pub fn measure(nodes_max: u16) -> Vec<Vec<Sample>> {
    let lines = Workload::ALL.into_iter().flat_map(|workload| {
        workload.protocols().iter().map(move |protocol| {
            let most = nodes_max.min(workload.nodes_max(*protocol));
            let counts = node_counts().filter(|nodes| *nodes <= most);
            counts.map(|nodes| sample(workload, *protocol, nodes)).collect()
        })
    });
    lines.collect()
}

/// One workload on `nodes` nodes.
pub fn sample(workload: Workload, protocol: Option<Protocol>, nodes: u16) -> Sample {
    let mut mesh = Mesh::new(nodes);
    if let Some(protocol) = protocol {
        let (pages, placement) = workload.region(nodes);
        mesh.open_region(pages, placement, protocol);
    }
    for phase in workload.phases(nodes) {
        mesh.run(phase);
    }
    let counts = mesh.counts();
    Sample {
        workload,
        protocol,
        nodes,
        operations: counts.operations,
        messages: counts.messages,
        bytes: counts.bytes,
        directory_bytes: counts.directory_bytes,
        in_line: counts.in_line,
        inbox: counts.inbox,
        notices: counts.notices,
        waited_us: counts.waited_us,
    }
}
