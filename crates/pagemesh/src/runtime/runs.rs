//! Runs of neighbouring pages: asked for by one message, and brought by one.
//!
//! The engine knows single messages only. What it says about neighbouring pages, to one node and one after the other, is sent as a
//! [`Run`]; a run that comes is given to it message by message, under one lock of the shard, and what they ask for is done together.
//!
//! The pages of a run are neither copied when they are sent nor when they come: the network sends them from the service view, and receives them
//! into it.
//!
//! * **What is queued does not change before it is sent.** In regions of which runs are sent, a page that is sent is either dropped here, and comes
//!   back only from a node that has it, or it stays here for reading, and may be written by nobody before the node that it was sent to has
//!   said that it has dropped it, which it does after it has it; or before that node is lost.
//! * **What comes is put only where nobody looks.** Before each part, the engine is asked whether the page is still awaited for this request
//!   ([`Engine::awaits_bytes`]): then no thread may use it, and its bytes are nobody's copy. It is asked under the lock under which the
//!   part is received. When it is not awaited any more, what is left of it is thrown away.

use super::Runtime;
use super::receive::Receiving;
use super::shard::{ACTIONS, ACTIONS_OF_ONE_REQUEST, Load, Shard};
use super::trace::Stage;
use crate::stats::count;
use pagemesh_memory::{Mapping, PAGE_BYTES, PageRange, ServiceView, SharedRing};
use pagemesh_net::{LinkLoss, Pages, Reject, RingEnd, RingFault, Source};
use pagemesh_protocol::{
    Action, Actions, Message, NodeId, PageAddress, Protocol, RegionId, Run, RunKind, View,
};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The memory of a region, as the network sends from it.
#[derive(Debug)]
pub(super) struct Sent(Arc<Mapping>);

impl Sent {
    pub(super) fn of(mapping: &Arc<Mapping>) -> Arc<dyn Pages> {
        Arc::new(Sent(mapping.clone()))
    }
}

impl Pages for Sent {
    fn send(&self, socket: BorrowedFd<'_>, head: &[u8], at: usize, bytes: usize) -> Result<usize, Errno> {
        self.0.service().send(socket, head, at, bytes)
    }

    fn write(&self, ring: &dyn RingEnd, at: usize, bytes: usize) -> Result<usize, RingFault> {
        super::rings::memory(ring).map_or(Ok(0), |ring| {
            self.0.service().write_to(ring, at, bytes).map_err(|found| RingFault(found.to_string()))
        })
    }
}

/// Takes some of what `source` has into the `bytes` bytes of a service view from `at` on.
fn take(source: Source<'_>, view: &ServiceView, at: usize, bytes: usize) -> Result<usize, LinkLoss> {
    match source {
        Source::Bytes(there) => {
            let there = &there[..there.len().min(bytes)];
            view.write(at, there);
            Ok(there.len())
        }
        Source::Socket(stream) => Source::received(view.receive(stream.as_fd(), at, bytes)),
        Source::Ring(ring) => {
            let Some(ring): Option<&SharedRing> = super::rings::memory(ring) else { return Ok(0) };
            view.read_from(ring, at, bytes).map_err(|found| LinkLoss::BadRing(RingFault(found.to_string())))
        }
    }
}

fn rejected(what: impl Into<Reject>) -> LinkLoss {
    LinkLoss::Rejected(what.into().0)
}

impl Shard {
    /// Whether pages of `region` are sent in runs: not where copies are merged from what many nodes wrote, since those change while
    /// they are sent.
    fn has_runs(&self, region: RegionId) -> bool {
        let protocol = self.engine.region(region).map(|spec| spec.protocol);
        matches!(protocol, Some(Protocol::WriteInvalidate | Protocol::Migration))
    }

    /// The run that `action` begins, as far as `rest` goes on with it; `None` where it stands for itself.
    fn run_of(&self, action: &Action, rest: &[Action]) -> Option<(NodeId, Run)> {
        let Action::Send { to, ref message, .. } = *action else { return None };
        let mut run = Run::of(message)?;
        for next in rest {
            match next {
                Action::Send { to: next_to, message, .. } if *next_to == to && run.add(message) => {}
                _ => break,
            }
        }
        // A page alone goes without a copy too; a request alone is a message.
        let least = if run.kind == RunKind::Data { 1 } else { 2 };
        (run.count >= least && self.has_runs(run.first.region)).then_some((to, run))
    }

    /// Sends what `action` and some of `rest` say as a run, if they make one. Returns how many of `rest` went with it; `None` when the action
    /// is to be performed by itself.
    pub(super) fn send_run(&self, runtime: &Runtime, action: &Action, rest: &[Action]) -> Option<usize> {
        let (to, run) = self.run_of(action, rest)?;
        let head = run.encode(self.engine.view());
        let more = run.count as usize - 1;
        if run.kind == RunKind::Requests {
            // A link that has ended is reported to whoever receives, and from there to the engine.
            let _ = runtime.switch.enqueue(to.get(), &head, &[]);
            return Some(more);
        }
        let pages = self.sent(run.first.region)?;
        let (at, bytes) = (run.first.page as usize * PAGE_BYTES, run.count as usize * PAGE_BYTES);
        if runtime.switch.enqueue_long(to.get(), &head, (pages, at, bytes)) == Ok(false) {
            return None;
        }
        runtime.counters.pages_sent.fetch_add(run.count.into(), Ordering::Relaxed);
        Some(more)
    }

    /// Gives the engine the requests of a run from the one with this index on, as far as it decides about their pages, and does what they ask
    /// for. Returns the index of the first that is another shard's.
    fn handle_requests(
        &mut self,
        runtime: &Runtime,
        (from, view): (NodeId, View),
        run: &Run,
        first: u32,
    ) -> Result<u32, Reject> {
        let mut actions = std::mem::take(&mut self.actions);
        let mut handled = Ok(());
        let place = runtime.shards.place_of(run.page(first));
        let is_here = |index: &u32| runtime.shards.place_of(run.page(*index)) == place;
        let end = first + (first..run.count).take_while(is_here).count() as u32;
        for index in first..end {
            // A thread in a fault handler must not have the buffer grow.
            if actions.len() + ACTIONS_OF_ONE_REQUEST > ACTIONS {
                self.perform_together(runtime, &mut actions);
            }
            let page = run.page(index);
            if self.engine.has_transactions()
                && self.engine.directory(page).is_some_and(|entry| entry.busy.is_some())
            {
                count(&runtime.counters.requests_queued);
            }
            handled = self.engine.on_message(from, view, &run.part(index), &mut actions);
            if handled.is_err() {
                break;
            }
        }
        self.perform_together(runtime, &mut actions);
        self.actions = actions;
        handled.map_err(|violation| Reject::from(violation.to_string()))?;
        Ok(end)
    }

    /// Performs what some requests ask for. Where that is rights to be taken away and messages, the rights go first, in rows, which is earlier
    /// than asked for: then the messages make runs.
    fn perform_together(&mut self, runtime: &Runtime, actions: &mut Actions) {
        let is_simple =
            |action: &Action| matches!(action, Action::Protect(_) | Action::Unmap(_) | Action::Send { .. });
        if actions.iter().all(is_simple) {
            let mut row: Option<(Action, PageAddress, u64)> = None;
            for action in actions.iter() {
                let (Action::Protect(page) | Action::Unmap(page)) = *action else { continue };
                match &mut row {
                    Some((first, start, count))
                        if std::mem::discriminant(first) == std::mem::discriminant(action)
                            && PageAddress::new(start.region, start.page + *count) == page =>
                    {
                        *count += 1;
                    }
                    _ => {
                        let before = row.replace((*action, page, 1));
                        self.take_whole_row(runtime, before);
                    }
                }
            }
            self.take_whole_row(runtime, row);
            actions.retain(|action| matches!(action, Action::Send { .. }));
        }
        self.perform_event(runtime, Load::Nothing, actions);
    }

    fn take_whole_row(&mut self, runtime: &Runtime, row: Option<(Action, PageAddress, u64)>) {
        if let Some((action, first, count)) = row {
            self.take_row(runtime, &action, PageRange::new(first.page, count), first);
        }
    }

    /// Takes some of `rest`, what is still to come of the pages of `run`, from `source`, and gives the engine the messages of the pages that are
    /// here then. Returns how many bytes were taken.
    fn take_pages(
        &mut self,
        runtime: &Runtime,
        (from, view): (NodeId, View),
        run: &Run,
        rest: &Range<usize>,
        source: Source<'_>,
    ) -> Result<usize, LinkLoss> {
        let current = (rest.start / PAGE_BYTES) as u32;
        let place = runtime.shards.place_of(run.page(current));
        let awaited = |index: &u32| match run.part(*index) {
            Message::Data { page, request, access } => {
                runtime.shards.place_of(page) == place && self.engine.awaits_bytes(page, request, access)
            }
            _ => false,
        };
        let until = (current..run.count).take_while(awaited).count() as u32 + current;
        let taken = match self.mapping_of(run.first.region) {
            Some(mapping) if until > current => {
                let at = run.first.page as usize * PAGE_BYTES + rest.start;
                take(source, mapping.service(), at, until as usize * PAGE_BYTES - rest.start)?
            }
            _ => source.waste((current as usize + 1) * PAGE_BYTES - rest.start)?,
        };
        let complete = ((rest.start + taken) / PAGE_BYTES) as u32;
        for index in current..complete {
            self.handle(runtime, Load::InPlace, (from, view), &run.part(index))
                .map_err(|violation| rejected(violation.to_string()))?;
        }
        Ok(taken)
    }
}

impl Receiving<'_> {
    /// A run of requests has come.
    pub(super) fn on_requests(&mut self, peer: u16, message: &[u8], payload: &[u8]) -> Result<(), Reject> {
        let (view, run) = Run::decode(message).map_err(|error| Reject::from(error.to_string()))?;
        if run.kind != RunKind::Requests || !payload.is_empty() {
            return Err(Reject::from("pages of a run come as a long payload"));
        }
        let mut next = 0;
        while next < run.count {
            let mut shard = self.shard_of(run.page(next));
            shard.catch_up(self.runtime);
            if shard.is_closed() {
                return Ok(());
            }
            if !shard.has_runs(run.first.region) && shard.engine.region(run.first.region).is_some() {
                return Err(Reject::from("the region has no runs"));
            }
            next = shard.handle_requests(self.runtime, (NodeId::new(peer), view), &run, next)?;
        }
        Ok(())
    }

    /// Some of the pages of a run have come.
    pub(super) fn on_pages(
        &mut self,
        peer: u16,
        message: &[u8],
        rest: &Range<usize>,
        source: Source<'_>,
    ) -> Result<usize, LinkLoss> {
        self.runtime.tracing.mark(Stage::Await);
        let (view, run) = Run::decode(message).map_err(|error| rejected(error.to_string()))?;
        if run.kind != RunKind::Data || rest.end != run.count as usize * PAGE_BYTES {
            return Err(rejected("a run comes with as many pages as it says"));
        }
        let mut shard = self.shard_of(run.page((rest.start / PAGE_BYTES) as u32));
        if shard.is_closed() {
            return source.waste(rest.len());
        }
        let taken = shard.take_pages(self.runtime, (NodeId::new(peer), view), &run, rest, source);
        self.shard = (!shard.put_off.is_empty()).then_some(shard);
        self.runtime.tracing.mark(Stage::Grant);
        taken
    }
}
