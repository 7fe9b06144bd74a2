//! Atomic operations on words of shared memory, done where the page is.

use super::shard::Shard;
use super::{CallFailure, Runtime};
use crate::stats::count;
use pagemesh_memory::{PAGE_BYTES, ServiceView};
use pagemesh_protocol::{
    Actions, AtomicAnswer, AtomicChange, AtomicOperation, Engine, Failure, NodeId, Outcome, PageAddress,
    Protocol, Ticket,
};
use std::time::Instant;

impl Runtime {
    /// Has the operation done, wherever the page is, and returns what the word was. Any failure but [`Failure::Unanswered`] and
    /// [`CallFailure::Unanswered`] means that nothing was done.
    pub(crate) fn atomic(&self, page: PageAddress, operation: AtomicOperation) -> Result<u64, CallFailure> {
        let timeout = self.fault_timeout;
        let deadline = Instant::now() + timeout;
        self.wait_room(deadline);
        let call = self.calls.claim(deadline).ok_or(CallFailure::TimedOut(timeout))?;
        let ticket = call.ticket();
        let start = |engine: &mut Engine, out: &mut Actions| engine.on_atomic(ticket, page, operation, out);
        if self.is_inherited() {
            return Err(CallFailure::Closed);
        }
        let protocol = self.shards.of(page).engine.region(page.region).map(|spec| spec.protocol);
        let is_release = protocol == Some(Protocol::Release);
        let begun = if is_release { self.event(start) } else { self.page_event(page, start) };
        begun.ok_or(CallFailure::Closed)?;
        let outcome = if call.is_over() {
            count(&self.counters.atomics_here);
            self.switch.flush();
            call.take_result()
        } else if self.wait(&call, deadline) {
            call.take_result()
        } else {
            // The home knows whether it has begun.
            let give_up = |engine: &mut Engine, out: &mut Actions| engine.on_atomic_give_up(ticket, out);
            if is_release {
                self.event(give_up);
            } else {
                self.page_event(page, give_up);
            }
            let answered = self.finish_call(&call, Instant::now() + timeout, timeout);
            answered.map_err(|failure| match failure {
                CallFailure::Failed(Failure::Withdrawn) => {
                    count(&self.counters.timeouts);
                    CallFailure::TimedOut(timeout)
                }
                CallFailure::TimedOut(after) => CallFailure::Unanswered(2 * after),
                other => other,
            })
        };
        match outcome? {
            Outcome::Word(old) => {
                count(&self.counters.atomics);
                Ok(old)
            }
            _ => unreachable!("an atomic operation ends with what the word was"),
        }
    }
}

/// Changes the word at `offset` of a region, on the bytes that are here; returns what it was.
pub(crate) fn change_here(service: &ServiceView, offset: usize, change: AtomicChange) -> u64 {
    match change {
        AtomicChange::Add(value) => service.fetch_add_u64(offset, value),
        AtomicChange::Swap(value) => service.swap_u64(offset, value),
        AtomicChange::CompareSwap { expected, desired } => {
            service.compare_swap_u64(offset, expected, desired)
        }
    }
}

impl Shard {
    /// Does the operation in the service view, and answers.
    pub(super) fn operate(
        &self,
        runtime: &Runtime,
        page: PageAddress,
        operation: AtomicOperation,
        (requester, ticket, answer): (NodeId, Ticket, AtomicAnswer),
    ) {
        let service = self.mapped(page).service();
        let offset = page.page as usize * PAGE_BYTES + operation.offset();
        let old = change_here(service, offset, operation.change);
        if requester != runtime.node {
            count(&runtime.counters.atomics_for_others);
        }
        if answer == AtomicAnswer::Call {
            if runtime.calls.finish(ticket, Ok(Outcome::Word(old))) {
                runtime.switch.wake_leader();
            }
        } else if let Some((to, message)) = answer.message(page, requester, ticket, old) {
            self.send(runtime, to, &message, None);
        }
    }
}
