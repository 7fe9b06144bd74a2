//! The switch's way out: what is queued for a peer, and who sends it.
//!
//! [`Switch::enqueue`] copies a message into the queue of its link, [`Switch::flush`] sends what is queued. Neither
//! blocks: two nodes that block in sends to each other read nothing and wait for ever. When a socket is full the
//! rest waits for `EPOLLOUT` on the inner epoll, and whoever receives goes on sending.
//!
//! What [`Switch::enqueue_late`] queues may wait in the socket until something follows it (`late.rs`).
//!
//! One bit a link says that bytes wait (`dirty`), one that its socket was full (`blocked`). A thread that finds
//! another one sending leaves; the sender looks at the bits again after it has given up the right to send, with a
//! sequentially consistent fence between the two on both sides, so one of them sends.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::link::Link;
use super::loss::{EnqueueError, LinkLoss};
use super::outgoing::{SendOutcome, Way};
use super::{Switch, bit};
use crate::frame::FramePrefix;
use crate::long::Pages;
use crate::pack::Packing;

/// How long a thread that waits for room sleeps before it looks whether the link has ended.
const ROOM_LOOK: Duration = Duration::from_millis(50);

/// How long a thread that waits for room in a ring sleeps before it looks again: the bell belongs to whoever receives.
const RING_ROOM_LOOK: Duration = Duration::from_micros(100);

impl Switch {
    /// Bytes that wait to be sent to `peer` and are not on their way yet; 0 where there is no link.
    pub fn queued(&self, peer: u16) -> usize {
        self.link(peer).map_or(0, |link| link.outgoing.queued())
    }

    /// Waits until the queue to every peer holds less than `bytes`, or `deadline` has passed; the kernel is asked to take what it
    /// can. For a thread that is about to queue much, and holds no lock: others go on receiving meanwhile.
    pub fn wait_room(&self, bytes: usize, deadline: Instant) {
        // What is queued is marked, under the lock of its queue: no lock of any queue is taken for nothing.
        if self.dirty.load(Ordering::SeqCst) == 0 {
            return;
        }
        for (peer, link) in (0..).zip(&self.links) {
            let Some(link) = link else { continue };
            while link.outgoing.queued() >= bytes && !link.has_ended() {
                self.refill(peer, link);
                self.flush();
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                // Interrupted or not, it is looked at again.
                let _ = if link.ring.is_some() {
                    poll(&mut [], Timespec::try_from(left.min(RING_ROOM_LOOK)).ok().as_ref())
                } else {
                    let timeout = Timespec::try_from(left.min(ROOM_LOOK)).ok();
                    poll(&mut [PollFd::new(&link.stream, PollFlags::OUT)], timeout.as_ref())
                };
            }
        }
    }

    /// Queues a message with a payload for `peer`; [`flush`](Self::flush) sends it. Makes no system call. Messages
    /// to one peer arrive in the order in which they were queued.
    ///
    /// # Errors
    /// [`EnqueueError`]. After `Full` the link is being dropped.
    pub fn enqueue(&self, peer: u16, message: &[u8], payload: &[u8]) -> Result<(), EnqueueError> {
        self.enqueue_with(peer, message, payload.len(), |place| place.copy_from_slice(payload))
    }

    /// As [`enqueue`](Self::enqueue), but `fill` writes the payload of `payload_bytes` in place. What it finds there
    /// is unspecified. It is not called for an empty payload, nor when the message is not queued. It runs under the
    /// lock of the link's queue: it must not use the switch, nor touch a page that can fault.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub fn enqueue_with(
        &self,
        peer: u16,
        message: &[u8],
        payload_bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), EnqueueError> {
        let link = self.link(peer).ok_or(EnqueueError::NoLink { peer })?;
        self.enqueue_on(link, peer, (message, true), (payload_bytes, fill))
    }

    /// Queues a message, which may be urgent or not, with a payload on a link.
    pub(super) fn enqueue_on(
        &self,
        link: &Link,
        peer: u16,
        (message, urgent): (&[u8], bool),
        (payload_bytes, fill): (usize, impl FnOnce(&mut [u8])),
    ) -> Result<(), EnqueueError> {
        let prefix = FramePrefix::new(message.len(), payload_bytes).map_err(|_| EnqueueError::BadLength {
            peer,
            message_bytes: message.len(),
            payload_bytes,
        })?;
        if link.has_ended() {
            return Err(EnqueueError::Lost { peer });
        }
        let mark_dirty = || self.mark_dirty(peer);
        let how = (self.packs(link), urgent);
        let saved = link.outgoing.enqueue(|| link.wishes(prefix), message, how, fill, mark_dirty).map_err(
            |queued_bytes| {
                link.end(LinkLoss::SendQueueFull);
                EnqueueError::Full { peer, queued_bytes }
            },
        )?;
        link.counts.frames_out.add(1);
        link.counts.bytes_saved.add(saved as u64);
        Ok(())
    }

    /// Something is queued for `peer`.
    pub(super) fn mark_dirty(&self, peer: u16) {
        if self.dirty.fetch_or(bit(peer), Ordering::SeqCst) == 0 {
            self.first.store(peer, Ordering::Relaxed);
        }
    }

    /// Queues a message with a long payload: the `bytes` bytes of `pages` from `at` on, whole pages, which are sent from where they lie
    /// and must stay as they are until the peer has said that it has them, or is lost. False when they are to be sent in other
    /// ways: payloads are packed on this link, or too much waits already.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub fn enqueue_long(
        &self,
        peer: u16,
        message: &[u8],
        (pages, at, bytes): (&Arc<dyn Pages>, usize, usize),
    ) -> Result<bool, EnqueueError> {
        let link = self.link(peer).ok_or(EnqueueError::NoLink { peer })?;
        let prefix = FramePrefix::long(message.len(), bytes).map_err(|_| EnqueueError::BadLength {
            peer,
            message_bytes: message.len(),
            payload_bytes: bytes,
        })?;
        if link.has_ended() {
            return Err(EnqueueError::Lost { peer });
        }
        if self.packs(link) {
            return Ok(false);
        }
        let mark_dirty = || self.mark_dirty(peer);
        let queued =
            link.outgoing.enqueue_long(|| link.wishes(prefix), message, (pages, at, bytes), mark_dirty);
        link.counts.frames_out.add(u64::from(queued));
        Ok(queued)
    }

    /// Whether payloads that go to the peer of `link` are packed.
    fn packs(&self, link: &Link) -> bool {
        link.ring.is_none()
            && match self.packing.get() {
                Packing::Auto => link.packs.load(Ordering::Relaxed),
                Packing::On => true,
                Packing::Off => false,
            }
    }

    /// Sends what is queued on every link, as far as the sockets take it. Never blocks; whoever receives sends the
    /// rest. Costs one load when nothing is queued.
    pub fn flush(&self) {
        self.flush_waiting();
    }

    /// As `flush`; returns the set of peers that something was queued for.
    pub(super) fn flush_waiting(&self) -> u64 {
        let waiting = self.dirty.load(Ordering::SeqCst) & !self.blocked.load(Ordering::SeqCst);
        let first = self.first.load(Ordering::Relaxed);
        let mut rest = waiting;
        let mut urgent = false;
        if waiting & bit(first) != 0 && waiting != bit(first) {
            urgent |= self.flush_link(first);
            rest &= !bit(first);
        }
        while rest != 0 {
            urgent |= self.flush_link(rest.trailing_zeros() as u16);
            rest &= rest - 1;
        }
        if urgent {
            self.push_held();
        }
        waiting
    }

    /// Sends what is queued on one link. True when something went that could not wait.
    fn flush_link(&self, peer: u16) -> bool {
        let Some(link) = self.link(peer) else { return false };
        let mut urgent = false;
        loop {
            // Between marking the link dirty and trying the right to send: pairs with the fence below.
            fence(Ordering::SeqCst);
            let Some(mut sending) = link.outgoing.try_sending() else { return urgent };
            let clean = || {
                self.dirty.fetch_and(!bit(peer), Ordering::SeqCst);
            };
            let way = link.ring.as_ref().map_or(Way::Socket(&link.stream), Way::Ring);
            let (outcome, taken) = link.outgoing.send(&mut sending, way, clean);
            link.counts.bytes_out.add(taken.bytes as u64);
            if taken.bytes > 0 {
                self.note_held(peer, link, taken.put_off);
                urgent |= !taken.put_off;
            }
            match outcome {
                SendOutcome::Drained => {
                    if sending.armed {
                        sending.armed = false;
                        self.set_interest(peer, link, EventFlags::IN);
                    }
                }
                SendOutcome::Blocked => {
                    self.counts.sends_blocked.add(1);
                    // Before arming: the event may be handled at once.
                    self.blocked.fetch_or(bit(peer), Ordering::SeqCst);
                    if let Some(ring) = &link.ring {
                        ring.end.call_writer(true);
                        if ring.end.is_writable() {
                            ring.end.call_writer(false);
                            self.blocked.fetch_and(!bit(peer), Ordering::SeqCst);
                        }
                    } else if !sending.armed {
                        sending.armed = true;
                        self.set_interest(peer, link, EventFlags::IN | EventFlags::OUT);
                    }
                }
                SendOutcome::Broken(why) => {
                    link.end_sending(why);
                    if link.ring.is_some() {
                        // Nothing is wrong with the stream, which is what wakes whoever reports the loss.
                        let _ = link.stream.shutdown(std::net::Shutdown::Both);
                    }
                    self.dirty.fetch_and(!bit(peer), Ordering::SeqCst);
                    self.blocked.fetch_and(!bit(peer), Ordering::SeqCst);
                }
            }
            drop(sending);
            fence(Ordering::SeqCst);
            let waiting = self.dirty.load(Ordering::SeqCst) & !self.blocked.load(Ordering::SeqCst);
            if waiting & bit(peer) == 0 {
                return urgent;
            }
        }
    }

    fn set_interest(&self, peer: u16, link: &Link, events: EventFlags) {
        // ENOENT: the link was lost and has left the epoll.
        let _ = epoll::modify(&self.inner, &link.stream, EventData::new_u64(u64::from(peer)), events);
    }

    /// The socket of `peer` takes bytes again.
    pub(super) fn unblock(&self, peer: u16) {
        self.blocked.fetch_and(!bit(peer), Ordering::SeqCst);
        self.flush_link(peer);
    }

    /// Nothing will be sent to `peer` any more.
    pub(super) fn forget(&self, peer: u16) {
        self.rings.fetch_and(!bit(peer), Ordering::SeqCst);
        self.sockets.fetch_and(!bit(peer), Ordering::SeqCst);
        self.dirty.fetch_and(!bit(peer), Ordering::SeqCst);
        self.blocked.fetch_and(!bit(peer), Ordering::SeqCst);
    }
}
