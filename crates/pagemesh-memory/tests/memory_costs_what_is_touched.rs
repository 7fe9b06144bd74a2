//! A region may be far larger than the machine: its size alone costs nothing, and what is left behind when it goes is nothing.
//!
//! Each pager is looked at in a process of its own, since the whole process is looked at.

mod common;

use common::{address, exits_with, fetch_zeros, load, region_at, scenario, store};
use pagemesh_memory::{MappingOptions, PAGE_BYTES, PageRange, PagerKind, RegionKey};
use std::fs;
use std::os::unix::fs::MetadataExt;

crate::for_every_pager! {
    a_region_of_one_tebibyte_costs_the_pages_that_are_touched,
}

const BYTES: usize = 1 << 40;
const PAGES: u64 = (BYTES / PAGE_BYTES) as u64;
const BASE: usize = 0x3000_0000_0000;

/// A figure of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes that this process's region files hold, and how many such files there are.
fn held() -> (u64, usize) {
    let files = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let ours = files.filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:pagemesh"))
    });
    let sizes: Vec<u64> = ours.map(|path| fs::metadata(path).unwrap().blocks() * 512).collect();
    (sizes.iter().sum(), sizes.len())
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Where a process of its own begins. In an ordinary run of the tests there is no scenario to play.
#[test]
fn entry() {
    if let Some((kind, _)) = scenario() {
        look_at_one_tebibyte(kind);
        std::process::exit(42);
    }
}

fn a_region_of_one_tebibyte_costs_the_pages_that_are_touched(kind: PagerKind) {
    exits_with(42, kind, "entry", "one tebibyte");
}

fn look_at_one_tebibyte(kind: PagerKind) {
    let before = (status("VmRSS"), status("VmPTE"), descriptors());
    let options = MappingOptions::new(RegionKey(0), BYTES).address(BASE).pager(kind);
    let (mapping, sink) = region_at(options, fetch_zeros);
    assert_eq!((mapping.base(), mapping.bytes(), mapping.pages()), (BASE, BYTES, PAGES));
    assert_eq!(held(), (0, 1));

    let touched: Vec<usize> = (0..64).map(|number| number * (BYTES / 64) + 3 * PAGE_BYTES).collect();
    for offset in &touched {
        store(&mapping, *offset, 7);
    }
    store(&mapping, BYTES - 1, 9);
    assert_eq!(load(&mapping, BYTES - 1), 9);
    assert_eq!(sink.counts(), (0, 65));
    assert_eq!(held().0, 65 * PAGE_BYTES as u64);

    // Per touched page: 4 KiB, seen through two views at most, and page tables of three levels in each.
    let grown = (status("VmRSS") - before.0, status("VmPTE") - before.1);
    assert!(grown.0 < 16 << 20 && grown.1 < 4 << 20, "grown by {grown:?} bytes");

    // All of it at once is as quick as what is in it.
    mapping.pager().unmap(PageRange::new(0, PAGES)).unwrap();
    assert_eq!(load(&mapping, touched[5]), 7);
    assert_eq!(sink.counts(), (1, 65));

    let gone = address(&mapping, 0) as usize;
    drop(mapping);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains("memfd:pagemesh") && !maps.contains(&format!("{gone:x}-")), "{maps}");
    assert_eq!(descriptors(), before.2);
}
