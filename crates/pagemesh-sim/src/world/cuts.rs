//! Connections that break while both ends live, and what that leaves of the guarantees.
//!
//! The engine promises no agreement between nodes that take each other for lost (docs/protocol.md, Loss of a node), so a cut
//! changes what can be checked. A page's history is that of the nodes which its home can reach, and of the one that had the page for
//! writing when it was cut off. What others read, and what a node writes that takes itself for the last one, is not part of
//! it; and where the home died, nobody's is.

use super::World;
use crate::node::Rights;
use pagemesh_protocol::{LockId, NodeSet, PageAddress, lock_home};

impl World {
    /// The connection of two nodes is gone: each learns of it when it has received what still came.
    pub(super) fn sever(&mut self, one: usize, other: usize) {
        let both_live = self.nodes[one].alive && self.nodes[other].alive;
        if !both_live || self.are_severed(one, other) {
            return;
        }
        let (time, step) = (self.time, self.counts.steps);
        self.trace.line(|| format!("{step:>6} {time:>8}us the connection of n{one} and n{other} breaks"));
        self.counts.severed += 1;
        self.severed.push((one, other));
        for (from, to) in [(one, other), (other, one)] {
            let kept = self.schedule.index(self.network.length(self.network.link(from, to)) + 1);
            self.cut_link(from, to, kept);
            self.report_closure(from, to);
            self.network.break_off(self.network.link(from, to));
        }
    }

    pub(super) fn are_severed(&self, one: usize, other: usize) -> bool {
        self.severed.contains(&(one, other)) || self.severed.contains(&(other, one))
    }

    /// Whether some living node has lost `index`, or is about to.
    pub(super) fn is_cut_off(&self, index: usize) -> bool {
        self.severed.iter().any(|(one, other)| *one == index || *other == index)
    }

    /// Whether what node `at` reads and writes of `page` belongs to the history that all agree on.
    pub(super) fn is_counted(&self, at: usize, page: PageAddress) -> bool {
        if self.severed.is_empty() {
            return true;
        }
        let Some(home) = self.nodes.iter().find_map(|node| node.engine.home(page)) else { return true };
        if !self.nodes[home.index()].alive {
            return false;
        }
        if !self.are_severed(at, home.index()) {
            return true;
        }
        let node = &self.nodes[at];
        node.rights(page) == Rights::Write && node.engine.live() != NodeSet::only(node.id)
    }

    /// Whether a lock has one holder at a time: its home and a holder may have lost each other.
    pub(super) fn is_trusted(&self, lock: LockId) -> bool {
        !self.is_cut_off(lock_home(lock, self.config.nodes).index())
    }
}
