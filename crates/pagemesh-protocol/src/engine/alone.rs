//! What a home may do by itself: writing a page that nobody else has, and giving a reader a copy of what it holds.
//!
//! A write fault at a page's home, where the directory says that this node is the only one to have a copy, can end in one way only.
//! So it is not made a request that this node sends to itself: the directory and the copy change at once, and no call has to wait.
//! Anything that could make a difference leaves it to the request: another holder, a transaction or a request under way, a
//! demand that waits, a pin.
//!
//! For a thread that faults this may be all ([`Engine::on_write_at_once`]): what [`Engine::on_fault`] and
//! [`Engine::on_resumed`] do in two steps, with nothing in between. No demand can be in the way of the second, since one that waited would have
//! kept the first from being taken.
//!
//! A read of a page that its home holds can end in one way only as well, where nothing is under way: the home sends its copy. Most of what
//! remains of that in a long way through memory would be sets of nodes that are unpacked and packed again, so the reader is added where it
//! stands.

use super::Engine;
use super::coherence::{Request, owned};
use super::pages::LocalPage;
use super::planted::Planted;
use crate::action::{Action, Actions};
use crate::ids::{Access, PageAddress, PageState};
use crate::placement::Protocol;
use crate::region::Unit;

impl Engine {
    /// As [`on_fault`](Engine::on_fault) for writing and [`on_resumed`](Engine::on_resumed) in one, where that takes nobody's leave: what is
    /// returned is all that is to be performed, and there is no call that waits. To be followed by the thread's going on, without a wait.
    /// `None` when it takes more than that, and nothing has changed; also where the region has a larger unit, since there the caller asks
    /// for what else is missing.
    pub fn on_write_at_once(&mut self, page: PageAddress) -> Option<Action> {
        if self.pages.unit(page.region)? != Unit::Page {
            return None;
        }
        self.write_alone(page)
    }

    /// Lets this node write `page`, if that needs nobody else.
    pub(super) fn write_alone(&mut self, page: PageAddress) -> Option<Action> {
        if !self.uses.demands.is_empty() || !self.pins.is_empty() {
            return None;
        }
        if self.planted(Planted::WriteBesideSharers) && self.may_plant_write(page) {
            let entry = self.pages.entry(page);
            self.pages.set_local(page, LocalPage { state: PageState::Modified, pending: None });
            self.pages.set_entry(
                page,
                super::DirectoryEntry { state: owned(Access::Write, self.config.node), ..entry },
            );
            return Some(Action::Unprotect(page));
        }
        self.pages.own_alone(page).then_some(Action::Unprotect(page))
    }

    /// Sends the reader who asks by `asked` this home's copy of `page`, if that is all that there is to be done.
    pub(super) fn supply_reader(&mut self, page: PageAddress, asked: Request, out: &mut Actions) -> bool {
        let Request { node, id, access, atomic } = asked;
        let is_read = access == Access::Read && atomic.is_none() && node != self.config.node;
        let is_plain = is_read && self.pages.protocol(page) == Protocol::WriteInvalidate;
        if !is_plain || self.planted(Planted::ForgetSharer) || self.must_wait(page, access) {
            return false;
        }
        let added = self.live.contains(node)
            && (self.pages.add_reader(page, node, &self.live)
                || self.planted(Planted::SupplyWithoutEntry) && self.may_plant_supply(page));
        if added {
            self.supply(page, node, id, access, out);
        }
        added
    }

    /// Whether this home has a copy of `page`.
    fn may_plant_supply(&self, page: PageAddress) -> bool {
        self.pages.local(page).is_some_and(|local| local.state != PageState::Invalid)
    }

    /// Whether this home has a copy of `page` for reading, and nothing is under way.
    fn may_plant_write(&self, page: PageAddress) -> bool {
        let Ok(Some(home)) = self.pages.home(page) else { return false };
        let local = self.pages.local(page);
        let shared = LocalPage { state: PageState::Shared, pending: None };
        home == self.config.node && local == Some(shared) && self.pages.entry(page).busy.is_none()
    }
}
