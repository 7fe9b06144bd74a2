//! What each page of an app view allows, and how to change that with few system calls and few mappings.

use super::ledger::Ledger;
use crate::PageRange;
use crate::pager::PagerError;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::slice;

/// Pages of a window: what is looked at, and taken away when mappings run out, together. One table of the processor.
const WINDOW_PAGES: usize = 512;

/// When mappings run out, windows are taken away until so many are free again, so that it need not be done at every fault.
const FREED_MIN: usize = 64;

/// What a page allows. Zero is absent, so fresh memory is a table of absent pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Rights {
    Absent = 0,
    Read = 1,
    Write = 2,
}

/// Who splits the mapping.
pub(super) trait Splitter {
    /// Gives these pages these rights.
    fn protect(&self, pages: Range<usize>, rights: Rights) -> Result<(), Errno>;
}

/// The rights of every page. As large as a 4096th of the region, and in memory only where pages were granted.
pub(super) struct Table<S> {
    splitter: S,
    ledger: &'static Ledger,
    states: Zeroed<Rights>,
    /// How many pages of each window are not absent.
    granted: Zeroed<u16>,
    /// Between how many neighbours the rights differ: the mappings beyond the first.
    splits: usize,
    /// The window at which to look next for something to take away.
    hand: usize,
}

impl<S: Splitter> Table<S> {
    /// A table of absent pages.
    pub(super) fn new(pages: usize, splitter: S, ledger: &'static Ledger) -> Result<Table<S>, Errno> {
        Ok(Table {
            splitter,
            ledger,
            states: Zeroed::new(pages)?,
            granted: Zeroed::new(pages.div_ceil(WINDOW_PAGES))?,
            splits: 0,
            hand: 0,
        })
    }

    /// Gives every page of `pages` the rights that `next` says for those that it has, one call for each run that gets equal
    /// ones.
    pub(super) fn change(
        &mut self,
        pages: Range<usize>,
        next: fn(Rights) -> Rights,
    ) -> Result<(), PagerError> {
        let mut at = pages.start;
        while at < pages.end {
            let target = next(self.state(at));
            let (end, differs) = self.run(at..pages.end, next, target);
            if differs {
                self.apply(at..end, target)?;
            }
            at = end;
        }
        Ok(())
    }

    /// How far the pages go from the start of `pages` on that are to get `target`, and whether one of them does not have it.
    fn run(&self, pages: Range<usize>, next: fn(Rights) -> Rights, target: Rights) -> (usize, bool) {
        let (mut at, mut differs) = (pages.start, false);
        while at < pages.end {
            if self.is_empty_from(at) {
                if next(Rights::Absent) != target {
                    break;
                }
                differs |= target != Rights::Absent;
                at = (at + WINDOW_PAGES).min(pages.end);
                continue;
            }
            let state = self.state(at);
            if next(state) != target {
                break;
            }
            differs |= state != target;
            at += 1;
        }
        (at, differs)
    }

    fn apply(&mut self, pages: Range<usize>, target: Rights) -> Result<(), PagerError> {
        let mut refused = false;
        loop {
            let cost = self.cost(&pages, target);
            if self.ledger.take(cost) {
                let Err(errno) = self.splitter.protect(pages.clone(), target) else {
                    self.set(pages, target);
                    self.splits = self.splits.strict_add_signed(cost);
                    return Ok(());
                };
                self.ledger.take(-cost);
                // The kernel may have come some of the way.
                self.take_everything_away(&pages)?;
                if refused || errno != Errno::NOMEM {
                    return if target == Rights::Absent { Ok(()) } else { Err(self.failure(&pages, errno)) };
                }
                refused = true;
            } else if !self.make_room(&pages)? {
                if self.granted.iter().all(|granted| *granted == 0) {
                    return Err(self.ceiling(&pages));
                }
                self.take_everything_away(&pages)?;
                if target == Rights::Absent {
                    return Ok(());
                }
            }
        }
    }

    /// How many mappings more there are when `pages` have got `target`.
    fn cost(&self, pages: &Range<usize>, target: Rights) -> isize {
        let last_border = pages.end.min(self.states.len() - 1);
        let before = self.borders(pages.start.max(1)..last_border + 1);
        let left = pages.start > 0 && self.state(pages.start - 1) != target;
        let right = pages.end < self.states.len() && self.state(pages.end) != target;
        isize::from(left) + isize::from(right) - before.cast_signed()
    }

    /// Which of `pages` differ from the one before, in number.
    fn borders(&self, pages: Range<usize>) -> usize {
        let (mut at, mut count) = (pages.start, 0);
        while at < pages.end {
            if self.is_empty_from(at) && self.granted[at / WINDOW_PAGES - 1] == 0 {
                at += WINDOW_PAGES;
                continue;
            }
            count += usize::from(self.state(at) != self.state(at - 1));
            at += 1;
        }
        count
    }

    /// Whether a window begins here in which all pages are absent. (The first has no neighbour: it is looked at page by page.)
    fn is_empty_from(&self, page: usize) -> bool {
        page > 0 && page.is_multiple_of(WINDOW_PAGES) && self.granted[page / WINDOW_PAGES] == 0
    }

    fn state(&self, page: usize) -> Rights {
        self.states[page]
    }

    fn set(&mut self, pages: Range<usize>, rights: Rights) {
        for window in self.windows(&pages) {
            let first = window * WINDOW_PAGES;
            if rights == Rights::Absent && self.granted[window] == 0 {
                continue;
            }
            let end = (first + WINDOW_PAGES).min(pages.end);
            let states = &mut self.states[first.max(pages.start)..end];
            let before = states.iter().filter(|state| **state != Rights::Absent).count() as u16;
            let after = if rights == Rights::Absent { 0 } else { states.len() as u16 };
            states.fill(rights);
            self.granted[window] = self.granted[window] - before + after;
        }
    }

    /// The windows in which `pages` lie.
    fn windows(&self, pages: &Range<usize>) -> Range<usize> {
        pages.start / WINDOW_PAGES..pages.end.div_ceil(WINDOW_PAGES).min(self.granted.len())
    }

    /// Takes rights away somewhere, but not near `pages`, where that makes the mappings fewer. Returns whether it found
    /// something.
    fn make_room(&mut self, pages: &Range<usize>) -> Result<bool, PagerError> {
        let spared = self.windows(pages);
        let windows = self.granted.len();
        let mut freed = 0;
        for _ in 0..windows {
            let window = self.hand;
            self.hand = (self.hand + 1) % windows;
            if self.granted[window] == 0 || spared.contains(&window) {
                continue;
            }
            let first = window * WINDOW_PAGES;
            let victims = first..(first + WINDOW_PAGES).min(self.states.len());
            let cost = self.cost(&victims, Rights::Absent);
            if cost >= 0 {
                continue;
            }
            self.splitter
                .protect(victims.clone(), Rights::Absent)
                .map_err(|errno| self.failure(&victims, errno))?;
            self.set(victims, Rights::Absent);
            self.ledger.take(cost);
            self.splits = self.splits.strict_add_signed(cost);
            freed += cost.unsigned_abs();
            if freed >= FREED_MIN {
                break;
            }
        }
        Ok(freed > 0)
    }

    /// Makes every page absent, which needs no mapping more than there are. `pages` are what it is done for.
    fn take_everything_away(&mut self, pages: &Range<usize>) -> Result<(), PagerError> {
        let all = 0..self.states.len();
        self.splitter.protect(all.clone(), Rights::Absent).map_err(|errno| self.failure(pages, errno))?;
        self.set(all, Rights::Absent);
        self.ledger.take(-self.splits.cast_signed());
        self.splits = 0;
        Ok(())
    }

    fn failure(&self, pages: &Range<usize>, errno: Errno) -> PagerError {
        match errno {
            Errno::NOMEM => self.ceiling(pages),
            errno => PagerError::Failed { call: "mprotect", pages: page_range(pages), errno },
        }
    }

    fn ceiling(&self, pages: &Range<usize>) -> PagerError {
        let used = self.ledger.used().max(0).cast_unsigned();
        PagerError::Ceiling { pages: page_range(pages), used, max_map_count: self.ledger.max() }
    }
}

impl<S> Drop for Table<S> {
    fn drop(&mut self) {
        self.ledger.take(-self.splits.cast_signed());
    }
}

fn page_range(pages: &Range<usize>) -> PageRange {
    PageRange::new(pages.start as u64, pages.len() as u64)
}

/// A slice of zeros that costs memory only where it was written, also when it is far larger than the machine.
struct Zeroed<T> {
    start: NonNull<T>,
    count: usize,
}

// SAFETY: it owns its memory, as a boxed slice does.
unsafe impl<T: Send> Send for Zeroed<T> {}

impl<T> Zeroed<T> {
    /// `T` is one of the two types of this file, for which all bits zero is a value.
    fn new(count: usize) -> Result<Zeroed<T>, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory, at a place that the kernel chooses.
        let start = unsafe { mmap_anonymous(null_mut(), count * size_of::<T>(), rights, flags) }?;
        Ok(Zeroed { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, count })
    }
}

impl<T> std::ops::Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: mapped, of that size, aligned to a page, and of values (see `new`).
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> std::ops::DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and it is borrowed for this alone.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Zeroed<T> {
    fn drop(&mut self) {
        // SAFETY: it owns the memory, and nobody has a reference into it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A kernel that has so many mappings to give and no more.
    struct Kernel {
        states: RefCell<Vec<Rights>>,
        splits_max: usize,
        calls: Cell<usize>,
    }

    fn splits(states: &[Rights]) -> usize {
        states.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    impl Splitter for Kernel {
        fn protect(&self, pages: Range<usize>, rights: Rights) -> Result<(), Errno> {
            self.calls.set(self.calls.get() + 1);
            let mut states = self.states.borrow_mut();
            states[pages].fill(rights);
            if splits(&states) > self.splits_max { Err(Errno::NOMEM) } else { Ok(()) }
        }
    }

    fn ledger(max: usize) -> &'static Ledger {
        let ledger = Box::leak(Box::new(Ledger::new()));
        ledger.set_limit(max, 0);
        ledger
    }

    fn table(pages: usize, ledger: &'static Ledger, splits_max: usize) -> Table<Kernel> {
        let states = RefCell::new(vec![Rights::Absent; pages]);
        Table::new(pages, Kernel { states, splits_max, calls: Cell::new(0) }, ledger).unwrap()
    }

    /// What has to hold between any two operations.
    fn check(table: &Table<Kernel>) {
        let kernel = table.splitter.states.borrow();
        assert_eq!(*kernel, table.states[..], "the kernel and the table agree");
        assert_eq!(splits(&kernel), table.splits);
        for (window, granted) in table.granted.iter().enumerate() {
            let end = ((window + 1) * WINDOW_PAGES).min(kernel.len());
            let there = kernel[window * WINDOW_PAGES..end].iter().filter(|one| **one != Rights::Absent);
            assert_eq!(there.count(), usize::from(*granted), "window {window}");
        }
    }

    fn write(_: Rights) -> Rights {
        Rights::Write
    }

    fn absent(_: Rights) -> Rights {
        Rights::Absent
    }

    fn read(rights: Rights) -> Rights {
        rights.max(Rights::Read)
    }

    fn protect(rights: Rights) -> Rights {
        rights.min(Rights::Read)
    }

    /// A generator of numbers that look random: xorshift.
    fn random(state: &mut u64, below: usize) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state % below as u64) as usize
    }

    #[test]
    fn the_table_and_the_kernel_agree_whatever_is_done_and_the_limit_is_kept() {
        const PAGES: usize = 5 * WINDOW_PAGES + 77;
        for (seed, max) in [(1, 100_000), (2, 400), (3, 64), (4, 16), (5, 3)] {
            let ledger = ledger(max);
            let limit = max - max / 16;
            let mut table = table(PAGES, ledger, limit);
            let mut state = 0x9E37_79B9_7F4A_7C15 ^ seed;
            for _ in 0..4000 {
                let first = random(&mut state, PAGES);
                let length = [1, 1, 3, 600, PAGES][random(&mut state, 5)].min(PAGES - first);
                let next = [write, read, protect, absent, write, read][random(&mut state, 6)];
                let before: Vec<Rights> = table.states[first..first + length].to_vec();
                table.change(first..first + length, next).unwrap();
                check(&table);
                assert_eq!(ledger.used(), table.splits.cast_signed());
                assert!(table.splits <= limit);
                for (page, before) in (first..).zip(before) {
                    let (wanted, got) = (next(before), table.state(page));
                    assert!(got <= wanted, "page {page} got {got:?} for {wanted:?}");
                    // One page that is granted is there afterwards, however few mappings there are.
                    assert!(length > 1 || got == wanted || wanted == before, "page {page} is {got:?}");
                }
            }
        }
    }

    #[test]
    fn neighbours_are_granted_in_one_call_and_are_one_mapping() {
        let mut table = table(1000, ledger(1000), 1000);
        table.change(10..20, write).unwrap();
        table.change(20..700, write).unwrap();
        assert_eq!((table.splits, table.splitter.calls.get()), (2, 2));
        table.change(30..40, write).unwrap();
        table.change(800..1000, absent).unwrap();
        assert_eq!(table.splitter.calls.get(), 2, "nothing to do is no call");
        table.change(0..1000, protect).unwrap();
        assert_eq!((table.splits, table.splitter.calls.get()), (2, 3));
        table.change(0..1000, read).unwrap();
        assert_eq!((table.splits, table.splitter.calls.get()), (0, 4));
    }

    #[test]
    fn a_table_that_has_nothing_to_give_up_says_so_and_can_still_take_away() {
        let ledger = ledger(2);
        let mut hungry = table(10, ledger, 100);
        hungry.change(5..6, write).unwrap();
        let mut other = table(10, ledger, 100);
        let error = other.change(3..4, write).unwrap_err();
        assert_eq!(error, PagerError::Ceiling { pages: PageRange::one(3), used: 2, max_map_count: 2 });
        let text = error.to_string();
        assert!(text.contains("page 3") && text.contains("vm.max_map_count"), "{text}");
        other.change(0..10, write).unwrap();
        other.change(4..5, absent).unwrap();
        check(&other);
        assert_eq!(other.state(4), Rights::Absent);
        drop(hungry);
        assert_eq!(ledger.used(), 0);
        other.change(3..4, write).unwrap();
    }

    /// Others have taken the mappings that were meant to be ours.
    #[test]
    fn a_kernel_that_refuses_before_the_limit_is_an_error_and_leaves_no_right_too_many() {
        let mut table = table(2000, ledger(100_000), 10);
        for page in (0..1000).step_by(2) {
            // When it refuses, all is taken away, and the one page is granted.
            table.change(page..page + 1, write).unwrap();
            check(&table);
            assert_eq!(table.state(page), Rights::Write);
        }
        table.splitter.splits_max = 0;
        assert!(matches!(table.change(77..78, write), Err(PagerError::Ceiling { .. })));
        check(&table);
        table.splitter.splits_max = 100;
        table.change(0..2000, write).unwrap();
        table.splitter.splits_max = 0;
        table.change(77..78, absent).unwrap();
        check(&table);
        assert_eq!(table.state(77), Rights::Absent);
    }
}
