//! Which ranges of addresses are shared memory, and what to call for them: the interface to the runtime in this process.
//!
//! The runtime looks [`pagemesh_preload_add_v1`] and [`pagemesh_preload_remove_v1`] up by name (dlsym(3) in `RTLD_DEFAULT`) whenever
//! it maps a region; where they are not, this library is not loaded. The names carry the version of the interface.
//!
//! The table is atomics only: it is read in signal handlers, and while regions come and go. A reader may see a range that is
//! going, or one whose slot is being filled anew; the functions it then calls find no region at the address and say so.
//! A process made by fork(2) has the table of its parent and none of its regions, so every entry says whose it is.

use libc::{ENOSPC, c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Ranges at a time, as many as there can be regions in a process.
const SLOTS: usize = 1024;

/// What the runtime does for an address in a range that it registered. Each function is told addresses within one range, can be
/// called by any thread, and returns 0 or an error number: `ENOENT` when no region is there any more.
#[derive(Debug)]
#[repr(C)]
pub struct Handlers {
    /// Gets the pages of `bytes` bytes at `address`, for writing if `write` is not 0, and holds them if it can.
    pub pin: unsafe extern "C" fn(address: usize, bytes: usize, write: c_int) -> c_int,
    /// Ends a `pin` that returned 0. Returns 0 when the pages were here all the while, `EAGAIN` when some may have been
    /// away.
    pub unpin: unsafe extern "C" fn(address: usize, bytes: usize, write: c_int) -> c_int,
    /// Copies `bytes` private bytes to `address`. `EFAULT` when a page cannot be had.
    pub copy_in: unsafe extern "C" fn(address: usize, from: *const c_void, bytes: usize) -> c_int,
    /// Copies `bytes` bytes at `address` to private memory. `EFAULT` when a page cannot be had.
    pub copy_out: unsafe extern "C" fn(to: *mut c_void, address: usize, bytes: usize) -> c_int,
}

/// No process's number.
const FREE: u32 = 0;
/// Being filled in.
const CLAIMED: u32 = u32::MAX;

struct Slot {
    /// The process that registered the range, [`FREE`] or [`CLAIMED`].
    process: AtomicU32,
    start: AtomicUsize,
    end: AtomicUsize,
    handlers: AtomicPtr<Handlers>,
}

static SLOT: [Slot; SLOTS] = [const {
    Slot {
        process: AtomicU32::new(FREE),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        handlers: AtomicPtr::new(null_mut()),
    }
}; SLOTS];

/// Slots from here on have never been used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Bounds of every range that ever was: what keeps other buffers from looking at slots.
static LOWEST: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a buffer that lie in one range.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) handlers: &'static Handlers,
}

/// This process's number.
fn process() -> u32 {
    // SAFETY: asks for a number, and cannot fail.
    unsafe { libc::getpid() }.cast_unsigned()
}

/// Registers the `bytes` bytes at `start` as shared memory. Returns 0, or `ENOSPC` when the table is full.
///
/// # Safety
/// `handlers` and its functions stay valid until the process ends; the range stays mapped until it is removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagemesh_preload_add_v1(
    start: usize,
    bytes: usize,
    handlers: *const Handlers,
) -> c_int {
    let own = process();
    for (index, slot) in SLOT.iter().enumerate() {
        let found = slot.process.load(Ordering::Relaxed);
        // What another process left here is our parent's, and not here.
        let taken = found == own
            || found == CLAIMED
            || slot.process.compare_exchange(found, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_err();
        if taken {
            continue;
        }
        slot.start.store(start, Ordering::Relaxed);
        slot.end.store(start.saturating_add(bytes), Ordering::Relaxed);
        slot.handlers.store(handlers.cast_mut(), Ordering::Relaxed);
        slot.process.store(own, Ordering::Release);
        USED.fetch_max(index + 1, Ordering::Release);
        LOWEST.fetch_min(start, Ordering::Release);
        HIGHEST.fetch_max(start.saturating_add(bytes), Ordering::Release);
        return 0;
    }
    ENOSPC
}

/// Takes the range that begins at `start` out again. Calls under way may still ask for it.
#[unsafe(no_mangle)]
pub extern "C" fn pagemesh_preload_remove_v1(start: usize) {
    let own = process();
    for slot in &SLOT[..USED.load(Ordering::Acquire)] {
        if slot.process.load(Ordering::Acquire) == own && slot.start.load(Ordering::Relaxed) == start {
            slot.process.store(FREE, Ordering::Release);
        }
    }
}

/// Whether a byte of the buffer lies in shared memory.
#[inline]
pub(crate) fn shares(buffer: *const c_void, bytes: usize) -> bool {
    let address = buffer.addr();
    // The buffer's end may wrap around: the kernel is to say what it thinks of that.
    address < HIGHEST.load(Ordering::Acquire)
        && address.saturating_add(bytes) > LOWEST.load(Ordering::Acquire)
        && first(address, bytes).is_some()
}

/// Whether anything is, or was, registered.
#[inline]
pub(crate) fn is_used() -> bool {
    HIGHEST.load(Ordering::Acquire) != 0
}

/// The first part of a buffer that lies in shared memory.
#[cold]
#[inline(never)]
pub(crate) fn first(address: usize, bytes: usize) -> Option<Shared> {
    let end = address.saturating_add(bytes);
    let own = process();
    let parts = SLOT[..USED.load(Ordering::Acquire)].iter().filter_map(|slot| {
        if slot.process.load(Ordering::Acquire) != own {
            return None;
        }
        let from = address.max(slot.start.load(Ordering::Relaxed));
        let to = end.min(slot.end.load(Ordering::Relaxed));
        // SAFETY: null, or valid until the process ends.
        let handlers = unsafe { slot.handlers.load(Ordering::Relaxed).as_ref() }?;
        (from < to).then(|| Shared { address: from, bytes: to - from, handlers })
    });
    parts.min_by_key(|part| part.address)
}

/// The buffer as shared memory, if all of it lies in one range.
pub(crate) fn whole(buffer: *const c_void, bytes: usize) -> Option<Shared> {
    first(buffer.addr(), bytes).filter(|part| part.address == buffer.addr() && part.bytes == bytes)
}

impl Shared {
    /// `bytes` bytes of these, from `offset` on.
    pub(crate) fn part(&self, offset: usize, bytes: usize) -> Shared {
        debug_assert!(offset + bytes <= self.bytes);
        Shared { address: self.address + offset, bytes, handlers: self.handlers }
    }

    /// Gets the pages of these bytes and holds them as long as the value lives.
    pub(crate) fn pin(self, write: bool) -> Result<Pinned, c_int> {
        // SAFETY: the addresses lie in a range that these functions were registered for.
        match unsafe { (self.handlers.pin)(self.address, self.bytes, c_int::from(write)) } {
            0 => Ok(Pinned { shared: self, write }),
            error => Err(error),
        }
    }

    /// Copies private bytes here, as many as these are.
    ///
    /// # Safety
    /// `from` is good for as many bytes.
    pub(crate) unsafe fn copy_in(&self, from: *const c_void) -> Result<(), c_int> {
        // SAFETY: promised by the caller, and as in `pin`.
        result(unsafe { (self.handlers.copy_in)(self.address, from, self.bytes) })
    }

    /// Copies these to private memory.
    ///
    /// # Safety
    /// `to` is good for as many bytes.
    pub(crate) unsafe fn copy_out(&self, to: *mut c_void) -> Result<(), c_int> {
        // SAFETY: promised by the caller, and as in `pin`.
        result(unsafe { (self.handlers.copy_out)(to, self.address, self.bytes) })
    }
}

fn result(error: c_int) -> Result<(), c_int> {
    if error == 0 { Ok(()) } else { Err(error) }
}

/// Pages that are held; dropping it lets them go, also when the thread is cancelled.
pub(crate) struct Pinned {
    shared: Shared,
    write: bool,
}

impl Pinned {
    /// Lets the pages go. False when some may have been away in the meantime.
    pub(crate) fn release(self) -> bool {
        let Pinned { shared, write } = self;
        std::mem::forget(self);
        shared.unpin(write)
    }
}

impl Shared {
    fn unpin(&self, write: bool) -> bool {
        // SAFETY: as in `pin`, whose end this is.
        unsafe { (self.handlers.unpin)(self.address, self.bytes, c_int::from(write)) == 0 }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.shared.unpin(self.write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn nothing(_: usize, _: usize, _: c_int) -> c_int {
        0
    }
    unsafe extern "C" fn no_copy_in(_: usize, _: *const c_void, _: usize) -> c_int {
        0
    }
    unsafe extern "C" fn no_copy_out(_: *mut c_void, _: usize, _: usize) -> c_int {
        0
    }
    static NOTHING: Handlers =
        Handlers { pin: nothing, unpin: nothing, copy_in: no_copy_in, copy_out: no_copy_out };

    fn pointer(address: usize) -> *const c_void {
        std::ptr::without_provenance(address)
    }

    #[test]
    fn a_buffer_is_shared_from_the_first_common_byte_to_the_last() {
        let base = 0x6a00_0000_0000;
        // SAFETY: nobody touches the addresses.
        assert_eq!(unsafe { pagemesh_preload_add_v1(base, 0x2000, &raw const NOTHING) }, 0);
        assert!(!shares(pointer(base - 16), 16) && shares(pointer(base - 16), 17));
        assert!(shares(pointer(base + 0x1fff), 1) && !shares(pointer(base + 0x2000), 1));
        assert!(!shares(pointer(base), 0) && shares(pointer(base - 1), usize::MAX));
        assert!(whole(pointer(base), 0x2000).is_some() && whole(pointer(base - 1), 2).is_none());
        assert!(whole(pointer(base + 0x1fff), 2).is_none());
        let part = first(base + 0x1000, 0x8000).unwrap();
        assert_eq!((part.address, part.bytes), (base + 0x1000, 0x1000));
        pagemesh_preload_remove_v1(base);
        assert!(!shares(pointer(base), 1));
    }

    #[test]
    fn slots_are_used_again() {
        let base = 0x6b00_0000_0000;
        for _ in 0..2 * SLOTS {
            // SAFETY: nobody touches the addresses.
            assert_eq!(unsafe { pagemesh_preload_add_v1(base, 0x1000, &raw const NOTHING) }, 0);
            pagemesh_preload_remove_v1(base);
        }
    }

    #[test]
    fn a_forked_child_shares_nothing() {
        let base = 0x6c00_0000_0000;
        // SAFETY: nobody touches the addresses.
        assert_eq!(unsafe { pagemesh_preload_add_v1(base, 0x1000, &raw const NOTHING) }, 0);
        // SAFETY: the child looks at atomics and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(shares(pointer(base), 1));
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: waits for our child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(shares(pointer(base), 1));
        pagemesh_preload_remove_v1(base);
    }
}
