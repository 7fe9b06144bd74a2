//! The calling thread's `errno`.

use libc::c_int;

pub(crate) fn get() -> c_int {
    // SAFETY: the address of this thread's own variable.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(value: c_int) {
    // SAFETY: the address of this thread's own variable.
    unsafe { *libc::__errno_location() = value };
}

/// What a call that fails with `value` returns.
pub(crate) fn fail(value: c_int) -> isize {
    set(value);
    -1
}

/// Remembers `errno` for calls that succeed: what happens on their way is nobody's business.
pub(crate) struct Kept(c_int);

impl Kept {
    pub(crate) fn new() -> Kept {
        Kept(get())
    }

    /// The result of a call; with the old `errno` if it is none of an error.
    pub(crate) fn after(&self, result: isize) -> isize {
        if result >= 0 {
            set(self.0);
        }
        result
    }
}
