//! Nodes that go: by dying, or after a goodbye.

use super::World;
use crate::breach::Breach;
use crate::event::{Caller, Event, Wanted};
use crate::network::Parcel;
use crate::thread::Activity;
use pagemesh_protocol::Message;

/// How a node goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// It dies; of what it sent, a part arrives on each link.
    Death,
    /// It dies after everything that it sent was on its way.
    LateDeath,
    /// It says goodbye.
    Goodbye,
}

/// A dead node's peers learn of it within this time, each at its own, microseconds.
const LEASE_US: u64 = 20_000;

impl World {
    /// Node `index` is gone; each peer learns of it when it has received what still came.
    pub(crate) fn lose(&mut self, index: usize, manner: Manner) {
        if !self.nodes[index].alive {
            return;
        }
        let (time, step) = (self.time, self.counts.steps);
        self.trace.line(|| format!("{step:>6} {time:>8}us n{index} goes: {manner:?}"));
        if self.nodes[index].called_leave {
            self.counts.left += 1;
        } else {
            self.counts.lost += 1;
        }
        self.nodes[index].alive = false;
        self.turns.forget(self.nodes[index].id);
        self.nodes[index].said_goodbye = manner == Manner::Goodbye;
        for thread in self.threads.iter_mut().filter(|thread| thread.node == index) {
            thread.activity = Activity::Over;
            for (lock, _) in thread.locks.drain(..) {
                self.referee.gives_back(pagemesh_protocol::LockId(self.config.locks[lock]));
            }
        }
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.cut_link(other, index, 0);
            if self.nodes[other].alive && !self.are_severed(index, other) {
                self.close_link(index, other, manner);
            }
        }
    }

    fn close_link(&mut self, index: usize, other: usize, manner: Manner) {
        let link = self.network.link(index, other);
        match manner {
            Manner::Death => {
                let kept = self.schedule.index(self.network.length(link) + 1);
                self.cut_link(index, other, kept);
            }
            Manner::LateDeath => {}
            Manner::Goodbye => {
                let parcel = Parcel::Message { message: Message::Goodbye, payload: None };
                self.network.push(link, self.time, 0, parcel);
            }
        }
        self.report_closure(index, other);
    }

    /// Node `to` will learn that `from` is lost.
    pub(super) fn report_closure(&mut self, from: usize, to: usize) {
        let extra = if self.config.timing.unordered { 0 } else { self.schedule.below(LEASE_US) };
        self.network.push(self.network.link(from, to), self.time, extra, Parcel::Closed);
        self.closures += 1;
    }

    pub(super) fn cut_link(&mut self, from: usize, to: usize, kept: usize) {
        let link = self.network.link(from, to);
        for parcel in self.network.cut(link, kept) {
            match parcel {
                Parcel::Message { message, .. } => self.note_arrival(&message),
                Parcel::Hurry => {}
                Parcel::Closed => self.closures -= 1,
            }
        }
    }

    /// A node whose program is over announces that it leaves.
    pub(super) fn start_leaving(&mut self, index: usize) -> Result<(), Breach> {
        let node = &mut self.nodes[index];
        node.leave_at = None;
        if node.called_leave {
            self.lose(index, Manner::Goodbye);
            return Ok(());
        }
        node.called_leave = true;
        let ticket = node.begin_call(Caller::Script, Wanted::Leave, &mut self.schedule);
        self.feed(index, Event::Leave { ticket })
    }

    /// A node may leave, and goes some time later.
    pub(super) fn may_leave(&mut self, index: usize) {
        self.nodes[index].leave_at = Some(self.time + self.pause(index));
    }

    /// A node whose threads are through may leave before the others.
    pub(super) fn leave_early(&mut self, index: usize) {
        let through = self
            .threads
            .iter()
            .filter(|thread| thread.node == index)
            .all(|thread| thread.activity == Activity::Over);
        let node = &self.nodes[index];
        let wants = self.config.early_leavers.contains(&node.id.get());
        if wants && through && node.alive && !node.called_leave && node.leave_at.is_none() {
            self.nodes[index].leave_at = Some(self.time);
        }
    }
}
