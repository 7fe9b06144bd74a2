//! The switch: all links of a node, and who receives from them.
//!
//! # Who receives
//!
//! Every wake-up between a reply's arrival and the thread that waits for it costs as much as the network itself,
//! so the waiting thread receives on its own: it becomes the *leader*, and while it leads it handles whatever
//! arrives for this node, requests of other nodes included. When nobody waits, the service thread receives.
//!
//! There are two epoll instances, one inside the other:
//!
//! ```text
//!   outer epoll  <- the service thread sleeps here
//!     |- service-wake eventfd
//!     `- inner epoll  <- a leader sleeps here
//!          |- leader-wake eventfd
//!          `- the socket of every link
//! ```
//!
//! The receive lock decides who receives; it is only ever tried, never waited for. The life of a leader is:
//! take the lock; *stand the service thread down* (`EPOLL_CTL_MOD` of the inner epoll on the outer one to no
//! events); send the request; wait on the inner epoll and handle what arrives until its own condition holds;
//! unlock; arm the inner epoll on the outer one again. Why in this order:
//!
//! * Standing down comes before the send: where nodes share a core the reply may arrive inside `send(2)`, and an
//!   armed service thread would be woken for a reply that the leader takes.
//!   A leader that looks for its reply without sleeping has it from another core, which takes a while: after the send, when the peer has begun to
//!   work, it mutes the peer's socket (`muting.rs`), or stands the service thread down then. Where that was woken all the same, by a request, leaders go back to
//!   the other order for a while.
//! * Unlocking comes before arming: epoll is level-triggered here, so a service thread that was woken while the
//!   lock was still held would find it held, and find it held again, until its time slice ended.
//!
//! The arming of one leader may thus cross the standing down of the next. Then the service thread is armed under a
//! leader; when it wakes and finds the lock held, it disarms itself and tries the lock once more. If that succeeds it
//! serves, unlocks and arms. If it fails there is a leader that has yet to leave, and who leaves arms. In both cases:
//! **whenever the lock is free and nobody is on the way out, the outer epoll is armed**. So a waiting thread
//! that does not get the lock may simply sleep until its reply is delivered to it by whoever receives: no
//! leadership is handed on, and no wake-up can be lost.
//!
//! Sending is in `sending.rs`.
//!
//! # The fault handler
//!
//! Everything but [`Switch::new`] and a link's end runs without allocation, logging or thread-local state, because
//! the leader may be a thread in a signal handler. What is passed in must not lie in a page that can fault: the same
//! thread would come back for a lock that it holds.

mod counters;
mod late;
mod link;
mod loss;
mod muting;
mod outgoing;
mod receiving;
mod rings;
mod sending;
mod service;
mod speed;
mod spin;
mod wake;

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

pub use counters::{LinkCounters, SwitchCounters};
pub use loss::{EnqueueError, LinkLoss, Reject};
pub use muting::LowMark;
pub use outgoing::TX_LIMIT_BYTES;

use crate::long::Source;
use crate::pack::Packing;
use crate::ring::RingLink;
use counters::SwitchCounts;
use link::Link;
use receiving::Receiving;
use spin::Spin;
use wake::Wake;

/// Nodes of a mesh, at most: a set of them is one `u64`.
pub const MAX_NODES: u16 = 64;

/// Names the leader-wake eventfd in the inner epoll; a link is named by its peer's number.
const LEADER_WAKE: u64 = u64::MAX;
/// Together with a peer's number names the bell of its ring.
const BELL: u64 = 1 << 32;
/// How often a thread that is about to lead looks whether the service thread is done with its one look: some microseconds.
const PEEK_LOOKS: u32 = 64;
/// How many leaders stand the service thread down before they send, after it has met one that had not. To be met costs some five times what a leader
/// saves that has not.
const CROSSED_LEADS: u32 = 16;
/// The two things in the outer epoll.
const SERVICE_WAKE: u64 = 1;
const INNER: u64 = 0;

/// What handles arriving messages. Called under the receive lock by whichever thread receives, so calls never
/// overlap; [`Switch::enqueue`], [`Switch::flush`] and [`Switch::close`] may be called from inside.
pub trait Receiver {
    /// A whole frame from `peer`. `payload` may be empty.
    ///
    /// # Errors
    /// [`Reject`] drops the link to that peer with [`LinkLoss::Rejected`]; `on_lost` follows.
    fn on_frame(&mut self, peer: u16, message: &[u8], payload: &[u8]) -> Result<(), Reject>;

    /// Some of the payload of a long frame from `peer`, whose message is `message`: of its bytes, those in `part` are still to come, and are taken
    /// from `source`, as many as are there and wanted. Returns how many were taken, and 0 when there are none now; from
    /// [`Source::Bytes`] some always are. Called until the last byte was taken, and nothing else of this peer is handed out until then.
    ///
    /// # Errors
    /// [`LinkLoss`] drops the link to that peer for this reason; `on_lost` follows.
    fn on_long(
        &mut self,
        peer: u16,
        message: &[u8],
        part: Range<usize>,
        source: Source<'_>,
    ) -> Result<usize, LinkLoss> {
        let _ = (peer, message, part, source);
        Err(LinkLoss::Rejected("nothing with a long payload is expected".into()))
    }

    /// No frame follows for now: whatever was put off because one might is due. Called after the last frame of what was received at
    /// a time, and before answers are sent.
    fn on_pause(&mut self) {}

    /// The link to `peer` has ended. Called once for each peer, after the last frame of it.
    fn on_lost(&mut self, peer: u16, why: LinkLoss);
}

/// All links of one node. Shared by reference between its threads.
///
/// One service thread calls [`wait_service`](Self::wait_service) in a loop. Any other thread that waits for a
/// message does:
///
/// ```no_run
/// # use pagemesh_net::{Receiver, Switch, EnqueueError};
/// # fn wait(switch: &Switch, receiver: &mut dyn Receiver, holds: impl Fn() -> bool, sleep: impl Fn()) -> std::io::Result<()> {
/// let leader = switch.try_lead();          // before the request is sent
/// // ... switch.enqueue(..) the request ...
/// if let Some(mut leader) = leader {
///     while !holds() {
///         leader.receive(None, receiver)?; // sends, waits, handles
///     }
/// } else {
///     switch.flush();
///     sleep();                             // until whoever receives makes the condition hold
/// }
/// # Ok(())
/// # }
/// ```
pub struct Switch {
    node: u16,
    links: Vec<Option<Link>>,
    inner: OwnedFd,
    outer: OwnedFd,
    leader_wake: Wake,
    service_wake: Wake,
    /// Bit `peer`: bytes wait to be sent to it.
    dirty: AtomicU64,
    /// Bit `peer`: bytes may wait in its socket until something follows them.
    held: AtomicU64,
    /// For whom bytes were queued first since there were none; a hint. Where all nodes share a core, whoever is woken first runs first.
    first: AtomicU16,
    /// Bit `peer`: its socket was full; `EPOLLOUT` is armed.
    blocked: AtomicU64,
    /// Bit `peer`: its messages come through a ring, and it is there.
    rings: AtomicU64,
    /// Bit `peer`: its messages come through its socket, and it is there.
    sockets: AtomicU64,
    /// Peers with which there was traffic lately.
    active: AtomicU64,
    /// A thread leads. Only a hint.
    leading: AtomicBool,
    /// The service thread has stood itself down, because somebody else had the receive lock.
    service_disarmed: AtomicBool,
    /// How long leaders look, and how long the service thread.
    leader_spin: Spin,
    service_spin: Spin,
    packing: AtomicPacking,
    /// Leaders that stand the service thread down before they send, because it met one that had not.
    crossed: AtomicU32,
    /// The service thread has the receive lock for one look at a socket. Only a hint.
    peeking: AtomicBool,
    /// The last round of the service thread found something to do.
    served: AtomicBool,
    /// Something other than long payloads has come since the service thread last began to look for work.
    heard: AtomicBool,
    receiving: Mutex<Receiving>,
    /// How a socket is muted.
    low_mark: OnceLock<LowMark>,
    counts: SwitchCounts,
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch")
            .field("node", &self.node)
            .field("dirty", &self.dirty)
            .field("blocked", &self.blocked)
            .field("counters", &self.counters_total())
            .finish_non_exhaustive()
    }
}

impl Switch {
    /// A switch of node `node` over the streams of a mesh: `streams[peer]`, `None` for the node itself (and for any
    /// peer that is not there). The streams are made non-blocking. Reserves, without touching it, about 96 MiB of
    /// address space for each link's send buffers.
    ///
    /// # Errors
    /// `InvalidInput` when there are more than [`MAX_NODES`] streams or one for the node itself; otherwise
    /// what `epoll_create1(2)`, `eventfd(2)`, `epoll_ctl(2)` or `fcntl(2)` say: too many open files, mostly.
    pub fn new(node: u16, streams: Vec<Option<TcpStream>>) -> io::Result<Self> {
        let rings = streams.iter().map(|_| None).collect();
        Self::with_rings(node, streams, rings)
    }

    /// As [`new`](Self::new); with peers for which there is a ring, messages go through that, in both directions. Their stream
    /// must bring nothing more, and tells when they are gone.
    ///
    /// # Errors
    /// As [`new`](Self::new), and `InvalidInput` when there are not as many places for rings as for streams.
    pub fn with_rings(
        node: u16,
        streams: Vec<Option<TcpStream>>,
        rings: Vec<Option<RingLink>>,
    ) -> io::Result<Self> {
        if rings.len() != streams.len() {
            let what =
                format!("{} places for rings were given beside {} streams", rings.len(), streams.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if streams.len() > usize::from(MAX_NODES) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a switch for {} nodes was asked for; at most {MAX_NODES} are possible",
                    streams.len()
                ),
            ));
        }
        if streams.get(usize::from(node)).is_some_and(Option::is_some) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("node {node} was given a stream to itself; pass None in its place"),
            ));
        }
        let inner = epoll::create(CreateFlags::CLOEXEC)?;
        let outer = epoll::create(CreateFlags::CLOEXEC)?;
        let leader_wake = Wake::new()?;
        let service_wake = Wake::new()?;
        let links: Vec<_> = streams
            .into_iter()
            .zip(rings)
            .map(|(stream, ring)| stream.map(|stream| Link::new(stream, ring)))
            .collect();
        let (mut with_ring, mut with_socket) = (0, 0);
        for (peer, link) in (0..).zip(&links) {
            let Some(link) = link else { continue };
            link.stream.set_nonblocking(true)?;
            epoll::add(&inner, &link.stream, EventData::new_u64(u64::from(peer)), EventFlags::IN)?;
            if let Some(ring) = &link.ring {
                let data = EventData::new_u64(BELL | u64::from(peer));
                epoll::add(&inner, ring.own_bell(), data, EventFlags::IN | EventFlags::ET)?;
                with_ring |= bit(peer);
                // Nobody watches it yet. A peer that wrote before this called nobody.
                ring.end.call_reader(true);
                if ring.end.is_readable() {
                    ring.call_self();
                }
            } else {
                with_socket |= bit(peer);
            }
        }
        epoll::add(&inner, leader_wake.descriptor(), EventData::new_u64(LEADER_WAKE), EventFlags::IN)?;
        epoll::add(&outer, &inner, EventData::new_u64(INNER), EventFlags::IN)?;
        epoll::add(&outer, service_wake.descriptor(), EventData::new_u64(SERVICE_WAKE), EventFlags::IN)?;
        Ok(Self {
            node,
            receiving: Mutex::new(Receiving::new(&links)),
            links,
            inner,
            outer,
            leader_wake,
            service_wake,
            dirty: AtomicU64::new(0),
            held: AtomicU64::new(0),
            first: AtomicU16::new(0),
            blocked: AtomicU64::new(0),
            rings: AtomicU64::new(with_ring),
            sockets: AtomicU64::new(with_socket),
            active: AtomicU64::new(0),
            leading: AtomicBool::new(false),
            service_disarmed: AtomicBool::new(false),
            leader_spin: Spin::new(),
            service_spin: Spin::new(),
            packing: AtomicPacking::default(),
            crossed: AtomicU32::new(0),
            peeking: AtomicBool::new(false),
            served: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            low_mark: OnceLock::new(),
            counts: SwitchCounts::default(),
        })
    }

    /// The number of this node.
    pub fn node(&self) -> u16 {
        self.node
    }

    /// How long a leader looks at the sockets without sleeping before it sleeps. Zero, the start value, where
    /// threads share cores with their peers; about 50 us where there is a core to spare.
    pub fn set_spin(&self, spin: Duration) {
        self.leader_spin.fix(spin);
    }

    /// How long the service thread, having served, looks for the next request without sleeping. Zero, the start
    /// value, unless it has a core of its own: a spinning service thread keeps the application off its core.
    pub fn set_service_spin(&self, spin: Duration) {
        self.service_spin.fix(spin);
    }

    /// From now on leaders and the service thread find out themselves whether there are cores to spare, and look without
    /// sleeping where it pays: see `spin.rs`.
    pub fn learn_spin(&self) {
        self.leader_spin.learn();
        self.service_spin.learn();
    }

    /// Whether a thread that leads would look for its reply without sleeping: it was told to, or has learnt that peers answer meanwhile.
    pub fn leader_looks(&self) -> bool {
        self.leader_spin.would_look()
    }

    /// Whether payloads are packed that go through sockets; [`Packing::Auto`] is the start value.
    pub fn set_packing(&self, packing: Packing) {
        self.packing.set(packing);
    }

    fn link(&self, peer: u16) -> Option<&Link> {
        self.links.get(usize::from(peer))?.as_ref()
    }

    /// Makes the calling thread the leader, if nobody receives now, and stands the service thread down. Calls of
    /// [`wake_leader`](Self::wake_leader) made before are forgotten: look at the condition after this, not before.
    ///
    /// `None`: another thread receives. It (or the service thread after it) will deliver what is waited for.
    pub fn try_lead(&self) -> Option<Leader<'_>> {
        let mut receiving = self.try_receiving().or_else(|| self.await_peek())?;
        self.leading.store(true, Ordering::Relaxed);
        self.leader_wake.reset();
        receiving.begin_lead();
        // Peers with rings call nobody while they are watched: with those alone this can wait until the leader sleeps. And where
        // the reply comes from another core, it takes longer than this does.
        if self.has_sockets() && !self.stands_down_late() {
            receiving.stand_down(self);
        }
        receiving.count_lead(self);
        receiving.watch(self, 0);
        self.counts.leads.add(1);
        Some(Leader { switch: self, receiving: Some(receiving) })
    }

    /// The receive lock, where only the service thread has it, for one look: to sleep until that delivers would cost more by far.
    fn await_peek(&self) -> Option<MutexGuard<'_, Receiving>> {
        for _ in 0..PEEK_LOOKS {
            if !self.peeking.load(Ordering::Relaxed) {
                break;
            }
            std::hint::spin_loop();
        }
        self.try_receiving()
    }

    /// Whether the leader that begins may send first and stand the service thread down then, while the peer works. Where it looks for its reply
    /// without sleeping, peers have cores of their own; but if they ask much themselves, one of their requests may come in between.
    fn stands_down_late(&self) -> bool {
        let crossed = self.crossed.load(Ordering::Relaxed);
        if crossed > 0 {
            self.crossed.store(crossed - 1, Ordering::Relaxed);
        }
        crossed == 0 && self.leader_spin.would_look()
    }

    fn has_sockets(&self) -> bool {
        self.sockets.load(Ordering::Relaxed) != 0
    }

    fn is_socket(&self, peer: u16) -> bool {
        self.sockets.load(Ordering::Relaxed) & bit(peer) != 0
    }

    fn try_receiving(&self) -> Option<MutexGuard<'_, Receiving>> {
        match self.receiving.try_lock() {
            Ok(receiving) => Some(receiving),
            // A receiver panicked between two frames: the buffers are in order.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Arms the inner epoll on the outer one, or stands the service thread down.
    fn set_armed(&self, armed: bool) {
        let events = if armed { EventFlags::IN } else { EventFlags::empty() };
        let modified = epoll::modify(&self.outer, &self.inner, EventData::new_u64(INNER), events);
        // EPOLL_CTL_MOD of a registered descriptor allocates nothing and has no way to fail.
        debug_assert!(modified.is_ok(), "EPOLL_CTL_MOD of the inner epoll failed: {modified:?}");
    }

    /// Ends the wait of the leader, if there is one, so that it looks at its condition again. A system call only
    /// when it sleeps. A call that comes before the wait prevents it.
    pub fn wake_leader(&self) {
        if self.leader_wake.notify() {
            self.counts.leader_wakes.add(1);
        }
    }

    /// Ends the wait of the service thread. A system call only when it sleeps. A call that comes before the wait
    /// prevents it.
    pub fn wake_service(&self) {
        if self.service_wake.notify() {
            self.counts.service_wake_calls.add(1);
        }
    }

    /// Everything open: what a child made by fork(2) must not keep. The numbers stay the same as long as the switch lives.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let links = self.links.iter().flatten().map(|link| link.stream.as_fd());
        let own = [self.inner.as_fd(), self.outer.as_fd()];
        let rings = self.links.iter().flatten().filter_map(|link| link.ring.as_ref());
        let bells = rings.flat_map(|ring| [ring.own_bell(), ring.peer_bell()]);
        links.chain(bells).chain(own).chain([self.leader_wake.descriptor(), self.service_wake.descriptor()])
    }

    /// Ends the link to `peer`: `shutdown(2)`. What is queued is not sent any more. Whoever receives reports the
    /// loss as [`LinkLoss::ClosedHere`], unless it had ended before. No effect without such a link.
    pub fn close(&self, peer: u16) {
        if let Some(link) = self.link(peer) {
            link.end(LinkLoss::ClosedHere);
        }
    }

    /// [`close`](Self::close) for every peer.
    pub fn close_all(&self) {
        for link in self.links.iter().flatten() {
            link.end(LinkLoss::ClosedHere);
        }
    }

    /// Traffic with `peer` until now; zeros when there is no such link.
    pub fn counters(&self, peer: u16) -> LinkCounters {
        self.link(peer).map_or_else(LinkCounters::default, |link| link.counts.snapshot())
    }

    /// How often threads of this node led, waited and were woken until now.
    pub fn counters_total(&self) -> SwitchCounters {
        self.counts.snapshot()
    }
}

/// A [`Packing`] that any thread may change.
#[derive(Debug, Default)]
struct AtomicPacking(AtomicU8);

impl AtomicPacking {
    fn get(&self) -> Packing {
        match self.0.load(Ordering::Relaxed) {
            0 => Packing::Auto,
            1 => Packing::On,
            _ => Packing::Off,
        }
    }

    fn set(&self, packing: Packing) {
        let value = match packing {
            Packing::Auto => 0,
            Packing::On => 1,
            Packing::Off => 2,
        };
        self.0.store(value, Ordering::Relaxed);
    }
}

fn bit(peer: u16) -> u64 {
    1 << (peer % MAX_NODES)
}

/// The right to receive for the whole node, held by one thread. Dropping it hands receiving back to the service
/// thread.
#[derive(Debug)]
pub struct Leader<'a> {
    switch: &'a Switch,
    /// Always there until the drop.
    receiving: Option<MutexGuard<'a, Receiving>>,
}

impl Leader<'_> {
    /// One round: sends what is queued, waits until something arrives, until [`Switch::wake_leader`], a signal, or
    /// `timeout` (`None`: no end; rounded up to milliseconds), handles what is there and sends the answers. It may
    /// return with nothing done; the caller looks at its condition and calls again.
    ///
    /// A timeout has the kernel set a timer up and take it down, some 0.6 us a wait (Linux 6.18): where another thread
    /// watches the deadlines and calls [`Switch::wake_leader`], give none.
    ///
    /// # Errors
    /// What `epoll_wait(2)` says; nothing that a peer can cause.
    pub fn receive(&mut self, timeout: Option<Duration>, receiver: &mut dyn Receiver) -> io::Result<()> {
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        // Before the send: where nodes share a core the reply may be there when it returns.
        receiving.watch(self.switch, self.switch.dirty.load(Ordering::Relaxed));
        let sent = self.switch.flush_waiting() & self.switch.sockets.load(Ordering::Relaxed);
        if self.switch.has_sockets() && !self.switch.leader_looks() {
            receiving.stand_down(self.switch);
        }
        if sent == 0 || !receiving.receive_early(self.switch, sent.trailing_zeros() as u16, receiver) {
            receiving.lead_round(self.switch, timeout, receiver)?;
        }
        self.switch.flush();
        Ok(())
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let (mut stood_down, mut muted) = (false, None);
        if let Some(receiving) = &mut self.receiving {
            (stood_down, muted) = (receiving.stood_down, receiving.attention.take_muted());
            receiving.abandon(self.switch);
        }
        self.switch.leading.store(false, Ordering::Relaxed);
        // First unlock, then arm: the woken service thread must find the lock free.
        self.receiving = None;
        if let Some(peer) = muted {
            self.switch.unmute(peer);
        }
        // Between unlocking and this look: pairs with the fence in `serve`.
        fence(Ordering::SeqCst);
        let service_disarmed = self.switch.service_disarmed.load(Ordering::SeqCst)
            && self.switch.service_disarmed.swap(false, Ordering::SeqCst);
        if stood_down || service_disarmed {
            self.switch.set_armed(true);
        }
    }
}
