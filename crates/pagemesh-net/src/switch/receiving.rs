//! The receive side of all links: what the receive lock protects.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::link::Link;
use super::loss::LinkLoss;
use super::muting::Attention;
use super::rings::Watch;
use super::speed::Speed;
use super::spin::Look;
use super::{BELL, LEADER_WAKE, Receiver, Switch, bit};
use crate::frame::{Frame, FrameBuffer, MAX_LONG_MESSAGE_BYTES, PREFIX_BYTES};
use crate::long::Source;
use crate::pack::Packing;

/// Events taken in one round. A level-triggered epoll reports the rest in the next one, in turn.
const EVENTS_PER_ROUND: usize = 16;

/// Rounds in a row in which the service thread may ask the most recent peer before the epoll.
const RECENT_TURNS: u32 = 16;
/// Times that rings are looked at before the sockets beside them, which only tell of ends.
pub(super) const RING_LOOKS: u32 = 64;
/// Looks at rings alone between two at the clock, which costs as much as several of them.
pub(super) const LOOKS_A_GLANCE: u32 = 8;
/// One of so many looks at sockets is at all of them, by the epoll; the others are at the one from which something is likely to come.
pub(super) const LOOKS_AT_ALL: u32 = 4;
/// Frames of one piece that are handled before what they gave rise to is sent.
const FRAMES_BETWEEN_SENDS: u64 = 32;
/// Bytes of a payload that are worth a `recv(2)` of their own, so that they are not copied.
const RECEIVED_APART: usize = 8 * 4096;
/// Rounds without an early look for the reply after one that found nothing.
const LATE_ROUNDS: u32 = 1;

/// What has arrived on one link and is not yet handed out.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) buffer: FrameBuffer,
    speed: Speed,
    /// The frame that is being handed out has a long payload.
    long: Option<Long>,
    /// Bytes up to the payload of the last frame with a long one, where another such frame is expected: so much is received first, that
    /// the payload does not come with it. 0 where none is.
    head_bytes: usize,
    /// Bytes that came last at a time, long payloads apart.
    came_last: usize,
    /// `on_lost` has been called.
    reported: bool,
}

/// A long payload that has come in part.
#[derive(Debug)]
struct Long {
    message: [u8; MAX_LONG_MESSAGE_BYTES],
    message_bytes: usize,
    /// What is to come.
    rest: Range<usize>,
}

impl Long {
    fn new(head: &[u8], bytes: usize) -> Long {
        let mut message = [0; MAX_LONG_MESSAGE_BYTES];
        message[..head.len()].copy_from_slice(head);
        Long { message, message_bytes: head.len(), rest: 0..bytes }
    }
}

/// The receive state of every link. It belongs to the links and not to a thread: whoever takes the lock goes on
/// with a partial frame where the one before stopped.
#[derive(Debug)]
pub(super) struct Receiving {
    links: Vec<Option<Incoming>>,
    pub(super) attention: Attention,
    /// How often in a row the service thread may still ask the peer first that sent last.
    recent_turns: u32,
    /// Rounds in which the leader does not look for its reply before it waits. See `receive_early`.
    late_rounds: u32,
    pub(super) watch: Watch,
    /// This leader has stood the service thread down.
    pub(super) stood_down: bool,
}

impl Receiving {
    pub(super) fn new(links: &[Option<Link>]) -> Self {
        let incoming = |link: &Option<Link>| {
            link.is_some().then(|| Incoming {
                buffer: FrameBuffer::new(),
                speed: Speed::default(),
                long: None,
                head_bytes: 0,
                came_last: 0,
                reported: false,
            })
        };
        Self {
            links: links.iter().map(incoming).collect(),
            attention: Attention::default(),
            recent_turns: 0,
            late_rounds: 0,
            watch: Watch::default(),
            stood_down: false,
        }
    }

    /// A link with its receive side; `None` when there is none, or its end was reported.
    pub(super) fn link_and_incoming<'s>(
        &mut self,
        switch: &'s Switch,
        peer: u16,
    ) -> Option<(&'s Link, &mut Incoming)> {
        let incoming = self.links.get_mut(usize::from(peer))?.as_mut()?;
        (!incoming.reported).then_some((switch.link(peer)?, incoming))
    }

    /// Another thread leads from now on.
    pub(super) fn begin_lead(&mut self) {
        self.stood_down = false;
        self.attention.begin_lead();
    }

    /// Looks for the reply of the peer that a request has just been sent to, before any wait. Where the peer shares
    /// the core it often has answered inside our `send(2)`; then this saves an `epoll_wait(2)`. Where it has not, the
    /// look is wasted, and is not taken again for some rounds. True when something came.
    pub(super) fn receive_early(&mut self, switch: &Switch, peer: u16, receiver: &mut dyn Receiver) -> bool {
        self.attention.ask(peer);
        if self.late_rounds > 0 {
            self.late_rounds -= 1;
            return false;
        }
        let came = self.receive(switch, peer, receiver, || ());
        if !came {
            self.late_rounds = LATE_ROUNDS;
        }
        came
    }

    /// The service thread's share: something is ready. The peer that sent last mostly sends next, so it is asked
    /// first, without asking the epoll; every few rounds the epoll is asked all the same, so that no peer is kept
    /// waiting by another. What is not taken now is reported again.
    pub(super) fn serve_round(&mut self, switch: &Switch, receiver: &mut dyn Receiver) -> io::Result<()> {
        self.look_at_rings(switch, receiver);
        let recent = self.attention.recent();
        if self.recent_turns > 0 && switch.is_socket(recent) {
            self.recent_turns -= 1;
            if self.receive(switch, recent, receiver, || ()) {
                return Ok(());
            }
        }
        self.recent_turns = RECENT_TURNS;
        self.round(switch, Some(Duration::ZERO), receiver).map(|_| ())
    }

    /// What the peer that sent last may have sent since, without asking the epoll, as often in a row as `serve_round` does. `came` is called
    /// as soon as there is something. True when there was.
    pub(super) fn peek(&mut self, switch: &Switch, receiver: &mut dyn Receiver, came: impl FnOnce()) -> bool {
        let recent = self.attention.recent();
        let may = self.recent_turns > 0 && switch.is_socket(recent);
        self.mute(switch, self.attention.likely().filter(|likely| may && *likely == recent));
        let found = may && self.receive(switch, recent, receiver, came);
        self.recent_turns -= u32::from(found);
        found
    }

    /// The leader's wait: until a socket is ready, the leader is called, or the time is over; then handles what
    /// arrived.
    pub(super) fn lead_round(
        &mut self,
        switch: &Switch,
        timeout: Option<Duration>,
        receiver: &mut dyn Receiver,
    ) -> io::Result<()> {
        if self.look_at_rings(switch, receiver) || self.spin(switch, timeout, receiver)? {
            return Ok(());
        }
        if timeout.is_some_and(|timeout| timeout.is_zero()) || !switch.leader_wake.prepare() {
            self.round(switch, Some(Duration::ZERO), receiver)?;
            return Ok(());
        }
        if !self.unwatch(switch) {
            switch.leader_wake.finish();
            self.look_at_rings(switch, receiver);
            return Ok(());
        }
        self.unmute(switch);
        self.stand_down(switch);
        switch.counts.leader_waits.add(1);
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_PER_ROUND];
        let waited = wait(&switch.inner, &mut events, timeout);
        switch.leader_wake.finish();
        self.handle(switch, waited?, receiver);
        Ok(())
    }

    /// Nobody but this leader is to be woken by what arrives.
    pub(super) fn stand_down(&mut self, switch: &Switch) {
        if !self.stood_down {
            self.stood_down = true;
            switch.set_armed(false);
        }
    }

    /// Looks at rings and sockets without sleeping for as long as the switch is set to, or has learnt. True when something came.
    ///
    /// Most looks at sockets are at the socket from which something is likely to come: what they find need not be asked for again after the epoll
    /// has told of it. Where that came without being asked for, the others have their turn first.
    fn spin(
        &mut self,
        switch: &Switch,
        timeout: Option<Duration>,
        receiver: &mut dyn Receiver,
    ) -> io::Result<bool> {
        let mut look = switch.leader_spin.begin(timeout);
        let likely = self.attention.likely().filter(|peer| switch.is_socket(*peer));
        // Who has stood the service thread down gains by muting only what many messages come from.
        let worth_it = likely.filter(|_| !self.stood_down || self.attention.is_steady());
        if look.is_some() && switch.has_sockets() && !self.mute(switch, worth_it) {
            self.stand_down(switch);
        }
        let mut looks = if self.attention.has_asked() { 0 } else { LOOKS_AT_ALL - 1 };
        while look.is_some() && !switch.leader_wake.is_notified() {
            if switch.any_news(switch.live_rings()) {
                Look::succeed(&mut look);
                return Ok(self.look_at_rings(switch, receiver));
            }
            // Rings cost a load each, sockets a system call.
            looks += 1;
            let ask = switch.has_sockets();
            let at_one = likely.filter(|_| !looks.is_multiple_of(LOOKS_AT_ALL));
            if let Some(peer) = at_one {
                if self.receive(switch, peer, receiver, || Look::succeed(&mut look)) {
                    return Ok(true);
                }
            } else if ask || looks.is_multiple_of(RING_LOOKS) {
                let mut events = [const { MaybeUninit::uninit() }; EVENTS_PER_ROUND];
                let ready = wait(&switch.inner, &mut events, Some(Duration::ZERO))?;
                if !ready.is_empty() {
                    Look::succeed(&mut look);
                    self.handle(switch, ready, receiver);
                    return Ok(true);
                }
            }
            if ask || looks.is_multiple_of(LOOKS_A_GLANCE) {
                look = look.and_then(Look::again);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }

    /// Waits on the inner epoll and handles what is ready. True when something was.
    pub(super) fn round(
        &mut self,
        switch: &Switch,
        timeout: Option<Duration>,
        receiver: &mut dyn Receiver,
    ) -> io::Result<bool> {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_PER_ROUND];
        let ready = wait(&switch.inner, &mut events, timeout)?;
        self.handle(switch, ready, receiver);
        Ok(!ready.is_empty())
    }

    fn handle(&mut self, switch: &Switch, ready: &[Event], receiver: &mut dyn Receiver) {
        for event in ready {
            let (flags, data) = (event.flags, event.data.u64());
            if data == LEADER_WAKE {
                switch.leader_wake.drain();
                continue;
            }
            let peer = data as u16;
            if data & BELL != 0 {
                self.take_over(bit(peer));
                self.receive_ring(switch, peer, receiver);
                continue;
            }
            if flags.contains(EventFlags::OUT) {
                switch.unblock(peer);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
                self.receive(switch, peer, receiver, || ());
            }
        }
    }

    /// One `recv(2)` from a peer, and every complete frame that is then there. True when something came: bytes, or
    /// the end of the link. `on_news` is called before anything is done with it, unless it is some more of a long payload.
    fn receive(
        &mut self,
        switch: &Switch,
        peer: u16,
        receiver: &mut dyn Receiver,
        on_news: impl FnOnce(),
    ) -> bool {
        let Some((link, incoming)) = self.link_and_incoming(switch, peer) else { return false };
        if link.is_deaf() {
            incoming.lose(switch, peer, link, LinkLoss::ClosedHere, receiver);
            return true;
        }
        if link.ring.is_some() {
            return self.hear_beside_ring(switch, peer, receiver);
        }
        let mut came = false;
        if !incoming.is_in_long() {
            let received = rustix::net::recv(&link.stream, incoming.space(), RecvFlags::DONTWAIT);
            if !matches!(received, Err(Errno::AGAIN | Errno::INTR)) {
                on_news();
            }
            match Source::received(received.map(|(count, _)| count)) {
                // Level-triggered: what is there is reported again.
                Ok(0) => return false,
                Ok(count) => {
                    incoming.buffer.filled(count);
                    incoming.came_last = count;
                    let since = incoming.speed.is_sampling().then(Instant::now);
                    if let Err(why) = incoming.hand_out(switch, peer, link, receiver) {
                        incoming.lose(switch, peer, link, why, receiver);
                        return true;
                    }
                    incoming.came(switch, peer, link, count, since);
                    came = true;
                }
                Err(why) => {
                    incoming.lose(switch, peer, link, why, receiver);
                    return true;
                }
            }
        }
        if incoming.is_in_long() {
            let since = incoming.speed.is_sampling().then(Instant::now);
            match incoming.hand_out_long(peer, Source::Socket(&link.stream), link, receiver) {
                Ok(0) => {}
                Ok(count) => {
                    incoming.came(switch, peer, link, count, since);
                    came = true;
                }
                Err(why) => {
                    incoming.lose(switch, peer, link, why, receiver);
                    return true;
                }
            }
        }
        if came {
            self.attention.came(peer);
        }
        came
    }
}

impl Incoming {
    /// Where the next bytes go.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let most = if self.head_bytes > 0 { self.head_bytes } else { usize::MAX };
        let space = self.buffer.space();
        let most = most.min(space.len());
        &mut space[..most]
    }

    /// Whether at least so many bytes at a time are to be expected.
    pub(super) fn brings(&self, bytes: usize) -> bool {
        self.head_bytes > 0 || self.came_last >= bytes
    }

    /// Whether what comes next is part of a long payload, of which nothing is in the buffer.
    pub(super) fn is_in_long(&self) -> bool {
        self.long.is_some()
    }

    /// So many bytes came; `since` when, where that is measured.
    fn came(&mut self, switch: &Switch, peer: u16, link: &Link, count: usize, since: Option<Instant>) {
        link.counts.bytes_in.add(count as u64);
        let goes_on = self.buffer.pending_bytes() > 0 || self.long.is_some();
        let slow = self.speed.came(count, goes_on, || since.unwrap_or_else(Instant::now));
        link.asks.store(slow && switch.packing.get() == Packing::Auto, Ordering::Relaxed);
        link.packs.store(self.buffer.peer_asks(), Ordering::Relaxed);
        link.haste.heard(self.buffer.peer_hurries());
        if self.buffer.take_hurried() {
            switch.push(peer);
        }
    }

    /// Has the receiver take more of a long payload from `source`. Returns how many bytes it took; 0 when there were none.
    pub(super) fn hand_out_long(
        &mut self,
        peer: u16,
        source: Source<'_>,
        link: &Link,
        receiver: &mut dyn Receiver,
    ) -> Result<usize, LinkLoss> {
        let Some(long) = &mut self.long else { return Ok(0) };
        let taken = receiver.on_long(peer, &long.message[..long.message_bytes], long.rest.clone(), source);
        receiver.on_pause();
        let taken = taken?;
        long.rest.start += taken;
        if long.rest.is_empty() {
            self.long = None;
            link.counts.frames_in.add(1);
        }
        // The receiver itself, or a queue that ran over, may have ended the link.
        if link.is_deaf() { Err(LinkLoss::ClosedHere) } else { Ok(taken) }
    }

    pub(super) fn hand_out(
        &mut self,
        switch: &Switch,
        peer: u16,
        link: &Link,
        receiver: &mut dyn Receiver,
    ) -> Result<(), LinkLoss> {
        let mut frames = 0;
        let mut expects_long = false;
        let result = loop {
            if let Some(long) = &mut self.long {
                let there = self.buffer.peek(long.rest.len());
                if there.is_empty() {
                    break Ok(());
                }
                let message = &long.message[..long.message_bytes];
                match receiver.on_long(peer, message, long.rest.clone(), Source::Bytes(there)) {
                    Ok(0) => break Err(LinkLoss::Rejected("bytes that are here were not taken".into())),
                    Ok(taken) => {
                        long.rest.start += taken;
                        self.buffer.skip(taken);
                    }
                    Err(why) => break Err(why),
                }
                if long.rest.is_empty() {
                    self.long = None;
                    frames += 1;
                }
                if link.is_deaf() {
                    break Err(LinkLoss::ClosedHere);
                }
                continue;
            }
            match self.buffer.next_frame() {
                Ok(Some(Frame { message, long_bytes: long_bytes @ 1.., .. })) => {
                    expects_long |= link.ring.is_some() || long_bytes >= RECEIVED_APART;
                    self.head_bytes = PREFIX_BYTES + message.len();
                    self.long = Some(Long::new(message, long_bytes));
                }
                Ok(Some(frame)) if frame.message.is_empty() => {}
                Ok(Some(frame)) => {
                    frames += 1;
                    switch.heard.store(true, Ordering::Relaxed);
                    // The first of many answers go out while the others are made.
                    if frames % FRAMES_BETWEEN_SENDS == 0 {
                        receiver.on_pause();
                        switch.flush();
                    }
                    if let Err(reject) = receiver.on_frame(peer, frame.message, frame.payload) {
                        break Err(LinkLoss::Rejected(reject.0));
                    }
                    // The receiver itself, or a queue that ran over, may have ended the link.
                    if link.is_deaf() {
                        break Err(LinkLoss::ClosedHere);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(LinkLoss::BadFrame(error)),
            }
        };
        receiver.on_pause();
        link.haste.came(frames);
        link.counts.frames_in.add(frames);
        if !expects_long {
            self.head_bytes = 0;
        }
        result
    }

    /// The end of a link, reported once: only here, under the receive lock.
    pub(super) fn lose(
        &mut self,
        switch: &Switch,
        peer: u16,
        link: &Link,
        why: LinkLoss,
        receiver: &mut dyn Receiver,
    ) {
        self.reported = true;
        let first = link.end(why);
        // A closed socket stays ready for ever; it must leave the level-triggered epoll.
        let _ = epoll::delete(&switch.inner, &link.stream);
        if let Some(ring) = &link.ring {
            let _ = epoll::delete(&switch.inner, ring.own_bell());
        }
        switch.forget(peer);
        receiver.on_lost(peer, first);
    }
}

/// `epoll_wait(2)`. A signal ends the wait early with nothing ready.
pub(super) fn wait<'a>(
    epoll: &std::os::fd::OwnedFd,
    events: &'a mut [MaybeUninit<Event>],
    timeout: Option<Duration>,
) -> io::Result<&'a [Event]> {
    // A duration that does not fit into a timespec is some hundred thousand million years.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match epoll::wait(epoll, events, timeout.as_ref()) {
        Ok((ready, _)) => Ok(ready),
        Err(Errno::INTR) => Ok(&[]),
        Err(errno) => Err(errno.into()),
    }
}
