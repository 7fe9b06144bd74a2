//! Private memory that stands in for shared memory while a call may wait.

use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Up to this many bytes lie on the stack: signal handlers, which may make these calls, often run on 8 KiB.
const STACK_BYTES: usize = 2048;

/// Room on the stack for a small [`Bounce`].
pub(crate) type Room = MaybeUninit<[u64; STACK_BYTES / 8]>;

/// A private buffer. Mapped where it is large: `malloc` is nothing for a signal handler, and of a mapping only those pages
/// cost memory that the kernel fills.
pub(crate) struct Bounce<'a> {
    start: *mut c_void,
    /// What is to be unmapped; nothing of a buffer on the stack.
    mapped: usize,
    room: std::marker::PhantomData<&'a mut Room>,
}

impl Bounce<'_> {
    /// A buffer of `bytes`, aligned for anything; in `room` if it fits. `None` when there is no memory.
    pub(crate) fn new(room: &mut Room, bytes: usize) -> Option<Bounce<'_>> {
        let room_marker = std::marker::PhantomData;
        if bytes <= STACK_BYTES {
            return Some(Bounce { start: room.as_mut_ptr().cast(), mapped: 0, room: room_marker });
        }
        let rights = PROT_READ | PROT_WRITE;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: the kernel chooses addresses that nobody uses.
        let start = unsafe { libc::mmap(null_mut(), bytes, rights, flags, -1, 0) };
        (start != MAP_FAILED).then_some(Bounce { start, mapped: bytes, room: room_marker })
    }

    pub(crate) fn start(&self) -> *mut c_void {
        self.start
    }
}

impl Drop for Bounce<'_> {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: mapped by `new`, and used by nobody else.
            unsafe { libc::munmap(self.start, self.mapped) };
        }
    }
}
