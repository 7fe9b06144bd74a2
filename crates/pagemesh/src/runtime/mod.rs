//! The runtime: joins the engine, the memory and the network, and owns the threads' waiting.
//!
//! Everything that changes coherence state happens under the shard's lock: an event is given to the engine, and its actions
//! are performed before the lock is released, sends by queueing them. So what one event decided is never overtaken by
//! what the next did. Nobody touches an app view, waits, or makes a system call that can block while holding that lock.
//!
//! A thread that waits receives for the whole node (the leader of [`pagemesh_net::Switch`]); with the service thread it takes
//! turns at [`receive::Receiving`]. What may allocate or map memory is put aside for the service thread, since a leader
//! may be inside a fault handler.

mod ahead;
mod atomics;
mod broadcast;
mod calls;
mod entry;
mod failure;
mod holds;
mod looks;
mod objects;
mod pins;
mod receive;
mod rings;
mod runs;
mod sends;
mod shard;
mod shards;
mod system_calls;
mod together;
mod trace;
mod twins;
mod unit;

use crate::config::FOREVER;
use crate::holders::Awaited;
use crate::stats::{Counters, TakenPages, count};
use crate::{
    Config, Departure, DepartureKind, JoinError, NodeId, OwnerHints, PageState, Region, RegionError, Stats,
    SyncError,
};
pub(crate) use atomics::change_here;
pub(crate) use broadcast::Part;
use calls::{Call, Calls};
pub(crate) use failure::CallFailure;
use failure::Failures;
pub(crate) use objects::Woken;
use pagemesh_memory::{
    Chosen, Fault, FaultSink, KeptFromChildren, Mapping, MappingOptions, PageRange, RegionKey, Resolution,
    process_generation,
};
use pagemesh_net::{JoinOptions, LinkKind, Switch};
use pagemesh_protocol::{
    Access, Actions, BarrierId, Division, Engine, EngineConfig, Failure, LockId, Message, NodeSet, Outcome,
    PageAddress, Placement, RegionId, RegionSpec, SyncObject, Ticket, limits,
};
use receive::{Cold, Receiving};
use shard::{Besides, Load, Shard};
use shards::{Along, Shards};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub use trace::FaultTrace;
use trace::{Stage, Tracing};

/// Pages that a prefetch has under way at a time: more gain nothing in throughput, and it leaves tickets to others.
const AT_A_TIME: usize = 64;

/// With more than this in a queue to a peer, no thread begins what may send as much again as [`limits::TWINS`] diffs: a queue that
/// is full ends the link.
const ROOM_BYTES: usize = 4 << 20;

/// Nodes that are gone.
#[derive(Debug)]
struct Departures {
    how: Vec<Option<DepartureKind>>,
    /// Said goodbye; the connection may still stand.
    said_goodbye: NodeSet,
    /// Not yet returned by [`Runtime::wait_departure`].
    news: VecDeque<Departure>,
}

/// A node's engine, memory and network in one.
pub(crate) struct Runtime {
    /// Which process joined; a forked child has a copy of everything but the threads.
    process: u32,
    /// As [`pagemesh_memory::process_generation`] was: tells the same without a system call.
    generation: u32,
    /// The connections: they are to end with this process, whatever children it has. Goes before the switch.
    _kept_from_children: Vec<KeptFromChildren>,
    node: NodeId,
    nodes: u16,
    fault_timeout: Duration,
    wait_timeout: Duration,
    reads_ahead: bool,
    /// Whether the kernel is to note which pages of release regions are written, where it can.
    tracks_writes: bool,
    pager: Chosen,
    /// What the link to each node is.
    links: Vec<Option<LinkKind>>,
    switch: Switch,
    shards: Shards,
    calls: Calls,
    counters: Counters,
    tracing: Tracing,
    /// What the network had counted when counting began anew.
    traffic_before: Mutex<Stats>,
    taken: TakenPages,
    cold: Cold,
    departures: Mutex<Departures>,
    departed: Condvar,
    failures: Mutex<Failures>,
    /// Mappings that are to be dropped where no lock is held.
    retired: Mutex<Vec<Arc<Mapping>>>,
    /// Regions that are gone, with their mappings, until the service thread has freed their addresses.
    forgotten: Mutex<Vec<(RegionId, Option<Arc<Mapping>>)>>,
    /// Regions that stay open here until others are gone, each after the one that it stays for.
    companions: Mutex<Vec<(RegionId, RegionId)>>,
    /// In which shards demands wait until threads have touched the pages that they were given, a bit for each.
    postponed: AtomicU64,
    pinning: pins::Pinning,
    ranges: Mutex<entry::Ranges>,
    broadcast: broadcast::Broadcast,
    questions: holds::Questions,
    stopping: AtomicBool,
    service: Mutex<Option<JoinHandle<()>>>,
}

/// A lock that is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Proves it.
    pub(crate) ticket: Ticket,
    /// The node that was lost with it, if this is the first to have it since.
    pub(crate) left_by: Option<Departure>,
}

impl Departures {
    fn new(nodes: u16) -> Departures {
        Departures {
            how: vec![None; nodes as usize],
            said_goodbye: NodeSet::EMPTY,
            news: VecDeque::with_capacity(nodes as usize),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime {
    pub(crate) fn start(config: Config) -> Result<Arc<Runtime>, JoinError> {
        // PAGEMESH_PAGER holds for every start that does not name a pager itself.
        let asked = config.pager.map_or_else(Config::pager_from_env, |pager| Ok(Some(pager)))?;
        let pager = pagemesh_memory::choose(asked)?;
        let tracks_writes = config.track_writes.map_or_else(Config::track_writes_from_env, Ok)?;
        let shards = config.shards.map_or_else(Config::shards_from_env, Ok)?;
        let transport = config.transport.map_or_else(Config::transport_from_env, Ok)?;
        let joined = pagemesh_net::join(JoinOptions {
            node: config.node,
            nodes: config.nodes,
            coordinator: config.coordinator,
            listener: config.listener,
            listen_address: config.listen_address,
            listen_port: config.listen_port,
            timeout: config.join_timeout,
            lease: config.lease,
            transport,
            rings: Some(Arc::new(rings::Rings::new(config.nodes))),
        })?;
        let setup = |source| JoinError::Setup { node: config.node, source };
        let switch = Switch::with_rings(config.node, joined.streams, joined.rings).map_err(setup)?;
        switch.set_packing(config.packing);
        switch.set_muting(pagemesh_memory::set_low_mark);
        match config.spin {
            Some(spin) => {
                switch.set_spin(spin);
                switch.set_service_spin(spin);
            }
            None => switch.learn_spin(),
        }
        // Before the generation is asked for.
        let kept = switch.descriptors().filter_map(KeptFromChildren::new).collect();
        let node = NodeId::new(config.node);
        let bounds = EngineConfig::new(node, config.nodes);
        let bounds = EngineConfig {
            lend_after: config.lend_after,
            foresees: config.foresight,
            updates: config.updates,
            hint_patience: config.owner_hints.patience(),
            ..bounds
        };
        let division = Division::among(shards);
        let runtime = Arc::new_cyclic(|this| Runtime {
            process: std::process::id(),
            generation: process_generation(),
            _kept_from_children: kept,
            node,
            nodes: config.nodes,
            fault_timeout: config.fault_timeout,
            wait_timeout: config.wait_timeout,
            reads_ahead: config.reads_ahead,
            tracks_writes,
            pager,
            links: joined.kinds,
            switch,
            shards: Shards::new(division, |place| {
                let engine = Engine::part(bounds, place as u16, division.engines());
                Shard::new(place, engine, this.clone())
            }),
            calls: Calls::new(limits::TICKETS),
            counters: Counters::default(),
            tracing: Tracing::default(),
            traffic_before: Mutex::default(),
            taken: TakenPages::default(),
            cold: Cold::default(),
            departures: Mutex::new(Departures::new(config.nodes)),
            departed: Condvar::new(),
            failures: Mutex::default(),
            retired: Mutex::default(),
            forgotten: Mutex::default(),
            companions: Mutex::default(),
            postponed: AtomicU64::new(0),
            pinning: pins::Pinning::new(config.pin_deadline, division.engines()),
            ranges: Mutex::default(),
            broadcast: broadcast::Broadcast::default(),
            questions: holds::Questions::default(),
            stopping: AtomicBool::new(false),
            service: Mutex::new(None),
        });
        probe_memory(&runtime)?;
        let serving = runtime.clone();
        let nice = config.service_nice;
        let thread = std::thread::Builder::new()
            .name("pagemesh".to_owned())
            .spawn(move || receive::serve(&serving, nice))
            .map_err(setup)?;
        *lock(&runtime.service) = Some(thread);
        Ok(runtime)
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn nodes(&self) -> u16 {
        self.nodes
    }

    pub(crate) fn pager(&self) -> &Chosen {
        &self.pager
    }

    /// What the link to `node` is; `None` for this node, and where there is no such node.
    pub(crate) fn link(&self, node: NodeId) -> Option<LinkKind> {
        self.links.get(node.index()).copied().flatten()
    }

    /// Whether this is a copy in a forked child, of which nothing works: no lock is taken then, since the thread that holds
    /// it may be in the parent.
    fn is_inherited(&self) -> bool {
        process_generation() != self.generation
    }

    /// Waits until there is room for what an event may send, or until `deadline`. A child of a node sends nothing, and its parent may have been
    /// in the middle of it.
    fn wait_room(&self, deadline: Instant) {
        if !self.is_inherited() {
            self.switch.wait_room(ROOM_BYTES, deadline);
        }
    }

    pub(crate) fn page_state(&self, page: PageAddress) -> PageState {
        if self.is_inherited() {
            return PageState::Invalid;
        }
        self.shards.of(page).engine.page_state(page)
    }

    pub(crate) fn use_owner_hints(&self, region: RegionId, hints: OwnerHints) {
        for place in 0..self.shards.count() {
            self.place_event(place, |engine, _| engine.set_hint_patience(region, hints.patience()));
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let before = *lock(&self.traffic_before);
        self.all_stats().without_traffic(&before)
    }

    pub(crate) fn reset_stats(&self) {
        let mut before = lock(&self.traffic_before);
        self.counters.reset();
        *before = self.all_stats();
    }

    fn all_stats(&self) -> Stats {
        let mut stats = self.counters.snapshot();
        stats.sends_blocked = self.switch.counters_total().sends_blocked;
        for peer in 0..self.nodes {
            let link = self.switch.counters(peer);
            stats.messages_sent += link.frames_out;
            stats.messages_received += link.frames_in;
            stats.bytes_sent += link.bytes_out;
            stats.bytes_received += link.bytes_in;
            stats.bytes_saved += link.bytes_saved;
        }
        stats
    }

    pub(crate) fn trace_faults(&self, on: bool) {
        self.tracing.switch(on);
    }

    pub(crate) fn last_fault(&self) -> FaultTrace {
        self.tracing.last_fault()
    }

    /// Gives the engine an event that may be a release, and performs what it asks for. `None` after the end.
    fn event<R>(&self, event: impl FnOnce(&mut Engine, &mut Actions) -> R) -> Option<R> {
        if self.is_inherited() {
            return None;
        }
        Some(self.look_and_lock()?.run(self, Load::Nothing, event))
    }

    /// The same for an event that never is one.
    fn quiet_event<R>(&self, event: impl FnOnce(&mut Engine, &mut Actions) -> R) -> Option<R> {
        if self.is_inherited() {
            return None;
        }
        let mut shard = self.shards.first();
        (!shard.is_closed()).then(|| shard.run(self, Load::Nothing, event))
    }

    /// Starts a call and waits for its outcome.
    fn call(
        &self,
        timeout: Duration,
        start: impl FnOnce(&mut Engine, Ticket, &mut Actions),
    ) -> Result<Outcome, CallFailure> {
        self.call_by(timeout, |ticket| self.event(|engine, out| start(engine, ticket, out)))
    }

    /// `begin` gives the engine a call's first event, unless all is over.
    fn call_by(
        &self,
        timeout: Duration,
        begin: impl FnOnce(Ticket) -> Option<()>,
    ) -> Result<Outcome, CallFailure> {
        let deadline = Instant::now() + timeout.min(FOREVER);
        self.wait_room(deadline);
        let call = self.calls.claim(deadline).ok_or(CallFailure::TimedOut(timeout))?;
        begin(call.ticket()).ok_or(CallFailure::Closed)?;
        self.finish_call(&call, deadline, timeout)
    }

    /// Waits for the outcome of a call that was started; gives it up at the deadline.
    fn finish_call(
        &self,
        call: &Call<'_>,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Outcome, CallFailure> {
        if self.wait(call, deadline) {
            return call.take_result();
        }
        // A result that came meanwhile is as good as one in time.
        let give_up = |engine: &mut Engine, out: &mut Actions| {
            if !call.is_over() {
                engine.on_cancel(call.ticket(), out);
            }
        };
        self.part_event(give_up);
        self.event(give_up);
        self.switch.flush();
        if call.is_over() {
            return call.take_result();
        }
        count(&self.counters.timeouts);
        Err(CallFailure::TimedOut(timeout))
    }

    /// Waits until `call` is over: as the leader, who receives for the whole node, or asleep while another thread does. False
    /// when the deadline passed.
    fn wait(&self, call: &Call<'_>, deadline: Instant) -> bool {
        loop {
            if call.is_over() {
                self.switch.flush();
                return true;
            }
            let mut left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let Some(mut leader) = self.switch.try_lead() else {
                self.switch.flush();
                call.sleep(left);
                continue;
            };
            self.tracing.mark(Stage::Lead);
            let mut receiver = Receiving::new(self);
            while call.lead() && !left.is_zero() {
                if leader.receive(Some(left), &mut receiver).is_err() || call.is_over() {
                    break;
                }
                left = deadline.saturating_duration_since(Instant::now());
            }
            call.follow();
        }
    }

    /// Gets the right to `access` a page, as a fault would. The last thing before the caller touches it: from now on others may
    /// have it.
    pub(crate) fn acquire(&self, page: PageAddress, access: Access) -> Result<(), CallFailure> {
        self.acquire_from(Instant::now(), page, access)
    }

    /// As [`acquire`](Runtime::acquire), for a caller who has looked at the clock.
    fn acquire_from(&self, now: Instant, page: PageAddress, access: Access) -> Result<(), CallFailure> {
        if access == Access::Write
            && let Some(granted) = self.write_at_once(page)
        {
            return granted;
        }
        let timeout = self.fault_timeout;
        let deadline = now + timeout;
        self.wait_room(deadline);
        let call = self.calls.claim(deadline).ok_or(CallFailure::TimedOut(timeout))?;
        let ticket = call.ticket();
        self.fault(ticket, page, access).ok_or(CallFailure::Closed)?;
        if call.is_over() {
            count(&self.counters.faults_resolved_here);
        }
        self.tracing.mark(Stage::Decide);
        let got = self.finish_call(&call, deadline, timeout);
        self.tracing.mark(Stage::Rearm);
        self.page_event(page, |engine, out| engine.on_resumed(ticket, out));
        self.tracing.mark(Stage::Resume);
        got.map(|_| ())
    }

    /// Gets the right to write `page` if this node can have it without a word to others: then nothing is waited for, so there is no
    /// call, and one step of the engine. `None` where it takes more, and nothing was done.
    fn write_at_once(&self, page: PageAddress) -> Option<Result<(), CallFailure>> {
        if self.is_inherited() {
            return None;
        }
        let granted = self.shards.of(page).write_at_once(self, page)?;
        count(&self.counters.faults_resolved_here);
        self.tracing.mark(Stage::Decide);
        Some(if granted { Ok(()) } else { Err(CallFailure::Mapping) })
    }

    /// Tells the engine of a fault, and asks for what its thread is likely to read next. `None` after the end.
    fn fault(&self, ticket: Ticket, page: PageAddress, access: Access) -> Option<()> {
        if self.is_inherited() {
            return None;
        }
        let mut shard = self.shards.of(page);
        if shard.is_closed() {
            return None;
        }
        let besides = shard.fault(self, ticket, page, access);
        drop(shard);
        match besides {
            Some(Besides::Unit(rest)) => self.ask_for_unit(rest),
            Some(Besides::Ahead(rest, access)) => {
                let mut shard = self.shards.of(rest.first());
                if !shard.is_closed() {
                    shard.go_on_ahead(self, rest, access);
                }
            }
            None => {}
        }
        Some(())
    }

    /// `pages` are asked for by name: they are mapped as soon as they are here.
    fn ask_for(&self, pages: impl Iterator<Item = PageAddress>) {
        if self.reads_ahead && !self.is_inherited() {
            let mut shards = Along::new(&self.shards);
            pages.for_each(|page| shards.at(page).forget_ahead(page));
        }
    }

    /// Gets the right to `access` all of `pages`, with many requests under way at a time. Stops at the first that cannot be had.
    pub(crate) fn acquire_many(
        &self,
        mut pages: impl Iterator<Item = PageAddress>,
        access: Access,
    ) -> Result<(), (PageAddress, CallFailure)> {
        loop {
            let deadline = Instant::now() + self.fault_timeout;
            let mut waiting = Vec::with_capacity(AT_A_TIME);
            for page in pages.by_ref().take(AT_A_TIME) {
                let timed_out = (page, CallFailure::TimedOut(self.fault_timeout));
                waiting.push((page, self.calls.claim(deadline).ok_or(timed_out)?));
            }
            let Some((first, _)) = waiting.first() else { return Ok(()) };
            self.ask_for(waiting.iter().map(|(page, _)| *page));
            for together in waiting.chunk_by(|one, next| self.is_of_one_shard(one.0, next.0)) {
                self.page_event(together[0].0, |engine, out| {
                    for (page, call) in together {
                        engine.on_prefetch(call.ticket(), *page, access, out);
                    }
                })
                .ok_or((*first, CallFailure::Closed))?;
            }
            let asked = waiting.iter().filter(|(_, call)| !call.is_over()).count();
            self.counters.pages_prefetched.fetch_add(asked as u64, Ordering::Relaxed);
            let mut outcome = Ok(());
            // The last first: when it is here the others mostly are, and none of them is waited for by itself.
            for (page, call) in waiting.iter().rev() {
                let got = self.finish_call(call, deadline, self.fault_timeout);
                outcome = got.map(|_| ()).map_err(|failed| (*page, failed)).and(outcome);
            }
            outcome?;
        }
    }

    /// Gives copies back to their homes, as far as nobody needs them.
    pub(crate) fn evict(&self, mut pages: impl Iterator<Item = PageAddress>) {
        let mut next = pages.next();
        while let Some(first) = next {
            self.wait_room(Instant::now() + self.fault_timeout);
            next = None;
            let mut left = AT_A_TIME;
            self.page_event(first, |engine, out| {
                engine.on_evict(first, out);
                for page in pages.by_ref() {
                    left -= 1;
                    if left == 0 || !self.is_of_one_shard(first, page) {
                        next = Some(page);
                        break;
                    }
                    engine.on_evict(page, out);
                }
            });
            self.switch.flush();
        }
    }

    /// Why a recoverable access could not have `page`: what its fault found or, when that was overwritten since, what asking
    /// again finds. `Ok` when the page can be had after all.
    pub(crate) fn explain(&self, page: PageAddress, access: Access) -> Result<(), CallFailure> {
        if self.is_inherited() {
            return Err(CallFailure::Closed);
        }
        let known = lock(&self.failures).take(page);
        // It may be what another thread of this node was told that asked for more.
        let others = matches!(known, Some(CallFailure::Failed(_))) && self.page_state(page).allows(access);
        known.filter(|_| !others).map_or_else(|| self.acquire(page, access), Err)
    }

    /// The home of a page, asked for where it is not known.
    pub(crate) fn home(&self, page: PageAddress) -> Result<Outcome, CallFailure> {
        self.page_call(page, self.fault_timeout, |engine, ticket, out| {
            engine.on_home_query(ticket, page, out);
        })
    }

    /// The node that a request for `page` goes to: its home, as far as that is known here, else its anchor.
    pub(crate) fn asked_node(&self, page: PageAddress) -> NodeId {
        let known = self.shards.of(page).engine.home(page);
        known.unwrap_or_else(|| Placement::anchor(page.page, self.nodes))
    }

    pub(crate) fn owner(&self, page: PageAddress) -> Result<Outcome, CallFailure> {
        self.page_call(page, self.fault_timeout, |engine, ticket, out| {
            engine.on_owner_query(ticket, page, out);
        })
    }

    /// Waits for the lock, by default as long as is configured.
    pub(crate) fn lock(&self, id: LockId, timeout: Option<Duration>) -> Result<Held, SyncError> {
        if let Some(held) = self.retake(id) {
            return Ok(held);
        }
        let mut held = Ticket::new(0, 0);
        let timeout = timeout.unwrap_or(self.wait_timeout);
        let got = self.call_for(SyncObject::Lock(id), timeout, |engine, ticket, out| {
            held = ticket;
            engine.on_lock_acquire(ticket, id, out);
        });
        self.lock_held(id, held, got)
    }

    /// Takes a lock that this node was the last to have and that nobody wants: without a call, since nothing is to be waited for.
    fn retake(&self, id: LockId) -> Option<Held> {
        let ticket = self.retake_object(SyncObject::Lock(id), Access::Write, |engine, ticket| {
            engine.on_lock_retake(ticket, id)
        })?;
        count(&self.counters.lock_acquires);
        Some(Held { ticket, left_by: None })
    }

    /// Takes the lock if nobody has it; `None` when somebody has.
    pub(crate) fn try_lock(&self, id: LockId) -> Result<Option<Held>, SyncError> {
        if let Some(held) = self.retake(id) {
            return Ok(Some(held));
        }
        let mut held = Ticket::new(0, 0);
        let got = self.call(self.fault_timeout, |engine, ticket, out| {
            held = ticket;
            engine.on_lock_try(ticket, id, out);
        });
        match got {
            Err(CallFailure::Failed(Failure::Busy)) => Ok(None),
            got => self.lock_held(id, held, got).map(Some),
        }
    }

    fn held(
        &self,
        about: impl FnOnce() -> (String, SyncObject, Awaited),
        ticket: Ticket,
        got: Result<Outcome, CallFailure>,
    ) -> Result<Held, SyncError> {
        let outcome = got.map_err(|failed| self.wait_failed(failed, about()))?;
        count(&self.counters.lock_acquires);
        let left_by = match outcome {
            Outcome::OwnerDied(node) => Some(Departure { node, how: self.departure_kind(node) }),
            _ => None,
        };
        Ok(Held { ticket, left_by })
    }

    pub(crate) fn unlock(&self, id: LockId, ticket: Ticket) {
        let object = SyncObject::Lock(id);
        if self.keep_object(object, ticket, |engine| engine.on_lock_keep(ticket, id)) {
            return;
        }
        self.wait_room(Instant::now() + self.fault_timeout);
        if self.event(|engine, out| engine.on_lock_release(ticket, id, out)).is_some() {
            self.hold_ends(object, ticket);
            self.switch.flush();
        }
    }

    pub(crate) fn barrier(
        &self,
        id: BarrierId,
        participants: u32,
        timeout: Option<Duration>,
    ) -> Result<(), SyncError> {
        let (object, timeout) = (SyncObject::Barrier(id), timeout.unwrap_or(self.wait_timeout));
        self.call_for(object, timeout, |engine, ticket, out| {
            engine.on_barrier_arrive(ticket, id, participants, out);
        })
        .map_err(|failed| {
            let awaited = Awaited::Others(participants);
            self.wait_failed(failed, (format!("barrier {}", id.0), object, awaited))
        })?;
        count(&self.counters.barrier_waits);
        Ok(())
    }

    pub(crate) fn open_region(
        self: &Arc<Self>,
        create: bool,
        spec: RegionSpec,
        timeout: Option<Duration>,
    ) -> Result<Region, RegionError> {
        let name = spec.name.as_str();
        let timeout = timeout.unwrap_or(self.fault_timeout);
        let outcome =
            self.call(timeout, |engine, ticket, out| engine.on_region_open(ticket, create, spec, out));
        let closed = || RegionError::Closed { name: name.to_owned() };
        match outcome {
            Ok(Outcome::Region { region, spec }) => {
                let mapping = self.shards.first().mapping(region).ok_or_else(closed)?;
                Ok(Region::opened(self.clone(), mapping, region, spec))
            }
            Ok(_) => unreachable!("a region is opened by being given one"),
            Err(failed) => Err(failed.into_region_error(self, &spec)),
        }
    }

    /// Gives back what [`open_region`](Runtime::open_region) was given. Waits until the coordinator knows, so that who synchronises with this
    /// thread afterwards and opens the region does not meet it because of this node. When it does not answer, it is slow or about to
    /// be lost, and there is nobody to tell.
    pub(crate) fn close_region(&self, region: RegionId) {
        if self.is_inherited() || self.shards.first().is_closed() {
            return;
        }
        let closed =
            self.call(self.fault_timeout, |engine, ticket, out| engine.on_region_close(ticket, region, out));
        if let Err(why) = closed {
            tracing::debug!(
                region = region.0,
                ?why,
                "the coordinator was not heard to count a closed region"
            );
        }
    }

    /// Whether threads of this node have some of the region pinned or locked in a way that outlives their handles of it.
    pub(crate) fn is_region_used(&self, region: RegionId) -> bool {
        !self.is_inherited() && (self.pinning.uses(region) || lock(&self.ranges).uses(region))
    }

    /// Has this node keep an opening of `companion` until `region` is gone, though nobody holds it. False when it keeps one already.
    pub(crate) fn keep_while(&self, region: RegionId, companion: RegionId) -> bool {
        let mut companions = lock(&self.companions);
        let is_new = !companions.contains(&(region, companion));
        if is_new {
            companions.push((region, companion));
        }
        is_new
    }

    /// Closes what was kept for a region that is gone.
    fn close_companions(&self, region: RegionId) {
        let over: Vec<_> = lock(&self.companions).extract_if(.., |(of, _)| *of == region).collect();
        for (_, companion) in over {
            self.event(|engine, out| engine.on_region_abandon(companion, out));
        }
    }

    /// Frees the addresses of regions that are gone, and says so. True when some are still in use by a call that is about to end.
    fn free_forgotten(&self) -> bool {
        let mut kept = Vec::new();
        // Not in the loop's head, which would hold the lock: whoever adds to it has that of the shard.
        let forgotten = std::mem::take(&mut *lock(&self.forgotten));
        for (region, mapping) in forgotten {
            match mapping.map(Arc::try_unwrap) {
                Some(Err(used)) => kept.push((region, Some(used))),
                freed => {
                    drop(freed);
                    // Before: a region that comes next is not to meet them.
                    self.close_companions(region);
                    self.event(|engine, out| engine.on_region_forgotten(region, out));
                }
            }
        }
        let some_left = !kept.is_empty();
        lock(&self.forgotten).append(&mut kept);
        some_left
    }

    pub(crate) fn wait_departure(&self, timeout: Duration) -> Option<Departure> {
        if self.is_inherited() {
            return None;
        }
        let (mut departures, _) = self
            .departed
            .wait_timeout_while(lock(&self.departures), timeout, |departures| departures.news.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        departures.news.pop_front()
    }

    pub(crate) fn departure_kind(&self, node: NodeId) -> DepartureKind {
        let departures = lock(&self.departures);
        let left = departures.said_goodbye.contains(node);
        let seen = if left { DepartureKind::Left } else { DepartureKind::Died };
        departures.how[node.index()].unwrap_or(seen)
    }

    /// Whether some node is gone, and pages may be lost with it.
    pub(crate) fn has_departures(&self) -> bool {
        lock(&self.departures).how.iter().any(Option::is_some)
    }

    pub(crate) fn leave(&self) -> Result<(), SyncError> {
        let left = self.call(self.wait_timeout, Engine::on_leave);
        let left = left.map_err(|failed| failed.into_sync_error(self, "leaving the mesh".to_owned()));
        self.shut_down();
        left.map(|_| ())
    }

    /// Tells the others, closes every connection, ends the service thread and lets go of the mappings. What still waits fails.
    pub(crate) fn shut_down(&self) {
        if std::process::id() != self.process {
            // A forked child: the mesh, its connections and its service thread are the parent's.
            return;
        }
        let mappings = {
            let mut shard = self.shards.first();
            if shard.is_closed() {
                return;
            }
            // What others can use; then the goodbye.
            shard.look(self, u64::MAX);
            shard.run(self, Load::Nothing, Engine::on_farewell);
            // Not the last that have them.
            self.shards.others().for_each(|mut other| drop(other.close()));
            for peer in shard.engine.live().without(self.node).iter() {
                sends::enqueue(&self.switch, shard.engine.view(), peer, &Message::Goodbye);
            }
            shard.close()
        };
        self.switch.flush();
        self.calls.fail_all();
        self.switch.wake_leader();
        self.stopping.store(true, Ordering::SeqCst);
        self.switch.wake_service();
        let thread = lock(&self.service).take();
        if let Some(thread) = thread {
            // A panic of the service thread was reported by the panic hook; there is nothing to add to it here.
            let _ = thread.join();
        }
        self.switch.close_all();
        drop(mappings);
        drop(std::mem::take(&mut *lock(&self.retired)));
        drop(std::mem::take(&mut *lock(&self.forgotten)));
    }
}

/// Maps one page and lets it go: says now, rather than at the first region, what this machine lacks.
fn probe_memory(runtime: &Arc<Runtime>) -> Result<(), JoinError> {
    let options = MappingOptions::new(RegionKey(u32::MAX), 4096).pager(runtime.pager.kind);
    Mapping::new(options, runtime.clone()).map(drop).map_err(JoinError::Memory)
}

impl FaultSink for Runtime {
    fn resolve(&self, fault: Fault) -> Resolution {
        let access = match fault.access {
            pagemesh_memory::Access::Read => Access::Read,
            pagemesh_memory::Access::Write => Access::Write,
        };
        match access {
            Access::Read => count(&self.counters.read_faults),
            Access::Write => count(&self.counters.write_faults),
        }
        let began = Instant::now();
        self.tracing.begin();
        let page = PageAddress::new(RegionId(fault.region.0 as u16), fault.page);
        if self.taken.remove(page) {
            count(&self.counters.pages_regained);
        }
        let resolved = self.acquire_from(began, page, access);
        self.tracing.end();
        self.counters.fault_waited(began.elapsed());
        match resolved {
            Ok(()) => Resolution::Resolved,
            Err(failure) => {
                lock(&self.failures).add(page, failure);
                Resolution::Failed
            }
        }
    }
    fn hold(&self, region: RegionKey, pages: PageRange, access: pagemesh_memory::Access) -> Resolution {
        self.pin_range(region, pages, access)
    }

    fn let_go(&self, region: RegionKey, pages: PageRange, _: pagemesh_memory::Access) -> bool {
        self.unpin_range(region, pages)
    }
}
