//! Frames that may wait.
//!
//! A report that nobody waits for costs its sender a transmission and its receiver a wake-up, where it could travel with whatever goes
//! to the same peer next. [`Switch::enqueue_late`] queues such a frame. If nothing else is queued with it, the socket is told that
//! more follows (`MSG_MORE`, send(2)), and keeps it until
//!
//! * anything else is sent to that peer,
//! * anything that cannot wait is sent to any peer: this node is at its links anyway, and may be about to wait for long,
//! * the peer says that it waits ([`Switch::hurry`]), or
//! * 200 ms are over: so long the kernel keeps what more was to follow, at most (tcp(7), `TCP_CORK`).
//!
//! Where a peer waits for one of these frames it mostly waits for the next as well. So each frame to a node tells it whether its reports are waited for,
//! until some hundreds of frames have come from there since this node had to wait; meanwhile that node puts nothing off.
//!
//! Where peers have cores of their own, and threads look for their replies without sleeping, nothing is put off either: the peer's wake-up keeps nobody from running.
//!
//! Through a ring nothing is put off: a frame there costs no system call, and no kernel would see to it in the end.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use rustix::net::sockopt::set_tcp_nodelay;

use super::link::Link;
use super::{EnqueueError, Switch, bit};
use crate::frame::FramePrefix;

/// Frames of a peer that have to come, after this node has waited for one, before the peer may put some off again.
const HURRIED: u16 = 256;

/// What is put off on one link, in either direction.
#[derive(Debug, Default)]
pub(super) struct Haste {
    /// The peer waits for what is put off here.
    asked: AtomicBool,
    /// Frames that have to come before the peer may put some off.
    asking: AtomicU16,
}

impl Haste {
    /// Whether this node waits for what the peer puts off.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Relaxed) > 0
    }

    /// The peer has said whether it waits for what is put off here.
    pub(super) fn heard(&self, hurries: bool) {
        self.asked.store(hurries, Ordering::SeqCst);
    }

    /// So many frames have come from the peer. For who receives: one thread at a time.
    pub(super) fn came(&self, frames: u64) {
        let asking = self.asking.load(Ordering::Relaxed);
        if asking > 0 {
            let left = asking.saturating_sub(u16::try_from(frames).unwrap_or(u16::MAX));
            // Where another thread has just begun anew, that counts.
            let _ = self.asking.compare_exchange(asking, left, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl Switch {
    /// As [`enqueue`](Self::enqueue), for a message that need not arrive soon: it may wait in the socket, up to 200 ms, until this node sends
    /// something else or the peer says that it waits.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub fn enqueue_late(&self, peer: u16, message: &[u8]) -> Result<(), EnqueueError> {
        let link = self.link(peer).ok_or(EnqueueError::NoLink { peer })?;
        let urgent = link.ring.is_some() || link.haste.asked.load(Ordering::Relaxed) || self.leader_looks();
        self.enqueue_on(link, peer, (message, urgent), (0, |_: &mut [u8]| ()))
    }

    /// This node waits for something that `peer` may have put off, or may be about to.
    pub fn hurry(&self, peer: u16) {
        let Some(link) = self.link(peer).filter(|link| link.ring.is_none() && !link.has_ended()) else {
            return;
        };
        if link.haste.asking.swap(HURRIED, Ordering::Relaxed) > 0 {
            return;
        }
        let how = (false, true);
        // A queue that is full ends the link when the next message finds it so.
        let _ = link.outgoing.enqueue(FramePrefix::hurry, &[], how, |_| (), || self.mark_dirty(peer));
    }

    /// The socket of `peer` has taken bytes, and may keep them or not.
    ///
    /// The peer may have begun to wait after they were queued. Who receives that notes it and then looks for what is held; here it is the other way round, so one
    /// of the two pushes.
    pub(super) fn note_held(&self, peer: u16, link: &Link, put_off: bool) {
        if put_off {
            self.held.fetch_or(bit(peer), Ordering::SeqCst);
            if link.haste.asked.load(Ordering::SeqCst) {
                self.push(peer);
            } else {
                self.counts.sends_put_off.add(1);
            }
        } else if self.held.load(Ordering::Relaxed) & bit(peer) != 0 {
            self.held.fetch_and(!bit(peer), Ordering::SeqCst);
        }
    }

    /// What waits in the socket of `peer` goes.
    pub(super) fn push(&self, peer: u16) {
        if self.held.load(Ordering::SeqCst) & bit(peer) == 0 {
            return;
        }
        self.held.fetch_and(!bit(peer), Ordering::SeqCst);
        if let Some(link) = self.link(peer) {
            // To set it, set as it is, has the kernel send what waits (tcp(7)). If it fails the link is broken, which is found elsewhere.
            let _ = set_tcp_nodelay(&link.stream, true);
        }
    }

    /// What waits in any socket goes.
    pub(super) fn push_held(&self) {
        let mut held = self.held.load(Ordering::Relaxed);
        while held != 0 {
            self.push(held.trailing_zeros() as u16);
            held &= held - 1;
        }
    }
}
