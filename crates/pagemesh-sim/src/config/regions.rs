//! Which regions a seed has.

use crate::random::Random;
use pagemesh_protocol::{NodeId, Placement, Protocol, limits};

/// A region that the threads open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionPlan {
    /// Pages.
    pub pages: u64,
    /// Homes.
    pub placement: Placement,
    /// How copies are kept coherent.
    pub protocol: Protocol,
    /// 0: any address.
    pub address: u64,
    /// The round in which the threads open it; what needs it before is left out.
    pub round: u32,
}

/// Pages of a region: no fewer than there are locks, each of which has a page of each of the first regions.
pub(crate) const PAGES_MIN: u64 = 4;

pub(super) fn draw_regions(random: &mut Random, nodes: u16) -> Vec<RegionPlan> {
    let count = if random.chance(40) { 1 } else { random.between(2, 4) };
    (0..count)
        .map(|number| {
            let pages = random.between(PAGES_MIN, 12);
            let placement = match random.below(10) {
                0..=3 => Placement::Cyclic,
                4..=5 => Placement::Single(NodeId::new(random.below(nodes as u64) as u16)),
                6..=7 => Placement::Block,
                _ => Placement::FirstTouch,
            };
            let protocol = if random.chance(40) { Protocol::Migration } else { Protocol::WriteInvalidate };
            let slot = if random.chance(50) { 1 } else { 40 };
            let fixed = limits::REGION_BASE + slot * limits::REGION_ALIGN;
            let address = if random.chance(15) { fixed } else { 0 };
            let round = u32::from(number > 0 && random.chance(25));
            RegionPlan { pages, placement, protocol, address, round }
        })
        .collect()
}

/// On some nodes the first addresses that the coordinator proposes are taken; sometimes also the one asked for.
pub(super) fn draw_blocked(random: &mut Random, nodes: u16, regions: &[RegionPlan]) -> Vec<Vec<u64>> {
    let mut blocked = vec![Vec::new(); nodes as usize];
    if random.chance(30) {
        for slot in 0..random.between(1, 4) {
            let node = random.index(nodes as usize);
            blocked[node].push(limits::REGION_BASE + slot * limits::REGION_ALIGN);
        }
    }
    for plan in regions {
        if plan.address != 0 && random.chance(30) {
            blocked[random.index(nodes as usize)].push(plan.address);
        }
    }
    blocked
}
