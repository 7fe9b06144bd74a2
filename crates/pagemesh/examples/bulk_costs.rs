//! What reading and writing much memory in order costs both nodes: node 1 goes through 64 MiB that node 0 has written, a few times each way, and
//! says how long that took at least, and how much processor time both nodes spent for each page. Processor time is the same on
//! a machine that has other work, or nearly.
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! PAGEMESH_TRANSPORT=tcp taskset -c 1 target/release/pagemesh run -n 2 -- target/release/examples/bulk_costs
//! ```
//!
//! With a number after it, so many pages are asked for at a time; without, the pages are missed one by one.

use pagemesh::{Config, Mesh, NodeId, Placement, Region, RegionOptions, SharedSlice};
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
    clock: u64,
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

fn go_through(
    words: &SharedSlice<u64>,
    writes: bool,
    round: u64,
    asked: Option<usize>,
) -> Result<(), Box<dyn Error>> {
    let mut private = vec![0; PIECE * WORDS];
    for first in (0..PAGES).step_by(PIECE) {
        if let Some(asked) = asked.filter(|asked| first % asked == 0) {
            let pages = first..(first + asked).min(PAGES);
            if writes {
                words.region().prefetch_for_writing(pages)?;
            } else {
                words.region().prefetch(pages)?;
            }
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

fn main() -> Result<(), Box<dyn Error>> {
    let asked = std::env::args().nth(1).map(|asked| asked.parse()).transpose()?;
    let mesh = Mesh::join(Config::from_env()?)?;
    let at_first = Placement::Single(NodeId::new(0));
    let region = mesh.region("bulk", RegionOptions::new(PAGES * PAGE).placement(at_first))?;
    let words = region.slice::<u64>(0, PAGES * WORDS)?;
    let notes = mesh.region("notes", RegionOptions::new(PAGE).placement(at_first))?;
    let note = notes.slice::<u64>(0, 1)?;
    let turn = mesh.barrier(1);
    for (writes, what) in [(false, "read"), (true, "write")] {
        let mut least: Option<Took> = None;
        for round in 0..ROUNDS {
            if mesh.node().get() == 0 {
                write_all(&region, &words, round)?;
            }
            turn.wait()?;
            let (began, before) = (Instant::now(), processor_ns());
            if mesh.node().get() == 1 {
                go_through(&words, writes, round, asked)?;
            }
            let (clock, own) = (began.elapsed().as_nanos() as u64, processor_ns() - before);
            turn.wait()?;
            if mesh.node().get() == 0 {
                note.set(0, processor_ns() - before)?;
            }
            turn.wait()?;
            let took = Took { clock, reader: own, home: note.get(0)? };
            let both = |took: &Took| took.reader + took.home;
            if least.as_ref().is_none_or(|least| both(&took) < both(least)) {
                least = Some(took);
            }
        }
        if let Some(Took { clock, reader, home }) = least.filter(|_| mesh.node().get() == 1) {
            let each = |nanos: u64| nanos as f64 / PAGES as f64 / 1000.0;
            println!(
                "{what}: {:.2} us a page; processor time {:.2} here, {:.2} at the home, {:.2} in all",
                each(clock),
                each(reader),
                each(home),
                each(reader + home)
            );
        }
    }
    mesh.leave()?;
    Ok(())
}
