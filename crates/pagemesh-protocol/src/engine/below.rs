//! What everyone knows, found out along the tree of a barrier: each node says of each writer up to where all below it know everything.

use super::gathering::NOT_BELOW;
use super::planted::Planted;
use super::{Engine, Handled};
use crate::action::Actions;
use crate::ids::NodeId;
use crate::message::Message;

/// What a node knows of the knowledge of those below it, for barriers of one home.
#[derive(Clone, Debug, Hash)]
pub(super) struct Below {
    /// Of each child, the interval of each writer up to which all below know everything.
    children: Vec<Vec<u64>>,
    /// What was said of that to the parent.
    said: Vec<u64>,
    /// What was said to the children to be known to all.
    settled: Vec<u64>,
}

impl Engine {
    /// Of each writer, the interval up to which this node and all below it know everything, where there is any.
    fn known_below(&self, home: NodeId) -> Vec<(NodeId, u64)> {
        let notices = &self.release.notices;
        if notices.knows_of_nobody() {
            return Vec::new();
        }
        let children = self.tree(home).children(self.config.node).count();
        let below = self.gatherings.below.get(&home);
        if children > 0 && below.is_none() && !self.planted(Planted::TreeKnowsForOthers) {
            return Vec::new();
        }
        let below = below.map_or(&[][..], |below| &below.children);
        let below = if self.planted(Planted::TreeKnowsForOthers) { &[] } else { below };
        let least = |writer: NodeId| {
            let others = below.iter().map(|known| known[writer.index()]);
            others.chain([notices.known(writer)]).min().expect("there is at least this node")
        };
        let writers = (0..self.config.nodes).map(NodeId::new);
        writers
            .map(|writer| (writer, least(writer)))
            .filter(|(writer, known)| *known > notices.settled(*writer))
            .collect()
    }

    fn below(&mut self, home: NodeId) -> &mut Below {
        let (nodes, tree) = (self.config.nodes as usize, self.tree(home));
        let children = tree.children(self.config.node).count();
        self.gatherings.below.entry(home).or_insert_with(|| Below {
            children: vec![vec![0; nodes]; children],
            said: vec![0; nodes],
            settled: vec![0; nodes],
        })
    }

    /// Before a message to the parent: what it has not heard of that.
    pub(super) fn confirm_below(&mut self, home: NodeId, parent: NodeId, out: &mut Actions) {
        let mut known = self.known_below(home);
        if known.is_empty() {
            return;
        }
        let said = &mut self.below(home).said;
        known.retain(|(writer, interval)| *interval > said[writer.index()]);
        for (writer, interval) in &known {
            said[writer.index()] = *interval;
        }
        for (writer, interval) in known {
            self.send(parent, Message::BarrierKnown { home, writer, interval }, out);
        }
    }

    pub(super) fn barrier_known(
        &mut self,
        from: NodeId,
        home: NodeId,
        writer: NodeId,
        interval: u64,
    ) -> Handled {
        if home.get() >= self.config.nodes {
            return Err("the home is not a member of the mesh");
        }
        let Some(child) = self.child_below(home, from) else { return Err(NOT_BELOW) };
        self.check_interval(writer, interval)?;
        let known = &mut self.below(home).children[child][writer.index()];
        *known = interval.max(*known);
        Ok(())
    }

    /// At the home: forgets what everyone knows.
    pub(super) fn settle_below(&mut self, home: NodeId) {
        for (writer, interval) in self.known_below(home) {
            self.settle_notices(writer, interval);
        }
    }

    /// What is settled and was not said so to the children.
    pub(super) fn settled_since(&mut self, home: NodeId) -> Vec<(NodeId, u64)> {
        if !self.gatherings.below.contains_key(&home) {
            return Vec::new();
        }
        let settled: Vec<u64> =
            (0..self.config.nodes).map(|writer| self.release.notices.settled(NodeId::new(writer))).collect();
        let said = &mut self.below(home).settled;
        let news = settled.iter().zip(said.iter()).enumerate().filter(|(_, (now, said))| now > said);
        let news = news.map(|(writer, (now, _))| (NodeId::new(writer as u16), *now)).collect();
        *said = settled;
        news
    }
}
