//! The agreement on regions: every region lies at the same address on every node, or nowhere.
//!
//! The coordinator proposes an address; every node maps the region there or says that the address is taken; then the
//! coordinator proposes the next, or, when the address was asked for, refuses. A node that has mapped a region serves
//! as a home of it at once, so that a faster node's requests find it ready.
//!
//! The coordinator counts how often each node was given a region; a node that is done with one says RegionClose for each time, and goes on
//! serving its part of the region to others. When no node has the region any more, the coordinator says RegionGone to all. Each forgets all
//! about it (`gone.rs`), frees its addresses and answers RegionForgotten. Only when the last has answered are the place, the name and the
//! addresses given out again. A lost node counts as one that has closed and forgotten.

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
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

const NOT_COORDINATOR: &str = "this node is not the coordinator";
const NOT_FROM_COORDINATOR: &str = "it is not the coordinator";
const NO_MASTER: &str = "the pages of an entry region have one home";
const RELIED_ON: &str = "the region is in use here";
const NOT_GIVEN: &str = "it has not been given the region";

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
    /// Every node has closed it. These have not said yet that they have forgotten it.
    Going { missing: NodeSet },
    /// Forgotten by all: its place, its name and its addresses are free.
    Gone,
}

/// A region as the coordinator knows it.
#[derive(Clone, Debug, Hash)]
struct Agreement {
    id: RegionId,
    spec: RegionSpec,
    /// The address was asked for: there is no other round.
    fixed: bool,
    phase: Phase,
    waiting: Vec<Caller>,
    /// How often each node was given it and has not closed it since.
    openings: Openings,
}

/// How often each node has a region open: in the order of the nodes, and with room for all from the start, since others open a region while
/// this node's faults, which must not allocate, are served.
#[derive(Clone, Debug, Hash)]
struct Openings(Vec<(NodeId, u32)>);

impl Openings {
    fn of(nodes: u16) -> Openings {
        Openings(Vec::with_capacity(nodes as usize))
    }

    fn place(&self, node: NodeId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&node, |(other, _)| *other)
    }

    fn add(&mut self, node: NodeId) {
        match self.place(node) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (node, 1)),
        }
    }

    /// False when the node has none.
    fn take(&mut self, node: NodeId) -> bool {
        let Ok(place) = self.place(node) else { return false };
        self.0[place].1 -= 1;
        if self.0[place].1 == 0 {
            self.0.remove(place);
        }
        true
    }

    fn forget(&mut self, node: NodeId) {
        self.0.retain(|(other, _)| *other != node);
    }
}

impl Agreement {
    /// Where it is, or may be, in each node's addresses.
    fn addresses(&self) -> Option<Range<u64>> {
        let is_there = !matches!(self.phase, Phase::Dropped | Phase::Gone);
        is_there.then(|| addresses(&self.spec))
    }
}

fn addresses(spec: &RegionSpec) -> Range<u64> {
    spec.address..spec.address.saturating_add(spec.pages.saturating_mul(4096))
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Agreements {
    regions: Vec<Agreement>,
    /// Those who wait for a region that nobody has created yet.
    early: Vec<(Caller, RegionSpec)>,
    /// Calls that want to create what stands in the way of a region that goes: they are seen to when it is gone.
    deferred: Vec<(Caller, RegionSpec)>,
    /// Places whose regions are gone, in that order.
    free: VecDeque<usize>,
    next_address: u64,
    /// Proposals to this node that its caller has not mapped yet.
    proposed: Vec<(RegionId, u16, RegionSpec)>,
    /// The first round of each region that was not proposed to this node yet. A round is proposed once, so that the caller's
    /// answer to it cannot be taken for the answer to another proposal.
    rounds: Vec<(RegionId, u32)>,
    /// Regions that this node was told are gone, by their numbers, until a number is used again.
    gone: BTreeSet<RegionId>,
    /// Those of them whose addresses are not free here yet.
    forgetting: Vec<RegionId>,
}

impl Agreements {
    /// The next free range for `pages` pages, after a gap of `gap` bytes.
    fn propose(&mut self, pages: u64, gap: u64) -> Option<u64> {
        let bytes = pages.checked_mul(4096)?;
        let start = self.next_address.max(limits::REGION_BASE).checked_add(gap)?;
        let (start, end) = fit(start, bytes).or_else(|| self.first_gap(bytes))?;
        self.next_address = end;
        Some(start)
    }

    /// The lowest range for `bytes` bytes that no region has; used when the addresses were gone through once.
    fn first_gap(&self, bytes: u64) -> Option<(u64, u64)> {
        if self.free.is_empty() {
            return None;
        }
        let mut taken: Vec<Range<u64>> = self.regions.iter().filter_map(Agreement::addresses).collect();
        taken.sort_unstable_by_key(|range| range.start);
        let mut found = fit(limits::REGION_BASE, bytes)?;
        for range in taken {
            if range.start < found.1 && found.0 < range.end {
                found = fit(range.end.checked_next_multiple_of(limits::REGION_ALIGN)?, bytes)?;
            }
        }
        Some(found)
    }

    /// The region is gone.
    pub(super) fn forget_proposals(&mut self, region: RegionId) {
        self.proposed.retain(|(other, ..)| *other != region);
    }

    /// The region is gone, or its number is used again.
    pub(super) fn put_away(&mut self, region: RegionId) {
        self.gone.insert(region);
    }

    pub(super) fn recall(&mut self, region: RegionId) {
        self.gone.remove(&region);
    }

    /// Whether `region` is gone, so that what is said about it is late.
    pub(super) fn is_gone(&self, region: RegionId) -> bool {
        self.gone.contains(&region)
    }

    /// The place and the number of the next region.
    fn next_place(&mut self) -> Option<(usize, RegionId)> {
        if self.regions.len() < limits::REGIONS {
            let place = self.regions.len();
            return Some((place, RegionId(place as u16)));
        }
        let place = self.free.pop_front()?;
        Some((place, self.regions[place].id.next_in_place()))
    }

    /// The agreement on `region`, if that is the one in its place.
    fn numbered(&mut self, region: RegionId) -> Option<&mut Agreement> {
        self.regions.get_mut(region.index()).filter(|agreement| agreement.id == region)
    }

    /// Whether a new region would meet one that is on its way out.
    fn must_wait(&self, wanted: &RegionSpec) -> bool {
        let meets = |going: &Agreement| {
            let (new, old) = (addresses(wanted), addresses(&going.spec));
            let overlaps = wanted.address != 0 && new.start < old.end && old.start < new.end;
            going.spec.name == wanted.name || overlaps
        };
        self.regions
            .iter()
            .any(|agreement| matches!(agreement.phase, Phase::Going { .. }) && meets(agreement))
    }

    /// Regions, calls that wait for one, and proposals that are not mapped yet.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        let waiting: usize = self.regions.iter().map(|agreement| agreement.waiting.len()).sum();
        let regions = self.regions.iter().filter(|agreement| agreement.phase != Phase::Gone).count();
        (regions, waiting + self.early.len() + self.deferred.len(), self.proposed.len())
    }
}

/// The range of `bytes` bytes from `start` on, up to where the next can begin.
fn fit(start: u64, bytes: u64) -> Option<(u64, u64)> {
    let end = start.checked_add(bytes)?.checked_next_multiple_of(limits::REGION_ALIGN)?;
    (end <= limits::REGION_END).then_some((start, end))
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
        let is_here =
            |agreement: &Agreement| matches!(agreement.phase, Phase::Agreeing { .. } | Phase::Ready);
        let known = self
            .agreements
            .regions
            .iter()
            .position(|agreement| is_here(agreement) && agreement.spec.name == spec.name);
        match known {
            Some(index) => self.region_known(index, caller, create, spec, out),
            None if create && !self.agreements.must_wait(&spec) => self.region_new(caller, spec, out),
            None if self.agreements.early.len() + self.agreements.deferred.len() >= limits::TICKETS => {
                let refusal = RegionRefusal::Exhausted;
                self.send(from, Message::RegionRefused { ticket, refusal }, out);
            }
            None if create => self.agreements.deferred.push((caller, spec)),
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
        } else if (asked.placement, asked.protocol, asked.unit) != (spec.placement, spec.protocol, spec.unit)
        {
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
                agreement.openings.add(caller.node);
                let region = agreement.id;
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
        let room = self.agreements.regions.len() < limits::REGIONS || !self.agreements.free.is_empty();
        let possible = spec.pages <= limits::REGION_PAGES && room;
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
        let (place, region) = self.agreements.next_place().expect("there was room");
        let phase = Phase::Agreeing { round: 0, missing: self.live };
        let openings = Openings::of(self.config.nodes);
        let agreement = Agreement { id: region, spec, fixed, phase, waiting, openings };
        match self.agreements.regions.get_mut(place) {
            Some(gone) => *gone = agreement,
            None => self.agreements.regions.push(agreement),
        }
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
        let in_place =
            |(other, ..): &(RegionId, u16, RegionSpec)| *other != region && other.index() == region.index();
        let is_taken =
            self.pages.in_place_of(region).is_some() || self.agreements.proposed.iter().any(in_place);
        if is_taken || spec.pages == 0 || !spec.address.is_multiple_of(4096) {
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
        let first =
            rounds.get(region.index()).filter(|(other, _)| *other == region).map_or(0, |(_, next)| *next);
        if u32::from(round) < first {
            return Err("the round of the region was proposed before");
        }
        rounds.resize(rounds.len().max(region.index() + 1), (region, 0));
        rounds[region.index()] = (region, u32::from(round) + 1);
        self.agreements.recall(region);
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
        let agreement = self.agreements.numbered(region).ok_or("no such region was proposed")?;
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
            let waiting = std::mem::take(&mut agreement.waiting);
            for Caller { node, .. } in &waiting {
                agreement.openings.add(*node);
            }
            for Caller { node, ticket } in waiting {
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
        if self.tickets.wait(ticket) == Wait::Region {
            self.pages.opened(region);
        } else {
            // The call has given up: what it was given goes back.
            self.send(NodeId::COORDINATOR, Message::RegionClose { ticket, region }, out);
        }
        self.conclude(
            from,
            Some(NodeId::COORDINATOR),
            ticket,
            Wait::Region,
            Outcome::Region { region, spec },
            out,
        )
    }

    /// The application is done with one opening of a region.
    pub(super) fn region_close(&mut self, ticket: Ticket, region: RegionId, out: &mut Actions) {
        if self.pages.closed(region) && self.live.contains(NodeId::COORDINATOR) {
            self.tickets.begin(ticket, Wait::RegionClose);
            self.send(NodeId::COORDINATOR, Message::RegionClose { ticket, region }, out);
        } else {
            out.push(Action::Complete { ticket, outcome: Outcome::Done });
        }
    }

    /// As `region_close`; the answer is to a call that nobody makes.
    pub(super) fn region_abandon(&mut self, region: RegionId, out: &mut Actions) {
        if self.pages.closed(region) {
            let ticket = Ticket::new(u16::MAX, 0);
            self.send(NodeId::COORDINATOR, Message::RegionClose { ticket, region }, out);
        }
    }

    pub(super) fn region_closed(
        &mut self,
        from: NodeId,
        ticket: Ticket,
        region: RegionId,
        out: &mut Actions,
    ) -> Handled {
        if self.config.node != NodeId::COORDINATOR {
            return Err(NOT_COORDINATOR);
        }
        let agreement = self.agreements.numbered(region).ok_or(NOT_GIVEN)?;
        if !agreement.openings.take(from) {
            return Err(NOT_GIVEN);
        }
        self.send(from, Message::RegionClosed { ticket }, out);
        self.drop_if_closed(region, out);
        Ok(())
    }

    /// Has all nodes forget a region that none has any more.
    fn drop_if_closed(&mut self, region: RegionId, out: &mut Actions) {
        let live = self.live;
        let agreement = self.agreements.numbered(region).expect("checked by the caller");
        if agreement.phase == Phase::Ready && agreement.openings.0.is_empty() {
            agreement.phase = Phase::Going { missing: live };
            self.tell_everyone(Message::RegionGone { region }, out);
        }
    }

    pub(super) fn region_gone(&mut self, from: NodeId, region: RegionId, out: &mut Actions) -> Handled {
        if from != NodeId::COORDINATOR {
            return Err(NOT_FROM_COORDINATOR);
        }
        if self.pages.spec(region).is_none() {
            return Err("this region is not mapped here");
        }
        if self.pages.has_opened(region) {
            return Err(RELIED_ON);
        }
        self.agreements.put_away(region);
        self.agreements.forgetting.push(region);
        self.forget_region(region, out);
        out.push(Action::ForgetRegion(region));
        Ok(())
    }

    pub(super) fn region_forgotten_here(&mut self, region: RegionId, out: &mut Actions) {
        let forgetting = &mut self.agreements.forgetting;
        if let Some(place) = forgetting.iter().position(|other| *other == region) {
            forgetting.swap_remove(place);
            self.send(NodeId::COORDINATOR, Message::RegionForgotten { region }, out);
        }
    }

    pub(super) fn region_forgotten(&mut self, from: NodeId, region: RegionId, out: &mut Actions) -> Handled {
        if self.config.node != NodeId::COORDINATOR {
            return Err(NOT_COORDINATOR);
        }
        match self.agreements.numbered(region).map(|agreement| agreement.phase) {
            Some(Phase::Going { missing }) if missing.contains(from) => {
                self.await_forgotten(region, missing.without(from), out);
                Ok(())
            }
            _ => Err("it was not told to forget the region"),
        }
    }

    /// Those who are `missing` have still to forget the region. When nobody is, its place is free, and so is what it had.
    fn await_forgotten(&mut self, region: RegionId, missing: NodeSet, out: &mut Actions) {
        let agreement = self.agreements.numbered(region).expect("checked by the caller");
        if !missing.is_empty() {
            agreement.phase = Phase::Going { missing };
            return;
        }
        agreement.phase = Phase::Gone;
        self.agreements.free.push_back(region.index());
        for (Caller { node, ticket }, spec) in std::mem::take(&mut self.agreements.deferred) {
            self.region_wanted(node, ticket, true, spec, out).expect("it was checked when it came");
        }
    }

    /// What the coordinator does about agreements when a node is lost: those under way cannot be reached any more.
    pub(super) fn mend_agreements(&mut self, lost: NodeId, out: &mut Actions) {
        let mut told: Vec<Caller> = self.agreements.early.drain(..).map(|(caller, _)| caller).collect();
        self.agreements.deferred.retain(|(caller, _)| caller.node != lost);
        for index in 0..self.agreements.regions.len() {
            let agreement = &mut self.agreements.regions[index];
            let region = agreement.id;
            agreement.waiting.retain(|caller| caller.node != lost);
            agreement.openings.forget(lost);
            match agreement.phase {
                Phase::Agreeing { round, .. } => {
                    agreement.phase = Phase::Dropped;
                    told.append(&mut agreement.waiting);
                    self.tell_everyone(Message::RegionDrop { region, round }, out);
                }
                Phase::Ready => self.drop_if_closed(region, out),
                Phase::Going { missing } => self.await_forgotten(region, missing.without(lost), out),
                Phase::Dropped | Phase::Gone => {}
            }
        }
        for Caller { node, ticket } in told {
            self.send(node, Message::RegionBroken { ticket, node: lost }, out);
        }
    }
}
