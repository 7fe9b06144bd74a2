//! When an operation that takes rights away has returned, no thread uses them any more: the bytes read from the service view after
//! that are what the page was at one moment, and nothing written later gets lost in it. Coherence stands on this.
//!
//! `PAGEMESH_MEMORY_TORN_ROUNDS` says how often a page is taken away and looked at; a million, in a release build, takes some
//! minutes:
//!
//! ```text
//! PAGEMESH_MEMORY_TORN_ROUNDS=1000000 cargo test --release -p pagemesh-memory --test rights_go_before_bytes
//! ```

mod common;

use common::{DEADLINE, address, grant, region};
use pagemesh_memory::{Access, Fault, Mapping, PAGE_BYTES, PageRange, PagerKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

crate::for_every_pager! {
    a_page_read_after_it_was_unmapped_is_never_torn,
    a_page_read_after_it_was_protected_is_never_torn,
    nothing_is_lost_when_pages_are_taken_away_under_threads_that_write,
}

const WORDS: usize = PAGE_BYTES / size_of::<u64>();

/// The words of a page in the app view, for ordinary atomic instructions.
fn words(mapping: &Mapping, page: usize) -> &[AtomicU64; WORDS] {
    // SAFETY: aligned, in the app view, which is mapped as long as `mapping` lives; all uses are atomic.
    unsafe { &*address(mapping, page * PAGE_BYTES).cast() }
}

/// Ends the other threads of a test, also when it fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How often a page is looked at unless someone says otherwise.
const ROUNDS: u32 = 20_000;

/// How often a page is looked at, and how long that may take.
fn effort() -> (u32, Duration) {
    let asked = std::env::var("PAGEMESH_MEMORY_TORN_ROUNDS").ok();
    let rounds = asked.map_or(ROUNDS, |text| text.parse().expect("PAGEMESH_MEMORY_TORN_ROUNDS is a number"));
    (rounds, DEADLINE * rounds.div_ceil(ROUNDS))
}

/// Rounds that `take` away the right to write and then look at the page, while a thread fills it again and again, from the
/// first word to the last, each time with the next number. A page as it was at one moment is a number up to some word, and
/// the number before it from there on. As many rounds as it takes to see that often.
fn rounds(kind: PagerKind, take: fn(&Mapping)) {
    const SEEN_IN_THE_MIDDLE: u32 = 100;
    const TAKEN_FROM_THE_OTHER: u64 = 20;
    // Held while a page is taken away and read: whoever wants it back meanwhile has to wait for it, as for another node.
    let taken = Arc::new(Mutex::new(()));
    let inside = taken.clone();
    let (mapping, sink) = region(kind, 1, move |mapping: &Mapping, fault: Fault| {
        let _taken = inside.lock().unwrap();
        grant(mapping, fault)
    });
    mapping.service().zero_page(0);
    let done = AtomicBool::new(false);
    let mut in_the_middle = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let words = words(&mapping, 0);
            for number in 1_u64.. {
                for word in words {
                    word.store(number, Ordering::Relaxed);
                }
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _finish = Finish(&done);
        common::wait_until("the other thread writes", || sink.writes() > 0);
        let begin = Instant::now();
        let (rounds, deadline) = effort();
        let mut round = 0;
        while round < rounds || in_the_middle < SEEN_IN_THE_MIDDLE || sink.writes() < TAKEN_FROM_THE_OTHER {
            let mut page = [0; PAGE_BYTES];
            {
                let _taken = taken.lock().unwrap();
                take(&mapping);
                mapping.service().read_page(0, &mut page);
            }
            let (words, _) = page.as_chunks::<8>();
            let number = u64::from_le_bytes(words[0]);
            let written = words.iter().take_while(|word| u64::from_le_bytes(**word) == number).count();
            let is_older = |word: &[u8; 8]| number.checked_sub(1) == Some(u64::from_le_bytes(*word));
            assert!(
                words[written..].iter().all(is_older),
                "torn: {number} up to word {written}, round {round}"
            );
            in_the_middle += u32::from(written < WORDS);
            round += 1;
            assert!(
                begin.elapsed() < deadline,
                "{round} rounds, {in_the_middle} in the middle, {} writes in {deadline:?}",
                sink.writes()
            );
        }
    });
}

fn a_page_read_after_it_was_unmapped_is_never_torn(kind: PagerKind) {
    rounds(kind, |mapping| mapping.pager().unmap(PageRange::one(0)).unwrap());
}

fn a_page_read_after_it_was_protected_is_never_torn(kind: PagerKind) {
    rounds(kind, |mapping| mapping.pager().protect(PageRange::one(0)).unwrap());
}

fn nothing_is_lost_when_pages_are_taken_away_under_threads_that_write(kind: PagerKind) {
    const THREADS: usize = 3;
    const ROUNDS: u64 = 10_000;
    const FAULTS: u64 = 30;
    let (mapping, sink) = region(kind, 2, grant);
    mapping.service().zero_page(0);
    mapping.service().zero_page(1);
    let done = AtomicBool::new(false);
    let additions: u64 = thread::scope(|scope| {
        let threads = [0; THREADS].map(|_| scope.spawn(|| add_until(&mapping, &done)));
        let _finish = Finish(&done);
        let begin = Instant::now();
        let mut round = 0;
        while round < ROUNDS || sink.writes() < FAULTS {
            match round % 4 {
                0 => mapping.pager().unmap(PageRange::one(0)).unwrap(),
                1 => mapping.pager().protect(PageRange::one(1)).unwrap(),
                2 => mapping.pager().unmap(PageRange::new(0, 2)).unwrap(),
                _ => mapping.pager().map(PageRange::one(0), Access::Read).unwrap(),
            }
            round += 1;
            assert!(begin.elapsed() < DEADLINE, "{round} rounds, {:?} faults in {DEADLINE:?}", sink.counts());
        }
        done.store(true, Ordering::SeqCst);
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    let sum = mapping.load_u64(0).unwrap() + mapping.load_u64(PAGE_BYTES).unwrap();
    assert_eq!(sum, additions);
}

/// Adds to the first word of each page in turn, until `done`. Returns how often.
fn add_until(mapping: &Mapping, done: &AtomicBool) -> u64 {
    let mut additions = 0;
    while !done.load(Ordering::SeqCst) {
        words(mapping, additions as usize % 2)[0].fetch_add(1, Ordering::SeqCst);
        additions += 1;
    }
    additions
}
