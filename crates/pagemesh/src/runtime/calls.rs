//! Calls that wait: a fixed table of slots, claimed and waited for without allocating, since a fault handler does both.

use super::failure::CallFailure;
use super::holds::meets;
use pagemesh_protocol::{Outcome, SyncObject, Ticket};
use rustix::thread::futex;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PENDING: u32 = 0;
const OVER: u32 = 1;
/// Pending, and its thread sleeps on the slot.
const ASLEEP: u32 = 2;
/// Pending, and its thread is the leader, asleep or not.
const LEADING: u32 = 3;
/// Pending, and nobody waits for it: its slot is given back when it is over.
const DETACHED: u32 = 4;

#[derive(Debug, Default)]
struct Slot {
    state: AtomicU32,
    generation: AtomicU16,
    result: Mutex<Option<Result<Outcome, CallFailure>>>,
    /// What its thread waits for, where other threads can be asked for it.
    awaited: Mutex<Option<SyncObject>>,
}

/// All calls of a node.
#[derive(Debug)]
pub(super) struct Calls {
    slots: Box<[Slot]>,
    /// Bit `b` of word `w`: slot `64 w + b` is free.
    free: Box<[AtomicU64]>,
    /// How many of them nobody has claimed, or is about to claim.
    unclaimed: AtomicUsize,
    /// Counts slots given back, for those who wait for one.
    returned: AtomicU32,
}

impl Calls {
    pub(super) fn new(count: usize) -> Calls {
        assert!(count.is_multiple_of(64));
        Calls {
            slots: (0..count).map(|_| Slot::default()).collect(),
            free: (0..count / 64).map(|_| AtomicU64::new(u64::MAX)).collect(),
            unclaimed: AtomicUsize::new(count),
            returned: AtomicU32::new(0),
        }
    }

    /// A slot for a new call; `None` when all were taken until `deadline`.
    pub(super) fn claim(&self, deadline: Instant) -> Option<Call<'_>> {
        loop {
            let returned = self.returned.load(Ordering::SeqCst);
            if let Some(slot) = self.try_claim() {
                return Some(slot);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            futex_wait(&self.returned, returned, left);
        }
    }

    /// How many calls wait for `object`, or for what has something in common with it.
    pub(super) fn waiting_for(&self, object: SyncObject) -> u32 {
        let awaits = |slot: &&Slot| {
            let awaited = *slot.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            awaited.is_some_and(|awaited| meets(awaited, object))
        };
        self.slots.iter().filter(awaits).count() as u32
    }

    /// A slot for a call that nobody waits for; `None` when few are left for those that somebody does.
    pub(super) fn detach(&self) -> Option<Ticket> {
        if self.unclaimed.load(Ordering::Relaxed) < self.slots.len() / 2 {
            return None;
        }
        let call = self.try_claim()?;
        let ticket = call.ticket();
        call.slot().state.store(DETACHED, Ordering::SeqCst);
        std::mem::forget(call);
        Some(ticket)
    }

    fn try_claim(&self) -> Option<Call<'_>> {
        // First this: whoever finds none then waits for the count to rise, which `give_back` says.
        let claim = |count: usize| count.checked_sub(1);
        self.unclaimed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, claim).ok()?;
        loop {
            // A slot that was given back is free before it is counted, so there is one for each who has claimed.
            if let Some(call) = self.claim_free() {
                return Some(call);
            }
        }
    }

    fn claim_free(&self) -> Option<Call<'_>> {
        for (word, bits) in self.free.iter().enumerate() {
            let mut seen = bits.load(Ordering::SeqCst);
            while seen != 0 {
                let bit = seen.trailing_zeros();
                let before = bits.fetch_and(!(1 << bit), Ordering::SeqCst);
                if before >> bit & 1 != 0 {
                    return Some(self.opened(word * 64 + bit as usize));
                }
                seen = before & !(1 << bit);
            }
        }
        None
    }

    fn opened(&self, index: usize) -> Call<'_> {
        let slot = &self.slots[index];
        let generation = slot.generation.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        *slot.result.lock().unwrap_or_else(PoisonError::into_inner) = None;
        slot.state.store(PENDING, Ordering::SeqCst);
        Call { calls: self, index, ticket: Ticket::new(index as u16, generation) }
    }

    /// Ends the call of `ticket`, if it still waits. True when its thread leads, and so has to be woken as the leader.
    #[must_use]
    pub(super) fn finish(&self, ticket: Ticket, result: Result<Outcome, CallFailure>) -> bool {
        let slot = &self.slots[ticket.slot as usize];
        if slot.generation.load(Ordering::SeqCst) != ticket.generation {
            return false;
        }
        if slot.state.load(Ordering::SeqCst) == DETACHED {
            slot.state.store(OVER, Ordering::SeqCst);
            self.give_back(ticket.slot as usize);
            return false;
        }
        finish(slot, result)
    }

    /// Ends every call that waits; the leader, if there is one, is the caller's to wake.
    pub(super) fn fail_all(&self) {
        for (word, bits) in self.free.iter().enumerate() {
            let taken = !bits.load(Ordering::SeqCst);
            for bit in (0..64).filter(|bit| taken >> bit & 1 != 0) {
                let slot = &self.slots[word * 64 + bit];
                if slot.state.load(Ordering::SeqCst) != OVER {
                    finish(slot, Err(CallFailure::Closed));
                }
            }
        }
    }

    fn give_back(&self, index: usize) {
        self.free[index / 64].fetch_or(1 << (index % 64), Ordering::SeqCst);
        self.returned.fetch_add(1, Ordering::SeqCst);
        if self.unclaimed.fetch_add(1, Ordering::SeqCst) == 0 {
            futex_wake(&self.returned);
        }
    }
}

fn finish(slot: &Slot, result: Result<Outcome, CallFailure>) -> bool {
    *slot.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    let before = slot.state.swap(OVER, Ordering::SeqCst);
    if before == ASLEEP {
        futex_wake(&slot.state);
    }
    before == LEADING
}

fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let timeout = futex::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // Woken, interrupted, changed before or timed out: the caller looks again.
    let _ = futex::wait(word, futex::Flags::PRIVATE, expected, Some(&timeout));
}

fn futex_wake(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::PRIVATE, u32::MAX >> 1);
}

/// A call that was started by this thread; its slot is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Call<'a> {
    calls: &'a Calls,
    index: usize,
    ticket: Ticket,
}

impl Call<'_> {
    /// Says what this call waits for, until that is taken back or the call's time is over.
    pub(super) fn awaits(&self, object: Option<SyncObject>) {
        *self.slot().awaited.lock().unwrap_or_else(PoisonError::into_inner) = object;
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    fn slot(&self) -> &Slot {
        &self.calls.slots[self.index]
    }

    pub(super) fn is_over(&self) -> bool {
        self.slot().state.load(Ordering::SeqCst) == OVER
    }

    /// Sleeps until the call is over or `timeout` has passed; may return early.
    pub(super) fn sleep(&self, timeout: Duration) {
        let state = &self.slot().state;
        if state.compare_exchange(PENDING, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        futex_wait(state, ASLEEP, timeout);
        let _ = state.compare_exchange(ASLEEP, PENDING, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Says that this thread leads from now on; false when the call is over.
    pub(super) fn lead(&self) -> bool {
        let led = self.slot().state.compare_exchange(PENDING, LEADING, Ordering::SeqCst, Ordering::SeqCst);
        led.is_ok() || !self.is_over()
    }

    /// Says that this thread no longer leads.
    pub(super) fn follow(&self) {
        let _ = self.slot().state.compare_exchange(LEADING, PENDING, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// How the call ended.
    pub(super) fn take_result(&self) -> Result<Outcome, CallFailure> {
        let mut result = self.slot().result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take().unwrap_or(Err(CallFailure::Closed))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.give_back(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_result_reaches_its_call_and_a_late_one_nobody() {
        let calls = Calls::new(64);
        let first = calls.claim(soon()).unwrap();
        let late = first.ticket();
        assert!(!calls.finish(late, Ok(Outcome::Done)));
        assert!(first.is_over());
        assert_eq!(first.take_result(), Ok(Outcome::Done));
        drop(first);
        let second = calls.claim(soon()).unwrap();
        assert_eq!(second.ticket().slot, late.slot);
        assert!(!calls.finish(late, Ok(Outcome::Done)));
        assert!(!second.is_over());
    }

    #[test]
    fn a_call_that_nobody_waits_for_gives_its_slot_back() {
        let calls = Calls::new(64);
        let detached: Vec<_> = std::iter::from_fn(|| calls.detach()).collect();
        assert_eq!(detached.len(), 33, "half of the slots are for others");
        let held: Vec<_> = (0..31).map(|_| calls.claim(soon()).unwrap()).collect();
        assert!(calls.claim(Instant::now()).is_none());
        for ticket in &detached {
            assert!(!calls.finish(*ticket, Ok(Outcome::Done)));
            assert!(!calls.finish(*ticket, Ok(Outcome::Done)), "once is enough");
        }
        drop(held);
        let all: Vec<_> = (0..64).map(|_| calls.claim(soon()).unwrap()).collect();
        assert!(all.iter().all(|call| !call.is_over()));
    }

    #[test]
    fn a_sleeping_call_is_woken_and_a_full_table_waits() {
        let calls = Calls::new(64);
        let mut held: Vec<_> = (0..64).map(|_| calls.claim(soon()).unwrap()).collect();
        assert!(calls.claim(Instant::now()).is_none());
        let tickets: Vec<_> = held.iter().map(Call::ticket).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for ticket in &tickets {
                    assert!(!calls.finish(*ticket, Ok(Outcome::Done)), "nobody leads here");
                }
            });
            let waiter = scope.spawn(|| calls.claim(soon()).is_some());
            for call in held.drain(..) {
                while !call.is_over() {
                    call.sleep(Duration::from_secs(20));
                }
            }
            assert!(waiter.join().unwrap());
        });
    }
}
