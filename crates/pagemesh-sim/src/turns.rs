//! Knows who waits for a page at its home, and how many others were served in the meantime.

use crate::breach::Breach;
use pagemesh_protocol::{NodeId, PageAddress};
use std::collections::BTreeMap;

/// The requests that homes have heard and not served.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    nodes: u64,
    /// Each node that waits for a page, and how many others were served since it asked.
    waiting: BTreeMap<PageAddress, Vec<(NodeId, u64)>>,
    /// The most that anyone waited for.
    pub(crate) most: u64,
}

impl Turns {
    pub(crate) fn new(nodes: u16) -> Turns {
        Turns { nodes: nodes as u64, waiting: BTreeMap::new(), most: 0 }
    }

    /// The home of `page` hears that `node` wants it.
    pub(crate) fn asks(&mut self, page: PageAddress, node: NodeId) {
        let waiting = self.waiting.entry(page).or_default();
        if !waiting.iter().any(|(other, _)| *other == node) {
            waiting.push((node, 0));
        }
    }

    /// The home of `page` serves `node`: every other node may be served before one that waits, but only once.
    pub(crate) fn serves(&mut self, page: PageAddress, node: NodeId) -> Result<(), Breach> {
        let Some(waiting) = self.waiting.get_mut(&page) else { return Ok(()) };
        let Some(place) = waiting.iter().position(|(other, _)| *other == node) else { return Ok(()) };
        waiting.remove(place);
        for (other, passed) in waiting {
            *passed += 1;
            self.most = self.most.max(*passed);
            if *passed >= self.nodes {
                return Err(Breach::Turn(format!(
                    "{other:?} waits for {page:?} while {passed} of {} nodes were served",
                    self.nodes
                )));
            }
        }
        Ok(())
    }

    /// The home is told, or tells itself, that `node` cannot have `page`.
    pub(crate) fn gives_up(&mut self, page: PageAddress, node: NodeId) {
        if let Some(waiting) = self.waiting.get_mut(&page) {
            waiting.retain(|(other, _)| *other != node);
        }
    }

    /// Nobody waits for what a dead node asked.
    pub(crate) fn forget(&mut self, node: NodeId) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|(other, _)| *other != node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagemesh_protocol::RegionId;

    const PAGE: PageAddress = PageAddress::new(RegionId(0), 0);

    #[test]
    fn who_is_passed_over_is_noticed() {
        let [patient, other] = [0, 1].map(NodeId::new);
        let mut turns = Turns::new(3);
        turns.asks(PAGE, patient);
        for _ in 0..2 {
            turns.asks(PAGE, other);
            assert!(turns.serves(PAGE, other).is_ok());
        }
        assert_eq!(turns.most, 2);
        turns.asks(PAGE, other);
        assert!(matches!(turns.serves(PAGE, other), Err(Breach::Turn(_))));
    }

    #[test]
    fn who_was_served_or_died_waits_no_more() {
        let [one, other] = [0, 1].map(NodeId::new);
        let mut turns = Turns::new(2);
        turns.asks(PAGE, one);
        assert!(turns.serves(PAGE, one).is_ok());
        turns.asks(PAGE, one);
        turns.forget(one);
        for _ in 0..5 {
            turns.asks(PAGE, other);
            assert!(turns.serves(PAGE, other).is_ok());
        }
    }
}
