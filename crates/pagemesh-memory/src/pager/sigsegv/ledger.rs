//! How many mappings this process may still split its app views into.

use std::fs;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// Where the kernel says how many mappings a process may have.
const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

/// What it says unless someone changed it.
const MAX_MAP_COUNT_DEFAULT: usize = 65_530;

/// One in so many mappings is left to the rest of the process beyond those that it has when a region is opened: for its threads
/// (two or three each), libraries and allocations.
const RESERVE_PART: usize = 16;

/// Of this process.
pub(super) static LEDGER: Ledger = Ledger::new();

/// Counts the mappings into which app views are split, beyond the one that each of them is anyway.
#[derive(Debug)]
pub(super) struct Ledger {
    used: AtomicIsize,
    limit: AtomicIsize,
    /// As it was found, for the message.
    max: AtomicUsize,
}

impl Ledger {
    pub(super) const fn new() -> Ledger {
        Ledger {
            used: AtomicIsize::new(0),
            limit: AtomicIsize::new(0),
            max: AtomicUsize::new(MAX_MAP_COUNT_DEFAULT),
        }
    }

    /// The ledger, after a look at what the process has besides. For each region that is opened.
    pub(super) fn get(&'static self) -> &'static Ledger {
        let maps = fs::read("/proc/self/maps").unwrap_or_default();
        let all = maps.split(|byte| *byte == b'\n').skip(1).count();
        let max = max_map_count().unwrap_or(MAX_MAP_COUNT_DEFAULT);
        let others = all.saturating_sub(self.used().cast_unsigned());
        self.set_limit(max, others);
        self
    }

    /// Nothing is taken any more: a child made by fork has none of its parent's app views.
    pub(super) fn forget(&self) {
        self.used.store(0, Ordering::Relaxed);
    }

    pub(super) fn set_limit(&self, max: usize, others: usize) {
        let limit = max.saturating_sub(max / RESERVE_PART).saturating_sub(others);
        self.max.store(max, Ordering::Relaxed);
        self.limit.store(limit.cast_signed(), Ordering::Relaxed);
    }

    /// Takes `count` mappings, or gives back if it is negative. False when there are not so many.
    pub(super) fn take(&self, count: isize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |used: isize| (count <= 0 || used + count <= limit).then_some(used + count);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// How many are taken.
    pub(super) fn used(&self) -> isize {
        self.used.load(Ordering::Relaxed)
    }

    /// `vm.max_map_count`.
    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }
}

/// How many mappings the kernel lets a process have: `vm.max_map_count`, `proc_sys_vm(5)`.
pub(in crate::pager) fn max_map_count() -> Option<usize> {
    fs::read_to_string(MAX_MAP_COUNT).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_others_leave_and_a_reserve_stays() {
        let ledger = Ledger::new();
        assert!(!ledger.take(1), "there is no limit yet");
        ledger.set_limit(160, 50);
        assert!(ledger.take(60) && ledger.take(40));
        assert!(!ledger.take(1));
        assert!(ledger.take(-1) && ledger.take(1));
        ledger.set_limit(160, 100);
        assert!(!ledger.take(1) && ledger.take(0) && ledger.take(-2), "giving back always works");
        assert_eq!((ledger.used(), ledger.max()), (98, 160));
    }
}
