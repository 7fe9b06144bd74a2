//! One node of such a mesh: the real engine, what its pages hold, and its thread.

use super::plan::{CELLS, IntervalPlan};
use crate::breach::Breach;
use pagemesh_protocol::{
    Access, Action, Actions, BarrierId, Engine, EngineConfig, Message, Name, NodeId, Outcome, PageAddress,
    PageState, RegionId, RequestId, Ticket, View,
};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) const REGION: RegionId = RegionId(0);
const BARRIER: BarrierId = BarrierId(0);
/// Waits for pages and barriers; what waits for a lock, and proves that it is held, has another slot.
const PAGE_TICKET: Ticket = Ticket::new(0, 1);
const LOCK_TICKET: Ticket = Ticket::new(1, 1);

/// How often each cell was written when it got its value.
pub(super) type Cells = [u8; CELLS];

/// What goes along with a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Load {
    Nothing,
    Page(Cells),
    Diff([Option<u8>; CELLS]),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Parcel {
    pub(super) message: Message,
    pub(super) load: Load,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Copy {
    pub(super) rights: PageState,
    pub(super) cells: Cells,
    twin: Option<Cells>,
    /// The kernel has noted that it was written since it could only be read.
    written: bool,
}

impl Copy {
    /// Whether the application can do this without a fault.
    fn allows(&self, access: Access, tracked: bool) -> bool {
        self.rights.allows(access) || tracked && self.rights != PageState::Invalid
    }

    fn is_written(&self) -> bool {
        self.written || self.rights == PageState::Modified
    }
}

/// A cell of a page, and what is done with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Deed {
    pub(super) page: u8,
    pub(super) cell: u8,
    pub(super) access: Access,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Activity {
    Running,
    Faulting(Deed),
    /// Has been given the page and is about to touch it.
    Touching(Deed),
    Lock(u8),
    Barrier,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Operation {
    Touch(Deed),
    Lock(u8),
    Unlock,
    Barrier,
    Evict(u8),
}

/// What the second thread of a node stores to the node's own cell of the first page, beside an event: before the action of this number, of those
/// that take a right or make a diff.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Beside {
    pub(super) action: u8,
    pub(super) value: u8,
}

/// Something that happens to one node. `value` is what a write makes of the cell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Event {
    Deliver {
        from: u8,
        parcel: u32,
    },
    Begin {
        operation: Operation,
        value: u8,
    },
    Touch {
        value: u8,
    },
    Postponed,
    /// The second thread stores.
    Store {
        value: u8,
    },
}

/// What an event did outside its node.
#[derive(Clone, Debug, Default)]
pub(super) struct Consequences {
    pub(super) sent: Vec<(NodeId, Parcel)>,
    /// What was done with a cell, and the value that was read or written.
    pub(super) done: Option<(Deed, u8)>,
    /// The same of the second thread.
    pub(super) stored: Option<(Deed, u8)>,
    /// The thread has come to the barrier.
    pub(super) arrived: bool,
    /// The thread has passed the barrier, for this time counted from 1.
    pub(super) passed: Option<u8>,
}

#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) engine: Engine,
    pub(super) copies: Vec<Copy>,
    pub(super) activity: Activity,
    pub(super) held: Option<u8>,
    /// How often the thread has passed the barrier.
    phase: u8,
    /// Operations that it may still begin.
    pub(super) left: u8,
    /// Stores that its second thread may still make.
    stores: u8,
    pub(super) postponing: bool,
}

impl Local {
    pub(super) fn new(plan: &IntervalPlan, node: NodeId) -> Local {
        let bounds = EngineConfig::new(node, plan.nodes);
        // Neither lending nor foresight are modelled.
        let mut engine = Engine::new(EngineConfig {
            tickets: 2,
            locks: 2,
            barriers: 1,
            barrier_fan: plan.barrier_fan,
            lend_after: 0,
            foresees: false,
            updates: plan.updates,
            ..bounds
        });
        if let Some(fault) = plan.planted {
            engine.plant(fault);
        }
        let copy = Copy { rights: PageState::Invalid, cells: [0; CELLS], twin: None, written: false };
        Local {
            engine,
            copies: vec![copy; plan.pages as usize],
            activity: Activity::Running,
            held: None,
            phase: 0,
            left: plan.operations,
            stores: plan.stores,
            postponing: false,
        }
    }

    /// Feeds `hasher` with all that decides what happens next.
    pub(super) fn hash(&self, hasher: &mut impl Hasher) {
        self.engine.hash_behaviour(hasher);
        (&self.copies, self.activity, self.held, self.phase, self.left, self.stores, self.postponing)
            .hash(hasher);
    }

    /// The cell that the node's second thread may store to now.
    pub(super) fn storable(&self, plan: &IntervalPlan) -> Option<Deed> {
        let may = self.stores > 0 && self.owns_cell() && self.activity != Activity::Barrier;
        let cell = (plan.locks + self.engine.node().index()) as u8;
        may.then_some(Deed { page: 0, cell, access: Access::Write })
    }

    /// Whether nobody but the threads of this node touches its own cells: until it has arrived at the next barrier.
    pub(super) fn owns_cell(&self) -> bool {
        self.phase.is_multiple_of(2)
    }

    pub(super) fn can_store(&self, plan: &IntervalPlan) -> bool {
        self.copies[0].allows(Access::Write, plan.tracked)
    }

    /// Everything that the node can do by itself; the values of writes are the caller's to fill in.
    pub(super) fn own_events(&self, plan: &IntervalPlan) -> Vec<Event> {
        let mut events = Vec::new();
        events.extend(self.postponing.then_some(Event::Postponed));
        match self.activity {
            Activity::Touching(_) => events.push(Event::Touch { value: 0 }),
            Activity::Running => {
                let operations = self.operations(plan);
                events.extend(operations.into_iter().map(|operation| Event::Begin { operation, value: 0 }));
            }
            _ => {}
        }
        events
    }

    fn operations(&self, plan: &IntervalPlan) -> Vec<Operation> {
        let mut operations = Vec::new();
        operations.extend(self.held.map(|_| Operation::Unlock));
        if self.left == 0 {
            return operations;
        }
        if self.held.is_none() {
            operations.extend((0..plan.locks as u8).map(Operation::Lock));
            operations.extend(plan.barrier.then_some(Operation::Barrier));
        }
        for (page, copy) in (0..).zip(&self.copies) {
            for (cell, access) in
                (0..plan.cells()).flat_map(|cell| [(cell, Access::Read), (cell, Access::Write)])
            {
                if plan.allows(self.engine.node(), self.held, self.phase, cell, access) {
                    operations.push(Operation::Touch(Deed { page, cell: cell as u8, access }));
                }
            }
            let given_back = plan.evict && copy.rights != PageState::Invalid;
            operations.extend(given_back.then_some(Operation::Evict(page)));
        }
        operations
    }

    /// What the next event writes, if it writes.
    pub(super) fn deed_of(&self, event: Event) -> Option<Deed> {
        match (event, self.activity) {
            (Event::Begin { operation: Operation::Touch(deed), .. }, _)
            | (Event::Touch { .. }, Activity::Touching(deed)) => Some(deed),
            _ => None,
        }
    }
}

/// One event at one node.
pub(super) struct Step<'a> {
    pub(super) plan: &'a IntervalPlan,
    pub(super) local: Local,
    pub(super) done: Consequences,
    load: Load,
    beside: Option<Beside>,
}

impl<'a> Step<'a> {
    pub(super) fn new(plan: &'a IntervalPlan, local: Local, beside: Option<Beside>) -> Step<'a> {
        Step { plan, local, done: Consequences::default(), load: Load::Nothing, beside }
    }

    /// Lets `event` happen; `parcel` is what arrives.
    pub(super) fn take(&mut self, event: Event, parcel: Option<Parcel>) -> Result<(), Breach> {
        self.name_requests();
        let mut out = Actions::new();
        let told = catch_unwind(AssertUnwindSafe(|| self.tell(event, parcel, &mut out)));
        told.unwrap_or_else(|panic| Err(Breach::Panic(crate::run::panic_text(panic.as_ref()))))?;
        for action in &out {
            self.store_beside(action);
            self.perform(action)?;
        }
        for (page, copy) in self.local.copies.iter().enumerate() {
            let state = self.local.engine.page_state(address(page as u8));
            if copy.rights != state {
                let rights = copy.rights;
                return Err(Breach::Rights(format!("p{page} is {rights}, the engine says {state}")));
            }
        }
        for copy in self.local.copies.iter_mut().filter(|copy| copy.rights == PageState::Invalid) {
            // Nobody asks any more.
            copy.written = false;
        }
        Ok(())
    }

    /// The second thread stores before `action`, if that is the one it waits for and it can.
    fn store_beside(&mut self, action: &Action) {
        let counts = matches!(
            action,
            Action::Protect(_) | Action::Unmap(_) | Action::SendDiff { .. } | Action::Flush { .. }
        );
        match &mut self.beside {
            Some(beside) if counts && beside.action > 0 => beside.action -= 1,
            Some(Beside { value, .. }) if counts => {
                let value = *value;
                self.beside = None;
                self.store(value);
            }
            _ => {}
        }
    }

    fn store(&mut self, value: u8) {
        let deed = self.local.storable(self.plan).filter(|_| self.local.can_store(self.plan));
        if let Some(deed) = deed {
            self.local.stores -= 1;
            self.put(deed, value);
            self.done.stored = Some((deed, value));
        }
    }

    fn put(&mut self, deed: Deed, value: u8) {
        let copy = &mut self.local.copies[deed.page as usize];
        copy.cells[deed.cell as usize] = value;
        copy.written |= copy.rights == PageState::Shared;
    }

    /// Tells the engine which pages were written, before what may be a release.
    fn look(&mut self) {
        let Local { engine, copies, .. } = &mut self.local;
        let mut from = address(0);
        while let Some((first, count)) = engine.next_to_look_at(from) {
            from = PageAddress::new(REGION, first.page + count);
            for page in first.page..from.page {
                let copy = &mut copies[page as usize];
                if copy.written && engine.on_written(PageAddress::new(REGION, page), 1) > 0 {
                    (copy.rights, copy.written) = (PageState::Modified, false);
                }
            }
        }
        engine.on_looked();
    }

    /// A thread has one request under way, so two names are enough.
    fn name_requests(&mut self) {
        let mut taken = [false; 2];
        let node = self.local.engine.node();
        self.local.engine.names(|name| match name {
            Name::Request(of, request) if of == node => taken[request.0 as usize % 2] = true,
            _ => {}
        });
        self.local.engine.set_next_request(RequestId(u32::from(taken[0])));
    }

    fn tell(&mut self, event: Event, parcel: Option<Parcel>, out: &mut Actions) -> Result<(), Breach> {
        match event {
            Event::Deliver { from, .. } => {
                let Parcel { message, load } = parcel.expect("a delivery has a message");
                self.load = load;
                if Engine::may_release(&message) {
                    self.look();
                }
                self.local.engine.on_message(NodeId::new(from as u16), View::FIRST, &message, out)?;
            }
            Event::Begin { operation, value } => self.begin(operation, value, out),
            Event::Touch { value } => {
                let Activity::Touching(deed) = self.local.activity else {
                    unreachable!("it was given a page")
                };
                self.local.activity = Activity::Running;
                let has = self.touch(deed, value);
                self.local.engine.on_resumed(PAGE_TICKET, out);
                if !has {
                    self.fault(deed, out);
                }
            }
            Event::Postponed => {
                self.local.postponing = false;
                self.local.engine.on_postponed(out);
            }
            Event::Store { value } => self.store(value),
        }
        Ok(())
    }

    fn begin(&mut self, operation: Operation, value: u8, out: &mut Actions) {
        self.local.left -= u8::from(operation != Operation::Unlock);
        if matches!(operation, Operation::Lock(_) | Operation::Unlock | Operation::Barrier) {
            self.look();
        }
        let engine = &mut self.local.engine;
        match operation {
            Operation::Touch(deed) => {
                if !self.touch(deed, value) {
                    self.fault(deed, out);
                }
            }
            Operation::Lock(lock) => {
                self.local.activity = Activity::Lock(lock);
                engine.on_lock_acquire(LOCK_TICKET, self.plan.lock(lock), out);
            }
            Operation::Unlock => {
                let lock = self.local.held.take().expect("only who holds a lock gives it back");
                engine.on_lock_release(LOCK_TICKET, self.plan.lock(lock), out);
            }
            Operation::Barrier => {
                self.local.activity = Activity::Barrier;
                self.done.arrived = true;
                engine.on_barrier_arrive(PAGE_TICKET, BARRIER, self.plan.nodes as u32, out);
            }
            Operation::Evict(page) => engine.on_evict(address(page), out),
        }
    }

    fn fault(&mut self, deed: Deed, out: &mut Actions) {
        self.local.activity = Activity::Faulting(deed);
        self.local.engine.on_fault(PAGE_TICKET, address(deed.page), deed.access, out);
    }

    /// Reads or writes, where the application may.
    fn touch(&mut self, deed: Deed, value: u8) -> bool {
        if !self.local.copies[deed.page as usize].allows(deed.access, self.plan.tracked) {
            return false;
        }
        if deed.access == Access::Write {
            self.put(deed, value);
        }
        let found = self.local.copies[deed.page as usize].cells[deed.cell as usize];
        self.done.done = Some((deed, found));
        true
    }

    fn perform(&mut self, action: &Action) -> Result<(), Breach> {
        use PageState::{Invalid, Modified, Shared};
        match *action {
            Action::Send { to, message, payload } => {
                let load = match (payload, message) {
                    (Some(page), _) => Load::Page(self.copy(page).cells),
                    (None, Message::Diff { .. }) => Load::Diff([None; CELLS]),
                    (None, _) => Load::Nothing,
                };
                self.done.sent.push((to, Parcel { message, load }));
                Ok(())
            }
            Action::SendDiff { to, message, page, keep_twin } => {
                let load = self.make_diff(action, page, keep_twin)?;
                self.done.sent.push((to, Parcel { message, load }));
                Ok(())
            }
            Action::Fill(page) => match self.load {
                Load::Page(cells) => self.fill(action, page, cells),
                _ => Err(self.forbidden(action)),
            },
            Action::FillZero(page) => self.fill(action, page, [0; CELLS]),
            Action::ApplyDiff(page) => {
                let Load::Diff(diff) = self.load else { return Err(self.forbidden(action)) };
                for (cell, new) in self.copy(page).cells.iter_mut().zip(diff) {
                    *cell = new.unwrap_or(*cell);
                }
                Ok(())
            }
            Action::MakeTwin(page) => {
                let tracked = self.plan.tracked;
                let copy = self.copy(page);
                if copy.twin.is_some() || copy.allows(Access::Write, tracked) {
                    return Err(self.forbidden(action));
                }
                copy.twin = Some(copy.cells);
                Ok(())
            }
            Action::DropTwin(page) => {
                self.copy(page).twin = None;
                Ok(())
            }
            Action::Flush { page, diff } => self.flush(action, page, diff),
            Action::Update(page) => match self.load {
                Load::Page(cells) => self.update(action, page, cells),
                _ => Err(self.forbidden(action)),
            },
            Action::MapRead(page) => self.change(action, page, &[Invalid, Shared], Shared),
            Action::MapWrite(page) => self.change(action, page, &[Invalid, Modified], Modified),
            Action::Unprotect(page) => self.change(action, page, &[Shared], Modified),
            Action::Protect(page) => self.change(action, page, &[Modified], Shared),
            Action::Unmap(page) => self.change(action, page, &[Shared, Modified], Invalid),
            Action::Complete { ticket, outcome } => self.complete(ticket, outcome),
            Action::Postpone => {
                self.local.postponing = true;
                Ok(())
            }
            Action::Hurry(_) => Ok(()),
            _ => Err(self.forbidden(action)),
        }
    }

    fn make_diff(&mut self, action: &Action, page: PageAddress, keep: bool) -> Result<Load, Breach> {
        let tracked = self.plan.tracked;
        let copy = self.copy(page);
        let Some(twin) = copy.twin.take() else { return Err(self.forbidden(action)) };
        if keep != tracked || copy.rights == PageState::Modified {
            // Nothing is pinned, so nothing is written on but where the kernel notes it.
            return Err(self.forbidden(action));
        }
        if keep {
            copy.twin = Some(copy.cells);
        }
        Ok(Load::Diff(differences(copy.cells, twin)))
    }

    /// Sends what was written to a page until it was unmapped, or only says that something was.
    fn flush(
        &mut self,
        action: &Action,
        page: PageAddress,
        diff: Option<(NodeId, Message)>,
    ) -> Result<(), Breach> {
        let copy = self.copy(page);
        let (was_written, twin) = (copy.is_written(), copy.twin.take());
        copy.written = false;
        if !was_written {
            return Ok(());
        }
        match (twin, diff) {
            (None, Some(_)) => return Err(self.forbidden(action)),
            (Some(twin), _) if twin == self.copy(page).cells => return Ok(()),
            (Some(twin), Some((to, message))) => {
                let load = Load::Diff(differences(self.copy(page).cells, twin));
                self.done.sent.push((to, Parcel { message, load }));
            }
            _ => {}
        }
        self.local.engine.on_flushed(page);
        Ok(())
    }

    /// Takes over what others changed.
    fn update(&mut self, action: &Action, page: PageAddress, cells: Cells) -> Result<(), Breach> {
        let copy = self.copy(page);
        if copy.rights == PageState::Invalid {
            return Err(self.forbidden(action));
        }
        let known = copy.twin.unwrap_or(copy.cells);
        for (cell, new) in differences(cells, known).into_iter().enumerate() {
            copy.cells[cell] = new.unwrap_or(copy.cells[cell]);
        }
        copy.twin = copy.twin.map(|_| cells);
        Ok(())
    }

    fn fill(&mut self, action: &Action, page: PageAddress, cells: Cells) -> Result<(), Breach> {
        let copy = self.copy(page);
        if copy.rights != PageState::Invalid {
            return Err(self.forbidden(action));
        }
        copy.cells = cells;
        Ok(())
    }

    fn change(
        &mut self,
        action: &Action,
        page: PageAddress,
        from: &[PageState],
        to: PageState,
    ) -> Result<(), Breach> {
        let copy = self.copy(page);
        if !from.contains(&copy.rights) {
            return Err(self.forbidden(action));
        }
        // What goes is asked about afterwards; what is protected is noted anew.
        copy.written = to == PageState::Invalid && copy.is_written();
        copy.rights = to;
        Ok(())
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome) -> Result<(), Breach> {
        let local = &mut self.local;
        match (local.activity, ticket, outcome) {
            (Activity::Faulting(deed), PAGE_TICKET, Outcome::Done) => {
                local.activity = Activity::Touching(deed);
            }
            (Activity::Lock(lock), LOCK_TICKET, Outcome::Done) => {
                (local.activity, local.held) = (Activity::Running, Some(lock));
            }
            (Activity::Barrier, PAGE_TICKET, Outcome::Done) => {
                local.activity = Activity::Running;
                local.phase += 1;
                self.done.passed = Some(local.phase);
            }
            _ => return Err(Breach::Completion(format!("{ticket:?} ends with {outcome:?}, unasked"))),
        }
        Ok(())
    }

    fn copy(&mut self, page: PageAddress) -> &mut Copy {
        &mut self.local.copies[page.page as usize]
    }

    fn forbidden(&self, action: &Action) -> Breach {
        Breach::Action(format!("{:?}: {action:?}", self.local.engine.node()))
    }
}

/// The cells that are other than in `old`.
fn differences(new: Cells, old: Cells) -> [Option<u8>; CELLS] {
    std::array::from_fn(|cell| (new[cell] != old[cell]).then_some(new[cell]))
}

pub(super) const fn address(page: u8) -> PageAddress {
    PageAddress::new(REGION, page as u64)
}
