//! Accesses that failed and whose threads may not know yet.
//!
//! A page is poisoned for as long as it has an entry here. The entry is taken out by the signal that the poison raises in the
//! thread that it was meant for or, when that thread cannot be signalled because its access was the kernel's, after
//! [`LIFETIME`]. To take poison off too early is harmless: the access faults anew and the sink is asked again.

use crate::fork::PerProcess;
use crate::{PAGE_BYTES, Resolution};
use rustix::mm::{Advice, madvise};
use std::ptr::without_provenance_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an access has to find the poison that ends it. Kernel accesses to the page fail without the sink being asked
/// for that long, so it must not be much; a thread that gets no processor for longer than this asks the sink twice.
pub(crate) const LIFETIME: Duration = Duration::from_millis(250);

/// Failures at a time. Beyond that the oldest is forgotten.
const FAILURES_MAX: usize = 256;

/// A failed access.
#[derive(Clone, Copy)]
struct Failure {
    thread: u32,
    page_address: usize,
    ends: Instant,
}

/// All of this process. It is locked only where no signal can come in between: by the service threads, which have signals blocked,
/// and in our signal handler, which has all of them masked.
static FAILURES: PerProcess<Mutex<Failures>> =
    PerProcess::new(|| Mutex::new(Failures { list: [None; FAILURES_MAX] }));

/// Makes the list, so that no signal handler has to.
pub(super) fn prepare() {
    FAILURES.get();
}

/// In a child made by fork, which has no page that was poisoned.
pub(super) fn forget() {
    FAILURES.forget();
}

struct Failures {
    list: [Option<Failure>; FAILURES_MAX],
}

fn failures() -> MutexGuard<'static, Failures> {
    FAILURES.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Failures {
    /// Adds a failure. Returns the page of the one that had to go for it.
    fn add(&mut self, failure: Failure) -> Option<usize> {
        let same = |entry: &Option<Failure>| {
            entry.is_some_and(|one| (one.thread, one.page_address) == (failure.thread, failure.page_address))
        };
        let place = self.list.iter().position(same).or_else(|| self.list.iter().position(Option::is_none));
        let place = place.unwrap_or_else(|| {
            let oldest = (0..FAILURES_MAX).min_by_key(|place| self.list[*place].map(|one| one.ends));
            oldest.expect("the list has places")
        });
        let gone = self.list[place].replace(failure).map(|one| one.page_address);
        gone.filter(|page| *page != failure.page_address && !self.knows(*page))
    }

    /// Takes the thread's failure at this page out. Returns whether there was one, and whether others have one there still.
    fn take(&mut self, thread: u32, page_address: usize) -> (bool, bool) {
        let mine = |entry: &&mut Option<Failure>| {
            entry.is_some_and(|one| (one.thread, one.page_address) == (thread, page_address))
        };
        let found = self.list.iter_mut().find(mine).and_then(Option::take).is_some();
        (found, self.knows(page_address))
    }

    fn knows(&self, page_address: usize) -> bool {
        self.list.iter().flatten().any(|one| one.page_address == page_address)
    }

    fn next_end(&self) -> Option<Instant> {
        self.list.iter().flatten().map(|one| one.ends).min()
    }

    /// Takes out a failure that has ended, and all others at its page.
    fn end_one(&mut self, now: Instant) -> Option<usize> {
        let page_address = self.list.iter().flatten().find(|one| one.ends <= now)?.page_address;
        for entry in &mut self.list {
            if entry.is_some_and(|one| one.page_address == page_address) {
                *entry = None;
            }
        }
        Some(page_address)
    }
}

/// Notes that an access of `thread` to this page failed. Comes before the poison.
pub(super) fn note(thread: u32, page_address: usize) {
    let failure = Failure { thread, page_address, ends: Instant::now() + LIFETIME };
    let forgotten = failures().add(failure);
    if let Some(page) = forgotten {
        drop_page(page);
    }
}

/// A thread got the signal of a poisoned page: was it meant? [`Resolution::Resolved`] lets it try again.
pub(crate) fn told_by_signal(page_address: usize) -> Resolution {
    // SAFETY: asks for a number.
    let thread = unsafe { libc::gettid() }.cast_unsigned();
    let (meant, others) = failures().take(thread, page_address);
    if !meant || !others {
        drop_page(page_address);
    }
    if meant { Resolution::Failed } else { Resolution::Resolved }
}

/// How long until the next failure ends, `None` when there is none.
pub(super) fn time_left() -> Option<Duration> {
    let end = failures().next_end()?;
    Some(end.saturating_duration_since(Instant::now()))
}

/// Ends what is over.
pub(super) fn end_old_ones() {
    let now = Instant::now();
    loop {
        let Some(page_address) = failures().end_one(now) else { return };
        drop_page(page_address);
    }
}

/// Drops the page-table entry of a page, poison or not, if a region of ours is there: the next access faults.
pub(super) fn drop_page(page_address: usize) {
    // While the region is looked at, it stays mapped.
    if crate::signal::find(page_address).is_some() {
        // SAFETY: the page lies in an app view, a shared mapping: dropping its page-table entry changes no byte, and whoever
        // touches it next faults and is granted it again. The kernel refuses only what is not mapped.
        let _ = unsafe { madvise(without_provenance_mut(page_address), PAGE_BYTES, Advice::LinuxDontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(thread: u32, page_address: usize, ends: Instant) -> Failure {
        Failure { thread, page_address, ends }
    }

    #[test]
    fn a_failure_is_told_once_and_to_its_thread_only() {
        let mut failures = Failures { list: [None; FAILURES_MAX] };
        let now = Instant::now();
        assert_eq!(failures.add(failure(1, 0x1000, now)), None);
        assert_eq!(failures.add(failure(1, 0x1000, now)), None);
        assert_eq!(failures.add(failure(2, 0x1000, now)), None);
        assert_eq!(failures.take(3, 0x1000), (false, true));
        assert_eq!(failures.take(1, 0x2000), (false, false));
        assert_eq!(failures.take(1, 0x1000), (true, true));
        assert_eq!(failures.take(1, 0x1000), (false, true));
        assert_eq!(failures.take(2, 0x1000), (true, false));
        assert!(failures.next_end().is_none());
    }

    #[test]
    fn failures_end_page_by_page() {
        let mut failures = Failures { list: [None; FAILURES_MAX] };
        let now = Instant::now();
        let later = now + LIFETIME;
        failures.add(failure(1, 0x1000, now));
        failures.add(failure(2, 0x1000, later));
        failures.add(failure(3, 0x2000, later));
        assert_eq!(failures.next_end(), Some(now));
        assert_eq!(failures.end_one(now), Some(0x1000));
        assert_eq!(failures.end_one(now), None);
        assert_eq!(failures.end_one(later), Some(0x2000));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut failures = Failures { list: [None; FAILURES_MAX] };
        let now = Instant::now();
        for number in 0..FAILURES_MAX {
            let ends = now + Duration::from_millis(number as u64);
            assert_eq!(failures.add(failure(1, (number + 1) * PAGE_BYTES, ends)), None);
        }
        assert_eq!(failures.add(failure(1, 0x100_0000, now + LIFETIME)), Some(PAGE_BYTES));
        assert_eq!(failures.take(1, PAGE_BYTES), (false, false));
    }
}
