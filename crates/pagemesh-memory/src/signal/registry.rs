//! The table in which the handler finds the region of an address: atomics only, so that it can be read between any two
//! instructions of any thread, also while regions come and go.

use crate::{FaultSink, MappingError, PagerKind, RegionKey};
use std::ops::Deref;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Regions that a process can have at a time, in all its meshes together.
const SLOTS: usize = 1024;

/// How often a thread that waits for readers looks again.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// The regions of this process.
static REGISTRY: Registry = Registry::new();

/// The region that `address` lies in.
pub(crate) fn find(address: usize) -> Option<Reader<'static>> {
    REGISTRY.find(address)
}

/// Empties the table in a child made by fork: its entries are its parent's, and the readers counted there are threads that do not
/// exist here. The entries are not freed, since inherited values still name them.
pub(super) fn forget() {
    for slot in &REGISTRY.slots[..REGISTRY.used.load(Ordering::Acquire)] {
        slot.entry.store(null_mut(), Ordering::SeqCst);
        slot.readers.store(0, Ordering::SeqCst);
        slot.start.store(0, Ordering::Relaxed);
        slot.end.store(0, Ordering::Relaxed);
        slot.claimed.store(false, Ordering::Release);
    }
    REGISTRY.used.store(0, Ordering::Release);
}

/// A registered region.
pub(crate) struct Entry {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: PagerKind,
    pub(crate) key: RegionKey,
    pub(crate) sink: Arc<dyn FaultSink>,
}

/// A place for a region.
///
/// `entry` is freed when it was taken out of the slot and `readers` was zero after that. A reader counts itself before it
/// loads `entry`. All four accesses are sequentially consistent: so either the reader finds the slot empty, or the
/// remover finds the reader counted.
struct Slot {
    claimed: AtomicBool,
    /// The bounds of the entry, or of one before it: a hint that spares most slots the counting. Set before the entry is, so
    /// a thread that was given an address of the region sees them.
    start: AtomicUsize,
    end: AtomicUsize,
    readers: AtomicUsize,
    entry: AtomicPtr<Entry>,
}

struct Registry {
    slots: [Slot; SLOTS],
    /// Slots from here on have never been used.
    used: AtomicUsize,
    /// Whose entries these are.
    process: AtomicU32,
}

/// An entry that is in use: it cannot be freed meanwhile.
pub(crate) struct Reader<'a> {
    slot: &'a Slot,
    entry: *const Entry,
}

impl Registry {
    #[allow(clippy::large_stack_arrays, reason = "evaluated at compile time, for the one static")]
    const fn new() -> Registry {
        Registry {
            slots: [const { Slot::empty() }; SLOTS],
            used: AtomicUsize::new(0),
            process: AtomicU32::new(0),
        }
    }

    fn find(&self, address: usize) -> Option<Reader<'_>> {
        let used = self.used.load(Ordering::Acquire);
        self.slots[..used].iter().find_map(|slot| {
            let hinted = slot.start.load(Ordering::Relaxed)..slot.end.load(Ordering::Relaxed);
            if !hinted.contains(&address) {
                return None;
            }
            let reader = slot.read()?;
            (reader.start..reader.end).contains(&address).then_some(reader)
        })
    }

    fn insert(&'static self, entry: Entry) -> Result<&'static Slot, MappingError> {
        self.forget_parents();
        for (index, slot) in self.slots.iter().enumerate() {
            if slot.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            slot.start.store(entry.start, Ordering::Relaxed);
            slot.end.store(entry.end, Ordering::Relaxed);
            slot.entry.store(Box::into_raw(Box::new(entry)), Ordering::SeqCst);
            self.used.fetch_max(index + 1, Ordering::Release);
            return Ok(slot);
        }
        Err(MappingError::TooManyRegions { max: SLOTS })
    }
}

impl Registry {
    /// In a forked child: its copies of the entries are the parent's regions, which the child does not have. They are not freed: a
    /// thread that the child has not either may have been with one.
    fn forget_parents(&self) {
        let process = std::process::id();
        let before = self.process.swap(process, Ordering::AcqRel);
        if before == 0 || before == process {
            return;
        }
        for slot in &self.slots {
            slot.entry.store(null_mut(), Ordering::SeqCst);
            slot.readers.store(0, Ordering::SeqCst);
            slot.claimed.store(false, Ordering::Release);
        }
    }
}

impl Slot {
    const fn empty() -> Slot {
        Slot {
            claimed: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
            entry: AtomicPtr::new(null_mut()),
        }
    }

    fn read(&self) -> Option<Reader<'_>> {
        // Not needed for safety: once an entry was taken out, nobody is counted any more, so its remover need not wait long.
        if self.entry.load(Ordering::Relaxed).is_null() {
            return None;
        }
        self.readers.fetch_add(1, Ordering::SeqCst);
        // From here on the reader's end takes the count back.
        let reader = Reader { slot: self, entry: self.entry.load(Ordering::SeqCst) };
        if reader.entry.is_null() { None } else { Some(reader) }
    }
}

impl Deref for Reader<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        // SAFETY: not null (see `read`), and not freed while this reader is counted.
        unsafe { &*self.entry }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.slot.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A region's place in the table. While it stands, faults in the range go to the sink.
pub(crate) struct Registration {
    slot: &'static Slot,
    /// What was taken out and is not freed yet.
    taken: AtomicPtr<Entry>,
}

impl Registration {
    /// Brings faults in the range to the entry's sink from now on.
    pub(crate) fn new(entry: Entry) -> Result<Registration, MappingError> {
        let slot = REGISTRY.insert(entry)?;
        Ok(Registration { slot, taken: AtomicPtr::new(null_mut()) })
    }

    /// Brings no more faults to the sink, and frees it when none is with it any more. Returns whether it is gone.
    pub(crate) fn retire(&self, timeout: Duration) -> bool {
        let entry = self.slot.entry.swap(null_mut(), Ordering::SeqCst);
        if !entry.is_null() {
            self.taken.store(entry, Ordering::Release);
        }
        let begin = Instant::now();
        while self.slot.readers.load(Ordering::SeqCst) > 0 {
            if begin.elapsed() >= timeout {
                return false;
            }
            thread::sleep(POLL_INTERVAL);
        }
        let entry = self.taken.swap(null_mut(), Ordering::AcqRel);
        if !entry.is_null() {
            // SAFETY: made by `Box::into_raw`, taken out of the slot and then out of `taken`, so only here; and no
            // reader was left after that.
            drop(unsafe { Box::from_raw(entry) });
        }
        true
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Whoever drops it has retired it before, or never told anybody the address. If a reader is left all the same, the
        // entry and its slot stay for the rest of the process's life. The slot is free for others from here on and not
        // from `retire` on, which may be repeated and must not take out an entry of theirs.
        if self.retire(Duration::ZERO) {
            self.slot.claimed.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Resolution};
    use std::sync::atomic::AtomicU64;

    struct Counter(AtomicU64);

    impl FaultSink for Counter {
        fn resolve(&self, _: Fault) -> Resolution {
            self.0.fetch_add(1, Ordering::Relaxed);
            Resolution::Resolved
        }
    }

    fn counter() -> Arc<Counter> {
        Arc::new(Counter(AtomicU64::new(0)))
    }

    fn register(start: usize, bytes: usize, key: u32, sink: Arc<Counter>) -> Registration {
        let entry = Entry { start, end: start + bytes, kind: PagerKind::Sigbus, key: RegionKey(key), sink };
        Registration::new(entry).unwrap()
    }

    #[test]
    fn an_address_is_found_from_the_first_byte_to_the_last_and_no_longer_than_registered() {
        let base = 0x7100_0000_0000;
        let registration = register(base, 0x2000, 7, counter());
        assert!(REGISTRY.find(base - 1).is_none());
        assert_eq!(REGISTRY.find(base).unwrap().key, RegionKey(7));
        assert_eq!(REGISTRY.find(base + 0x1fff).unwrap().key, RegionKey(7));
        assert!(REGISTRY.find(base + 0x2000).is_none());
        assert!(registration.retire(Duration::ZERO));
        assert!(REGISTRY.find(base).is_none());
    }

    #[test]
    fn to_retire_twice_does_not_touch_the_next_user_of_the_slot() {
        let base = 0x7400_0000_0000;
        let first = register(base, 0x1000, 1, counter());
        assert!(first.retire(Duration::ZERO));
        let second = register(base, 0x1000, 2, counter());
        assert!(first.retire(Duration::ZERO));
        drop(first);
        assert_eq!(REGISTRY.find(base).unwrap().key, RegionKey(2));
        drop(second);
        assert!(REGISTRY.find(base).is_none());
    }

    #[test]
    fn an_entry_in_use_is_not_freed() {
        let base = 0x7200_0000_0000;
        let sink = counter();
        let registration = register(base, 0x1000, 1, sink.clone());
        let reader = REGISTRY.find(base).unwrap();
        assert!(!registration.retire(Duration::from_millis(1)));
        assert!(REGISTRY.find(base).is_none(), "no new reader after it was retired");
        assert_eq!(Arc::strong_count(&sink), 2);
        drop(reader);
        assert!(registration.retire(Duration::ZERO));
        assert_eq!(Arc::strong_count(&sink), 1);
    }

    #[test]
    fn readers_and_removers_race_without_harm() {
        const ROUNDS: u32 = 500;
        let base = 0x7300_0000_0000;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        if let Some(reader) = REGISTRY.find(base) {
                            assert_eq!(
                                (reader.start, reader.end, reader.key),
                                (base, base + 0x1000, RegionKey(3))
                            );
                            let fault = Fault { region: reader.key, page: 0, access: crate::Access::Read };
                            assert_eq!(reader.sink.resolve(fault), Resolution::Resolved);
                        }
                        thread::yield_now();
                    }
                });
            }
            for _ in 0..ROUNDS {
                let sink = counter();
                let registration = register(base, 0x1000, 3, sink.clone());
                thread::yield_now();
                assert!(registration.retire(Duration::from_secs(10)));
                assert_eq!(Arc::strong_count(&sink), 1);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
