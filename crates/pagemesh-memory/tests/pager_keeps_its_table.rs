//! Each operation of a pager leaves a page as the table in docs/memory.md says: whoever builds a protocol upon it reads that table.

mod common;

use common::{refuse, region};
use pagemesh_memory::{Access, Mapping, PAGE_BYTES, PageRange, Pager, PagerError, PagerKind};

crate::for_every_pager! {
    every_operation_leaves_the_state_that_the_manual_says,
    every_pair_of_operations_leaves_the_state_that_the_manual_says,
    no_pages_are_no_work,
    a_page_that_the_file_does_not_hold_is_named,
    reading_or_zeroing_in_the_service_view_populates_a_page,
    pages_beyond_the_region_are_a_mistake_of_the_caller,
}

const MANUAL: &str = include_str!("../../../docs/memory.md");

const STATES: [&str; 3] = ["absent", "readable", "writable"];

type Operation = fn(&dyn Pager, PageRange) -> Result<(), PagerError>;

const OPERATIONS: [(&str, Operation); 5] = [
    ("map, read", |pager, pages| pager.map(pages, Access::Read)),
    ("map, write", |pager, pages| pager.map(pages, Access::Write)),
    ("unprotect", |pager, pages| pager.unprotect(pages)),
    ("protect", |pager, pages| pager.protect(pages)),
    ("unmap", |pager, pages| pager.unmap(pages)),
];

/// The cells of the manual's row that begins with `name`.
fn row(name: &str) -> Vec<&'static str> {
    let row = MANUAL.lines().find(|line| line.starts_with(&format!("| {name} |")));
    let row = row.unwrap_or_else(|| panic!("docs/memory.md has no row for {name}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// Brings pages into a state.
fn bring(mapping: &Mapping, pages: PageRange, state: &str) {
    let pager = mapping.pager();
    pager.unmap(pages).unwrap();
    match state {
        "absent" => {}
        "readable" => pager.map(pages, Access::Read).unwrap(),
        "writable" => pager.map(pages, Access::Write).unwrap(),
        other => panic!("{other} is no state"),
    }
}

/// Finds out the state of a page by touching it; nothing is granted.
fn state(mapping: &Mapping, page: u64) -> &'static str {
    let offset = page as usize * PAGE_BYTES;
    match (mapping.load_u8(offset), mapping.store_u8(offset, 1)) {
        (Err(_), Err(_)) => "absent",
        (Ok(_), Err(_)) => "readable",
        (Ok(_), Ok(())) => "writable",
        (Err(_), Ok(())) => panic!("a page that can be written only"),
    }
}

fn every_operation_leaves_the_state_that_the_manual_says(kind: PagerKind) {
    for count in [1, 3] {
        let (mapping, _) = region(kind, 8, refuse);
        let pages = PageRange::new(2, count);
        mapping.populate(PageRange::new(0, 8)).unwrap();
        for (name, operation) in OPERATIONS {
            for (before, after) in STATES.into_iter().zip(&row(name)[1..]) {
                bring(&mapping, pages, before);
                operation(mapping.pager(), pages).unwrap();
                for page in pages.iter() {
                    assert_eq!(state(&mapping, page), *after, "{name} of a page that was {before}");
                }
                for neighbour in [pages.first() - 1, pages.end()] {
                    assert_eq!(state(&mapping, neighbour), "absent", "{name} touched a neighbour");
                }
            }
        }
    }
}

fn every_pair_of_operations_leaves_the_state_that_the_manual_says(kind: PagerKind) {
    let (mapping, _) = region(kind, 1, refuse);
    let page = PageRange::one(0);
    mapping.populate(page).unwrap();
    for before in STATES {
        for (first, first_operation) in OPERATIONS {
            let between = row(first)[1 + STATES.iter().position(|state| *state == before).unwrap()];
            for (second, second_operation) in OPERATIONS {
                let after = row(second)[1 + STATES.iter().position(|state| *state == between).unwrap()];
                bring(&mapping, page, before);
                first_operation(mapping.pager(), page).unwrap();
                second_operation(mapping.pager(), page).unwrap();
                assert_eq!(state(&mapping, 0), after, "{first}, then {second}, of a page that was {before}");
            }
        }
    }
}

fn no_pages_are_no_work(kind: PagerKind) {
    let (mapping, _) = region(kind, 4, refuse);
    for (name, operation) in OPERATIONS {
        operation(mapping.pager(), PageRange::new(4, 0)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    mapping.populate(PageRange::new(4, 0)).unwrap();
}

fn a_page_that_the_file_does_not_hold_is_named(kind: PagerKind) {
    let (mapping, _) = region(kind, 8, refuse);
    mapping.populate(PageRange::new(0, 5)).unwrap();
    let error = mapping.pager().map(PageRange::new(1, 7), Access::Read).unwrap_err();
    assert_eq!(error, PagerError::NotPopulated { page: 5 });
    assert!(error.to_string().contains("page 5"), "{error}");
    assert_eq!(state(&mapping, 4), "readable", "those before it were mapped");
}

fn reading_or_zeroing_in_the_service_view_populates_a_page(kind: PagerKind) {
    let (mapping, _) = region(kind, 2, refuse);
    mapping.service().read(0, &mut [0]);
    mapping.service().zero_page(1);
    mapping.pager().map(PageRange::new(0, 2), Access::Write).unwrap();
    assert_eq!((state(&mapping, 0), state(&mapping, 1)), ("writable", "writable"));
}

fn pages_beyond_the_region_are_a_mistake_of_the_caller(kind: PagerKind) {
    for (name, operation) in OPERATIONS {
        let (mapping, _) = region(kind, 4, refuse);
        let attempt = std::panic::AssertUnwindSafe(|| operation(mapping.pager(), PageRange::new(3, 2)));
        let panic = std::panic::catch_unwind(attempt).expect_err(name);
        let message = panic.downcast_ref::<String>().expect("a message");
        assert_eq!(message, "pages 3 to 4 of a region of 4 pages");
    }
}
