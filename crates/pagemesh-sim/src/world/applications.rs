//! The application threads: faults, locks, barriers, and giving up.

use super::World;
use crate::breach::Breach;
use crate::event::{Caller, Event, Wanted};
use crate::history::Deed;
use crate::program::{ATOMIC_WORD, COMMON_BARRIER, Step};
use crate::thread::Activity;
use pagemesh_protocol::{
    Access, AtomicChange, AtomicOperation, BarrierId, PageAddress, RegionName, RegionSpec, Ticket, Unit,
};

/// A wait that is given up lasts up to so many times the longest usual way of a message.
const PATIENCE: u64 = 6;
/// A wait that only a deadline can end: longer than anything that ends by itself.
const DEADLINE_US: u64 = 3_000_000;
/// One in so many calls of locks does not wait.
const TRIED_OF: u16 = 8;
/// Calls of a node that nobody waits for: some tickets are left for its threads.
const BACKGROUND_CALLS: usize = 32;

/// Whether the call of a lock under this ticket is one that does not wait.
pub(super) fn only_tries(ticket: Ticket) -> bool {
    (ticket.slot + ticket.generation).is_multiple_of(TRIED_OF)
}

impl World {
    /// One step of a thread that is not waiting.
    pub(super) fn think(&mut self, index: usize) -> Result<(), Breach> {
        self.cancel_late(index)?;
        if matches!(self.threads[index].resuming, Some((_, true))) {
            return self.go_on(index);
        }
        if self.threads[index].plan.is_empty() {
            self.threads[index].refill();
        }
        let at = self.threads[index].node;
        let Some(step) = self.threads[index].plan.front().copied() else {
            self.threads[index].activity = Activity::Over;
            self.leave_early(at);
            return Ok(());
        };
        if let Some((page, _, access)) = step.target() {
            return self.touch(index, step, page, access);
        }
        match step {
            Step::Open { plan, create } => self.open(index, plan, create),
            Step::Prefetch(page, access) => self.prefetch(index, page, access),
            Step::Evict(page) => self.evict(index, page),
            Step::AddRemotely(page) => {
                let ticket = self.begin(index, Wanted::Atomic { page }, false);
                let operation = AtomicOperation { word: ATOMIC_WORD as u16, change: AtomicChange::Add(1) };
                self.feed(at, Event::Atomic { ticket, page, operation })
            }
            Step::Lock(lock) => {
                let lock = self.lock(lock);
                let ticket = self.begin(index, Wanted::Lock(lock), false);
                let event = if only_tries(ticket) {
                    Event::LockTry { ticket, lock }
                } else {
                    Event::LockAcquire { ticket, lock }
                };
                self.feed(at, event)
            }
            Step::Unlock(lock) => self.unlock(index, lock),
            Step::Barrier { barrier, participants, timed } => {
                self.arrive(index, barrier, participants, timed)
            }
            Step::Home(page) => {
                let touched = self.truth.page(page).is_some_and(|truth| truth.touched);
                let ticket = self.begin(index, Wanted::Home { page, touched }, false);
                self.feed(at, Event::HomeQuery { ticket, page })
            }
            Step::Owner(page) => {
                let touched = self.truth.page(page).is_some_and(|truth| truth.touched);
                let ticket = self.begin(index, Wanted::Owner { page, touched }, false);
                self.feed(at, Event::OwnerQuery { ticket, page })
            }
            _ => Ok(()),
        }
    }

    /// A load or store, or the fault that it causes.
    fn touch(
        &mut self,
        index: usize,
        step: Step<PageAddress>,
        page: PageAddress,
        access: Access,
    ) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let spurious = self.schedule.chance(self.config.faults.spurious_percent);
        if !spurious && self.access(index, step)? {
            return self.go_on(index);
        }
        if self.threads[index].resuming.is_some() {
            self.check_turn(index, page)?;
            self.go_on(index)?;
        }
        let retries = &mut self.threads[index].retries;
        *retries += 1;
        self.counts.retries_max = self.counts.retries_max.max(*retries);
        self.counts.faults += 1;
        let ticket = self.begin(index, Wanted::Page { page, access }, false);
        self.feed(at, Event::Fault { ticket, page, access })
    }

    /// The engine is told that the thread has used, or tried to use, the page that it waited for; or that it no longer cares
    /// for the call, which is the same.
    pub(super) fn go_on(&mut self, index: usize) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let Some((ticket, _)) = self.threads[index].resuming.take() else { return Ok(()) };
        if self.schedule.chance(self.config.faults.late_cancel_percent) {
            self.counts.cancelled_late += 1;
            return self.feed(at, Event::Cancel { ticket });
        }
        self.feed(at, Event::Resumed { ticket })
    }

    /// A call that has ended is given up: nobody may notice, even if its slot has another call by now.
    fn cancel_late(&mut self, index: usize) -> Result<(), Breach> {
        if !self.schedule.chance(self.config.faults.late_cancel_percent) {
            return Ok(());
        }
        let thread = &mut self.threads[index];
        let resuming = thread.resuming.map(|(ticket, _)| ticket);
        let Some(ticket) = thread.ended.filter(|ticket| Some(*ticket) != resuming) else { return Ok(()) };
        let at = thread.node;
        self.counts.cancelled_late += 1;
        self.feed(at, Event::Cancel { ticket })
    }

    /// A thread that was given a page finds it; unless it asked for what it had, when nobody holds the page for it.
    fn check_turn(&self, index: usize, page: PageAddress) -> Result<(), Breach> {
        if !self.counts_turns {
            return Ok(());
        }
        Err(Breach::Turn(format!(
            "thread {index} was given {page:?} and finds it gone before it could use it"
        )))
    }

    /// A waiting call of a thread, which may give it up after a time.
    fn begin(&mut self, index: usize, wanted: Wanted, timed: bool) -> Ticket {
        let at = self.threads[index].node;
        let ticket = self.nodes[at].begin_call(Caller::Thread(index), wanted, &mut self.schedule);
        let may_cancel = match wanted {
            Wanted::Page { .. }
            | Wanted::Pin { .. }
            | Wanted::Atomic { .. }
            | Wanted::Lock(_)
            | Wanted::Owner { .. }
            | Wanted::Home { .. }
            | Wanted::Region(_) => true,
            // The others of a barrier count on this thread.
            Wanted::Barrier(_) | Wanted::Leave => false,
        };
        // A region whose creator gives up goes again, and whoever only attaches to it would wait for ever.
        let creates = matches!(self.threads[index].plan.front(), Some(Step::Open { create: true, .. }));
        let impatient = may_cancel && self.schedule.chance(self.config.faults.cancel_percent) && !creates;
        let deadline = if impatient || timed && !self.config.has_losses() {
            let timing = self.config.timing;
            let span = PATIENCE * (timing.delay_us + timing.jitter_us + timing.think_us);
            Some(self.time + self.schedule.below(span))
        } else {
            // A home may trust two nodes that have lost each other, and wait for ever for what one should send the other.
            let may_hang = may_cancel && !matches!(wanted, Wanted::Lock(_));
            (timed || may_hang && self.config.has_cuts()).then_some(self.time + DEADLINE_US)
        };
        self.threads[index].activity = Activity::Waiting { ticket, deadline };
        ticket
    }

    /// The thread no longer waits.
    pub(super) fn give_up(&mut self, index: usize) -> Result<(), Breach> {
        let node = self.threads[index].node;
        let at = self.time + self.pause(node);
        let thread = &mut self.threads[index];
        let Activity::Waiting { ticket, .. } = thread.activity else { return Ok(()) };
        let adds = matches!(thread.plan.front(), Some(Step::AddRemotely(_)));
        if adds && !std::mem::replace(&mut thread.asked_back, true) && self.schedule.chance(70) {
            // The answer comes soon, whichever it is.
            let deadline = Some(self.time + DEADLINE_US);
            self.threads[index].activity = Activity::Waiting { ticket, deadline };
            return self.feed(node, Event::AtomicGiveUp { ticket });
        }
        let thread = &mut self.threads[index];
        thread.asked_back = false;
        thread.activity = Activity::Ready(at);
        match thread.plan.pop_front() {
            Some(Step::Barrier { barrier, .. }) => {
                if barrier == COMMON_BARRIER {
                    thread.generation += 1;
                    thread.met_all = false;
                }
            }
            Some(Step::Open { .. }) => {}
            _ => thread.abort(),
        }
        self.counts.cancelled += 1;
        self.feed(node, Event::Cancel { ticket })
    }

    /// Between two actions of an engine, a running thread of its node does what its rights allow.
    pub(super) fn interlope(&mut self, at: usize) -> Result<(), Breach> {
        let count = self.config.threads;
        let first = at * count;
        let start = self.schedule.index(count);
        for offset in 0..count {
            let index = first + (start + offset) % count;
            let Some(thread) = self.threads.get(index) else { continue };
            let ready = matches!(thread.activity, Activity::Ready(_));
            if let (true, Some(step)) = (ready, thread.plan.front().copied())
                && self.access(index, step)?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks for a page and goes on; some lose interest at once.
    fn prefetch(&mut self, index: usize, page: PageAddress, access: Access) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let next = self.time + 1 + self.pause(at);
        self.threads[index].plan.pop_front();
        self.threads[index].activity = Activity::Ready(next);
        if self.nodes[at].waiting().count() >= BACKGROUND_CALLS {
            return Ok(());
        }
        self.counts.prefetched += 1;
        let wanted = Wanted::Page { page, access };
        let ticket = self.nodes[at].begin_call(Caller::Background, wanted, &mut self.schedule);
        self.feed(at, Event::Prefetch { ticket, page, access })?;
        let waits = self.nodes[at].call(ticket).is_some();
        if waits && self.schedule.chance(self.config.faults.cancel_percent) {
            self.counts.cancelled += 1;
            self.feed(at, Event::Cancel { ticket })?;
        }
        Ok(())
    }

    /// Gives a copy back, if there is one, and goes on.
    fn evict(&mut self, index: usize, page: PageAddress) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let next = self.time + 1 + self.pause(at);
        self.threads[index].plan.pop_front();
        self.threads[index].activity = Activity::Ready(next);
        self.feed(at, Event::Evict { page })
    }

    fn unlock(&mut self, index: usize, lock: usize) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let next = self.time + 1 + self.pause(at);
        let id = self.lock(lock);
        let thread = &mut self.threads[index];
        thread.plan.pop_front();
        thread.activity = Activity::Ready(next);
        let Some(place) = thread.locks.iter().position(|(held, _)| *held == lock) else { return Ok(()) };
        let (_, ticket) = thread.locks.remove(place);
        if self.is_trusted(id) {
            self.record(index, Deed::Release(id));
        }
        self.referee.gives_back(id);
        self.feed(at, Event::LockRelease { ticket, lock: id })
    }

    fn arrive(
        &mut self,
        index: usize,
        barrier: BarrierId,
        participants: u32,
        timed: bool,
    ) -> Result<(), Breach> {
        let at = self.threads[index].node;
        if barrier == COMMON_BARRIER {
            self.referee.arrives(self.threads[index].generation);
        }
        let turn = self.threads[index].turns.entry(barrier).or_default();
        *turn += 1;
        let turn = *turn;
        if !timed && !self.config.has_losses() {
            self.record(index, Deed::Arrive(barrier, turn));
        }
        let ticket = self.begin(index, Wanted::Barrier(barrier), timed);
        self.feed(at, Event::BarrierArrive { ticket, barrier, participants })?;
        self.plant_early_release(at, Wanted::Barrier(barrier), ticket);
        Ok(())
    }

    fn open(&mut self, index: usize, plan: usize, create: bool) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let region = &self.config.regions[plan];
        let spec = RegionSpec {
            name: RegionName::new(&format!("region {plan}")).expect("it is short and has no NUL"),
            pages: if create { region.pages } else { 0 },
            placement: region.placement,
            protocol: region.protocol,
            unit: Unit::Page,
            address: if create { region.address } else { 0 },
        };
        let ticket = self.begin(index, Wanted::Region(plan), false);
        self.feed(at, Event::RegionOpen { ticket, create, spec })
    }
}
