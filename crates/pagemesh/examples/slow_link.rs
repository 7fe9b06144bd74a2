//! What packing does for a link: node 1 reads what node 0 has written, text, numbers and noise, and says how fast that was.
//! docs/transport.md has a run over slow links.
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! PAGEMESH_TRANSPORT=tcp PAGEMESH_PACK=on target/release/pagemesh run -n 2 -- target/release/examples/slow_link
//! ```

use pagemesh::{Config, Mesh, NodeId, Placement, RegionOptions};
use std::time::Instant;

const PAGES: usize = 2048;
const PAGE: usize = 4096;

/// What page `page` holds.
fn page(kind: &str, page: usize) -> Vec<u8> {
    match kind {
        "text" => {
            let lines = (0..).map(|line| {
                format!("{} {} of page {page}: it was read at {}\n", line, line * 7, line * 311 % 1000)
            });
            lines.flat_map(String::into_bytes).take(PAGE).collect()
        }
        // As a grid has them: neighbours differ little.
        "doubles" => {
            (0..PAGE / 8).flat_map(|n| (((page * 512 + n) as f64) / 1000.0).sin().to_le_bytes()).collect()
        }
        "counts" => (0..PAGE / 8).flat_map(|n| ((page * n % 1000) as u64).to_le_bytes()).collect(),
        _ => {
            let mut state = page as u64;
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            (0..PAGE).map(next).collect()
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mesh = Mesh::join(Config::from_env()?)?;
    for kind in ["text", "counts", "doubles", "noise"] {
        let options = RegionOptions::new(PAGES * PAGE).placement(Placement::Single(NodeId::new(0)));
        let region = mesh.region(kind, options)?;
        let bytes = region.slice::<u8>(0, PAGES * PAGE)?;
        if mesh.node().get() == 0 {
            for number in 0..PAGES {
                bytes.write(number * PAGE, &page(kind, number))?;
            }
        }
        mesh.barrier(1).wait()?;
        if mesh.node().get() == 1 {
            let (start, before) = (Instant::now(), mesh.stats().bytes_received);
            for first in (0..PAGES).step_by(64) {
                region.prefetch(first..first + 64)?;
            }
            let mut got = vec![0; PAGES * PAGE];
            bytes.read(0, &mut got)?;
            let (time, came) = (start.elapsed(), mesh.stats().bytes_received - before);
            let speed = (PAGES * PAGE) as f64 / time.as_secs_f64() / 1e6;
            println!(
                "{kind}: {speed:.1} MB/s, {:.2} bytes on the link for each",
                came as f64 / (PAGES * PAGE) as f64
            );
            for (number, got) in got.chunks(PAGE).enumerate() {
                assert_eq!(got, page(kind, number), "page {number}");
            }
        }
        mesh.barrier(1).wait()?;
    }
    mesh.leave()?;
    Ok(())
}
