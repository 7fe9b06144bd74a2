//! What arrives: handled by whichever thread receives, or put aside for the service thread.

use super::shard::{Load, Shard};
use super::trace::Stage;
use super::{Departure, Runtime, lock};
use crate::DepartureKind;
use crate::stats::count;
use pagemesh_memory::Diff;
use pagemesh_net::{LinkLoss, Receiver, Reject, Source};
use pagemesh_protocol::limits::PIECE_BYTES;
use pagemesh_protocol::{Access, Actions, Engine, Hint, Message, NodeId, PageAddress, Payload, Run, View};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Events that a thread in a fault handler must not handle: they map memory, allocate or log.
#[derive(Debug)]
pub(super) struct Cold {
    events: Mutex<VecDeque<ColdEvent>>,
}

/// Room before the queue has to allocate: more than all peers can have under way in honest use.
const COLD_EVENTS: usize = 1024;
/// Beyond this a peer floods; it is dropped.
const COLD_EVENTS_MOST: usize = 64 * COLD_EVENTS;

/// How long a thread that was given a page may take to touch it, where another node wants the page already. It has left
/// its wait by then and needs a microsecond, if it gets a processor.
const FIRST_TOUCH: Duration = Duration::from_micros(15);

/// How late a sleep of the service thread may end; the kernel's default of 50 us would be most of it (`PR_SET_TIMERSLACK`,
/// prctl(2)).
const TIMER_SLACK: u64 = 1000;

/// How soon the service thread looks again whether the last call that has the mapping of a region which is gone has ended.
const AWAIT_LAST_USE: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum ColdEvent {
    Message(NodeId, View, Message),
    Lost(NodeId, LinkLoss),
}

impl Default for Cold {
    fn default() -> Cold {
        Cold { events: Mutex::new(VecDeque::with_capacity(COLD_EVENTS)) }
    }
}

impl Cold {
    fn push(&self, event: ColdEvent) -> bool {
        let mut events = lock(&self.events);
        if events.len() >= COLD_EVENTS_MOST && matches!(event, ColdEvent::Message(..)) {
            return false;
        }
        events.push_back(event);
        true
    }

    fn pop(&self) -> Option<ColdEvent> {
        lock(&self.events).pop_front()
    }
}

/// Handles what arrives, on whichever thread receives.
pub(super) struct Receiving<'a> {
    pub(super) runtime: &'a Runtime,
    /// Held from one message to the next while something is put off.
    pub(super) shard: Option<MutexGuard<'a, Shard>>,
}

impl<'a> Receiving<'a> {
    pub(super) fn new(runtime: &'a Runtime) -> Receiving<'a> {
        Receiving { runtime, shard: None }
    }

    /// The shard that decides about `page`. What was put off in another is done.
    pub(super) fn shard_of(&mut self, page: PageAddress) -> MutexGuard<'a, Shard> {
        let runtime = self.runtime;
        if let Some(mut held) = self.shard.take() {
            if held.place() == runtime.shards.place_of(page) {
                return held;
            }
            held.catch_up(runtime);
        }
        runtime.shards.of(page)
    }

    /// The shard that handles `message`. What was put off in another is done, and what was written is found before a release. `None`
    /// after the end.
    fn shard_for(&mut self, message: &Message) -> Option<MutexGuard<'a, Shard>> {
        let (runtime, page) = (self.runtime, message.page());
        let place = page.map_or(0, |page| runtime.shards.place_of(page));
        let releases = place == 0 && Engine::may_release(message);
        if let Some(mut held) = self.shard.take() {
            if held.place() == place && !releases {
                return Some(held);
            }
            held.catch_up(runtime);
        }
        if !releases {
            return Some(page.map_or_else(|| runtime.shards.first(), |page| runtime.shards.of(page)));
        }
        let shard = runtime.look_and_lock()?;
        // Its region may have been mapped meanwhile.
        let other = page.filter(|page| runtime.shards.place_of(*page) != 0);
        let Some(page) = other else { return Some(shard) };
        drop(shard);
        Some(runtime.shards.of(page))
    }
}

impl Receiver for Receiving<'_> {
    fn on_frame(&mut self, peer: u16, message: &[u8], payload: &[u8]) -> Result<(), Reject> {
        self.runtime.tracing.mark(Stage::Await);
        if Run::is_one(message) {
            return self.on_requests(peer, message, payload);
        }
        let (view, message) = Message::decode(message).map_err(|error| Reject::from(error.to_string()))?;
        let load = load(&message, payload)?;
        let from = NodeId::new(peer);
        if message.is_cold() {
            if !self.runtime.cold.push(ColdEvent::Message(from, view, message)) {
                return Err(Reject::from("too many requests for regions at a time"));
            }
            self.runtime.switch.wake_service();
            return Ok(());
        }
        let Some(mut shard) = self.shard_for(&message).filter(|shard| !shard.is_closed()) else {
            return Ok(());
        };
        if let Message::PageRequest { page, .. } = message {
            if shard.engine.is_busy(page) {
                count(&self.runtime.counters.requests_queued);
            } else if shard.engine.page_state(page).allows(Access::Read)
                && let Some(mapping) = shard.mapping_of(page.region)
                && page.page < mapping.pages()
            {
                // What is likely to be sent comes from memory while the engine decides.
                mapping.service().expect_to_read(page.page);
            }
        }
        if let Message::Hint { step: Hint::Miss, .. } = message {
            count(&self.runtime.counters.owner_hints_wrong);
        }
        let handled = shard.handle(self.runtime, load, (from, view), &message);
        self.shard = (!shard.put_off.is_empty()).then_some(shard);
        self.runtime.tracing.mark(Stage::Grant);
        handled.map_err(|violation| Reject::from(violation.to_string()))
    }

    fn on_long(
        &mut self,
        peer: u16,
        message: &[u8],
        part: Range<usize>,
        source: Source<'_>,
    ) -> Result<usize, LinkLoss> {
        self.on_pages(peer, message, &part, source)
    }

    fn on_pause(&mut self) {
        if let Some(mut shard) = self.shard.take() {
            shard.catch_up(self.runtime);
            drop(shard);
            self.runtime.tracing.mark(Stage::Grant);
        }
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        self.runtime.cold.push(ColdEvent::Lost(NodeId::new(peer), why));
        self.runtime.switch.wake_service();
    }
}

/// What came with `message`, checked.
fn load<'a>(message: &Message, payload: &'a [u8]) -> Result<Load<'a>, Reject> {
    match message.payload() {
        Payload::None if payload.is_empty() => Ok(Load::Nothing),
        Payload::None => Err(Reject::from("bytes come with what says so, and with nothing else")),
        Payload::Page => {
            payload.try_into().map(Load::Page).map_err(|_| Reject::from("Data comes with one page"))
        }
        Payload::Bytes(length) if payload.len() == length => Ok(Load::Bytes(payload)),
        Payload::Bytes(_) => Err(Reject::from("a range comes with as many bytes as it says")),
        Payload::Piece if payload.len() <= PIECE_BYTES && !payload.is_empty() => Ok(Load::Bytes(payload)),
        Payload::Piece => Err(Reject::from("a piece has 1 to 4096 bytes")),
        Payload::Diff if payload.is_empty() => Ok(Load::Diff(None)),
        Payload::Diff => {
            let diff = Diff::parse(payload).map_err(|error| Reject::from(error.to_string()))?;
            Ok(Load::Diff(Some(diff)))
        }
    }
}

/// The service thread: receives when no thread of the application waits, and handles what they put aside.
pub(super) fn serve(runtime: &Runtime, nice: Option<i32>) {
    let has = crate::priority::set_own(nice);
    tracing::debug!(nice = has, "the service thread runs");
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK)) {
        tracing::debug!(%error, "short sleeps will take longer");
    }
    let mut receiver = Receiving::new(runtime);
    while !runtime.stopping.load(Ordering::SeqCst) {
        while let Some(event) = runtime.cold.pop() {
            handle(runtime, event);
            // Before the next event: it may want the addresses.
            let retired = std::mem::take(&mut *lock(&runtime.retired));
            drop(retired);
        }
        let postponed = runtime.postponed.swap(0, Ordering::SeqCst);
        if postponed != 0 {
            // To wake this thread may have put it in the place of the very thread that is to touch the page.
            std::thread::sleep(FIRST_TOUCH);
            runtime.end_postponing(postponed);
        }
        let again = runtime.free_forgotten().then_some(AWAIT_LAST_USE);
        let until_deadline = runtime.expire_pins();
        let until_deadline = again.into_iter().chain(until_deadline).min();
        if let Err(error) = runtime.switch.wait_service(until_deadline, &mut receiver) {
            tracing::error!(%error, "cannot wait for the peers any more; treating them all as lost");
            runtime.switch.close_all();
            for peer in (0..runtime.nodes).filter(|peer| *peer != runtime.node.get()) {
                lose(runtime, NodeId::new(peer), &LinkLoss::Io(error.kind()));
            }
            return;
        }
    }
}

fn handle(runtime: &Runtime, event: ColdEvent) {
    // This node has left: what the others do now, and whether they said so, is no news.
    if runtime.shards.first().is_closed() {
        return;
    }
    match event {
        ColdEvent::Message(from, view, message) => {
            let of_holds = matches!(message, Message::HoldQuery { .. } | Message::HoldReply { .. });
            let event = |engine: &mut Engine, out: &mut Actions| engine.on_message(from, view, &message, out);
            let handled = if of_holds { runtime.quiet_event(event) } else { runtime.event(event) };
            if of_holds && matches!(handled, Some(Ok(()))) {
                runtime.hear_of_holds(from, &message);
            }
            let refused = handled.and_then(Result::err);
            if let Some(violation) = refused {
                tracing::warn!(%violation, "dropping a peer");
                runtime.switch.close(from.get());
            }
        }
        ColdEvent::Lost(node, why) => lose(runtime, node, &why),
    }
}

fn lose(runtime: &Runtime, node: NodeId, why: &LinkLoss) {
    let how = {
        let mut departures = lock(&runtime.departures);
        let left = departures.said_goodbye.contains(node);
        let how = if left { DepartureKind::Left } else { DepartureKind::Died };
        departures.how[node.index()] = Some(how);
        how
    };
    match how {
        DepartureKind::Left => tracing::debug!(%node, "a node has left"),
        DepartureKind::Died => {
            count(&runtime.counters.nodes_lost);
            tracing::warn!(%node, %why, "a node is lost");
        }
    }
    let lost = |engine: &mut Engine, out: &mut Actions| engine.on_peer_lost(node, out);
    runtime.part_event(lost);
    runtime.event(lost);
    runtime.questions.lose(node);
    lock(&runtime.departures).news.push_back(Departure { node, how });
    runtime.departed.notify_all();
}
