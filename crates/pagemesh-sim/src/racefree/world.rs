//! The mesh: engines, memory with twins, links, and the memory that every read is compared with.

mod atomics;
mod guards;
mod meeting;
mod memory;
mod tracking;

use super::RaceFreeReport;
use super::plan::{CELLS, Fault, Plan};
use super::threads::{Activity, Step, Thread};
use crate::engines::{Engines, Sharding};
use crate::random::Random;
use meeting::Meeting;
use pagemesh_protocol::{
    Access, Action, Actions, BarrierId, Engine, EngineConfig, Failure, Message, NodeId, Outcome, PageAddress,
    PinWait, RegionId, RegionName, RegionSpec, Ticket, Unit, View,
};
use std::collections::VecDeque;

type Cells = [u32; CELLS];

const BARRIER: BarrierId = BarrierId(1);
/// More steps than any seed needs: whoever is not at rest by then never will be.
const STEPS_MOST: u64 = 400_000;
/// With more than this on a link no thread begins anything: as the runtime, it waits for room.
const LINK_MOST: usize = 200;
/// The slot of the calls that open regions; threads have those from 0 on.
const OPENING: u16 = 1000;

/// Cells of a page, and their new values.
type Changes = Vec<(usize, u32)>;

/// What goes along with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Load {
    Nothing,
    Page(Cells),
    Diff(Changes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rights {
    None,
    Read,
    Write,
}

#[derive(Clone, Debug)]
struct PageCopy {
    cells: Cells,
    rights: Rights,
    twin: Option<Cells>,
    /// Cells that others wrote while the page was lent.
    marks: [bool; CELLS],
    /// With [`Fault::LateTwin`]: the next write comes before the twin.
    late: bool,
    /// The kernel has noted that it was written since it could only be read.
    written: bool,
}

pub(super) struct Node {
    pub(super) engine: Engines,
    pub(super) alive: bool,
    /// By region and page.
    pages: Vec<Vec<PageCopy>>,
    postponed: bool,
    /// The newest wait for pins whose deadline has not passed.
    pub(super) awaited: Option<PinWait>,
}

/// The one value that a read may find; more after a node died that wrote it.
#[derive(Clone, Debug)]
struct Truth {
    value: u32,
    writer: Option<usize>,
    /// All values since the start; any of them may be left when the last writer died.
    past: Vec<u32>,
    uncertain: bool,
}

pub(super) struct World {
    plan: Plan,
    random: Random,
    /// What threads do between two actions, and the kernel by itself.
    interludes: Random,
    /// The thread whose call is under way.
    acting: Option<usize>,
    fault: Option<Fault>,
    pub(super) nodes: Vec<Node>,
    pub(super) threads: Vec<Thread>,
    /// From node `a` to node `b`: number `a * N + b`.
    links: Vec<VecDeque<(Message, Load)>>,
    truth: Vec<Truth>,
    next_value: u32,
    /// With [`Fault::RepeatedDiff`]: where and what.
    repeated: Option<(usize, PageAddress, Changes)>,
    pub(super) report: RaceFreeReport,
    trace: Option<Vec<String>>,
    meeting: Meeting,
}

pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(
        plan: Plan,
        (random, interludes): (Random, Random),
        (fault, sharding): (Option<Fault>, &[Sharding]),
        traced: bool,
    ) -> World {
        let count = plan.nodes;
        let node = |number| {
            let bounds = EngineConfig::new(NodeId::new(number), count);
            let config = EngineConfig {
                tickets: 1024,
                locks: 64,
                barriers: 8,
                barrier_fan: plan.barrier_fan,
                gathered: plan.gathered,
                lend_after: plan.lend_after,
                foresees: plan.foresees,
                updates: plan.updates,
                hint_patience: if plan.foresees { 2 } else { 0 },
                ..bounds
            };
            let mut engine = Engines::new(config, sharding[number as usize]);
            if let Some(Fault::Engine(planted)) = fault {
                engine.plant(planted);
            }
            Node { engine, alive: true, pages: Vec::new(), postponed: false, awaited: None }
        };
        let threads = plan.threads.iter().enumerate().map(|(index, node)| Thread::new(*node, index as u16));
        let truth = Truth { value: 0, writer: None, past: vec![0], uncertain: false };
        World {
            nodes: (0..count).map(node).collect(),
            threads: threads.collect(),
            links: vec![VecDeque::new(); (count as usize).pow(2)],
            truth: vec![truth; plan.guards.len()],
            next_value: 1,
            repeated: None,
            report: RaceFreeReport::default(),
            trace: traced.then(Vec::new),
            meeting: Meeting::default(),
            plan,
            random,
            interludes,
            acting: None,
            fault,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let step = self.report.steps;
            trace.push(format!("{step:6} {}", line()));
        }
    }

    pub(super) fn run(mut self) -> Result<RaceFreeReport, (String, Vec<String>)> {
        let run = std::panic::AssertUnwindSafe(|| {
            self.open_regions()?;
            self.fill_semaphores()?;
            self.run_threads()?;
            self.check_rest()
        });
        // An assertion of an engine that fails is a finding like others.
        let result = std::panic::catch_unwind(run)
            .unwrap_or_else(|panic| Err(format!("panic: {}", crate::run::panic_text(panic.as_ref()))));
        for node in &self.nodes {
            let (fetched, left_writable) = node.engine.foreseen();
            let (adopted, ignored) = node.engine.updates();
            self.report.updates_adopted += adopted;
            self.report.updates_ignored += ignored;
            self.report.foreseen += fetched;
            self.report.left_writable += left_writable;
        }
        result.map(|()| self.report).map_err(|what| (what, self.trace.unwrap_or_default()))
    }

    fn open_regions(&mut self) -> Checked {
        for (index, region) in self.plan.regions.clone().into_iter().enumerate() {
            let name = RegionName::new(&format!("region {index}")).map_err(|error| error.to_string())?;
            let (pages, placement, protocol) = (region.pages, region.placement, region.protocol);
            let spec = RegionSpec { name, pages, placement, protocol, unit: Unit::Page, address: 0 };
            let ticket = Ticket::new(OPENING, index as u16);
            self.event(0, |engine, out| engine.on_region_open(ticket, true, spec, out))?;
            while let Some(link) = self.links.iter().position(|link| !link.is_empty()) {
                self.deliver(link)?;
            }
        }
        Ok(())
    }

    fn run_threads(&mut self) -> Checked {
        while self.step()? {
            if self.report.steps > STEPS_MOST {
                return Err(format!("not at rest after {STEPS_MOST} steps"));
            }
        }
        Ok(())
    }

    /// One thing happens, anywhere; false when nothing is left to happen.
    fn step(&mut self) -> Result<bool, String> {
        if let Some((at, node)) = self.plan.death
            && self.nodes[node].alive
            && self.report.steps >= at
        {
            self.kill(node)?;
        }
        if let Some((node, page, diff)) = self.repeated.take_if(|_| self.random.chance(5)) {
            self.apply(node, page, &diff);
        }
        if self.links.iter().all(VecDeque::is_empty) {
            self.meeting.all_is_heard();
        }
        let links = (0..self.links.len()).filter(|link| !self.links[*link].is_empty());
        let mut choices: Vec<(u64, Choice)> =
            links.map(|link| (self.plan.weights[link], Choice::Link(link))).collect();
        let crowded = self.links.iter().any(|link| link.len() > LINK_MOST);
        for (index, thread) in self.threads.iter().enumerate() {
            if thread.activity == Activity::Ready && crowded {
                continue;
            }
            if thread.activity == Activity::Ready {
                // Who finds a lock's word taken again and again tries less often.
                let weight = (self.plan.thread_weight >> thread.tries.min(6)).max(1);
                choices.push((weight, Choice::Thread(index)));
            } else if thread.awaits.is_some() && !thread.patience_over {
                choices.push((1, Choice::GiveUp(index)));
            } else if thread.activity == Activity::Waiting && thread.steps.front() == Some(&Step::Meet) {
                choices.push((1, Choice::LeaveMeeting(index)));
            }
        }
        for (index, _) in self.nodes.iter().enumerate().filter(|(_, node)| node.postponed && node.alive) {
            choices.push((4, Choice::Postponed(index)));
        }
        for (index, _) in
            self.nodes.iter().enumerate().filter(|(_, node)| node.awaited.is_some() && node.alive)
        {
            choices.push((1, Choice::Expire(index)));
        }
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(total);
        for (weight, choice) in choices {
            if at >= weight {
                at -= weight;
                continue;
            }
            match choice {
                Choice::Link(link) => self.deliver(link)?,
                Choice::Thread(index) => {
                    self.acting = Some(index);
                    self.go_on(index)?;
                    self.acting = None;
                }
                Choice::Expire(node) => self.expire_pins(node)?,
                Choice::GiveUp(index) => self.give_up(index)?,
                Choice::LeaveMeeting(index) => self.leave_meeting(index)?,
                Choice::Postponed(node) => {
                    self.nodes[node].postponed = false;
                    self.quiet_event(node, Engines::on_postponed)?;
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn check_rest(&mut self) -> Checked {
        let waiting = self.threads.iter().position(|thread| thread.activity == Activity::Waiting);
        if let Some(index) = waiting {
            return Err(format!(
                "thread {index} waits for ever; next it would {:?}",
                self.threads[index].steps
            ));
        }
        if let Some(index) = self.pins_left() {
            return Err(format!("thread {index} has pages pinned in the end"));
        }
        let busy = self.nodes.iter().position(|node| node.alive && !node.engine.is_quiet());
        if let Some(node) = busy {
            return Err(format!("the engine of node {node} is not at rest"));
        }
        let counted = self.nodes.iter().position(|node| node.alive && node.engine.load().barrier_waiters > 0);
        counted.map_or(Ok(()), |node| Err(format!("node {node} counts somebody at a barrier")))
    }

    /// What may be a release.
    pub(super) fn event(&mut self, node: usize, event: impl FnOnce(&mut Engines, &mut Actions)) -> Checked {
        self.look(node);
        self.quiet_event(node, event)
    }

    /// What never is.
    pub(super) fn quiet_event(
        &mut self,
        node: usize,
        event: impl FnOnce(&mut Engines, &mut Actions),
    ) -> Checked {
        let mut out = Actions::new();
        event(&mut self.nodes[node].engine, &mut out);
        self.perform(node, &out, &Load::Nothing)
    }

    fn deliver(&mut self, link: usize) -> Checked {
        let (from, to) = (link / self.nodes.len(), link % self.nodes.len());
        let Some((message, load)) = self.links[link].pop_front() else { return Ok(()) };
        self.note(|| format!("{from} -> {to} {message:?} {load:?}"));
        self.report.messages += 1;
        self.report.lent += u64::from(matches!(message, Message::LendReply { taken: true, .. }));
        self.report.gathered += u64::from(matches!(message, Message::BarrierGathered { .. }));
        self.report.dissolved += u64::from(matches!(message, Message::BarrierDissolve { .. }));
        self.report.returned += u64::from(matches!(message, Message::Return { .. }));
        match (self.fault, message) {
            (Some(Fault::MissedNotice), Message::Wrote { .. }) if self.random.chance(20) => return Ok(()),
            (Some(Fault::EarlyAnswer), Message::Need { .. })
            | (Some(Fault::LostCallIn), Message::CallIn { .. }) => return Ok(()),
            (Some(Fault::EarlySettlement), Message::Told { writer, interval }) if self.random.chance(20) => {
                self.message(from, to, Message::Settled { writer, interval }, &Load::Nothing)?;
            }
            _ => {}
        }
        self.message(from, to, message, &load)
    }

    fn message(&mut self, from: usize, to: usize, message: Message, load: &Load) -> Checked {
        let mut out = Actions::new();
        let from = NodeId::new(from as u16);
        let waited = self.nodes[to].engine.load().condition_waiters;
        if Engine::may_release(&message) {
            self.look(to);
        }
        let handled = self.nodes[to].engine.on_message(from, View::FIRST, &message, &mut out);
        handled.map_err(|violation| violation.to_string())?;
        if matches!(message, Message::ConditionSignal { all: false, .. }) {
            self.check_woken(to, waited)?;
        }
        let held = self.nodes[to].engine.notices_held() as u64;
        self.report.notices_most = self.report.notices_most.max(held);
        self.perform(to, &out, load)
    }

    fn perform(&mut self, node: usize, actions: &Actions, load: &Load) -> Checked {
        self.report.steps += 1;
        for action in actions {
            self.interlude(node)?;
            if !matches!(action, Action::Send { .. } | Action::SendDiff { .. }) {
                self.note(|| format!("node {node} {action:?}"));
            }
            match *action {
                Action::Send { to, message, payload } => {
                    let load = match (payload, message) {
                        (Some(page), _) => Load::Page(self.copy(node, page).cells),
                        (None, Message::Diff { .. }) => Load::Diff(Changes::new()),
                        (None, _) => Load::Nothing,
                    };
                    self.send(node, to, message, load);
                }
                Action::SendDiff { to, message, page, keep_twin } => {
                    let load = self.make_diff(node, page, keep_twin)?;
                    if load == Load::Diff(Changes::new()) {
                        self.nodes[node].engine.on_unchanged(page);
                    }
                    self.report.diffs += 1;
                    self.send(node, to, message, load);
                }
                Action::Flush { page, diff } => self.flush(node, page, diff)?,
                Action::Atomic { page, operation, requester, ticket, answer } => {
                    self.operate(node, page, operation, (requester, ticket, answer))?;
                }
                Action::Complete { ticket, outcome } => self.complete(node, ticket, outcome)?,
                Action::Postpone => self.nodes[node].postponed = true,
                Action::Hurry(_) => {}
                Action::AwaitUnpin(wait) => self.nodes[node].awaited = Some(wait),
                Action::MapRegion { region, round, spec } => {
                    let fresh = PageCopy {
                        cells: [0; CELLS],
                        rights: Rights::None,
                        twin: None,
                        marks: [false; CELLS],
                        late: false,
                        written: false,
                    };
                    let pages = &mut self.nodes[node].pages;
                    pages.resize(pages.len().max(region.index() + 1), Vec::new());
                    pages[region.index()] = vec![fresh; spec.pages as usize];
                    self.event(node, |engine, out| engine.on_region_mapped(region, round, true, out))?;
                    if self.plan.tracked[node] {
                        self.nodes[node].engine.track_writes(region);
                    }
                }
                Action::UnmapRegion(_) | Action::ForgetRegion(_) | Action::Departed(_) => {
                    return Err(format!("unexpected {action:?}"));
                }
                ref on_page => self.change_page(node, on_page, load)?,
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message, load: Load) {
        // Who has much to say leaves updates out.
        if matches!(message, Message::Update { .. }) && self.random.chance(self.plan.updates_lost) {
            return;
        }
        if self.nodes[to.index()].alive {
            let link = from * self.nodes.len() + to.index();
            self.links[link].push_back((message, load));
        }
    }

    fn complete(&mut self, node: usize, ticket: Ticket, outcome: Outcome) -> Checked {
        if ticket.slot == OPENING {
            return match outcome {
                Outcome::Region { .. } | Outcome::Done => Ok(()),
                other => Err(format!("a region was not mapped: {other:?}")),
            };
        }
        let thread = &mut self.threads[ticket.slot as usize];
        if thread.node != node || thread.ticket != ticket || thread.activity != Activity::Waiting {
            return Err(format!("{outcome:?} for {ticket:?}, which does not wait"));
        }
        thread.activity = Activity::Ready;
        let failed = matches!(outcome, Outcome::Failed(_));
        if outcome == Outcome::Failed(Failure::NotSignalled) {
            self.signal_came(ticket.slot as usize, outcome);
            return Ok(());
        }
        if outcome == Outcome::Failed(Failure::Withdrawn) && thread.patience_over {
            thread.patience_over = false;
            thread.steps.pop_front();
            return Ok(());
        }
        let busy = outcome == Outcome::Failed(Failure::Busy);
        self.report.losses += u64::from(failed && !busy);
        if failed && !busy && self.nodes.iter().all(|node| node.alive) {
            return Err(format!("thread {} was told {outcome:?} though all nodes live", ticket.slot));
        }
        match (thread.steps.front().copied(), failed) {
            (Some(Step::Wait), _) => self.signal_came(ticket.slot as usize, outcome),
            (Some(Step::Lock(_, _)), false) if matches!(outcome, Outcome::Word(old) if old != 0) => {
                thread.tries += 1;
            }
            (Some(Step::Lock(lock, _)), false) => {
                thread.tries = 0;
                thread.held = Some((lock, ticket));
                thread.steps.pop_front();
            }
            (Some(Step::Lock(..)), true) => thread.skip_section(),
            (Some(Step::Read(_) | Step::Write(_)), false) => thread.owes_use = true,
            (Some(Step::Read(_) | Step::Write(_)), true) => {
                // What can no longer be touched is left alone.
                thread.steps.pop_front();
            }
            (Some(Step::Add(_)), _) => {
                thread.patience_over = false;
                thread.steps.pop_front();
            }
            (Some(Step::Pin(..)), failed) => self.pinned(ticket.slot as usize, failed),
            (Some(Step::Meet), false) => {
                thread.steps.pop_front();
                let all = self.threads.len();
                if self.plan.death.is_none() {
                    self.meeting.ends(ticket.slot as usize, all)?;
                }
            }
            (Some(Step::Meet), true) | (Some(Step::Posted | Step::Barrier), false) => {
                thread.steps.pop_front();
            }
            // Without its barriers the program would not be without races.
            (Some(Step::Barrier), true) => thread.give_up(),
            (other, _) => return Err(format!("{ticket:?} completed, but its thread would {other:?}")),
        }
        Ok(())
    }

    fn end(&mut self, index: usize) {
        self.threads[index].activity = Activity::Over;
        self.threads[index].awaits = None;
        self.threads[index].steps.clear();
    }

    /// Thread `index` does its next step.
    fn go_on(&mut self, index: usize) -> Checked {
        let node = self.threads[index].node;
        let Some(step) = self.threads[index].steps.front().copied() else {
            let (plan, random) = (&self.plan, &mut self.random);
            if !self.threads[index].plan_round(index, plan, random) {
                self.end(index);
            }
            return Ok(());
        };
        match step {
            Step::Read(cell) => self.touch(index, cell, Access::Read),
            Step::Write(cell) => self.touch(index, cell, Access::Write),
            Step::Evict(cell) => {
                self.threads[index].steps.pop_front();
                let (page, _) = self.place(cell);
                self.note(|| format!("thread {index} gives {page:?} back"));
                self.quiet_event(node, |engine, out| engine.on_evict(page, out))
            }
            Step::Add(cell) => self.add(index, cell),
            Step::Pin(cell, access) => self.pin(index, cell, access),
            Step::Kernel(cell, access) => self.system_call(index, cell, access),
            Step::Unpin => self.unpin(index),
            Step::Lock(lock, access) => self.take(index, lock, access),
            Step::Unlock => self.give_back(index),
            Step::Wait => self.await_signal(index),
            Step::Notify(lock, all) => self.notify(index, lock, all),
            Step::Posted => Err(format!("thread {index} goes on without an answer")),
            Step::Meet => {
                let (ticket, all) = (self.wait(index), self.threads.len() as u32);
                self.note(|| format!("thread {index} comes to a meeting"));
                self.meeting.comes(index);
                let barrier = meeting::barrier(BARRIER, self.plan.nodes);
                self.event(node, |engine, out| engine.on_barrier_arrive(ticket, barrier, all, out))
            }
            Step::Barrier => {
                let (ticket, all) = (self.wait(index), self.threads.len() as u32);
                self.note(|| format!("thread {index} is at the barrier"));
                self.event(node, |engine, out| engine.on_barrier_arrive(ticket, BARRIER, all, out))
            }
        }
    }

    pub(super) fn wait(&mut self, index: usize) -> Ticket {
        self.threads[index].activity = Activity::Waiting;
        self.threads[index].next_ticket()
    }

    pub(super) fn place(&self, cell: usize) -> (PageAddress, usize) {
        let mut page = (cell / CELLS) as u64;
        let mut region = 0;
        while page >= self.plan.regions[region].pages {
            page -= self.plan.regions[region].pages;
            region += 1;
        }
        (PageAddress::new(RegionId(region as u16), page), cell % CELLS)
    }

    /// Whether the application of `node` has the right to this access.
    pub(super) fn may(&mut self, node: usize, page: PageAddress, access: Access) -> bool {
        let only_noted = access == Access::Write && self.is_tracked(node, page.region);
        let needed = if access == Access::Read || only_noted { Rights::Read } else { Rights::Write };
        self.copy(node, page).rights >= needed
    }

    /// Thread `index` reads or writes a cell, or faults.
    fn touch(&mut self, index: usize, cell: usize, access: Access) -> Checked {
        let node = self.threads[index].node;
        let (page, place) = self.place(cell);
        let ready = self.may(node, page, access) && !self.is_swapped(node, page);
        if ready {
            self.threads[index].steps.pop_front();
            if access == Access::Read {
                self.check_read(index, cell)?;
            } else {
                self.write(index, cell, page, place);
            }
        }
        if std::mem::take(&mut self.threads[index].owes_use) {
            let ticket = self.threads[index].ticket;
            self.quiet_event(node, |engine, out| engine.on_resumed(ticket, out))?;
        }
        if !ready {
            let ticket = self.wait(index);
            self.note(|| format!("thread {index} faults on {page:?} {access:?}"));
            self.quiet_event(node, |engine, out| engine.on_fault(ticket, page, access, out))?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, index: usize, cell: usize, page: PageAddress, place: usize) {
        let (value, node) = (self.next_value, self.threads[index].node);
        self.next_value += 1;
        self.note(|| format!("thread {index} writes {value} to cell {cell}, {page:?}"));
        let copy = self.copy(node, page);
        copy.cells[place] = value;
        copy.written |= copy.rights == Rights::Read;
        if std::mem::take(&mut copy.late) {
            copy.twin = Some(copy.cells);
        }
        let truth = &mut self.truth[cell];
        truth.past.push(value);
        (truth.value, truth.writer, truth.uncertain) = (value, Some(node), false);
    }

    pub(super) fn check_read(&mut self, index: usize, cell: usize) -> Checked {
        let (page, place) = self.place(cell);
        let found = self.copy(self.threads[index].node, page).cells[place];
        self.note(|| format!("thread {index} reads {found} from cell {cell}, {page:?}"));
        self.report.reads += 1;
        let Truth { value, uncertain, past, .. } = &self.truth[cell];
        if found == *value || (*uncertain && past.contains(&found)) {
            return Ok(());
        }
        Err(format!("thread {index} read {found} from cell {cell}, {page:?}; written last was {value}"))
    }

    /// A node dies; the others learn of it at once, after what was on its way from it, or instead of it.
    fn kill(&mut self, node: usize) -> Checked {
        self.note(|| format!("node {node} dies"));
        self.nodes[node].alive = false;
        for truth in &mut self.truth {
            truth.uncertain |= truth.writer == Some(node);
        }
        for index in 0..self.threads.len() {
            if self.threads[index].node == node {
                self.end(index);
            }
        }
        let count = self.nodes.len();
        for other in (0..count).filter(|other| *other != node) {
            self.links[other * count + node].clear();
            let kept = self.random.index(self.links[node * count + other].len() + 1);
            for _ in 0..kept {
                self.deliver(node * count + other)?;
            }
            self.links[node * count + other].clear();
            let lost = NodeId::new(node as u16);
            if self.nodes[other].alive {
                self.event(other, |engine, out| engine.on_peer_lost(lost, out))?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    Link(usize),
    Thread(usize),
    GiveUp(usize),
    LeaveMeeting(usize),
    Postponed(usize),
    Expire(usize),
}
