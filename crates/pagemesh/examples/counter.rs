//! Every node adds to one shared counter under a lock, then all look at it.
//!
//! Run it on four nodes of this machine:
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! target/release/pagemesh run -n 4 -- target/release/examples/counter 1000
//! ```

use pagemesh::{Config, Mesh, RegionOptions};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u64 = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    let mesh = Mesh::join(Config::from_env()?)?;

    // Whoever comes first creates the region; it lies at the same address on every node, and is zero.
    let region = mesh.region("counter", RegionOptions::new(4096))?;
    let counter = region.slice::<u64>(0, 1)?;

    let lock = mesh.lock(1);
    for _ in 0..rounds {
        let _guard = lock.acquire()?;
        counter.set(0, counter.get(0)? + 1)?;
    }

    mesh.barrier(1).wait()?;
    let stats = mesh.stats();
    println!(
        "node {} of {} at {:#x}: counter {}, {} faults, {} messages sent",
        mesh.node(),
        mesh.nodes(),
        region.base(),
        counter.get(0)?,
        stats.read_faults + stats.write_faults,
        stats.messages_sent,
    );
    mesh.leave()?;
    Ok(())
}
