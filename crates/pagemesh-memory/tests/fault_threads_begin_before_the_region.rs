//! Whoever resolves faults must not allocate: the thread that waits may hold the allocator's lock. The beginning of a thread does allocate, twice.
//! On a loaded machine a thread that was started with the first region may get its first processor a second later, in the middle of the faults of
//! others. So a region of the `handler` pager is there only when the threads that resolve its faults have begun.

mod common;

use common::{can_have, fetch, load, region, wait_until};
use pagemesh_memory::PagerKind;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
/// Threads that allocated for the first time while it was counted.
static BORN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HAS_ALLOCATED: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if !HAS_ALLOCATED.replace(true) && COUNTS.load(Ordering::SeqCst) {
        BORN.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: everything is the system allocator's; noting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many threads resolve faults, and how many of those sleep; proc_pid_stat(5).
fn fault_threads() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let of_faults: Vec<String> = stats.filter(|stat| stat.contains("(pagemesh-fault)")).collect();
    let sleeping = of_faults.iter().filter(|stat| stat.contains(") S ")).count();
    (of_faults.len(), sleeping)
}

#[test]
fn no_thread_begins_after_the_region_is_there() {
    if !can_have(PagerKind::Handler) {
        return;
    }
    for _ in 0..50 {
        let (mapping, _) = region(PagerKind::Handler, 1, fetch);
        COUNTS.store(true, Ordering::SeqCst);
        // A thread has its name before it allocates, and sleeps only afterwards.
        wait_until("all threads wait for faults", || {
            let (all, sleeping) = fault_threads();
            all > 0 && all == sleeping
        });
        COUNTS.store(false, Ordering::SeqCst);
        load(&mapping, 0);
    }
    // What is not counted for sure is not shown to be nothing.
    COUNTS.store(true, Ordering::SeqCst);
    std::thread::spawn(|| drop(std::hint::black_box(Box::new(1)))).join().unwrap();
    assert_eq!(
        BORN.swap(0, Ordering::SeqCst),
        1,
        "threads that began late, and the last, which is to be counted"
    );
}
