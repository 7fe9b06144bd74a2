//! Memory that two processes of one machine share, and the two streams of bytes that pass through it.
//!
//! The process at the other end may be broken or hostile, and may write anywhere in this memory at any time. So nothing that
//! it can write is believed twice: each end keeps its own position where the other cannot reach it, reads the position of the other
//! once, checks it, and goes on with the copy; bytes are copied out before anyone looks at them. The worst that the other end can
//! do is to lose its own bytes. It cannot make the file shorter under us, which would turn an access into a signal: the file is
//! sealed before it is shared (`fcntl(2)`, `F_SEAL_SHRINK`), and a file that is not is refused.
//!
//! The file begins with a page of positions, two lanes of 1024 bytes; then come the bytes of each lane.
//!
//! | offset in a lane | what | who writes it |
//! |---|---|---|
//! | 0 | bytes ever written, 64 bits | the writer |
//! | 128 | bytes ever read, 64 bits | the reader |
//! | 256 | the reader wants to be called, 32 bits | the reader sets it, the writer clears it |
//! | 384 | the writer wants to be called, 32 bits | the writer sets it, the reader clears it |
//!
//! Each has a pair of cache lines of its own, since the processor fetches them in pairs. Lane 0 is written by the process that
//! made the file, lane 1 by the one that opened it.

mod lane;

use crate::mapped::{MappedRange, Memory};
use crate::{MappingError, PAGE_BYTES};
use lane::{Incoming, Outgoing};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Fewest bytes of one direction: some frames.
pub const RING_BYTES_LEAST: usize = 64 * 1024;
/// Most bytes of one direction.
pub const RING_BYTES_MOST: usize = 16 * 1024 * 1024;

const LANES_AT: usize = PAGE_BYTES;
const LANE_HEAD_BYTES: usize = 1024;

/// The other end has written a position that no honest end could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the other end of a shared ring says that it is at byte {found}, which must be from {least} to {most}: it is broken; drop it"
)]
pub struct RingFault {
    /// What was found.
    pub found: u64,
    /// The least that it could be.
    pub least: u64,
    /// The most that it could be.
    pub most: u64,
}

/// Why a ring could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The kernel refused.
    #[error("a shared ring cannot be had: {call}: {errno}")]
    Failed {
        /// The system call.
        call: &'static str,
        /// What the kernel says.
        errno: Errno,
    },
    /// The memory cannot be mapped.
    #[error("a shared ring cannot be mapped: {0}")]
    Mapping(#[from] MappingError),
    /// The file is not one that another process made by [`SharedRing::create`].
    #[error("a file that was offered as a shared ring is none: {what}")]
    Foreign {
        /// What is wrong with it.
        what: String,
    },
}

/// One end of a ring: what this process writes the other reads, and the other way round.
///
/// One thread at a time writes, and one at a time reads; two that break this rule garble the bytes and nothing else. The rest can be
/// called by any thread.
#[derive(Debug)]
pub struct SharedRing {
    outgoing: Outgoing,
    incoming: Incoming,
    _range: MappedRange,
}

impl SharedRing {
    /// Makes a file with room for `bytes` in each direction (rounded up to a power of two, within [`RING_BYTES_LEAST`] and
    /// [`RING_BYTES_MOST`]), and opens this process's end. The file is for the other process; only what is touched of it takes
    /// memory.
    ///
    /// # Errors
    /// When the kernel refuses the file, or to map it.
    pub fn create(bytes: usize) -> Result<(SharedRing, OwnedFd), RingError> {
        let bytes = bytes.clamp(RING_BYTES_LEAST, RING_BYTES_MOST).next_power_of_two();
        let memory = Memory::new(LANES_AT + 2 * bytes)?;
        let ring = SharedRing::over(&memory, bytes, true)?;
        Ok((ring, memory.into_file()))
    }

    /// Opens the other end of a ring, in the `file` that another process has made.
    ///
    /// # Errors
    /// When the file could shrink, does not have the size of a ring, or cannot be mapped.
    pub fn open(file: OwnedFd) -> Result<SharedRing, RingError> {
        let memory = Memory::sealed(file).map_err(|what| RingError::Foreign { what })?;
        let bytes = memory.bytes().saturating_sub(LANES_AT) / 2;
        let fits = bytes.is_power_of_two() && memory.bytes() == LANES_AT + 2 * bytes;
        if !fits || !(RING_BYTES_LEAST..=RING_BYTES_MOST).contains(&bytes) {
            let what = format!("{} bytes are not the size of one", memory.bytes());
            return Err(RingError::Foreign { what });
        }
        SharedRing::over(&memory, bytes, false)
    }

    fn over(memory: &Memory, bytes: usize, creator: bool) -> Result<SharedRing, RingError> {
        let range = MappedRange::new(memory, None)?;
        let lane = |lane: usize| {
            let head = range.start().wrapping_add(lane * LANE_HEAD_BYTES);
            (head, range.start().wrapping_add(LANES_AT + lane * bytes))
        };
        let (ours, theirs) = if creator { (lane(0), lane(1)) } else { (lane(1), lane(0)) };
        // SAFETY: both lanes lie in `range`, which is mapped readable and writable and lives as long as the ring: the head of a
        // lane ends within the first page, and its bytes within the file, whose size is sealed.
        let (outgoing, incoming) =
            unsafe { (Outgoing::new(ours.0, ours.1, bytes), Incoming::new(theirs.0, theirs.1, bytes)) };
        Ok(SharedRing { outgoing, incoming, _range: range })
    }

    /// Bytes that one direction holds.
    pub fn capacity_bytes(&self) -> usize {
        self.outgoing.capacity_bytes()
    }

    /// Appends as many of `bytes` as there is room for, and says how many. The other end can read them when this returns.
    ///
    /// # Errors
    /// When the other end says that it has read what was never written.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, RingFault> {
        self.outgoing.write(bytes)
    }

    /// Takes what has arrived, as far as it fits, and says how many bytes. The other end has room for more after
    /// [`take_writer_call`](Self::take_writer_call).
    ///
    /// # Errors
    /// When the other end says that it has written more than there is room for.
    pub fn read(&self, space: &mut [u8]) -> Result<usize, RingFault> {
        self.incoming.read(space)
    }

    /// As [`write`](Self::write), of what lies at an address.
    ///
    /// # Safety
    /// `bytes` bytes can be read at `from`; others may change them meanwhile.
    pub(crate) unsafe fn write_from(&self, from: *const u8, bytes: usize) -> Result<usize, RingFault> {
        // SAFETY: the caller's promise.
        unsafe { self.outgoing.write_from(from, bytes) }
    }

    /// As [`read`](Self::read), to an address.
    ///
    /// # Safety
    /// `bytes` bytes can be written at `to`, and nobody has references to them.
    pub(crate) unsafe fn read_to(&self, to: *mut u8, bytes: usize) -> Result<usize, RingFault> {
        // SAFETY: the caller's promise.
        unsafe { self.incoming.read_to(to, bytes) }
    }

    /// Whether [`read`](Self::read) would return something else than 0. Costs one load.
    pub fn is_readable(&self) -> bool {
        self.incoming.is_readable()
    }

    /// Whether [`write`](Self::write) would return something else than 0.
    pub fn is_writable(&self) -> bool {
        self.outgoing.is_writable()
    }

    /// Whether this end wants to be called when something was written for it. Whoever sets this, and then finds the ring not
    /// readable, will be called.
    pub fn call_reader(&self, wanted: bool) {
        self.incoming.want_call(wanted);
    }

    /// Whether this end wants to be called when there is room again. Whoever sets this, and then finds the ring not writable, will be
    /// called.
    pub fn call_writer(&self, wanted: bool) {
        self.outgoing.want_call(wanted);
    }

    /// After a write: whether the other end wants to be called for it. Asked once, the wish is gone.
    pub fn take_reader_call(&self) -> bool {
        self.outgoing.take_call()
    }

    /// After reads: makes room for the other end, and says whether that wants to be called for it. Asked once, the wish is gone. It is
    /// apart from [`read`](Self::read) since the other processor has the memory that it writes, so that whatever is done next may have to wait for that.
    pub fn take_writer_call(&self) -> bool {
        self.incoming.give_room()
    }
}

impl Memory {
    /// A file that another process made.
    pub(crate) fn sealed(file: OwnedFd) -> Result<Memory, String> {
        use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
        let needed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let seals = fcntl_get_seals(&file).map_err(|errno| format!("it has no seals: {errno}"))?;
        if !seals.contains(needed) {
            return Err(format!("its size is not sealed ({seals:?})"));
        }
        let bytes = fstat(&file).map_err(|errno| format!("its size is unknown: {errno}"))?.st_size;
        let bytes =
            usize::try_from(bytes).ok().filter(|bytes| *bytes > 0 && bytes.is_multiple_of(PAGE_BYTES));
        bytes.map(|bytes| Memory::of(file, bytes)).ok_or_else(|| "it is not made of whole pages".to_owned())
    }
}

#[cfg(test)]
mod tests;
