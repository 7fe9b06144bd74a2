//! Counting semaphores: units and a queue at each semaphore's home, first come, first served.
//!
//! A semaphore that nobody has given a value has no units; posting adds one, and so does giving the value, so that it does not
//! matter which comes first. Units have no owners: those that a lost node had taken are gone with it.
//!
//! A unit that is granted to a call which gave up meanwhile finds nobody at its node, which sends it back.

use super::locks::{Caller, NumberMap, TOO_MANY_CALLS};
use super::planted::Planted;
use super::queue::{Arena, Queue};
use super::tickets::Wait;
use super::{Engine, EngineConfig, Handled, sync_home};
use crate::action::{Actions, Failure, Outcome};
use crate::ids::{NodeId, SemaphoreId, Ticket};
use crate::limits;
use crate::message::Message;

const NOT_ITS_HOME: &str = "this node is not the home of the semaphore";

#[derive(Clone, Copy, Debug, Default)]
struct Semaphore {
    /// The value that it was given; with one it is remembered for ever.
    initial: Option<u32>,
    units: u32,
    queue: Queue,
}

#[derive(Clone, Debug)]
pub(super) struct Semaphores {
    bound: usize,
    used: NumberMap<SemaphoreId, Semaphore>,
    queued: Arena<Caller>,
}

impl Semaphores {
    pub(super) fn new(config: EngineConfig) -> Semaphores {
        let mut used = NumberMap::default();
        used.reserve(config.locks.min(limits::OBJECTS_AT_HAND));
        Semaphores { bound: config.locks, used, queued: Arena::with_capacity(config.tickets, config.nodes) }
    }

    /// Semaphores that have a value, units or waiters, and calls that wait.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.used.len(), self.queued.len())
    }

    /// Whether one more is too many.
    fn is_full_for(&self, semaphore: SemaphoreId) -> bool {
        self.used.len() >= self.bound && !self.used.contains_key(&semaphore)
    }
}

/// The caller's part.
impl Engine {
    pub(super) fn semaphore_wait(
        &mut self,
        ticket: Ticket,
        semaphore: SemaphoreId,
        waits: bool,
        out: &mut Actions,
    ) {
        self.tickets.begin(ticket, Wait::Semaphore(semaphore));
        let home = sync_home(semaphore.0, self.config.nodes);
        if self.live.contains(home) {
            self.tell_what_is_known(home, out);
            self.send(home, Message::SemaphoreWait { semaphore, ticket, waits }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(home), out);
        }
    }

    /// Gives the semaphore its value or, with none, one unit more.
    pub(super) fn semaphore_add(
        &mut self,
        ticket: Ticket,
        semaphore: SemaphoreId,
        value: Option<u32>,
        out: &mut Actions,
    ) {
        self.tickets.begin(ticket, Wait::SemaphoreAnswer(semaphore));
        let home = sync_home(semaphore.0, self.config.nodes);
        self.release_interval(out);
        if !self.live.contains(home) {
            return self.fail(ticket, Failure::PeerLost(home), out);
        }
        self.tell(home, out);
        let message = match value {
            Some(value) => Message::SemaphoreInit { semaphore, ticket, value },
            None => Message::SemaphorePost { semaphore, ticket },
        };
        self.send(home, message, out);
    }

    pub(super) fn semaphore_granted(
        &mut self,
        from: NodeId,
        semaphore: SemaphoreId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        let home = sync_home(semaphore.0, self.config.nodes);
        let wait = Wait::Semaphore(semaphore);
        if from == home && self.tickets.wait(ticket) != wait {
            if !self.planted(Planted::KeepReturnedUnit) {
                self.send(home, Message::SemaphoreReturn { semaphore }, out);
            }
            return Ok(());
        }
        self.conclude_acquire(from, home, ticket, wait, Outcome::Done, out)
    }

    pub(super) fn semaphore_answered(
        &mut self,
        from: NodeId,
        semaphore: SemaphoreId,
        ticket: Ticket,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Handled {
        let home = sync_home(semaphore.0, self.config.nodes);
        self.conclude(from, Some(home), ticket, Wait::SemaphoreAnswer(semaphore), outcome, out)
    }
}

/// The home's part.
impl Engine {
    fn check_semaphore_here(&self, semaphore: SemaphoreId) -> Handled {
        let home = sync_home(semaphore.0, self.config.nodes);
        if home == self.config.node { Ok(()) } else { Err(NOT_ITS_HOME) }
    }

    pub(super) fn semaphore_wanted(
        &mut self,
        from: NodeId,
        semaphore: SemaphoreId,
        ticket: Ticket,
        waits: bool,
        out: &mut Actions,
    ) -> Handled {
        self.check_semaphore_here(semaphore)?;
        let units = self.semaphores.used.get(&semaphore).map_or(0, |used| used.units);
        if units == 0 && !waits {
            self.send(from, Message::SemaphoreBusy { semaphore, ticket }, out);
            return Ok(());
        }
        if units == 0 && self.semaphores.queued.of(from) >= limits::TICKETS {
            return Err(TOO_MANY_CALLS);
        }
        if self.semaphores.is_full_for(semaphore) {
            self.send(from, Message::SyncRefused { ticket }, out);
            return Ok(());
        }
        let used = self.semaphores.used.entry(semaphore).or_default();
        self.semaphores.queued.push(&mut used.queue, Caller { node: from, ticket });
        self.hand_out_units(semaphore, out);
        Ok(())
    }

    pub(super) fn semaphore_initialised(
        &mut self,
        from: NodeId,
        semaphore: SemaphoreId,
        ticket: Ticket,
        value: u32,
        out: &mut Actions,
    ) -> Handled {
        self.check_semaphore_here(semaphore)?;
        if self.semaphores.is_full_for(semaphore) {
            self.send(from, Message::SyncRefused { ticket }, out);
            return Ok(());
        }
        let used = self.semaphores.used.entry(semaphore).or_default();
        let answer = match used.initial {
            Some(first) if first == value => Message::SemaphoreDone { semaphore, ticket },
            Some(first) => Message::SemaphoreMismatch { semaphore, ticket, first },
            None if value > limits::SEMAPHORE_UNITS - used.units => {
                Message::SemaphoreFull { semaphore, ticket }
            }
            None => {
                used.initial = Some(value);
                used.units += value;
                Message::SemaphoreDone { semaphore, ticket }
            }
        };
        self.send(from, answer, out);
        self.hand_out_units(semaphore, out);
        Ok(())
    }

    pub(super) fn semaphore_posted(
        &mut self,
        from: NodeId,
        semaphore: SemaphoreId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        self.check_semaphore_here(semaphore)?;
        let answer = if self.semaphores.is_full_for(semaphore) {
            Message::SyncRefused { ticket }
        } else if self.add_unit(semaphore) {
            Message::SemaphoreDone { semaphore, ticket }
        } else {
            Message::SemaphoreFull { semaphore, ticket }
        };
        self.send(from, answer, out);
        self.hand_out_units(semaphore, out);
        Ok(())
    }

    /// A unit was granted to a call that had given up.
    pub(super) fn semaphore_returned(&mut self, semaphore: SemaphoreId, out: &mut Actions) -> Handled {
        self.check_semaphore_here(semaphore)?;
        if !self.semaphores.is_full_for(semaphore) {
            self.add_unit(semaphore);
            self.hand_out_units(semaphore, out);
        }
        Ok(())
    }

    fn add_unit(&mut self, semaphore: SemaphoreId) -> bool {
        let loses = self.planted(Planted::LosePost);
        let used = self.semaphores.used.entry(semaphore).or_default();
        let room = used.units < limits::SEMAPHORE_UNITS;
        used.units += u32::from(room && (!loses || used.queue.is_empty()));
        room
    }

    /// Grants units to those who wait; forgets a semaphore that is as if nobody had ever named it.
    fn hand_out_units(&mut self, semaphore: SemaphoreId, out: &mut Actions) {
        let twice = self.planted(Planted::DoubleUnit);
        while let Some(used) = self.semaphores.used.get_mut(&semaphore)
            && used.units > 0
            && let Some(Caller { node, ticket }) = self.semaphores.queued.pop(&mut used.queue)
        {
            used.units -= u32::from(!twice);
            self.tell(node, out);
            self.send(node, Message::SemaphoreGrant { semaphore, ticket }, out);
        }
        let is_idle = |used: &Semaphore| used.initial.is_none() && used.units == 0 && used.queue.is_empty();
        if self.semaphores.used.get(&semaphore).is_some_and(is_idle) {
            self.semaphores.used.remove(&semaphore);
        }
    }

    pub(super) fn semaphore_cancelled(
        &mut self,
        from: NodeId,
        semaphore: SemaphoreId,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        self.check_semaphore_here(semaphore)?;
        let caller = Caller { node: from, ticket };
        if let Some(used) = self.semaphores.used.get_mut(&semaphore) {
            self.semaphores.queued.remove_where(&mut used.queue, |waiting| *waiting == caller);
        }
        self.hand_out_units(semaphore, out);
        Ok(())
    }

    pub(super) fn mend_semaphores(&mut self, lost: NodeId, out: &mut Actions) {
        let mut all: Vec<SemaphoreId> = self.semaphores.used.keys().copied().collect();
        all.sort_unstable();
        for semaphore in all {
            if let Some(used) = self.semaphores.used.get_mut(&semaphore) {
                self.semaphores.queued.remove_node(&mut used.queue, lost);
            }
            self.hand_out_units(semaphore, out);
        }
    }
}
