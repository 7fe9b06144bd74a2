//! The engine: one node's part in keeping copies coherent, as a state machine.
//!
//! Call order: [`Engine::new`] once; then any `on_*` method in any order. Each appends to the caller's [`Actions`] what is to
//! be performed, in that order, before the next event of this engine is given. A method never waits: a call that cannot
//! be answered now is known by its [`Ticket`] and ends with one [`Action::Complete`].
//!
//! A message to this very node never becomes an action: it is kept aside and handled before the method returns, so
//! that a home treats its own requests exactly as everyone's.
//!
//! A node may have several engines, of which all but the first decide about pages only: `parts.rs`.

mod alone;
mod atomics;
mod barriers;
mod below;
mod coherence;
mod collecting;
mod conditions;
mod departure;
mod directory;
mod entry;
mod evict;
mod first_touch;
mod foresight;
mod gathering;
mod gone;
mod handing;
mod hints;
mod holder;
mod home;
mod kept;
mod lending;
mod load;
mod lock_mending;
mod locks;
mod meetings;
mod migration;
mod naming;
mod notices;
mod objects;
mod pages;
mod parts;
mod pins;
mod planted;
mod questions;
mod queue;
mod regions;
mod release;
mod rwlocks;
mod semaphores;
mod sorted;
mod stamps;
mod tales;
mod tickets;
mod tokens;
mod tracking;
mod unwritten;
mod updates;
mod uses;
#[cfg(feature = "verification")]
mod verification;
mod write_invalidate;

use crate::action::{Action, Actions, Failure, Outcome};
use crate::ids::{
    Access, BarrierId, LockId, NodeId, NodeSet, PageAddress, PageState, RegionId, RequestId, Ticket, View,
};
use crate::limits;
use crate::message::Message;
use crate::region::RegionSpec;
use atomics::Asked;
use meetings::Claim;
use notices::PageRun;
use std::collections::VecDeque;
use tickets::{Purpose, Wait};

pub use load::Load;
pub use pages::{DirectoryEntry, DirectoryState};
pub use pins::{PinHolder, PinId, PinWait};
#[cfg(feature = "verification")]
pub use {planted::Planted, verification::Name};

/// What an engine has to know from the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineConfig {
    /// This node.
    pub node: NodeId,
    /// How many nodes joined; they are numbered from 0.
    pub nodes: u16,
    /// Waiting calls at a time, at most [`limits::TICKETS`].
    pub tickets: usize,
    /// Locks in use at this home, at most [`limits::LOCKS`]; as many reader-writer locks, semaphores and conditions, each.
    pub locks: usize,
    /// Barriers in use at this home, at most [`limits::BARRIERS`].
    pub barriers: usize,
    /// Children of a node in the tree of a barrier, at most [`limits::BARRIER_FAN_MOST`]; a mesh of no more nodes than that has no such
    /// trees. The same on all nodes.
    pub barrier_fan: u16,
    /// Barriers of this home that are gathered in a tree, at most [`limits::GATHERED_BARRIERS`].
    pub gathered: usize,
    /// Pinned pages of this node, at most [`limits::PINS`].
    pub pins: usize,
    /// Diffs of a page by one node alone after which this node, as the page's home, lends it the page, at most
    /// [`limits::LEND_AFTER_MOST`]; with 0 it lends and borrows nothing.
    pub lend_after: u32,
    /// How often this node, as the home of reader-writer locks, leaves some with others at a time, at most
    /// [`limits::RWLOCKS_LEFT`]; with 0 every taker asks it.
    pub rwlocks_left: usize,
    /// Whether this node expects of its threads in release regions what they did before, and fetches pages before they ask.
    pub foresees: bool,
    /// Whether this node, in release regions, follows pages that it fetches again after every notice, and sends to followers what is
    /// written here.
    pub updates: bool,
    /// Wrong hints in a row, in one region, after which this node uses none there for a while; with 0 it never asks the owner of a page in place
    /// of its home, and with 255 it always does when it knows one.
    pub hint_patience: u8,
}

impl EngineConfig {
    /// The bounds of [`limits`] for `node` of `nodes`.
    pub const fn new(node: NodeId, nodes: u16) -> EngineConfig {
        EngineConfig {
            node,
            nodes,
            tickets: limits::TICKETS,
            locks: limits::LOCKS,
            barriers: limits::BARRIERS,
            barrier_fan: limits::BARRIER_FAN,
            gathered: limits::GATHERED_BARRIERS,
            pins: limits::PINS,
            lend_after: limits::LEND_AFTER,
            rwlocks_left: limits::RWLOCKS_LEFT,
            foresees: false,
            updates: false,
            hint_patience: 0,
        }
    }
}

/// A message that no well-behaved peer sends. Its sender is to be dropped; the engine is as it was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("node {from} broke the protocol: {what}; its message was {message:?}")]
pub struct Violation {
    /// The sender.
    pub from: NodeId,
    /// What is wrong.
    pub what: &'static str,
    /// What it sent.
    pub message: Message,
}

/// What is wrong with a message; the caller adds who and which.
type Handled = Result<(), &'static str>;

/// One node's coherence state machine; the module's text says how to drive it.
#[derive(Clone, Debug)]
pub struct Engine {
    config: EngineConfig,
    view: View,
    /// Members of the view that were not lost since.
    live: NodeSet,
    /// Members that are done with the shared memory.
    leaving: NodeSet,
    tickets: tickets::Tickets,
    pages: pages::Pages,
    coherence: coherence::Coherence,
    uses: uses::Uses,
    hints: hints::Hints,
    release: release::Release,
    pins: pins::Pins,
    locks: locks::Locks,
    tokens: tokens::Tokens,
    barriers: barriers::Barriers,
    gatherings: gathering::Gatherings,
    rwlocks: rwlocks::RwLocks,
    kept: kept::KeptLocks,
    hands: handing::Hands,
    semaphores: semaphores::Semaphores,
    conditions: conditions::Conditions,
    entry: entry::Entry,
    meetings: meetings::Meetings,
    agreements: regions::Agreements,
    loopback: VecDeque<Message>,
    #[cfg(feature = "verification")]
    planted: Option<planted::Planted>,
}

impl Engine {
    /// An engine of the first view, in which all nodes are alive.
    ///
    /// # Panics
    /// When the configuration is beyond [`limits`] or the node is not one of the nodes.
    pub fn new(config: EngineConfig) -> Engine {
        Engine::numbered(config, (0, 1))
    }

    /// As `new`, for engine number `part` of `parts`.
    fn numbered(config: EngineConfig, (part, parts): (u16, u16)) -> Engine {
        assert!(config.nodes as usize <= limits::NODES, "at most {} nodes", limits::NODES);
        assert!(config.node.get() < config.nodes, "node {} of {}", config.node, config.nodes);
        assert!(config.tickets <= limits::TICKETS && config.locks <= limits::LOCKS);
        assert!(config.barriers <= limits::BARRIERS && config.pins <= limits::PINS);
        assert!((1..=limits::BARRIER_FAN_MOST).contains(&config.barrier_fan));
        assert!(config.gathered <= limits::GATHERED_BARRIERS);
        assert!(config.lend_after <= limits::LEND_AFTER_MOST && config.rwlocks_left <= limits::RWLOCKS_LEFT);
        Engine {
            config,
            view: View::FIRST,
            live: NodeSet::first(config.nodes as usize),
            leaving: NodeSet::EMPTY,
            tickets: tickets::Tickets::new(config.tickets),
            pages: pages::Pages::new(config.node, config.nodes, config.hint_patience),
            coherence: coherence::Coherence::new(config, (part, parts)),
            uses: uses::Uses::new(config),
            hints: hints::Hints::new(),
            release: release::Release::new(config),
            pins: pins::Pins::new(config),
            locks: locks::Locks::new(config),
            tokens: tokens::Tokens::new(config),
            barriers: barriers::Barriers::new(config),
            gatherings: gathering::Gatherings::new(config),
            rwlocks: rwlocks::RwLocks::new(config),
            kept: kept::KeptLocks::new(config),
            hands: handing::Hands::new(config),
            semaphores: semaphores::Semaphores::new(config),
            conditions: conditions::Conditions::new(config),
            entry: entry::Entry::new(),
            meetings: meetings::Meetings::new(config),
            agreements: regions::Agreements::default(),
            loopback: VecDeque::with_capacity(limits::LOOPBACK),
            #[cfg(feature = "verification")]
            planted: None,
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.config.node
    }

    /// The membership that messages are stamped with.
    pub fn view(&self) -> View {
        self.view
    }

    /// Members of the view that were not lost.
    pub fn live(&self) -> NodeSet {
        self.live
    }

    /// The state of this node's copy; `Invalid` for a page that does not exist.
    pub fn page_state(&self, page: PageAddress) -> PageState {
        self.pages.local(page).map_or(PageState::Invalid, |local| local.state)
    }

    /// Whether the bytes of `page` that answer `request` may be put in the place of the page before the engine is given their
    /// [`Message::Data`]: it is awaited, nobody here may use the page until then, and what lies there is nobody's copy. Where homes
    /// merge what many nodes wrote, it never is so.
    pub fn awaits_bytes(&self, page: PageAddress, request: RequestId, access: Access) -> bool {
        !self.is_gone(page.region) && self.bytes_are_awaited(page, request, access) && !self.is_release(page)
    }

    /// Whether this node has asked for `page` and waits for the answer.
    pub fn is_asked_for(&self, page: PageAddress) -> bool {
        self.pages.local(page).is_some_and(|local| local.pending.is_some())
    }

    /// Whether a transaction runs on some page of this home: a request may have to wait for its turn then.
    pub fn has_transactions(&self) -> bool {
        !self.coherence.transactions.is_empty()
    }

    /// This node's directory entry of `page`; `None` when another node is its home.
    pub fn directory(&self, page: PageAddress) -> Option<DirectoryEntry> {
        (self.home(page)? == self.config.node).then(|| self.pages.entry(page))
    }

    /// Whether this node is the home of `page` and has a transaction under way on it.
    pub fn is_busy(&self, page: PageAddress) -> bool {
        self.home(page) == Some(self.config.node) && self.pages.busy(page).is_some()
    }

    /// Bytes that the directory entry of `page` takes; `None` when another node is its home.
    pub fn directory_bytes(&self, page: PageAddress) -> Option<usize> {
        if self.home(page)? == self.config.node { self.pages.entry_bytes(page) } else { None }
    }

    /// Whether a demand for this node's copy of `page` waits until threads have used it or pins have ended.
    pub fn is_postponed(&self, page: PageAddress) -> bool {
        self.has_demands(page)
    }

    /// The home of `page`; `None` when the page does not exist here or, with [`Placement::FirstTouch`](crate::Placement), when
    /// this node has not been told.
    pub fn home(&self, page: PageAddress) -> Option<NodeId> {
        self.pages.home(page).ok().flatten()
    }

    /// Runs of pages that this node holds write notices of.
    pub fn notices_held(&self) -> usize {
        self.release.notices.held()
    }

    /// What was agreed about a region that is mapped here.
    pub fn region(&self, region: RegionId) -> Option<RegionSpec> {
        self.pages.spec(region)
    }

    /// Whether nothing is under way: no call waits, no page is pinned, no request is outstanding, no transaction runs.
    pub fn is_quiet(&self) -> bool {
        self.tickets.all_idle()
            && self.coherence.is_quiet()
            && self.uses.is_quiet()
            && self.hints.is_quiet()
            && self.release.is_quiet()
            && self.pins.is_empty()
            && self.locks.mends.is_quiet()
            && self.loopback.is_empty()
    }

    /// The application touched a page of this node without the right to. `ticket` completes when it may try again; then
    /// [`on_resumed`](Engine::on_resumed) is to follow.
    pub fn on_fault(&mut self, ticket: Ticket, page: PageAddress, access: Access, out: &mut Actions) {
        self.fault(ticket, page, access, Purpose::Touch, out);
        self.settle(out);
    }

    /// As [`on_fault`](Engine::on_fault), for a page that no thread is about to touch: others may have it at once.
    pub fn on_prefetch(&mut self, ticket: Ticket, page: PageAddress, access: Access, out: &mut Actions) {
        self.fault(ticket, page, access, Purpose::Prefetch, out);
        self.settle(out);
    }

    /// The thread whose fault completed under `ticket` has touched the page, or is just about to: others may have it now.
    /// To be told of every fault that ended well, once, before the ticket's slot is used again, and before the thread waits for
    /// anything else: others wait for it.
    pub fn on_resumed(&mut self, ticket: Ticket, out: &mut Actions) {
        self.resumed(ticket, out);
    }

    /// The answer to [`Action::Postpone`]: threads have had their chance to run.
    pub fn on_postponed(&mut self, out: &mut Actions) {
        self.postponed(out);
        self.settle(out);
    }

    /// As [`on_fault`](Engine::on_fault), but a page that is here already is not mapped anew, and the page stays from when `ticket` completes well until
    /// [`on_unpin`](Engine::on_unpin): readable or, pinned for writing, writable, whatever others want. A pin takes its pages in the
    /// order of their addresses, one after the other, each once. To be ended also when a page could not be had. The outcome is
    /// [`Failure::Limit`] when as many pages are pinned as may be.
    pub fn on_pin(
        &mut self,
        ticket: Ticket,
        (pin, holder): (PinId, PinHolder),
        page: PageAddress,
        access: Access,
        out: &mut Actions,
    ) {
        self.pin(ticket, (pin, holder, false), page, access, out);
        self.settle(out);
    }

    /// `pin` is over: others may have its pages. Returns the first page that they had before, because
    /// [`on_pins_expired`](Engine::on_pins_expired) had let them.
    pub fn on_unpin(&mut self, pin: PinId, out: &mut Actions) -> Option<PageAddress> {
        let taken = self.unpin(pin, out);
        self.settle(out);
        taken
    }

    /// Whether every page that `pin` got is still held for it.
    pub fn holds(&self, pin: PinId) -> bool {
        self.pin_holds(pin)
    }

    /// The patience of those whose waits began up to `up_to` ([`Action::AwaitUnpin`]) is over: pins hold the pages that they wait
    /// for no longer. Waits that have ended since do not matter.
    pub fn on_pins_expired(&mut self, up_to: PinWait, out: &mut Actions) {
        self.pins_expired(up_to, out);
        self.settle(out);
    }

    /// Someone wants to know who owns `page`; `ticket` completes with [`Outcome::Owner`].
    pub fn on_owner_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        self.owner_query(ticket, page, out);
        self.settle(out);
    }

    /// Someone wants to know who is the home of `page`; `ticket` completes with [`Outcome::Home`]. Asking settles nothing.
    pub fn on_home_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        self.home_query(ticket, page, out);
        self.settle(out);
    }

    /// A thread wants a lock; `ticket` completes when it has it, and proves it from then on.
    pub fn on_lock_acquire(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.lock_acquire(ticket, lock, out);
        self.settle(out);
    }

    /// As [`on_lock_acquire`](Engine::on_lock_acquire), for a thread that does not wait for other holders: with somebody else
    /// holding the lock, `ticket` completes with [`Failure::Busy`].
    pub fn on_lock_try(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.lock_try(ticket, lock, out);
        self.settle(out);
    }

    /// A thread gives back the lock that it was granted under `ticket`.
    pub fn on_lock_release(&mut self, ticket: Ticket, lock: LockId, out: &mut Actions) {
        self.lock_release(ticket, lock, out);
        self.settle(out);
    }

    /// As [`on_lock_try`](Engine::on_lock_try), for a lock that this node was the last to have and that nobody wants: true, and the lock is
    /// held under `ticket`, which needs not be one of a call. There is nothing to perform. False when it takes more than that, and
    /// nothing has changed.
    pub fn on_lock_retake(&mut self, ticket: Ticket, lock: LockId) -> bool {
        self.retake_lock(ticket, lock)
    }

    /// As [`on_lock_release`](Engine::on_lock_release), for a lock that nobody waits for: true. There is nothing to perform. False when
    /// somebody waits, and nothing has changed.
    pub fn on_lock_keep(&mut self, ticket: Ticket, lock: LockId) -> bool {
        self.keep_lock(ticket, lock)
    }

    /// This node is about to go without waiting for the others: what it has and does not need goes back to where others find it.
    pub fn on_farewell(&mut self, out: &mut Actions) {
        self.return_idle_tokens(out);
        self.return_kept_rwlocks(out);
        self.settle(out);
    }

    /// A thread has arrived at a barrier of `participants` threads; `ticket` completes when all have.
    pub fn on_barrier_arrive(
        &mut self,
        ticket: Ticket,
        barrier: BarrierId,
        participants: u32,
        out: &mut Actions,
    ) {
        self.barrier_arrive(ticket, barrier, participants, out);
        self.settle(out);
    }

    /// The application wants a region: to create it or, with `create` false, to wait for it. `ticket` completes with
    /// [`Outcome::Region`].
    pub fn on_region_open(&mut self, ticket: Ticket, create: bool, spec: RegionSpec, out: &mut Actions) {
        self.region_open(ticket, create, spec, out);
        self.settle(out);
    }

    /// The answer to [`Action::MapRegion`].
    pub fn on_region_mapped(&mut self, region: RegionId, round: u16, mapped: bool, out: &mut Actions) {
        self.region_mapped(region, round, mapped, out);
        self.settle(out);
    }

    /// The application has closed a region that it was given by one [`Outcome::Region`]. When every node has closed it as often as it was given it,
    /// the region goes. `ticket` completes when the coordinator has counted it: whoever synchronises with the caller after that and opens the
    /// region does not find it open because of this node.
    pub fn on_region_close(&mut self, ticket: Ticket, region: RegionId, out: &mut Actions) {
        self.region_close(ticket, region, out);
        self.settle(out);
    }

    /// As [`on_region_close`](Engine::on_region_close), when nobody waits for the coordinator to count.
    pub fn on_region_abandon(&mut self, region: RegionId, out: &mut Actions) {
        self.region_abandon(region, out);
        self.settle(out);
    }

    /// The answer to [`Action::ForgetRegion`]: the region's addresses are free here.
    pub fn on_region_forgotten(&mut self, region: RegionId, out: &mut Actions) {
        self.region_forgotten_here(region, out);
        self.settle(out);
    }

    /// The application is done with the shared memory. `ticket` completes when it is on every node, so that pages stay
    /// reachable until then.
    pub fn on_leave(&mut self, ticket: Ticket, out: &mut Actions) {
        self.leave(ticket, out);
        self.settle(out);
    }

    /// The caller no longer waits for `ticket`, which will not complete. What it asked for is given back when it comes.
    pub fn on_cancel(&mut self, ticket: Ticket, out: &mut Actions) {
        self.cancel(ticket, out);
        self.settle(out);
    }

    /// The connection to `node` is gone for good. Calls that needed it fail; copies held here stay.
    pub fn on_peer_lost(&mut self, node: NodeId, out: &mut Actions) {
        self.peer_lost(node, out);
        self.settle(out);
    }

    /// The diff of `page` that was sent last was empty. To be told or not.
    pub fn on_unchanged(&mut self, page: PageAddress) {
        self.unchanged(page);
    }

    /// A message came from another node.
    ///
    /// # Errors
    /// A [`Violation`] when no well-behaved peer sends it; then nothing has changed and `out` is as it was.
    pub fn on_message(
        &mut self,
        from: NodeId,
        view: View,
        message: &Message,
        out: &mut Actions,
    ) -> Result<(), Violation> {
        let before = out.len();
        let handled = if !self.live.contains(from) {
            Err("it is not a member of the view")
        } else if view != self.view {
            Err("it is in another view")
        } else {
            self.handle(from, message, out)
        };
        match handled {
            Ok(()) => {
                self.settle(out);
                Ok(())
            }
            Err(what) => {
                self.release.forget_look();
                debug_assert_eq!(out.len(), before, "a refused message left actions behind");
                Err(Violation { from, what, message: *message })
            }
        }
    }

    fn handle(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        if message.about().is_some_and(|region| self.is_gone(region)) {
            self.late(from, message, out);
            return Ok(());
        }
        self.check_has_pages(message)?;
        match *message {
            Message::PageRequest { page, request, access } => {
                self.page_request(from, page, request, access, out)
            }
            Message::Data { page, request, access } => self.data(from, page, request, access, out),
            Message::Grant { page, request, access, zero } => {
                self.grant(from, page, request, access, zero, out)
            }
            Message::Deny { page, request, lost_with } => self.deny(from, page, request, lost_with, out),
            Message::Fetch { page, request, access, requester } => {
                self.fetch(from, page, request, access, requester, out)
            }
            Message::Done { page, request, installed } => self.done(from, page, request, installed, out),
            Message::Recall { page, request } => self.recall(from, page, request, out),
            Message::Invalidate { page } => self.invalidate(from, page, out),
            Message::InvalidateAck { page } => self.invalidate_ack(from, page, out),
            Message::Evict { page } => self.evict(from, page, out),
            Message::Collect { page, request, step } => self.collect(from, (page, request), step, out),
            Message::Hint { page, request, step } => self.hint(from, (page, request), step, out),
            Message::OwnerQuery { page, ticket } => self.owner_asked(from, page, ticket, out),
            Message::OwnerReply { page, ticket, owner } => {
                let wait = Wait::Owner { page, asked: from };
                self.conclude(from, self.pages.home(page)?, ticket, wait, Outcome::Owner(owner), out)
            }
            Message::HomeClaim { page, request } => self.home_claimed(from, page, request, out),
            Message::HomeNamed { page, request, home } => self.home_named(from, page, request, home, out),
            Message::HomeQuery { page, ticket } => self.home_asked(from, page, ticket, out),
            Message::HomeReply { page, ticket, home } => self.home_replied(from, page, ticket, home, out),
            Message::Diff { page, interval, last } => self.diff(from, page, interval, last, out),
            Message::Need { page, request, writer, interval } => {
                self.need(from, page, request, writer, interval)
            }
            Message::Wrote { writer, interval, first, count } => {
                self.wrote(writer, interval, PageRun { first, count: count as u64 })
            }
            Message::Told { writer, interval } => self.told(from, writer, interval),
            Message::Knows { writer, interval } => self.knows(from, writer, interval),
            Message::Settled { writer, interval } => self.settled(writer, interval),
            Message::Lend { page, interval } => self.lend(from, page, interval, out),
            Message::LendReply { page, taken } => {
                self.check_is_home(page)?;
                self.lend_answered(from, page, taken, out)
            }
            Message::CallIn { page } => self.called_in(from, page, out),
            Message::Return { page, interval } => {
                self.check_is_home(page)?;
                self.returned(from, page, interval, out)
            }
            Message::Follow { page, reader } => self.follow(from, page, reader),
            Message::Unfollow { page, reader } => self.unfollowed(from, page, reader, out),
            Message::Update { page, writer, interval, own } => {
                self.update(from, page, (writer, interval, own), out)
            }
            Message::Leaving => {
                self.peer_leaves(from, out);
                Ok(())
            }
            Message::Goodbye => {
                out.push(Action::Departed(from));
                Ok(())
            }
            // Of threads and of how long they have held what, only the runtime knows. A late answer is no lie.
            Message::HoldQuery { .. } | Message::HoldReply { .. } => Ok(()),
            _ => self.handle_atomic(from, message, out),
        }
    }

    fn handle_atomic(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        match *message {
            Message::AtomicRequest { page, ticket, operation } => {
                self.atomic_requested(from, page, Asked { ticket, operation }, out)
            }
            Message::AtomicForward { page, requester, ticket, operation } => {
                self.atomic_forwarded(from, page, (requester, Asked { ticket, operation }), out)
            }
            Message::AtomicDone { page, requester, ticket, old } => {
                self.atomic_done(from, page, (requester, ticket), old, out)
            }
            Message::AtomicReply { page, ticket, old } => {
                self.atomic_answered(from, page, ticket, Outcome::Word(old), out)
            }
            Message::AtomicDeny { page, ticket, lost_with } => {
                let outcome = Outcome::Failed(Failure::PageLost(lost_with));
                self.atomic_answered(from, page, ticket, outcome, out)
            }
            Message::AtomicCancel { page, ticket } => self.atomic_cancelled(from, page, ticket, out),
            Message::AtomicWithdrawn { page, ticket } => {
                let outcome = Outcome::Failed(Failure::Withdrawn);
                self.atomic_answered(from, page, ticket, outcome, out)
            }
            Message::MeetingArrive { ticket, root, number, leaves } => {
                self.meeting_arrived(from, ticket, Claim { root, number }, leaves, out)
            }
            Message::MeetingOver { ticket, end } => self.meeting_over(from, ticket, end, out),
            Message::Piece { round, offset, last } => self.piece(from, round, offset, last, out),
            _ => self.handle_sync(from, message, out),
        }
    }

    fn handle_sync(&mut self, from: NodeId, message: &Message, out: &mut Actions) -> Handled {
        match *message {
            Message::BarrierArrive { barrier, ticket, participants } => {
                self.barrier_arrived(from, barrier, ticket, participants, out)
            }
            Message::BarrierCancel { barrier, ticket } => self.barrier_cancelled(from, barrier, ticket),
            Message::BarrierRelease { barrier, ticket, plan } => {
                let home = barrier_home(barrier, self.config.nodes);
                if let Some(plan) = plan.filter(|_| from == home) {
                    self.begin_gathering(barrier, plan, out)?;
                }
                self.conclude_acquire(from, home, ticket, Wait::Barrier(barrier), Outcome::Done, out)
            }
            Message::BarrierMismatch { barrier, ticket, first, this } => {
                let failure = Failure::BarrierMismatch { first, this };
                self.barrier_answered(from, barrier, ticket, Outcome::Failed(failure), out)
            }
            Message::BarrierBroken { barrier, ticket, node } => {
                let failure = Failure::PeerLost(node);
                self.barrier_answered(from, barrier, ticket, Outcome::Failed(failure), out)
            }
            Message::BarrierGathered { barrier, generation, round } => {
                self.barrier_gathered(from, barrier, (generation, round), out)
            }
            Message::BarrierOpened { barrier, generation, round } => {
                self.barrier_opened(from, barrier, (generation, round), out)
            }
            Message::BarrierDissolve { barrier, generation, round, cut } => {
                self.barrier_dissolve(from, barrier, (generation, round), cut, out)
            }
            Message::BarrierKnown { home, writer, interval } => {
                self.barrier_known(from, home, writer, interval)
            }
            Message::SyncRefused { ticket } => self.sync_refused(from, ticket, out),
            Message::RegionOpen { ticket, create, spec } => {
                self.region_wanted(from, ticket, create, spec, out)
            }
            Message::RegionMap { region, round, spec } => {
                self.region_proposed(from, region, round, spec, out)
            }
            Message::RegionMapped { region, round, mapped } => {
                self.region_answered(from, region, round, mapped, out)
            }
            Message::RegionDrop { region, round } => self.region_dropped(from, region, round, out),
            Message::RegionClose { ticket, region } => self.region_closed(from, ticket, region, out),
            Message::RegionClosed { ticket } => {
                self.conclude(from, Some(NodeId::COORDINATOR), ticket, Wait::RegionClose, Outcome::Done, out)
            }
            Message::RegionGone { region } => self.region_gone(from, region, out),
            Message::RegionForgotten { region } => self.region_forgotten(from, region, out),
            Message::RegionReady { ticket, region, spec } => {
                self.region_ready(from, ticket, region, spec, out)
            }
            Message::RegionRefused { ticket, refusal } => {
                let outcome = Outcome::Failed(Failure::RegionRefused(refusal));
                self.conclude(from, Some(NodeId::COORDINATOR), ticket, Wait::Region, outcome, out)
            }
            Message::RegionBroken { ticket, node } => {
                let outcome = Outcome::Failed(Failure::PeerLost(node));
                self.conclude(from, Some(NodeId::COORDINATOR), ticket, Wait::Region, outcome, out)
            }
            _ => self.handle_lock(from, message, out),
        }
    }

    fn barrier_answered(
        &mut self,
        from: NodeId,
        barrier: BarrierId,
        ticket: Ticket,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Handled {
        let home = barrier_home(barrier, self.config.nodes);
        self.conclude(from, Some(home), ticket, Wait::Barrier(barrier), outcome, out)
    }

    /// Ends a call after which the thread sees what others wrote before.
    fn conclude_acquire(
        &mut self,
        from: NodeId,
        home: NodeId,
        ticket: Ticket,
        wait: Wait,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Handled {
        if from == home {
            self.drop_written(out);
        }
        self.conclude(from, Some(home), ticket, wait, outcome, out)
    }

    /// Ends the call that waits under `ticket` for just this answer; a late answer finds nobody.
    fn conclude(
        &mut self,
        from: NodeId,
        answerer: Option<NodeId>,
        ticket: Ticket,
        wait: Wait,
        outcome: Outcome,
        out: &mut Actions,
    ) -> Handled {
        if answerer != Some(from) {
            return Err("it is not the one to answer this");
        }
        if self.tickets.wait(ticket) == wait {
            self.complete(ticket, outcome, out);
        }
        Ok(())
    }

    /// Handles what this node said to itself.
    fn settle(&mut self, out: &mut Actions) {
        let node = self.config.node;
        while let Some(message) = self.loopback.pop_front() {
            if let Err(what) = self.handle(node, &message, out) {
                panic!("node {node} broke its own protocol: {what}; its message was {message:?}");
            }
        }
        self.release.forget_look();
    }

    fn send(&mut self, to: NodeId, message: Message, out: &mut Actions) {
        if to == self.config.node {
            self.loopback.push_back(message);
        } else if self.live.contains(to) {
            out.push(Action::Send { to, message, payload: None });
        }
    }

    /// Answers a page request; this node's own at once, so that the next request finds what was granted.
    fn answer(&mut self, to: NodeId, message: Message, out: &mut Actions) {
        if to == self.config.node && !self.planted(planted::Planted::AnswerSelfLate) {
            self.handle(to, &message, out).expect("a home keeps to its own protocol");
        } else {
            self.send(to, message, out);
        }
    }

    fn send_page(&mut self, to: NodeId, message: Message, page: PageAddress, out: &mut Actions) {
        debug_assert!(to != self.config.node, "a node has no need to send itself its own page");
        if self.live.contains(to) {
            out.push(Action::Send { to, message, payload: Some(page) });
        }
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome, out: &mut Actions) {
        if self.tickets.end(ticket) {
            out.push(Action::Complete { ticket, outcome });
        }
    }

    fn fail(&mut self, ticket: Ticket, failure: Failure, out: &mut Actions) {
        self.complete(ticket, Outcome::Failed(failure), out);
    }
}

/// The home of a lock: spreads any numbers, addresses too, evenly over the nodes.
pub fn lock_home(lock: LockId, nodes: u16) -> NodeId {
    sync_home(lock.0, nodes)
}

/// The home of a barrier.
pub fn barrier_home(barrier: BarrierId, nodes: u16) -> NodeId {
    sync_home(barrier.0, nodes)
}

/// The home of whatever object of synchronisation has this number.
pub fn sync_home(number: u64, nodes: u16) -> NodeId {
    NodeId::new((scramble(number) % nodes as u64) as u16)
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014): every input bit reaches every output bit.
const fn scramble(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
