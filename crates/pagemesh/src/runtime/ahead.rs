//! Reading and writing ahead: which pages a thread is about to use, by those that it missed.
//!
//! A thread that misses pages at one distance from each other, three times in a row, is taken to go on so. The next 16 pages of its
//! way are asked for at once, and when it has used 12 of them, 63. Where it may run on one processor while its pages come on another, up to 127
//! are asked for when it has used 256: so the next run of pages is under way while one is used. With one processor for all that would only mean that
//! a second thread has to receive them: so there more is asked for when all is used. The requests are those of any prefetch; nobody waits for them.
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
/// A way on which pages are asked for stays for so many misses more than one on which none are: its thread misses less.
const GRACE: u64 = 256;
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

    /// A thread is about to wait for `page`, of a region whose units have `grain` pages: what else to ask for. `absent`: it is neither here nor on
    /// its way. `overlaps` tells whether pages may come while the thread runs.
    pub(super) fn missed(
        &mut self,
        page: PageAddress,
        (grain, absent): (u64, bool),
        overlaps: impl Fn() -> bool,
    ) -> Option<Request> {
        self.misses += 1;
        let index = self.follow(page, grain, absent)?;
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
            PROVEN_LONG.. if overlaps() => (MOST, MOST - RUN_PAGES),
            PROVEN.. if way.asked == 0 || overlaps() => (MORE, MORE / 4 * 3),
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
    fn follow(&mut self, page: PageAddress, grain: u64, absent: bool) -> Option<usize> {
        // On the way or next on it; a page beyond what was asked for is somebody else's.
        let on_way = |way: &Way| way.step(page).filter(|step| *step <= way.asked + 1);
        let found = (0..WAYS).find_map(|index| Some((index, on_way(self.ways[index].as_ref()?)?)));
        if let Some((index, step)) = found {
            let way = self.ways[index].as_mut()?;
            if step > 0 {
                way.advance(step);
            }
            if absent {
                // It was here, and is gone again; so is what else was asked for then.
                way.asked = 0;
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
        let followed = |index: &usize| {
            let grace = |way: &Way| if way.asked > 0 { GRACE } else { 0 };
            self.ways[*index].map_or(0, |way| way.followed + grace(&way))
        };
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
mod tests;
