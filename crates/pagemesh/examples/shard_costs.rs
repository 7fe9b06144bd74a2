//! What threads of one node pay that fault on different pages at the same time, by how many shards their node has.
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! PAGEMESH_SHARDS=1 target/release/pagemesh run -n 2 -- target/release/examples/shard_costs
//! PAGEMESH_SHARDS=4 target/release/pagemesh run -n 2 -- target/release/examples/shard_costs
//! ```
//!
//! Node 1 measures. Each of its threads has runs of 2 MiB of its own, which are of different shards where there are several.

use pagemesh::{Config, Mesh, NodeId, Placement, Region, RegionOptions, SharedSlice};
use std::error::Error;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Pages that a thread touches each time, all of one shard.
const PAGES: usize = 512;
const THREADS_MOST: usize = 4;
const ROUNDS: usize = 15;

/// The pages of a run in an order that no way leads through.
fn scattered() -> Vec<usize> {
    let mut order: Vec<usize> = (0..PAGES).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for place in (1..PAGES).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(place, (state % (place as u64 + 1)) as usize);
    }
    order
}

/// The time that passes for each page while so many threads touch each their own.
fn touch(words: &SharedSlice<u64>, threads: usize, order: &[usize]) -> Duration {
    let start = Barrier::new(threads);
    let times = std::thread::scope(|scope| {
        let thread = |number: usize| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let began = Instant::now();
                for page in order {
                    words.get((number * PAGES + page) * 512).expect("the mesh is whole");
                }
                (began, Instant::now())
            })
        };
        let running: Vec<_> = (0..threads).map(thread).collect();
        running.into_iter().map(|thread| thread.join().expect("it ends")).collect::<Vec<_>>()
    });
    let first = times.iter().map(|(began, _)| *began).min();
    let last = times.iter().map(|(_, ended)| *ended).max();
    let all = first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first);
    all / (threads * PAGES) as u32
}

fn region(mesh: &Mesh, name: &str, home: u16) -> Result<Region, Box<dyn Error>> {
    let options =
        RegionOptions::new(THREADS_MOST * PAGES * 4096).placement(Placement::Single(NodeId::new(home)));
    Ok(mesh.region(name, options)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mesh = Mesh::join(Config::from_env()?)?;
    let (measures, turn, order) = (mesh.node() == NodeId::new(1), mesh.barrier(1), scattered());
    // By threads: first touches at the home itself, and reads of pages that node 0 has written.
    let mut costs = vec![(Vec::new(), Vec::new()); THREADS_MOST];
    for round in 0..ROUNDS {
        for threads in 1..=THREADS_MOST {
            let here = region(&mesh, &format!("here {round} {threads}"), 1)?;
            let there = region(&mesh, &format!("there {round} {threads}"), 0)?;
            let words = there.slice::<u64>(0, there.bytes() / 8)?;
            if !measures {
                (0..THREADS_MOST * PAGES).try_for_each(|page| words.set(page * 512, 1))?;
            }
            turn.wait()?;
            if measures {
                let local = touch(&here.slice(0, here.bytes() / 8)?, threads, &order);
                let remote = touch(&words, threads, &order);
                costs[threads - 1].0.push(local);
                costs[threads - 1].1.push(remote);
            }
            turn.wait()?;
        }
    }
    if measures {
        println!(
            "threads  a first touch at home, least and median  a page of another node, least and median (time for each page)"
        );
        for (threads, (mut local, mut remote)) in (1..).zip(costs) {
            local.sort_unstable();
            remote.sort_unstable();
            let (least, median) = (0, ROUNDS / 2);
            println!(
                "{threads:7}  {:?} {:?}  {:?} {:?}",
                local[least], local[median], remote[least], remote[median]
            );
        }
    }
    mesh.leave()?;
    Ok(())
}
