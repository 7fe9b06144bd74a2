//! What a home may do by itself: writing a page that nobody else has.
//!
//! A write fault at a page's home, where the directory says that this node is the only one to have a copy, can end in one way only.
//! So it is not made a request that this node sends to itself: the directory and the copy change at once, and no call has to wait.
//! Anything that could make a difference leaves it to the request: another holder, a transaction or a request under way, a
//! demand that waits, a pin.
//!
//! For a thread that faults this may be all ([`Engine::on_write_at_once`]): what [`Engine::on_fault`] and
//! [`Engine::on_resumed`] do in two steps, with nothing in between. No demand can be in the way of the second, since one that waited would have
//! kept the first from being taken.

use super::Engine;
use super::coherence::owned;
use super::pages::LocalPage;
use super::planted::Planted;
use crate::action::Action;
use crate::ids::{Access, PageAddress, PageState};
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

    /// Whether this home has a copy of `page` for reading, and nothing is under way.
    fn may_plant_write(&self, page: PageAddress) -> bool {
        let Ok(Some(home)) = self.pages.home(page) else { return false };
        let local = self.pages.local(page);
        let shared = LocalPage { state: PageState::Shared, pending: None };
        home == self.config.node && local == Some(shared) && self.pages.entry(page).busy.is_none()
    }
}
