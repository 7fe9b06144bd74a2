//! The send side of one link: a queue that anybody may fill, and the bytes the socket has not taken yet.
//!
//! Two buffers and two locks, so that filling the queue never waits for a `send(2)`: `queue` is held only to copy a
//! message in, `sending` by the thread that is sending. When the sending buffer is empty the two are exchanged.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::loss::LinkLoss;
use crate::frame::{FramePrefix, MAX_FRAME_BYTES, PREFIX_BYTES};
use crate::long::Pages;
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

/// Long payloads that one buffer can have between its bytes; what does not fit is for the caller to send in another way.
const LONG_MOST: usize = 64;

/// A long payload, which is sent from where it lies.
#[derive(Debug, Clone)]
struct LongPayload {
    /// It comes before this byte of the buffer.
    before: usize,
    pages: Arc<dyn Pages>,
    at: usize,
    bytes: usize,
}

/// Bytes on their way into the socket or the ring.
#[derive(Debug)]
pub(super) struct Sending {
    buffer: SendBuffer,
    sent: usize,
    longs: Vec<LongPayload>,
    /// Those of them that have been sent, and how much of the next.
    longs_sent: usize,
    long_sent: usize,
    /// Some of it cannot wait. Otherwise the socket may keep it until something follows.
    urgent: bool,
    /// The link has ended: half a frame may have been sent, so nothing may follow.
    is_closed: bool,
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

/// What the socket or the ring took in one attempt to send.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    /// The last of them may still wait in the socket.
    pub(super) put_off: bool,
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
    longs: Vec<LongPayload>,
    /// Bytes of them.
    long_bytes: usize,
    /// Some of it cannot wait.
    urgent: bool,
    /// The link has ended: nothing is kept any more.
    is_closed: bool,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                buffer: SendBuffer::new(),
                packer: Packer::new(),
                longs: Vec::with_capacity(LONG_MOST),
                long_bytes: 0,
                urgent: false,
                is_closed: false,
            }),
            sending: Mutex::new(Sending {
                buffer: SendBuffer::new(),
                sent: 0,
                longs: Vec::with_capacity(LONG_MOST),
                longs_sent: 0,
                long_sent: 0,
                urgent: false,
                is_closed: false,
                armed: false,
            }),
        }
    }

    /// Appends one frame, with the prefix that holds at that moment; `fill` writes the payload in place, which is then packed if `packs` and that makes it shorter. It may wait for
    /// another if it is not `urgent`. `on_queued` runs under the queue's lock. Returns how many bytes packing has saved.
    ///
    /// # Errors
    /// The number of bytes that wait already, when the limit is reached.
    pub(super) fn enqueue(
        &self,
        prefix: impl FnOnce() -> FramePrefix,
        message: &[u8],
        (packs, urgent): (bool, bool),
        fill: impl FnOnce(&mut [u8]),
        on_queued: impl FnOnce(),
    ) -> Result<usize, usize> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { buffer, packer, long_bytes, is_closed, urgent: hastens, .. } = &mut *queue;
        let start = buffer.length;
        if *is_closed {
            return Ok(0);
        }
        if start + *long_bytes >= TX_LIMIT_BYTES {
            return Err(start + *long_bytes);
        }
        let prefix = prefix();
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
        *hastens |= urgent;
        on_queued();
        Ok(prefix.frame_bytes() - sent.frame_bytes())
    }

    /// Appends one frame with a long payload, the `bytes` bytes of `pages` from `at` on. `on_queued` runs under the queue's lock. False
    /// when there is no room for one more such payload.
    pub(super) fn enqueue_long(
        &self,
        prefix: impl FnOnce() -> FramePrefix,
        message: &[u8],
        (pages, at, bytes): (&Arc<dyn Pages>, usize, usize),
        on_queued: impl FnOnce(),
    ) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { buffer, longs, long_bytes, is_closed, .. } = &mut *queue;
        let start = buffer.length;
        if *is_closed || longs.len() == LONG_MOST || start + *long_bytes >= TX_LIMIT_BYTES {
            return false;
        }
        let before = start + PREFIX_BYTES + message.len();
        buffer.bytes[start..start + PREFIX_BYTES].copy_from_slice(&prefix().encode());
        buffer.bytes[start + PREFIX_BYTES..before].copy_from_slice(message);
        buffer.length = before;
        longs.push(LongPayload { before, pages: pages.clone(), at, bytes });
        *long_bytes += bytes;
        queue.urgent = true;
        on_queued();
        true
    }

    /// Bytes that wait and are not on their way yet.
    pub(super) fn queued(&self) -> usize {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.buffer.length + queue.long_bytes
    }

    /// The link has ended: nothing is sent any more, and the memory of long payloads is let go of.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.is_closed = true;
        queue.buffer.length = 0;
        queue.longs.clear();
        queue.long_bytes = 0;
        drop(queue);
        self.sending.lock().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// The right to send, or `None` while another thread has it.
    pub(super) fn try_sending(&self) -> Option<MutexGuard<'_, Sending>> {
        match self.sending.try_lock() {
            Ok(sending) => Some(sending),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Sends until the queue is empty, the socket is full, or the link is broken. Never blocks. Returns also what
    /// was taken.
    pub(super) fn send(
        &self,
        sending: &mut Sending,
        way: Way<'_>,
        on_drained: impl FnOnce(),
    ) -> (SendOutcome, Taken) {
        let mut taken = Taken::default();
        loop {
            if sending.is_closed || sending.is_done() {
                sending.clear();
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if queue.buffer.length == 0 || sending.is_closed {
                    on_drained();
                    return (SendOutcome::Drained, taken);
                }
                std::mem::swap(&mut queue.buffer, &mut sending.buffer);
                std::mem::swap(&mut queue.longs, &mut sending.longs);
                queue.long_bytes = 0;
                sending.urgent = std::mem::take(&mut queue.urgent);
            }
            match sending.send_some(way) {
                Ok(Some(count)) => {
                    taken = Taken { bytes: taken.bytes + count, put_off: !sending.urgent };
                }
                Ok(None) => return (SendOutcome::Blocked, taken),
                Err(why) => {
                    sending.close();
                    return (SendOutcome::Broken(why), taken);
                }
            }
        }
    }
}

impl Sending {
    fn is_done(&self) -> bool {
        self.sent == self.buffer.length && self.longs_sent == self.longs.len()
    }

    fn clear(&mut self) {
        self.buffer.length = 0;
        self.sent = 0;
        self.longs.clear();
        self.longs_sent = 0;
        self.long_sent = 0;
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.clear();
    }

    /// Sends what comes next, up to where another memory begins; says how many bytes were taken, `None` when there was no room.
    fn send_some(&mut self, way: Way<'_>) -> Result<Option<usize>, LinkLoss> {
        let next = self.longs.get(self.longs_sent);
        let end = next.map_or(self.buffer.length, |long| long.before);
        let head = &self.buffer.bytes[self.sent..end];
        let Some(LongPayload { pages, at, bytes, .. }) = next else {
            let taken = way.take(head, self.urgent)?;
            self.sent += taken.unwrap_or(0);
            return Ok(taken);
        };
        let taken = way.take_pages(head, &**pages, at + self.long_sent, bytes - self.long_sent)?;
        let count = taken.unwrap_or(0);
        let of_head = count.min(head.len());
        self.sent += of_head;
        self.long_sent += count - of_head;
        if self.long_sent == *bytes {
            self.longs_sent += 1;
            self.long_sent = 0;
        }
        Ok(taken)
    }
}

/// What bytes are sent through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    Socket(&'a TcpStream),
    Ring(&'a RingLink),
}

impl Way<'_> {
    /// How many of `bytes` were taken, some of them; `None` when there is no room. If they are not `urgent` the socket may keep them.
    fn take(self, bytes: &[u8], urgent: bool) -> Result<Option<usize>, LinkLoss> {
        match self {
            Way::Socket(stream) => loop {
                let wait = if urgent { SendFlags::empty() } else { SendFlags::MORE };
                match rustix::net::send(stream, bytes, wait | SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
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

    /// The same for a long payload and what comes before it.
    fn take_pages(
        self,
        head: &[u8],
        pages: &dyn Pages,
        at: usize,
        bytes: usize,
    ) -> Result<Option<usize>, LinkLoss> {
        match self {
            Way::Socket(stream) => loop {
                match pages.send(stream.as_fd(), head, at, bytes) {
                    Ok(count) => return Ok(Some(count)),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(None),
                    Err(errno) => return Err(LinkLoss::from_errno(errno)),
                }
            },
            Way::Ring(ring) => {
                let piece = &head[..head.len().min(RING_PIECE_BYTES)];
                let mut count = ring.end.write(piece).map_err(LinkLoss::BadRing)?;
                if count == head.len() {
                    let of_pages = pages.write(&*ring.end, at, bytes.min(RING_PIECE_BYTES));
                    count += of_pages.map_err(LinkLoss::BadRing)?;
                }
                if count == 0 {
                    return Ok(None);
                }
                // Once for both: to look whether the peer sleeps takes until all that was written has left this processor.
                ring.call();
                Ok(Some(count))
            }
        }
    }
}
