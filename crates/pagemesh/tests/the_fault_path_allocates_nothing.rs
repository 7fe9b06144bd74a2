//! A page fault is resolved between two instructions of arbitrary code, which may be inside the allocator and hold its lock: whoever
//! allocates in the fault handler waits for that lock for ever, once in a million faults. So every allocation of a process is
//! counted here while its threads fault, and while it serves the faults of others: there must be none, whoever has the page.
//!
//! In a release region nothing of what others wrote is seen before a node synchronises, and what ends an interval does allocate; so the steps are
//! counted there beside a word in another region that says how far they are.

mod cluster;

use cluster::{Node, PATIENCE, everywhere, play, start_with};
use pagemesh::{Mesh, NodeId, Placement, Protocol, RegionOptions, SharedSlice, Unit};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const TEST: &str = "faults_and_their_service_allocate_nothing";
const PAGES: usize = 64;
const WORDS: usize = 512;
const HOME: NodeId = NodeId::new(0);
const THIRD: NodeId = NodeId::new(2);

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn note() {
    if COUNTS.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // To free takes the allocator's lock as well.
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one node does to every page while all count.
type Step = (NodeId, fn(&SharedSlice<u64>, usize));

fn read(words: &SharedSlice<u64>, page: usize) {
    words.get(page * WORDS).unwrap();
}

fn write(words: &SharedSlice<u64>, page: usize) {
    words.set(page * WORDS, page as u64).unwrap();
}

/// First touches here and elsewhere, misses of clean pages and of pages modified at a third node, upgrades with other sharers.
const STEPS: [Step; 9] = [
    (HOME, read),
    (THIRD, read),
    (NodeId::new(1), read),
    (NodeId::new(1), write),
    (THIRD, read),
    (HOME, write),
    (THIRD, write),
    (NodeId::new(1), read),
    (THIRD, write),
];

/// Waits until all nodes have come here after step `number`.
fn await_all(mesh: &Mesh, done: &SharedSlice<u64>, word: usize, number: usize) {
    let deadline = Instant::now() + PATIENCE;
    done.fetch_add(word, 1).unwrap();
    while done.get(word).unwrap() < ((number + 1) * mesh.nodes()) as u64 {
        assert!(Instant::now() < deadline, "not all have come");
        std::thread::yield_now();
    }
}

/// Allocations of this process in each step, those that had some. The memory goes to `kept`: a region that goes is forgotten some time later, and
/// would be counted by the next.
fn count(mesh: &Mesh, options: RegionOptions, name: &str, kept: &mut Vec<SharedSlice<u64>>) -> Vec<String> {
    let words: SharedSlice<u64> = mesh.region(name, options).unwrap().slice(0, PAGES * WORDS).unwrap();
    let options = RegionOptions::new(4096);
    let done: SharedSlice<u64> =
        mesh.region(&format!("{name} done"), options).unwrap().slice(0, WORDS).unwrap();
    // A region that goes is let go of by the service thread, some time later.
    kept.extend([words.clone(), done.clone()]);
    let turn = mesh.barrier(1);
    let mut found = Vec::with_capacity(STEPS.len());
    for (number, (node, step)) in STEPS.into_iter().enumerate() {
        turn.wait().unwrap();
        // Whoever opened the barrier may still be at it when its own thread goes on, and what ended an interval may be on its way.
        await_all(mesh, &done, 2, number);
        ALLOCATIONS.store(0, Ordering::SeqCst);
        COUNTS.store(true, Ordering::SeqCst);
        if node == mesh.node() {
            for page in 0..PAGES {
                step(&words, page);
            }
            done.set(0, number as u64 + 1).unwrap();
        }
        // Not a barrier: what ends an interval is no part of a fault.
        let deadline = Instant::now() + PATIENCE;
        while done.get(0).unwrap() <= number as u64 {
            assert!(Instant::now() < deadline, "the step does not end");
            std::thread::yield_now();
        }
        COUNTS.store(false, Ordering::SeqCst);
        // Nor before all have stopped counting.
        await_all(mesh, &done, 1, number);
        let allocations = ALLOCATIONS.load(Ordering::SeqCst);
        if allocations > 0 {
            found.push(format!("{name}, step {number}: {allocations}"));
        }
    }
    kept.extend([words, done]);
    found
}

fn node(mesh: Mesh) {
    let (mut found, mut kept) = (Vec::new(), Vec::new());
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release] {
        for (placement, unit) in [
            (Placement::Single(HOME), Unit::Page),
            (Placement::Cyclic, Unit::Page),
            (Placement::Cyclic, Unit::KiB64),
        ] {
            let options = RegionOptions::new(PAGES * 4096).protocol(protocol);
            let options = options.placement(placement).unit(unit.bytes());
            let name = format!("{protocol:?} {placement:?} {unit:?}");
            found.extend(count(&mesh, options, &name, &mut kept));
        }
    }
    // What is not counted for sure is not shown to be nothing.
    COUNTS.store(true, Ordering::SeqCst);
    drop(std::hint::black_box(Box::new(1)));
    assert!(ALLOCATIONS.swap(0, Ordering::SeqCst) >= 2, "allocations are not counted");
    COUNTS.store(false, Ordering::SeqCst);
    say!("{}", if found.is_empty() { "none".to_owned() } else { found.join("; ") });
    drop(kept);
    mesh.leave().unwrap();
}

#[test]
fn faults_and_their_service_allocate_nothing() {
    play(TEST, node);
    everywhere(|| {
        for tracking in ["on", "off"] {
            let nodes = start_with(TEST, 3, &[("PAGEMESH_TRACK_WRITES", tracking)]);
            for (node, said) in nodes.into_iter().map(Node::rest).enumerate() {
                assert_eq!(said, ["none"], "allocations on node {node}, tracking {tracking}");
            }
        }
    });
}
