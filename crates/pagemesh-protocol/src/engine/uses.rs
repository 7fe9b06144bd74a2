//! A copy is used before it goes.
//!
//! A thread that waited for a page still has to run before it can touch it. If the next demand for the page were met in the
//! meantime, the thread would find nothing and ask again; while others pass the page to each other, it could ask for ever. A
//! home would fare worst: it serves the next request in the very event that brought it its own copy.
//!
//! So a copy is *in use* from when it completes calls until their threads have gone on
//! ([`Engine::on_resumed`](super::Engine::on_resumed)). A demand for it (Fetch, Invalidate, or a transaction of this home that wants
//! this node's copy) waits until then, and a little longer: [`Action::Postpone`] asks the caller to let the threads run first.
//! With a home that serves in the order of arrival, this bounds every access: it is over after at most one service of each
//! other node.
//!
//! Only calls that completed before the demand came are waited for, so nobody can hold a page by touching it again. Pins,
//! which hold pages for longer, are told in `pins.rs`; the demands that wait for them stand in the same queue.

use super::coherence::Phase;
use super::pages::LocalPage;
use super::pins::PinWait;
use super::planted::Planted;
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled};
use crate::action::{Action, Actions, Outcome};
use crate::ids::{Access, NodeId, PageAddress, PageState, RegionId, RequestId, Ticket};
use crate::limits;
use crate::message::Message;
use crate::sharers::Sharers;

/// What is wanted of a copy of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Want {
    /// To be sent to `requester`, and no more rights than its access leaves.
    Fetch { request: RequestId, access: Access, requester: NodeId },
    /// To be dropped, and the home to be told.
    Invalidate,
    /// To be dropped, and the requester to be told.
    Drop { request: RequestId, requester: NodeId, grant: Sharers },
    /// To be sent by this node as the page's home: a transaction waits for it.
    Own,
}

/// A demand that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Demand {
    pub(super) page: PageAddress,
    home: NodeId,
    pub(super) want: Want,
    /// The number of its wait for pins, where it waits for some (`pins.rs`).
    pub(super) wait: Option<PinWait>,
}

#[derive(Clone, Debug)]
pub(super) struct Uses {
    /// For each call that was completed and whose thread has not gone on, its page.
    pub(super) in_use: Vec<PageAddress>,
    /// In the order in which they came.
    pub(super) demands: Vec<Demand>,
}

impl Uses {
    pub(super) fn new(config: EngineConfig) -> Uses {
        // A home has one demand a page under way; each is for a page that is in use or pinned.
        let demands = Vec::with_capacity(config.tickets + config.pins);
        Uses { in_use: Vec::with_capacity(config.tickets), demands }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.in_use.is_empty() && self.demands.is_empty()
    }

    pub(super) fn demands_in_all(&self) -> usize {
        self.demands.len()
    }

    /// The region is gone.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        self.in_use.retain(|page| page.region != region);
        self.demands.retain(|demand| demand.page.region != region);
    }

    fn demands_on(&self, page: PageAddress) -> usize {
        self.demands.iter().filter(|demand| demand.page == page).count()
    }

    fn end_use(&mut self, page: PageAddress) {
        if let Some(place) = self.in_use.iter().position(|used| *used == page) {
            self.in_use.swap_remove(place);
        }
    }
}

impl Engine {
    /// Completes a call that waited for `page` and has it now.
    pub(super) fn let_go(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        if self.tickets.end(ticket) {
            self.tickets.begin(ticket, Wait::Resuming(page));
            self.uses.in_use.push(page);
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
        }
    }

    /// The thread of `ticket` has gone on.
    pub(super) fn resumed(&mut self, ticket: Ticket, out: &mut Actions) {
        let Wait::Resuming(page) = self.tickets.wait(ticket) else { return };
        self.tickets.end(ticket);
        self.uses.end_use(page);
        if !self.uses.in_use.contains(&page) && self.has_demands(page) {
            out.push(Action::Postpone);
        }
    }

    pub(super) fn has_demands(&self, page: PageAddress) -> bool {
        self.uses.demands_on(page) > 0
    }

    /// Whether a thread was given a page and has not gone on yet.
    pub(super) fn is_in_use(&self, page: PageAddress) -> bool {
        self.uses.in_use.contains(&page)
    }

    /// Whether a demand for this node's copy of `page` has to wait, for threads, for pins, or for an earlier one.
    pub(super) fn must_wait(&self, page: PageAddress, access: Access) -> bool {
        let in_use = self.is_in_use(page) || self.has_demands(page) || self.pins.block(page, access);
        in_use && !self.planted(Planted::TakeBeforeUse)
    }

    pub(super) fn postpone(
        &mut self,
        page: PageAddress,
        home: NodeId,
        want: Want,
        out: &mut Actions,
    ) -> Handled {
        if self.uses.demands_on(page) >= limits::DEMANDS_FOR_ONE_COPY {
            return Err("more is wanted of one copy than a home can have under way");
        }
        self.uses.demands.push(Demand { page, home, want, wait: None });
        self.await_pins(out);
        Ok(())
    }

    /// A transaction of this home lingers for this node's copy of `page`. One demand serves it and those after it.
    pub(super) fn linger(&mut self, page: PageAddress) {
        let waits = self.uses.demands.iter().any(|demand| demand.page == page && demand.want == Want::Own);
        if !waits {
            self.uses.demands.push(Demand { page, home: self.config.node, want: Want::Own, wait: None });
        }
    }

    /// Meets the demands whose pages are in use no more.
    pub(super) fn postponed(&mut self, out: &mut Actions) {
        self.meet_ready(|_| true, out);
    }

    /// Meets the demands that waited for pins and need not any longer.
    pub(super) fn meet_awaited(&mut self, out: &mut Actions) {
        self.meet_ready(|demand| demand.wait.is_some(), out);
    }

    fn meet_ready(&mut self, may_go: impl Fn(&Demand) -> bool, out: &mut Actions) {
        while let Some(page) = self.ready_page(&may_go) {
            while let Some(place) = self.ready_demand(page) {
                let demand = self.uses.demands.remove(place);
                self.meet(demand, out);
            }
        }
        self.await_pins(out);
        self.admit_pins(out);
    }

    /// A page with a demand that `may_go`, and that nothing is in the way of.
    fn ready_page(&self, may_go: impl Fn(&Demand) -> bool) -> Option<PageAddress> {
        let ready = |demand: &&Demand| {
            may_go(demand) && !self.is_blocked(demand) && self.ready_demand(demand.page).is_some()
        };
        self.uses.demands.iter().find(ready).map(|demand| demand.page)
    }

    /// The place of the first demand for `page`, if nothing is in its way.
    fn ready_demand(&self, page: PageAddress) -> Option<usize> {
        if self.uses.in_use.contains(&page) {
            return None;
        }
        let place = self.uses.demands.iter().position(|demand| demand.page == page)?;
        (!self.is_blocked(&self.uses.demands[place])).then_some(place)
    }

    /// Whether pins are in the way of a demand.
    pub(super) fn is_blocked(&self, demand: &Demand) -> bool {
        self.demanded_access(demand).is_some_and(|access| self.pins.block(demand.page, access))
    }

    /// What the other node will have when the demand was met; `None` when it went meanwhile.
    pub(super) fn demanded_access(&self, demand: &Demand) -> Option<Access> {
        match demand.want {
            Want::Fetch { access, .. } => Some(access),
            Want::Invalidate | Want::Drop { .. } => Some(Access::Write),
            Want::Own => {
                let index = self.pages.entry(demand.page).busy?;
                Some(self.coherence.transactions[index as usize].request.access)
            }
        }
    }

    /// Meets the demands for one page at once: what its home says next must come after them.
    pub(super) fn meet_all(&mut self, page: PageAddress, out: &mut Actions) {
        while let Some(place) = self.uses.demands.iter().position(|demand| demand.page == page) {
            let demand = self.uses.demands.remove(place);
            self.meet(demand, out);
        }
    }

    /// The demands of a lost home are over; copies that are held stay.
    pub(super) fn forget_demands_of(&mut self, lost: NodeId) {
        self.uses.demands.retain(|demand| demand.home != lost);
    }

    /// The demand was checked when it came; a copy that is gone since then is not asked for any more.
    fn meet(&mut self, demand: Demand, out: &mut Actions) {
        let Demand { page, home, want, .. } = demand;
        match (want, self.page_state(page)) {
            (Want::Fetch { .. }, PageState::Invalid) => {}
            (Want::Fetch { request, access, requester }, _) => {
                self.supply(page, requester, request, access, out);
            }
            (Want::Invalidate, PageState::Shared) => self.drop_copy(page, home, out),
            (Want::Drop { request, requester, grant }, PageState::Shared) => {
                self.drop_for(page, request, (requester, grant), out);
            }
            (Want::Invalidate | Want::Drop { .. }, _) => {}
            (Want::Own, _) => {
                let Some(index) = self.pages.entry(page).busy else { return };
                let transaction = self.coherence.transactions[index as usize];
                if transaction.phase == Phase::Lingering {
                    self.resume(index, transaction.request, page, out);
                }
            }
        }
    }

    /// The home is to be told when the copy goes, which was to be dropped for another; false when no such demand waits.
    pub(super) fn tell_home_instead(&mut self, page: PageAddress, asked: (RequestId, NodeId)) -> bool {
        let waits = |demand: &&mut Demand| {
            let is_it =
                matches!(demand.want, Want::Drop { request, requester, .. } if (request, requester) == asked);
            demand.page == page && is_it
        };
        let demand = self.uses.demands.iter_mut().find(waits);
        demand.map(|demand| demand.want = Want::Invalidate).is_some()
    }

    pub(super) fn drop_copy(&mut self, page: PageAddress, home: NodeId, out: &mut Actions) {
        self.give_copy_up(page, out);
        self.send(home, Message::InvalidateAck { page }, out);
    }

    /// Takes this node's copy away from its threads.
    pub(super) fn give_copy_up(&mut self, page: PageAddress, out: &mut Actions) {
        let local = self.pages.local(page).expect("checked by the caller");
        if local.pending.is_none() || !self.planted(Planted::LoseUpgradeRace) {
            out.push(Action::Unmap(page));
            self.pins.take(page, Access::Write);
            self.pages.set_local(page, LocalPage { state: PageState::Invalid, ..local });
        }
    }
}
