//! What it costs to learn which pages were written: the first write to a page that is granted for reading, with each pager, and
//! with the kernel noting it; and then the harvest, which lists the written pages and makes them clean.
//!
//! ```text
//! cargo run --release -p pagemesh-memory --example write_costs
//! ```
//!
//! All candidates take turns in every round, with the yardstick: the least that a fault on shared memory can cost, one that the
//! kernel resolves by entering a page that the file holds. Pages are written in random order. The harvest is measured alone and
//! beside a thread that computes, since whatever takes rights away interrupts other processors; beside it stands what the other pagers
//! need to begin anew, one call that protects all pages.

use pagemesh_memory::{
    Access, Fault, FaultSink, Mapping, MappingOptions, PAGE_BYTES, PageRange, PagerKind, RegionKey,
    Resolution, choose,
};
use std::error::Error;
use std::hint::spin_loop;
use std::process::ExitCode;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Instant;

const PAGES: usize = 4096;
const ALL: PageRange = PageRange::new(0, PAGES as u64);
const ROUNDS: usize = 15;
const HARVEST_ROUNDS: usize = 101;

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

/// A region of pages that are all granted for reading, and what was measured of it.
struct Candidate {
    name: String,
    mapping: Arc<Mapping>,
    nanoseconds: Vec<u64>,
}

impl Candidate {
    fn new(kind: PagerKind, track_writes: bool) -> Result<Candidate, Box<dyn Error>> {
        let sink = Arc::new(Granter::default());
        let options = MappingOptions::new(RegionKey(0), PAGES * PAGE_BYTES).pager(kind);
        let mapping = Arc::new(Mapping::new(options.track_writes(track_writes), sink.clone())?);
        let _ = sink.0.set(Arc::downgrade(&mapping));
        mapping.populate(ALL)?;
        mapping.pager().map(ALL, Access::Read)?;
        let name =
            if track_writes { "noted by the kernel".to_owned() } else { format!("{kind}, write fault") };
        Ok(Candidate { name, mapping, nanoseconds: Vec::new() })
    }

    /// Makes every page clean, then times the first write to each.
    fn round(&mut self, order: &[usize]) -> Result<(), Box<dyn Error>> {
        if self.mapping.tracks_writes() {
            self.mapping.harvest(ALL, |_| ())?;
        } else {
            self.mapping.pager().protect(ALL)?;
        }
        for page in order {
            let begin = Instant::now();
            self.mapping.store_u8(page * PAGE_BYTES, 1)?;
            self.nanoseconds.push(begin.elapsed().as_nanos() as u64);
        }
        Ok(())
    }
}

/// Shared memory of the kernel alone.
struct Yardstick {
    start: *mut u8,
    nanoseconds: Vec<u64>,
}

impl Yardstick {
    fn new() -> Result<Yardstick, Box<dyn Error>> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, at a place that the kernel chooses; it stays until the program ends.
        let start = unsafe { libc::mmap(null_mut(), PAGES * PAGE_BYTES, rights, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: the memory just mapped. Advice, so a kernel without huge pages may refuse it.
        unsafe { libc::madvise(start, PAGES * PAGE_BYTES, libc::MADV_NOHUGEPAGE) };
        let mut yardstick = Yardstick { start: start.cast(), nanoseconds: Vec::new() };
        yardstick.touch(&shuffled(0));
        yardstick.nanoseconds.clear();
        Ok(yardstick)
    }

    fn touch(&mut self, order: &[usize]) {
        for page in order {
            let begin = Instant::now();
            // SAFETY: within the memory of our own.
            unsafe { self.start.add(page * PAGE_BYTES).write_volatile(2) };
            self.nanoseconds.push(begin.elapsed().as_nanos() as u64);
        }
    }

    fn round(&mut self, order: &[usize]) -> Result<(), Box<dyn Error>> {
        // SAFETY: shared memory of our own: its page-table entries go, its bytes stay.
        if unsafe { libc::madvise(self.start.cast(), PAGES * PAGE_BYTES, libc::MADV_DONTNEED) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        self.touch(order);
        Ok(())
    }
}

/// Every page once, in an order that looks random: a multiplier without a common factor with their number.
fn shuffled(round: usize) -> Vec<usize> {
    (0..PAGES).map(|number| (number * 1_597 + round * 311) % PAGES).collect()
}

/// The figure below which so many of a hundred lie, in microseconds.
fn percentile(nanoseconds: &mut [u64], percent: usize) -> f64 {
    nanoseconds.sort_unstable();
    nanoseconds[(nanoseconds.len() - 1) * percent / 100] as f64 / 1000.0
}

fn first_writes(candidates: &mut [Candidate]) -> Result<(), Box<dyn Error>> {
    let mut yardstick = Yardstick::new()?;
    for round in 0..ROUNDS {
        let order = shuffled(round);
        yardstick.round(&order)?;
        for candidate in &mut *candidates {
            candidate.round(&order)?;
        }
    }
    let floor = percentile(&mut yardstick.nanoseconds, 50);
    println!("First write to a clean page, {PAGES} in random order, {ROUNDS} rounds; microseconds");
    println!("{:<28} {:>8} {:>8} {:>8}", "", "p50", "p99", "ratio");
    let line = |name: &str, nanoseconds: &mut [u64]| {
        let (p50, p99) = (percentile(nanoseconds, 50), percentile(nanoseconds, 99));
        println!("{name:<28} {p50:>8.2} {p99:>8.2} {:>8.1}", p50 / floor);
    };
    line("kernel, shared memory", &mut yardstick.nanoseconds);
    for candidate in candidates {
        line(&candidate.name, &mut candidate.nanoseconds);
    }
    Ok(())
}

fn harvests(tracked: &Mapping, other: &Mapping) -> Result<(), Box<dyn Error>> {
    println!();
    println!(
        "Harvest of {PAGES} pages, of which some were written; protecting all of them; p50 of {HARVEST_ROUNDS}"
    );
    println!("{:<28} {:>8} {:>12} {:>12} {:>8}", "", "us", "ns/written", "protect us", "ratio");
    for beside in ["alone", "beside a thread"] {
        let done = AtomicBool::new(false);
        thread::scope(|scope| -> Result<(), Box<dyn Error>> {
            if beside != "alone" {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        spin_loop();
                    }
                });
            }
            let result = [0, 1, 64, 1024].into_iter().try_for_each(|written| {
                let (harvest, protect) = harvest_of(tracked, other, written)?;
                let each = if written == 0 {
                    "-".to_owned()
                } else {
                    format!("{:.0}", harvest * 1000.0 / written as f64)
                };
                let name = format!("{beside}, {written} written");
                println!("{name:<28} {harvest:>8.1} {each:>12} {protect:>12.1} {:>8.2}", harvest / protect);
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            result
        })?;
    }
    Ok(())
}

/// Microseconds of a harvest and of protecting all pages, when so many scattered ones were written.
fn harvest_of(tracked: &Mapping, other: &Mapping, written: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut harvests, mut protections) = (Vec::new(), Vec::new());
    for round in 0..HARVEST_ROUNDS {
        for page in &shuffled(round)[..written] {
            tracked.store_u8(page * PAGE_BYTES, 1)?;
            other.store_u8(page * PAGE_BYTES, 1)?;
        }
        let begin = Instant::now();
        let found = tracked.harvest(ALL, |_| ())?;
        harvests.push(begin.elapsed().as_nanos() as u64);
        if found != written as u64 {
            return Err(format!("{written} pages were written, and {found} harvested").into());
        }
        let begin = Instant::now();
        other.pager().protect(ALL)?;
        protections.push(begin.elapsed().as_nanos() as u64);
    }
    Ok((percentile(&mut harvests, 50), percentile(&mut protections, 50)))
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut candidates = vec![Candidate::new(PagerKind::Sigbus, true)?];
    for kind in PagerKind::ALL {
        match choose(Some(kind)) {
            Ok(_) => candidates.push(Candidate::new(kind, false)?),
            Err(error) => println!("{kind} is left out: {error}"),
        }
    }
    let tracked = candidates[0].mapping.clone();
    if !tracked.tracks_writes() {
        return Err(format!("writes cannot be tracked here: {:?}", tracked.write_tracking()).into());
    }
    first_writes(&mut candidates)?;
    tracked.harvest(ALL, |_| ())?;
    let other = candidates
        .iter()
        .find(|one| one.mapping.pager().kind() == PagerKind::Sigbus && !one.mapping.tracks_writes());
    harvests(&tracked, &other.ok_or("the sigbus pager cannot be had")?.mapping)
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write_costs: {error}");
            ExitCode::FAILURE
        }
    }
}
