//! What becomes of everything about a region that is gone.
//!
//! A region goes when every node has closed it, so nobody waits for its pages who has a right to. Still its last messages may be under way
//! between any two nodes, and requests, transactions and notices about it may stand in tables. A node that is told RegionGone takes all of it
//! out at once, and from then on takes no notice of messages about the region: a peer that has not been told yet may go on for a
//! while, and waits for nothing that it would not give up when it is told.
//!
//! Some messages say more than what they are about, and that stays true: the last diff of an interval, or a page that comes back, says that
//! diffs for this home have come, and a request uses up what was said before that it needs.

use super::Engine;
use super::tickets::Wait;
use crate::action::{Actions, Failure};
use crate::ids::{NodeId, PageAddress, RegionId, RequestId, Ticket};
use crate::message::Message;

impl Wait {
    /// The region whose page or range is waited for.
    fn region(&self) -> Option<RegionId> {
        match self {
            Wait::Page { page, .. }
            | Wait::Resuming(page)
            | Wait::Owner { page, .. }
            | Wait::Home { page, .. }
            | Wait::Atomic { page, .. }
            | Wait::AtomicHome { page, .. } => Some(page.region),
            Wait::Range { range, .. } => Some(range.region),
            _ => None,
        }
    }
}

impl Engine {
    /// Whether the region is gone.
    pub(super) fn is_gone(&self, region: RegionId) -> bool {
        self.agreements.is_gone(region)
    }

    /// A message about a region that is gone.
    pub(super) fn late(&mut self, from: NodeId, message: &Message, out: &mut Actions) {
        match *message {
            Message::Diff { interval, last: true, .. } => {
                self.send_applied(from, interval, out);
                self.flushed(from, interval, out);
            }
            Message::Return { interval, .. } => self.flushed(from, interval, out),
            Message::PageRequest { request, .. } => self.release.forget_needs(from, request),
            _ => {}
        }
    }

    /// Takes out all that is about `region`. Calls that wait for it fail.
    pub(super) fn forget_region(&mut self, region: RegionId, out: &mut Actions) {
        let of = |page: PageAddress| page.region == region;
        let calls: Vec<(Ticket, Wait)> =
            self.tickets.waiting().filter(|(_, wait)| wait.region() == Some(region)).collect();
        for (ticket, wait) in calls {
            match wait {
                // It is over; only its thread has not said yet that it goes on.
                Wait::Resuming(_) => _ = self.tickets.end(ticket),
                _ => self.fail(ticket, Failure::RegionClosed, out),
            }
        }
        self.uses.forget_region(region);
        self.hints.forget_region(region);
        self.pins.forget_region(region);
        self.coherence.pending.retain(|_, pending| !of(pending.page));
        self.forget_transactions(region);
        for (node, request) in self.release.forget_region(region) {
            self.coherence.open[node.index()] -= 1;
            self.release.forget_needs(node, request);
        }
        self.entry.forget_region(region);
        self.agreements.forget_proposals(region);
        self.pages.remove(region);
        let homes = |page: PageAddress| self.pages.home(page) == Ok(Some(self.config.node));
        self.release.count_twins(homes);
    }

    fn forget_transactions(&mut self, region: RegionId) {
        let running = self.coherence.transactions.iter();
        let over: Vec<usize> =
            running.filter(|(_, running)| running.page.region == region).map(|(index, _)| index).collect();
        for index in over {
            let ended = self.coherence.transactions.remove(index);
            self.coherence.open[ended.request.node.index()] -= 1;
            let mut queue = ended.queue;
            while let Some(queued) = self.coherence.queued.pop(&mut queue) {
                self.coherence.open[queued.node.index()] -= 1;
            }
        }
    }

    /// All diffs of `from` for this home have come, up to `interval`, though the last was about a region that is gone.
    fn flushed(&mut self, from: NodeId, interval: u64, out: &mut Actions) {
        let flushed = &mut self.release.flushed[from.index()];
        if interval > *flushed && interval < crate::limits::INTERVALS {
            *flushed = interval;
            self.serve_waiting(out);
        }
    }
}

/// A request that stood in a table of what is gone.
pub(super) type Forgotten = (NodeId, RequestId);
