//! Any thread may touch a region, whoever created it, also several at once on the same page: applications bring threads that we
//! never hear of.

mod common;

use common::{address, fetch, fetch_zeros, load, region, remote_page};
use pagemesh_memory::{Mapping, PAGE_BYTES, PagerKind};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

crate::for_every_pager! {
    threads_that_miss_the_same_page_at_once_all_see_its_bytes,
    threads_that_miss_different_pages_at_once_fault_once_for_each,
    readers_and_writers_that_miss_a_page_at_once_lose_nothing,
    a_thread_that_rust_knows_nothing_of_faults_like_any_other,
    a_thread_with_a_small_stack_can_fault,
}

const THREADS: usize = 6;

/// A word of the app view, for ordinary atomic instructions.
fn word(mapping: &Mapping, byte_offset: usize) -> &AtomicU64 {
    // SAFETY: aligned, in the app view, which is mapped as long as `mapping` lives; all uses are atomic.
    unsafe { AtomicU64::from_ptr(address(mapping, byte_offset).cast()) }
}

fn threads_that_miss_the_same_page_at_once_all_see_its_bytes(kind: PagerKind) {
    const ROUNDS: u64 = 200;
    let (mapping, sink) = region(kind, ROUNDS as usize, fetch);
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (mapping, start) = (&mapping, &start);
            scope.spawn(move || {
                for page in 0..ROUNDS {
                    start.wait();
                    let index = thread * 600 + 1;
                    assert_eq!(load(mapping, page as usize * PAGE_BYTES + index), remote_page(page)[index]);
                }
            });
        }
    });
    assert!((ROUNDS..=ROUNDS * THREADS as u64).contains(&sink.reads()), "{:?}", sink.counts());
    assert_eq!(sink.writes(), 0);
}

fn threads_that_miss_different_pages_at_once_fault_once_for_each(kind: PagerKind) {
    const PAGES: usize = 300;
    let (mapping, sink) = region(kind, PAGES * THREADS, fetch);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let mapping = &mapping;
            scope.spawn(move || {
                for page in (0..PAGES).map(|number| number * THREADS + thread) {
                    assert_eq!(load(mapping, page * PAGE_BYTES + 40), remote_page(page as u64)[40]);
                }
            });
        }
    });
    assert_eq!(sink.counts(), ((PAGES * THREADS) as u64, 0));
}

fn readers_and_writers_that_miss_a_page_at_once_lose_nothing(kind: PagerKind) {
    const ROUNDS: usize = 200;
    let (mapping, _) = region(kind, ROUNDS, fetch_zeros);
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (mapping, start) = (&mapping, &start);
            scope.spawn(move || {
                for page in 0..ROUNDS {
                    let word = word(mapping, page * PAGE_BYTES);
                    start.wait();
                    if thread % 2 == 0 {
                        word.fetch_add(1, Ordering::SeqCst);
                    } else {
                        assert!(word.load(Ordering::SeqCst) <= THREADS as u64);
                    }
                }
            });
        }
    });
    for page in 0..ROUNDS {
        assert_eq!(mapping.load_u64(page * PAGE_BYTES), Ok(THREADS as u64 / 2), "page {page}");
    }
}

extern "C" fn touch(argument: *mut c_void) -> *mut c_void {
    // SAFETY: the test passes an address in its app view, and waits for this thread before it drops the region.
    usize::from(unsafe { argument.cast::<u8>().read_volatile() }) as *mut c_void
}

fn a_thread_that_rust_knows_nothing_of_faults_like_any_other(kind: PagerKind) {
    let (mapping, sink) = region(kind, 3, fetch);
    let mut result = null_mut();
    // SAFETY: the thread gets a valid attribute set (none), function and argument, and is joined here.
    unsafe {
        let mut thread = std::mem::zeroed();
        assert_eq!(
            libc::pthread_create(
                &raw mut thread,
                null(),
                touch,
                address(&mapping, 2 * PAGE_BYTES + 3).cast()
            ),
            0
        );
        assert_eq!(libc::pthread_join(thread, &raw mut result), 0);
    }
    assert_eq!(result as usize, usize::from(remote_page(2)[3]));
    assert_eq!(sink.counts(), (1, 0));
}

fn a_thread_with_a_small_stack_can_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, fetch);
    let touched = thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(64 << 10);
        thread.spawn_scoped(scope, || load(&mapping, 77)).unwrap().join().unwrap()
    });
    assert_eq!(touched, remote_page(0)[77]);
    assert_eq!(sink.counts(), (1, 0));
}
