//! One engine with the memory that it decides about, and how its actions are performed.

use super::failure::CallFailure;
use super::{Runtime, lock};
use crate::stats::count;
use pagemesh_memory::{Mapping, MappingError, MappingOptions, PAGE_BYTES, PageBytes, PageRange, RegionKey};
use pagemesh_net::Switch;
use pagemesh_protocol::{Action, Actions, Engine, Message, NodeId, PageAddress, RegionId, RegionSpec, View};
use std::sync::{Arc, Weak};

/// Room for the actions of one event: an invalidation of 63 sharers fits.
const ACTIONS: usize = 256;

pub(super) struct Shard {
    pub(super) engine: Engine,
    mappings: Vec<Option<Arc<Mapping>>>,
    actions: Actions,
    closed: bool,
    /// Whose faults the mappings report; not counted, since the runtime owns the mappings.
    runtime: Weak<Runtime>,
}

/// A region that was mapped, or not, while actions were performed; the engine is told afterwards.
type Mapped = Option<(RegionId, u16, bool)>;

impl Shard {
    pub(super) fn new(engine: Engine, runtime: Weak<Runtime>) -> Shard {
        Shard { engine, mappings: Vec::new(), actions: Vec::with_capacity(ACTIONS), closed: false, runtime }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends everything; the mappings are the caller's to drop, where no lock is held.
    pub(super) fn close(&mut self) -> Vec<Option<Arc<Mapping>>> {
        self.closed = true;
        std::mem::take(&mut self.mappings)
    }

    pub(super) fn mapping(&self, region: RegionId) -> Option<Arc<Mapping>> {
        self.mappings.get(region.index())?.clone()
    }

    /// Gives the engine an event and performs its actions. `payload` is the page that came with the event.
    pub(super) fn run<R>(
        &mut self,
        runtime: &Runtime,
        payload: Option<&PageBytes>,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> R {
        let mut actions = std::mem::take(&mut self.actions);
        let result = event(&mut self.engine, &mut actions);
        loop {
            let mapped = self.perform_all(runtime, payload, &actions);
            actions.clear();
            let Some((region, round, mapped)) = mapped else { break };
            self.engine.on_region_mapped(region, round, mapped, &mut actions);
        }
        self.actions = actions;
        result
    }

    fn perform_all(&mut self, runtime: &Runtime, payload: Option<&PageBytes>, actions: &Actions) -> Mapped {
        let mut mapped = None;
        let mut refused = false;
        for action in actions {
            match *action {
                Action::Send { to, message, payload } => {
                    self.send(runtime, to, &message, payload);
                }
                Action::Complete { ticket, outcome } => {
                    let result = if refused { Err(CallFailure::Mapping) } else { Ok(outcome) };
                    if runtime.calls.finish(ticket, result.and_then(failed_apart)) {
                        runtime.switch.wake_leader();
                    }
                }
                Action::MapRegion { region, round, spec } => {
                    debug_assert!(mapped.is_none(), "one event proposes one region");
                    mapped = Some((region, round, self.map_region(region, &spec)));
                }
                Action::UnmapRegion(region) => {
                    let mapping = self.mappings.get_mut(region.index()).and_then(Option::take);
                    lock(&runtime.retired).extend(mapping);
                }
                Action::Departed(node) => {
                    let mut departures = lock(&runtime.departures);
                    departures.said_goodbye = departures.said_goodbye.with(node);
                }
                Action::Postpone => runtime.postpone(),
                ref on_page => refused |= !self.change_page(runtime, payload, on_page),
            }
        }
        mapped
    }

    fn send(&self, runtime: &Runtime, to: NodeId, message: &Message, payload: Option<PageAddress>) {
        let view = self.engine.view();
        let Some(page) = payload else {
            enqueue(&runtime.switch, view, to, message);
            return;
        };
        count(&runtime.counters.pages_sent);
        let mut bytes = [0; Message::MAX_BYTES];
        let length = message.encode(view, &mut bytes);
        let mapping = self.mapped(page);
        // A link that has ended is reported to whoever receives, and from there to the engine.
        let _ = runtime.switch.enqueue_with(to.get(), &bytes[..length], PAGE_BYTES, |payload| {
            mapping.service().read(page.page as usize * PAGE_BYTES, payload);
        });
    }

    fn mapped(&self, page: PageAddress) -> &Mapping {
        self.mappings[page.region.index()].as_ref().expect("the engine knows only regions that are mapped")
    }

    /// Performs an action on a page. False when the kernel refused to grant a right.
    ///
    /// # Panics
    /// When it refused to take one away: going on would show stale bytes to the application.
    fn change_page(&self, runtime: &Runtime, payload: Option<&PageBytes>, action: &Action) -> bool {
        let granted = |page: PageAddress, access| {
            self.mapped(page).pager().map(PageRange::one(page.page), access).is_ok()
        };
        match *action {
            Action::Fill(page) => {
                let bytes = payload.expect("a message that fills a page carries one");
                self.mapped(page).service().write_page(page.page, bytes);
                count(&runtime.counters.pages_fetched);
                true
            }
            Action::FillZero(page) => {
                self.mapped(page).service().zero_page(page.page);
                true
            }
            Action::MapRead(page) => granted(page, pagemesh_memory::Access::Read),
            Action::MapWrite(page) => granted(page, pagemesh_memory::Access::Write),
            Action::Unprotect(page) => self.mapped(page).pager().unprotect(PageRange::one(page.page)).is_ok(),
            Action::Protect(page) => {
                let protected = self.mapped(page).pager().protect(PageRange::one(page.page));
                protected.expect("the right to write a page can be taken away");
                true
            }
            Action::Unmap(page) => {
                count(&runtime.counters.invalidations);
                let unmapped = self.mapped(page).pager().unmap(PageRange::one(page.page));
                unmapped.expect("a page can be taken away");
                true
            }
            _ => unreachable!("not an action on a page"),
        }
    }

    fn map_region(&mut self, region: RegionId, spec: &RegionSpec) -> bool {
        let Some(runtime) = self.runtime.upgrade() else { return false };
        let options = MappingOptions::new(RegionKey(region.0 as u32), spec.pages as usize * PAGE_BYTES)
            .address(spec.address as usize)
            .pager(runtime.pager.kind);
        match Mapping::new(options, runtime) {
            Ok(mapping) => {
                if self.mappings.len() <= region.index() {
                    self.mappings.resize_with(region.index() + 1, || None);
                }
                self.mappings[region.index()] = Some(Arc::new(mapping));
                true
            }
            Err(error @ MappingError::AddressTaken { .. }) => {
                tracing::debug!(region = spec.name.as_str(), %error, "asking for another address");
                false
            }
            Err(error) => {
                tracing::error!(region = spec.name.as_str(), %error, "a region cannot be mapped");
                false
            }
        }
    }
}

fn failed_apart(outcome: pagemesh_protocol::Outcome) -> Result<pagemesh_protocol::Outcome, CallFailure> {
    match outcome {
        pagemesh_protocol::Outcome::Failed(failure) => Err(CallFailure::Failed(failure)),
        outcome => Ok(outcome),
    }
}

/// Queues a message without payload. A link that has ended is reported to whoever receives, and from there to the engine.
pub(super) fn enqueue(switch: &Switch, view: View, to: NodeId, message: &Message) {
    let mut bytes = [0; Message::MAX_BYTES];
    let length = message.encode(view, &mut bytes);
    let _ = switch.enqueue(to.get(), &bytes[..length], &[]);
}
