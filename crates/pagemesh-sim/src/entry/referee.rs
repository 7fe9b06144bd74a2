//! A model of the line that a master keeps for the ranges of one region, to hold its grants against.

use pagemesh_protocol::{Access, ByteRange, NodeId, Ticket};

/// A call for a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub(super) node: NodeId,
    pub(super) ticket: Ticket,
    pub(super) range: ByteRange,
    pub(super) access: Access,
}

impl Turn {
    pub(super) fn excludes(&self, other: &Turn) -> bool {
        (self.access, other.access) != (Access::Read, Access::Read) && self.range.overlaps(other.range)
    }
}

/// Who has and who wants what, as the master has heard of it.
#[derive(Clone, Default, Debug)]
pub(super) struct Referee {
    held: Vec<Turn>,
    line: Vec<Turn>,
}

impl Referee {
    pub(super) fn arrived(&mut self, turn: Turn) {
        self.line.push(turn);
    }

    fn blocker(&self, place: usize) -> Option<Turn> {
        let turn = &self.line[place];
        self.held.iter().chain(&self.line[..place]).find(|other| other.excludes(turn)).copied()
    }

    fn place(&self, node: NodeId, ticket: Ticket) -> Option<usize> {
        self.line.iter().position(|turn| (turn.node, turn.ticket) == (node, ticket))
    }

    /// The master has granted a range, or gone on to send one.
    pub(super) fn granted(&mut self, node: NodeId, ticket: Ticket) -> Result<(), String> {
        if self.held.iter().any(|turn| (turn.node, turn.ticket) == (node, ticket)) {
            return Ok(());
        }
        let place = self.place(node, ticket);
        let place = place.ok_or_else(|| format!("{ticket:?} of node {node} got what it did not ask for"))?;
        if let Some(blocker) = self.blocker(place) {
            return Err(format!("{:?} was granted before {blocker:?}", self.line[place]));
        }
        let turn = self.line.remove(place);
        self.held.push(turn);
        Ok(())
    }

    /// The master has sent a call away that does not wait.
    pub(super) fn refused(&mut self, node: NodeId, ticket: Ticket) -> Result<(), String> {
        let place = self.place(node, ticket).ok_or("a call was refused that was not there")?;
        if self.blocker(place).is_none() {
            return Err(format!("{:?} was refused, and nobody is in the way", self.line[place]));
        }
        self.line.remove(place);
        Ok(())
    }

    pub(super) fn released(&mut self, node: NodeId, ticket: Ticket, range: ByteRange) {
        let is_it = |turn: &Turn| (turn.node, turn.ticket, turn.range) == (node, ticket, range);
        self.held.retain(|turn| !is_it(turn));
        self.line.retain(|turn| !is_it(turn));
    }

    pub(super) fn lost(&mut self, node: NodeId) {
        self.held.retain(|turn| turn.node != node);
        self.line.retain(|turn| turn.node != node);
    }

    /// Nobody waits for nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        match (0..self.line.len()).find(|place| self.blocker(*place).is_none()) {
            Some(place) => Err(format!("{:?} waits, and nobody is in its way", self.line[place])),
            None => Ok(()),
        }
    }
}
