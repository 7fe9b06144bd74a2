//! A region can go at any time without harm to others, and not before the last fault in it is done with: its sink and its memory
//! are in use until then.

mod common;

use common::{exits_with, fetch, load, region, remote_page, scenario, wait_until};
use pagemesh_memory::{
    Fault, FaultSink, Mapping, MappingOptions, PAGE_BYTES, PagerKind, RegionKey, Resolution,
};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

crate::for_every_pager! {
    a_region_stays_until_the_last_fault_in_it_is_done_with,
    a_dropped_region_lets_go_of_its_sink,
    regions_come_and_go_while_others_are_in_use,
}

/// Keeps a fault until it is told to let go.
#[derive(Default)]
struct Keeper {
    entered: AtomicBool,
    let_go: AtomicBool,
    left: AtomicBool,
}

impl FaultSink for Keeper {
    fn resolve(&self, _: Fault) -> Resolution {
        self.entered.store(true, Ordering::SeqCst);
        wait_until("the fault may go", || self.let_go.load(Ordering::SeqCst));
        self.left.store(true, Ordering::SeqCst);
        Resolution::Failed
    }
}

/// Keeps the thread whose page could not be had.
extern "C" fn park(_: libc::c_int) {
    loop {
        thread::sleep(Duration::from_mins(1));
    }
}

fn is_asleep(thread: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('S')
}

/// Drops a region while a fault in it is being resolved.
fn drop_under_a_fault(kind: PagerKind) -> bool {
    // With the `handler` pager, the thread whose page could not be had may come back to find nothing there at all.
    for signal in [libc::SIGBUS, libc::SIGSEGV] {
        // SAFETY: `park` takes the one argument that a handler without flags gets.
        unsafe { libc::signal(signal, park as *const () as usize) };
    }
    let sink = Arc::new(Keeper::default());
    let mapping =
        Mapping::new(MappingOptions::new(RegionKey(0), PAGE_BYTES).pager(kind), sink.clone()).unwrap();
    let address = mapping.base();
    // SAFETY: the region is gone only when this thread was parked in the handler, for good.
    thread::spawn(move || unsafe { (address as *const u8).read_volatile() });
    wait_until("the fault is with the sink", || sink.entered.load(Ordering::SeqCst));

    let dropper = Arc::new(AtomicI32::new(0));
    let inside = dropper.clone();
    let observer = sink.clone();
    let drop_it = thread::spawn(move || {
        // SAFETY: asks for a number.
        inside.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        drop(mapping);
        observer.left.load(Ordering::SeqCst)
    });
    // The only thing in there that a thread could sleep for is the fault.
    wait_until("the drop waits", || match dropper.load(Ordering::SeqCst) {
        0 => false,
        thread => is_asleep(thread),
    });
    let mapped_meanwhile = fs::read_to_string("/proc/self/maps").unwrap().contains("memfd:pagemesh");
    sink.let_go.store(true, Ordering::SeqCst);
    let waited = drop_it.join().unwrap();
    let gone = !fs::read_to_string("/proc/self/maps").unwrap().contains("memfd:pagemesh");
    waited && mapped_meanwhile && gone && Arc::strong_count(&sink) == 1
}

/// Where a process of its own begins. In an ordinary run of the tests there is no scenario to play.
#[test]
fn entry() {
    if let Some((kind, _)) = scenario() {
        let right = drop_under_a_fault(kind);
        // SAFETY: ends the process, although one of its threads is parked.
        unsafe { libc::_exit(if right { 42 } else { 43 }) };
    }
}

fn a_region_stays_until_the_last_fault_in_it_is_done_with(kind: PagerKind) {
    exits_with(42, kind, "entry", "drop under a fault");
}

fn a_dropped_region_lets_go_of_its_sink(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, fetch);
    load(&mapping, 0);
    assert_eq!(Arc::strong_count(&sink), 2);
    drop(mapping);
    assert_eq!(Arc::strong_count(&sink), 1);
}

fn regions_come_and_go_while_others_are_in_use(kind: PagerKind) {
    let (lasting, sink) = region(kind, 64, fetch);
    thread::scope(|scope| {
        scope.spawn(|| {
            for page in 0..64 {
                assert_eq!(load(&lasting, page * PAGE_BYTES + 2), remote_page(page as u64)[2]);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..100 {
                    let (mapping, sink) = region(kind, 1 + round % 5, fetch);
                    assert_eq!(load(&mapping, 9), remote_page(0)[9]);
                    assert_eq!(sink.counts(), (1, 0));
                }
            });
        }
    });
    assert_eq!(sink.counts(), (64, 0));
}
