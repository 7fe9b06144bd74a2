//! A page that cannot be had is an error in the hands of whoever asked for it, with the page's number, and never a wrong byte.

mod common;

use common::{fetch, grant, refuse, region, remote_page};
use pagemesh_memory::{AccessFault, Fault, Mapping, PAGE_BYTES, PageRange, PagerKind, RegionKey, Resolution};
use std::sync::Arc;
use std::thread;

crate::for_every_pager! {
    a_copy_out_stops_at_the_page_that_cannot_be_had,
    a_copy_in_stops_at_the_page_that_cannot_be_had,
    copies_of_any_size_and_alignment_go_through_every_page,
    every_access_to_a_page_that_cannot_be_had_says_so,
    every_access_to_a_page_that_can_be_had_does_what_it_says,
    atomic_additions_of_many_threads_are_all_counted_while_pages_come_and_go,
    threads_fail_and_succeed_side_by_side,
    an_access_outside_the_region_is_a_mistake_of_the_caller,
}

/// Page 3 cannot be had.
fn without_page_three(mapping: &Mapping, fault: Fault) -> Resolution {
    if fault.page == 3 { Resolution::Failed } else { fetch(mapping, fault) }
}

fn no_page(page: u64) -> AccessFault {
    AccessFault { region: RegionKey(5), page }
}

fn a_copy_out_stops_at_the_page_that_cannot_be_had(kind: PagerKind) {
    let (mapping, sink) = region(kind, 5, without_page_three);
    let mut bytes = vec![0; 5 * PAGE_BYTES - 100];
    assert_eq!(mapping.read_app(100, &mut bytes), Err(no_page(3)));
    assert_eq!(sink.counts(), (4, 0));
    assert_eq!(bytes[..PAGE_BYTES - 100], remote_page(0)[100..]);
    assert_eq!(bytes[2 * PAGE_BYTES - 100..3 * PAGE_BYTES - 100], remote_page(2));
    assert!(
        bytes[3 * PAGE_BYTES - 100..].iter().all(|byte| *byte == 0),
        "nothing comes from a page that was not granted"
    );
    assert!(no_page(3).to_string().contains("page 3 of region 5"));
}

fn a_copy_in_stops_at_the_page_that_cannot_be_had(kind: PagerKind) {
    let (mapping, sink) = region(kind, 5, without_page_three);
    assert_eq!(mapping.write_app(2 * PAGE_BYTES, &[9; 3 * PAGE_BYTES]), Err(no_page(3)));
    assert_eq!(sink.counts(), (0, 2));
    let mut page = [0; PAGE_BYTES];
    mapping.service().read_page(2, &mut page);
    assert_eq!(page, [9; PAGE_BYTES]);
}

fn copies_of_any_size_and_alignment_go_through_every_page(kind: PagerKind) {
    let (mapping, sink) = region(kind, 6, fetch);
    let expected: Vec<u8> = (0..6).flat_map(remote_page).collect();
    for (offset, length) in
        [(0, 0), (1, 1), (4095, 2), (5000, 9000), (0, 6 * PAGE_BYTES), (6 * PAGE_BYTES, 0)]
    {
        let mut bytes = vec![0; length];
        mapping.read_app(offset, &mut bytes).unwrap();
        assert_eq!(bytes, expected[offset..offset + length], "{length} bytes at {offset}");
    }
    assert_eq!(sink.counts(), (6, 0));
    let mut expected = expected;
    let (mapping, sink) = region(kind, 6, fetch);
    for (offset, length) in [(3, 10_000), (20_000, 1), (8191, 2)] {
        let bytes: Vec<u8> = (0..length).map(|index| (index * 13 + offset) as u8).collect();
        mapping.write_app(offset, &bytes).unwrap();
        expected[offset..offset + length].copy_from_slice(&bytes);
    }
    let mut bytes = vec![0; 6 * PAGE_BYTES];
    mapping.read_app(0, &mut bytes).unwrap();
    assert_eq!(bytes, expected);
    assert_eq!(sink.counts(), (2, 4));
}

fn every_access_to_a_page_that_cannot_be_had_says_so(kind: PagerKind) {
    let (mapping, sink) = region(kind, 2, refuse);
    let at = PAGE_BYTES + 64;
    let reads = [
        mapping.load_u8(at).map(u64::from),
        mapping.load_u16(at).map(u64::from),
        mapping.load_u32(at).map(u64::from),
        mapping.load_u64(at),
    ];
    assert_eq!(reads, [Err(no_page(1)); 4]);
    assert_eq!(sink.counts(), (4, 0));
    let writes = [
        mapping.store_u8(at, 1),
        mapping.store_u16(at, 1),
        mapping.store_u32(at, 1),
        mapping.store_u64(at, 1),
        mapping.fetch_add_u32(at, 1).map(|_| ()),
        mapping.fetch_add_u64(at, 1).map(|_| ()),
        mapping.swap_u32(at, 1).map(|_| ()),
        mapping.swap_u64(at, 1).map(|_| ()),
        mapping.compare_exchange_u32(at, 0, 1).map(|_| ()),
        mapping.compare_exchange_u64(at, 0, 1).map(|_| ()),
    ];
    assert_eq!(writes, [Err(no_page(1)); 10]);
    assert_eq!(sink.counts(), (4, 10));
    let mut page = [1; PAGE_BYTES];
    mapping.service().read_page(1, &mut page);
    assert_eq!(page, [0; PAGE_BYTES], "nothing was written");
}

fn every_access_to_a_page_that_can_be_had_does_what_it_says(kind: PagerKind) {
    let (mapping, _) = region(kind, 1, grant);
    mapping.service().zero_page(0);
    mapping.store_u64(8, 0x1122_3344_5566_7788).unwrap();
    assert_eq!(mapping.load_u64(8), Ok(0x1122_3344_5566_7788));
    assert_eq!(mapping.load_u32(8), Ok(0x5566_7788));
    assert_eq!(mapping.load_u16(14), Ok(0x1122));
    assert_eq!(mapping.load_u8(8), Ok(0x88));
    mapping.store_u8(8, 0xff).unwrap();
    mapping.store_u16(10, 0xeeee).unwrap();
    mapping.store_u32(12, 0xdddd_dddd).unwrap();
    assert_eq!(mapping.load_u64(8), Ok(0xdddd_dddd_eeee_77ff));
    assert_eq!(mapping.load_u64(0), Ok(0), "no store was too wide");

    assert_eq!(mapping.fetch_add_u64(16, u64::MAX), Ok(0));
    assert_eq!(mapping.fetch_add_u64(16, 3), Ok(u64::MAX));
    assert_eq!(mapping.swap_u64(16, 70), Ok(2));
    assert_eq!(mapping.compare_exchange_u64(16, 71, 1), Ok(Err(70)));
    assert_eq!(mapping.compare_exchange_u64(16, 70, u64::MAX), Ok(Ok(70)));
    assert_eq!(mapping.load_u64(16), Ok(u64::MAX));

    assert_eq!(mapping.fetch_add_u32(24, u32::MAX), Ok(0));
    assert_eq!(mapping.fetch_add_u32(24, 3), Ok(u32::MAX));
    assert_eq!(mapping.swap_u32(24, 70), Ok(2));
    assert_eq!(mapping.compare_exchange_u32(24, 71, 1), Ok(Err(70)));
    assert_eq!(mapping.compare_exchange_u32(24, 70, u32::MAX), Ok(Ok(70)));
    assert_eq!(mapping.load_u64(24), Ok(u64::from(u32::MAX)), "the neighbour is untouched");
}

fn atomic_additions_of_many_threads_are_all_counted_while_pages_come_and_go(kind: PagerKind) {
    const THREADS: u64 = 4;
    const ADDITIONS: u64 = 20_000;
    let (mapping, _) = region(kind, 1, grant);
    mapping.service().zero_page(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ADDITIONS {
                    mapping.fetch_add_u64(0, 1).unwrap();
                }
            });
        }
        for _ in 0..2000 {
            mapping.pager().unmap(PageRange::one(0)).unwrap();
            thread::yield_now();
        }
    });
    assert_eq!(mapping.load_u64(0), Ok(THREADS * ADDITIONS));
}

fn threads_fail_and_succeed_side_by_side(kind: PagerKind) {
    let (mapping, _) = region(kind, 6, without_page_three);
    thread::scope(|scope| {
        for thread in 0..6_u64 {
            let mapping = Arc::clone(&mapping);
            scope.spawn(move || {
                for _ in 0..500 {
                    let offset = thread as usize * PAGE_BYTES;
                    let expected = if thread == 3 { Err(no_page(3)) } else { Ok(remote_page(thread)[0]) };
                    assert_eq!(mapping.load_u8(offset), expected);
                    mapping.pager().unmap(PageRange::one(thread)).unwrap();
                }
            });
        }
    });
}

fn an_access_outside_the_region_is_a_mistake_of_the_caller(kind: PagerKind) {
    type Attempt<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let (mapping, sink) = region(kind, 2, refuse);
    let attempts: [Attempt; 6] = [
        (
            "8 bytes at offset 8192 of a region of 8192 bytes were asked for",
            Box::new(|| {
                let _ = mapping.load_u64(8192);
            }),
        ),
        (
            "8 bytes at offset 12 are not aligned",
            Box::new(|| {
                let _ = mapping.store_u64(12, 1);
            }),
        ),
        (
            "2 bytes at offset 8191 of a region of 8192 bytes were asked for",
            Box::new(|| {
                let _ = mapping.read_app(8191, &mut [0; 2]);
            }),
        ),
        (
            "1 bytes at offset 18446744073709551615 of a region of 8192 bytes were asked for",
            Box::new(|| {
                let _ = mapping.write_app(usize::MAX, &[0]);
            }),
        ),
        ("page 2 of a region of 2 pages was asked for", Box::new(|| mapping.service().zero_page(2))),
        (
            "9 bytes at offset 8184 of a region of 8192 bytes were asked for",
            Box::new(|| {
                mapping.service().read(8184, &mut [0; 9]);
            }),
        ),
    ];
    for (expected, attempt) in attempts {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).expect_err(expected);
        assert_eq!(panic.downcast_ref::<String>().expect("a message"), expected);
    }
    assert_eq!(sink.counts(), (0, 0));
}
