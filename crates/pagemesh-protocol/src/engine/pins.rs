//! Pins: pages that stay here until they are let go.
//!
//! A system call that is given shared memory cannot fault, and may use it for longer than one instruction. So a range of pages
//! can be *pinned* for it, for reading or for writing. A pin gets each page as a fault would, and holds it from the very step in
//! which the page comes; in between it cannot bounce away. A demand for the copy that would take what a pin needs waits:
//!
//! | pinned for | Fetch(Read) | Fetch(Write), Invalidate |
//! |---|---|---|
//! | reading | met at once | waits |
//! | writing | waits | waits |
//!
//! A transaction of this home that wants this node's copy waits as the Fetch would that another home would send.
//!
//! In a release region nobody takes copies: they go when a thread of their own node acquires, which does not wait. A pin that is in the
//! way is taken then: the page is protected first, then its diff goes, then the page. A page that is pinned for writing stays writable over a
//! release: its diff goes, and its twin is brought up to what was sent; and where nothing was written, nothing is said (`unwritten.rs`).
//!
//! Pins nest: the same page may be pinned many times, and goes when the last pin that is in its way has ended. It goes in that
//! very step. A pin that comes after a demand waits behind it, so that pins which overlap cannot hold a page for ever; unless
//! its holder, a thread, has other pins already. What waits may wait for those, and the thread would wait for itself.
//!
//! The engine has no clock. [`Action::AwaitUnpin`] says that somebody begins to wait for pins; when the caller's patience is over,
//! it says so ([`Engine::on_pins_expired`](super::Engine::on_pins_expired)), the page goes, and the end of the pin
//! ([`Engine::on_unpin`](super::Engine::on_unpin)) tells that it went.
//!
//! Who pins several pages takes them in the order of their addresses, which is the same on every node: a thread that holds
//! some then waits only for higher ones, so threads cannot wait for each other in a circle, and no deadline has to part
//! them. It does have to where one thread has several pins that it did not take in that order, where it pins a page for
//! writing that it has pinned for reading, and where it waits for something else of another node (a lock, a barrier, a page
//! that is not pinned) that itself waits for a pinned page.

use super::tickets::{Purpose, Wait};
use super::{Engine, EngineConfig};
use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{Access, PageAddress, PageState, RegionId, Ticket};

/// Names a pin, which may hold many pages; the caller chooses a name that it never used before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PinId(pub u64);

/// The thread that pins, by any number that no other thread of this node has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PinHolder(pub u64);

/// Someone's wait for pins, numbered in the order in which the waits began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PinWait(pub u64);

/// How it stands between a pin and one page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Hold {
    /// The page was asked for.
    Coming,
    /// The page is here and wanted elsewhere; this call waits until it went.
    Behind(Ticket),
    /// The page stays.
    Held,
    /// It need not stay any longer: the deadline has passed.
    Overdue,
    /// It went before the pin ended.
    Taken,
}

/// One page of one pin.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Pinned {
    page: PageAddress,
    pin: PinId,
    holder: PinHolder,
    access: Access,
    hold: Hold,
}

impl Pinned {
    /// Whether `access` by another node takes what this pin needs.
    fn excludes(&self, access: Access) -> bool {
        access == Access::Write || self.access == Access::Write
    }
}

#[derive(Clone, Debug)]
pub(super) struct Pins {
    bound: usize,
    /// In the order of pages, and of pins on one page. Room for the bound is there from the start: pages arrive on threads
    /// that must not allocate.
    pinned: Vec<Pinned>,
    last_wait: PinWait,
    /// Waits up to this one were too long.
    expired: PinWait,
}

impl Pins {
    pub(super) fn new(config: EngineConfig) -> Pins {
        Pins {
            bound: config.pins,
            pinned: Vec::with_capacity(config.pins),
            last_wait: PinWait(0),
            expired: PinWait(0),
        }
    }

    /// The region is gone, and its pins are over.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        self.pinned.retain(|pinned| pinned.page.region != region);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pinned.is_empty()
    }

    /// Whether a pin is in the way of taking from this node what `access` by another needs.
    pub(super) fn block(&self, page: PageAddress, access: Access) -> bool {
        self.on(page).iter().any(|pinned| pinned.hold == Hold::Held && pinned.excludes(access))
    }

    /// The pages from `from` on that are pinned, in order; some may come more than once.
    pub(super) fn pages_from(&self, from: PageAddress) -> impl Iterator<Item = PageAddress> + '_ {
        let start = self.pinned.partition_point(|pinned| pinned.page < from);
        self.pinned[start..].iter().map(|pinned| pinned.page)
    }

    /// The pages of `pin`.
    pub(super) fn pages_of(&self, pin: PinId) -> impl Iterator<Item = PageAddress> + '_ {
        self.pinned.iter().filter(move |pinned| pinned.pin == pin).map(|pinned| pinned.page)
    }

    fn on(&self, page: PageAddress) -> &[Pinned] {
        let start = self.pinned.partition_point(|pinned| pinned.page < page);
        let rest = &self.pinned[start..];
        &rest[..rest.partition_point(|pinned| pinned.page == page)]
    }

    fn on_mut(&mut self, page: PageAddress) -> &mut [Pinned] {
        let start = self.pinned.partition_point(|pinned| pinned.page < page);
        let rest = &mut self.pinned[start..];
        let count = rest.partition_point(|pinned| pinned.page == page);
        &mut rest[..count]
    }

    fn add(&mut self, new: Pinned) {
        let after = |known: &Pinned| (known.page, known.pin) < (new.page, new.pin);
        let place = self.pinned.partition_point(after);
        let twice =
            self.pinned.get(place).is_some_and(|known| (known.page, known.pin) == (new.page, new.pin));
        assert!(!twice, "{:?} pins {:?} twice", new.pin, new.page);
        self.pinned.insert(place, new);
    }

    fn set(&mut self, page: PageAddress, pin: PinId, hold: Hold) {
        if let Some(pinned) = self.on_mut(page).iter_mut().find(|pinned| pinned.pin == pin) {
            pinned.hold = hold;
        }
    }

    fn remove(&mut self, page: PageAddress, pin: PinId) {
        let start = self.pinned.partition_point(|pinned| pinned.page < page);
        let found = self.on(page).iter().position(|pinned| pinned.pin == pin);
        if let Some(place) = found {
            self.pinned.remove(start + place);
        }
    }

    /// Others' `access` has been given precedence: pins that are in its way hold the page no longer.
    fn expire(&mut self, page: PageAddress, access: Access) {
        for pinned in self.on_mut(page) {
            if pinned.hold == Hold::Held && pinned.excludes(access) {
                pinned.hold = Hold::Overdue;
            }
        }
    }

    /// This node's copy gives way to `access` by another node.
    pub(super) fn take(&mut self, page: PageAddress, access: Access) {
        for pinned in self.on_mut(page) {
            if matches!(pinned.hold, Hold::Held | Hold::Overdue) && pinned.excludes(access) {
                pinned.hold = Hold::Taken;
            }
        }
    }

    fn fresh_wait(&mut self) -> PinWait {
        self.last_wait.0 += 1;
        self.last_wait
    }

    /// A call that waits for a page which others want first, and may have `page` now as far as `is_wanted` knows.
    fn first_behind(&self, is_wanted: impl Fn(PageAddress) -> bool) -> Option<(Ticket, Pinned)> {
        self.pinned.iter().find_map(|pinned| match pinned.hold {
            Hold::Behind(ticket) if !is_wanted(pinned.page) => Some((ticket, *pinned)),
            _ => None,
        })
    }
}

impl Engine {
    pub(super) fn pin(
        &mut self,
        ticket: Ticket,
        (pin, holder, has_others): (PinId, PinHolder, bool),
        page: PageAddress,
        access: Access,
        out: &mut Actions,
    ) {
        if self.is_gone(page.region) {
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(Failure::RegionClosed) });
            return;
        }
        if self.pins.pinned.len() >= self.pins.bound {
            let failure = Failure::Limit("more pages are pinned than one node may have pinned at a time");
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(failure) });
            return;
        }
        self.map_entry_page(page, out);
        let mut local = self.pages.local(page).expect("a page is pinned in a region that is mapped");
        if access == Access::Write && local.state == PageState::Shared && self.is_release(page) {
            if let Err(failure) = self.begin_writing(page, out) {
                out.push(Action::Complete { ticket, outcome: Outcome::Failed(failure) });
                return;
            }
            local.state = PageState::Modified;
        }
        let is_here = local.state.allows(access);
        let nests =
            || has_others || self.pins.pinned.iter().any(|other| other.holder == holder && other.pin != pin);
        let hold = if !is_here {
            Hold::Coming
        } else if self.has_demands(page) && !nests() {
            Hold::Behind(ticket)
        } else {
            Hold::Held
        };
        self.pins.add(Pinned { page, pin, holder, access, hold });
        if hold == Hold::Held {
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
            self.await_pins(out);
            return;
        }
        self.tickets.begin(ticket, Wait::Page { page, access, purpose: Purpose::Pin(pin), next: None });
        if !is_here {
            self.join_or_request(page, access, ticket.slot, out);
        }
    }

    /// The page that `pin` waited for is here.
    pub(super) fn pin_arrived(&mut self, page: PageAddress, pin: PinId) {
        self.pins.set(page, pin, Hold::Held);
    }

    /// `pin` will not get the page.
    pub(super) fn pin_failed(&mut self, page: PageAddress, pin: PinId) {
        self.pins.remove(page, pin);
    }

    pub(super) fn unpin(&mut self, pin: PinId, out: &mut Actions) -> Option<PageAddress> {
        let mut taken = None;
        let shadowed = self.shadows_of(pin);
        self.pins.pinned.retain(|pinned| {
            if pinned.pin == pin && pinned.hold == Hold::Taken {
                taken = taken.or(Some(pinned.page));
            }
            pinned.pin != pin
        });
        for page in shadowed {
            self.drop_shadow_of_pin(page, out);
        }
        self.meet_awaited(out);
        taken
    }

    /// Whether every page of `pin` has stayed until now, and no deadline has passed.
    pub(super) fn pin_holds(&self, pin: PinId) -> bool {
        self.pins.pinned.iter().all(|pinned| pinned.pin != pin || pinned.hold == Hold::Held)
    }

    /// Numbers the waits of demands that pins are in the way of.
    pub(super) fn await_pins(&mut self, out: &mut Actions) {
        if self.pins.is_empty() {
            return;
        }
        for place in 0..self.uses.demands.len() {
            let demand = self.uses.demands[place];
            let numbered = demand.wait.is_some_and(|wait| wait > self.pins.expired);
            if !numbered && self.is_blocked(&demand) {
                let wait = self.pins.fresh_wait();
                self.uses.demands[place].wait = Some(wait);
                out.push(Action::AwaitUnpin(wait));
            }
        }
    }

    pub(super) fn pins_expired(&mut self, up_to: PinWait, out: &mut Actions) {
        self.pins.expired = self.pins.expired.max(up_to);
        for place in 0..self.uses.demands.len() {
            let demand = self.uses.demands[place];
            if demand.wait.is_some_and(|wait| wait <= up_to)
                && let Some(access) = self.demanded_access(&demand)
            {
                self.pins.expire(demand.page, access);
            }
        }
        self.meet_awaited(out);
    }

    /// Calls that let others have their page first go on when it went.
    pub(super) fn admit_pins(&mut self, out: &mut Actions) {
        while let Some((ticket, pinned)) = self.pins.first_behind(|page| self.has_demands(page)) {
            let Pinned { page, pin, access, .. } = pinned;
            let local = self.pages.local(page).expect("it was pinned before");
            if local.state.allows(access) {
                self.pins.set(page, pin, Hold::Held);
                self.complete(ticket, Outcome::Done, out);
            } else {
                self.pins.set(page, pin, Hold::Coming);
                self.join_or_request(page, access, ticket.slot, out);
            }
        }
    }
}
