//! The calling thread's signal mask.

use std::ptr::null_mut;

/// SIGKILL and SIGSTOP, which no mask holds.
const NEVER_MASKED: u64 = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

/// Sets the calling thread's mask to the first 64 signals of `mask`, which are all there are, and returns what it was.
pub(super) fn set_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: reads and fills in one mask each, of the size that the kernel's own masks have. Not through libc, which would
    // leave out the signals that it uses itself: the interrupted mask has to come back as it was.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            size_of::<u64>(),
        )
    };
    before
}

/// While this lives, no signal handler runs on the thread that made it. What a signal handler may need is locked only under it:
/// a handler that interrupted the holder, on the same thread, would wait for ever.
pub(crate) struct AllMasked {
    before: u64,
    /// The mask is the thread's: the value must not go to another.
    _here: std::marker::PhantomData<*mut ()>,
}

impl AllMasked {
    pub(crate) fn new() -> AllMasked {
        AllMasked { before: set_mask(u64::MAX), _here: std::marker::PhantomData }
    }

    /// As [`new`](AllMasked::new), but for the signals by which the kernel reports what the thread itself does wrong:
    /// with these blocked it kills without a word.
    pub(crate) fn except_errors() -> AllMasked {
        let errors = [libc::SIGBUS, libc::SIGSEGV, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];
        let errors = errors.into_iter().fold(0, |all, signal| all | 1_u64 << (signal - 1));
        AllMasked { before: set_mask(!errors), _here: std::marker::PhantomData }
    }
}

impl Drop for AllMasked {
    fn drop(&mut self) {
        // In a fault handler everything is masked already.
        if self.before != !NEVER_MASKED {
            set_mask(self.before);
        }
    }
}

/// The signals that the calling thread has blocked.
pub(super) fn current_mask() -> u64 {
    let mut mask = 0_u64;
    let none = null_mut::<u64>();
    // SAFETY: without a new mask the call only fills in the current one; it has no way to fail at that.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, none, &raw mut mask, size_of::<u64>())
    };
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_back_afterwards_also_when_nested() {
        let before = current_mask();
        {
            let _outer = AllMasked::new();
            assert_eq!(current_mask(), !NEVER_MASKED);
            drop(AllMasked::new());
            assert_eq!(current_mask(), !NEVER_MASKED);
        }
        assert_eq!(current_mask(), before);
        let masked = AllMasked::except_errors();
        assert_eq!(current_mask() & 1 << (libc::SIGSEGV - 1), 0);
        assert_ne!(current_mask() & 1 << (libc::SIGTERM - 1), 0);
        drop(masked);
        assert_eq!(current_mask(), before);
    }
}
