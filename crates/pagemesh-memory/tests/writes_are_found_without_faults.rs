//! A protocol with several writers a page has to know, when it releases, which pages were written. Where the kernel notes it,
//! the first write to a page costs no signal, and one call tells all. Whatever is written while that call runs is in its
//! answer or in the next: a write that is in none would never reach another node.

mod common;

use common::{DEADLINE, Nothing, fetch_zeros, grant, load, region_at, store};
use pagemesh_memory::{
    Access, Fault, Mapping, MappingError, MappingOptions, PAGE_BYTES, PageRange, PagerError, PagerKind,
    RegionKey, Resolution, WriteTracking, WriteTrackingError, choose, diff, probe,
};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// A region whose writes are tracked and its faults; where that cannot be had, says so, and checks that the region says so too.
fn tracked(
    pages: usize,
    resolve: impl Fn(&Mapping, Fault) -> Resolution + Send + Sync + 'static,
) -> Option<(Arc<Mapping>, Arc<common::Sink>)> {
    if choose(Some(PagerKind::Sigbus)).is_err() {
        return not_here("the sigbus pager cannot be had");
    }
    let options = MappingOptions::new(RegionKey(3), pages * PAGE_BYTES).pager(PagerKind::Sigbus);
    let (mapping, sink) = region_at(options.track_writes(true), resolve);
    let expected = probe().write_tracking;
    match mapping.write_tracking() {
        WriteTracking::On => assert_eq!((expected, mapping.tracks_writes()), (Ok(()), true)),
        WriteTracking::Refused(error) => {
            assert_eq!((expected, mapping.tracks_writes()), (Err(*error), false));
            return not_here(&error.to_string());
        }
        other => panic!("{other:?}"),
    }
    Some((mapping, sink))
}

fn not_here<T>(why: &str) -> Option<T> {
    let name = thread::current().name().unwrap_or_default().to_owned();
    let _ = std::io::stderr().write_all(format!("{name}: not run: {why}\n").as_bytes());
    None
}

fn all(mapping: &Mapping) -> PageRange {
    PageRange::new(0, mapping.pages())
}

/// What a harvest of everything tells.
fn harvest(mapping: &Mapping) -> Vec<u64> {
    let mut found = Vec::new();
    let count = mapping.harvest(all(mapping), |run| found.extend(run.iter())).unwrap();
    assert_eq!(count, found.len() as u64);
    found
}

/// A region of pages that the file holds and nobody touched.
fn populated(pages: usize) -> Option<(Arc<Mapping>, Arc<common::Sink>)> {
    let (mapping, sink) = tracked(pages, grant)?;
    mapping.populate(all(&mapping)).unwrap();
    Some((mapping, sink))
}

#[test]
fn a_write_to_a_clean_page_is_no_fault_and_is_told_once() {
    let Some((mapping, sink)) = populated(2_000) else { return };
    for page in 0..100 {
        assert_eq!(load(&mapping, page * PAGE_BYTES), 0);
    }
    assert_eq!((sink.counts(), harvest(&mapping)), ((100, 0), vec![]));
    for page in [2, 3, 4, 50, 99] {
        store(&mapping, page * PAGE_BYTES + page, 1);
    }
    assert_eq!((sink.counts(), harvest(&mapping)), ((100, 0), vec![2, 3, 4, 50, 99]));
    assert_eq!(harvest(&mapping), []);
    store(&mapping, 3 * PAGE_BYTES, 2);
    assert_eq!((sink.counts(), harvest(&mapping)), ((100, 0), vec![3]));
}

#[test]
fn only_what_was_asked_for_is_told_and_made_clean() {
    let Some((mapping, _)) = populated(1_000) else { return };
    mapping.pager().map(all(&mapping), Access::Read).unwrap();
    for page in 0..1_000 {
        store(&mapping, page * PAGE_BYTES, 1);
    }
    let mut found = Vec::new();
    let count = mapping.harvest(PageRange::new(10, 500), |run| found.push(run)).unwrap();
    assert_eq!((count, found), (500, vec![PageRange::new(10, 500)]));
    assert_eq!(mapping.harvest(PageRange::new(10, 500), |run| panic!("{run}")), Ok(0));
    assert_eq!(mapping.harvest(PageRange::new(3, 0), |run| panic!("{run}")), Ok(0));
    assert_eq!(harvest(&mapping), (0..10).chain(510..1_000).collect::<Vec<_>>());
}

#[test]
fn more_written_pages_than_one_call_can_tell_are_all_told() {
    let Some((mapping, _)) = populated(3_000) else { return };
    mapping.pager().map(all(&mapping), Access::Read).unwrap();
    let written: Vec<u64> = (0..3_000).filter(|page| page % 3 != 1).collect();
    for page in &written {
        store(&mapping, *page as usize * PAGE_BYTES, 1);
    }
    assert_eq!(harvest(&mapping), written);
    assert_eq!(harvest(&mapping), []);
}

#[test]
fn absent_pages_fault_as_ever_and_a_write_miss_counts_as_written() {
    let Some((mapping, sink)) = tracked(1_200, fetch_zeros) else { return };
    assert_eq!(harvest(&mapping), [], "what was never granted is not told");
    store(&mapping, 7 * PAGE_BYTES, 1);
    assert_eq!(load(&mapping, 8 * PAGE_BYTES), 0);
    assert_eq!((sink.counts(), harvest(&mapping)), ((1, 1), vec![7]));
    // Not even the neighbours, which share its page table, and whose absence the kernel takes for a change.
    store(&mapping, 9 * PAGE_BYTES, 1);
    assert_eq!((sink.counts(), harvest(&mapping)), ((1, 2), vec![9]));
    mapping.pager().unmap(PageRange::new(0, 20)).unwrap();
    assert_eq!(harvest(&mapping), []);
    for page in [7, 8, 9] {
        assert_eq!(load(&mapping, page * PAGE_BYTES), u8::from(page != 8));
    }
    assert_eq!((sink.counts(), harvest(&mapping)), ((4, 2), vec![]));
    store(&mapping, 8 * PAGE_BYTES, 3);
    store(&mapping, 600 * PAGE_BYTES, 3);
    assert_eq!((sink.counts(), harvest(&mapping)), ((4, 3), vec![8, 600]));
}

#[test]
fn a_granted_page_that_the_kernel_took_away_counts_as_written() {
    let Some((mapping, sink)) = populated(4) else { return };
    mapping.pager().map(all(&mapping), Access::Read).unwrap();
    let take_away = |page: usize| {
        let start = common::address(&mapping, page * PAGE_BYTES);
        // SAFETY: a page of the app view: its entry goes, its bytes stay, as when the kernel swaps it out.
        assert_eq!(unsafe { libc::madvise(start.cast(), PAGE_BYTES, libc::MADV_DONTNEED) }, 0);
    };
    store(&mapping, 0, 1);
    take_away(0);
    assert_eq!(harvest(&mapping), [0], "not touched since");
    store(&mapping, PAGE_BYTES, 1);
    take_away(1);
    assert_eq!((load(&mapping, PAGE_BYTES), sink.counts()), (1, (1, 0)));
    assert_eq!(harvest(&mapping), [1], "read since");
    store(&mapping, PAGE_BYTES, 2);
    assert_eq!((sink.counts(), harvest(&mapping)), ((1, 0), vec![1]));
}

#[test]
fn granting_what_is_there_and_granting_to_write_are_told_apart() {
    let Some((mapping, sink)) = populated(8) else { return };
    let pager = mapping.pager();
    pager.map(PageRange::new(0, 4), Access::Read).unwrap();
    pager.map(all(&mapping), Access::Read).unwrap();
    assert_eq!(harvest(&mapping), [], "read twice");
    pager.map(PageRange::new(2, 2), Access::Write).unwrap();
    assert_eq!(harvest(&mapping), [2, 3], "granted to be written");
    store(&mapping, 5 * PAGE_BYTES, 1);
    pager.map(all(&mapping), Access::Read).unwrap();
    assert_eq!(harvest(&mapping), [5], "granting to read takes nothing back");
    pager.unprotect(PageRange::one(6)).unwrap();
    assert_eq!(harvest(&mapping), [6]);
    store(&mapping, 7 * PAGE_BYTES, 1);
    pager.protect(PageRange::one(7)).unwrap();
    assert_eq!(harvest(&mapping), [], "to protect is to say that it is clean");
    assert_eq!(sink.counts(), (0, 0));
}

#[test]
fn a_system_call_may_write_to_a_clean_page_and_the_service_view_leaves_no_trace() {
    let Some((mapping, sink)) = populated(4) else { return };
    mapping.pager().map(PageRange::new(0, 3), Access::Read).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"abcd").unwrap();
    // SAFETY: four bytes of the app view, to which nobody holds a reference.
    let read = unsafe {
        libc::read(
            std::os::fd::AsRawFd::as_raw_fd(&reader.as_fd()),
            common::address(&mapping, PAGE_BYTES).cast(),
            4,
        )
    };
    assert_eq!((read, load(&mapping, PAGE_BYTES + 3)), (4, b'd'));
    mapping.service().write(2 * PAGE_BYTES, b"efgh");
    let twin = [0; PAGE_BYTES];
    let mut out = [0; pagemesh_memory::DIFF_MOST];
    let bytes = mapping.service().diff_page(1, &twin, &mut out);
    mapping.service().apply_diff(0, &out[..bytes]).unwrap();
    assert_eq!((sink.counts(), harvest(&mapping)), ((0, 0), vec![1]));
    assert_eq!((load(&mapping, 0), load(&mapping, 2 * PAGE_BYTES)), (b'a', b'e'));
}

/// Two threads write numbers that grow to pages of their own and common ones, while another harvests, and reads what it is
/// told. Every page's last number must have been read when both threads have ended and one more harvest was made.
#[test]
fn no_write_is_lost_while_pages_are_harvested() {
    const PAGES: u64 = 700;
    const HARVESTS: u64 = 3_000;
    const TOLD: u64 = 20_000;
    let Some((mapping, sink)) = populated(PAGES as usize) else { return };
    mapping.pager().map(all(&mapping), Access::Read).unwrap();
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let mut seen = vec![[0; 2]; PAGES as usize];
    let mut look = |told: &mut u64| {
        mapping
            .harvest(all(&mapping), |run| {
                for page in run.iter() {
                    *told += 1;
                    let mut bytes = [0; 16];
                    mapping.service().read(page as usize * PAGE_BYTES, &mut bytes);
                    let (words, _) = bytes.as_chunks::<8>();
                    for (seen, word) in seen[page as usize].iter_mut().zip(words) {
                        *seen = u64::from_le_bytes(*word);
                    }
                }
            })
            .unwrap()
    };
    let written = thread::scope(|scope| {
        let threads = [0, 1].map(|me| {
            let (mapping, done) = (&mapping, &done);
            scope.spawn(move || hammer(mapping, done, me, PAGES))
        });
        let (mut harvests, mut told) = (0, 0);
        while harvests < HARVESTS || told < TOLD {
            look(&mut told);
            harvests += 1;
            if begin.elapsed() > DEADLINE {
                done.store(true, Ordering::SeqCst);
                panic!("{harvests} harvests told {told} pages in {DEADLINE:?}");
            }
        }
        done.store(true, Ordering::SeqCst);
        threads.map(|thread| thread.join().unwrap())
    });
    look(&mut 0);
    assert_eq!((sink.counts(), look(&mut 0)), ((0, 0), 0));
    for page in 0..PAGES as usize {
        assert_eq!(seen[page], [written[0][page], written[1][page]], "page {page}");
    }
}

/// Writes growing numbers to its word of each page, in an order that jumps about. Returns the last of each.
fn hammer(mapping: &Mapping, done: &AtomicBool, me: u64, pages: u64) -> Vec<u64> {
    let mut last = vec![0; pages as usize];
    let mut number = 0;
    while !done.load(Ordering::SeqCst) {
        number += 1;
        let page = (number * (311 + me * 86) % pages) as usize;
        mapping.store_u64(page * PAGE_BYTES + me as usize * 8, number).unwrap();
        last[page] = number;
    }
    last
}

/// The whole of a release, again and again, under threads that write different words of the same pages: harvest, compare with
/// the twins, send. At the end the home has every last number.
#[test]
fn twins_brought_up_by_harvests_and_diffs_carry_every_write_to_the_home() {
    const PAGES: u64 = 40;
    const RELEASES: u64 = 1_500;
    let Some((mapping, _)) = populated(PAGES as usize) else { return };
    let home = Mapping::new(MappingOptions::new(RegionKey(4), mapping.bytes()), Arc::new(Nothing)).unwrap();
    mapping.pager().map(all(&mapping), Access::Read).unwrap();
    let mut twins = vec![[0; PAGE_BYTES]; PAGES as usize];
    let mut out = [0; pagemesh_memory::DIFF_MOST];
    let mut release = || {
        mapping
            .harvest(all(&mapping), |run| {
                for page in run.iter() {
                    let twin = &mut twins[page as usize];
                    let bytes = mapping.service().diff_page(page, twin, &mut out);
                    if bytes > 0 {
                        diff::patch(twin, &out[..bytes]).unwrap();
                        home.service().apply_diff(page, &out[..bytes]).unwrap();
                    }
                }
            })
            .unwrap();
    };
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    let written = thread::scope(|scope| {
        let threads = [0, 1].map(|me| {
            let (mapping, done) = (&mapping, &done);
            scope.spawn(move || hammer(mapping, done, me, PAGES))
        });
        for releases in 0..RELEASES {
            release();
            if begin.elapsed() > DEADLINE {
                done.store(true, Ordering::SeqCst);
                panic!("{releases} releases in {DEADLINE:?}");
            }
        }
        done.store(true, Ordering::SeqCst);
        threads.map(|thread| thread.join().unwrap())
    });
    release();
    for (me, written) in written.into_iter().enumerate() {
        for (page, number) in written.into_iter().enumerate() {
            let mut word = [0; 8];
            home.service().read(page * PAGE_BYTES + me * 8, &mut word);
            assert_eq!(u64::from_le_bytes(word), number, "page {page}, word {me}");
        }
    }
}

/// Pages are invalidated and fetched again by a thread that writes: who unmaps a page compares it after that, and so nothing is
/// lost. The thread ends again and again, since a later look would find what an earlier one had missed.
#[test]
fn pages_that_come_and_go_lose_nothing_when_they_are_compared_after_they_went() {
    // Many, so that pages are written anew while one call is still taking others away.
    const PAGES: u64 = 1_500;
    const EPISODES: u64 = 100;
    let Some((mapping, sink)) = populated(PAGES as usize) else { return };
    let begin = Instant::now();
    // What was seen last of each page, when it was told or had gone.
    let seen: Vec<AtomicU64> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    let look = |page: u64| {
        let mut word = [0; 8];
        mapping.service().read(page as usize * PAGE_BYTES, &mut word);
        seen[page as usize].store(u64::from_le_bytes(word), Ordering::SeqCst);
    };
    let harvest = || mapping.harvest(all(&mapping), |run| run.iter().for_each(look)).unwrap();
    let mut written = vec![0; PAGES as usize];
    for episode in 0..EPISODES {
        let done = AtomicBool::new(false);
        let last = thread::scope(|scope| {
            let writer = scope.spawn(|| hammer(&mapping, &done, 0, PAGES));
            for round in 0..4 {
                let (pages, faults) = (PageRange::new(round, PAGES - round), sink.writes());
                mapping.pager().unmap(pages).unwrap();
                pages.iter().for_each(look);
                while sink.writes() == faults && begin.elapsed() < DEADLINE {
                    thread::yield_now();
                }
                if round % 2 == 0 {
                    harvest();
                }
            }
            done.store(true, Ordering::SeqCst);
            writer.join().unwrap()
        });
        assert!(begin.elapsed() < DEADLINE, "{episode} episodes in {DEADLINE:?}");
        harvest();
        for (page, (written, last)) in written.iter_mut().zip(last).enumerate() {
            *written = if last == 0 { *written } else { last };
            assert_eq!(seen[page].load(Ordering::SeqCst), *written, "page {page}, episode {episode}");
        }
    }
    assert_eq!(sink.reads(), 0);
}

#[test]
fn a_harvest_of_a_huge_region_looks_only_where_pages_are() {
    const PAGES: u64 = 1 << 28;
    let Some((mapping, _)) = tracked(PAGES as usize, fetch_zeros) else { return };
    let written: BTreeSet<u64> = [0, 5, 1 << 20, PAGES - 1].into();
    for page in &written {
        store(&mapping, *page as usize * PAGE_BYTES, 1);
    }
    let tables = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = tables();
    assert_eq!(harvest(&mapping), written.into_iter().collect::<Vec<_>>());
    assert_eq!(harvest(&mapping), []);
    // All page tables of the region would be half a gigabyte; those of other tests are a few.
    assert!(tables() < before + (16 << 10), "{before} kB of page tables became {}", tables());
}

#[test]
fn a_region_that_does_not_track_writes_says_so_and_what_to_do() {
    for kind in PagerKind::ALL.into_iter().filter(|kind| choose(Some(*kind)).is_ok()) {
        let options = MappingOptions::new(RegionKey(0), PAGE_BYTES).pager(kind);
        let (mapping, sink) = region_at(options, grant);
        assert_eq!((mapping.write_tracking(), mapping.tracks_writes()), (&WriteTracking::Off, false));
        let pages = PageRange::one(0);
        let refused = mapping.harvest(pages, |run| panic!("{run}"));
        assert_eq!(refused, Err(PagerError::WritesNotTracked { pages, kind }));
        mapping.service().zero_page(0);
        mapping.pager().map(pages, Access::Read).unwrap();
        store(&mapping, 0, 1);
        assert_eq!(sink.counts(), (0, 1), "the pager finds the write by a fault");
    }
}

#[test]
fn pagers_that_cannot_track_writes_do_without_and_tell() {
    for kind in [PagerKind::Handler, PagerKind::Sigsegv] {
        let options = MappingOptions::new(RegionKey(0), PAGE_BYTES).pager(kind).track_writes(true);
        match Mapping::new(options, Arc::new(Nothing)) {
            Ok(mapping) => {
                let expected = WriteTracking::Refused(WriteTrackingError::Pager { kind });
                assert_eq!((mapping.write_tracking(), mapping.tracks_writes()), (&expected, false));
            }
            Err(error) => assert!(matches!(error, MappingError::Uffd(_)), "{error}"),
        }
    }
}

/// What is written now, and nothing changes by asking.
fn written(mapping: &Mapping, pages: PageRange) -> Vec<u64> {
    let mut found = Vec::new();
    mapping.pager().written(pages, &mut |run| found.extend(run.iter())).unwrap();
    found
}

#[test]
fn to_ask_changes_nothing_and_to_protect_makes_clean() {
    const PAGES: u64 = 2000;
    let Some((mapping, sink)) = tracked(PAGES as usize, fetch_zeros) else { return };
    mapping.populate(all(&mapping)).unwrap();
    mapping.pager().map(PageRange::new(0, 1500), Access::Read).unwrap();
    mapping.pager().map(PageRange::new(1500, 2), Access::Write).unwrap();
    // Apart from each other, more than one call tells.
    let stored: Vec<u64> = (0..1500).step_by(7).collect();
    for page in &stored {
        store(&mapping, *page as usize * PAGE_BYTES, 1);
    }
    let expected: Vec<u64> = stored.iter().copied().chain([1500, 1501]).collect();
    for _ in 0..2 {
        assert_eq!(written(&mapping, all(&mapping)), expected);
    }
    mapping.pager().protect(PageRange::new(0, 1502)).unwrap();
    assert_eq!(written(&mapping, all(&mapping)), []);
    store(&mapping, 8 * PAGE_BYTES, 1);
    assert_eq!(written(&mapping, all(&mapping)), [8]);
    assert_eq!(sink.counts(), (0, 0));
}

#[test]
fn what_was_written_until_it_was_unmapped_is_told() {
    let Some((mapping, _)) = tracked(8, fetch_zeros) else { return };
    mapping.populate(all(&mapping)).unwrap();
    mapping.pager().map(PageRange::new(0, 6), Access::Read).unwrap();
    for page in [2, 4, 5] {
        store(&mapping, page * PAGE_BYTES, 1);
    }
    let unmap = |first, count| {
        let mut told = Vec::new();
        let pages = PageRange::new(first, count);
        mapping.pager().unmap_and_tell(pages, &mut |run| told.extend(run.iter())).unwrap();
        told
    };
    // Of pages that were never granted nothing is known.
    assert_eq!(unmap(1, 4), [2, 4]);
    assert_eq!(unmap(0, 8), [5]);
    assert_eq!(unmap(0, 8), []);
    // What was known of a page is forgotten when it is granted anew.
    mapping.pager().map(PageRange::new(0, 6), Access::Read).unwrap();
    assert_eq!(written(&mapping, all(&mapping)), []);
    assert_eq!(unmap(0, 8), []);
    mapping.pager().map(PageRange::new(3, 1), Access::Write).unwrap();
    assert_eq!(unmap(0, 8), [3]);
}

/// A thread goes on counting while its page is unmapped again and again. A store that is in no answer would be seen by nobody else: a page of which
/// nothing was told has to hold what it held. As is asked of the caller, nothing is mapped meanwhile.
#[test]
fn no_store_before_an_unmap_is_missed() {
    const ROUNDS: usize = 1000;
    /// How often the page was mapped.
    static MAPS: Mutex<u64> = Mutex::new(0);
    let resolve = |mapping: &Mapping, fault: Fault| {
        let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
        *maps += 1;
        mapping.pager().map(PageRange::one(fault.page), Access::Read).unwrap();
        Resolution::Resolved
    };
    let Some((mapping, _)) = tracked(1, resolve) else { return };
    mapping.populate(all(&mapping)).unwrap();
    let done = AtomicBool::new(false);
    let missed = thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u8;
            while !done.load(Ordering::SeqCst) {
                number = number.wrapping_add(1);
                store(&mapping, 0, number);
            }
        });
        let (mut known, mut missed, begin) = ([0], 0, Instant::now());
        for _ in 0..ROUNDS {
            let guard = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
            let maps = *guard;
            let mut told = false;
            mapping.pager().unmap_and_tell(PageRange::one(0), &mut |_| told = true).unwrap();
            let mut now = [0];
            mapping.service().read(0, &mut now);
            drop(guard);
            missed += u32::from(!told && now != known);
            known = now;
            let is_absent = || *MAPS.lock().unwrap_or_else(PoisonError::into_inner) == maps;
            while is_absent() && begin.elapsed() < DEADLINE {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::SeqCst);
        missed
    });
    assert_eq!(missed, 0, "stores of which nobody was told");
}
