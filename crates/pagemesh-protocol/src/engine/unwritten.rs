//! Pages that are pinned for writing, and were not written.
//!
//! A page that is pinned for writing stays writable over a release, and nobody is told when the kernel writes it. Were it named in a notice by
//! each release meanwhile, a thread that releases again and again while it has a pin, as one that spins on a word does, would take the page
//! from its readers again and again, for nothing: who fetches it could be told of another notice before each answer, without end. So what
//! holds of pages whose writes the kernel notes (`tracking.rs`) holds of these: a look comes before a release. The caller compares each page
//! with its twin ([`Engine::next_to_compare`]), and the release passes over those that are equal ([`Engine::on_unwritten`]): no notice, no diff.
//! Forgetting to look costs a notice and loses nothing.
//!
//! A page of another home has a twin from the first, which each diff brings up to what was sent. A page that is written in place has none;
//! and needs none while nobody else has a copy. When somebody gets one, it is given a *shadow*: a twin that is made before the copy is sent, so
//! that what is equal to it is what those have who have copies. The shadow is over with the next notice, which takes all copies; and with the
//! pin, after which the page counts as written.

use super::Engine;
use super::pins::PinId;
use super::planted::Planted;
use crate::action::{Action, Actions};
use crate::ids::PageAddress;

impl Engine {
    /// Which page is to be compared with its twin before what may be a release: the first that does not lie before `from` and that counts
    /// as written because it is pinned for writing. `None` when there are no more.
    pub fn next_to_compare(&self, from: PageAddress) -> Option<PageAddress> {
        let has_twin = |page: PageAddress| !self.writes_in_place(page) || self.release.shadows.contains(page);
        let mut pinned = self.pins.pages_from(from);
        pinned.find(|page| self.is_release(*page) && self.is_written_on(*page) && has_twin(*page))
    }

    /// `page` is as its twin is. Holds for the next event alone, and is to be told in the order of pages.
    pub fn on_unwritten(&mut self, page: PageAddress) {
        self.release.unwritten.push(page);
    }

    /// Whether a release passes over `page` because nothing has been written there since it was last told of.
    pub(super) fn is_unwritten(&self, page: PageAddress) -> bool {
        let found = self.release.unwritten.binary_search(&page).is_ok();
        (found || self.planted(Planted::PinnedUntold)) && self.is_written_on(page)
    }

    /// Somebody is about to get a copy of `page`, which is written in place and on which the kernel may be writing.
    pub(super) fn keep_shadow(&mut self, page: PageAddress, out: &mut Actions) {
        self.drop_shadow(page, out);
        self.release.shadows.insert(page, ());
        out.push(Action::TwinWhileWritten(page));
    }

    /// Everyone who has a copy of `page` is told that it was written.
    pub(super) fn drop_shadow(&mut self, page: PageAddress, out: &mut Actions) {
        if self.release.shadows.remove(page).is_some() {
            out.push(Action::DropTwin(page));
        }
    }

    /// `pin` was on `page`, and is over.
    pub(super) fn drop_shadow_of_pin(&mut self, page: PageAddress, out: &mut Actions) {
        if !self.is_written_on(page) {
            self.drop_shadow(page, out);
        }
    }

    /// The pages of `pin` that have shadows.
    pub(super) fn shadows_of(&self, pin: PinId) -> Vec<PageAddress> {
        if self.release.shadows.is_empty() {
            return Vec::new();
        }
        self.pins.pages_of(pin).filter(|page| self.release.shadows.contains(*page)).collect()
    }
}
