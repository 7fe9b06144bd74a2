//! Prints which node is the home of which page, for every placement.
//!
//! Run it on three nodes of this machine, with regions of 12 pages:
//!
//! ```text
//! cargo build --release --workspace --examples
//! target/release/pagemesh run -n 3 --no-prefix -- target/release/examples/placement 12
//! ```

use pagemesh::{Config, Mesh, NodeId, Placement, RegionOptions};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let pages: usize = std::env::args().nth(1).map_or(Ok(12), |text| text.parse())?;
    let mesh = Mesh::join(Config::from_env()?)?;
    let (me, nodes) = (mesh.node().index(), mesh.nodes());

    let last = NodeId::new(nodes as u16 - 1);
    let placements = [
        ("cyclic", Placement::Cyclic),
        ("block", Placement::Block),
        ("single", Placement::Single(last)),
        ("first-touch", Placement::FirstTouch),
    ];
    let mut homes = Vec::new();
    for (name, placement) in placements {
        let region = mesh.region(name, RegionOptions::new(pages * 4096).placement(placement))?;
        // Each node comes first at two pages out of every 2 N; the last two of all are touched by nobody.
        let words = region.slice::<u64>(0, pages * 512)?;
        for page in (0..pages.saturating_sub(2)).filter(|page| page / 2 % nodes == me) {
            words.set(page * 512, 1)?;
        }
        mesh.barrier(1).wait()?;
        homes.push((0..pages).map(|page| region.page_home(page)).collect::<Result<Vec<_>, _>>()?);
    }

    if me == 0 {
        println!(
            "home of each page of {pages} on {nodes} nodes; node n touches pages p with p / 2 mod {nodes} = n"
        );
        let heads = placements.map(|(name, _)| format!("{name:>11}"));
        println!("page {}", heads.join(" "));
        for page in 0..pages {
            let home = |homes: &Vec<Option<NodeId>>| match homes[page] {
                Some(node) => format!("{:>11}", node.get()),
                None => format!("{:>11}", "-"),
            };
            println!("{page:>4} {}", homes.iter().map(home).collect::<Vec<_>>().join(" "));
        }
    }
    mesh.leave()?;
    Ok(())
}
