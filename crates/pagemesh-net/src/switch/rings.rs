//! Rings among the links: which of them a receiving thread watches itself, and which are to call it.
//!
//! A peer that has written into a ring calls this node (`eventfd(2)`) only if this node has said in the ring that it wants to be
//! called. A ring whose wish is not set is *watched*: somebody looks at it without being called, and whoever takes a
//! wish back is the one who sets it again, and looks once more, before it stops looking:
//!
//! * the holder of the receive lock, before it sleeps and before it gives the lock back ([`Receiving::unwatch`]);
//! * the service thread while it spins without the lock ([`Switch::spin_service`]).
//!
//! Two may watch one ring; then the first to stop sets a wish that the other does not need, which costs a call and breaks
//! nothing. So **a ring that nobody watches has its wish set, and was empty after that or its bell has rung**.
//!
//! The bells are edge-triggered: a ring calls with every write of its bell, whose counter nobody reads. That saves a `read(2)`
//! for each call, and leaves nothing behind once the inner epoll has reported it.

use std::sync::atomic::Ordering;

use super::link::Link;
use super::loss::LinkLoss;
use super::receiving::Receiving;
use super::{Receiver, Switch, bit};
use crate::long::Source;

/// Times a thread leads before peers count as quiet that have neither sent nor been sent anything.
const LEADS_TO_BE_QUIET: u32 = 256;
/// So many rings are all watched: that costs less than one call.
const FEW: u32 = 8;
/// Reads from the ring of a peer that is gone: what it may have left there, however small the pieces.
const LAST_READS: usize = 4096;

/// The set of rings that a receiving thread has to do with.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Rings without a wish that the holder of the receive lock watches.
    watched: u64,
    /// Peers that something came from or went to lately, and before.
    active: u64,
    active_before: u64,
    leads: u32,
}

/// The members of a set of peers.
pub(super) fn members(mut set: u64) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let peer = (set != 0).then(|| set.trailing_zeros() as u16)?;
        set &= set - 1;
        Some(peer)
    })
}

impl Switch {
    /// Whether looking at the ring of `peer` would find something to do. Any thread may ask.
    pub(super) fn has_news(&self, peer: u16) -> bool {
        let Some(Link { ring: Some(ring), .. }) = self.link(peer) else { return false };
        ring.end.is_readable()
            || self.blocked.load(Ordering::SeqCst) & bit(peer) != 0 && ring.end.is_writable()
    }

    pub(super) fn any_news(&self, set: u64) -> bool {
        members(set).any(|peer| self.has_news(peer))
    }

    pub(super) fn want_calls(&self, set: u64, wanted: bool) {
        for peer in members(set) {
            if let Some(Link { ring: Some(ring), .. }) = self.link(peer) {
                ring.end.call_reader(wanted);
            }
        }
    }

    /// For rings that nobody watches any more: if there is news all the same, the bell is rung for it, and whoever receives next
    /// finds it.
    pub(super) fn leave_news(&self, set: u64) {
        for peer in members(set).filter(|peer| self.has_news(*peer)) {
            if let Some(Link { ring: Some(ring), .. }) = self.link(peer) {
                ring.call_self();
            }
        }
    }

    /// Rings of peers that are there.
    pub(super) fn live_rings(&self) -> u64 {
        self.rings.load(Ordering::Relaxed)
    }

    /// Sends what waits for a ring that takes bytes again. True when there was some, and room.
    ///
    /// A peer calls for the room that one of its reads made. When the call is heard that room may be used up, and the
    /// wish to be called went with it: so whoever finds none says again that it is wanted.
    pub(super) fn refill(&self, peer: u16, link: &Link) -> bool {
        let waits = self.blocked.load(Ordering::SeqCst) & bit(peer) != 0;
        let Some(ring) = link.ring.as_ref().filter(|_| waits) else { return false };
        if !ring.end.is_writable() {
            ring.end.call_writer(true);
        }
        let room = ring.end.is_writable();
        if room {
            self.unblock(peer);
        }
        room
    }
}

impl Receiving {
    /// From now on this thread watches the rings in `set`, and those of peers that were active lately.
    pub(super) fn watch(&mut self, switch: &Switch, set: u64) {
        let watch = &mut self.watch;
        watch.active |= set;
        let live = switch.live_rings();
        let worth_it = if live.count_ones() <= FEW { live } else { watch.active | watch.active_before };
        let set = worth_it & live & !watch.watched;
        if set != 0 {
            watch.watched |= set;
            switch.want_calls(set, false);
        }
    }

    /// Another thread has begun; forgets peers that were quiet for long.
    pub(super) fn count_lead(&mut self, switch: &Switch) {
        let watch = &mut self.watch;
        watch.leads += 1;
        if watch.leads.is_multiple_of(LEADS_TO_BE_QUIET) {
            watch.active_before = watch.active;
            watch.active = 0;
        }
        switch.active.store(watch.active | watch.active_before, Ordering::Relaxed);
    }

    /// Peers with which there was traffic lately.
    pub(super) fn active_peers(&self) -> u64 {
        self.watch.active | self.watch.active_before
    }

    /// The wishes of these rings are taken, by a call or by another thread that hands them over.
    pub(super) fn take_over(&mut self, set: u64) {
        self.watch.watched |= set;
        self.watch.active |= set;
    }

    /// This thread is about to stop looking. False when there is news, and it must not: it goes on watching then.
    pub(super) fn unwatch(&mut self, switch: &Switch) -> bool {
        let set = std::mem::take(&mut self.watch.watched) & switch.live_rings();
        switch.want_calls(set, true);
        let quiet = !switch.any_news(set);
        if !quiet {
            self.watch.watched = set;
            switch.want_calls(set, false);
        }
        quiet
    }

    /// This thread stops looking, whatever there is: the next one will be called.
    pub(super) fn abandon(&mut self, switch: &Switch) {
        let set = std::mem::take(&mut self.watch.watched) & switch.live_rings();
        switch.want_calls(set, true);
        switch.leave_news(set);
    }

    /// Handles what is in the rings now. True when something was.
    pub(super) fn look_at_rings(&mut self, switch: &Switch, receiver: &mut dyn Receiver) -> bool {
        let mut came = false;
        for peer in members(switch.live_rings()) {
            if switch.has_news(peer) {
                came |= self.receive_ring(switch, peer, receiver);
            }
        }
        came
    }

    /// One piece from the ring of a peer, and every complete frame that is then there. True when something came: bytes, room, or the
    /// end of the link.
    pub(super) fn receive_ring(&mut self, switch: &Switch, peer: u16, receiver: &mut dyn Receiver) -> bool {
        self.watch.active |= bit(peer);
        let Some((link, incoming)) = self.link_and_incoming(switch, peer) else { return false };
        let Some(ring) = &link.ring else { return false };
        if link.is_deaf() {
            incoming.lose(switch, peer, link, LinkLoss::ClosedHere, receiver);
            return true;
        }
        let mut came = switch.refill(peer, link);
        let mut lost = None;
        if !incoming.is_in_long() {
            match ring.end.read(incoming.space()) {
                Ok(0) => return came,
                Ok(count) => {
                    came = true;
                    incoming.buffer.filled(count);
                    link.counts.bytes_in.add(count as u64);
                    lost = incoming.hand_out(switch, peer, link, receiver).err();
                }
                Err(fault) => lost = Some(LinkLoss::BadRing(fault)),
            }
        }
        if lost.is_none() && incoming.is_in_long() {
            match incoming.hand_out_long(peer, Source::Ring(&*ring.end), link, receiver) {
                Ok(count) => {
                    link.counts.bytes_in.add(count as u64);
                    came |= count > 0;
                }
                Err(why) => lost = Some(why),
            }
        }
        if came {
            // The peer waits for answers, and seldom for room.
            switch.flush();
            if ring.end.take_writer_call() {
                ring.call_peer();
            }
        }
        if let Some(why) = lost {
            incoming.lose(switch, peer, link, why, receiver);
            return true;
        }
        came
    }

    /// The socket beside a ring has something to say, which can only be its end: what is left in the ring comes first.
    pub(super) fn hear_beside_ring(
        &mut self,
        switch: &Switch,
        peer: u16,
        receiver: &mut dyn Receiver,
    ) -> bool {
        let Some((link, _)) = self.link_and_incoming(switch, peer) else { return false };
        let mut byte = [0];
        let why = match rustix::net::recv(&link.stream, &mut byte, rustix::net::RecvFlags::DONTWAIT) {
            Ok((0, _)) => LinkLoss::Closed,
            Ok(_) => LinkLoss::BytesBesideRing,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            Err(errno) => LinkLoss::from_errno(errno),
        };
        for _ in 0..LAST_READS {
            if !switch.has_news(peer) || !self.receive_ring(switch, peer, receiver) {
                break;
            }
        }
        if let Some((link, incoming)) = self.link_and_incoming(switch, peer) {
            incoming.lose(switch, peer, link, why, receiver);
        }
        true
    }
}
