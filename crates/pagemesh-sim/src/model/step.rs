//! Gives one event to one node and performs what its engine asks for, checking what can be seen at that node.

use super::local::{Activity, BARRIER, Event, Local, Operation, page_address};
use super::plan::Plan;
use crate::breach::Breach;
use pagemesh_protocol::{
    Access, Action, Actions, AtomicAnswer, AtomicChange, AtomicOperation, Collect, Failure, Message, NodeId,
    Outcome, PageAddress, PageState, RequestId, Ticket, View,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A message on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Parcel {
    pub(super) message: Message,
    /// With a page's bytes: whether they are those that were written last.
    pub(super) latest: Option<bool>,
}

/// What an event did outside its node.
#[derive(Clone, Debug, Default)]
pub(super) struct Consequences {
    pub(super) sent: Vec<(NodeId, Parcel)>,
    /// A page that a thread has written.
    pub(super) wrote: Option<u8>,
    /// A page that was zeroed, to be used as one that nobody wrote.
    pub(super) zeroed: Option<u8>,
    /// Calls that failed: why, and for which page.
    pub(super) failed: Vec<(Failure, Option<u8>)>,
}

/// The one operation that threads have done.
const OPERATION: AtomicOperation = AtomicOperation { word: 0, change: AtomicChange::Add(1) };

/// Requests that one event may make at most.
pub(super) const REQUESTS_AN_EVENT: u32 = 2;

/// One event at one node.
pub(super) struct Step<'a> {
    pub(super) plan: &'a Plan,
    pub(super) local: Local,
    pub(super) done: Consequences,
    payload: Option<bool>,
}

impl<'a> Step<'a> {
    pub(super) fn new(plan: &'a Plan, local: Local) -> Step<'a> {
        Step { plan, local, done: Consequences::default(), payload: None }
    }

    /// Lets `event` happen; requests are named from `request` on. `parcel` is what arrives.
    pub(super) fn take(
        &mut self,
        event: Event,
        parcel: Option<Parcel>,
        request: RequestId,
    ) -> Result<(), Breach> {
        self.local.engine.set_next_request(request);
        self.local.hear(event, parcel);
        let mut out = Actions::new();
        let told = catch_unwind(AssertUnwindSafe(|| self.tell(event, parcel, &mut out)));
        told.unwrap_or_else(|panic| Err(Breach::Panic(crate::run::panic_text(panic.as_ref()))))?;
        assert!(
            self.local.engine.next_request().0 <= request.0 + REQUESTS_AN_EVENT,
            "an event made more requests than were thought of"
        );
        self.local.end_turns(&out);
        for action in &out {
            self.local.check_turn(action)?;
            self.perform(action)?;
        }
        self.check()
    }

    fn tell(&mut self, event: Event, parcel: Option<Parcel>, out: &mut Actions) -> Result<(), Breach> {
        match event {
            Event::Deliver { from, .. } => {
                let Parcel { message, latest } = parcel.expect("a delivery has a message");
                self.payload = latest;
                self.local.engine.on_message(NodeId::new(from as u16), View::FIRST, &message, out)?;
            }
            Event::Begin { thread, operation, generation, last } => {
                self.begin(thread, operation, generation, last, out);
            }
            Event::Touch { thread } => self.touch(thread, out),
            Event::Write { page, .. } => self.write(page),
            Event::Evict { page } => self.local.engine.on_evict(page_address(page), out),
            Event::Postponed => {
                self.local.postponing = false;
                self.local.engine.on_postponed(out);
            }
            Event::Cancel { thread } => {
                let ticket = self.local.ticket(thread);
                self.run(thread);
                self.local.engine.on_cancel(ticket, out);
            }
            Event::AskBack { thread } => {
                let ticket = self.local.ticket(thread);
                if let Activity::Atomic { asked_back, .. } = &mut self.local.threads[thread as usize].activity
                {
                    *asked_back = true;
                }
                self.local.engine.on_atomic_give_up(ticket, out);
            }
            Event::Lost { node } => self.local.engine.on_peer_lost(NodeId::new(node as u16), out),
            Event::Outdated { page } => self.local.copies[page as usize].latest = false,
            Event::Full => self.fill_barrier(),
        }
        Ok(())
    }

    fn begin(&mut self, number: u8, operation: Operation, generation: u16, last: bool, out: &mut Actions) {
        let thread = &mut self.local.threads[number as usize];
        let ticket = Ticket::new(number as u16, generation);
        if !matches!(operation, Operation::Unlock) {
            thread.left = thread.left.map(|left| left - 1);
            thread.generation = generation;
        }
        let engine = &mut self.local.engine;
        match operation {
            Operation::Fault { page, access, held } => {
                thread.activity = Activity::Page { page, access, held };
                if held {
                    engine.on_fault(ticket, page_address(page), access, out);
                } else {
                    engine.on_prefetch(ticket, page_address(page), access, out);
                }
            }
            Operation::Atomic(page) => {
                thread.activity = Activity::Atomic { page, asked_back: false };
                engine.on_atomic(ticket, page_address(page), OPERATION, out);
            }
            Operation::Lock(lock) => {
                thread.activity = Activity::Lock(lock);
                engine.on_lock_acquire(ticket, self.plan.lock(lock as usize), out);
            }
            Operation::Unlock => {
                let (lock, proof) = thread.holds.take().expect("only who holds a lock gives it back");
                engine.on_lock_release(proof, self.plan.lock(lock as usize), out);
            }
            Operation::Barrier => {
                thread.activity = Activity::Barrier { full: false };
                if last {
                    self.fill_barrier();
                }
                self.local.engine.on_barrier_arrive(ticket, BARRIER, self.plan.participants(), out);
            }
        }
    }

    /// The retried instruction, then the news that the thread has gone on.
    fn touch(&mut self, number: u8, out: &mut Actions) {
        let Activity::Touching { page, access } = self.local.threads[number as usize].activity else {
            unreachable!("only who was given a page touches it");
        };
        let ticket = self.local.ticket(number);
        self.run(number);
        if access == Access::Write && self.local.copies[page as usize].rights.allows(access) {
            self.write(page);
        }
        self.local.engine.on_resumed(ticket, out);
    }

    fn write(&mut self, page: u8) {
        self.local.copies[page as usize].latest = true;
        self.done.wrote = Some(page);
    }

    fn run(&mut self, number: u8) {
        let thread = &mut self.local.threads[number as usize];
        (thread.activity, thread.generation) = (Activity::Running, 0);
    }

    fn fill_barrier(&mut self) {
        for thread in &mut self.local.threads {
            if let Activity::Barrier { full } = &mut thread.activity {
                *full = true;
            }
        }
    }

    fn perform(&mut self, action: &Action) -> Result<(), Breach> {
        use PageState::{Invalid, Modified, Shared};
        match *action {
            Action::Send { to, message, payload } => self.send(to, message, payload),
            Action::Fill(page) => {
                let latest = self.payload.ok_or_else(|| {
                    Breach::Action(format!("{}: Fill({page:?}) without bytes", self.name()))
                })?;
                self.fill(page, latest)
            }
            Action::FillZero(page) => {
                self.done.zeroed = Some(page.page as u8);
                self.fill(page, true)
            }
            Action::MapRead(page) => self.change(page, &[Invalid, Shared], Shared),
            Action::MapWrite(page) => self.change(page, &[Invalid, Modified], Modified),
            Action::Unprotect(page) => self.change(page, &[Shared], Modified),
            Action::Protect(page) => self.change(page, &[Modified], Shared),
            Action::Unmap(page) => self.change(page, &[Shared, Modified], Invalid),
            Action::Complete { ticket, outcome } => self.complete(ticket, outcome),
            Action::Atomic { page, requester, ticket, answer, .. } => {
                self.operate(page, requester, ticket, answer)
            }
            Action::Postpone => {
                self.local.postponing = true;
                Ok(())
            }
            Action::Hurry(_) => Ok(()),
            ref other => Err(Breach::Action(format!("{}: {other:?}, which nothing asked for", self.name()))),
        }
    }

    /// Rights that the receiver excludes must be gone before it can hear of it.
    fn send(&mut self, to: NodeId, message: Message, payload: Option<PageAddress>) -> Result<(), Breach> {
        let most = match message {
            Message::Data { access: Access::Write, .. }
            | Message::InvalidateAck { .. }
            | Message::Collect { .. } => PageState::Invalid,
            _ => PageState::Shared,
        };
        let spoken_of = payload.or(match message {
            Message::InvalidateAck { page }
            | Message::Collect { page, step: Collect::Dropped | Collect::Grant(_), .. } => Some(page),
            // Whoever hears it passes the grant on.
            Message::Collect { page, step: Collect::Drop { grant, .. }, .. } if !grant.is_empty() => {
                Some(page)
            }
            _ => None,
        });
        if let Some(page) = spoken_of
            && self.copy(page).rights > most
        {
            let (name, rights) = (self.name(), self.copy(page).rights);
            return Err(Breach::Action(format!(
                "{name} sends {message:?} while its application has {page:?} {rights}"
            )));
        }
        let latest = payload.map(|page| self.copy(page).latest);
        self.done.sent.push((to, Parcel { message, latest }));
        Ok(())
    }

    /// What a word holds is not modelled, but whether the bytes that are changed are the newest.
    fn operate(
        &mut self,
        page: PageAddress,
        requester: NodeId,
        ticket: Ticket,
        answer: AtomicAnswer,
    ) -> Result<(), Breach> {
        let copy = *self.copy(page);
        if copy.rights == PageState::Invalid || !copy.latest {
            let name = self.name();
            return Err(Breach::Data(format!("{name} changes {page:?} in place, of which it has {copy:?}")));
        }
        self.write(page.page as u8);
        if answer == AtomicAnswer::Call {
            return self.complete(ticket, Outcome::Word(0));
        }
        match answer.message(page, requester, ticket, 0) {
            Some((to, message)) => self.send(to, message, None),
            None => Ok(()),
        }
    }

    fn fill(&mut self, page: PageAddress, latest: bool) -> Result<(), Breach> {
        if self.copy(page).rights != PageState::Invalid {
            return Err(Breach::Action(format!("{}: {page:?} is filled while in use", self.name())));
        }
        self.copy(page).latest = latest;
        Ok(())
    }

    fn change(&mut self, page: PageAddress, from: &[PageState], to: PageState) -> Result<(), Breach> {
        let rights = self.copy(page).rights;
        if !from.contains(&rights) {
            let name = self.name();
            return Err(Breach::Action(format!("{name}: {page:?} is to become {to}, but is {rights}")));
        }
        self.copy(page).rights = to;
        Ok(())
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome) -> Result<(), Breach> {
        let unasked = || Breach::Completion(format!("{ticket:?} ends with {outcome:?}, unasked"));
        let thread = self.local.threads.get(ticket.slot as usize).copied().ok_or_else(unasked)?;
        if thread.generation != ticket.generation {
            return Err(unasked());
        }
        self.run(ticket.slot as u8);
        let thread_now = &mut self.local.threads[ticket.slot as usize];
        match (thread.activity, outcome) {
            (Activity::Page { page, access, held: true }, Outcome::Done) => {
                thread_now.activity = Activity::Touching { page, access };
                thread_now.generation = ticket.generation;
            }
            (Activity::Page { held: false, .. } | Activity::Barrier { full: true }, Outcome::Done)
            | (Activity::Atomic { .. }, Outcome::Word(_))
            | (Activity::Atomic { asked_back: true, .. }, Outcome::Failed(Failure::Withdrawn)) => {}
            (Activity::Barrier { full: false }, Outcome::Done) => {
                let name = self.name();
                return Err(Breach::Barrier(format!("a thread of {name} passes before all have come")));
            }
            (Activity::Lock(lock), Outcome::Done) => thread_now.holds = Some((lock, ticket)),
            (Activity::Lock(lock), Outcome::OwnerDied(lost)) => {
                thread_now.holds = Some((lock, ticket));
                // The news needs the same excuse as a failure.
                self.done.failed.push((Failure::PeerLost(lost), None));
            }
            (Activity::Page { page, .. } | Activity::Atomic { page, .. }, Outcome::Failed(failure)) => {
                self.done.failed.push((failure, Some(page)));
            }
            (Activity::Lock(_) | Activity::Barrier { .. }, Outcome::Failed(failure)) => {
                self.done.failed.push((failure, None));
            }
            _ => return Err(unasked()),
        }
        Ok(())
    }

    /// What holds at every node by itself.
    fn check(&self) -> Result<(), Breach> {
        let name = self.name();
        for (page, copy) in self.local.copies.iter().enumerate() {
            let state = self.local.engine.page_state(page_address(page as u8));
            if copy.rights != state {
                return Err(Breach::Rights(format!(
                    "{name}: the application has p{page} {}, the engine says {state}",
                    copy.rights
                )));
            }
            if copy.rights != PageState::Invalid && !copy.latest {
                return Err(Breach::Data(format!("{name} can read p{page}, which was written since")));
            }
        }
        // A home that goes on without a lost node may take a copy from under a thread.
        let whole = self.local.engine.live().len() == self.plan.nodes as usize;
        for thread in self.local.threads.iter().filter(|_| whole) {
            if let Activity::Touching { page, access } = thread.activity
                && !self.local.copies[page as usize].rights.allows(access)
            {
                return Err(Breach::Turn(format!("p{page} is taken from {name} before its thread used it")));
            }
        }
        Ok(())
    }

    fn copy(&mut self, page: PageAddress) -> &mut super::local::Copy {
        &mut self.local.copies[page.page as usize]
    }

    fn name(&self) -> String {
        format!("{:?}", self.local.engine.node())
    }
}
