//! Foresight: what a node expects of its own threads in a release region, so that it need not be told by a fault each time.
//!
//! A program that computes in rounds does in each round what it did in the last. Three things are expected of a page, and each is
//! found out by faults first, relied on for some rounds ([`RELIED_ON`]), and then found out again:
//!
//! * A copy that a notice took, and that a thread faulted on before anything else was taken, will be wanted again: after the next notice it is
//!   *fetched at once*, with all others, so that the threads wait for one answer instead of one after the other.
//! * A page that was written after it had been fetched to be read will be written again: it is fetched *to be written*, with a twin, which spares
//!   the second fault. When a release finds that nothing was written ([`Engine::on_unchanged`](super::Engine::on_unchanged)), that
//!   expectation is given up until the page was written twice more, then four times, and so on.
//! * A page that its home, or its owner, wrote in the interval after it had lost the right to, will be written in the next too: at a barrier it
//!   *stays writable* and counts as written.
//!
//! Whatever is expected wrongly costs a message or a fault, and changes nothing that a program can see: a page may always be fetched,
//! may always be named in a notice, and a diff may always be empty.

use super::Engine;
use crate::action::Actions;
use crate::ids::{Access, PageAddress, PageState};
use crate::limits;

/// How often an expectation is relied on that came true once, twice, or more often in a row.
const RELIED_ON: [u32; 4] = [0, 3, 7, 7];
/// The longest that a page has to be written before it is expected to be written again: 2 to this times.
const DOUBLINGS_MOST: u32 = 6;
/// How often a page is fetched again before it is followed (`updates.rs`), by how often that was in vain.
const REFETCHES: [u32; 4] = [2, 5, 10, 15];
/// Acquires that took copies, after which a page that is fetched again is like any other.
const LONG: u8 = 8;

/// What is expected of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Page {
    /// A thread wrote it once.
    written: bool,
    /// How often it has to be written before that is expected again, at most 64.
    writes_needed: u32,
    /// How often it was expected wrongly.
    doublings: u32,
    /// It was taken from the threads of this node, at this time, to see when they want it again.
    taken: Option<u8>,
    /// How often in a row they wanted it at once.
    streak: u32,
    /// How often that is relied on.
    left: u32,
    /// How often it was fetched again after a notice had taken it, since its updates were given up; at most 15.
    refetches: u32,
    /// How often they were given up, at most 3.
    followed_in_vain: u32,
}

impl Page {
    fn pack(self) -> u32 {
        let taken = self.taken.map_or(0, |time| 1 << 8 | time as u32);
        let wanted = taken | self.streak << 9 | self.left << 11;
        let written = u32::from(self.written) | self.writes_needed << 1 | self.doublings << 8;
        written | self.refetches << 11 | wanted << 15 | self.followed_in_vain << 30
    }

    fn unpack(word: u32) -> Page {
        let wanted = word >> 15;
        Page {
            written: word & 1 != 0,
            writes_needed: word >> 1 & 0x7f,
            doublings: word >> 8 & 7,
            taken: (wanted >> 8 & 1 != 0).then_some(wanted as u8),
            streak: wanted >> 9 & 3,
            left: wanted >> 11 & 0xf,
            refetches: word >> 11 & 0xf,
            followed_in_vain: word >> 30,
        }
    }
}

/// Times are counted modulo 256: a page that is wanted just so much later is taken for one that is wanted at once, which does no harm.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Foresight {
    /// Counts the acquires that took copies.
    time: u8,
    /// Pages that were fetched before a thread asked for them, and pages that were left writable.
    fetched: u64,
    left_writable: u64,
}

impl std::hash::Hash for Foresight {
    /// Where nothing is foreseen, none of this decides anything: see `Engine::hash_behaviour`.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Engine {
    fn expected(&self, page: PageAddress) -> Page {
        Page::unpack(self.pages.expected(page))
    }

    /// How many pages this node has fetched before a thread asked for them, and how often it left a page writable, because it
    /// expected that they would be wanted.
    pub fn foreseen(&self) -> (u64, u64) {
        (self.release.foresight.fetched, self.release.foresight.left_writable)
    }

    /// The access to ask for on behalf of a thread that needs `needed`.
    pub(super) fn expected_access(&self, page: PageAddress, needed: Access) -> Access {
        let has_no_use = self.writes_in_place(page) || self.is_tracked(page);
        if !self.config.foresees || !self.is_release(page) || has_no_use {
            return needed;
        }
        let expected = self.expected(page);
        if expected.written && expected.writes_needed == 0 { Access::Write } else { needed }
    }

    /// A thread came to write a copy that it could only read.
    pub(super) fn foresee_writing(&mut self, page: PageAddress) {
        let expected = self.expected(page);
        let writes_needed = expected.writes_needed.saturating_sub(1);
        self.pages.set_expected(page, Page { written: true, writes_needed, ..expected }.pack());
    }

    /// A diff of `page` was found to be empty.
    pub(super) fn unchanged(&mut self, page: PageAddress) {
        if self.is_tracked(page) {
            return;
        }
        let expected = self.expected(page);
        let doublings = (expected.doublings + 1).min(DOUBLINGS_MOST);
        self.pages.set_expected(page, Page { writes_needed: 1 << doublings, doublings, ..expected }.pack());
    }

    /// Threads of this node are about to lose `page`, or the right to write it, at `time`. True when they are expected to want it again at
    /// once.
    fn is_wanted_again(&mut self, page: PageAddress, time: u8) -> bool {
        let expected = self.expected(page);
        let relied = self.config.foresees && expected.left > 0;
        let next = if relied {
            Page { left: expected.left - 1, ..expected }
        } else {
            Page { taken: Some(time), ..expected }
        };
        self.pages.set_expected(page, next.pack());
        relied
    }

    /// A thread wants `page`, or the right to write it, at `time`.
    fn foresee_want(&mut self, page: PageAddress, time: u8) {
        let expected = self.expected(page);
        let Some(taken) = expected.taken else { return };
        let streak = if taken == time { (expected.streak + 1).min(3) } else { 0 };
        let left = RELIED_ON[streak as usize];
        self.pages.set_expected(page, Page { taken: None, streak, left, ..expected }.pack());
    }

    /// Whether `page` is fetched again after each notice of it.
    pub(super) fn is_fetched_each_time(&self, page: PageAddress) -> bool {
        let expected = self.expected(page);
        expected.refetches >= REFETCHES[expected.followed_in_vain as usize]
    }

    /// How often updates of `page` were for nothing, at most 3.
    pub(super) fn followed_in_vain(&self, page: PageAddress) -> u32 {
        self.expected(page).followed_in_vain
    }

    /// Updates of `page` were for nothing.
    pub(super) fn note_followed_in_vain(&mut self, page: PageAddress) {
        let expected = self.expected(page);
        let followed_in_vain = (expected.followed_in_vain + 1).min(3);
        self.pages.set_expected(page, Page { refetches: 0, followed_in_vain, ..expected }.pack());
    }

    fn note_refetch(&mut self, page: PageAddress) {
        let expected = self.expected(page);
        let Some(taken) = expected.taken else { return };
        let is_soon = self.release.foresight.time.wrapping_sub(taken) <= LONG;
        let refetches = if is_soon { (expected.refetches + 1).min(15) } else { 0 };
        self.pages.set_expected(page, Page { refetches, ..expected }.pack());
    }

    /// What decides when this node comes to follow `page`: how often it was fetched again, how long ago it was taken, and how often it was
    /// followed in vain.
    #[cfg(feature = "verification")]
    pub(super) fn habit_of_fetching(&self, page: PageAddress) -> (u32, Option<u8>, u32) {
        let expected = self.expected(page);
        let age = |taken| self.release.foresight.time.wrapping_sub(taken).min(LONG + 1);
        (expected.refetches, expected.taken.map(age), expected.followed_in_vain)
    }

    /// A thread faulted on a page of which this node has no copy.
    pub(super) fn foresee_use(&mut self, page: PageAddress) {
        if !self.writes_in_place(page) {
            self.note_refetch(page);
            self.foresee_want(page, self.release.foresight.time);
        }
    }

    /// A thread of the home, or of the owner, came to write a page.
    pub(super) fn foresee_writing_in_place(&mut self, page: PageAddress) {
        self.foresee_want(page, self.own_time());
    }

    /// Whether a page that is written in place stays writable over the release at a barrier that is under way.
    pub(super) fn stays_writable(&mut self, page: PageAddress) -> bool {
        let stays = self.is_wanted_again(page, self.own_time());
        self.release.foresight.left_writable += u64::from(stays);
        stays
    }

    /// The interval that ended last.
    fn own_time(&self) -> u8 {
        self.release.notices.known(self.config.node) as u8
    }

    /// Asks for those of the copies that an acquire has just taken that will be wanted.
    pub(super) fn fetch_again(&mut self, dropped: &[PageAddress], out: &mut Actions) {
        self.release.foresight.time = self.release.foresight.time.wrapping_add(1);
        let time = self.release.foresight.time;
        for page in dropped.iter().copied().filter(|page| !self.writes_in_place(*page)).collect::<Vec<_>>() {
            if !self.is_wanted_again(page, time) || self.coherence.pending.len() >= limits::REFETCHES {
                continue;
            }
            let local = self.pages.local(page).expect("it was here");
            let home = self.pages.home(page).ok().flatten();
            let at_hand = home.is_some_and(|home| self.live.contains(home));
            if at_hand && local.state == PageState::Invalid && local.pending.is_none() {
                self.release.foresight.fetched += 1;
                let access = self.expected_access(page, Access::Read);
                self.request_page(page, access, None, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_survive_packing() {
        for taken in [None, Some(0), Some(255)] {
            for (written, writes_needed, doublings) in
                [(false, 0, 0), (true, 64, DOUBLINGS_MOST), (true, 1, 1)]
            {
                for (streak, left, refetches, followed_in_vain) in
                    [(0, 0, 0, 3), (3, 7, 15, 0), (1, 15, 1, 2)]
                {
                    let page = Page {
                        written,
                        writes_needed,
                        doublings,
                        taken,
                        streak,
                        left,
                        refetches,
                        followed_in_vain,
                    };
                    assert_eq!(Page::unpack(page.pack()), page);
                }
            }
        }
    }
}
