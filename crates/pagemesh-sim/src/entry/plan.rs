//! What a seed stands for: the mesh, its regions, and what goes wrong.

use crate::random::Random;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// A region: only some of its bytes are ever looked at, and ranges begin and end only beside them.
#[derive(Clone, Debug)]
pub(super) struct RegionPlan {
    pub(super) pages: u64,
    pub(super) master: usize,
    /// Where ranges may begin and end, in order.
    pub(super) edges: Vec<u64>,
    /// Bytes that are written and read, in order: the first and the last between two edges.
    pub(super) cells: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// The node of each thread.
    pub(super) threads: Vec<usize>,
    pub(super) regions: Vec<RegionPlan>,
    /// Ranges that each thread locks, one after the other.
    pub(super) sections: u64,
    /// Of 100 sections, how many write.
    pub(super) writes: u32,
    /// Of 100 calls, how many only try.
    pub(super) tries: u32,
    /// Of 100 ranges, how many are followed by another before they are given back.
    pub(super) nested: u32,
    /// Of 100 releases, how many publish whole pages.
    pub(super) whole: u32,
    /// How likely it is that a call gives up before anything else happens.
    pub(super) impatience: u64,
    /// The step at which two nodes lose each other, or one dies (then both are the same).
    pub(super) losses: Vec<(u64, usize, usize)>,
    /// How likely the next message of a link comes next, by link.
    pub(super) weights: Vec<u64>,
    pub(super) thread_weight: u64,
}

impl RegionPlan {
    fn draw(random: &mut Random, nodes: usize) -> RegionPlan {
        // Some are longer than what a master sends at a time.
        let pages = if random.chance(30) { random.between(9, 30) } else { random.between(1, 4) };
        let end = pages * PAGE;
        let mut edges = vec![0, end];
        for _ in 0..random.between(2, 12) {
            let edge = match random.index(3) {
                0 => random.below(pages) * PAGE,
                1 => random.below(pages) * PAGE + random.below(40),
                _ => random.below(end),
            };
            edges.push(edge);
        }
        if pages > 8 {
            edges.extend((0..pages).map(|page| page * PAGE));
        }
        edges.sort_unstable();
        edges.dedup();
        let mut cells: Vec<u64> = edges.windows(2).flat_map(|pair| [pair[0], pair[1] - 1]).collect();
        cells.dedup();
        RegionPlan { pages, master: random.index(nodes), edges, cells }
    }
}

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Plan {
        let nodes = random.between(1, 5) as usize;
        let threads = (0..nodes).flat_map(|node| vec![node; random.between(1, 3) as usize]).collect();
        let regions = (0..random.between(1, 2)).map(|_| RegionPlan::draw(random, nodes)).collect();
        let losses = (0..random.below(4).saturating_sub(1))
            .map(|_| (random.between(20, 600), random.index(nodes), random.index(nodes)))
            .collect();
        Plan {
            nodes,
            threads,
            regions,
            sections: random.between(2, 14),
            writes: [20, 50, 80][random.index(3)],
            tries: [0, 20, 60][random.index(3)],
            nested: [0, 20][random.index(2)],
            whole: [0, 50, 100][random.index(3)],
            impatience: random.below(2),
            losses,
            weights: (0..nodes * nodes).map(|_| [1, 5, 20][random.index(3)]).collect(),
            thread_weight: [2, 10, 40][random.index(3)],
        }
    }
}
