//! The agreement on regions: every region lies at the same address on every node, or nowhere.
//!
//! The coordinator proposes an address; every node maps the region there or says that the address is taken; then the
//! coordinator proposes the next, or, when the address was asked for, refuses. A node that has mapped a region serves
//! as a home of it at once, so that a faster node's requests find it ready.

use super::locks::Caller;
use super::planted::Planted;
use super::tickets::Wait;
use super::{Engine, Handled};
use crate::action::{Action, Actions, Failure, Outcome, RegionRefusal};
use crate::ids::{NodeId, NodeSet, RegionId, Ticket};
use crate::limits;
use crate::message::Message;
use crate::placement::{Placement, Protocol};
use crate::region::RegionSpec;

const NOT_COORDINATOR: &str = "this node is not the coordinator";
const NOT_FROM_COORDINATOR: &str = "it is not the coordinator";
const NO_MASTER: &str = "the pages of an entry region have one home";
const RELIED_ON: &str = "the region is in use here";

/// Whether it is an entry region in which nobody is the home of all pages.
fn lacks_master(spec: &RegionSpec) -> bool {
    spec.protocol == Protocol::Entry && !matches!(spec.placement, Placement::Single(_))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Phase {
    /// These nodes have not yet answered the proposal of this round.
    Agreeing { round: u16, missing: NodeSet },
    /// Mapped everywhere.
    Ready,
    /// Given up.
    Dropped,
}

/// A region as the coordinator knows it.
#[derive(Clone, Debug, Hash)]
struct Agreement {
    spec: RegionSpec,
    /// The address was asked for: there is no other round.
    fixed: bool,
    phase: Phase,
    waiting: Vec<Caller>,
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Agreements {
    regions: Vec<Agreement>,
    /// Those who wait for a region that nobody has created yet.
    early: Vec<(Caller, RegionSpec)>,
    next_address: u64,
    /// Proposals to this node that its caller has not mapped yet.
    proposed: Vec<(RegionId, u16, RegionSpec)>,
    /// The first round of each region that was not proposed to this node yet. A round is proposed once, so that the caller's
    /// answer to it cannot be taken for the answer to another proposal.
    rounds: Vec<u32>,
}

impl Agreements {
    /// The next free range for `pages` pages, after a gap of `gap` bytes.
    fn propose(&mut self, pages: u64, gap: u64) -> Option<u64> {
        let start = self.next_address.max(limits::REGION_BASE).checked_add(gap)?;
        let end =
            start.checked_add(pages.checked_mul(4096)?)?.checked_next_multiple_of(limits::REGION_ALIGN)?;
        if end > limits::REGION_END {
            return None;
        }
        self.next_address = end;
        Some(start)
    }

    /// Regions, calls that wait for one, and proposals that are not mapped yet.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        let waiting: usize = self.regions.iter().map(|agreement| agreement.waiting.len()).sum();
        (self.regions.len(), waiting + self.early.len(), self.proposed.len())
    }
}

impl Engine {
    pub(super) fn region_open(&mut self, ticket: Ticket, create: bool, spec: RegionSpec, out: &mut Actions) {
        self.tickets.begin(ticket, Wait::Region);
        if self.live.contains(NodeId::COORDINATOR) {
            self.send(NodeId::COORDINATOR, Message::RegionOpen { ticket, create, spec }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(NodeId::COORDINATOR), out);
        }
    }

    pub(super) fn region_wanted(
        &mut self,
        from: NodeId,
        ticket: Ticket,
        create: bool,
        spec: RegionSpec,
        out: &mut Actions,
    ) -> Handled {
        if self.config.node != NodeId::COORDINATOR {
            return Err(NOT_COORDINATOR);
        }
        if create && (spec.pages == 0 || !spec.address.is_multiple_of(4096)) {
            return Err("a region has at least one page and begins on a page boundary");
        }
        if matches!(spec.placement, Placement::Single(node) if node.get() >= self.config.nodes) {
            return Err("the placement names a node that is not in the mesh");
        }
        if create && lacks_master(&spec) {
            return Err(NO_MASTER);
        }
        let caller = Caller { node: from, ticket };
        let known = self
            .agreements
            .regions
            .iter()
            .position(|agreement| agreement.phase != Phase::Dropped && agreement.spec.name == spec.name);
        match known {
            Some(index) => self.region_known(index, caller, create, spec, out),
            None if create => self.region_new(caller, spec, out),
            None if self.agreements.early.len() >= limits::TICKETS => {
                let refusal = RegionRefusal::Exhausted;
                self.send(from, Message::RegionRefused { ticket, refusal }, out);
            }
            None => match self.lost_node() {
                Some(node) => self.send(from, Message::RegionBroken { ticket, node }, out),
                None => self.agreements.early.push((caller, spec)),
            },
        }
        Ok(())
    }

    /// A member of the view that was lost.
    pub(super) fn lost_node(&self) -> Option<NodeId> {
        NodeSet::first(self.config.nodes as usize).less(self.live).lowest()
    }

    fn region_known(
        &mut self,
        index: usize,
        caller: Caller,
        create: bool,
        asked: RegionSpec,
        out: &mut Actions,
    ) {
        let agreement = &mut self.agreements.regions[index];
        let spec = agreement.spec;
        let refusal = if !create {
            None
        } else if asked.pages != spec.pages {
            Some(RegionRefusal::SizeDiffers { pages: spec.pages })
        } else if asked.placement != spec.placement || asked.protocol != spec.protocol {
            Some(RegionRefusal::OptionsDiffer)
        } else if asked.address != 0 && asked.address != spec.address {
            Some(RegionRefusal::AddressDiffers { address: spec.address })
        } else {
            None
        };
        let ticket = caller.ticket;
        match refusal {
            Some(refusal) => self.send(caller.node, Message::RegionRefused { ticket, refusal }, out),
            None if agreement.phase == Phase::Ready => {
                let region = RegionId(index as u16);
                self.send(caller.node, Message::RegionReady { ticket, region, spec }, out);
            }
            None if agreement.waiting.len() >= limits::WAITING_FOR_ONE_REGION => {
                let refusal = RegionRefusal::Exhausted;
                self.send(caller.node, Message::RegionRefused { ticket, refusal }, out);
            }
            None => agreement.waiting.push(caller),
        }
    }

    fn region_new(&mut self, caller: Caller, mut spec: RegionSpec, out: &mut Actions) {
        let ticket = caller.ticket;
        if let Some(node) = self.lost_node() {
            self.send(caller.node, Message::RegionBroken { ticket, node }, out);
            return;
        }
        let fixed = spec.address != 0;
        let possible = spec.pages <= limits::REGION_PAGES && self.agreements.regions.len() < limits::REGIONS;
        let address = if fixed { Some(spec.address) } else { self.agreements.propose(spec.pages, 0) };
        let (Some(address), true) = (address, possible) else {
            let refusal = RegionRefusal::Exhausted;
            self.send(caller.node, Message::RegionRefused { ticket, refusal }, out);
            return;
        };
        spec.address = address;
        let mut waiting = vec![caller];
        self.agreements.early.retain(|(early, wanted)| {
            let matches = wanted.name == spec.name;
            waiting.extend(matches.then_some(*early));
            !matches
        });
        let region = RegionId(self.agreements.regions.len() as u16);
        let phase = Phase::Agreeing { round: 0, missing: self.live };
        self.agreements.regions.push(Agreement { spec, fixed, phase, waiting });
        self.tell_everyone(Message::RegionMap { region, round: 0, spec }, out);
    }

    fn tell_everyone(&mut self, message: Message, out: &mut Actions) {
        for node in self.live.iter() {
            self.send(node, message, out);
        }
    }

    pub(super) fn region_proposed(
        &mut self,
        from: NodeId,
        region: RegionId,
        round: u16,
        spec: RegionSpec,
        out: &mut Actions,
    ) -> Handled {
        if from != NodeId::COORDINATOR {
            return Err(NOT_FROM_COORDINATOR);
        }
        if region.index() >= limits::REGIONS || spec.pages == 0 || !spec.address.is_multiple_of(4096) {
            return Err("there can be no such region");
        }
        if matches!(spec.placement, Placement::Single(node) if node.get() >= self.config.nodes) {
            return Err("the placement names a node that is not in the mesh");
        }
        if lacks_master(&spec) {
            return Err(NO_MASTER);
        }
        if self.pages.is_relied_on(region) {
            return Err(RELIED_ON);
        }
        let rounds = &mut self.agreements.rounds;
        if rounds.get(region.index()).is_some_and(|next| u32::from(round) < *next) {
            return Err("the round of the region was proposed before");
        }
        rounds.resize(rounds.len().max(region.index() + 1), 0);
        rounds[region.index()] = u32::from(round) + 1;
        if self.pages.spec(region).is_some() && self.planted(Planted::KeepOldAddress) {
            self.send(from, Message::RegionMapped { region, round, mapped: true }, out);
            return Ok(());
        }
        if self.pages.spec(region).is_some() {
            self.pages.remove(region);
            out.push(Action::UnmapRegion(region));
        }
        self.agreements.proposed.retain(|(other, ..)| *other != region);
        self.agreements.proposed.push((region, round, spec));
        out.push(Action::MapRegion { region, round, spec });
        Ok(())
    }

    pub(super) fn region_mapped(&mut self, region: RegionId, round: u16, mapped: bool, out: &mut Actions) {
        let found = self.agreements.proposed.iter().position(|p| (p.0, p.1) == (region, round));
        let Some(index) = found else {
            // Proposed anew, or dropped, while it was being mapped.
            if mapped {
                out.push(Action::UnmapRegion(region));
            }
            return;
        };
        let (_, _, spec) = self.agreements.proposed.swap_remove(index);
        if mapped {
            // The coordinator opens it when all have answered.
            self.pages.add(region, spec, self.config.node != NodeId::COORDINATOR);
            self.entry.add(region, &spec);
        }
        self.send(NodeId::COORDINATOR, Message::RegionMapped { region, round, mapped }, out);
    }

    pub(super) fn region_answered(
        &mut self,
        from: NodeId,
        region: RegionId,
        round: u16,
        mapped: bool,
        out: &mut Actions,
    ) -> Handled {
        if self.config.node != NodeId::COORDINATOR {
            return Err(NOT_COORDINATOR);
        }
        let few_enough = usize::from(self.planted(Planted::RegionReadyEarly));
        let agreement =
            self.agreements.regions.get_mut(region.index()).ok_or("no such region was proposed")?;
        let Phase::Agreeing { round: current, missing } = agreement.phase else { return Ok(()) };
        if round != current {
            return Ok(());
        }
        if !missing.contains(from) {
            return Err("it has answered already");
        }
        if !mapped {
            self.region_taken(region, round, from, out);
            return Ok(());
        }
        let missing = missing.without(from);
        if missing.len() <= few_enough {
            agreement.phase = Phase::Ready;
            let spec = agreement.spec;
            self.pages.open(region);
            for Caller { node, ticket } in std::mem::take(&mut agreement.waiting) {
                self.send(node, Message::RegionReady { ticket, region, spec }, out);
            }
        } else {
            agreement.phase = Phase::Agreeing { round, missing };
        }
        Ok(())
    }

    /// The address is taken on `node`: another round, or the end.
    fn region_taken(&mut self, region: RegionId, round: u16, node: NodeId, out: &mut Actions) {
        let Agreement { spec, fixed, .. } = self.agreements.regions[region.index()];
        let again = !fixed && round + 1 < limits::MAP_ROUNDS;
        let gap = limits::gap_before_round(round + 1);
        let address = again.then(|| self.agreements.propose(spec.pages, gap)).flatten();
        let agreement = &mut self.agreements.regions[region.index()];
        if let Some(address) = address {
            agreement.spec.address = address;
            agreement.phase = Phase::Agreeing { round: round + 1, missing: self.live };
            let spec = agreement.spec;
            self.tell_everyone(Message::RegionMap { region, round: round + 1, spec }, out);
            return;
        }
        let refusal = RegionRefusal::AddressTaken { node, address: spec.address };
        agreement.phase = Phase::Dropped;
        let waiting = std::mem::take(&mut agreement.waiting);
        self.tell_everyone(Message::RegionDrop { region, round }, out);
        for Caller { node, ticket } in waiting {
            self.send(node, Message::RegionRefused { ticket, refusal }, out);
        }
    }

    pub(super) fn region_dropped(
        &mut self,
        from: NodeId,
        region: RegionId,
        _round: u16,
        out: &mut Actions,
    ) -> Handled {
        if from != NodeId::COORDINATOR {
            return Err(NOT_FROM_COORDINATOR);
        }
        if self.pages.is_relied_on(region) {
            return Err(RELIED_ON);
        }
        self.agreements.proposed.retain(|(other, ..)| *other != region);
        if self.pages.spec(region).is_some() {
            self.pages.remove(region);
            out.push(Action::UnmapRegion(region));
        }
        Ok(())
    }

    pub(super) fn region_ready(
        &mut self,
        from: NodeId,
        ticket: Ticket,
        region: RegionId,
        spec: RegionSpec,
        out: &mut Actions,
    ) -> Handled {
        if from != NodeId::COORDINATOR {
            return Err(NOT_FROM_COORDINATOR);
        }
        if self.pages.spec(region) != Some(spec) {
            return Err("this region is not mapped here");
        }
        self.pages.rely_on(region);
        self.conclude(
            from,
            Some(NodeId::COORDINATOR),
            ticket,
            Wait::Region,
            Outcome::Region { region, spec },
            out,
        )
    }

    /// What the coordinator does about agreements when a node is lost: those under way cannot be reached any more.
    pub(super) fn mend_agreements(&mut self, lost: NodeId, out: &mut Actions) {
        let mut told: Vec<Caller> = self.agreements.early.drain(..).map(|(caller, _)| caller).collect();
        for index in 0..self.agreements.regions.len() {
            let agreement = &mut self.agreements.regions[index];
            agreement.waiting.retain(|caller| caller.node != lost);
            if let Phase::Agreeing { round, .. } = agreement.phase {
                agreement.phase = Phase::Dropped;
                told.append(&mut agreement.waiting);
                self.tell_everyone(Message::RegionDrop { region: RegionId(index as u16), round }, out);
            }
        }
        for Caller { node, ticket } in told {
            self.send(node, Message::RegionBroken { ticket, node: lost }, out);
        }
    }
}
