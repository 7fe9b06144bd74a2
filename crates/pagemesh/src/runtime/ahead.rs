//! Reading and writing ahead: which pages a thread is about to use, by those that it missed.
//!
//! A thread that misses pages at one distance from each other, three times in a row, is taken to go on so. The next 16 pages of its
//! way are asked for at once, when it has used 12 of them, 63, and when it has used 256, 127. Where it may run on one processor while its pages come on
//! another, the next run of pages is asked for while one is used. With one processor for all that would only mean that a second thread has to
//! receive them: so there more is asked for when all is used. The requests are those of any prefetch; nobody waits for them.
//!
//! In a region with a larger unit the steps of a way are units. The unit of the page that is missed comes anyway, and what is said here of pages holds
//! for the units after it: as many as the same pages make, and at least one.
//!
//! What arrives is put into the service view but, on a way of neighbouring pages, not entered into the application's page table: the
//! thread's next fault, which needs no other node, enters all that is there by one system call, and is how this part learns that its
//! guess was right. So a page that is asked for costs a tenth of a fault, and one asked for in vain is never mapped.
//!
//! Where the kernel notes which pages are written, who has a page to read can write it: there ways are followed by those that write too, and what is asked for
//! is the same. Elsewhere to ask for pages to write is to take them from others, so more has to be seen before: four misses of neighbours, upwards, and never more
//! is asked for than was written on the way before. What arrives is mapped at once. Only pages with a home elsewhere are asked for.
//!
//! Nothing here decides what may be mapped: the engine's state of a page is asked again before. A page that is taken away before it was
//! used speaks against its way: after a few the way is given up, and new ones have to prove themselves for longer. So they have to where a way is
//! forgotten of which nothing that was asked for was used.

use super::Runtime;
use pagemesh_memory::PageRange;
use pagemesh_net::{LinkKind, NoRing};
use pagemesh_protocol::limits::RUN_PAGES;
use pagemesh_protocol::{PageAddress, RegionId};
use rustix::thread::sched_getaffinity;

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
/// The largest distance that makes a way, in steps: beyond it two misses are no neighbours.
const STRIDE_MOST: i64 = 32;
/// Pages taken away before they were used that end a way.
const TAKEN_MOST: u32 = 8;
/// On a way with gaps every so many pages are left to fault: entering each page by itself costs as much as a run.
const MARKS: u64 = 8;
/// Pages of a way that are kept in mind, from the first of the step that was missed last on.
const WINDOW: u64 = u128::BITS as u64;
/// Pages of the largest step. Larger units are no steps: they are longer than what is asked for ahead.
pub(super) const STEP_MOST: u64 = 16;

/// Pages to ask for: `count` of them, from `first` on, which is the first of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    way: usize,
    first: PageAddress,
    /// From one step to the next, in steps, and pages of a step.
    stride: i64,
    grain: u64,
    pub(super) count: u32,
}

impl Request {
    /// The page that is number `index` of those that are asked for, from 0; `None` where there is none in a region of `pages` pages.
    pub(super) fn page(&self, index: u32, pages: u64) -> Option<PageAddress> {
        let (step, offset) = (u64::from(index) / self.grain, u64::from(index) % self.grain);
        let distance = self.stride * step.cast_signed() * self.grain.cast_signed();
        let page = self.first.page.checked_add_signed(distance)? + offset;
        (page < pages).then_some(PageAddress::new(self.first.region, page))
    }

    /// Its first page, where the rest of it begins that another shard is to ask for.
    pub(super) fn first(&self) -> PageAddress {
        self.first
    }

    /// What is left of it after so many pages; `next` is the next.
    pub(super) fn after(self, passed: u32, next: PageAddress) -> Request {
        Request { first: next, count: self.count - passed, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
struct Way {
    region: RegionId,
    /// The first page of the step that was missed last.
    base: u64,
    /// From one step to the next, in steps.
    stride: i64,
    /// Pages of a step.
    grain: u64,
    /// Steps that were missed on the way after the first.
    misses: u32,
    /// Steps after the last missed that were asked for.
    asked: u64,
    /// Bit *i*, of page *i* on the way from `base` on: it is on its way; it has arrived and is not mapped.
    expected: u128,
    arrived: u128,
    used: u64,
    taken: u32,
    /// When it was last followed, by the count of misses.
    followed: u64,
}

impl Way {
    /// One of which the first page was missed, as number `followed` of all that were. It leads upwards until more is known.
    fn new(missed: PageAddress, grain: u64, followed: u64) -> Way {
        Way {
            region: missed.region,
            base: missed.page - missed.page % grain,
            stride: 1,
            grain,
            misses: 0,
            asked: 0,
            expected: 0,
            arrived: 0,
            used: 0,
            taken: 0,
            followed,
        }
    }

    /// The first page so many steps after the last missed; `None` where no page is.
    fn first_of(&self, step: u64) -> Option<u64> {
        let distance = self.stride * step.cast_signed() * self.grain.cast_signed();
        // The base of a way that comes from another shard may lie before the first page.
        u64::try_from(self.base.cast_signed() + distance).ok()
    }

    /// Steps from the last missed to the one that `page` is of.
    fn step(&self, page: PageAddress) -> Option<u64> {
        if page.region != self.region {
            return None;
        }
        let distance = (page.page - page.page % self.grain).wrapping_sub(self.base).cast_signed();
        let strides = distance / (self.stride * self.grain.cast_signed());
        let is_on = distance == strides * self.stride * self.grain.cast_signed();
        u64::try_from(strides).ok().filter(|step| is_on && *step <= WINDOW)
    }

    /// Which of the pages that are kept in mind `page` is.
    fn place(&self, page: PageAddress) -> Option<u64> {
        let place = if self.stride == 1 {
            page.page.checked_sub(self.base).filter(|_| page.region == self.region)?
        } else {
            self.step(page)? * self.grain + page.page % self.grain
        };
        (place < WINDOW).then_some(place)
    }

    /// The thread has come to `step`, which is not the last missed.
    fn advance(&mut self, step: u64) {
        let distance = self.stride * step.cast_signed() * self.grain.cast_signed();
        self.base = self.base.wrapping_add_signed(distance);
        self.used += step.min(self.asked) * self.grain;
        self.asked = self.asked.saturating_sub(step);
        let passed = u32::try_from(step * self.grain).unwrap_or(u32::MAX);
        self.expected = self.expected.checked_shr(passed).unwrap_or(0);
        self.arrived = self.arrived.checked_shr(passed).unwrap_or(0);
        self.misses = self.misses.saturating_add(1);
    }

    /// Pages that were written on it.
    fn written(&self) -> u64 {
        self.used + (u64::from(self.misses) + 1) * self.grain
    }

    /// Whether page number `place` on it is left unmapped when it comes.
    fn leaves(&self, place: u64) -> bool {
        self.stride == 1 || self.grain > 1 || place.is_multiple_of(MARKS)
    }
}

impl Runtime {
    /// Whether peers may be at work while the calling thread is: on other hosts, or on other processors of this one. Where a thread may use one
    /// processor only, that is so if to look for replies without sleeping pays.
    pub(super) fn runs_beside_peers(&self) -> bool {
        let is_remote = |link: &Option<LinkKind>| matches!(link, Some(LinkKind::Tcp(NoRing::OtherHost)));
        self.switch.leader_looks()
            || sched_getaffinity(None).is_ok_and(|processors| processors.count() > 1)
            || self.links.iter().any(is_remote)
    }
}

/// The ways of all threads of a node.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    ways: [Option<Way>; WAYS],
    misses: u64,
    disappointments: u32,
    /// These are ways of threads that write.
    writes: bool,
}

impl Ahead {
    pub(super) fn to_write() -> Ahead {
        Ahead { writes: true, ..Ahead::default() }
    }

    /// A thread is about to wait for `page`, of a region whose units have `grain` pages: what else to ask for. `overlaps` tells whether pages
    /// may come while the thread runs.
    pub(super) fn missed(
        &mut self,
        page: PageAddress,
        grain: u64,
        overlaps: impl FnOnce() -> bool,
    ) -> Option<Request> {
        self.misses += 1;
        let index = self.follow(page, grain)?;
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
            _ if self.writes => {
                let depth = u32::try_from(way.written()).map_or(MORE, |written| written.min(MORE));
                (depth, depth / 2)
            }
            PROVEN.. if way.asked == 0 || overlaps() => match way.used {
                PROVEN_LONG.. => (MOST, MOST - RUN_PAGES),
                _ => (MORE, MORE / 4 * 3),
            },
            PROVEN.. => return None,
            _ => (FIRST, FIRST / 4 * 3),
        };
        if way.asked * way.grain > u64::from(enough) {
            return None;
        }
        // With the step that was missed it is `depth` and one.
        let deep = ((u64::from(depth) + 1) / way.grain).saturating_sub(1).max(1);
        let steps = deep.checked_sub(way.asked).filter(|steps| *steps > 0)?;
        let first = PageAddress::new(way.region, way.first_of(1 + way.asked)?);
        let count = (steps * way.grain) as u32;
        Some(Request { way: index, first, stride: way.stride, grain: way.grain, count })
    }

    /// The way that goes through `page`, gone on along; `None` when a new one was begun, or there is nothing to go on to.
    fn follow(&mut self, page: PageAddress, grain: u64) -> Option<usize> {
        // On the way or next on it; a page beyond what was asked for is somebody else's.
        let on_way = |way: &Way| way.step(page).filter(|step| *step <= way.asked + 1);
        let found = (0..WAYS).find_map(|index| Some((index, on_way(self.ways[index].as_ref()?)?)));
        if let Some((index, step)) = found {
            if step > 0 {
                self.ways[index].as_mut()?.advance(step);
            }
            // Missed again: where it is all that the way has asked for, it was taken away, or two threads want it.
            return (step > 0 || grain > 1).then_some(index);
        }
        // The second miss of a way tells its distance.
        let start = page.page - page.page % grain;
        let distance = |way: &Way| {
            let distance = start.wrapping_sub(way.base).cast_signed() / grain.cast_signed();
            let near = way.misses == 0 && way.region == page.region && distance.abs() <= STRIDE_MOST;
            let fits = if self.writes { distance == 1 } else { distance != 0 };
            (near && fits).then_some(distance)
        };
        let second = (0..WAYS).find_map(|index| Some((index, distance(self.ways[index].as_ref()?)?)));
        if let Some((index, stride)) = second {
            let way = self.ways[index].as_mut()?;
            *way = Way { base: start, stride, misses: 1, ..*way };
            return Some(index);
        }
        self.replace_oldest(Way::new(page, grain, self.misses));
        None
    }

    /// The rest of a request that another shard made: its way leads on here, and has proved itself.
    pub(super) fn take_over(&mut self, rest: Request) -> Request {
        let Request { first, stride, grain, .. } = rest;
        let leads_there = |way: &Way| {
            let next = way.first_of(1 + way.asked);
            way.region == first.region && way.stride == stride && next == Some(first.page)
        };
        let known = (0..WAYS).find(|index| self.ways[*index].as_ref().is_some_and(leads_there));
        let way = known.unwrap_or_else(|| {
            let way = Way::new(first, grain, self.misses);
            let base = way.base.wrapping_add_signed(-stride * grain.cast_signed());
            self.replace_oldest(Way { base, stride, misses: MISSES_MOST, used: PROVEN, ..way })
        });
        Request { way, ..rest }
    }

    fn replace_oldest(&mut self, new: Way) -> usize {
        let followed = |index: &usize| self.ways[*index].map_or(0, |way| way.followed);
        let oldest = (0..WAYS).min_by_key(followed).expect("there are ways");
        let old = self.ways[oldest].replace(new);
        // What was asked for on it was asked for in vain.
        if old.is_some_and(|way| way.asked > 0 && way.used == 0 && way.taken < TAKEN_MOST) {
            self.be_disappointed();
        }
        oldest
    }

    fn be_disappointed(&mut self) {
        self.disappointments = (self.disappointments * 2 + 1).min(MISSES_MOST);
    }

    /// So many of the pages that were to be asked for were passed; of those in `expected` the bytes will come.
    pub(super) fn asked(&mut self, request: &Request, passed: u32, expected: u128) {
        if let Some(way) = &mut self.ways[request.way] {
            way.expected |= expected << ((1 + way.asked) * way.grain);
            // A step of which some pages are left is not asked for again as a whole.
            way.asked += u64::from(passed).div_ceil(way.grain);
        }
    }

    /// A page that may be used now: true when it is to be left unmapped, until a thread comes to it, which is so only where ways are read.
    pub(super) fn arrives(&mut self, page: PageAddress) -> bool {
        self.ways.iter_mut().flatten().filter(|way| way.expected != 0).any(|way| {
            let Some(place) = way.place(page).filter(|place| way.expected >> place & 1 != 0) else {
                return false;
            };
            way.expected &= !(1 << place);
            let left = way.leaves(place);
            if left {
                way.arrived |= 1 << place;
            }
            left
        })
    }

    /// The pages around `pages` that have arrived without being mapped, with those themselves, of those that `may` allows: they are to be mapped now.
    pub(super) fn take_run(
        &mut self,
        pages: PageRange,
        region: RegionId,
        may: impl Fn(PageAddress) -> bool,
    ) -> PageRange {
        let (mut first, mut end) = (pages.first(), pages.end());
        for way in self.ways.iter_mut().flatten().filter(|way| way.region == region) {
            let mut take = |page: u64| {
                if way.arrived == 0 || (way.stride != 1 && way.grain == 1) {
                    return false;
                }
                let page = PageAddress::new(region, page);
                let place = way.place(page).filter(|place| way.arrived >> place & 1 != 0 && may(page));
                place.inspect(|place| way.arrived &= !(1 << place)).is_some()
            };
            while take(end) {
                end += 1;
            }
            while first > 0 && take(first - 1) {
                first -= 1;
            }
        }
        PageRange::new(first, end - first)
    }

    /// Somebody asks for `page` itself: it is mapped when it comes.
    pub(super) fn forget(&mut self, page: PageAddress) {
        for way in self.ways.iter_mut().flatten().filter(|way| way.expected | way.arrived != 0) {
            if let Some(place) = way.place(page) {
                way.expected &= !(1 << place);
                way.arrived &= !(1 << place);
            }
        }
    }

    /// `page` was taken away.
    pub(super) fn taken(&mut self, page: PageAddress) {
        let mut ended = false;
        for way in self.ways.iter_mut().flatten().filter(|way| way.arrived != 0) {
            let Some(place) = way.place(page) else { continue };
            if way.arrived >> place & 1 != 0 {
                way.arrived &= !(1 << place);
                way.taken += 1;
                ended |= way.taken == TAKEN_MOST;
            }
        }
        if ended {
            self.be_disappointed();
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
    use std::ops::Range;

    const PAGES: u64 = 1 << 20;

    fn page(page: u64) -> PageAddress {
        PageAddress::new(RegionId(3), page)
    }

    /// Asks for all of what a miss calls for; returns those pages.
    fn miss(ahead: &mut Ahead, at: u64) -> Vec<u64> {
        miss_in_units(ahead, at, 1)
    }

    fn miss_in_units(ahead: &mut Ahead, at: u64, grain: u64) -> Vec<u64> {
        ahead.forget(page(at));
        let Some(request) = ahead.missed(page(at), grain, || true) else { return Vec::new() };
        let steps: Vec<u64> =
            (0..request.count).map_while(|step| Some(request.page(step, PAGES)?.page)).collect();
        let expected = if steps.is_empty() { 0 } else { u128::MAX >> (128 - steps.len()) };
        ahead.asked(&request, steps.len() as u32, expected);
        steps
    }

    /// The pages that are entered when `at` is, where all but `refused` may be.
    fn mapped_with(ahead: &mut Ahead, at: u64, refused: Option<u64>) -> Range<u64> {
        let run = ahead.take_run(PageRange::one(at), RegionId(3), |page| Some(page.page) != refused);
        run.first()..run.end()
    }

    #[test]
    fn a_way_is_seen_at_its_third_page_and_asked_for_in_growing_pieces() {
        let mut ahead = Ahead::default();
        assert_eq!(miss(&mut ahead, 100), []);
        assert_eq!(miss(&mut ahead, 101), []);
        assert_eq!(miss(&mut ahead, 102), (103..119).collect::<Vec<_>>());
        for arrived in 103..119 {
            assert!(ahead.arrives(page(arrived)));
        }
        // The fault on the next enters all that is there.
        assert_eq!(miss(&mut ahead, 103), []);
        assert_eq!(mapped_with(&mut ahead, 103, None), 103..119);
        assert_eq!(mapped_with(&mut ahead, 103, None), 103..104);
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
    fn where_nothing_comes_while_the_thread_runs_more_is_asked_for_when_all_is_used() {
        let mut ahead = Ahead::default();
        let (mut at, mut runs) = (100, Vec::new());
        for _ in 0..1000 {
            if let Some(request) = ahead.missed(page(at), 1, || false) {
                let all_is_used = request.page(0, PAGES) == Some(page(at + 1));
                assert!(all_is_used || request.count <= FIRST, "{runs:?}, then {request:?} at {at}");
                ahead.asked(&request, request.count, 0);
                runs.push(request.count);
            }
            at += 1;
        }
        let growing = runs.iter().position(|run| *run == MOST).expect("more is asked for with time");
        assert!(
            runs[..growing].contains(&MORE) && runs[growing..].iter().all(|run| *run == MOST),
            "{runs:?}"
        );
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
        let request = here.missed(page(102), 1, || true).unwrap();
        // The pages from 110 on are another's.
        here.asked(&request, 7, 0x7f);
        let rest = request.after(7, page(110));
        here.asked(&request, rest.count, 0);
        let rest = there.take_over(rest);
        assert_eq!((rest.first(), rest.count), (page(110), 9));
        there.asked(&rest, 9, 0x1ff);
        assert!(here.arrives(page(109)) && !here.arrives(page(110)));
        assert!(there.arrives(page(110)) && there.arrives(page(118)) && !there.arrives(page(119)));
        let further = here.missed(page(109), 1, || true).and_then(|request| request.page(0, PAGES));
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
    fn where_units_are_larger_they_are_the_steps_of_a_way() {
        let mut ahead = Ahead::default();
        // The unit of a page that is missed is no business of this part.
        assert!([100, 112].into_iter().all(|at| miss_in_units(&mut ahead, at, 16).is_empty()));
        assert_eq!(miss_in_units(&mut ahead, 129, 16), (144..160).collect::<Vec<_>>());
        assert!((144..160).all(|arrived| ahead.arrives(page(arrived))));
        // In the middle of it, all of the unit is entered; with it, as many are asked for as make a run.
        assert_eq!(miss_in_units(&mut ahead, 147, 16), (160..208).collect::<Vec<_>>());
        assert_eq!(mapped_with(&mut ahead, 147, None), 144..160);
        assert_eq!(miss_in_units(&mut ahead, 160, 16), (208..224).collect::<Vec<_>>());
        assert_eq!(miss_in_units(&mut ahead, 208, 16), (224..272).collect::<Vec<_>>());
        // Those that are not of the way are not left for later.
        assert!(!ahead.arrives(page(129)) && ahead.arrives(page(271)) && !ahead.arrives(page(272)));
    }

    #[test]
    fn ways_of_units_lead_down_and_over_gaps_and_are_not_proved_within_one() {
        let mut ahead = Ahead::default();
        let down: Vec<Vec<u64>> = [47, 43, 39].map(|at| miss_in_units(&mut ahead, at, 4)).into();
        assert_eq!(down[2], (0..12).map(|index| 32 - 4 * (index / 4) + index % 4).collect::<Vec<_>>());
        assert!(down[2].iter().all(|arrived| ahead.arrives(page(*arrived))));
        assert_eq!(miss_in_units(&mut ahead, 35, 4), [20, 21, 22, 23]);
        assert_eq!(mapped_with(&mut ahead, 35, None), 24..36);
        let gaps: Vec<Vec<u64>> = [400, 412, 424].map(|at| miss_in_units(&mut ahead, at, 4)).into();
        assert_eq!(gaps[2], [436, 437, 438, 439, 448, 449, 450, 451, 460, 461, 462, 463]);
        assert!((0..16).all(|offset| miss_in_units(&mut ahead, 8000 + offset * 7 % 16, 16).is_empty()));
        let last: Vec<Vec<u64>> =
            [PAGES - 12, PAGES - 8, PAGES - 4].map(|at| miss_in_units(&mut ahead, at, 4)).into();
        assert!(last.iter().all(Vec::is_empty));
    }

    #[test]
    fn to_write_no_more_units_are_asked_for_than_were_written() {
        let mut ahead = Ahead::to_write();
        assert!((0..3).all(|unit| miss_in_units(&mut ahead, unit * 4, 4).is_empty()));
        // Four units were missed to be written, which are 16 pages: with the last of them, so many.
        assert_eq!(miss_in_units(&mut ahead, 12, 4), (16..28).collect::<Vec<_>>());
        assert_eq!(miss_in_units(&mut ahead, 28, 4), (32..60).collect::<Vec<_>>());
        assert_eq!(miss_in_units(&mut ahead, 60, 4), (64..124).collect::<Vec<_>>());
        assert_eq!(miss_in_units(&mut ahead, 124, 4).len(), 60, "with the unit that is missed it is a run");
    }

    #[test]
    fn ways_that_are_forgotten_unused_make_others_prove_themselves_for_longer() {
        for grain in [1, 4, 16] {
            let mut ahead = Ahead::default();
            // Three steps upwards somewhere, and then three somewhere else.
            let three = |place: u64| (0..3).map(move |step| (place * 100 + step) * grain);
            let asked: Vec<u64> = (0..100)
                .map(|place| three(place).map(|at| miss_in_units(&mut ahead, at, grain).len() as u64).sum())
                .collect();
            assert!(asked[0] > 0);
            assert!(asked[10..].iter().all(|asked| *asked == 0), "steps of {grain}: {asked:?}");
            // Who goes on is believed all the same.
            let on: usize =
                (1 << 15..(1 << 15) + 100).map(|at| miss_in_units(&mut ahead, at * grain, grain).len()).sum();
            assert!(on > 0);
        }
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
        for grain in [1, 4, 16] {
            let mut ahead = Ahead::default();
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let mut asked = 0;
            for _ in 0..100_000 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                asked += miss_in_units(&mut ahead, state % 16_384, grain).len();
            }
            assert!(asked < 2_000, "{asked} pages in 100,000 misses, with units of {grain}");
        }
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
        assert_eq!(mapped_with(&mut ahead, 102, Some(104)), 102..104);
        ahead.forget_region(RegionId(3));
        assert_eq!(mapped_with(&mut ahead, 103, None), 103..104);
    }
}
