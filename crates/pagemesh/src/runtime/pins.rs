//! Pins: getting the pages in order, and the deadline for those that others wait for.
//!
//! The engine counts the waits for pins and knows no time; here is kept when which of them is too long. The service thread
//! watches it: it sleeps no longer than until the next deadline.

use super::failure::CallFailure;
use super::shards::Along;
use super::{Runtime, lock};
use crate::stats::count;
use pagemesh_memory::PageRange;
use pagemesh_protocol::{Access, Failure, PageAddress, PinHolder, PinId, PinWait, RegionId, limits};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Deadlines are kept apart this finely, in parts of the whole: a wait may be met later by one part, never earlier.
const PARTS: u32 = 8;
/// Room for the deadlines that can be ahead at a time, twice over: nothing is allocated on the threads that add to them.
const MARKS: usize = 4 * PARTS as usize;

/// System calls of one node that can have their buffers pinned at a time; further ones go without.
const SYSTEM_CALLS: usize = 1024;

/// What an engine says that has as many pins as there may be.
const TOO_MANY: &str = "more pages are pinned than one node may have pinned at a time";

/// Waits that began at about the same time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    began: Instant,
    due: Instant,
    up_to: PinWait,
}

/// When the waits for this node's pins are too long.
#[derive(Debug)]
struct Deadlines {
    after: Duration,
    marks: VecDeque<Mark>,
}

impl Deadlines {
    /// A wait begins. True when it is the only one.
    fn add(&mut self, wait: PinWait, now: Instant) -> bool {
        // A deadline beyond the end of time never passes.
        let Some(due) = now.checked_add(self.after) else { return false };
        let full = self.marks.len() >= MARKS;
        match self.marks.back_mut() {
            Some(last) if full || now.saturating_duration_since(last.began) < self.after / PARTS => {
                last.due = due;
                last.up_to = last.up_to.max(wait);
                false
            }
            _ => {
                self.marks.push_back(Mark { began: now, due, up_to: wait });
                self.marks.len() == 1
            }
        }
    }

    /// The newest wait that is too long, and the time until the next will be.
    fn pass(&mut self, now: Instant) -> (Option<PinWait>, Option<Duration>) {
        let mut passed = None;
        while let Some(mark) = self.marks.front().copied().filter(|mark| mark.due <= now) {
            passed = Some(mark.up_to);
            self.marks.pop_front();
        }
        (passed, self.marks.front().map(|mark| mark.due.saturating_duration_since(now)))
    }
}

/// A range of addresses that is pinned until it is unpinned by its address.
#[derive(Clone, Copy, Debug)]
struct Record {
    address: usize,
    bytes: usize,
    holder: PinHolder,
    region: RegionId,
    pin: PinId,
}

/// A system call's buffer that is pinned until the call is over.
#[derive(Clone, Copy, Debug)]
struct CallRecord {
    region: RegionId,
    pages: PageRange,
    holder: PinHolder,
    pin: PinId,
}

/// A node's pins.
#[derive(Debug)]
pub(super) struct Pinning {
    newest: AtomicU64,
    after: Duration,
    /// Of each shard, which numbers its waits for itself.
    deadlines: Mutex<Box<[Deadlines]>>,
    /// Where there are several shards: pins that have not ended, with how many pages they have. The engine of one page knows only pins of its own
    /// pages.
    open: Mutex<Vec<(PinHolder, PinId, u64)>>,
    records: Mutex<Vec<Record>>,
    /// Those of system calls that the preload library has under way, for which nothing may be allocated.
    calls: Mutex<Vec<CallRecord>>,
}

impl Pinning {
    /// Others wait `deadline` for a pin to end, in a node of so many shards.
    pub(super) fn new(deadline: Duration, shards: u16) -> Pinning {
        let deadlines =
            (0..shards).map(|_| Deadlines { after: deadline, marks: VecDeque::with_capacity(MARKS) });
        let open = if shards > 1 { limits::PINS } else { 0 };
        Pinning {
            newest: AtomicU64::new(0),
            after: deadline,
            deadlines: Mutex::new(deadlines.collect()),
            open: Mutex::new(Vec::with_capacity(open)),
            records: Mutex::default(),
            calls: Mutex::new(Vec::with_capacity(SYSTEM_CALLS)),
        }
    }
}

impl Pinning {
    /// A thread begins to pin so many pages. Tells whether it has other pins, as far as that is noted here.
    fn begin(&self, pin: PinId, holder: PinHolder, pages: u64) -> Result<bool, CallFailure> {
        let mut open = lock(&self.open);
        // With one shard its engine sees to all this.
        if open.capacity() == 0 {
            return Ok(false);
        }
        let others: u64 = open.iter().map(|(.., pages)| *pages).sum();
        // So nothing is allocated either: each has a page.
        if others + pages > limits::PINS as u64 || open.len() == open.capacity() {
            return Err(CallFailure::Failed(Failure::Limit(TOO_MANY)));
        }
        let has_others = open.iter().any(|(other, ..)| *other == holder);
        open.push((holder, pin, pages));
        Ok(has_others)
    }

    fn end(&self, pin: PinId) {
        let mut open = lock(&self.open);
        if let Some(place) = open.iter().position(|(_, other, _)| *other == pin) {
            open.swap_remove(place);
        }
    }

    /// Whether some of the region is pinned by its address, or by a system call.
    pub(super) fn uses(&self, region: RegionId) -> bool {
        lock(&self.records).iter().any(|record| record.region == region)
            || lock(&self.calls).iter().any(|call| call.region == region)
    }
}

/// The calling thread, as a holder of pins.
fn this_thread() -> PinHolder {
    PinHolder(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs() as u64)
}

impl Runtime {
    /// How long another node waits for a pin to end.
    pub(crate) fn pin_deadline(&self) -> Duration {
        self.pinning.after
    }

    /// Gets the right to `access` all of `pages`, and keeps it until [`unpin`](Runtime::unpin).
    pub(crate) fn pin(
        &self,
        region: RegionId,
        pages: Range<u64>,
        access: Access,
    ) -> Result<PinId, (PageAddress, CallFailure)> {
        if self.is_inherited() {
            return Err((PageAddress::new(region, pages.start), CallFailure::Closed));
        }
        let deadline = Instant::now() + self.fault_timeout;
        loop {
            self.fetch_ahead(region, pages.clone(), access)?;
            if let Some(pin) = self.pin_once(region, pages.clone(), access)? {
                return Ok(pin);
            }
            if Instant::now() >= deadline {
                let first = PageAddress::new(region, pages.start);
                return Err((first, CallFailure::TimedOut(self.fault_timeout)));
            }
        }
    }

    /// Pins `pages`, most of which should be here by now; `None` when a deadline took the first of them while the last were waited
    /// for. Allocates nothing.
    pub(super) fn pin_once(
        &self,
        region: RegionId,
        pages: Range<u64>,
        access: Access,
    ) -> Result<Option<PinId>, (PageAddress, CallFailure)> {
        let pin = PinId(self.pinning.newest.fetch_add(1, Ordering::Relaxed));
        let first = PageAddress::new(region, pages.start);
        let got = self.pin_in_order(pin, region, pages.clone(), access);
        let holds = self.is_held(pin).ok_or((first, CallFailure::Closed))?;
        if got.is_ok() && holds {
            self.map_anew(pin, region, pages, access)?;
            count(&self.counters.pins);
            return Ok(Some(pin));
        }
        self.end_pin(pin).map_err(|closed| (first, closed))?;
        got.map(|()| None)
    }

    /// Many requests at a time for what is not here, before anything is held: what then comes in order is mostly here.
    fn fetch_ahead(
        &self,
        region: RegionId,
        pages: Range<u64>,
        access: Access,
    ) -> Result<(), (PageAddress, CallFailure)> {
        let all = || pages.clone().map(|page| PageAddress::new(region, page));
        let absent: Vec<PageAddress> = {
            let mut shards = Along::new(&self.shards);
            all().filter(|page| !shards.at(*page).engine.page_state(*page).allows(access)).collect()
        };
        // A single page is got by its pin just as well.
        if absent.len() > 1 { self.acquire_many(absent.into_iter(), access) } else { Ok(()) }
    }

    /// One page after the other, in the order of their addresses: so pins of different nodes never wait for each other.
    fn pin_in_order(
        &self,
        pin: PinId,
        region: RegionId,
        pages: Range<u64>,
        access: Access,
    ) -> Result<(), (PageAddress, CallFailure)> {
        let name = (pin, this_thread());
        let first = PageAddress::new(region, pages.start);
        let has_others =
            self.pinning.begin(pin, name.1, pages.end - pages.start).map_err(|failed| (first, failed))?;
        for page in pages.map(|page| PageAddress::new(region, page)) {
            self.page_call(page, self.fault_timeout, |engine, ticket, out| {
                if has_others {
                    engine.on_pin_further(ticket, name, page, access, out);
                } else {
                    engine.on_pin(ticket, name, page, access, out);
                }
            })
            .map_err(|failed| (page, failed))?;
        }
        Ok(())
    }

    /// Pages that are held may have lost their mapping in the app view, where only a fault would bring it back.
    fn map_anew(
        &self,
        pin: PinId,
        region: RegionId,
        pages: Range<u64>,
        access: Access,
    ) -> Result<(), (PageAddress, CallFailure)> {
        let at = |page| PageAddress::new(region, page);
        let mapping = self.shards.first().mapping(region).ok_or((at(pages.start), CallFailure::Closed))?;
        let wanted = match access {
            Access::Read => pagemesh_memory::Access::Read,
            Access::Write => pagemesh_memory::Access::Write,
        };
        if mapping.is_accessible(PageRange::new(pages.start, pages.end - pages.start), wanted) {
            return Ok(());
        }
        let mut shards = Along::new(&self.shards);
        // What the engine of a page no longer holds for the pin may have gone.
        let mut refuses = |page: &u64| {
            let is_held = shards.at(at(*page)).engine.holds(pin);
            is_held && mapping.pager().map(PageRange::one(*page), wanted).is_err()
        };
        let refused = pages.clone().find(|page| refuses(page));
        drop(shards);
        let Some(page) = refused else { return Ok(()) };
        self.end_pin(pin).map_err(|closed| (at(page), closed))?;
        Err((at(page), CallFailure::Mapping))
    }

    fn end_pin(&self, pin: PinId) -> Result<Option<PageAddress>, CallFailure> {
        self.pinning.end(pin);
        let mut taken = None;
        for place in 0..self.shards.count() {
            let first = self.place_event(place, |engine, out| engine.on_unpin(pin, out));
            let first = first.ok_or(CallFailure::Closed)?;
            taken = taken.into_iter().chain(first).min();
        }
        self.switch.flush();
        Ok(taken)
    }

    /// Ends a pin; tells which page a deadline had taken from it. Fails when this node has left, and in a forked child, which has no
    /// part in the mesh.
    pub(crate) fn unpin(&self, pin: PinId) -> Result<Option<PageAddress>, CallFailure> {
        if std::process::id() != self.process {
            return Err(CallFailure::Closed);
        }
        let taken = self.end_pin(pin)?;
        if taken.is_some() {
            count(&self.counters.pins_taken);
        }
        Ok(taken)
    }

    /// Whether all pages of `pin` are still here for it.
    pub(crate) fn holds(&self, pin: PinId) -> bool {
        self.is_held(pin).unwrap_or(false)
    }

    /// The same; `None` after the end.
    fn is_held(&self, pin: PinId) -> Option<bool> {
        let mut all = true;
        for place in 0..self.shards.count() {
            all &= self.place_event(place, |engine, _| engine.holds(pin))?;
        }
        Some(all)
    }

    /// Remembers a pin by its range of addresses.
    pub(crate) fn record_pin(&self, (address, bytes): (usize, usize), region: RegionId, pin: PinId) {
        let holder = this_thread();
        lock(&self.pinning.records).push(Record { address, bytes, holder, region, pin });
    }

    /// Forgets the newest pin of just this range, one of this thread rather than one of another.
    pub(crate) fn forget_pin(&self, address: usize, bytes: usize) -> Option<(RegionId, PinId)> {
        let holder = this_thread();
        let mut records = lock(&self.pinning.records);
        let fits = |record: &Record| (record.address, record.bytes) == (address, bytes);
        let own = records.iter().rposition(|record| fits(record) && record.holder == holder);
        let place = own.or_else(|| records.iter().rposition(fits))?;
        let Record { region, pin, .. } = records.remove(place);
        Some((region, pin))
    }

    /// Remembers the pin of a system call's buffer until the call is over. False when there is no room.
    pub(super) fn record_call(&self, region: RegionId, pages: PageRange, pin: PinId) -> bool {
        let mut calls = lock(&self.pinning.calls);
        let room = calls.len() < SYSTEM_CALLS;
        if room {
            calls.push(CallRecord { region, pages, holder: this_thread(), pin });
        }
        room
    }

    /// The pin of the system call that this thread has just made with this buffer.
    pub(super) fn forget_call(&self, region: RegionId, pages: PageRange) -> Option<PinId> {
        let holder = this_thread();
        let mut calls = lock(&self.pinning.calls);
        let place = calls
            .iter()
            .rposition(|record| (record.region, record.pages, record.holder) == (region, pages, holder))?;
        Some(calls.swap_remove(place).pin)
    }

    /// A demand of the shard at `place` begins to wait for pins: the service thread sees to it that it does not wait too long.
    pub(super) fn await_unpin(&self, place: usize, wait: PinWait) {
        if lock(&self.pinning.deadlines)[place].add(wait, Instant::now()) {
            self.switch.wake_service();
        }
    }

    /// Lets go of pages that others have waited for too long. Returns the time until this is to be done again.
    pub(super) fn expire_pins(&self) -> Option<Duration> {
        let mut soonest = None;
        for place in 0..self.shards.count() {
            let (passed, next) = {
                let mut deadlines = lock(&self.pinning.deadlines);
                if deadlines[place].marks.is_empty() {
                    continue;
                }
                deadlines[place].pass(Instant::now())
            };
            if let Some(up_to) = passed {
                self.place_event(place, |engine, out| engine.on_pins_expired(up_to, out));
            }
            soonest = soonest.into_iter().chain(next).min();
        }
        soonest
    }

    /// The region that holds all of these addresses.
    pub(crate) fn region_at(self: &Arc<Self>, address: usize, bytes: usize) -> Option<crate::Region> {
        if self.is_inherited() {
            return None;
        }
        let shard = self.shards.first();
        let (id, mapping) = shard.mapping_at(address, bytes)?;
        let spec = shard.engine.region(id)?;
        Some(crate::Region::found(self.clone(), mapping, id, spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_met_after_its_deadline_and_soon_after() {
        let after = Duration::from_millis(800);
        let mut deadlines = Deadlines { after, marks: VecDeque::with_capacity(MARKS) };
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let begins: Vec<u64> = (0..200).map(|number| number * 7).collect();
        let mut met = Vec::new();
        for millis in 0..4000 {
            for (number, _) in begins.iter().enumerate().filter(|(_, begin)| **begin == millis) {
                let only = deadlines.add(PinWait(number as u64), at(millis));
                assert_eq!(only, number == 0, "the service thread is woken for the first only");
            }
            let (passed, next) = deadlines.pass(at(millis));
            if let Some(PinWait(up_to)) = passed {
                met.extend((met.len() as u64..=up_to).map(|_| millis));
            }
            assert!(next.is_none_or(|next| next <= after));
            assert!(deadlines.marks.len() < MARKS / 2, "few marks are needed");
        }
        assert_eq!(met.len(), begins.len());
        for (begin, met) in begins.iter().zip(met) {
            assert!((800..=900).contains(&(met - begin)), "a wait from {begin} was met at {met}");
        }
    }

    #[test]
    fn deadlines_of_any_length_are_kept() {
        let now = Instant::now();
        let mut never = Deadlines { after: Duration::MAX, marks: VecDeque::with_capacity(MARKS) };
        assert!(!never.add(PinWait(1), now));
        assert_eq!(never.pass(now), (None, None));
        let mut at_once = Deadlines { after: Duration::ZERO, marks: VecDeque::with_capacity(MARKS) };
        for number in 0..100 {
            at_once.add(PinWait(number), now);
        }
        assert!(at_once.marks.len() <= MARKS);
        assert_eq!(at_once.pass(now), (Some(PinWait(99)), None));
    }
}
