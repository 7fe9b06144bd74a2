//! What nodes tell each other of writes, and the checks of what they are told. What is kept of it is the business of `notices.rs`.

use super::coherence::NO_SUCH_PAGE;
use super::notices::{PageRun, Tale};
use super::planted::Planted;
use super::release::{NO_SUCH_INTERVAL, NOT_RELEASE};
use super::{Engine, Handled};
use crate::action::Actions;
use crate::ids::{NodeId, PageAddress};
use crate::limits;
use crate::message::Message;

impl Engine {
    /// Before a message that passes on a lock or opens a barrier: what the receiver lacks of what this node knows.
    pub(super) fn tell(&mut self, to: NodeId, out: &mut Actions) {
        if self.planted(Planted::TellNothing) {
            return;
        }
        self.send_due_updates(to, out);
        let mut tales = std::mem::take(&mut self.release.tales);
        self.release.notices.tell(to, &mut tales);
        self.send_tales(to, tales, out);
    }

    /// Before a message that is answered by such a one: what need not be told.
    pub(super) fn tell_what_is_known(&mut self, to: NodeId, out: &mut Actions) {
        let mut tales = std::mem::take(&mut self.release.tales);
        self.release.notices.ask(to, &mut tales);
        self.send_tales(to, tales, out);
    }

    /// Before arriving at a barrier, where it is found out what everyone knows.
    pub(super) fn confirm(&mut self, to: NodeId, out: &mut Actions) {
        let mut tales = std::mem::take(&mut self.release.tales);
        self.release.notices.confirm(to, &mut tales);
        self.send_tales(to, tales, out);
    }

    fn send_tales(&mut self, to: NodeId, mut tales: Vec<Tale>, out: &mut Actions) {
        for tale in tales.drain(..) {
            let message = match tale {
                Tale::Wrote { writer, interval, run } => {
                    Message::Wrote { writer, interval, first: run.first, count: run.count as u32 }
                }
                Tale::Told { writer, interval } => Message::Told { writer, interval },
                Tale::Knows { writer, interval } => Message::Knows { writer, interval },
            };
            self.send(to, message, out);
        }
        self.release.tales = tales;
    }

    pub(super) fn check_interval(&self, writer: NodeId, interval: u64) -> Handled {
        if writer.get() >= self.config.nodes {
            return Err("the writer is not a member of the mesh");
        }
        let own = writer == self.config.node && interval > self.release.notices.known(writer);
        if own || interval >= limits::INTERVALS { Err(NO_SUCH_INTERVAL) } else { Ok(()) }
    }

    pub(super) fn wrote(&mut self, writer: NodeId, interval: u64, run: PageRun) -> Handled {
        self.check_interval(writer, interval)?;
        let last = PageAddress::new(run.first.region, run.first.page.saturating_add(run.count - 1));
        if self.pages.local(last).is_none() {
            return Err(NO_SUCH_PAGE);
        }
        if !self.is_release(last) {
            return Err(NOT_RELEASE);
        }
        if self.release.notices.held() >= limits::NOTICES {
            return Err("there are more notices than a mesh can have");
        }
        self.release.notices.heard_of(writer, interval, run);
        Ok(())
    }

    pub(super) fn told(&mut self, from: NodeId, writer: NodeId, interval: u64) -> Handled {
        self.check_interval(writer, interval)?;
        self.release.notices.told_by(from, writer, interval);
        Ok(())
    }

    pub(super) fn knows(&mut self, from: NodeId, writer: NodeId, interval: u64) -> Handled {
        self.check_interval(writer, interval)?;
        self.release.notices.peer_knows(from, writer, interval);
        Ok(())
    }

    pub(super) fn settled(&mut self, writer: NodeId, interval: u64) -> Handled {
        self.check_interval(writer, interval)?;
        self.settle_notices(writer, interval);
        Ok(())
    }

    pub(super) fn settle_notices(&mut self, writer: NodeId, interval: u64) {
        let flushed = self.release.flushed[writer.index()];
        let (pages, own) = (&self.pages, self.config.node);
        let forgets = self.planted(Planted::ForgetAwaitedDiffs);
        // The requesters no longer say that they need these.
        let still_needed = |interval: u64, run: PageRun| {
            let mut homes = run.pages().map(|page| pages.home(page));
            !forgets && writer != own && interval > flushed && homes.any(|home| home == Ok(Some(own)))
        };
        self.release.notices.settle(writer, interval, still_needed);
    }

    /// What all nodes know by now, to be told to those who leave a barrier.
    pub(super) fn settle_known(&mut self) -> Vec<(NodeId, u64)> {
        let live: Vec<NodeId> = self.live.iter().collect();
        let known = self.planted(Planted::SettleUnknown);
        let live = if known { vec![self.config.node] } else { live };
        let agreed = self.release.notices.agreed(&live);
        for (writer, interval) in &agreed {
            self.settle_notices(*writer, *interval);
        }
        agreed
    }
}
