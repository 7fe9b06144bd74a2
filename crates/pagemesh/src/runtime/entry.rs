//! Locked ranges: which thread has locked which, and what it wrote to those of entry regions. In release regions the engine knows what was
//! written, as under any lock.
//!
//! The engine knows calls, not threads; here is kept which thread may give a range back. What a writer changed is found by comparing the
//! range with a copy of it that was made when it was locked. Pages that no thread of this node has touched by then are not copied, and
//! those that none has touched when the range is given back were not written at all.

use super::holds::{coarse_ms, strongest};
use super::{Held, Runtime, lock};
use crate::holders::Awaited;
use crate::stats::count;
use crate::{Departure, Protocol, RangeError, Region};
use pagemesh_memory::PAGE_BYTES;
use pagemesh_protocol::{Access, ByteRange, Failure, PageAddress, PageState, RegionId, SyncObject, Ticket};
use std::collections::VecDeque;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::CallFailure;

/// Bytes that are copied at a time, on one node: of what goes beyond it, all is sent.
const COPIES_MOST: usize = 64 << 20;
/// Pages that are looked at, or sent, in one go: 256 KiB.
const PAGES_AT_A_TIME: u64 = 64;

/// A page's part of a range as it was when the range was locked.
#[derive(Debug)]
struct Before {
    piece: ByteRange,
    bytes: Box<[u8]>,
}

#[derive(Debug)]
struct HeldRange {
    range: ByteRange,
    access: Access,
    thread: ThreadId,
    ticket: Ticket,
    /// By the coarse clock, milliseconds.
    since_ms: u64,
    /// By address. Empty for readers.
    before: VecDeque<Before>,
}

impl HeldRange {
    fn copied(&self) -> usize {
        self.before.iter().map(|before| before.bytes.len()).sum()
    }
}

/// The ranges that threads of this node have locked.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    held: Vec<HeldRange>,
    copied: usize,
}

impl Ranges {
    /// Whether some thread has locked some of the region.
    pub(super) fn uses(&self, region: RegionId) -> bool {
        self.held.iter().any(|held| held.range.region == region)
    }

    /// How some of `range` is held, and since when.
    pub(super) fn hold_of(&self, range: ByteRange) -> Option<(Access, u64)> {
        let in_the_way = self.held.iter().filter(|held| held.range.overlaps(range));
        strongest(in_the_way.map(|held| (held.access, held.since_ms)))
    }
}

fn about(region: &Region, range: ByteRange) -> String {
    format!("bytes {}..{} of region {:?}", range.start, range.end(), region.name())
}

/// The parts of `range` by page, from `at` on, as many as are treated at a time.
fn pieces_from(range: ByteRange, at: u64) -> impl Iterator<Item = ByteRange> {
    let page = PAGE_BYTES as u64;
    let pages = at / page..range.end().div_ceil(page).min(at / page + PAGES_AT_A_TIME);
    pages.map(move |number| {
        let (start, end) = (number * page, (number + 1) * page);
        ByteRange::new(range.region, start.max(at), end.min(range.end()))
    })
}

/// From the first to the last byte that differs; `None` when none does.
fn changed(piece: ByteRange, before: &[u8], now: &[u8]) -> Option<ByteRange> {
    let differs = |(old, new): (&u8, &u8)| old != new;
    let first = before.iter().zip(now).position(differs)? as u64;
    let last = before.iter().zip(now).rposition(differs)? as u64;
    Some(ByteRange::new(piece.region, piece.start + first, piece.start + last + 1))
}

impl Runtime {
    /// Waits for the range, by default as long as is configured; without waiting at all when `waits` is false.
    pub(crate) fn lock_range(
        &self,
        region: &Region,
        range: ByteRange,
        access: Access,
        (waits, timeout): (bool, Option<Duration>),
    ) -> Result<Option<Departure>, RangeError> {
        let thread = std::thread::current().id();
        let overlapping = |held: &&HeldRange| held.thread == thread && held.range.overlaps(range);
        if let Some(held) = lock(&self.ranges).held.iter().find(overlapping) {
            return Err(RangeError::AlreadyHeld {
                region: region.name().to_owned(),
                start: range.start as usize,
                end: range.end() as usize,
                held_start: held.range.start as usize,
                held_end: held.range.end() as usize,
            });
        }
        let mut ticket = Ticket::new(0, 0);
        let usual = if waits { self.wait_timeout } else { self.fault_timeout };
        let (object, timeout) = (SyncObject::Range(range), timeout.unwrap_or(usual));
        let got = self.call_for(object, timeout, |engine, fresh, out| {
            ticket = fresh;
            engine.on_range_acquire(fresh, range, access, waits, out);
        });
        if got == Err(CallFailure::Failed(Failure::Busy)) {
            return Err(RangeError::Busy {
                region: region.name().to_owned(),
                start: range.start as usize,
                end: range.end() as usize,
            });
        }
        let Held { left_by, .. } =
            self.held(|| (about(region, range), object, Awaited::Shared), ticket, got)?;
        count(&self.counters.range_locks);
        let mut held =
            HeldRange { range, access, thread, ticket, since_ms: coarse_ms(), before: VecDeque::new() };
        if access == Access::Write && region.protocol() == Protocol::Entry {
            self.copy_range(region, &mut held);
        }
        let mut ranges = lock(&self.ranges);
        ranges.copied += held.copied();
        ranges.held.push(held);
        Ok(left_by)
    }

    /// Keeps what the pages have that threads of this node can write without being noticed.
    fn copy_range(&self, region: &Region, held: &mut HeldRange) {
        let mut room = COPIES_MOST.saturating_sub(lock(&self.ranges).copied);
        let mut at = held.range.start;
        while at < held.range.end() && room >= PAGE_BYTES {
            for piece in self.touched(held.range, at) {
                let mut bytes = vec![0; piece.bytes as usize].into_boxed_slice();
                if bytes.len() > room {
                    return;
                }
                room -= bytes.len();
                region.mapping().service().read(piece.start as usize, &mut bytes);
                held.before.push_back(Before { piece, bytes });
            }
            at = pieces_from(held.range, at).last().map_or(held.range.end(), ByteRange::end);
        }
    }

    /// The pieces from `at` on whose pages threads of this node have touched.
    fn touched(&self, range: ByteRange, at: u64) -> Vec<ByteRange> {
        if self.is_inherited() {
            return Vec::new();
        }
        let shard = self.shards.first();
        let is_touched = |piece: &ByteRange| {
            let page = PageAddress::new(piece.region, piece.start / PAGE_BYTES as u64);
            shard.engine.page_state(page) != PageState::Invalid
        };
        pieces_from(range, at).filter(is_touched).collect()
    }

    /// Gives back just this range, which the calling thread has locked; what it wrote is sent first.
    pub(crate) fn unlock_range(&self, region: &Region, range: ByteRange) -> Result<(), RangeError> {
        let thread = std::thread::current().id();
        let held = {
            let mut ranges = lock(&self.ranges);
            let is_it = |held: &HeldRange| held.thread == thread && held.range == range;
            let place = ranges.held.iter().position(is_it).ok_or_else(|| RangeError::NotHeld {
                region: region.name().to_owned(),
                start: range.start as usize,
                end: range.end() as usize,
            })?;
            let held = ranges.held.swap_remove(place);
            ranges.copied -= held.copied();
            held
        };
        let ticket = held.ticket;
        let published = match region.protocol() {
            Protocol::Entry if held.access == Access::Write => self.publish(region, held),
            Protocol::Entry => Ok(()),
            // The interval that ends may have much to say.
            _ => {
                self.wait_room(Instant::now() + self.fault_timeout);
                Ok(())
            }
        };
        let released = published.and_then(|()| {
            let released = self.event(|engine, out| engine.on_range_release(ticket, range, out));
            self.switch.flush();
            failed_apart(released)
        });
        released.map_err(|failed| failed.into_sync_error(self, about(region, range)))?;
        Ok(())
    }

    /// Sends what was written, never more at once than there is room for.
    fn publish(&self, region: &Region, mut held: HeldRange) -> Result<(), CallFailure> {
        let HeldRange { range, ticket, .. } = held;
        let mut now = [0; PAGE_BYTES];
        let mut at = range.start;
        while at < range.end() {
            let mut written = Vec::new();
            for piece in self.touched(range, at) {
                // Those of pages that were touched then are in the same order.
                let before = held.before.pop_front_if(|before| before.piece == piece);
                written.extend(match before {
                    Some(before) => {
                        let now = &mut now[..piece.bytes as usize];
                        region.mapping().service().read(piece.start as usize, now);
                        changed(piece, &before.bytes, now)
                    }
                    None => Some(piece),
                });
            }
            at = pieces_from(range, at).last().map_or(range.end(), ByteRange::end);
            if written.is_empty() {
                continue;
            }
            self.wait_room(Instant::now() + self.fault_timeout);
            let sent = self.event(|engine, out| {
                written.iter().try_for_each(|piece| engine.on_range_write(ticket, *piece, out))
            });
            if at < range.end() {
                // The last part goes out with the release behind it: one system call, and one wake-up of the master.
                self.switch.flush();
            }
            failed_apart(sent)?;
        }
        Ok(())
    }
}

fn failed_apart(performed: Option<Result<(), Failure>>) -> Result<(), CallFailure> {
    performed.ok_or(CallFailure::Closed)?.map_err(CallFailure::Failed)
}

impl Region {
    /// The bytes of a region whose ranges can be locked.
    pub(crate) fn byte_range(&self, bytes: &std::ops::Range<usize>) -> Result<ByteRange, RangeError> {
        let region = self.name().to_owned();
        if !matches!(self.protocol(), Protocol::Entry | Protocol::Release) {
            return Err(RangeError::NotEntry { region, protocol: self.protocol() });
        }
        let (start, end, region_bytes) = (bytes.start, bytes.end, self.bytes());
        if start >= end || end > region_bytes {
            return Err(RangeError::OutOfBounds { region, start, end, region_bytes });
        }
        Ok(ByteRange::new(self.id(), start as u64, end as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagemesh_protocol::RegionId;

    #[test]
    fn a_range_falls_into_its_pages() {
        let range = ByteRange::new(RegionId(0), 4000, 4096 * 100 + 5);
        let mut at = range.start;
        let mut all = Vec::new();
        while at < range.end() {
            let some: Vec<ByteRange> = pieces_from(range, at).collect();
            assert!(some.len() <= PAGES_AT_A_TIME as usize);
            at = some.last().unwrap().end();
            all.extend(some);
        }
        assert_eq!(all.len(), 101);
        assert_eq!((all[0].start, all[0].end(), all[100].end()), (4000, 4096, range.end()));
        assert!(all.windows(2).all(|pair| pair[0].end() == pair[1].start));
    }

    #[test]
    fn what_changed_is_found_to_the_byte() {
        let piece = ByteRange::new(RegionId(0), 100, 108);
        let before = [0; 8];
        assert_eq!(changed(piece, &before, &before), None);
        assert_eq!(
            changed(piece, &before, &[0, 0, 7, 0, 8, 0, 0, 0]),
            Some(ByteRange::new(RegionId(0), 102, 105))
        );
        assert_eq!(changed(piece, &before, &[1; 8]), Some(piece));
    }
}
