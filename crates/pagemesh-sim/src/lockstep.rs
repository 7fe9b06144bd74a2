//! A world without threads, driven by hand.

use crate::breach::Breach;
use crate::config::Config;
use crate::event::{Caller, Event, Wanted};
use crate::network::Parcel;
use crate::run::Options;
use crate::trace::TraceMode;
use crate::world::{Manner, World};
use pagemesh_protocol::{
    Access, BarrierId, LockId, Message, Outcome, PageAddress, PageState, Placement, Protocol, RegionId,
    RegionName, RegionSpec, Ticket, Unit,
};

/// Engines, links and memory without threads and delays. Calls are made and messages delivered one by one, each
/// followed by every check; writes are not simulated, so all pages stay zero.
pub struct Lockstep {
    pub(crate) world: World,
    regions: u64,
}

impl Lockstep {
    /// A mesh of `nodes` nodes without a region.
    pub fn new(nodes: u16) -> Lockstep {
        Lockstep::seeded(nodes, 0, TraceMode::Full)
    }

    /// As [`new`](Lockstep::new), where [`settle`](Lockstep::settle) delivers in an order that `seed` decides.
    pub(crate) fn seeded(nodes: u16, seed: u64, trace: TraceMode) -> Lockstep {
        let config = Config { seed, ..Config::bare(nodes) };
        let options = Options { trace, ..Options::default() };
        Lockstep { world: World::new(config, options), regions: 0 }
    }

    /// Creates a region from node 0 and delivers everything until it is mapped everywhere.
    ///
    /// # Errors
    /// When a check fails.
    pub fn open_region(&mut self, pages: u64, placement: Placement) -> Result<RegionId, Breach> {
        self.open_region_of(Protocol::WriteInvalidate, pages, placement)
    }

    /// As [`open_region`](Lockstep::open_region), for any protocol.
    ///
    /// # Errors
    /// When a check fails.
    pub fn open_region_of(
        &mut self,
        protocol: Protocol,
        pages: u64,
        placement: Placement,
    ) -> Result<RegionId, Breach> {
        self.regions += 1;
        let name = format!("region {}", self.regions);
        let name = RegionName::new(&name).map_err(|error| Breach::Region(error.to_string()))?;
        let spec = RegionSpec { name, pages, placement, protocol, unit: Unit::Page, address: 0 };
        let ticket = self.begin(0, Wanted::Region(0));
        self.feed(0, Event::RegionOpen { ticket, create: true, spec })?;
        self.settle()?;
        match self.outcome(0, ticket) {
            Some(Outcome::Region { region, .. }) => Ok(region),
            other => Err(Breach::Region(format!("the region was not mapped: {other:?}"))),
        }
    }

    /// From now on the page of a fault is held for its thread until [`resume`](Lockstep::resume); before, threads are taken to
    /// use their pages at once.
    pub fn slow_threads(&mut self) {
        self.world.slow_threads = true;
    }

    /// The thread whose fault ended has used its page.
    ///
    /// # Errors
    /// When a check fails.
    pub fn resume(&mut self, node: usize, ticket: Ticket) -> Result<(), Breach> {
        self.feed(node, Event::Resumed { ticket })
    }

    /// Most nodes that were served while another waited for the same page.
    pub fn passed_max(&self) -> u64 {
        self.world.counts.passed_max
    }

    /// Node `node` faults; the answer comes with later deliveries.
    ///
    /// # Errors
    /// When a check fails.
    pub fn fault(&mut self, node: usize, page: PageAddress, access: Access) -> Result<Ticket, Breach> {
        let ticket = self.begin(node, Wanted::Page { page, access });
        self.feed(node, Event::Fault { ticket, page, access })?;
        Ok(ticket)
    }

    /// Node `node` uses a page and everything is delivered; returns how many messages that took, 0 for a hit.
    ///
    /// # Errors
    /// When a check fails or the access does not succeed.
    pub fn access(&mut self, node: usize, page: PageAddress, access: Access) -> Result<u64, Breach> {
        let before = self.messages();
        if !self.state(node, page).allows(access) {
            let ticket = self.fault(node, page, access)?;
            self.settle()?;
            let outcome = self.outcome(node, ticket);
            if outcome != Some(Outcome::Done) {
                return Err(Breach::Stuck(format!("n{node} did not get {page:?}: {outcome:?}")));
            }
        }
        Ok(self.messages() - before)
    }

    /// Node `node` wants a lock.
    ///
    /// # Errors
    /// When a check fails.
    pub fn lock(&mut self, node: usize, lock: LockId) -> Result<Ticket, Breach> {
        let ticket = self.begin(node, Wanted::Lock(lock));
        self.feed(node, Event::LockAcquire { ticket, lock })?;
        Ok(ticket)
    }

    /// Node `node` gives a lock back.
    ///
    /// # Errors
    /// When a check fails.
    pub fn unlock(&mut self, node: usize, lock: LockId, ticket: Ticket) -> Result<(), Breach> {
        self.feed(node, Event::LockRelease { ticket, lock })
    }

    /// Node `node` arrives at a barrier.
    ///
    /// # Errors
    /// When a check fails.
    pub fn arrive(&mut self, node: usize, barrier: BarrierId, participants: u32) -> Result<Ticket, Breach> {
        let ticket = self.begin(node, Wanted::Barrier(barrier));
        self.feed(node, Event::BarrierArrive { ticket, barrier, participants })?;
        Ok(ticket)
    }

    /// Node `node` no longer waits for `ticket`.
    ///
    /// # Errors
    /// When a check fails.
    pub fn cancel(&mut self, node: usize, ticket: Ticket) -> Result<(), Breach> {
        self.feed(node, Event::Cancel { ticket })
    }

    /// Node `node` dies. What it sent before is still delivered; after that, on each link, the news of its loss.
    pub fn kill(&mut self, node: usize) {
        self.world.lose(node, Manner::LateDeath);
    }

    /// Delivers the oldest message from one node to another; `None` when there is none.
    ///
    /// # Errors
    /// When a check fails.
    pub fn deliver(&mut self, from: usize, to: usize) -> Result<Option<Message>, Breach> {
        let link = self.world.network.link(from, to);
        let first = self.world.network.first(link);
        if first.is_none() {
            return Ok(None);
        }
        self.world.deliver(link)?;
        self.world.check()?;
        Ok(match first {
            Some(Parcel::Message { message, .. }) => Some(message),
            _ => None,
        })
    }

    /// Delivers everything, and what that causes, until nothing is under way.
    ///
    /// # Errors
    /// When a check fails.
    pub fn settle(&mut self) -> Result<(), Breach> {
        while self.world.step()? {}
        Ok(())
    }

    /// How the call ended; `None` while it waits.
    pub fn outcome(&self, node: usize, ticket: Ticket) -> Option<Outcome> {
        self.world.ended.iter().find(|ended| (ended.0, ended.1) == (node, ticket)).map(|ended| ended.2)
    }

    /// The state of a node's copy.
    pub fn state(&self, node: usize, page: PageAddress) -> PageState {
        self.world.nodes[node].engine.page_state(page)
    }

    /// Messages sent so far.
    pub fn messages(&self) -> u64 {
        self.world.counts.messages
    }

    /// What happened so far.
    pub fn into_trace(self) -> Vec<String> {
        self.world.trace.into_lines()
    }

    pub(crate) fn begin(&mut self, node: usize, wanted: Wanted) -> Ticket {
        let mut random = crate::random::Random::stream(self.world.counts.messages, 0);
        self.world.nodes[node].begin_call(Caller::Script, wanted, &mut random)
    }

    pub(crate) fn feed(&mut self, node: usize, event: Event) -> Result<(), Breach> {
        self.world.feed(node, event)?;
        self.world.check()
    }
}
