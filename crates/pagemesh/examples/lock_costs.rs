//! What a lock costs: taken again by the node that had it last, taken from another node, and handed over while all want it.
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! target/release/pagemesh run -n 3 -- target/release/examples/lock_costs
//! ```

use pagemesh::{Config, Mesh, RegionOptions};
use std::error::Error;
use std::time::{Duration, Instant};

const AGAIN: u32 = 1_000_000;
const ROUNDS: u64 = 2_000;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mesh = Mesh::join(Config::from_env()?)?;
    let region = mesh.region("lock costs", RegionOptions::new(4096 * mesh.nodes()))?;
    let (own, nodes) = (mesh.node().get() as u64, mesh.nodes() as u64);
    let together = mesh.barrier(1);

    // Each node a lock of its own, so that nobody is in the way.
    let lock = mesh.lock(1000 + own);
    drop(lock.acquire()?);
    together.wait()?;
    let (began, sent) = (Instant::now(), mesh.stats().messages_sent);
    for _ in 0..AGAIN {
        drop(lock.acquire()?);
    }
    let again = began.elapsed() / AGAIN;
    let sent = mesh.stats().messages_sent - sent;

    // Taken in turn: each has to get it from the one before. Beside it a question to another node, and its answer.
    let page = ((own + 1) % nodes) as usize;
    let (mut taken, mut asked) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        together.wait()?;
        if round % nodes == own {
            let began = Instant::now();
            drop(mesh.lock(1).acquire()?);
            taken.push(began.elapsed());
            let began = Instant::now();
            region.page_owner(page)?;
            asked.push(began.elapsed());
        }
    }
    together.wait()?;

    let began = Instant::now();
    for _ in 0..ROUNDS {
        drop(mesh.lock(2).acquire()?);
    }
    together.wait()?;
    let contended = began.elapsed() / (ROUNDS * nodes) as u32;

    let (taken, asked) = (median(taken), median(asked));
    let ratio = taken.as_secs_f64() / asked.as_secs_f64();
    println!(
        "again {again:?} with {sent} messages; from another node {taken:?}, {ratio:.2} round trips of {asked:?}"
    );
    println!("all at once: {contended:?} for each");
    mesh.leave()?;
    Ok(())
}
