//! What threads hold while they touch cells: locks of every kind, and signals that they wait for meanwhile.

use super::super::plan::Kind;
use super::super::threads::{Activity, Step};
use super::{Checked, OPENING, World};
use pagemesh_protocol::{
    Access, Actions, AtomicChange, ByteRange, ConditionId, Engine, Failure, LockId, Outcome, RegionId,
    RwLockId, SemaphoreId, Ticket,
};

/// One in so many calls of a mutex or a reader-writer lock does not wait.
const TRIED_OF: u16 = 8;

/// Each lock has one condition, of the same number.
fn condition(lock: usize) -> ConditionId {
    ConditionId(lock as u64)
}

/// Each lock has bytes of its own, which need not be those that it protects.
fn range(lock: usize) -> ByteRange {
    ByteRange::new(RegionId(0), lock as u64 * 8, lock as u64 * 8 + 8)
}

fn begin(
    (kind, lock): (Kind, usize),
    ticket: Ticket,
    access: Access,
    engine: &mut Engine,
    out: &mut Actions,
) {
    let number = lock as u64;
    match kind {
        Kind::Mutex if ticket.generation.is_multiple_of(TRIED_OF) => {
            engine.on_lock_try(ticket, LockId(number), out);
        }
        Kind::Mutex => engine.on_lock_acquire(ticket, LockId(number), out),
        Kind::ReadersAndWriters => {
            let waits = !ticket.generation.is_multiple_of(TRIED_OF);
            engine.on_rw_acquire(ticket, RwLockId(number), access, waits, out);
        }
        Kind::Range => engine.on_range_acquire(ticket, range(lock), access, true, out),
        Kind::Semaphore => engine.on_semaphore_wait(ticket, SemaphoreId(number), true, out),
        Kind::Word(_) => unreachable!("the home knows nothing of such locks"),
    }
}

impl World {
    /// Gives each semaphore its one unit.
    pub(super) fn fill_semaphores(&mut self) -> Checked {
        for lock in 0..self.plan.locks.len() {
            if self.plan.locks[lock] == Kind::Semaphore {
                let ticket = Ticket::new(OPENING, 1000 + lock as u16);
                let semaphore = SemaphoreId(lock as u64);
                self.event(0, |engine, out| engine.on_semaphore_init(ticket, semaphore, 1, out))?;
                while let Some(link) = self.links.iter().position(|link| !link.is_empty()) {
                    self.deliver(link)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, index: usize, lock: usize, access: Access) -> Checked {
        let kind = self.plan.locks[lock];
        if let Kind::Word(cell) = kind {
            return self.change(index, cell, AtomicChange::CompareSwap { expected: 0, desired: 1 });
        }
        if kind == Kind::ReadersAndWriters && self.retake(index, lock, access) {
            return Ok(());
        }
        let (ticket, node) = (self.wait(index), self.threads[index].node);
        self.note(|| format!("thread {index} wants {kind:?} {lock} {access:?}"));
        self.event(node, |engine, out| begin((kind, lock), ticket, access, engine, out))?;
        let impatient = self.random.chance(self.plan.impatience);
        if impatient && self.threads[index].activity == Activity::Waiting {
            self.threads[index].activity = Activity::Ready;
            self.threads[index].skip_section();
            self.event(node, |engine, out| engine.on_cancel(ticket, out))?;
        }
        Ok(())
    }

    /// Takes a reader-writer lock as the runtime does that is left with the node. Under a name of the thread's own, as there may be many readers.
    fn retake(&mut self, index: usize, lock: usize, access: Access) -> bool {
        let thread = &mut self.threads[index];
        let ticket = Ticket::new(u16::MAX - thread.ticket.slot, thread.ticket.generation);
        if !self.nodes[thread.node].engine.on_rw_retake(ticket, RwLockId(lock as u64), access) {
            return false;
        }
        thread.held = Some((lock, ticket));
        thread.steps.pop_front();
        self.note(|| format!("thread {index} takes {lock} {access:?} again"));
        true
    }

    pub(super) fn give_back(&mut self, index: usize) -> Checked {
        self.threads[index].steps.pop_front();
        let Some((lock, ticket)) = self.threads[index].held.take() else {
            return Err(format!("thread {index} holds no lock"));
        };
        self.note(|| format!("thread {index} gives back {lock}"));
        let (node, number, kind) = (self.threads[index].node, lock as u64, self.plan.locks[lock]);
        match kind {
            Kind::Mutex => {
                self.event(node, |engine, out| engine.on_lock_release(ticket, LockId(number), out))
            }
            Kind::ReadersAndWriters if self.nodes[node].engine.on_rw_keep(ticket, RwLockId(number)) => Ok(()),
            Kind::ReadersAndWriters => {
                self.event(node, |engine, out| engine.on_rw_release(ticket, RwLockId(number), out))
            }
            // With its master lost it is nobody's any more.
            Kind::Range => self.event(node, |engine, out| {
                let _ = engine.on_range_release(ticket, range(lock), out);
            }),
            Kind::Word(cell) => {
                self.threads[index].steps.push_front(Step::Posted);
                self.change(index, cell, AtomicChange::Swap(0))
            }
            Kind::Semaphore => {
                let ticket = self.wait(index);
                let semaphore = SemaphoreId(number);
                self.threads[index].steps.push_front(Step::Posted);
                self.event(node, |engine, out| engine.on_semaphore_post(ticket, semaphore, out))
            }
        }
    }

    /// Thread `index` waits for a signal, without its lock.
    pub(super) fn await_signal(&mut self, index: usize) -> Checked {
        let Some((lock, held)) = self.threads[index].held.take() else {
            return Err(format!("thread {index} holds no lock"));
        };
        let (ticket, node) = (self.wait(index), self.threads[index].node);
        self.threads[index].awaits = Some(lock);
        self.note(|| format!("thread {index} waits for a signal, {lock}"));
        let held = (LockId(lock as u64), held);
        self.event(node, |engine, out| engine.on_condition_wait(ticket, condition(lock), held, out))
    }

    pub(super) fn notify(&mut self, index: usize, lock: usize, all: bool) -> Checked {
        self.threads[index].steps.pop_front();
        let node = self.threads[index].node;
        self.note(|| format!("thread {index} signals {lock}, all: {all}"));
        let waited = self.nodes[node].engine.load().condition_waiters;
        self.event(node, |engine, out| {
            // A condition that is lost wakes nobody.
            let _ = engine.on_condition_notify(condition(lock), all, out);
        })?;
        if all { Ok(()) } else { self.check_woken(node, waited) }
    }

    /// One signal wakes one of those who waited at `node`.
    pub(super) fn check_woken(&self, node: usize, waited: usize) -> Checked {
        let woken = waited.saturating_sub(self.nodes[node].engine.load().condition_waiters);
        if woken <= 1 { Ok(()) } else { Err(format!("one signal woke {woken} at node {node}")) }
    }

    /// Thread `index` has waited long enough for its signal.
    pub(super) fn give_up(&mut self, index: usize) -> Checked {
        self.threads[index].patience_over = true;
        let (node, ticket) = (self.threads[index].node, self.threads[index].ticket);
        self.note(|| format!("thread {index} has waited long enough"));
        self.event(node, |engine, out| engine.on_condition_give_up(ticket, out))
    }

    /// Thread `index` waits for the others no longer.
    pub(super) fn leave_meeting(&mut self, index: usize) -> Checked {
        let (node, ticket) = (self.threads[index].node, self.threads[index].ticket);
        self.note(|| format!("thread {index} leaves the meeting"));
        self.threads[index].activity = Activity::Ready;
        self.threads[index].steps.pop_front();
        self.meeting.gives_up(index);
        self.event(node, |engine, out| engine.on_cancel(ticket, out))
    }

    /// The wait for a signal is over: with the lock, or without.
    pub(super) fn signal_came(&mut self, index: usize, outcome: Outcome) {
        let thread = &mut self.threads[index];
        let lock = thread.awaits.take();
        thread.patience_over = false;
        thread.steps.pop_front();
        match (lock, outcome) {
            (Some(lock), Outcome::Failed(Failure::NotSignalled)) => {
                thread.steps.push_front(Step::Lock(lock, Access::Write));
            }
            (_, Outcome::Failed(_)) => thread.skip_section(),
            (lock, _) => {
                self.report.signals += 1;
                thread.held = lock.map(|lock| (lock, thread.ticket));
            }
        }
    }
}
