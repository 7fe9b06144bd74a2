//! Pins: ranges of a region that stay here while a system call works on them.

use crate::{PinError, Region};
use pagemesh_protocol::{Access, PinId};
use std::fmt;
use std::ops::Range;

/// Keeps a range of a [`Region`] on this node until it is dropped: readable, or writable and nowhere else.
///
/// System calls do not fault shared pages in, except with the `handler` pager; on pages that are pinned they just work:
///
/// ```
/// # use pagemesh::{Access, Config, Mesh, RegionOptions};
/// # use std::io::Write;
/// # use std::os::fd::AsRawFd;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mesh = Mesh::join(Config::single())?;
/// # let mut file = tempfile::tempfile()?;
/// # file.write_all(b"as in a file")?;
/// let region = mesh.region("text", RegionOptions::new(1 << 16))?;
/// let pin = region.pin(100..112, Access::Write)?;
/// // SAFETY: the kernel writes at most the bytes that are pinned.
/// let count = unsafe { libc::pread(file.as_raw_fd(), pin.io_pointer().cast(), pin.len(), 0) };
/// pin.release()?;
/// assert_eq!(count, 12);
/// let mut bytes = [0; 12];
/// region.slice::<u8>(100, 12)?.read(0, &mut bytes)?;
/// assert_eq!(&bytes, b"as in a file");
/// # Ok(())
/// # }
/// ```
///
/// Who wants a pinned page waits, but not for ever: after a deadline (1 s, [`Config::pin_deadline`](crate::Config::pin_deadline))
/// from when somebody begins to wait, the page goes, and [`release`](PinGuard::release) says so. So pin for one call that does
/// not block, and not while you wait for anything of another node. Pins nest, and those of several nodes do not wait for each
/// other in a circle when each thread takes them in the order of their addresses; else the deadline parts them.
///
/// A pin for reading lets other nodes read too, where the region's protocol lets several nodes read at all.
#[must_use = "the pages are let go when the guard is dropped"]
pub struct PinGuard {
    region: Region,
    bytes: Range<usize>,
    access: Access,
    pin: Option<PinId>,
}

impl fmt::Debug for PinGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinGuard")
            .field("region", &self.region.name())
            .field("bytes", &self.bytes)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl PinGuard {
    pub(crate) fn new(region: Region, bytes: Range<usize>, access: Access, pin: PinId) -> PinGuard {
        PinGuard { region, bytes, access, pin: Some(pin) }
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The bytes that were asked for; all of their pages are pinned.
    pub fn range(&self) -> Range<usize> {
        self.bytes.clone()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What it was pinned for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether every page is still here. An answer of yes may be old as soon as the deadline has passed.
    pub fn is_held(&self) -> bool {
        self.pin.is_some_and(|pin| self.region.runtime().holds(pin))
    }

    /// The first byte, where the application sees it ([`Region::as_ptr`]). A system call on it fails with `EFAULT` for a page that
    /// a deadline has taken. It may do so also, though that is rare, where the kernel or the `sigsegv` pager had to drop a mapping
    /// meanwhile: [`io_pointer`](PinGuard::io_pointer) does not know that.
    pub fn as_ptr(&self) -> *mut u8 {
        self.region.as_ptr().wrapping_add(self.bytes.start)
    }

    /// The first byte in a second mapping of the same memory, on which nothing ever faults: for system calls, and for devices that
    /// use memory after the call has returned. Valid until the guard is gone. What is written here while the pages are pinned for
    /// writing is written by this node, as a store is.
    ///
    /// Nothing is protected here. Bytes that are read after a deadline has taken a page are old; a write then may damage
    /// the copy that this node gets of the page later. Whoever cannot be sure to be in time, as a read from a socket, uses
    /// [`as_ptr`](PinGuard::as_ptr), waits until the data is there, or reads into private memory. No reference may be made from it:
    /// other threads change the bytes.
    pub fn io_pointer(&self) -> *mut u8 {
        self.region.io_pointer_at(self.bytes.start)
    }

    /// Lets the pages go.
    ///
    /// # Errors
    /// [`PinError::Taken`] when a deadline had let another node have one of them before; [`PinError::Access`] when this
    /// node has left its mesh meanwhile.
    pub fn release(mut self) -> Result<(), PinError> {
        self.pin.take().map_or(Ok(()), |pin| self.region.unpin(pin))
    }
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        if let Some(pin) = self.pin.take() {
            // Whether a deadline took a page matters to those who call `release`.
            let _ = self.region.runtime().unpin(pin);
        }
    }
}
