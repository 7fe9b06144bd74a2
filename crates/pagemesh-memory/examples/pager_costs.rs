//! What a fault costs with each pager when the page's bytes are here already: the share of a remote fault that is not the
//! network's.
//!
//! ```text
//! cargo run --release -p pagemesh-memory --example pager_costs
//! ```
//!
//! The pagers and the yardstick take turns in every round, so that whatever slows the machine down slows them all. The
//! yardstick is the least that a fault on shared memory can cost: one that the kernel resolves by itself, by entering a page
//! that the file holds into the page table. Every figure is also given as a ratio to it, which carries over to other machines
//! better than microseconds do. Pages are touched in random order: in order of address, neighbours would merge, which
//! favours the `sigsegv` pager.

use pagemesh_memory::{
    Fault, FaultSink, Mapping, MappingOptions, PAGE_BYTES, PageRange, PagerKind, RegionKey, Resolution,
    choose,
};
use std::error::Error;
use std::process::ExitCode;
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

const PAGES: usize = 4096;
const BYTES: usize = PAGES * PAGE_BYTES;
const ROUNDS: usize = 15;

/// Grants whatever is asked for.
#[derive(Default)]
struct Granter(OnceLock<Weak<Mapping>>);

impl FaultSink for Granter {
    fn resolve(&self, fault: Fault) -> Resolution {
        let Some(mapping) = self.0.get().and_then(Weak::upgrade) else { return Resolution::Failed };
        match mapping.pager().map(PageRange::one(fault.page), fault.access) {
            Ok(()) => Resolution::Resolved,
            Err(_) => Resolution::Failed,
        }
    }
}

/// Nanoseconds of every fault of one kind.
#[derive(Default)]
struct Samples(Vec<u64>);

impl Samples {
    /// Times a touch of every page.
    fn take<E>(&mut self, order: &[usize], mut touch: impl FnMut(usize) -> Result<(), E>) -> Result<(), E> {
        for page in order {
            let begin = Instant::now();
            touch(page * PAGE_BYTES)?;
            self.0.push(begin.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    /// The figure below which so many of a hundred lie, in microseconds.
    fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        self.0[(self.0.len() - 1) * percent / 100] as f64 / 1000.0
    }
}

/// A pager, and what was measured of it.
struct Candidate {
    kind: PagerKind,
    mapping: Arc<Mapping>,
    read_miss: Samples,
    write_miss: Samples,
    upgrade: Samples,
}

impl Candidate {
    fn new(kind: PagerKind) -> Result<Candidate, Box<dyn Error>> {
        let sink = Arc::new(Granter::default());
        let options = MappingOptions::new(RegionKey(0), BYTES).pager(kind);
        let mapping = Arc::new(Mapping::new(options, sink.clone())?);
        let _ = sink.0.set(Arc::downgrade(&mapping));
        for page in 0..PAGES {
            mapping.service().write_page(page as u64, &[page as u8; PAGE_BYTES]);
        }
        let [read_miss, write_miss, upgrade] = [(); 3].map(|()| Samples::default());
        Ok(Candidate { kind, mapping, read_miss, write_miss, upgrade })
    }

    fn round(&mut self, order: &[usize]) -> Result<(), Box<dyn Error>> {
        let mapping = &self.mapping;
        let all = PageRange::new(0, PAGES as u64);
        self.read_miss.take(order, |offset| mapping.load_u8(offset).map(drop))?;
        self.upgrade.take(order, |offset| mapping.store_u8(offset, 1))?;
        mapping.pager().unmap(all)?;
        self.write_miss.take(order, |offset| mapping.store_u8(offset, 1))?;
        mapping.pager().unmap(all)?;
        Ok(())
    }
}

/// Shared memory of the kernel alone.
struct Yardstick {
    start: *mut u8,
    faults: Samples,
}

impl Yardstick {
    fn new() -> Result<Yardstick, Box<dyn Error>> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, at a place that the kernel chooses; it stays until the program ends.
        let start = unsafe { libc::mmap(null_mut(), BYTES, rights, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: the memory just mapped. Advice, so a kernel without huge pages may refuse it.
        unsafe { libc::madvise(start, BYTES, libc::MADV_NOHUGEPAGE) };
        let start = start.cast::<u8>();
        for page in 0..PAGES {
            // SAFETY: within the memory just mapped.
            unsafe { start.add(page * PAGE_BYTES).write_volatile(1) };
        }
        Ok(Yardstick { start, faults: Samples::default() })
    }

    fn round(&mut self, order: &[usize]) -> Result<(), Box<dyn Error>> {
        // SAFETY: shared memory of our own: its page-table entries go, its bytes stay.
        if unsafe { libc::madvise(self.start.cast(), BYTES, libc::MADV_DONTNEED) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let start = self.start;
        self.faults.take(order, |offset| {
            // A store: a load would have the kernel enter the neighbours as well (fault-around).
            // SAFETY: within the memory of our own.
            unsafe { start.add(offset).write_volatile(2) };
            Ok(())
        })
    }
}

/// Every page once, in an order that looks random: a multiplier without a common factor with their number.
fn shuffled(round: usize) -> Vec<usize> {
    (0..PAGES).map(|number| (number * 1_597 + round * 311) % PAGES).collect()
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut yardstick = Yardstick::new()?;
    let mut candidates = Vec::new();
    for kind in PagerKind::ALL {
        match choose(Some(kind)) {
            Ok(_) => candidates.push(Candidate::new(kind)?),
            Err(error) => println!("{kind} is left out: {error}"),
        }
    }
    for round in 0..ROUNDS {
        let order = shuffled(round);
        yardstick.round(&order)?;
        for candidate in &mut candidates {
            candidate.round(&order)?;
        }
    }
    let floor = yardstick.faults.percentile(50);
    println!("{PAGES} pages in random order, {ROUNDS} rounds; microseconds");
    println!("{:<28} {:>8} {:>8} {:>8}", "", "p50", "p99", "ratio");
    let line = |name: String, samples: &mut Samples| {
        let (p50, p99) = (samples.percentile(50), samples.percentile(99));
        println!("{name:<28} {p50:>8.2} {p99:>8.2} {:>8.1}", p50 / floor);
    };
    line("kernel, shared memory".to_owned(), &mut yardstick.faults);
    for candidate in &mut candidates {
        let kind = candidate.kind;
        line(format!("{kind}, read miss"), &mut candidate.read_miss);
        line(format!("{kind}, write miss"), &mut candidate.write_miss);
        line(format!("{kind}, write to readable"), &mut candidate.upgrade);
    }
    Ok(())
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pager_costs: {error}");
            ExitCode::FAILURE
        }
    }
}
