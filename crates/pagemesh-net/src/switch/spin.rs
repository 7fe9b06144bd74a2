//! How long a thread looks without sleeping before it sleeps.
//!
//! To be woken on another core costs more than most replies take, so looking pays where the peer runs on a core of its own. Where it does
//! not, whoever looks keeps the peer from running, and the reply from coming. Nothing says beforehand which it is: two nodes
//! may be held to one core, or each to one of its own, or share them with anybody. So a thread that is free to decide learns:
//!
//! * What came while it looked speaks for looking. So it goes on.
//! * A look for nothing speaks against it, and so does a moment in which this thread did not run though it never slept: somebody
//!   else needed the core. Twice what speaks for it.
//! * A thread that looks uses its share of a core up, and whoever wants the core too then keeps it for milliseconds, which a thread that
//!   sleeps is spared. So one long absence says that cores are short, and outweighs hundreds of looks that paid.
//! * When enough speaks against it, it does not look for some waits, then tries twice, and if that fails waits for twice as many.
//!
//! With one core for all, this costs one look in a thousand waits.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a thread that is free to decide looks at most: twice what being woken costs where it costs much.
const LOOK: Duration = Duration::from_micros(50);
/// Longer between two glances at the clock than any system call here takes: another thread ran in between.
const GAP: Duration = Duration::from_micros(4);
/// An absence that is long: others had the core for their share.
const ABSENCE: Duration = Duration::from_micros(300);
/// Marks a spin that is learnt.
const LEARNT: u64 = u64::MAX;

const TRUST_MOST: i32 = 8;
const TRUST_AT_FIRST: i32 = 4;
/// After a pause: two failures end the try.
const TRUST_ON_TRIAL: i32 = 4;
const FAILURE: i32 = 2;
const PAUSE_LEAST: u32 = 16;
/// The least after a long absence.
const PAUSE_IF_SHORT: u32 = 256;
/// Successes in which half of the pauses is forgotten.
const TO_FORGET: u32 = 1024;
const PAUSE_MOST: u32 = 2048;

/// Whether and how long one kind of waiting thread looks. Several threads may learn at once; what one of them forgets of the
/// other's does not matter.
#[derive(Debug)]
pub(super) struct Spin {
    /// Nanoseconds, or [`LEARNT`].
    fixed_ns: AtomicU64,
    trust: AtomicI32,
    /// Waits until the next try.
    rest: AtomicU32,
    /// Waits that the next pause will have.
    pause: AtomicU32,
    /// Successes without a pause.
    streak: AtomicU32,
}

/// One look that has begun.
#[derive(Debug)]
pub(super) struct Look<'a> {
    spin: &'a Spin,
    started: Instant,
    latest: Instant,
    most: Duration,
    learns: bool,
    disturbed: bool,
    absent: bool,
}

impl Spin {
    /// Does not look.
    pub(super) fn new() -> Self {
        Self {
            fixed_ns: AtomicU64::new(0),
            trust: AtomicI32::new(TRUST_AT_FIRST),
            rest: AtomicU32::new(0),
            pause: AtomicU32::new(PAUSE_LEAST),
            streak: AtomicU32::new(0),
        }
    }

    pub(super) fn fix(&self, spin: Duration) {
        let nanoseconds = u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX).min(LEARNT - 1);
        self.fixed_ns.store(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn learn(&self) {
        self.fixed_ns.store(LEARNT, Ordering::Relaxed);
    }

    /// A wait begins, of at most `timeout`. `None`: sleep at once.
    pub(super) fn begin(&self, timeout: Option<Duration>) -> Option<Look<'_>> {
        let fixed = self.fixed_ns.load(Ordering::Relaxed);
        let learns = fixed == LEARNT;
        if fixed == 0 || learns && !self.may_try() {
            return None;
        }
        let most = if learns { LOOK } else { Duration::from_nanos(fixed) };
        let most = timeout.map_or(most, |timeout| timeout.min(most));
        let started = Instant::now();
        Some(Look { spin: self, started, latest: started, most, learns, disturbed: false, absent: false })
    }

    /// Whether the next wait is likely to look.
    pub(super) fn would_look(&self) -> bool {
        let fixed = self.fixed_ns.load(Ordering::Relaxed);
        if fixed == LEARNT { self.trust.load(Ordering::Relaxed) > 0 } else { fixed > 0 }
    }

    fn may_try(&self) -> bool {
        if self.trust.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let rest = self.rest.load(Ordering::Relaxed);
        if rest > 0 {
            self.rest.store(rest - 1, Ordering::Relaxed);
            return false;
        }
        self.trust.store(TRUST_ON_TRIAL, Ordering::Relaxed);
        true
    }

    fn succeeded(&self) {
        let trust = self.trust.load(Ordering::Relaxed);
        if trust < TRUST_MOST {
            self.trust.store(trust + 1, Ordering::Relaxed);
        }
        let streak = self.streak.load(Ordering::Relaxed).wrapping_add(1);
        self.streak.store(streak, Ordering::Relaxed);
        if streak.is_multiple_of(TO_FORGET) {
            let pause = self.pause.load(Ordering::Relaxed);
            self.pause.store((pause / 2).max(PAUSE_LEAST), Ordering::Relaxed);
        }
    }

    fn failed(&self) {
        let trust = self.trust.load(Ordering::Relaxed) - FAILURE;
        self.trust.store(trust.max(0), Ordering::Relaxed);
        if trust <= 0 {
            self.stop(PAUSE_LEAST);
        }
    }

    /// Does not look for a while, of at least so many waits.
    fn stop(&self, least: u32) {
        let pause = self.pause.load(Ordering::Relaxed).max(least);
        self.trust.store(0, Ordering::Relaxed);
        self.rest.store(pause, Ordering::Relaxed);
        self.pause.store((pause * 2).min(PAUSE_MOST), Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
    }
}

impl Look<'_> {
    /// Whether to look once more.
    fn goes_on(&mut self) -> bool {
        let now = Instant::now();
        let gap = now.duration_since(self.latest);
        self.disturbed |= gap > GAP;
        self.absent |= gap > ABSENCE;
        self.latest = now;
        now.duration_since(self.started) < self.most
    }

    /// The look, where it is to go on; else nothing came, and it is over.
    pub(super) fn again(mut self) -> Option<Self> {
        if self.goes_on() {
            return Some(self);
        }
        self.end(false);
        None
    }

    /// Something came: the look is over. What is done with what came is no part of it, so this is told first.
    pub(super) fn succeed(look: &mut Option<Self>) {
        if let Some(look) = look.take() {
            look.end(true);
        }
    }

    /// Something came, or nothing.
    pub(super) fn end(mut self, came: bool) {
        if !self.learns {
            return;
        }
        self.goes_on();
        if self.absent {
            self.spin.stop(PAUSE_IF_SHORT);
        } else if came && !self.disturbed {
            self.spin.succeeded();
        } else {
            self.spin.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the next `waits` waits looked, where each look fails or succeeds.
    fn looks(spin: &Spin, waits: usize, succeeds: bool) -> usize {
        let look = || {
            let look = spin.may_try();
            match (look, succeeds) {
                (true, true) => spin.succeeded(),
                (true, false) => spin.failed(),
                (false, _) => {}
            }
            look
        };
        (0..waits).filter(|_| look()).count()
    }

    #[test]
    fn looking_for_nothing_is_given_up_and_tried_ever_more_rarely() {
        let spin = Spin::new();
        spin.learn();
        assert!(looks(&spin, 100, false) <= 8);
        assert!(looks(&spin, 100_000, false) <= 120);
        assert!(looks(&spin, 100_000, false) <= 100);
    }

    #[test]
    fn looking_that_pays_goes_on_and_is_found_out_again() {
        let spin = Spin::new();
        spin.learn();
        assert_eq!(looks(&spin, 1000, true), 1000);
        looks(&spin, 100_000, false);
        let found_out = looks(&spin, 2 * PAUSE_MOST as usize, true);
        assert!(found_out >= PAUSE_MOST as usize, "{found_out}");
        // And a single failure changes nothing then.
        assert_eq!(looks(&spin, 1, false) + looks(&spin, 100, true), 101);
    }

    #[test]
    fn one_long_absence_outweighs_what_paid() {
        let spin = Spin::new();
        spin.learn();
        looks(&spin, 500, true);
        spin.stop(PAUSE_IF_SHORT);
        assert_eq!(looks(&spin, PAUSE_IF_SHORT as usize, true), 0);
        // It is forgotten, but slowly.
        looks(&spin, 500, true);
        spin.stop(PAUSE_IF_SHORT);
        assert_eq!(looks(&spin, 2 * PAUSE_IF_SHORT as usize, true), 0);
        looks(&spin, 8 * TO_FORGET as usize, true);
        spin.stop(PAUSE_LEAST);
        assert!(looks(&spin, 100, true) > 0);
    }

    #[test]
    fn a_fixed_time_is_kept_whatever_comes_of_it() {
        let spin = Spin::new();
        assert!(spin.begin(None).is_none());
        spin.fix(Duration::from_micros(1));
        for _ in 0..100 {
            let mut look = spin.begin(None).expect("it is fixed");
            while look.goes_on() {}
            look.end(false);
        }
        assert!(spin.begin(None).is_some());
    }
}
