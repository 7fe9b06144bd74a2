//! A limit on the size of files holds for the files in memory that regions are. Growing one beyond it would have the kernel end the process
//! (SIGXFSZ, setrlimit(2)), which is no way for a library to say no.

mod common;

use common::{exits_with, scenario};
use pagemesh_memory::{
    Mapping, MappingError, MappingOptions, PAGE_BYTES, PagerKind, PlainMemory, RegionKey, choose, probe,
};
use std::sync::Arc;

fn limit(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads one limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

fn map(pages: usize) -> Result<Mapping, MappingError> {
    let options = MappingOptions::new(RegionKey(1), pages * PAGE_BYTES).pager(PagerKind::Sigsegv);
    Mapping::new(options, Arc::new(common::Nothing))
}

#[test]
fn a_region_beyond_the_limit_is_an_error() {
    if scenario().is_none() {
        let entry = "a_region_beyond_the_limit_is_an_error";
        return exits_with(7, PagerKind::Sigsegv, entry, "limited");
    }
    limit(8 * PAGE_BYTES as u64);
    map(8).expect("as large as may be");
    let refused = map(9).expect_err("too large").to_string();
    assert!(refused.contains("no file of this process may have more than 32768"), "{refused}");
    assert!(PlainMemory::file(9 * PAGE_BYTES).is_err());
    // Not even a page: nothing can be tried out, and nothing ends the process.
    limit(100);
    assert!(choose(Some(PagerKind::Sigbus)).is_err());
    choose(None).expect("one that needs nothing to be tried out");
    let _ = probe();
    assert!(matches!(map(1), Err(MappingError::FileLimit { bytes: PAGE_BYTES, limit: 100 })));
    std::process::exit(7);
}
