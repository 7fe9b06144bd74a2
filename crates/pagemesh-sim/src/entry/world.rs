//! The mesh: engines, memories, links, threads, and what was published last.

mod losses;

use super::EntryReport;
use super::plan::Plan;
use super::referee::{Referee, Turn};
use crate::random::Random;
use pagemesh_protocol::{
    Access, Action, Actions, ByteRange, Engine, EngineConfig, Failure, Message, NodeId, Outcome, PageAddress,
    PageState, Placement, Planted, Protocol, RegionId, RegionName, RegionSpec, Ticket, Unit, View,
};
use std::collections::{BTreeSet, VecDeque};

const STEPS_MOST: u64 = 200_000;
/// Slots of a thread's calls: one for each range that it may have, one for faults.
const SLOTS: u16 = 4;
const OPENING: u16 = 1000;

type Checked = Result<(), String>;
/// Values of the cells of a range.
type Load = Vec<u32>;

struct Node {
    engine: Engine,
    alive: bool,
    /// By region and cell.
    memory: Vec<Vec<u32>>,
    mapped: BTreeSet<PageAddress>,
}

/// A range that a thread has.
#[derive(Clone, Debug)]
struct Section {
    turn: Turn,
    /// The cells as they were, to find what was written.
    before: Vec<u32>,
    accesses: u64,
}

#[derive(Clone, Debug, Default)]
struct Thread {
    node: usize,
    sections_left: u64,
    waits: Option<Turn>,
    held: Vec<Section>,
    generation: u16,
}

/// A node that was lost while a thread of it had this for writing, of which somebody has to be told.
#[derive(Clone, Copy, Debug)]
struct Loss {
    range: ByteRange,
    told: bool,
}

pub(super) struct World {
    plan: Plan,
    random: Random,
    nodes: Vec<Node>,
    threads: Vec<Thread>,
    links: Vec<VecDeque<(Message, Load)>>,
    /// Pairs of nodes that do not know each other any more: number `a * N + b`.
    parted: Vec<bool>,
    /// By region and cell: what was published last, and before.
    truth: Vec<Vec<[u32; 2]>>,
    referees: Vec<Referee>,
    losses: Vec<Loss>,
    next_value: u32,
    ending: bool,
    report: EntryReport,
    trace: Option<Vec<String>>,
}

#[derive(Clone, Copy)]
enum Choice {
    Link(usize),
    Thread(usize),
    GiveUp(usize),
}

impl World {
    pub(super) fn new(plan: Plan, random: Random, fault: Option<Planted>, traced: bool) -> World {
        let count = plan.nodes;
        let memory = || plan.regions.iter().map(|region| vec![0; region.cells.len()]).collect();
        let node = |number: usize| {
            let mut engine = Engine::new(EngineConfig::new(NodeId::new(number as u16), count as u16));
            if let Some(fault) = fault {
                engine.plant(fault);
            }
            Node { engine, alive: true, memory: memory(), mapped: BTreeSet::new() }
        };
        let sections_left = plan.sections;
        let thread = |node: &usize| Thread { node: *node, sections_left, ..Thread::default() };
        World {
            nodes: (0..count).map(node).collect(),
            threads: plan.threads.iter().map(thread).collect(),
            links: vec![VecDeque::new(); count * count],
            parted: vec![false; count * count],
            truth: plan.regions.iter().map(|region| vec![[0; 2]; region.cells.len()]).collect(),
            referees: vec![Referee::default(); plan.regions.len()],
            losses: Vec::new(),
            next_value: 1,
            ending: false,
            report: EntryReport::default(),
            trace: traced.then(Vec::new),
            plan,
            random,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:6} {}", self.report.steps, line()));
        }
    }

    pub(super) fn run(mut self) -> Result<EntryReport, (String, Vec<String>)> {
        let result = self.open_regions().and_then(|()| self.go_on_to_the_end());
        result.map(|()| self.report).map_err(|what| (what, self.trace.unwrap_or_default()))
    }

    fn go_on_to_the_end(&mut self) -> Checked {
        while self.step()? {}
        // Whoever is left looks at everything once.
        self.ending = true;
        for index in 0..self.threads.len() {
            for region in 0..self.plan.regions.len() {
                self.look_at_all(index, region)?;
            }
        }
        self.check_rest()
    }

    fn open_regions(&mut self) -> Checked {
        for (index, region) in self.plan.regions.clone().into_iter().enumerate() {
            let name = RegionName::new(&format!("region {index}")).map_err(|error| error.to_string())?;
            let placement = Placement::Single(NodeId::new(region.master as u16));
            let spec = RegionSpec {
                name,
                pages: region.pages,
                placement,
                protocol: Protocol::Entry,
                unit: Unit::Page,
                address: 0,
            };
            let ticket = Ticket::new(OPENING, index as u16);
            self.event(0, |engine, out| engine.on_region_open(ticket, true, spec, out))?;
            self.deliver_all()?;
        }
        Ok(())
    }

    fn deliver_all(&mut self) -> Checked {
        while let Some(link) = self.links.iter().position(|link| !link.is_empty()) {
            self.deliver(link)?;
        }
        Ok(())
    }

    /// One thing happens, anywhere; false when nothing is left to happen.
    fn step(&mut self) -> Result<bool, String> {
        if self.report.steps > STEPS_MOST {
            return Err(format!("not at rest after {STEPS_MOST} steps"));
        }
        let steps = self.report.steps;
        if let Some(at) = self.plan.losses.iter().position(|loss| loss.0 <= steps) {
            let (_, one, other) = self.plan.losses.swap_remove(at);
            self.part(one, other)?;
            return Ok(true);
        }
        let links = (0..self.links.len()).filter(|link| !self.links[*link].is_empty());
        let mut choices: Vec<(u64, Choice)> =
            links.map(|link| (self.plan.weights[link], Choice::Link(link))).collect();
        for (index, thread) in
            self.threads.iter().enumerate().filter(|(_, thread)| self.nodes[thread.node].alive)
        {
            if thread.waits.is_some() {
                choices.push((self.plan.impatience, Choice::GiveUp(index)));
            } else if thread.sections_left > 0 || !thread.held.is_empty() {
                choices.push((self.plan.thread_weight, Choice::Thread(index)));
            }
        }
        let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(total);
        for (weight, choice) in choices {
            if at >= weight {
                at -= weight;
                continue;
            }
            match choice {
                Choice::Link(link) => self.deliver(link)?,
                Choice::Thread(index) => self.go_on(index)?,
                Choice::GiveUp(index) => self.give_up(index)?,
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn check_rest(&mut self) -> Checked {
        if let Some(index) = self.threads.iter().position(|thread| {
            self.nodes[thread.node].alive && (thread.waits.is_some() || !thread.held.is_empty())
        }) {
            return Err(format!("thread {index} waits for ever: {:?}", self.threads[index]));
        }
        if let Some(node) = self.nodes.iter().position(|node| node.alive && !node.engine.is_quiet()) {
            return Err(format!("the engine of node {node} is not at rest"));
        }
        for (node, region) in
            (0..self.nodes.len()).flat_map(|node| (0..self.plan.regions.len()).map(move |r| (node, r)))
        {
            let load = self.nodes[node].engine.load();
            let all_gone = self.nodes[node].alive && self.plan.regions[region].master == node;
            if all_gone && (load.ranges, load.range_waiters, load.orphaned_ranges) != (0, 0, 0) {
                return Err(format!("node {node} still keeps ranges: {load:?}"));
            }
        }
        match self.losses.iter().find(|loss| !loss.told && self.is_reachable(loss.range.region)) {
            Some(loss) => Err(format!("nobody was told of {loss:?}")),
            None => Ok(()),
        }
    }

    /// Whether some thread of a living node can still lock ranges of the region.
    fn is_reachable(&self, region: RegionId) -> bool {
        let master = self.plan.regions[region.index()].master;
        self.nodes[master].alive && self.threads.iter().any(|thread| self.knows(thread.node, master))
    }

    fn knows(&self, one: usize, other: usize) -> bool {
        self.nodes[one].alive && self.nodes[other].alive && !self.parted[one * self.nodes.len() + other]
    }

    fn cells(&self, range: ByteRange) -> std::ops::Range<usize> {
        let cells = &self.plan.regions[range.region.index()].cells;
        cells.partition_point(|cell| *cell < range.start)..cells.partition_point(|cell| *cell < range.end())
    }

    fn values(&self, node: usize, range: ByteRange) -> Load {
        self.nodes[node].memory[range.region.index()][self.cells(range)].to_vec()
    }

    fn event<R>(
        &mut self,
        node: usize,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> Result<R, String> {
        let mut out = Actions::new();
        let result = event(&mut self.nodes[node].engine, &mut out);
        self.perform(node, &out, &Load::new())?;
        Ok(result)
    }

    fn deliver(&mut self, link: usize) -> Checked {
        let (from, to) = (link / self.nodes.len(), link % self.nodes.len());
        let Some((message, load)) = self.links[link].pop_front() else { return Ok(()) };
        self.note(|| format!("{from} -> {to} {message:?} {load:?}"));
        self.report.messages += 1;
        let sender = NodeId::new(from as u16);
        match message {
            Message::RangeAcquire { range, ticket, access, .. } => {
                self.referees[range.region.index()].arrived(Turn { node: sender, ticket, range, access });
            }
            Message::RangeRelease { range, ticket, .. } => {
                self.referees[range.region.index()].released(sender, ticket, range);
            }
            _ => {}
        }
        let mut out = Actions::new();
        let handled = self.nodes[to].engine.on_message(sender, View::FIRST, &message, &mut out);
        handled.map_err(|violation| violation.to_string())?;
        self.perform(to, &out, &load)
    }

    fn perform(&mut self, node: usize, actions: &Actions, load: &Load) -> Checked {
        self.report.steps += 1;
        for action in actions {
            if !matches!(action, Action::Send { .. } | Action::SendBytes { .. }) {
                self.note(|| format!("node {node} {action:?}"));
            }
            match *action {
                Action::Send { to, message, payload: None } => self.send(node, to, message, Load::new())?,
                Action::SendBytes { to, message, range } => {
                    self.report.pieces += 1;
                    let load = self.values(node, range);
                    self.send(node, to, message, load)?;
                }
                Action::StoreBytes(range) => {
                    let cells = self.cells(range);
                    if cells.len() != load.len() {
                        return Err(format!("{range:?} is stored from other bytes"));
                    }
                    self.nodes[node].memory[range.region.index()][cells].copy_from_slice(load);
                }
                Action::Complete { ticket, outcome } => self.complete(node, ticket, outcome)?,
                Action::MapRegion { region, round, .. } => {
                    self.event(node, |engine, out| engine.on_region_mapped(region, round, true, out))?;
                }
                Action::Materialise(_) => {}
                Action::MapWrite(page) => {
                    self.nodes[node].mapped.insert(page);
                }
                ref other => return Err(format!("unexpected {other:?}")),
            }
        }
        for (region, referee) in self.referees.iter().enumerate() {
            if self.plan.regions[region].master == node {
                referee.check()?;
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message, load: Load) -> Checked {
        match message {
            Message::RangeGrant { region, ticket, .. }
            | Message::RangePart { region, ticket, .. }
            | Message::RangeBytes { range: ByteRange { region, .. }, ticket } => {
                self.referees[region.index()].granted(to, ticket)?;
            }
            Message::RangeBusy { region, ticket } => self.referees[region.index()].refused(to, ticket)?,
            _ => {}
        }
        if self.knows(from, to.index()) {
            self.links[from * self.nodes.len() + to.index()].push_back((message, load));
        }
        Ok(())
    }

    fn complete(&mut self, node: usize, ticket: Ticket, outcome: Outcome) -> Checked {
        if ticket.slot == OPENING {
            return if matches!(outcome, Outcome::Region { .. }) {
                Ok(())
            } else {
                Err(format!("{outcome:?}"))
            };
        }
        if ticket.slot % SLOTS == SLOTS - 1 {
            // A fault, which is over at once.
            return if outcome == Outcome::Done {
                Ok(())
            } else {
                Err(format!("a fault ended with {outcome:?}"))
            };
        }
        let index = (ticket.slot / SLOTS) as usize;
        let turn = self.threads[index].waits.filter(|turn| turn.ticket == ticket);
        let turn = turn.ok_or_else(|| format!("{outcome:?} for {ticket:?}, which does not wait"))?;
        self.threads[index].waits = None;
        let region = turn.range.region.index();
        let master = self.plan.regions[region].master;
        let own = master == node;
        match outcome {
            Outcome::Failed(Failure::Busy) => {
                self.report.busy += 1;
                if own { self.referees[region].refused(turn.node, ticket) } else { Ok(()) }
            }
            Outcome::Failed(Failure::PeerLost(lost))
                if lost.index() == master && !self.knows(node, master) =>
            {
                self.report.losses += 1;
                Ok(())
            }
            Outcome::Done | Outcome::OwnerDied(_) => {
                if own {
                    self.referees[region].granted(turn.node, ticket)?;
                }
                if let Outcome::OwnerDied(lost) = outcome {
                    self.told(turn, lost)?;
                }
                self.enter(index, turn)
            }
            other => Err(format!("{turn:?} ended with {other:?}")),
        }
    }

    fn told(&mut self, turn: Turn, lost: NodeId) -> Checked {
        self.report.told += 1;
        let master = self.plan.regions[turn.range.region.index()].master;
        if self.knows(lost.index(), master) {
            return Err(format!("{turn:?} was told that node {lost} died, which lives"));
        }
        // Of several writers that died one is named.
        for loss in self.losses.iter_mut().filter(|loss| loss.range.overlaps(turn.range)) {
            loss.told = true;
        }
        Ok(())
    }

    fn enter(&mut self, index: usize, turn: Turn) -> Checked {
        self.report.grants += 1;
        let others = self.threads.iter().filter(|thread| self.nodes[thread.node].alive);
        let mut sections = others.flat_map(|thread| &thread.held);
        if let Some(other) = sections.find(|section| section.turn.excludes(&turn)) {
            return Err(format!("{turn:?} came in beside {:?}", other.turn));
        }
        let node = self.threads[index].node;
        let before = self.values(node, turn.range);
        let accesses = self.random.below(4);
        self.threads[index].held.push(Section { turn, before, accesses });
        self.look(node, turn.range)
    }

    /// Whoever has a range sees what was published last.
    fn look(&mut self, node: usize, range: ByteRange) -> Checked {
        let region = range.region.index();
        for cell in self.cells(range) {
            self.report.reads += 1;
            let (found, [expected, _]) = (self.nodes[node].memory[region][cell], self.truth[region][cell]);
            if found != expected {
                let at = self.plan.regions[region].cells[cell];
                return Err(format!(
                    "node {node} has {range:?}, finds {found} at {at}, and {expected} was published"
                ));
            }
        }
        Ok(())
    }

    fn go_on(&mut self, index: usize) -> Checked {
        let Some(section) = self.threads[index].held.last_mut() else {
            self.threads[index].sections_left -= 1;
            let waits = !self.random.chance(self.plan.tries);
            return self.lock(index, waits);
        };
        if section.accesses == 0 {
            return self.release(index);
        }
        section.accesses -= 1;
        let turn = section.turn;
        let held = self.threads[index].held.len();
        if held < SLOTS as usize - 1 && self.random.chance(self.plan.nested) {
            // Who waits with a range in hand may wait for ever.
            return self.lock(index, false);
        }
        self.access(index, turn)
    }

    fn access(&mut self, index: usize, turn: Turn) -> Checked {
        let node = self.threads[index].node;
        let cells = self.cells(turn.range);
        let cell = cells.start + self.random.index(cells.len());
        let region = turn.range.region;
        let page = PageAddress::new(region, self.plan.regions[region.index()].cells[cell] / 4096);
        if !self.nodes[node].mapped.contains(&page) {
            let ticket = self.ticket(index, SLOTS - 1);
            self.event(node, |engine, out| engine.on_fault(ticket, page, Access::Read, out))?;
            self.event(node, |engine, out| engine.on_resumed(ticket, out))?;
            let state = self.nodes[node].engine.page_state(page);
            if !self.nodes[node].mapped.contains(&page) || state != PageState::Modified {
                return Err(format!("node {node} cannot touch {page:?}"));
            }
        }
        if turn.access == Access::Write && self.random.chance(60) {
            let value = self.next_value;
            self.next_value += 1;
            self.note(|| format!("thread {index} writes {value} in {:?}", turn.range));
            self.nodes[node].memory[region.index()][cell] = value;
            return Ok(());
        }
        if turn.access == Access::Read { self.look(node, turn.range) } else { Ok(()) }
    }

    fn ticket(&mut self, index: usize, place: u16) -> Ticket {
        let thread = &mut self.threads[index];
        thread.generation = thread.generation.wrapping_add(1);
        Ticket::new(index as u16 * SLOTS + place, thread.generation)
    }

    fn draw_range(&mut self) -> ByteRange {
        let region = self.random.index(self.plan.regions.len());
        let edges = &self.plan.regions[region].edges;
        let first = self.random.index(edges.len() - 1);
        let most = (edges.len() - 1 - first) as u64;
        let few = self.random.chance(50);
        let last = first + self.random.between(1, if few { most.min(2) } else { most }) as usize;
        ByteRange::new(RegionId(region as u16), edges[first], edges[last])
    }

    fn lock(&mut self, index: usize, waits: bool) -> Checked {
        let range = self.draw_range();
        if self.threads[index].held.iter().any(|section| section.turn.range.overlaps(range)) {
            // The runtime refuses this before any engine hears of it.
            return Ok(());
        }
        let access = if self.random.chance(self.plan.writes) { Access::Write } else { Access::Read };
        self.ask(index, range, access, waits)
    }

    fn ask(&mut self, index: usize, range: ByteRange, access: Access, waits: bool) -> Checked {
        let place = self.threads[index].held.len() as u16;
        let ticket = self.ticket(index, place);
        let node = self.threads[index].node;
        let turn = Turn { node: NodeId::new(node as u16), ticket, range, access };
        self.note(|| format!("thread {index} asks: {turn:?}, waits: {waits}"));
        self.threads[index].waits = Some(turn);
        let region = range.region.index();
        if self.plan.regions[region].master == node {
            self.referees[region].arrived(turn);
        }
        self.event(node, |engine, out| engine.on_range_acquire(ticket, range, access, waits, out))
    }

    fn give_up(&mut self, index: usize) -> Checked {
        let Some(turn) = self.threads[index].waits.take() else { return Ok(()) };
        self.report.given_up += 1;
        self.note(|| format!("thread {index} gives up {turn:?}"));
        let node = self.threads[index].node;
        let region = turn.range.region.index();
        if self.plan.regions[region].master == node {
            self.referees[region].released(turn.node, turn.ticket, turn.range);
        }
        self.event(node, |engine, out| engine.on_cancel(turn.ticket, out))
    }

    fn release(&mut self, index: usize) -> Checked {
        let Some(Section { turn, before, .. }) = self.threads[index].held.pop() else { return Ok(()) };
        let Turn { ticket, range, access, .. } = turn;
        let (node, region) = (self.threads[index].node, range.region.index());
        self.note(|| format!("thread {index} gives back {range:?}"));
        let known = self.knows(node, self.plan.regions[region].master);
        if access == Access::Write {
            let first = self.cells(range).start;
            let after = self.values(node, range);
            for (cell, (old, new)) in
                before.iter().zip(&after).enumerate().filter(|(_, (old, new))| old != new)
            {
                self.truth[region][first + cell] = [*new, *old];
            }
            for piece in self.pieces(range, &before, &after) {
                let sent = self.event(node, |engine, out| engine.on_range_write(ticket, piece, out))?;
                if sent.is_err() == known {
                    return Err(format!("publishing {piece:?}: {sent:?}"));
                }
            }
        }
        if self.plan.regions[region].master == node {
            self.referees[region].released(turn.node, ticket, range);
        }
        let released = self.event(node, |engine, out| engine.on_range_release(ticket, range, out))?;
        if released.is_err() == known { Err(format!("giving back {range:?}: {released:?}")) } else { Ok(()) }
    }

    /// What is sent of a range that was written: the bytes that changed, or all, page by page.
    fn pieces(&mut self, range: ByteRange, before: &[u32], after: &[u32]) -> Vec<ByteRange> {
        let region = range.region;
        if self.random.chance(self.plan.whole) {
            let mut pieces = Vec::new();
            let mut at = range.start;
            while at < range.end() {
                let end = (at / 4096 + 1) * 4096;
                pieces.push(ByteRange::new(region, at, end.min(range.end())));
                at = end;
            }
            return pieces;
        }
        let cells = &self.plan.regions[region.index()].cells[self.cells(range)];
        let changed = cells.iter().zip(before.iter().zip(after)).filter(|(_, (old, new))| old != new);
        changed.map(|(cell, _)| ByteRange::new(region, *cell, cell + 1)).collect()
    }

    /// Thread `index` locks a whole region, for reading, and gives it back.
    fn look_at_all(&mut self, index: usize, region: usize) -> Checked {
        let (node, pages) = (self.threads[index].node, self.plan.regions[region].pages);
        if !self.nodes[node].alive {
            return Ok(());
        }
        if !self.threads[index].held.is_empty() || self.threads[index].waits.is_some() {
            return Err(format!("thread {index} waits for ever: {:?}", self.threads[index]));
        }
        let range = ByteRange::new(RegionId(region as u16), 0, pages * 4096);
        self.ask(index, range, Access::Read, true)?;
        self.deliver_all()?;
        if self.threads[index].waits.is_some() {
            return Err(format!("thread {index} cannot have all of region {region}"));
        }
        if !self.threads[index].held.is_empty() {
            self.release(index)?;
            self.deliver_all()?;
        }
        Ok(())
    }
}
