//! Allocates, resizes, hands over and frees blocks at random, on every node, and checks every byte: `heap_storm [OPERATIONS
//! [write-invalidate|migration|release [MEBIBYTES]]]`, operations of each node. Start it by `pagemesh run`.

#[path = "../tests/heap_player/mod.rs"]
mod heap_player;

use heap_player::Player;
use pagemesh::{Config, Heap, Mesh, Protocol, RegionOptions};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let operations: u64 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let protocol = match arguments.next().as_deref() {
        None | Some("write-invalidate") => Protocol::WriteInvalidate,
        Some("migration") => Protocol::Migration,
        Some("release") => Protocol::Release,
        Some(other) => return Err(format!("there is no protocol {other:?}").into()),
    };
    let mebibytes: usize = arguments.next().map_or(Ok(16), |text| text.parse())?;
    let mesh = Mesh::join(Config::from_env()?)?;
    let heap = Heap::open(&mesh, "storm", RegionOptions::new(mebibytes << 20).protocol(protocol))?;
    let mut player = Player::new(&mesh, &heap, 0, None);
    mesh.barrier(1).wait()?;
    let started = Instant::now();
    for _ in 0..operations {
        player.step();
    }
    let took = started.elapsed();
    player.finish();
    // What belongs to one node stays with it.
    let pairs = operations.div_ceil(10);
    let alone = Instant::now();
    for _ in 0..pairs {
        heap.free(heap.alloc(64, 16)?)?;
    }
    let pair = alone.elapsed().as_nanos() / u128::from(pairs.max(1));
    let stats = heap.stats()?;
    println!(
        "node {}: {operations} operations in {took:.1?}: {} allocated, {} freed; then {pair} ns for each alloc and free",
        mesh.node(),
        stats.allocations,
        stats.frees
    );
    mesh.leave()?;
    Ok(())
}
