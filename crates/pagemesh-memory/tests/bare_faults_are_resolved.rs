//! What pagemesh is measured against has to do what it says: resolve the faults of its own memory, and leave the process as it was. Else the
//! measured ratios are to a program that does less, or pagemesh's own faults stop being resolved beside it.

mod common;

use common::{can_have, load, region, remote_page};
use pagemesh_memory::{BareFaults, BareFaultsError, MappingError, PAGE_BYTES, PagerKind, PlainMemory};
use std::mem::zeroed;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGES: usize = 20;

/// One measurement at a time in a process; and nobody else changes its handlers.
static ALONE: Mutex<()> = Mutex::new(());

/// Memory of bare faults, where it can be had.
fn bare() -> Option<(MutexGuard<'static, ()>, BareFaults)> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    can_have(PagerKind::Sigbus).then(|| (alone, BareFaults::new(PAGES).unwrap()))
}

/// What SIGBUS does.
fn disposition() -> (usize, i32) {
    // SAFETY: without a new disposition the call only fills in the current one.
    unsafe {
        let mut found: libc::sigaction = zeroed();
        assert_eq!(libc::sigaction(libc::SIGBUS, null(), &raw mut found), 0);
        (found.sa_sigaction, found.sa_flags)
    }
}

fn first_word(bytes: &[u8; PAGE_BYTES]) -> u64 {
    u64::from_ne_bytes(*bytes.first_chunk().unwrap())
}

#[test]
fn a_page_that_is_read_holds_what_it_was_filled_with_and_faults_once() {
    let Some((_alone, mut bare)) = bare() else { return };
    let filled = AtomicUsize::new(0);
    for round in 0..3_u64 {
        bare.unmap().unwrap();
        let fill = |space: &mut pagemesh_memory::BareSpace<'_>| {
            filled.fetch_add(1, Ordering::Relaxed);
            space.write(&remote_page(space.page() as u64 + round));
            true
        };
        let found = bare.measure(&fill, |pages| {
            let twice = (0..PAGES).rev().chain(0..PAGES);
            twice.map(|page| (page as u64, pages.load(page))).collect::<Vec<_>>()
        });
        for (page, found) in found.unwrap() {
            assert_eq!(found, first_word(&remote_page(page + round)), "page {page} in round {round}");
        }
        assert_eq!(filled.swap(0, Ordering::Relaxed), PAGES);
    }
}

#[test]
fn bytes_come_from_memory_that_processes_share_and_stay_while_a_page_is_absent() {
    let Some((_alone, mut bare)) = bare() else { return };
    let plain = PlainMemory::open(PlainMemory::file(2 * PAGE_BYTES).unwrap()).unwrap();
    let fetch = |space: &mut pagemesh_memory::BareSpace<'_>| {
        plain.store(PAGE_BYTES, &(space.page() as u64 + 7).to_ne_bytes());
        space.copy_from(&plain, PAGE_BYTES);
        true
    };
    let read = |pages: &pagemesh_memory::BarePages<'_>| (0..PAGES).map(|page| pages.load(page)).collect();
    let expected: Vec<u64> = (7..7 + PAGES as u64).collect();
    let found: Vec<u64> = bare.measure(&fetch, read).unwrap();
    assert_eq!(found, expected);
    bare.unmap().unwrap();
    bare.write(3, &remote_page(3));
    let found: Vec<u64> = bare.measure(&|_| true, read).unwrap();
    assert_eq!(found[3], first_word(&remote_page(3)));
    assert_eq!((&found[..3], &found[4..]), (&expected[..3], &expected[4..]));
}

#[test]
fn a_write_to_a_protected_page_is_done_and_takes_no_filling() {
    let Some((_alone, mut bare)) = bare() else { return };
    bare.measure(&|_| true, |pages| (0..PAGES).for_each(|page| pages.store(page, page as u64))).unwrap();
    for round in 1..3_u64 {
        bare.protect().unwrap();
        let filled = AtomicUsize::new(0);
        let fill = |_: &mut pagemesh_memory::BareSpace<'_>| {
            filled.fetch_add(1, Ordering::Relaxed);
            true
        };
        bare.measure(&fill, |pages| {
            for page in 0..PAGES {
                assert_eq!(pages.load(page), page as u64 * round);
                pages.store(page, page as u64 * (round + 1));
                assert_eq!(pages.load(page), page as u64 * (round + 1));
            }
        })
        .unwrap();
        assert_eq!(filled.into_inner(), 0);
    }
}

#[test]
fn the_handler_is_there_only_while_something_is_measured_however_that_ends() {
    let Some((_alone, mut bare)) = bare() else { return };
    let before = disposition();
    let during = bare.measure(&|_| true, |_| disposition()).unwrap();
    assert_ne!(during.0, before.0);
    assert_eq!(disposition(), before);
    let refused =
        bare.measure(&|space| space.page() != 3, |pages| (0..PAGES).for_each(|page| _ = pages.load(page)));
    assert!(matches!(refused, Err(BareFaultsError::Unresolved)), "{refused:?}");
    assert_eq!(disposition(), before);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bare.measure(&|_| true, |_| std::panic::resume_unwind(Box::new(())))
    }));
    assert!(panicked.is_err());
    assert_eq!(disposition(), before);
    assert_ne!(bare.measure(&|_| true, |_| disposition()).unwrap().0, before.0);
}

#[test]
fn faults_of_a_region_are_resolved_while_the_handler_is_there_on_any_thread() {
    let Some((_alone, mut bare)) = bare() else { return };
    let (older, _) = region(PagerKind::Sigbus, PAGES, common::fetch);
    let before = disposition();
    let found = bare.measure(&|_| true, |pages| {
        let (newer, _) = region(PagerKind::Sigbus, PAGES, common::fetch);
        for (page, mapping) in [(1, &older), (2, &newer)] {
            assert_eq!(load(mapping, page * PAGE_BYTES), remote_page(page as u64)[0]);
            assert_eq!(pages.load(page), 0);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(load(&older, 3 * PAGE_BYTES + 9), remote_page(3)[9]));
        });
    });
    found.unwrap();
    assert_eq!(disposition(), before);
    assert_eq!(load(&older, 4 * PAGE_BYTES + 5), remote_page(4)[5]);
}

#[test]
fn two_at_a_time_and_what_cannot_be_are_refused() {
    let Some((_alone, mut bare)) = bare() else { return };
    let mut other = BareFaults::new(1).unwrap();
    assert_eq!((bare.pages(), other.pages()), (PAGES, 1));
    let inner = bare.measure(&|_| true, |_| other.measure(&|_| true, |pages| pages.load(0))).unwrap();
    assert!(matches!(inner, Err(BareFaultsError::Busy)), "{inner:?}");
    assert_eq!(other.measure(&|_| true, |pages| pages.load(0)).unwrap(), 0);
    for pages in [0, usize::MAX, usize::MAX / PAGE_BYTES] {
        let refused = BareFaults::new(pages);
        assert!(
            matches!(refused, Err(BareFaultsError::Mapping(MappingError::BadSize { .. }))),
            "{pages}: {refused:?}"
        );
    }
}
