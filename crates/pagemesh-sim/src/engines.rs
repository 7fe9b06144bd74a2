//! The engines of one simulated node: one, or several that divide its pages, told what the runtime tells its shards.
//!
//! What is about everything else than a page goes to the first, which this dereferences to; what is about a page, or about all, is
//! handed on here under the names that an [`Engine`] has. So a world that drives engines drives these.

use crate::random::Random;
use pagemesh_protocol::{
    Access, Action, Actions, AtomicOperation, DirectoryEntry, Division, Engine, EngineConfig, Message,
    NodeId, PageAddress, PageState, PinHolder, PinId, PinWait, Planted, RegionId, RegionSpec, Ticket, View,
    Violation,
};
use std::ops::{Deref, DerefMut};

/// Runs of pages that one engine decides about: short ones, so that neighbours are decided about by different engines.
const STRIPE_PAGES: u64 = 1;

/// A fault in how a node uses its engines, planted on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Misdivision {
    /// What others say about a page goes to the first engine.
    MessagesToFirst,
    /// Only the first engine hears of a lost node.
    LossToFirst,
    /// Only the first engine hears that a call is given up.
    CancelToFirst,
    /// Only the first engine hears that a thread goes on.
    ResumeToFirst,
    /// Pins end in the first engine only.
    UnpinToFirst,
    /// Only the first engine hears of a region.
    RegionToFirst,
    /// Only the first engine hears that threads had their chance to touch what they were given.
    PostponedToFirst,
}

impl Misdivision {
    /// All of them.
    pub const ALL: [Misdivision; 7] = [
        Misdivision::MessagesToFirst,
        Misdivision::LossToFirst,
        Misdivision::CancelToFirst,
        Misdivision::ResumeToFirst,
        Misdivision::UnpinToFirst,
        Misdivision::RegionToFirst,
        Misdivision::PostponedToFirst,
    ];
}

/// Into how many engines the nodes of a mesh divide their pages, and what they do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sharding {
    /// The most that a node has; each has some number up to it, by the seed.
    pub engines_most: u16,
    /// A fault that every node has.
    pub fault: Option<Misdivision>,
}

impl Default for Sharding {
    /// One engine a node.
    fn default() -> Sharding {
        Sharding { engines_most: 1, fault: None }
    }
}

impl Sharding {
    /// Up to `engines_most` engines a node.
    pub const fn up_to(engines_most: u16) -> Sharding {
        Sharding { engines_most, fault: None }
    }

    /// How the nodes of a mesh are divided in the run of `seed`; at least one has as many engines as there may be.
    pub(crate) fn draw(self, nodes: u16, random: &mut Random) -> Vec<Sharding> {
        let full = random.index(nodes as usize);
        let most = self.engines_most.max(1);
        let engines = |node: usize, random: &mut Random| {
            let drawn = random.between(1, most.into()) as u16;
            if node == full { most } else { drawn }
        };
        (0..nodes as usize).map(|node| Sharding { engines_most: engines(node, random), ..self }).collect()
    }
}

/// The engines of one node.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    all: Vec<Engine>,
    division: Division,
    fault: Option<Misdivision>,
    /// Regions that are being mapped.
    proposed: Vec<(RegionId, u16, RegionSpec)>,
    /// For each wait for pins of this node, the engine that has it and its number there.
    waits: Vec<(usize, PinWait)>,
    /// Pins that have not ended.
    pins: Vec<(PinHolder, PinId)>,
}

impl Engines {
    pub(crate) fn new(config: EngineConfig, sharding: Sharding) -> Engines {
        let count = sharding.engines_most;
        Engines {
            all: (0..count).map(|part| Engine::part(config, part, count)).collect(),
            division: Division::striped(count, STRIPE_PAGES),
            fault: sharding.fault,
            proposed: Vec::new(),
            waits: Vec::new(),
            pins: Vec::new(),
        }
    }

    fn has(&self, fault: Misdivision) -> bool {
        self.fault == Some(fault)
    }

    fn place_of(&self, page: PageAddress) -> usize {
        let spec = self.all[0].region(page.region);
        if spec.is_some_and(|spec| self.division.divides(spec.protocol)) {
            self.division.engine_of(page)
        } else {
            0
        }
    }

    fn of(&self, page: PageAddress) -> &Engine {
        &self.all[self.place_of(page)]
    }

    /// The engines that are told of something common, the first last; with `fault` none but that.
    fn places(&self, fault: Misdivision) -> impl Iterator<Item = usize> + use<> {
        let count = if self.has(fault) { 1 } else { self.all.len() };
        (0..count).rev()
    }

    /// Gives one engine an event, and sees to what its actions mean for the others.
    fn tell<R>(
        &mut self,
        place: usize,
        out: &mut Actions,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> R {
        let before = out.len();
        let result = event(&mut self.all[place], out);
        if self.all.len() > 1 {
            self.number_waits(place, &mut out[before..]);
            self.follow_regions(before, out);
        }
        result
    }

    fn page<R>(
        &mut self,
        page: PageAddress,
        out: &mut Actions,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> R {
        self.tell(self.place_of(page), out, event)
    }

    /// Engines number waits for themselves; the world wants one order of all.
    fn number_waits(&mut self, place: usize, actions: &mut [Action]) {
        for action in actions {
            if let Action::AwaitUnpin(wait) = action {
                self.waits.push((place, *wait));
                *wait = PinWait(self.waits.len() as u64);
            }
        }
    }

    /// Has the parts let go of regions that the first lets go of, just before.
    fn follow_regions(&mut self, before: usize, out: &mut Actions) {
        let mut at = before;
        while let Some(action) = out.get(at).copied() {
            match action {
                Action::MapRegion { region, round, spec } => self.proposed.push((region, round, spec)),
                Action::UnmapRegion(region) | Action::ForgetRegion(region) => {
                    let mut ended = Actions::new();
                    self.all[1..].iter_mut().for_each(|part| part.on_region_ended(region, &mut ended));
                    let count = ended.len();
                    out.splice(at..at, ended);
                    at += count;
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn tell_of_region(&mut self, region: RegionId, spec: RegionSpec) {
        if self.division.divides(spec.protocol) {
            self.all[1..].iter_mut().for_each(|part| part.on_region_told(region, spec));
        }
    }
}

/// What is about a page or about all, under the names of [`Engine`]'s methods.
impl Engines {
    pub(crate) fn plant(&mut self, fault: Planted) {
        self.all.iter_mut().for_each(|engine| engine.plant(fault));
    }

    pub(crate) fn page_state(&self, page: PageAddress) -> PageState {
        self.of(page).page_state(page)
    }

    pub(crate) fn directory(&self, page: PageAddress) -> Option<DirectoryEntry> {
        self.of(page).directory(page)
    }

    pub(crate) fn home(&self, page: PageAddress) -> Option<NodeId> {
        self.of(page).home(page)
    }

    pub(crate) fn is_postponed(&self, page: PageAddress) -> bool {
        self.of(page).is_postponed(page)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.all.iter().all(Engine::is_quiet)
    }

    pub(crate) fn holds(&self, pin: PinId) -> bool {
        self.all.iter().all(|engine| engine.holds(pin))
    }

    pub(crate) fn on_message(
        &mut self,
        from: NodeId,
        view: View,
        message: &Message,
        out: &mut Actions,
    ) -> Result<(), Violation> {
        let page = message.page().filter(|_| !self.has(Misdivision::MessagesToFirst));
        let place = page.map_or(0, |page| self.place_of(page));
        self.tell(place, out, |engine, out| engine.on_message(from, view, message, out))
    }

    pub(crate) fn on_fault(&mut self, ticket: Ticket, page: PageAddress, access: Access, out: &mut Actions) {
        self.page(page, out, |engine, out| engine.on_fault(ticket, page, access, out));
    }

    pub(crate) fn on_prefetch(
        &mut self,
        ticket: Ticket,
        page: PageAddress,
        access: Access,
        out: &mut Actions,
    ) {
        self.page(page, out, |engine, out| engine.on_prefetch(ticket, page, access, out));
    }

    pub(crate) fn on_evict(&mut self, page: PageAddress, out: &mut Actions) {
        self.page(page, out, |engine, out| engine.on_evict(page, out));
    }

    pub(crate) fn on_resumed(&mut self, ticket: Ticket, out: &mut Actions) {
        for place in self.places(Misdivision::ResumeToFirst) {
            self.tell(place, out, |engine, out| engine.on_resumed(ticket, out));
        }
    }

    pub(crate) fn on_postponed(&mut self, out: &mut Actions) {
        for place in self.places(Misdivision::PostponedToFirst) {
            self.tell(place, out, Engine::on_postponed);
        }
    }

    pub(crate) fn on_pin(
        &mut self,
        ticket: Ticket,
        (pin, holder): (PinId, PinHolder),
        page: PageAddress,
        access: Access,
        out: &mut Actions,
    ) {
        let has_others =
            self.all.len() > 1 && self.pins.iter().any(|(other, name)| *other == holder && *name != pin);
        if !self.pins.contains(&(holder, pin)) {
            self.pins.push((holder, pin));
        }
        self.page(page, out, |engine, out| {
            if has_others {
                engine.on_pin_further(ticket, (pin, holder), page, access, out);
            } else {
                engine.on_pin(ticket, (pin, holder), page, access, out);
            }
        });
    }

    pub(crate) fn on_unpin(&mut self, pin: PinId, out: &mut Actions) -> Option<PageAddress> {
        self.pins.retain(|(_, name)| *name != pin);
        let mut taken = None;
        for place in self.places(Misdivision::UnpinToFirst) {
            let first = self.tell(place, out, |engine, out| engine.on_unpin(pin, out));
            taken = taken.into_iter().chain(first).min();
        }
        taken
    }

    pub(crate) fn on_pins_expired(&mut self, up_to: PinWait, out: &mut Actions) {
        if self.all.len() == 1 {
            return self.all[0].on_pins_expired(up_to, out);
        }
        for place in 0..self.all.len() {
            let begun = &self.waits[..self.waits.len().min(up_to.0 as usize)];
            let newest = begun.iter().rev().find(|(of, _)| *of == place).map(|(_, wait)| *wait);
            if let Some(wait) = newest {
                self.tell(place, out, |engine, out| engine.on_pins_expired(wait, out));
            }
        }
    }

    pub(crate) fn on_home_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        self.page(page, out, |engine, out| engine.on_home_query(ticket, page, out));
    }

    pub(crate) fn on_owner_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        self.page(page, out, |engine, out| engine.on_owner_query(ticket, page, out));
    }

    pub(crate) fn on_atomic(
        &mut self,
        ticket: Ticket,
        page: PageAddress,
        operation: AtomicOperation,
        out: &mut Actions,
    ) {
        self.page(page, out, |engine, out| engine.on_atomic(ticket, page, operation, out));
    }

    pub(crate) fn on_atomic_give_up(&mut self, ticket: Ticket, out: &mut Actions) {
        for place in (0..self.all.len()).rev() {
            self.tell(place, out, |engine, out| engine.on_atomic_give_up(ticket, out));
        }
    }

    pub(crate) fn on_cancel(&mut self, ticket: Ticket, out: &mut Actions) {
        for place in self.places(Misdivision::CancelToFirst) {
            self.tell(place, out, |engine, out| engine.on_cancel(ticket, out));
        }
    }

    pub(crate) fn on_peer_lost(&mut self, node: NodeId, out: &mut Actions) {
        for place in self.places(Misdivision::LossToFirst) {
            self.tell(place, out, |engine, out| engine.on_peer_lost(node, out));
        }
    }

    pub(crate) fn on_region_open(
        &mut self,
        ticket: Ticket,
        create: bool,
        spec: RegionSpec,
        out: &mut Actions,
    ) {
        self.tell(0, out, |engine, out| engine.on_region_open(ticket, create, spec, out));
    }

    pub(crate) fn on_region_mapped(&mut self, region: RegionId, round: u16, mapped: bool, out: &mut Actions) {
        let found = self.proposed.iter().position(|(of, in_round, _)| (*of, *in_round) == (region, round));
        let spec = found.map(|place| self.proposed.swap_remove(place).2).filter(|_| mapped);
        if let Some(spec) = spec.filter(|_| !self.has(Misdivision::RegionToFirst)) {
            self.tell_of_region(region, spec);
        }
        self.tell(0, out, |engine, out| engine.on_region_mapped(region, round, mapped, out));
    }

    pub(crate) fn on_region_forgotten(&mut self, region: RegionId, out: &mut Actions) {
        self.tell(0, out, |engine, out| engine.on_region_forgotten(region, out));
    }
}

impl Deref for Engines {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.all[0]
    }
}

impl DerefMut for Engines {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.all[0]
    }
}
