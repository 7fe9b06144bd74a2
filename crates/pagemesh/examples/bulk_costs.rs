//! What reading and writing much memory in order costs both nodes: node 1 goes through 64 MiB that node 0 has written, a few times each way, and
//! says how long that took at least, and how much processor time both nodes spent for each page. Processor time is the same on
//! a machine that has other work, or nearly.
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! PAGEMESH_TRANSPORT=tcp taskset -c 1 target/release/pagemesh run -n 2 -- target/release/examples/bulk_costs
//! PAGEMESH_TRANSPORT=tcp taskset -c 1 target/release/pagemesh run -n 2 -- target/release/examples/bulk_costs 16 scattered
//! PAGEMESH_UPDATES=off taskset -c 1 target/release/pagemesh run -n 2 -- target/release/examples/bulk_costs release
//! ```
//!
//! A number is the region's unit in KiB. With `scattered` whole units are gone through in no order; with `asked` all pages that are copied at a time are asked
//! for before. With `release` it is a release region: what is sent
//! along there, rather than asked for, has to be turned off.

use pagemesh::{Config, Mesh, NodeId, Placement, Protocol, Region, RegionOptions, SharedSlice};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::time::Instant;

const PAGES: usize = 16_384;
const PAGE: usize = 4096;
const WORDS: usize = PAGE / 8;
const ROUNDS: u64 = 6;
/// Pages asked for, or copied, at a time.
const PIECE: usize = 64;

/// What one way through the memory took, nanoseconds.
struct Took {
    faults: u64,
    reader: u64,
    home: u64,
}

fn processor_ns() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Node 0 writes all pages, so that nobody else has any.
fn write_all(region: &Region, words: &SharedSlice<u64>, round: u64) -> Result<(), Box<dyn Error>> {
    for first in (0..PAGES).step_by(PIECE) {
        region.prefetch_for_writing(first..first + PIECE)?;
        for page in first..first + PIECE {
            words.set(page * WORDS, round << 32 | page as u64)?;
        }
    }
    Ok(())
}

/// What is measured, as the arguments say.
struct Plan {
    /// Pages of a unit.
    unit: usize,
    protocol: Protocol,
    scattered: bool,
    /// Pages are asked for before they are copied.
    asked: bool,
}

impl Plan {
    fn from_arguments() -> Result<Plan, Box<dyn Error>> {
        let mut plan = Plan { unit: 1, protocol: Protocol::WriteInvalidate, scattered: false, asked: false };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "release" => plan.protocol = Protocol::Release,
                "scattered" => plan.scattered = true,
                "asked" => plan.asked = true,
                kibibytes => plan.unit = kibibytes.parse::<usize>()? * 1024 / PAGE,
            }
        }
        Ok(plan)
    }

    /// First pages of what is copied at a time, in the order in which it is, and how many pages each.
    fn pieces(&self) -> (Vec<usize>, usize) {
        if !self.scattered {
            return ((0..PAGES).step_by(PIECE).collect(), PIECE);
        }
        let mut firsts: Vec<usize> = (0..PAGES).step_by(self.unit).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for place in (1..firsts.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            firsts.swap(place, (state % (place as u64 + 1)) as usize);
        }
        (firsts, self.unit)
    }

    fn go_through(&self, words: &SharedSlice<u64>, writes: bool, round: u64) -> Result<(), Box<dyn Error>> {
        let (firsts, pages) = self.pieces();
        let mut private = vec![0; pages * WORDS];
        for first in firsts {
            match (self.asked, writes) {
                (true, false) => words.region().prefetch(first..first + pages)?,
                (true, true) => words.region().prefetch_for_writing(first..first + pages)?,
                (false, _) => {}
            }
            if writes {
                words.write(first * WORDS, &private)?;
            } else {
                words.read(first * WORDS, &mut private)?;
                assert_eq!(private[0], round << 32 | first as u64);
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan::from_arguments()?;
    let mesh = Mesh::join(Config::from_env()?)?;
    let at_first = Placement::Single(NodeId::new(0));
    let options = RegionOptions::new(PAGES * PAGE).placement(at_first);
    let region = mesh.region("bulk", options.unit(plan.unit * PAGE).protocol(plan.protocol))?;
    let words = region.slice::<u64>(0, PAGES * WORDS)?;
    let notes = mesh.region("notes", RegionOptions::new(PAGE).placement(at_first))?;
    let note = notes.slice::<u64>(0, 1)?;
    let turn = mesh.barrier(1);
    for (writes, what) in [(false, "read"), (true, "write")] {
        let (mut least, mut quickest): (Option<Took>, u64) = (None, u64::MAX);
        for round in 0..ROUNDS {
            if mesh.node().get() == 0 {
                write_all(&region, &words, round)?;
            }
            turn.wait()?;
            let faults = || mesh.stats().read_faults + mesh.stats().write_faults;
            let (faulted, began, before) = (faults(), Instant::now(), processor_ns());
            if mesh.node().get() == 1 {
                plan.go_through(&words, writes, round)?;
            }
            let (clock, own) = (began.elapsed().as_nanos() as u64, processor_ns() - before);
            let faults = faults() - faulted;
            turn.wait()?;
            if mesh.node().get() == 0 {
                note.set(0, processor_ns() - before)?;
            }
            turn.wait()?;
            let took = Took { faults, reader: own, home: note.get(0)? };
            quickest = quickest.min(clock);
            let both = |took: &Took| took.reader + took.home;
            if least.as_ref().is_none_or(|least| both(&took) < both(least)) {
                least = Some(took);
            }
        }
        if let Some(Took { faults, reader, home }) = least.filter(|_| mesh.node().get() == 1) {
            let each = |nanos: u64| nanos as f64 / PAGES as f64 / 1000.0;
            println!(
                "{what}: {:.2} us a page at least; processor time {:.2} here, {:.2} at the home, {:.2} in all; {faults} faults",
                each(quickest),
                each(reader),
                each(home),
                each(reader + home)
            );
        }
    }
    mesh.leave()?;
    Ok(())
}
