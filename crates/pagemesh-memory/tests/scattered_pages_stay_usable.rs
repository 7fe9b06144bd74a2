//! Pages far apart from each other can be granted by the ten thousand, with every pager, and the rest of the process goes on
//! mapping memory and starting threads. The `sigsegv` pager splits its mapping for each such page, and the kernel limits how
//! many mappings a process has: the pager has to stop before the limit, not at it.
//!
//! Each pager is looked at in a process of its own, since the limit is the process's.

mod common;

use common::{exits_with, fetch_zeros, load, region, scenario, store};
use pagemesh_memory::{Mapping, PAGE_BYTES, PageRange, PagerKind};
use std::fs;
use std::ptr::null_mut;
use std::thread;

crate::for_every_pager! {
    scattered_pages_beyond_what_mappings_allow_stay_usable,
    a_few_thousand_scattered_pages_fault_once_each,
    pages_at_the_ends_of_a_region_are_its_own,
}

/// Pages that are touched, every other one of the region: more than a process can have mappings for by half.
fn touched() -> usize {
    let max = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    (max.trim().parse::<usize>().unwrap() / 4 * 3).min(60_000)
}

/// How many mappings the process has.
fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// A program needs mappings for memory, each with rights of its own ...
fn others_can_map() {
    const PAGES: usize = 1000;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory, at a place that the kernel chooses; every other page of it is protected, so that no two are merged
    // into one mapping; and it goes again.
    unsafe {
        let start = libc::mmap(null_mut(), PAGES * PAGE_BYTES, libc::PROT_READ, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        for page in (0..PAGES).step_by(2) {
            let refused = libc::mprotect(start.byte_add(page * PAGE_BYTES), PAGE_BYTES, libc::PROT_NONE);
            assert_eq!(refused, 0, "another mapping: {}", std::io::Error::last_os_error());
        }
        assert_eq!(libc::munmap(start, PAGES * PAGE_BYTES), 0);
    }
}

/// ... and for threads.
fn others_can_start_threads() {
    let threads: Vec<_> = (0..50).map(|_| thread::Builder::new().spawn(thread::yield_now)).collect();
    for thread in threads {
        thread.expect("a thread can be started").join().unwrap();
    }
}

fn value(page: usize) -> u8 {
    (page / 2 % 251) as u8 + 1
}

fn check(mapping: &Mapping, pages: impl Iterator<Item = usize>) {
    for page in pages {
        assert_eq!(load(mapping, page * PAGE_BYTES + 5), value(page), "page {page}");
    }
}

fn scatter(kind: PagerKind) {
    let (count, before) = (touched(), mappings());
    let (mapping, sink) = region(kind, 2 * count, fetch_zeros);
    let pages = || (0..count).map(|number| 2 * number);
    for page in pages() {
        store(&mapping, page * PAGE_BYTES + 5, value(page));
        if page % 200 == 0 {
            others_can_map();
        }
    }
    assert_eq!(sink.writes(), count as u64);
    let max = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse::<usize>().unwrap();
    assert!(mappings() < max - max / 20, "{} mappings of {max}", mappings());
    others_can_start_threads();
    check(&mapping, pages());
    // In another order, where most of what was granted is far away from what is taken away for it.
    let shuffled: Vec<usize> = (0..count).map(|number| 2 * (number * 7919 % count)).collect();
    check(&mapping, shuffled.into_iter());
    assert!(mappings() < max - max / 20, "{} mappings of {max}", mappings());
    others_can_map();

    // Rights can be taken away at the limit too, from the middle of what is whole as well.
    mapping.pager().map(PageRange::new(0, 100), pagemesh_memory::Access::Write).unwrap_err();
    mapping.populate(PageRange::new(0, 100)).unwrap();
    mapping.pager().map(PageRange::new(0, 100), pagemesh_memory::Access::Write).unwrap();
    for page in (1..99).step_by(2) {
        mapping.pager().unmap(PageRange::one(page)).unwrap();
        mapping.pager().protect(PageRange::one(page + 1)).unwrap();
    }
    let writes = sink.writes();
    store(&mapping, 6 * PAGE_BYTES, 1);
    assert_eq!(sink.writes(), writes + 1, "a protected page faults");
    check(&mapping, pages());

    mapping.pager().unmap(PageRange::new(0, mapping.pages())).unwrap();
    assert!(mappings() < before + 200, "{} mappings, {before} before", mappings());
    check(&mapping, pages().take(100));
    drop(mapping);
    let (next, _) = region(kind, 4, fetch_zeros);
    store(&next, 0, 1);
}

/// Where a process of its own begins. In an ordinary run of the tests there is no scenario to play.
#[test]
fn entry() {
    if let Some((kind, _)) = scenario() {
        scatter(kind);
        std::process::exit(42);
    }
}

fn scattered_pages_beyond_what_mappings_allow_stay_usable(kind: PagerKind) {
    exits_with(42, kind, "entry", "scatter");
}

fn a_few_thousand_scattered_pages_fault_once_each(kind: PagerKind) {
    const COUNT: usize = 3000;
    let (mapping, sink) = region(kind, 7 * COUNT, fetch_zeros);
    for round in 0..3 {
        for page in (0..COUNT).map(|number| 7 * (number * 1009 % COUNT)) {
            match round {
                0 => store(&mapping, page * PAGE_BYTES + 5, value(page)),
                _ => assert_eq!(load(&mapping, page * PAGE_BYTES + 5), value(page)),
            }
        }
        let all = COUNT as u64;
        assert_eq!(sink.counts(), if round < 2 { (0, all) } else { (all, all) });
        if round == 1 {
            for page in (0..COUNT).map(|number| 7 * number as u64) {
                mapping.pager().unmap(PageRange::one(page)).unwrap();
            }
        }
    }
}

/// Two regions side by side: what is done to the end of one must not reach into the other.
fn pages_at_the_ends_of_a_region_are_its_own(kind: PagerKind) {
    use common::{refuse, region_at};
    use pagemesh_memory::{Access, MappingOptions, RegionKey};
    const PAGES: u64 = 600;
    let bytes = PAGES as usize * PAGE_BYTES;
    let base = 0x3300_0000_0000 + ((kind as usize) << 32);
    let options = MappingOptions::new(RegionKey(1), bytes).pager(kind);
    let (left, left_sink) = region_at(options.address(base), refuse);
    let (right, right_sink) = region_at(options.address(base + bytes), refuse);
    for mapping in [&left, &right] {
        mapping.populate(PageRange::new(0, PAGES)).unwrap();
    }
    left.pager().map(PageRange::new(PAGES - 3, 3), Access::Write).unwrap();
    right.pager().map(PageRange::new(0, 2), Access::Read).unwrap();
    left.store_u8(bytes - 1, 9).unwrap();
    assert!(right.load_u8(0).is_ok() && right.store_u8(0, 1).is_err());
    right.pager().map(PageRange::one(0), Access::Read).unwrap();
    left.pager().unmap(PageRange::new(0, PAGES)).unwrap();
    assert!(right.load_u8(0).is_ok() && left.load_u8(bytes - 1).is_err());
    right.pager().map(PageRange::new(0, PAGES), Access::Write).unwrap();
    assert!(left.load_u8(bytes - 1).is_err());
    right.store_u8(bytes - 1, 1).unwrap();
    left.pager().map(PageRange::new(0, PAGES), Access::Read).unwrap();
    assert_eq!(left.load_u8(bytes - 1), Ok(9));
    right.pager().protect(PageRange::new(0, PAGES)).unwrap();
    assert!(left.store_u8(bytes - 1, 1).is_err() && right.store_u8(0, 1).is_err());
    assert_eq!((left_sink.counts(), right_sink.counts()), ((2, 1), (0, 2)));
}
