//! How fast bytes come from a peer, and whether it is to pack them.
//!
//! Only bytes count that come while a frame is here in part: then the peer has sent more than there is, and what is waited for is
//! the link. The time that this node takes to handle what came is counted with it, so a link is never taken for slower than this node is
//! by more than that; and the median of some samples counts, so a thread that did not get the processor for a while does not matter.

use std::time::{Duration, Instant};

/// Bytes of one sample.
const SAMPLE_BYTES: u64 = 32 * 1024;
/// Samples that count.
const SAMPLES: usize = 15;
/// A link that is slower is worth packing for. To pack a page and to unpack it takes some 6 us (LZ4, text); at this speed a page takes 27 us,
/// and half of it 14.
const SLOW_BYTES_PER_SECOND: u64 = 150_000_000;
/// A link that was slow counts as such until it is faster than this.
const FAST_BYTES_PER_SECOND: u64 = 2 * SLOW_BYTES_PER_SECOND;

#[derive(Debug, Default)]
pub(super) struct Speed {
    /// A sample is being taken: since when, and how much has come.
    sample: Option<(Instant, u64)>,
    /// Bytes per second, the last ones.
    samples: [u64; SAMPLES],
    taken: usize,
    is_slow: bool,
}

impl Speed {
    /// The time counts at which bytes come.
    pub(super) fn is_sampling(&self) -> bool {
        self.sample.is_some()
    }

    /// So many bytes came. `goes_on`: a frame is here in part. Returns whether the link is slow.
    pub(super) fn came(&mut self, bytes: usize, goes_on: bool, now: impl Fn() -> Instant) -> bool {
        if let Some((since, before)) = self.sample {
            let all = before + bytes as u64;
            self.sample = Some((since, all));
            if all >= SAMPLE_BYTES {
                self.note(all, now().saturating_duration_since(since));
                self.sample = None;
            }
        }
        if !goes_on {
            self.sample = None;
        } else if self.sample.is_none() {
            self.sample = Some((now(), 0));
        }
        self.is_slow
    }

    fn note(&mut self, bytes: u64, time: Duration) {
        let nanos = time.as_nanos().max(1) as u64;
        self.samples[self.taken % SAMPLES] = bytes.saturating_mul(1_000_000_000) / nanos;
        self.taken += 1;
        if self.taken >= SAMPLES {
            let mut sorted = self.samples;
            sorted.sort_unstable();
            let limit = if self.is_slow { FAST_BYTES_PER_SECOND } else { SLOW_BYTES_PER_SECOND };
            self.is_slow = sorted[SAMPLES / 2] < limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A link on which pieces of 8 KiB come at so many bytes per second, each in the middle of a frame.
    struct Link {
        now: Cell<Instant>,
        speed: Speed,
    }

    impl Link {
        fn new() -> Link {
            Link { now: Cell::new(Instant::now()), speed: Speed::default() }
        }

        fn pieces(&mut self, count: usize, bytes_per_second: u64) -> bool {
            let mut slow = self.speed.is_slow;
            for _ in 0..count {
                self.now.set(self.now.get() + Duration::from_nanos(8192 * 1_000_000_000 / bytes_per_second));
                slow = self.speed.came(8192, true, || self.now.get());
            }
            slow
        }
    }

    #[test]
    fn a_slow_link_is_found_out_and_a_fast_one_is_not() {
        assert!(Link::new().pieces(100, 12_500_000));
        assert!(Link::new().pieces(100, 100_000_000));
        assert!(!Link::new().pieces(100, 1_000_000_000));
        // Not before there are samples enough.
        assert!(!Link::new().pieces(4 * (SAMPLES - 1), 12_500_000));
    }

    #[test]
    fn what_was_said_stays_while_the_speed_is_in_between() {
        let mut link = Link::new();
        assert!(!link.pieces(100, 200_000_000));
        assert!(link.pieces(100, 100_000_000));
        assert!(link.pieces(100, 200_000_000));
        assert!(!link.pieces(100, 500_000_000));
        assert!(!link.pieces(100, 200_000_000));
    }

    #[test]
    fn a_pause_now_and_then_does_not_make_a_link_slow() {
        let mut link = Link::new();
        for _ in 0..20 {
            assert!(!link.pieces(10, 2_000_000_000));
            link.now.set(link.now.get() + Duration::from_millis(20));
        }
    }

    #[test]
    fn pages_that_are_asked_for_one_by_one_say_nothing() {
        let mut link = Link::new();
        for _ in 0..1000 {
            link.now.set(link.now.get() + Duration::from_millis(1));
            assert!(!link.speed.came(4136, false, || link.now.get()));
        }
        assert_eq!(link.speed.taken, 0);
    }
}
