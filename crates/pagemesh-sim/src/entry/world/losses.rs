//! Nodes that die, and pairs of living ones that lose each other.

use super::{Checked, Load, Loss, Section, World};
use crate::entry::referee::Turn;
use pagemesh_protocol::{Access, ByteRange, Message, NodeId};

impl World {
    /// Two nodes lose each other; with themselves, a node dies.
    pub(super) fn part(&mut self, one: usize, other: usize) -> Checked {
        let count = self.nodes.len();
        if one != other {
            if self.knows(one, other) {
                self.note(|| format!("nodes {one} and {other} lose each other"));
                self.cut(one, other)?;
            }
            return Ok(());
        }
        self.note(|| format!("node {one} dies"));
        for peer in (0..count).filter(|peer| *peer != one) {
            if self.knows(one, peer) {
                self.cut(one, peer)?;
            }
        }
        self.nodes[one].alive = false;
        Ok(())
    }

    fn cut(&mut self, one: usize, other: usize) -> Checked {
        let count = self.nodes.len();
        for (from, to) in [(one, other), (other, one)] {
            let kept = self.random.index(self.links[from * count + to].len() + 1);
            for _ in 0..kept {
                self.deliver(from * count + to)?;
            }
        }
        for (from, to) in [(one, other), (other, one)] {
            self.links[from * count + to].clear();
            self.parted[from * count + to] = true;
        }
        for (master, lost) in [(one, other), (other, one)] {
            self.take_from(master, lost)?;
        }
        for (to, lost) in [(one, other), (other, one)] {
            let lost = NodeId::new(lost as u16);
            self.event(to, |engine, out| engine.on_peer_lost(lost, out))?;
        }
        Ok(())
    }

    /// What `lost` had of the regions of `master` is its no longer, and what it wrote may not have come.
    fn take_from(&mut self, master: usize, lost: usize) -> Checked {
        let regions = &self.plan.regions;
        let of_master = |range: ByteRange| regions[range.region.index()].master == master;
        let node = NodeId::new(lost as u16);
        for thread in self.threads.iter_mut().filter(|thread| thread.node == lost) {
            for section in thread.held.extract_if(.., |section| of_master(section.turn.range)) {
                if section.turn.access == Access::Write {
                    self.losses.push(Loss { range: section.turn.range, told: false });
                }
            }
        }
        for (region, plan) in regions.iter().enumerate().filter(|(_, plan)| plan.master == master) {
            self.referees[region].lost(node);
            for cell in 0..plan.cells.len() {
                let left = self.nodes[master].memory[region][cell];
                let [last, before] = self.truth[region][cell];
                let local = self.threads.iter().any(|thread| {
                    let has = |section: &Section| {
                        let Turn { range, .. } = section.turn;
                        range.region.index() == region
                            && (range.start..range.end()).contains(&plan.cells[cell])
                    };
                    thread.held.iter().any(has)
                });
                // What somebody else has for writing just now is not finished.
                let in_use = local || self.in_flight(master, region, plan.cells[cell]);
                if left != last && !in_use {
                    if left != before {
                        return Err(format!("after a loss the master has {left}, which nobody published"));
                    }
                    self.truth[region][cell] = [left, left];
                }
            }
        }
        Ok(())
    }

    /// Whether bytes that hold this cell are on their way to the master.
    fn in_flight(&self, master: usize, region: usize, cell: u64) -> bool {
        let count = self.nodes.len();
        let holds = |(message, _): &(Message, Load)| match message {
            Message::RangeWrite { range, .. } => {
                range.region.index() == region && (range.start..range.end()).contains(&cell)
            }
            _ => false,
        };
        (0..count).any(|from| self.links[from * count + master].iter().any(holds))
    }
}
