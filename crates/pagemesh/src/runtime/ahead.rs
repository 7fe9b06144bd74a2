//! Reading and writing ahead: which pages a thread is about to use, by those that it missed.
//!
//! A thread that misses pages at one distance from each other, three times in a row, is taken to go on so. The next 16 pages of its
//! way are asked for at once, and when it has used 12 of them, 63. Where it may run on one processor while its pages come on another, up to
//! 127 are asked for when it has used 256: so the next run of pages is under way while one is used. On one processor that would only
//! mean that a second thread has to receive them. The requests are those of any prefetch; nobody waits for them.
//!
//! What arrives is put into the service view but, on a way of neighbouring pages, not entered into the application's page table: the
//! thread's next fault, which needs no other node, enters all that is there by one system call, and is how this part learns that its
//! guess was right. So a page that is asked for costs a tenth of a fault, and one asked for in vain is never mapped.
//!
//! To ask for pages to write is to take them from others, so more has to be seen before: four misses of neighbours, upwards, and never more
//! is asked for than was written on the way before. What arrives is mapped at once. Only pages with a home elsewhere are asked for.
//!
//! Nothing here decides what may be mapped: the engine's state of a page is asked again before. A page that is taken away before it was
//! used speaks against its way: after a few the way is given up, and new ones have to prove themselves for longer.

use pagemesh_protocol::limits::RUN_PAGES;
use pagemesh_protocol::{PageAddress, RegionId};
use std::num::NonZeroUsize;

/// Ways that are followed at a time; more threads than that read one after the other's pages rarely.
const WAYS: usize = 8;
/// Pages asked for at first.
const FIRST: u32 = 16;
/// Pages asked for when a way has proved itself: with the one that was missed, a run.
const MORE: u32 = RUN_PAGES - 1;
/// Pages asked for when it has done so for long: with the one that was missed, two runs.
const MOST: u32 = 2 * RUN_PAGES - 1;
/// Pages of a way that were used before [`MORE`] are asked for, and before [`MOST`].
const PROVEN: u64 = 12;
const PROVEN_LONG: u64 = 256;
/// Misses at one distance after the first before anything is asked for; so much more for each disappointment.
const MISSES: u32 = 2;
const MISSES_TO_WRITE: u32 = 3;
const MISSES_MOST: u32 = 32;
/// The largest distance that makes a way, in pages: beyond it two misses are no neighbours.
const STRIDE_MOST: i64 = 32;
/// Pages taken away before they were used that end a way.
const TAKEN_MOST: u32 = 8;
/// On a way with gaps every so many pages are left to fault: entering each page by itself costs as much as a run.
const MARKS: u32 = 8;

/// Pages to ask for: `count` of them, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    way: usize,
    first: PageAddress,
    stride: i64,
    pub(super) count: u32,
}

impl Request {
    /// The page that is asked for `step` steps after the first; `None` where there is none in a region of `pages` pages.
    pub(super) fn page(&self, step: u32, pages: u64) -> Option<PageAddress> {
        let page = self.first.page.checked_add_signed(self.stride * i64::from(step))?;
        (page < pages).then_some(PageAddress::new(self.first.region, page))
    }

    /// Its first page, where the rest of it begins that another shard is to ask for.
    pub(super) fn first(&self) -> PageAddress {
        self.first
    }

    /// What is left of it after `steps` steps; the page of the next is `next`.
    pub(super) fn after(self, steps: u32, next: PageAddress) -> Request {
        Request { first: next, count: self.count - steps, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
struct Way {
    region: RegionId,
    /// The page of step 0, the one after the last that was missed.
    base: u64,
    stride: i64,
    /// Misses on the way after the first.
    misses: u32,
    /// Steps that were asked for.
    asked: u32,
    /// Bit *i*: the page of step *i* is on its way; it has arrived and is not mapped.
    expected: u128,
    arrived: u128,
    used: u64,
    taken: u32,
    /// When it was last followed, by the count of misses.
    followed: u64,
}

impl Way {
    /// One that was last followed at miss number `followed`, and leads to `next`.
    fn new(next: PageAddress, stride: i64, followed: u64) -> Way {
        Way {
            region: next.region,
            base: next.page,
            stride,
            misses: 0,
            asked: 0,
            expected: 0,
            arrived: 0,
            used: 0,
            taken: 0,
            followed,
        }
    }

    fn step(&self, page: PageAddress) -> Option<u32> {
        if page.region != self.region {
            return None;
        }
        let distance = page.page.wrapping_sub(self.base).cast_signed();
        let step = u32::try_from(distance / self.stride).ok().filter(|step| *step <= MOST);
        step.filter(|_| distance % self.stride == 0)
    }

    /// The thread has come to `step`.
    fn advance(&mut self, step: u32) {
        let steps = step + 1;
        self.base = self.base.wrapping_add_signed(self.stride * i64::from(steps));
        self.used += u64::from(steps.min(self.asked));
        self.asked = self.asked.saturating_sub(steps);
        self.expected = self.expected.checked_shr(steps).unwrap_or(0);
        self.arrived = self.arrived.checked_shr(steps).unwrap_or(0);
        self.misses = self.misses.saturating_add(1);
    }
}

/// The ways of all threads of a node.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    ways: [Option<Way>; WAYS],
    misses: u64,
    disappointments: u32,
    /// There is more than one processor.
    overlaps: bool,
    /// These are ways of threads that write.
    writes: bool,
}

impl Ahead {
    pub(super) fn new() -> Ahead {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ahead { overlaps: processors > 1, ..Ahead::default() }
    }

    pub(super) fn to_write() -> Ahead {
        Ahead { writes: true, ..Ahead::default() }
    }

    /// A thread is about to wait for `page`: what else to ask for.
    pub(super) fn missed(&mut self, page: PageAddress) -> Option<Request> {
        self.misses += 1;
        let index = self.follow(page)?;
        let way = self.ways[index].as_mut()?;
        way.followed = self.misses;
        let least = if self.writes { MISSES_TO_WRITE } else { MISSES };
        let needed = (least + self.disappointments).min(MISSES_MOST);
        if way.misses < needed || way.taken >= TAKEN_MOST {
            return None;
        }
        if way.used >= u64::from(MOST) {
            self.disappointments = 0;
        }
        let (depth, enough) = match way.used {
            used if self.writes => {
                let written = used.saturating_add(u64::from(way.misses) + 1);
                let depth = u32::try_from(written).map_or(MORE, |written| written.min(MORE));
                (depth, depth / 2)
            }
            PROVEN_LONG.. if self.overlaps => (MOST, MOST - RUN_PAGES),
            PROVEN.. => (MORE, MORE / 4 * 3),
            _ => (FIRST, FIRST / 4 * 3),
        };
        if way.asked > enough {
            return None;
        }
        let first = way.base.checked_add_signed(way.stride * i64::from(way.asked))?;
        let first = PageAddress::new(way.region, first);
        Some(Request { way: index, first, stride: way.stride, count: depth - way.asked })
    }

    /// The way that goes through `page`, gone on along; `None` when a new one was begun.
    fn follow(&mut self, page: PageAddress) -> Option<usize> {
        // On the way or next on it; a page beyond what was asked for is somebody else's.
        let on_way = |way: &Way| way.step(page).filter(|step| *step <= way.asked);
        let found = (0..WAYS).find_map(|index| Some((index, on_way(self.ways[index].as_ref()?)?)));
        if let Some((index, step)) = found {
            self.ways[index].as_mut()?.advance(step);
            return Some(index);
        }
        // The second miss of a way tells its distance.
        let distance = |way: &Way| {
            let distance = page.page.wrapping_add_signed(way.stride).wrapping_sub(way.base).cast_signed();
            let near = way.misses == 0 && way.region == page.region && distance.abs() <= STRIDE_MOST;
            let fits = if self.writes { distance == 1 } else { distance != 0 };
            (near && fits).then_some(distance)
        };
        let second = (0..WAYS).find_map(|index| Some((index, distance(self.ways[index].as_ref()?)?)));
        if let Some((index, stride)) = second {
            let base = page.page.wrapping_add_signed(stride);
            let way = self.ways[index].as_mut()?;
            *way = Way { base, stride, misses: 1, ..*way };
            return Some(index);
        }
        let next = PageAddress::new(page.region, page.page.wrapping_add(1));
        self.replace_oldest(Way::new(next, 1, self.misses));
        None
    }

    /// The rest of a request that another shard made: its way leads on here, and has proved itself.
    pub(super) fn take_over(&mut self, rest: Request) -> Request {
        let Request { first, stride, .. } = rest;
        let leads_there = |way: &Way| {
            let next = way.base.checked_add_signed(way.stride * i64::from(way.asked));
            way.region == first.region && way.stride == stride && next == Some(first.page)
        };
        let known = (0..WAYS).find(|index| self.ways[*index].as_ref().is_some_and(leads_there));
        let way = known.unwrap_or_else(|| {
            let way = Way::new(first, stride, self.misses);
            self.replace_oldest(Way { misses: MISSES_MOST, used: PROVEN, ..way })
        });
        Request { way, ..rest }
    }

    fn replace_oldest(&mut self, new: Way) -> usize {
        let followed = |index: &usize| self.ways[*index].map_or(0, |way| way.followed);
        let oldest = (0..WAYS).min_by_key(followed).expect("there are ways");
        self.ways[oldest] = Some(new);
        oldest
    }

    /// `steps` of what was to be asked for were passed; of those in `expected` the bytes will come.
    pub(super) fn asked(&mut self, request: &Request, steps: u32, expected: u128) {
        if let Some(way) = &mut self.ways[request.way] {
            way.expected |= expected << way.asked;
            way.asked += steps;
        }
    }

    /// A page that may be used now: true when it is to be left unmapped, until a thread comes to it, which is so only where ways are read.
    pub(super) fn arrives(&mut self, page: PageAddress) -> bool {
        self.ways.iter_mut().flatten().filter(|way| way.expected != 0).any(|way| {
            let Some(step) = way.step(page).filter(|step| way.expected >> step & 1 != 0) else {
                return false;
            };
            way.expected &= !(1 << step);
            let left =
                way.stride == 1 || (way.base / MARKS as u64 + u64::from(step)).is_multiple_of(MARKS as u64);
            if left {
                way.arrived |= 1 << step;
            }
            left
        })
    }

    /// How many pages from `page` on have arrived without being mapped, of those that `may` allows; they are to be mapped now.
    pub(super) fn take_run(&mut self, page: PageAddress, may: impl Fn(PageAddress) -> bool) -> u64 {
        let mut next = page;
        let runs = self.ways.iter_mut().flatten().filter(|way| way.stride == 1);
        for way in runs {
            let Some(mut step) = way.step(next) else { continue };
            while step <= MOST && way.arrived >> step & 1 != 0 && may(next) {
                way.arrived &= !(1 << step);
                step += 1;
                next.page += 1;
            }
        }
        next.page - page.page
    }

    /// Somebody asks for `page` itself: it is mapped when it comes.
    pub(super) fn forget(&mut self, page: PageAddress) {
        for way in self.ways.iter_mut().flatten().filter(|way| way.expected | way.arrived != 0) {
            if let Some(step) = way.step(page) {
                way.expected &= !(1 << step);
                way.arrived &= !(1 << step);
            }
        }
    }

    /// `page` was taken away.
    pub(super) fn taken(&mut self, page: PageAddress) {
        for way in self.ways.iter_mut().flatten().filter(|way| way.arrived != 0) {
            let Some(step) = way.step(page) else { continue };
            if way.arrived >> step & 1 != 0 {
                way.arrived &= !(1 << step);
                way.taken += 1;
                if way.taken == TAKEN_MOST {
                    self.disappointments = (self.disappointments * 2 + 1).min(MISSES_MOST);
                }
            }
        }
    }

    /// The region is gone.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        for way in &mut self.ways {
            *way = way.filter(|way| way.region != region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 1 << 20;

    fn page(page: u64) -> PageAddress {
        PageAddress::new(RegionId(3), page)
    }

    /// Asks for all of what a miss calls for; returns those pages.
    fn miss(ahead: &mut Ahead, at: u64) -> Vec<u64> {
        ahead.forget(page(at));
        let Some(request) = ahead.missed(page(at)) else { return Vec::new() };
        let steps: Vec<u64> =
            (0..request.count).map_while(|step| Some(request.page(step, PAGES)?.page)).collect();
        let expected = if steps.is_empty() { 0 } else { u128::MAX >> (128 - steps.len()) };
        ahead.asked(&request, steps.len() as u32, expected);
        steps
    }

    #[test]
    fn a_way_is_seen_at_its_third_page_and_asked_for_in_growing_pieces() {
        let mut ahead = Ahead { overlaps: true, ..Ahead::default() };
        assert_eq!(miss(&mut ahead, 100), []);
        assert_eq!(miss(&mut ahead, 101), []);
        assert_eq!(miss(&mut ahead, 102), (103..119).collect::<Vec<_>>());
        for arrived in 103..119 {
            assert!(ahead.arrives(page(arrived)));
        }
        // The fault on the next enters all that is there.
        assert_eq!(miss(&mut ahead, 103), []);
        assert_eq!(ahead.take_run(page(104), |_| true), 15);
        assert_eq!(ahead.take_run(page(104), |_| true), 0);
        assert_eq!(miss(&mut ahead, 119), (120..183).collect::<Vec<_>>());
        // Not before much of it is used, then up to as much again.
        assert_eq!(miss(&mut ahead, 120), []);
        assert_eq!(miss(&mut ahead, 140), (183..204).collect::<Vec<_>>());
        assert_eq!(miss(&mut ahead, 204), (205..268).collect::<Vec<_>>());
        assert_eq!(miss(&mut ahead, 268), (269..332).collect::<Vec<_>>());
        assert_eq!(miss(&mut ahead, 332), (333..396).collect::<Vec<_>>());
        // Two runs when it goes on for long, and one more whenever one is used.
        assert_eq!(miss(&mut ahead, 396), (397..524).collect::<Vec<_>>());
        assert_eq!(miss(&mut ahead, 459), []);
        assert_eq!(miss(&mut ahead, 460), (524..588).collect::<Vec<_>>());
        assert!((524..588).all(|arrived| ahead.arrives(page(arrived))));
    }

    #[test]
    fn ways_lead_down_and_over_gaps_and_end_with_the_region() {
        let mut ahead = Ahead::default();
        let down: Vec<Vec<u64>> = [50, 48, 46].into_iter().map(|at| miss(&mut ahead, at)).collect();
        assert_eq!(down[2], (0..16).map(|step| 44 - 2 * step).collect::<Vec<_>>());
        let last: Vec<Vec<u64>> =
            [PAGES - 4, PAGES - 3, PAGES - 2].into_iter().map(|at| miss(&mut ahead, at)).collect();
        assert_eq!(last[2], [PAGES - 1]);
        let first: Vec<Vec<u64>> = [4, 2, 0].into_iter().map(|at| miss(&mut ahead, at)).collect();
        assert_eq!(first[2], []);
    }

    #[test]
    fn a_way_leads_on_where_another_shard_decides() {
        let (mut here, mut there) = (Ahead::default(), Ahead::default());
        (100..102).for_each(|at| drop(miss(&mut here, at)));
        let request = here.missed(page(102)).unwrap();
        // The pages from 110 on are another's.
        here.asked(&request, 7, 0x7f);
        let rest = request.after(7, page(110));
        here.asked(&request, rest.count, 0);
        let rest = there.take_over(rest);
        assert_eq!((rest.first(), rest.count), (page(110), 9));
        there.asked(&rest, 9, 0x1ff);
        assert!(here.arrives(page(109)) && !here.arrives(page(110)));
        assert!(there.arrives(page(110)) && there.arrives(page(118)) && !there.arrives(page(119)));
        let further = here.missed(page(109)).and_then(|request| request.page(0, PAGES));
        assert!(
            further.is_none_or(|next| next == page(119)),
            "what was asked for there is not asked for again"
        );
        assert!(!miss(&mut there, 110).is_empty(), "the first miss there goes on at once");
    }

    #[test]
    fn to_write_no_more_is_asked_for_than_was_written() {
        let mut ahead = Ahead::to_write();
        assert!((100..103).all(|at| miss(&mut ahead, at).is_empty()));
        let (mut at, mut written) = (103, 4);
        while written < 1000 {
            let asked = miss(&mut ahead, at);
            assert_eq!(asked, (at + 1..at + 1 + written.min(63)).collect::<Vec<_>>());
            assert!(asked.iter().all(|arrived| ahead.arrives(page(*arrived))));
            at += 1 + asked.len() as u64;
            written += 1 + asked.len() as u64;
        }
        // Those that go before the thread has come past them end the way.
        miss(&mut ahead, at);
        for gone in at + 1..at + 9 {
            ahead.arrives(page(gone));
            ahead.taken(page(gone));
        }
        assert!((at + 64..at + 74).all(|at| miss(&mut ahead, at).is_empty()));
        // Downwards, or with gaps, nothing is.
        let mut ahead = Ahead::to_write();
        assert!((0..50).all(|step| miss(&mut ahead, 5000 - step).is_empty()));
        assert!((0..50).all(|step| miss(&mut ahead, 9000 + 2 * step).is_empty()));
    }

    #[test]
    fn several_ways_are_followed_at_a_time() {
        let mut ahead = Ahead::default();
        let mut asked = 0;
        for step in 0..3 {
            for way in 0..WAYS as u64 {
                asked += miss(&mut ahead, way * 1000 + step).len();
            }
        }
        assert_eq!(asked, WAYS * FIRST as usize);
    }

    #[test]
    fn random_misses_ask_for_next_to_nothing() {
        let mut ahead = Ahead::default();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut asked = 0;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            asked += miss(&mut ahead, state % 16_384).len();
        }
        assert!(asked < 2_000, "{asked} pages in 100,000 misses");
    }

    #[test]
    fn pages_that_go_before_they_are_used_end_a_way_and_make_the_next_prove_itself() {
        let mut ahead = Ahead::default();
        (100..103).for_each(|at| drop(miss(&mut ahead, at)));
        for arrived in 103..119 {
            assert!(ahead.arrives(page(arrived)));
            ahead.taken(page(arrived));
        }
        assert!((103..140).all(|at| miss(&mut ahead, at).is_empty()));
        assert!((500..503).all(|at| miss(&mut ahead, at).is_empty()), "three misses are not enough now");
        assert!(!miss(&mut ahead, 503).is_empty());
    }

    #[test]
    fn what_somebody_asks_for_is_mapped_when_it_comes_and_what_may_not_be_is_not() {
        let mut ahead = Ahead::default();
        (100..103).for_each(|at| drop(miss(&mut ahead, at)));
        ahead.forget(page(105));
        assert!(!ahead.arrives(page(105)));
        assert!(ahead.arrives(page(103)) && ahead.arrives(page(104)));
        assert!(!ahead.arrives(page(4)));
        assert_eq!(ahead.take_run(page(103), |page| page.page != 104), 1);
        ahead.forget_region(RegionId(3));
        assert_eq!(ahead.take_run(page(104), |_| true), 0);
    }
}
