//! Writes that the kernel notes: release regions in which the first write to a page that is here costs no fault.
//!
//! Where the caller can tell which pages were written ([`Engine::track_writes`]), a page that is granted for reading can be written
//! too, without a word. SHARED then means that the page was clean when it was last looked at, and three things differ from the table
//! in `release.rs`:
//!
//! * **A look comes before a release.** Whatever may be one (an own call that releases, and a message of which
//!   [`Engine::may_release`] says so) is given to the engine after [`Engine::on_written`] was told of the pages that were written since
//!   they became SHARED, and [`Engine::on_looked`] that these were all. They are MODIFIED from then on, as by a write fault. What threads
//!   write after the look is found by the next: they have not synchronised yet.
//! * **The twin is made when the page comes**, before anybody can write it, and lives as long as the copy: a diff leaves behind what was sent. A
//!   page that is written in place has none, as elsewhere.
//! * **A copy that goes is compared once more.** Threads may write it until it is unmapped. [`Action::Flush`] comes after the Unmap: what
//!   was written goes to the home at once, in a diff of the interval under way, before this node can ask for the page again; and the page is
//!   named in the next notice ([`Engine::on_flushed`]). Of a page that is written in place only the notice is owed.
//!
//! | state | event | actions | next state |
//! |---|---|---|---|
//! | SHARED | write fault | MapRead, Complete | SHARED |
//! | SHARED | found written | | MODIFIED |
//! | INVALID | Data(Read) from home | Fill, MakeTwin, MapRead, Complete | SHARED |
//! | MODIFIED | release | Protect, Diff to home, its twin kept | SHARED |
//! | SHARED | acquire with a notice | Unmap, Flush | INVALID |
//! | SHARED | evict | Unmap, Flush | INVALID |
//!
//! Only SHARED pages have to be looked at. They are in a bitmap for each region, so that a look costs nothing where there are none
//! ([`Engine::next_to_look_at`]). A page that is alone at its home stays MODIFIED over releases and is in no look.

use super::Engine;
use super::pages::LocalPage;
use super::planted::Planted;
use crate::action::{Action, Actions};
use crate::ids::{PageAddress, PageState, RegionId};
use crate::message::Message;

const WORD_PAGES: u64 = u64::BITS as u64;
/// Pages farther apart than this are looked at by a call each: the kernel passes over so many that are of no interest in the time that
/// another call takes.
const GAP_PAGES: u64 = 512;

/// A set of the pages of one region. Memory is used for what was touched of it, and none is asked for after the start.
#[derive(Clone, Debug)]
pub(super) struct PageBits {
    words: Vec<u64>,
    /// A bit for each word that is not zero.
    summary: Vec<u64>,
    count: u64,
}

impl PageBits {
    pub(super) fn new(pages: u64) -> PageBits {
        let words = pages.div_ceil(WORD_PAGES);
        let zeros = |count: u64| vec![0; count as usize];
        PageBits { words: zeros(words), summary: zeros(words.div_ceil(WORD_PAGES)), count: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Puts a page in, or takes it out; by how much there are more now.
    pub(super) fn set(&mut self, page: u64, is_in: bool) -> i64 {
        let (word, bit) = ((page / WORD_PAGES) as usize, 1_u64 << (page % WORD_PAGES));
        let before = self.words[word] & bit != 0;
        if before == is_in {
            return 0;
        }
        self.words[word] ^= bit;
        let (place, mark) = (word / u64::BITS as usize, 1_u64 << (word % u64::BITS as usize));
        if self.words[word] == 0 {
            self.summary[place] &= !mark;
        } else {
            self.summary[place] |= mark;
        }
        let change = if is_in { 1 } else { -1 };
        self.count = self.count.wrapping_add_signed(change);
        change
    }

    /// The first page of the set that is not before `from`.
    pub(super) fn next(&self, from: u64) -> Option<u64> {
        let mut word = (from / WORD_PAGES) as usize;
        let first = *self.words.get(word)? & (u64::MAX << (from % WORD_PAGES));
        if first != 0 {
            return Some(word as u64 * WORD_PAGES + u64::from(first.trailing_zeros()));
        }
        word += 1;
        let mut place = word / u64::BITS as usize;
        let mut marks = *self.summary.get(place)? & (u64::MAX << (word % u64::BITS as usize));
        while marks == 0 {
            place += 1;
            marks = *self.summary.get(place)?;
        }
        word = place * u64::BITS as usize + marks.trailing_zeros() as usize;
        Some(word as u64 * WORD_PAGES + u64::from(self.words[word].trailing_zeros()))
    }

    /// The first page of the set from `from` on, and how many from there on up to the last that is near its neighbour.
    fn stretch(&self, from: u64) -> Option<(u64, u64)> {
        let first = self.next(from)?;
        let mut last = first;
        while let Some(next) = self.next(last + 1).filter(|next| *next <= last + GAP_PAGES) {
            // Within a word it matters little where the stretch ends.
            let word = next / WORD_PAGES;
            let highest = self.words[word as usize].ilog2();
            last = next.max(word * WORD_PAGES + u64::from(highest));
        }
        Some((first, last - first + 1))
    }
}

impl Engine {
    /// From now on the caller can tell which pages of this region, which was just mapped here, were written: pages that are granted for
    /// reading can be written without a fault.
    pub fn track_writes(&mut self, region: RegionId) {
        self.pages.track_writes(region);
    }

    /// Whether it was said that the caller can tell which pages of the region were written.
    pub fn tracks_writes(&self, region: RegionId) -> bool {
        self.pages.tracks_writes(region)
    }

    /// Where to look for written pages: the first run of pages that has some to look at and does not lie before `from`. `None` when there are
    /// no more. Those among them that need no look do no harm.
    pub fn next_to_look_at(&self, from: PageAddress) -> Option<(PageAddress, u64)> {
        if self.pages.clean == 0 {
            return None;
        }
        // In the order of their places: one that took the place of another has a larger number.
        let regions = self.pages.regions.get(from.region.index()..)?;
        regions.iter().flatten().find_map(|region| {
            let start = if region.id == from.region { from.page } else { 0 };
            let (first, count) = region.clean.as_ref()?.stretch(start)?;
            Some((PageAddress::new(region.id, first), count))
        })
    }

    /// Threads have written these pages since they were granted for reading. Pages that need no look are passed over. Returns how many
    /// are left, and were found written.
    pub fn on_written(&mut self, first: PageAddress, count: u64) -> u64 {
        let (mut found, mut from) = (0, first.page);
        while let Some(page) =
            self.pages.next_clean(first.region, from).filter(|page| *page < first.page + count)
        {
            from = page + 1;
            found += 1;
            let page = PageAddress::new(first.region, page);
            self.note_written(page);
            if let Some(local) = self.pages.local(page) {
                self.pages.set_local(page, LocalPage { state: PageState::Modified, ..local });
            }
        }
        found
    }

    /// The caller has looked, and has told of every page that was written: what comes next may be a release.
    pub fn on_looked(&mut self) {
        self.release.looked = true;
    }

    /// More was found written than one event should send: what was told so far goes out. It is not a release.
    pub fn on_much_written(&mut self, out: &mut Actions) {
        self.end_interval(out);
        self.settle(out);
    }

    /// Something was written to `page` that [`Action::Flush`] was about. To be told before the next event.
    pub fn on_flushed(&mut self, page: PageAddress) {
        if self.is_gone(page.region) || self.planted(Planted::ForgetFlushed) {
            return;
        }
        if self.is_home_of(page) {
            self.note_own_use(page);
        }
        self.owe_notice(page);
    }

    /// Whether handling `message` may pass on what this node's threads have written, so that a look is to come before it.
    pub const fn may_release(message: &Message) -> bool {
        // Everything about pages, and what is only kept in mind. With all else a lock may pass on; a look too many does no harm.
        !matches!(
            message,
            Message::PageRequest { .. }
                | Message::Data { .. }
                | Message::Grant { .. }
                | Message::Deny { .. }
                | Message::Fetch { .. }
                | Message::Done { .. }
                | Message::Recall { .. }
                | Message::Invalidate { .. }
                | Message::InvalidateAck { .. }
                | Message::Collect { .. }
                | Message::Evict { .. }
                | Message::OwnerQuery { .. }
                | Message::OwnerReply { .. }
                | Message::HomeClaim { .. }
                | Message::HomeNamed { .. }
                | Message::HomeQuery { .. }
                | Message::HomeReply { .. }
                | Message::Diff { .. }
                | Message::Need { .. }
                | Message::Wrote { .. }
                | Message::Told { .. }
                | Message::Knows { .. }
                | Message::Settled { .. }
                | Message::Lend { .. }
                | Message::LendReply { .. }
                | Message::CallIn { .. }
                | Message::Return { .. }
                | Message::AtomicRequest { .. }
                | Message::AtomicForward { .. }
                | Message::AtomicDone { .. }
                | Message::AtomicReply { .. }
                | Message::AtomicDeny { .. }
                | Message::AtomicCancel { .. }
                | Message::AtomicWithdrawn { .. }
                | Message::Piece { .. }
                | Message::BarrierArrive { .. }
                | Message::BarrierRelease { .. }
        )
    }

    pub(super) fn is_tracked(&self, page: PageAddress) -> bool {
        self.pages.tracks_writes(page.region)
    }

    /// A release. The caller has looked, where there is something to look at.
    pub(super) fn release_interval(&mut self, out: &mut Actions) {
        self.check_looked();
        self.end_interval(out);
    }

    /// A case that was forgotten would lose what threads wrote, now and then and without a word.
    pub(super) fn check_looked(&self) {
        let checks = cfg!(any(debug_assertions, feature = "verification"));
        assert!(
            !checks || self.release.looked || self.pages.clean == 0,
            "an event releases, and nobody has looked for written pages before it"
        );
    }

    /// A notice of `page`, which has no copy here that could be written on, goes out with the next interval. What was written is in its
    /// place, or on its way there.
    pub(super) fn owe_notice(&mut self, page: PageAddress) {
        if !self.is_alone_with(page) && !self.release.lending.owed.contains(&page) {
            self.release.lending.owed.push(page);
        }
    }

    /// A copy that could be written without a word has been unmapped.
    pub(super) fn flush(&self, page: PageAddress, out: &mut Actions) {
        let home = self.home(page).expect("a page that is held has a home");
        let interval = self.release.notices.known(self.config.node) + 1;
        let in_place = self.writes_in_place(page);
        let message = Message::Diff { page, interval, last: false };
        let diff = (!in_place && self.live.contains(home)).then_some((home, message));
        out.push(Action::Flush { page, diff });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const PAGES: u64 = 20_000;

    proptest! {
        #[test]
        fn the_set_holds_what_was_put_in(
            changes in prop::collection::vec((any::<bool>(), 0..PAGES), 0..60), from in 0..PAGES
        ) {
            let mut bits = PageBits::new(PAGES);
            let mut model = BTreeSet::new();
            for (is_in, page) in changes {
                let changed = if is_in { model.insert(page) } else { model.remove(&page) };
                prop_assert_eq!(bits.set(page, is_in) != 0, changed);
            }
            prop_assert_eq!(bits.count(), model.len() as u64);
            prop_assert_eq!(bits.next(from), model.range(from..).next().copied());
            let mut seen = BTreeSet::new();
            let mut at = 0;
            while let Some((first, count)) = bits.stretch(at) {
                prop_assert!(first >= at && model.contains(&first) && model.contains(&(first + count - 1)));
                seen.extend(model.range(first..first + count));
                at = first + count;
            }
            prop_assert_eq!(seen, model);
        }
    }

    #[test]
    fn near_pages_are_looked_at_together() {
        let mut bits = PageBits::new(1 << 20);
        for page in [3, 70, 500, 2000, 1 << 19] {
            bits.set(page, true);
        }
        assert_eq!(bits.stretch(0), Some((3, 498)));
        assert_eq!(bits.stretch(501), Some((2000, 1)));
        assert_eq!(bits.stretch(2001), Some((1 << 19, 1)));
        assert_eq!(bits.stretch((1 << 19) + 1), None);
    }
}
