//! The mesh, its links, and the threads that open, use and close regions.

use super::LivesReport;
use super::memory::{Memory, Rights};
use crate::random::Random;
use pagemesh_protocol::{
    Access, Action, Actions, AtomicAnswer, AtomicChange, AtomicOperation, Engine, EngineConfig, Failure,
    LockId, Message, NodeId, Outcome, PageAddress, Placement, Protocol, RegionId, RegionName, RegionSpec,
    Ticket, Unit, View,
};
use std::collections::{BTreeMap, VecDeque};

const PAGES: u64 = 3;
const THREADS: usize = 2;
const NAMES: u64 = 3;
/// More steps than any seed needs.
const STEPS_MOST: u64 = 200_000;
const TRACE: usize = 400;

type Checked = Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Opening,
    Fault(PageAddress, Access),
    Atomic(PageAddress),
    Closing,
    Locking(LockId),
    Holding(LockId),
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    doing: Doing,
    ticket: Ticket,
    /// Has asked for its operation to be taken back.
    withdraws: bool,
}

struct Node {
    engine: Engine,
    alive: bool,
    memory: Memory,
    threads: Vec<Thread>,
    /// How often each region is open.
    open: BTreeMap<RegionId, u32>,
    cold: VecDeque<(usize, Message)>,
    postponed: bool,
}

pub(super) struct World {
    random: Random,
    nodes: Vec<Node>,
    links: Vec<VecDeque<(Message, Option<u64>)>>,
    cut: Vec<bool>,
    /// Survivors that have not noticed a loss yet.
    unnoticed: Vec<(usize, usize)>,
    /// What was written last to each page.
    truth: BTreeMap<PageAddress, u64>,
    written: u64,
    loss_at: Option<u64>,
    /// Two nodes have lost each other, and others may wait for what one will not send the other.
    parted: bool,
    work: u64,
    /// What is open is closed from now on.
    ends: bool,
    report: LivesReport,
    trace: VecDeque<String>,
}

impl World {
    pub(super) fn new(mut random: Random) -> World {
        let count = random.between(2, 4) as u16;
        let lend_after = random.below(3) as u32;
        let node = |number| {
            let bounds = EngineConfig::new(NodeId::new(number), count);
            let engine = Engine::new(EngineConfig {
                tickets: 16,
                locks: 16,
                barriers: 4,
                pins: 8,
                lend_after,
                updates: true,
                hint_patience: 2,
                ..bounds
            });
            let slot =
                |slot| Thread { doing: Doing::Nothing, ticket: Ticket::new(slot, 0), withdraws: false };
            Node {
                engine,
                alive: true,
                memory: Memory::default(),
                threads: (0..THREADS as u16).map(slot).collect(),
                open: BTreeMap::new(),
                cold: VecDeque::new(),
                postponed: false,
            }
        };
        let loss_at = random.chance(40).then(|| random.between(20, 1500));
        World {
            nodes: (0..count).map(node).collect(),
            links: vec![VecDeque::new(); (count as usize).pow(2)],
            cut: vec![false; (count as usize).pow(2)],
            unnoticed: Vec::new(),
            truth: BTreeMap::new(),
            written: 0,
            loss_at,
            parted: false,
            work: random.between(50, 400),
            ends: false,
            report: LivesReport::default(),
            trace: VecDeque::new(),
            random,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        let step = self.report.steps;
        self.trace.push_back(format!("{step:6} {}", line()));
    }

    pub(super) fn run(mut self) -> Result<LivesReport, (String, Vec<String>)> {
        let run = std::panic::AssertUnwindSafe(|| {
            while self.step()? {}
            self.ends = true;
            while self.step()? {}
            self.check_rest()
        });
        let result = std::panic::catch_unwind(run)
            .unwrap_or_else(|panic| Err(format!("panic: {}", crate::run::panic_text(panic.as_ref()))));
        result.map(|()| self.report).map_err(|what| (what, self.trace.into()))
    }

    /// One thing happens; false when nothing is left to happen.
    fn step(&mut self) -> Result<bool, String> {
        self.report.steps += 1;
        if self.report.steps > STEPS_MOST {
            return Err("not at rest".to_owned());
        }
        if self.loss_at.is_some_and(|at| self.report.steps >= at) {
            self.loss_at = None;
            self.lose();
        }
        let mut choices = Vec::new();
        for link in (0..self.links.len()).filter(|link| !self.links[*link].is_empty()) {
            choices.extend([Choice::Link(link); 3]);
        }
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            let some = [
                (!node.cold.is_empty()).then_some(Choice::Cold(at)),
                node.postponed.then_some(Choice::Postponed(at)),
                (!node.memory.forgotten.is_empty()).then_some(Choice::Free(at)),
            ];
            choices.extend(some.into_iter().flatten());
            for (thread, state) in node.threads.iter().enumerate() {
                match state.doing {
                    Doing::Nothing if if self.ends { !node.open.is_empty() } else { self.work > 0 } => {
                        choices.push(Choice::Work(at, thread));
                    }
                    Doing::Holding(_) => choices.push(Choice::Work(at, thread)),
                    _ => {}
                }
            }
        }
        choices.extend(self.unnoticed.iter().enumerate().map(|(index, _)| Choice::Notice(index)));
        let idle = choices.is_empty();
        let patient = !choices.is_empty() && !self.random.chance(2);
        if !patient {
            for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
                let waits = |thread: &Thread| match thread.doing {
                    Doing::Nothing | Doing::Holding(_) => false,
                    _ => idle || !thread.withdraws,
                };
                let waiting = node.threads.iter().enumerate().filter(|(_, thread)| waits(thread));
                choices.extend(waiting.map(|(thread, _)| Choice::GiveUp(at, thread)));
            }
        }
        if choices.is_empty() {
            return Ok(false);
        }
        match choices[self.random.index(choices.len())] {
            Choice::Link(link) => self.deliver(link)?,
            Choice::Cold(at) => {
                if let Some((from, message)) = self.nodes[at].cold.pop_front() {
                    self.hear(from, at, message, None)?;
                }
            }
            Choice::Postponed(at) => {
                self.nodes[at].postponed = false;
                self.event(at, Engine::on_postponed)?;
            }
            Choice::Free(at) => {
                let (region, _) = self.nodes[at].memory.forgotten.remove(0);
                self.event(at, |engine, out| engine.on_region_forgotten(region, out))?;
            }
            Choice::Work(at, thread) => self.work(at, thread)?,
            Choice::GiveUp(at, thread) => self.give_up(at, thread)?,
            Choice::Notice(index) => {
                let (survivor, victim) = self.unnoticed.swap_remove(index);
                self.notice(survivor, victim)?;
            }
        }
        Ok(true)
    }

    fn lose(&mut self) {
        self.report.losses += 1;
        let count = self.nodes.len();
        let (victim, other) = (self.random.index(count), self.random.index(count));
        if victim == other || self.random.chance(60) {
            self.note(|| format!("node {victim} dies"));
            self.nodes[victim].alive = false;
            for survivor in (0..count).filter(|survivor| *survivor != victim) {
                self.links[survivor * count + victim].clear();
                self.unnoticed.push((survivor, victim));
            }
        } else {
            self.note(|| format!("nodes {victim} and {other} lose each other"));
            self.parted = true;
            self.unnoticed.extend([(victim, other), (other, victim)]);
        }
    }

    fn notice(&mut self, survivor: usize, victim: usize) -> Checked {
        let link = victim * self.nodes.len() + survivor;
        while !self.links[link].is_empty() && self.random.chance(80) {
            self.deliver(link)?;
        }
        self.links[link].clear();
        self.cut[link] = true;
        while let Some(at) = self.nodes[survivor].cold.iter().position(|(from, _)| *from == victim) {
            let (from, message) = self.nodes[survivor].cold.remove(at).expect("it was found");
            self.hear(from, survivor, message, None)?;
        }
        self.note(|| format!("node {survivor} has lost {victim}"));
        self.event(survivor, |engine, out| engine.on_peer_lost(NodeId::new(victim as u16), out))
    }

    fn deliver(&mut self, link: usize) -> Checked {
        let (from, to) = (link / self.nodes.len(), link % self.nodes.len());
        let Some((message, value)) = self.links[link].pop_front() else { return Ok(()) };
        if !self.nodes[to].alive || self.cut[link] {
            return Ok(());
        }
        if message.is_cold() {
            self.nodes[to].cold.push_back((from, message));
            return Ok(());
        }
        self.hear(from, to, message, value)
    }

    fn hear(&mut self, from: usize, to: usize, message: Message, value: Option<u64>) -> Checked {
        self.note(|| format!("{from} -> {to} {message:?} {value:x?}"));
        if let Message::PageRequest { page, .. } | Message::Data { page, .. } | Message::Diff { page, .. } =
            message
        {
            self.report.late += u64::from(self.nodes[to].memory.spec(page.region).is_none());
        }
        let mut out = Actions::new();
        let from = NodeId::new(from as u16);
        let handled = self.nodes[to].engine.on_message(from, View::FIRST, &message, &mut out);
        handled.map_err(|violation| violation.to_string())?;
        self.perform(to, &out, value)
    }

    fn event(&mut self, at: usize, event: impl FnOnce(&mut Engine, &mut Actions)) -> Checked {
        let mut out = Actions::new();
        event(&mut self.nodes[at].engine, &mut out);
        self.perform(at, &out, None)
    }

    fn perform(&mut self, at: usize, actions: &Actions, came: Option<u64>) -> Checked {
        for action in actions {
            self.note(|| format!("node {at} {action:?}"));
            match *action {
                Action::Send { to, message, payload } => {
                    let value =
                        payload.map(|page| Ok::<_, String>(self.copy(at, page)?.value)).transpose()?;
                    self.send(at, to, message, value);
                }
                Action::SendBytes { to, message, .. } => self.send(at, to, message, None),
                Action::SendDiff { to, message, page, keep_twin } => {
                    let copy = self.copy(at, page)?;
                    let twin = copy.twin.take().ok_or_else(|| format!("{page:?} has no twin"))?;
                    let changed = (copy.value != twin).then_some(copy.value);
                    copy.twin = keep_twin.then_some(copy.value);
                    self.send(at, to, message, changed);
                }
                Action::Atomic { page, requester, ticket, answer, .. } => {
                    self.operate(at, page, (requester, ticket), answer)?;
                }
                Action::Complete { ticket, outcome } => self.complete(at, ticket, outcome)?,
                Action::Postpone => self.nodes[at].postponed = true,
                Action::MapRegion { region, round, spec } => {
                    let mapped = self.nodes[at].memory.map(region, spec);
                    self.event(at, |engine, out| engine.on_region_mapped(region, round, mapped, out))?;
                }
                Action::UnmapRegion(region) => self.nodes[at].memory.unmap(region),
                Action::ForgetRegion(region) => {
                    if self.nodes[at].open.get(&region).is_some_and(|count| *count > 0) {
                        return Err(format!("{region:?} went while node {at} had it open"));
                    }
                    self.report.gone += 1;
                    self.nodes[at].memory.forget(region)?;
                }
                Action::Hurry(_) | Action::Departed(_) | Action::AwaitUnpin(_) | Action::StoreBytes(_) => {}
                ref on_page => self.change(at, on_page, came)?,
            }
        }
        Ok(())
    }

    fn copy(&mut self, at: usize, page: PageAddress) -> Result<&mut super::memory::Copy, String> {
        self.nodes[at].memory.page(page)
    }

    fn change(&mut self, at: usize, action: &Action, came: Option<u64>) -> Checked {
        let value = || came.ok_or_else(|| format!("{action:?} without bytes"));
        match *action {
            Action::MakeTwin(page) | Action::TwinWhileWritten(page) => {
                let copy = self.copy(at, page)?;
                copy.twin = Some(copy.value);
            }
            Action::DropTwin(page) => {
                let copy = self.copy(at, page)?;
                (copy.twin, copy.marked) = (None, false);
            }
            Action::ApplyDiff(page) => {
                let copy = self.copy(at, page)?;
                copy.value = came.unwrap_or(copy.value);
            }
            Action::ApplyMarked(page) => {
                let copy = self.copy(at, page)?;
                (copy.value, copy.marked) = (came.unwrap_or(copy.value), copy.marked || came.is_some());
            }
            Action::FillAround(page) => {
                let value = value()?;
                let copy = self.copy(at, page)?;
                copy.value = if copy.marked { copy.value } else { value };
                copy.marked = false;
            }
            Action::Adopt(page) => {
                let value = value()?;
                let copy = self.copy(at, page)?;
                if copy.twin.take().is_none_or(|twin| twin != value) {
                    copy.value = value;
                }
            }
            Action::Update(page) => {
                let value = value()?;
                let copy = self.copy(at, page)?;
                if copy.twin.is_none_or(|twin| twin != value) {
                    (copy.value, copy.twin) = (value, copy.twin.map(|_| value));
                }
            }
            Action::Fill(page) => self.copy(at, page)?.value = value()?,
            Action::FillZero(page) => self.copy(at, page)?.value = 0,
            Action::Materialise(page) => _ = self.copy(at, page)?,
            Action::MapRead(page) | Action::Protect(page) => self.copy(at, page)?.rights = Rights::Read,
            Action::MapWrite(page) | Action::Unprotect(page) => self.copy(at, page)?.rights = Rights::Write,
            Action::Unmap(page) => self.copy(at, page)?.rights = Rights::None,
            ref other => return Err(format!("unexpected {other:?}")),
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message, value: Option<u64>) {
        let link = from * self.nodes.len() + to.index();
        if self.nodes[to.index()].alive && !self.cut[link] {
            self.links[link].push_back((message, value));
        }
    }

    /// A value that no other write has, and that says where it belongs.
    fn fresh(&mut self, page: PageAddress) -> u64 {
        self.written += 1;
        u64::from(page.region.0) << 32 | 1 << 31 | self.written
    }

    /// Whether a read or an operation may find `value`.
    fn check(&self, at: usize, page: PageAddress, value: u64) -> Checked {
        let foreign = value != 0 && value >> 32 != u64::from(page.region.0);
        let spec = self.nodes[at].memory.spec(page.region).ok_or("a page of no region was read")?;
        let exact = matches!(spec.protocol, Protocol::WriteInvalidate | Protocol::Migration);
        let truth = self.truth.get(&page).copied().unwrap_or(0);
        if foreign || exact && self.report.losses == 0 && value != truth {
            return Err(format!("node {at} found {value:x} in {page:?}, where {truth:x} was written last"));
        }
        Ok(())
    }

    fn operate(
        &mut self,
        at: usize,
        page: PageAddress,
        (requester, ticket): (NodeId, Ticket),
        answer: AtomicAnswer,
    ) -> Checked {
        let old = self.copy(at, page)?.value;
        self.check(at, page, old)?;
        let new = self.fresh(page);
        self.copy(at, page)?.value = new;
        self.truth.insert(page, new);
        match answer.message(page, requester, ticket, old) {
            Some((to, message)) if to.index() == at => self.hear(at, at, message, None),
            Some((to, message)) => {
                self.send(at, to, message, None);
                Ok(())
            }
            None if answer == AtomicAnswer::Call => self.complete(at, ticket, Outcome::Word(old)),
            None => Ok(()),
        }
    }

    fn complete(&mut self, at: usize, ticket: Ticket, outcome: Outcome) -> Checked {
        let thread = ticket.slot as usize;
        let Thread { doing, ticket: own, .. } = self.nodes[at].threads[thread];
        if own != ticket || matches!(doing, Doing::Nothing | Doing::Holding(_)) {
            return Err(format!("{ticket:?} of node {at} is nobody's, and ended: {outcome:?}"));
        }
        self.nodes[at].threads[thread].doing = Doing::Nothing;
        match (doing, outcome) {
            (Doing::Opening, Outcome::Region { region, spec }) => {
                if self.nodes[at].memory.spec(region) != Some(spec) {
                    return Err(format!("node {at} was given {region:?}, which is not mapped there"));
                }
                self.report.openings += 1;
                *self.nodes[at].open.entry(region).or_default() += 1;
            }
            (Doing::Fault(page, access), Outcome::Done) => {
                let rights = self.copy(at, page)?.rights;
                if rights >= needed(access) {
                    self.touch(at, page, access)?;
                }
                self.event(at, |engine, out| engine.on_resumed(ticket, out))?;
            }
            (Doing::Fault(page, _) | Doing::Atomic(page), Outcome::Failed(Failure::RegionClosed)) => {
                self.report.ended += 1;
                if self.nodes[at].open.get(&page.region).is_some_and(|count| *count > 0) {
                    return Err(format!("{page:?} was closed under node {at}"));
                }
            }
            (Doing::Locking(lock), Outcome::Done | Outcome::OwnerDied(_)) => {
                self.nodes[at].threads[thread].doing = Doing::Holding(lock);
            }
            _ => {}
        }
        Ok(())
    }

    fn touch(&mut self, at: usize, page: PageAddress, access: Access) -> Checked {
        self.report.accesses += 1;
        let value = self.copy(at, page)?.value;
        self.check(at, page, value)?;
        if access == Access::Write {
            let new = self.fresh(page);
            self.copy(at, page)?.value = new;
            self.truth.insert(page, new);
        }
        Ok(())
    }

    fn begin(&mut self, at: usize, thread: usize, doing: Doing) -> Ticket {
        let thread = &mut self.nodes[at].threads[thread];
        thread.ticket.generation = thread.ticket.generation.wrapping_add(1);
        thread.doing = doing;
        thread.withdraws = false;
        thread.ticket
    }

    fn work(&mut self, at: usize, thread: usize) -> Checked {
        if let Thread { doing: Doing::Holding(lock), ticket, .. } = self.nodes[at].threads[thread] {
            self.nodes[at].threads[thread].doing = Doing::Nothing;
            return self.event(at, |engine, out| engine.on_lock_release(ticket, lock, out));
        }
        if let Some(region) = self.nodes[at].open.keys().next().copied().filter(|_| self.ends) {
            return self.close(at, thread, region);
        }
        self.work -= 1;
        let open: Vec<RegionId> = self.nodes[at].open.keys().copied().collect();
        let Some(region) = (!open.is_empty()).then(|| open[self.random.index(open.len())]) else {
            return self.open(at, thread);
        };
        let page = PageAddress::new(region, self.random.below(PAGES));
        match self.random.below(20) {
            0..=1 => self.open(at, thread),
            2..=4 => self.close(at, thread, region),
            5..=6 => {
                let lock = LockId(self.random.below(3));
                let ticket = self.begin(at, thread, Doing::Locking(lock));
                self.event(at, |engine, out| engine.on_lock_acquire(ticket, lock, out))
            }
            7..=8 if self.nodes[at].engine.region(region).is_some_and(|s| s.protocol != Protocol::Entry) => {
                let ticket = self.begin(at, thread, Doing::Atomic(page));
                let operation = AtomicOperation { word: 0, change: AtomicChange::Add(1) };
                self.event(at, |engine, out| engine.on_atomic(ticket, page, operation, out))
            }
            9 => self.event(at, |engine, out| engine.on_evict(page, out)),
            _ => {
                let access = if self.random.chance(50) { Access::Read } else { Access::Write };
                if self.copy(at, page)?.rights >= needed(access) {
                    return self.touch(at, page, access);
                }
                let ticket = self.begin(at, thread, Doing::Fault(page, access));
                let prefetch = self.random.chance(10);
                self.event(at, |engine, out| {
                    if prefetch {
                        engine.on_prefetch(ticket, page, access, out);
                    } else {
                        engine.on_fault(ticket, page, access, out);
                    }
                })
            }
        }
    }

    fn open(&mut self, at: usize, thread: usize) -> Checked {
        let number = self.random.below(NAMES);
        let name = RegionName::new(&format!("region {number}")).map_err(|error| error.to_string())?;
        // The options change with time; at a time all ask for about the same.
        let draw = if self.random.chance(70) { number + self.work / 16 } else { self.random.below(20) };
        let protocol = [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release, Protocol::Entry]
            [draw as usize % 4];
        let single = Placement::Single(NodeId::new((draw % self.nodes.len() as u64) as u16));
        let placement = match protocol {
            Protocol::Entry => single,
            _ => [Placement::Cyclic, Placement::FirstTouch, Placement::Block, single][draw as usize / 4 % 4],
        };
        let address = if draw % 5 == 0 { 0x1000_0000 } else { 0 };
        let spec = RegionSpec { name, pages: PAGES, placement, protocol, unit: Unit::Page, address };
        let create = self.random.chance(85);
        let ticket = self.begin(at, thread, Doing::Opening);
        self.event(at, |engine, out| engine.on_region_open(ticket, create, spec, out))
    }

    fn close(&mut self, at: usize, thread: usize, region: RegionId) -> Checked {
        let uses = |thread: &Thread| match thread.doing {
            Doing::Fault(page, _) | Doing::Atomic(page) => page.region == region,
            _ => false,
        };
        // Most programs do not close what they use.
        if self.nodes[at].threads.iter().any(uses) && !self.random.chance(20) {
            return Ok(());
        }
        let Some(count) = self.nodes[at].open.get_mut(&region) else { return Ok(()) };
        *count -= 1;
        if *count == 0 {
            self.nodes[at].open.remove(&region);
        }
        self.note(|| format!("node {at} closes {region:?}"));
        let ticket = self.begin(at, thread, Doing::Closing);
        self.event(at, |engine, out| engine.on_region_close(ticket, region, out))
    }

    fn give_up(&mut self, at: usize, thread: usize) -> Checked {
        let Thread { doing, ticket, withdraws } = self.nodes[at].threads[thread];
        self.note(|| format!("node {at} gives up {doing:?} {ticket:?}"));
        if withdraws && self.report.losses == 0 {
            return Err(format!("{doing:?} of node {at} is neither done nor withdrawn"));
        }
        if matches!(doing, Doing::Atomic(_)) && !withdraws {
            self.nodes[at].threads[thread].withdraws = true;
            return self.event(at, |engine, out| engine.on_atomic_give_up(ticket, out));
        }
        self.nodes[at].threads[thread].doing = Doing::Nothing;
        self.event(at, |engine, out| engine.on_cancel(ticket, out))
    }

    /// Nothing is under way, and without a loss nothing is left of any region.
    fn check_rest(&self) -> Checked {
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            if !node.engine.is_quiet() && !self.parted {
                return Err(format!("the engine of node {at} is not at rest: {:?}", node.engine.load()));
            }
            if !node.memory.is_empty() && self.report.losses == 0 {
                return Err(format!("node {at} still has a region: {:?}", node.memory));
            }
        }
        let held = self.nodes.iter().map(|node| node.engine.notices_held()).max();
        if self.report.losses == 0 && held != Some(0) {
            return Err("notices are left of regions that are gone".to_owned());
        }
        Ok(())
    }
}

fn needed(access: Access) -> Rights {
    match access {
        Access::Read => Rights::Read,
        Access::Write => Rights::Write,
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice {
    Link(usize),
    Cold(usize),
    Postponed(usize),
    Free(usize),
    Work(usize, usize),
    GiveUp(usize, usize),
    Notice(usize),
}
