//! Which bytes of a region are as new as which time.
//!
//! A list of parts that do not touch unless their times differ. Bytes in no part have the time 0: nothing was ever written there. A master keeps
//! in it when each byte was written last, a locker up to when it has all that was written. Both may lose precision in the direction that
//! only costs bytes: a master may say that a byte was written later than it was, a locker that it has less.

use crate::limits;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    start: u64,
    end: u64,
    stamp: u64,
}

/// The times of one region's bytes.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    /// In order. Room for all is there from the start: times change on threads that should not allocate.
    parts: Vec<Part>,
    bound: usize,
}

impl Stamps {
    pub(super) fn new() -> Stamps {
        Stamps::bounded(limits::RANGE_STAMPS)
    }

    fn bounded(bound: usize) -> Stamps {
        // One change adds two parts at most.
        Stamps { parts: Vec::with_capacity(bound + 2), bound }
    }

    /// The first part that ends after `at`.
    fn place(&self, at: u64) -> usize {
        self.parts.partition_point(|part| part.end <= at)
    }

    fn overlapping(&self, start: u64, end: u64) -> &[Part] {
        let rest = &self.parts[self.place(start)..];
        &rest[..rest.partition_point(|part| part.start < end)]
    }

    /// From now on these bytes have this time.
    fn set(&mut self, start: u64, end: u64, stamp: u64) {
        let from = self.place(start);
        let to = from + self.overlapping(start, end).len();
        let cut = |part: &Part| (part.start < part.end).then_some(*part);
        let before = self.parts[from..to].first().and_then(|part| cut(&Part { end: start, ..*part }));
        let after = self.parts[from..to].last().and_then(|part| cut(&Part { start: end, ..*part }));
        let pieces = [before, Some(Part { start, end, stamp }), after];
        let count = pieces.iter().flatten().count();
        self.parts.splice(from..to, pieces.into_iter().flatten());
        // Neighbours of the same time become one part.
        let mut at = (from + count).min(self.parts.len().saturating_sub(1));
        while at > from.saturating_sub(1) {
            let (left, right) = (self.parts[at - 1], self.parts[at]);
            if left.end == right.start && left.stamp == right.stamp {
                self.parts[at - 1].end = right.end;
                self.parts.remove(at);
            }
            at -= 1;
        }
    }

    /// The master's part: these bytes were written at this time, or may have been.
    pub(super) fn written(&mut self, start: u64, end: u64, stamp: u64) {
        self.set(start, end, stamp);
        let mut grain = 4096;
        while self.parts.len() > self.bound {
            self.coarsen(grain);
            grain *= 16;
        }
    }

    /// Makes one part of all parts that begin in the same `grain` bytes.
    fn coarsen(&mut self, grain: u64) {
        self.parts.dedup_by(|next, kept| {
            let same = next.start / grain == kept.start / grain;
            if same {
                kept.end = next.end;
                kept.stamp = kept.stamp.max(next.stamp);
            }
            same
        });
    }

    /// The locker's part: all that was written to these bytes up to this time is here.
    pub(super) fn received(&mut self, start: u64, end: u64, stamp: u64) {
        self.set(start, end, stamp);
        if self.parts.len() > self.bound {
            self.parts.clear();
        }
    }

    /// The oldest time of these bytes.
    pub(super) fn least(&self, start: u64, end: u64) -> u64 {
        let (mut least, mut covered) = (u64::MAX, start);
        for part in self.overlapping(start, end) {
            if part.start > covered {
                return 0;
            }
            least = least.min(part.stamp);
            covered = part.end;
        }
        if covered < end { 0 } else { least }
    }

    /// The first of these bytes that is newer than `since`.
    pub(super) fn first_newer(&self, start: u64, end: u64, since: u64) -> Option<u64> {
        let newer = self.overlapping(start, end).iter().find(|part| part.stamp > since)?;
        Some(newer.start.max(start))
    }

    /// The byte after the last of these that is newer than `since`.
    pub(super) fn end_of_newer(&self, start: u64, end: u64, since: u64) -> Option<u64> {
        let newer = self.overlapping(start, end).iter().rev().find(|part| part.stamp > since)?;
        Some(newer.end.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: u64 = 200;

    /// What [`Stamps`] stands for: a time for each byte.
    fn check(stamps: &Stamps, model: &[u64]) {
        for start in 0..BYTES {
            for end in [start + 1, start + 7, BYTES].into_iter().filter(|end| *end <= BYTES) {
                let bytes = &model[start as usize..end as usize];
                assert_eq!(stamps.least(start, end), *bytes.iter().min().expect("at least one byte"));
                for since in [0, 3] {
                    let first = bytes.iter().position(|stamp| *stamp > since).map(|at| start + at as u64);
                    let last = bytes.iter().rposition(|stamp| *stamp > since).map(|at| start + at as u64 + 1);
                    assert_eq!(stamps.first_newer(start, end, since), first);
                    assert_eq!(stamps.end_of_newer(start, end, since), last);
                }
            }
        }
        for pair in stamps.parts.windows(2) {
            let touch = pair[0].end == pair[1].start && pair[0].stamp == pair[1].stamp;
            assert!(pair[0].end <= pair[1].start && !touch, "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_has_the_time_that_it_was_given(
            changes in proptest::collection::vec((0..BYTES, 1u64..60, 1u64..6), 1..25)
        ) {
            let (mut stamps, mut model) = (Stamps::bounded(1000), vec![0; BYTES as usize]);
            for (start, bytes, stamp) in changes {
                let end = (start + bytes).min(BYTES);
                stamps.set(start, end, stamp);
                model[start as usize..end as usize].fill(stamp);
            }
            check(&stamps, &model);
        }

        #[test]
        fn with_too_many_parts_only_precision_is_lost(
            changes in proptest::collection::vec((0u64..1 << 20, 1u64..60), 1..60)
        ) {
            let (mut master, mut locker) = (Stamps::bounded(5), Stamps::bounded(5));
            let mut exact = Stamps::bounded(1000);
            for (index, (start, bytes)) in changes.iter().enumerate() {
                let (start, end, stamp) = (*start, start + bytes, index as u64 + 1);
                exact.set(start, end, stamp);
                master.written(start, end, stamp);
                locker.received(start, end, stamp);
                prop_assert!(master.parts.len() <= 5 && locker.parts.len() <= 5);
            }
            for (start, bytes) in changes {
                for at in start..start + bytes {
                    let time = exact.least(at, at + 1);
                    prop_assert!(master.least(at, at + 1) >= time);
                    prop_assert!(locker.least(at, at + 1) <= time);
                }
            }
        }
    }
}
