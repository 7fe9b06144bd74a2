//! A touch that the app view does not allow is one fault with the right intent, and goes on with the right bytes. More faults
//! than needed would each be a round trip over the network; a wrong intent would be two.

mod common;

use common::{fetch, fetch_zeros, load, region, remote_page, store};
use pagemesh_memory::{
    Access, Fault, Mapping, MappingOptions, PAGE_BYTES, PageRange, PagerKind, RegionKey, Resolution,
};
use std::sync::Mutex;

crate::for_every_pager! {
    a_read_miss_is_one_read_fault_and_finds_the_fetched_bytes,
    a_write_miss_is_one_write_fault,
    the_fault_names_region_and_page,
    a_store_to_a_readable_page_is_one_write_fault,
    a_page_upgraded_ahead_does_not_fault,
    a_sink_may_upgrade_by_mapping_or_by_unprotecting,
    a_downgraded_page_faults_at_the_next_store_and_not_before,
    an_unmapped_page_faults_at_the_next_load_and_its_bytes_stay,
    a_page_filled_ahead_does_not_fault,
    a_copy_from_page_to_page_faults_once_for_each,
    regions_side_by_side_each_have_their_own_sink,
    errno_is_what_it_was_before_the_fault,
}

fn a_read_miss_is_one_read_fault_and_finds_the_fetched_bytes(kind: PagerKind) {
    let (mapping, sink) = region(kind, 4, fetch);
    let expected = remote_page(2);
    for (index, byte) in expected.iter().enumerate() {
        assert_eq!(load(&mapping, 2 * PAGE_BYTES + index), *byte);
    }
    assert_eq!(sink.counts(), (1, 0));
}

fn a_write_miss_is_one_write_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 4, fetch);
    store(&mapping, PAGE_BYTES + 9, 200);
    assert_eq!(sink.counts(), (0, 1));
    assert_eq!(load(&mapping, PAGE_BYTES + 9), 200);
    assert_eq!(load(&mapping, PAGE_BYTES + 10), remote_page(1)[10]);
    assert_eq!(sink.counts(), (0, 1), "the right to write includes the right to read");
}

fn the_fault_names_region_and_page(kind: PagerKind) {
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let inside = seen.clone();
    let options = MappingOptions::new(RegionKey(77), 8 * PAGE_BYTES).pager(kind);
    let (mapping, _) = common::region_at(options, move |mapping: &Mapping, fault: Fault| {
        inside.lock().unwrap().push(fault);
        fetch(mapping, fault)
    });
    load(&mapping, 8 * PAGE_BYTES - 1);
    store(&mapping, 0, 1);
    let region = RegionKey(77);
    let expected =
        [Fault { region, page: 7, access: Access::Read }, Fault { region, page: 0, access: Access::Write }];
    assert_eq!(*seen.lock().unwrap(), expected);
}

fn a_store_to_a_readable_page_is_one_write_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, fetch_zeros);
    assert_eq!(load(&mapping, 5), 0);
    store(&mapping, 5, 1);
    store(&mapping, 6, 2);
    assert_eq!((load(&mapping, 5), load(&mapping, 6)), (1, 2));
    assert_eq!(sink.counts(), (1, 1));
}

fn a_page_upgraded_ahead_does_not_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, fetch_zeros);
    load(&mapping, 5);
    mapping.pager().unprotect(PageRange::one(0)).unwrap();
    store(&mapping, 5, 4);
    assert_eq!(sink.counts(), (1, 0));
}

fn a_sink_may_upgrade_by_mapping_or_by_unprotecting(kind: PagerKind) {
    for upgrade_by_map in [false, true] {
        let (mapping, sink) = region(kind, 1, move |mapping: &Mapping, fault: Fault| {
            let page = PageRange::one(fault.page);
            let result = match fault.access {
                Access::Read => {
                    mapping.service().zero_page(fault.page);
                    mapping.pager().map(page, Access::Read)
                }
                Access::Write if upgrade_by_map => mapping.pager().map(page, Access::Write),
                Access::Write => mapping.pager().unprotect(page),
            };
            if result.is_ok() { Resolution::Resolved } else { Resolution::Failed }
        });
        load(&mapping, 1);
        store(&mapping, 1, 9);
        store(&mapping, 2, 9);
        assert_eq!(sink.counts(), (1, 1));
    }
}

fn a_downgraded_page_faults_at_the_next_store_and_not_before(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, fetch_zeros);
    store(&mapping, 0, 1);
    mapping.pager().protect(PageRange::one(0)).unwrap();
    assert_eq!(load(&mapping, 0), 1);
    assert_eq!(sink.counts(), (0, 1));
    store(&mapping, 0, 2);
    assert_eq!(sink.counts(), (0, 2));
    assert_eq!(load(&mapping, 0), 2);
}

fn an_unmapped_page_faults_at_the_next_load_and_its_bytes_stay(kind: PagerKind) {
    let (mapping, sink) = region(kind, 2, fetch_zeros);
    store(&mapping, PAGE_BYTES + 17, 123);
    mapping.pager().unmap(PageRange::new(0, 2)).unwrap();
    let mut page = [0; PAGE_BYTES];
    mapping.service().read_page(1, &mut page);
    assert_eq!(page[17], 123);
    assert_eq!(load(&mapping, PAGE_BYTES + 17), 123);
    assert_eq!(sink.counts(), (1, 1));
}

fn a_page_filled_ahead_does_not_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 64, common::refuse);
    for page in 0..64 {
        mapping.service().write_page(page, &remote_page(page));
    }
    // One of them is there already, in the middle: the range is completed around it.
    mapping.pager().map(PageRange::one(20), Access::Read).unwrap();
    mapping.pager().map(PageRange::new(0, 64), Access::Write).unwrap();
    for page in 0..64_usize {
        assert_eq!(load(&mapping, page * PAGE_BYTES + 99), remote_page(page as u64)[99]);
        store(&mapping, page * PAGE_BYTES, 1);
    }
    assert_eq!(sink.counts(), (0, 0));
}

fn a_copy_from_page_to_page_faults_once_for_each(kind: PagerKind) {
    let (mapping, sink) = region(kind, 2, fetch);
    // SAFETY: both pages lie in the app view and do not overlap.
    unsafe {
        let (from, to) = (common::address(&mapping, 0), common::address(&mapping, PAGE_BYTES));
        std::ptr::copy_nonoverlapping(from, to, PAGE_BYTES);
    }
    assert_eq!(sink.counts(), (1, 1));
    let mut page = [0; PAGE_BYTES];
    mapping.service().read_page(1, &mut page);
    assert_eq!(page, remote_page(0));
}

fn regions_side_by_side_each_have_their_own_sink(kind: PagerKind) {
    let regions: Vec<_> = (0..20).map(|_| region(kind, 3, fetch)).collect();
    for (number, (mapping, sink)) in regions.iter().enumerate() {
        load(mapping, number * 100);
        assert_eq!(sink.counts(), (1, 0));
    }
    drop(regions);
    let (mapping, sink) = region(kind, 3, fetch);
    load(&mapping, 0);
    assert_eq!(sink.counts(), (1, 0));
}

fn errno_is_what_it_was_before_the_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, |mapping: &Mapping, fault: Fault| {
        // SAFETY: fails on purpose, to set errno to EBADF.
        unsafe { libc::close(-1) };
        fetch(mapping, fault)
    });
    // SAFETY: the address of this thread's own variable.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { errno.write_volatile(libc::EXDEV) };
    load(&mapping, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { errno.read_volatile() }, libc::EXDEV);
    assert_eq!(sink.counts(), (1, 0));
}
