//! One direction of a ring, as its writer and as its reader see it.

use super::RingFault;
use crate::recoverable::sites;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Of what is no more than some pages the reader hears in pieces of so many bytes: it takes them out while the next are put in. More goes at once, since
/// each piece costs both sides some cache misses, and a reader that is quicker than the writer much more.
const PIECE_BYTES: usize = 2048;
const IN_PIECES_MOST: usize = 2 * 4096;
/// How often a reader that has some of what it wants looks for the next piece: a fraction of a microsecond, longer than a piece takes.
const LOOKS_FOR_MORE: u32 = 20;

const WRITTEN_AT: usize = 0;
const READ_AT: usize = 128;
const READER_CALL_AT: usize = 256;
const WRITER_CALL_AT: usize = 384;

/// What both sides of a lane have in common: where it lies.
#[derive(Debug)]
struct Lane {
    head: *mut u8,
    bytes: *mut u8,
    capacity: u64,
}

// SAFETY: addresses that belong to the process, not to a thread; what lies there is only used as atomics and by `sites::transfer`.
unsafe impl Send for Lane {}
// SAFETY: see above; nothing in it changes.
unsafe impl Sync for Lane {}

impl Lane {
    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `new` was promised a mapped head, and the offsets are multiples of 8 inside it. The other process may store there at
        // any time, which an atomic allows.
        unsafe { AtomicU64::from_ptr(self.head.add(at).cast()) }
    }

    fn flag(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `position`.
        unsafe { AtomicU32::from_ptr(self.head.add(at).cast()) }
    }

    /// The place of byte `position`, and how many bytes follow it before the lane begins anew.
    fn place(&self, position: u64) -> (*mut u8, usize) {
        let offset = (position & (self.capacity - 1)) as usize;
        // SAFETY: less than `capacity`, which is a power of two, so within the lane.
        (unsafe { self.bytes.add(offset) }, self.capacity as usize - offset)
    }

    fn want_call(&self, at: usize, wanted: bool) {
        if !wanted {
            // A call too many does no harm.
            self.flag(at).store(0, Ordering::Relaxed);
            return;
        }
        self.flag(at).store(1, Ordering::Relaxed);
        // Between the wish and the look at the position: pairs with the fence of `take_call`.
        fence(Ordering::SeqCst);
    }

    fn take_call(&self, at: usize) -> bool {
        // Between the position and the look at the wish.
        fence(Ordering::SeqCst);
        // A load first: while nobody sleeps the line stays with both processors.
        self.flag(at).load(Ordering::SeqCst) != 0 && self.flag(at).swap(0, Ordering::SeqCst) != 0
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Outgoing {
    lane: Lane,
    /// Bytes written; what the head says is for the reader only.
    written: AtomicU64,
    /// Bytes that were read when that was last looked at, checked.
    read: AtomicU64,
}

impl Outgoing {
    /// # Safety
    /// The head and `capacity` bytes, a power of two, are mapped readable and writable for as long as this lives.
    pub(super) unsafe fn new(head: *mut u8, bytes: *mut u8, capacity: usize) -> Outgoing {
        let lane = Lane { head, bytes, capacity: capacity as u64 };
        Outgoing { lane, written: AtomicU64::new(0), read: AtomicU64::new(0) }
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.lane.capacity as usize
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, RingFault> {
        // SAFETY: a slice can be read.
        unsafe { self.write_from(bytes.as_ptr(), bytes.len()) }
    }

    /// # Safety
    /// `bytes` bytes can be read at `from`; others may change them meanwhile.
    pub(super) unsafe fn write_from(&self, from: *const u8, bytes: usize) -> Result<usize, RingFault> {
        let written = self.written.load(Ordering::Relaxed);
        let mut room = self.lane.capacity - (written - self.read.load(Ordering::Relaxed));
        if room < bytes as u64 {
            room = self.look(written)?;
        }
        let count = bytes.min(room as usize);
        if count == 0 {
            return Ok(0);
        }
        let most = if count <= IN_PIECES_MOST { PIECE_BYTES } else { count };
        let mut done = 0;
        while done < count {
            let (to, run) = self.lane.place(written + done as u64);
            let piece = most.min(count - done).min(run);
            // SAFETY: `piece` bytes fit before the end of the lane, and the caller lets `count` bytes or more be read. Nobody holds references
            // into the lane.
            unsafe { sites::transfer(to, from.add(done), piece) };
            done += piece;
            let written = written + done as u64;
            self.written.store(written, Ordering::Relaxed);
            self.lane.position(WRITTEN_AT).store(written, Ordering::Release);
        }
        Ok(count)
    }

    /// Looks at how far the reader is; returns the room there is.
    fn look(&self, written: u64) -> Result<u64, RingFault> {
        let least = self.read.load(Ordering::Relaxed);
        let found = self.lane.position(READ_AT).load(Ordering::Acquire);
        if !(least..=written).contains(&found) {
            return Err(RingFault { found, least, most: written });
        }
        self.read.store(found, Ordering::Relaxed);
        Ok(self.lane.capacity - (written - found))
    }

    pub(super) fn is_writable(&self) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        // Whatever else it says is for `write` to find.
        self.lane.position(READ_AT).load(Ordering::Acquire) != written.wrapping_sub(self.lane.capacity)
    }

    pub(super) fn want_call(&self, wanted: bool) {
        self.lane.want_call(WRITER_CALL_AT, wanted);
    }

    pub(super) fn take_call(&self) -> bool {
        self.lane.take_call(READER_CALL_AT)
    }
}

/// The reader's side.
#[derive(Debug)]
pub(super) struct Incoming {
    lane: Lane,
    /// Bytes read; what the head says, later, is for the writer only.
    read: AtomicU64,
}

impl Incoming {
    /// # Safety
    /// As for [`Outgoing::new`].
    pub(super) unsafe fn new(head: *mut u8, bytes: *mut u8, capacity: usize) -> Incoming {
        Incoming { lane: Lane { head, bytes, capacity: capacity as u64 }, read: AtomicU64::new(0) }
    }

    pub(super) fn read(&self, space: &mut [u8]) -> Result<usize, RingFault> {
        // SAFETY: a mutable slice can be written.
        unsafe { self.read_some(space.as_mut_ptr(), space.len()) }
    }

    /// Takes `bytes` bytes that are on their way, or those that are here, if the rest does not follow at once.
    ///
    /// # Safety
    /// `bytes` bytes can be written at `to`, and nobody has references to them.
    pub(super) unsafe fn read_to(&self, to: *mut u8, bytes: usize) -> Result<usize, RingFault> {
        let (mut done, mut looks) = (0, 0);
        loop {
            // SAFETY: the caller's promise; `done` is at most `bytes`.
            let count = unsafe { self.read_some(to.add(done), bytes - done)? };
            done += count;
            looks = if count > 0 { 0 } else { looks + 1 };
            if done == 0 || done == bytes || bytes > IN_PIECES_MOST || looks == LOOKS_FOR_MORE {
                return Ok(done);
            }
            std::hint::spin_loop();
        }
    }

    /// Takes what is here.
    ///
    /// # Safety
    /// As for [`read_to`](Self::read_to).
    unsafe fn read_some(&self, to: *mut u8, bytes: usize) -> Result<usize, RingFault> {
        let read = self.read.load(Ordering::Relaxed);
        let written = self.lane.position(WRITTEN_AT).load(Ordering::Acquire);
        let most = read + self.lane.capacity;
        if !(read..=most).contains(&written) {
            return Err(RingFault { found: written, least: read, most });
        }
        let count = bytes.min((written - read) as usize);
        if count == 0 {
            return Ok(0);
        }
        let (from, run) = self.lane.place(read);
        let first = count.min(run);
        // SAFETY: as in `write_from`: both runs lie in the lane, and the caller has room for `count` bytes. The other process may change
        // them meanwhile, which a copy in machine code bears.
        unsafe {
            sites::transfer(to, from, first);
            sites::transfer(to.add(first), self.lane.bytes, count - first);
        }
        self.read.store(read + count as u64, Ordering::Relaxed);
        Ok(count)
    }

    pub(super) fn is_readable(&self) -> bool {
        self.lane.position(WRITTEN_AT).load(Ordering::Acquire) != self.read.load(Ordering::Relaxed)
    }

    pub(super) fn want_call(&self, wanted: bool) {
        self.lane.want_call(READER_CALL_AT, wanted);
    }

    /// Tells the writer how much was read, and whether it wants to be called for that.
    pub(super) fn give_room(&self) -> bool {
        self.lane.position(READ_AT).store(self.read.load(Ordering::Relaxed), Ordering::Release);
        self.lane.take_call(WRITER_CALL_AT)
    }
}
