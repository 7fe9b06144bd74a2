//! What locked ranges cost: `range_costs [ROUNDS]` on two nodes or more, started by `pagemesh run`. Node 1 locks ranges of a region whose
//! master is node 0, and prints microseconds for a lock and giving it back, medians of all rounds; a lock of the mesh that node 0 keeps
//! stands beside them.

use pagemesh::{Access, Config, Mesh, NodeId, Placement, Protocol, RangeError, Region, RegionOptions};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
const LARGE: usize = 16 << 20;

/// The median time of `round`.
fn median(
    rounds: usize,
    mut round: impl FnMut(usize) -> Result<Duration, RangeError>,
) -> Result<f64, RangeError> {
    let mut times = (0..rounds).map(&mut round).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

fn locked(
    region: &Region,
    bytes: usize,
    access: Access,
    work: impl FnOnce(),
) -> Result<Duration, RangeError> {
    let started = Instant::now();
    let guard = region.lock_range(0..bytes, access, None)?;
    work();
    guard.unlock()?;
    Ok(started.elapsed())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(2000), |text| text.parse())?;
    let mesh = Mesh::join(Config::from_env()?)?;
    let options =
        RegionOptions::new(LARGE).protocol(Protocol::Entry).placement(Placement::Single(NodeId::new(0)));
    let region = mesh.region("ranges", options)?;
    let words = region.slice::<u64>(0, LARGE / 8)?;
    let (me, turn) = (mesh.node().get(), mesh.barrier(1));
    turn.wait()?;
    if me == 1 {
        let lock = mesh.lock(0);
        let plain = median(rounds, |_| {
            let started = Instant::now();
            drop(lock.acquire()?);
            Ok(started.elapsed())
        })?;
        println!("lock of the mesh                                {plain:9.1} us");
        let unchanged = median(rounds, |_| locked(&region, PAGE, Access::Read, || ()))?;
        println!("4 KiB for reading, unchanged                    {unchanged:9.1} us");
        let untouched = median(rounds, |_| locked(&region, PAGE, Access::Write, || ()))?;
        println!("4 KiB for writing, nothing written              {untouched:9.1} us");
        let write = |round: usize| {
            locked(&region, PAGE, Access::Write, || {
                let _ = words.set(7, round as u64 + 1);
            })
        };
        println!("4 KiB for writing, 8 bytes written              {:9.1} us", median(rounds, write)?);
    }
    turn.wait()?;
    let mut changed = Vec::new();
    for round in 0..rounds.min(500) {
        if me == 0 {
            let _guard = region.lock_write(0..PAGE)?;
            for word in 0..PAGE / 8 {
                words.set(word, (round + word) as u64)?;
            }
        }
        turn.wait()?;
        if me == 1 {
            changed.push(locked(&region, PAGE, Access::Read, || ())?);
        }
        turn.wait()?;
    }
    let mut large = Vec::new();
    for round in 0..10 {
        if me == 0 {
            let _guard = region.lock_write(0..LARGE)?;
            for word in 0..LARGE / 8 {
                words.set(word, (round + 1000 + word) as u64)?;
            }
        }
        turn.wait()?;
        if me == 1 {
            large.push(locked(&region, LARGE, Access::Read, || ())?);
        }
        turn.wait()?;
    }
    if me == 1 {
        let median = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64()
        };
        println!("4 KiB for reading, all of it new                {:9.1} us", median(changed) * 1e6);
        let seconds = median(large);
        let rate = LARGE as f64 / seconds / f64::from(1 << 20);
        println!("16 MiB for reading, all of it new               {:9.1} us, {rate:.0} MiB/s", seconds * 1e6);
    }
    mesh.leave()?;
    Ok(())
}
