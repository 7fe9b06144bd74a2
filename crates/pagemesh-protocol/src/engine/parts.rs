//! Engines that decide about some of a node's pages.
//!
//! A node with many cores has several engines, so that what happens to one page need not wait for what happens to another. The first is a
//! whole engine. It agrees on regions with other nodes, and has every object of synchronisation. The others are *parts*: each decides about
//! those pages of write-invalidate and migration regions that a [`Division`](crate::Division) gives it, and so does the first. Nodes see no difference: a message names
//! its page, and who receives it hands it to the engine of that page.
//!
//! What a part has to know is told by its caller, from what the first engine asks for:
//!
//! | the first engine | the caller tells every part | before |
//! |---|---|---|
//! | `MapRegion`, and it was mapped | [`Engine::on_region_told`] | the first is told `on_region_mapped`, and so before any node can ask for a page |
//! | `UnmapRegion`, `ForgetRegion` | [`Engine::on_region_ended`] | the addresses are given up |
//!
//! A lost node is told to every engine, the parts first: who hears from an object of synchronisation that a node is gone finds it gone.
//! In what order engines hear what happens to different pages does not matter, as it does not between the homes of different pages: each page
//! has one writer or many readers at every moment, whatever the others have.
//!
//! So an unlock, which the first engine sends, needs no look at the other engines, and neither does the grant at the other end. A store that came
//! before the unlock was done in a copy that was MODIFIED, so no other node had a copy then; who reads after the grant has one
//! that was sent later, or was written itself.
//!
//! Requests are named by their node and a number, so the engines of one node take every nth of them. Tickets are those of the node's calls: a slot waits in one engine at a
//! time.

use super::{Engine, EngineConfig};
use crate::action::Actions;
use crate::ids::{Access, PageAddress, RegionId, Ticket};
use crate::limits;
use crate::region::RegionSpec;
use crate::{PinHolder, PinId};

impl Engine {
    /// Engine number `part` of the `parts` of one node. Number 0 is a whole one, as [`Engine::new`] makes where there are no others; the others
    /// have no objects of synchronisation, and are told of regions.
    ///
    /// # Panics
    /// As [`Engine::new`]; and when there is no such part, or there are more than [`limits::ENGINES`].
    pub fn part(config: EngineConfig, part: u16, parts: u16) -> Engine {
        assert!(part < parts && parts as usize <= limits::ENGINES, "part {part} of {parts}");
        let config = if part == 0 {
            config
        } else {
            EngineConfig { locks: 0, barriers: 0, gathered: 0, rwlocks_left: 0, ..config }
        };
        Engine::numbered(config, (part, parts))
    }

    /// `region` is mapped on this node: this part decides about some of its pages from now on.
    pub fn on_region_told(&mut self, region: RegionId, spec: RegionSpec) {
        self.agreements.recall(region);
        self.pages.add(region, spec, true);
    }

    /// The region is not, or no longer, mapped on this node. Calls that wait for its pages fail, and what others still say about it is late.
    pub fn on_region_ended(&mut self, region: RegionId, out: &mut Actions) {
        if self.pages.spec(region).is_some() {
            self.agreements.put_away(region);
            self.forget_region(region, out);
            self.settle(out);
        }
    }

    /// As [`on_pin`](Engine::on_pin), for a holder that has other pins of pages which another engine of this node decides about.
    pub fn on_pin_further(
        &mut self,
        ticket: Ticket,
        (pin, holder): (PinId, PinHolder),
        page: PageAddress,
        access: Access,
        out: &mut Actions,
    ) {
        self.pin(ticket, (pin, holder, true), page, access, out);
        self.settle(out);
    }
}
