//! The send side of one link: a queue that anybody may fill, and the bytes the socket has not taken yet.
//!
//! Two buffers and two locks, so that filling the queue never waits for a `send(2)`: `queue` is held only to copy a
//! message in, `sending` by the thread that is sending. When the sending buffer is empty the two are exchanged.

use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::loss::LinkLoss;
use crate::frame::{FramePrefix, MAX_FRAME_BYTES, PREFIX_BYTES};
use crate::pack::Packer;
use crate::ring::RingLink;

/// Bytes that may wait in a link's queue. A peer that falls further behind is dropped: it has stopped receiving. As
/// much again may be on its way from the other buffer of the link into the socket.
pub const TX_LIMIT_BYTES: usize = 48 * 1024 * 1024;

/// Bytes that go into a ring at a time: the peer takes them out while the next go in.
const RING_PIECE_BYTES: usize = 16 * 1024;

/// Bytes in order, from the front of a memory block that is reserved once. The block comes zeroed from the system,
/// so what was never used takes no memory.
#[derive(Debug)]
struct SendBuffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl SendBuffer {
    fn new() -> Self {
        Self { bytes: vec![0; TX_LIMIT_BYTES + MAX_FRAME_BYTES].into_boxed_slice(), length: 0 }
    }
}

/// Bytes on their way into the socket or the ring.
#[derive(Debug)]
pub(super) struct Sending {
    buffer: SendBuffer,
    sent: usize,
    /// `EPOLLOUT` is armed for this link.
    pub(super) armed: bool,
}

/// Where one attempt to send ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// The queue is empty; `on_drained` was called under its lock.
    Drained,
    /// The socket takes no more now.
    Blocked,
    /// The link is broken.
    Broken(LinkLoss),
}

/// The send side of one link.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: Mutex<Queue>,
    sending: Mutex<Sending>,
}

#[derive(Debug)]
struct Queue {
    buffer: SendBuffer,
    packer: Packer,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { buffer: SendBuffer::new(), packer: Packer::new() }),
            sending: Mutex::new(Sending { buffer: SendBuffer::new(), sent: 0, armed: false }),
        }
    }

    /// Appends one frame; `fill` writes the payload in place, which is then packed if `packs` and that makes it shorter. `on_queued` runs
    /// under the queue's lock. Returns how many bytes packing has saved.
    ///
    /// # Errors
    /// The number of bytes that wait already, when the limit is reached.
    pub(super) fn enqueue(
        &self,
        prefix: FramePrefix,
        message: &[u8],
        packs: bool,
        fill: impl FnOnce(&mut [u8]),
        on_queued: impl FnOnce(),
    ) -> Result<usize, usize> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { buffer, packer } = &mut *queue;
        let start = buffer.length;
        if start >= TX_LIMIT_BYTES {
            return Err(start);
        }
        // In bounds: at most TX_LIMIT_BYTES are taken, and a frame has at most MAX_FRAME_BYTES.
        let frame = &mut buffer.bytes[start..start + prefix.frame_bytes()];
        let (head, body) = frame.split_at_mut(PREFIX_BYTES);
        let (message_place, payload_place) = body.split_at_mut(message.len());
        message_place.copy_from_slice(message);
        if !payload_place.is_empty() {
            fill(payload_place);
        }
        let mut sent = prefix;
        if packs && let Some(packed) = packer.pack(payload_place) {
            payload_place[..packed.len()].copy_from_slice(packed);
            sent = prefix.packed(packed.len());
        }
        head.copy_from_slice(&sent.encode());
        // Last, so that a `fill` that panics leaves no half frame behind.
        buffer.length += sent.frame_bytes();
        on_queued();
        Ok(prefix.frame_bytes() - sent.frame_bytes())
    }

    /// Bytes that wait and are not on their way yet.
    pub(super) fn queued(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).buffer.length
    }

    /// The right to send, or `None` while another thread has it.
    pub(super) fn try_sending(&self) -> Option<MutexGuard<'_, Sending>> {
        match self.sending.try_lock() {
            Ok(sending) => Some(sending),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Sends until the queue is empty, the socket is full, or the link is broken. Never blocks. Returns also the
    /// number of bytes the socket took.
    pub(super) fn send(
        &self,
        sending: &mut Sending,
        way: Way<'_>,
        on_drained: impl FnOnce(),
    ) -> (SendOutcome, usize) {
        let mut taken_bytes = 0;
        loop {
            if sending.sent == sending.buffer.length {
                sending.buffer.length = 0;
                sending.sent = 0;
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.buffer.length == 0 {
                    on_drained();
                    return (SendOutcome::Drained, taken_bytes);
                }
                std::mem::swap(&mut queue.buffer, &mut sending.buffer);
            }
            let rest = &sending.buffer.bytes[sending.sent..sending.buffer.length];
            match way.take(rest) {
                Ok(Some(count)) => {
                    sending.sent += count;
                    taken_bytes += count;
                }
                Ok(None) => return (SendOutcome::Blocked, taken_bytes),
                Err(why) => return (SendOutcome::Broken(why), taken_bytes),
            }
        }
    }
}

/// What bytes are sent through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    Socket(&'a TcpStream),
    Ring(&'a RingLink),
}

impl Way<'_> {
    /// How many of `bytes` were taken, some of them; `None` when there is no room.
    fn take(self, bytes: &[u8]) -> Result<Option<usize>, LinkLoss> {
        match self {
            Way::Socket(stream) => loop {
                match rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                    Ok(count) => return Ok(Some(count)),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(None),
                    Err(errno) => return Err(LinkLoss::from_errno(errno)),
                }
            },
            Way::Ring(ring) => {
                let piece = &bytes[..bytes.len().min(RING_PIECE_BYTES)];
                let count = ring.end.write(piece).map_err(LinkLoss::BadRing)?;
                if count == 0 {
                    return Ok(None);
                }
                ring.call();
                Ok(Some(count))
            }
        }
    }
}
