//! `sigaction` and its kin, in the place of the C library's.
//!
//! Page faults come as SIGBUS or SIGSEGV. A program that sets a handler of its own for these while the library is in use would
//! take the faults away from it. So for these two signals, what the program sets is kept and called for everything that is no fault
//! of ours, and the program is told what it has set, as if we were not there. All other signals go straight to the C library.
//!
//! The names are found here rather than in the C library by the program and by the libraries that are loaded after this one. With the
//! static library only by what is linked into the program itself: a shared library that sets a handler goes past us then.

use libc::{c_int, sighandler_t};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

unsafe extern "C" {
    /// Other names of the C library for `signal`, BSD's and System V's, that nobody puts anything in the place of.
    fn ssignal(number: c_int, handler: sighandler_t) -> sighandler_t;
    fn sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t;
}

fn is_ours(number: c_int) -> bool {
    number == libc::SIGBUS || number == libc::SIGSEGV
}

/// `sigaction(2)`.
///
/// # Safety
/// As in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(
    number: c_int,
    action: *const libc::sigaction,
    previous: *mut libc::sigaction,
) -> c_int {
    // SAFETY: promised by the caller.
    unsafe { pagemesh::signals::sigaction(number, action, previous) }
}

/// `signal(2)` with the meaning of BSD: the handler stays, and interrupted calls go on.
///
/// # Safety
/// As in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    if is_ours(number) {
        // SAFETY: promised by the caller.
        unsafe { set(number, handler, libc::SA_RESTART) }
    } else {
        // SAFETY: promised by the caller.
        unsafe { ssignal(number, handler) }
    }
}

/// [`signal`] under its older name.
///
/// # Safety
/// As in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bsd_signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: promised by the caller.
    unsafe { signal(number, handler) }
}

/// `signal(2)` with the meaning of System V, which glibc gives to programs in strict ISO C: the handler is called once.
///
/// # Safety
/// As in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    if is_ours(number) {
        // SAFETY: promised by the caller.
        unsafe { set(number, handler, libc::SA_RESETHAND | libc::SA_NODEFER) }
    } else {
        // SAFETY: promised by the caller.
        unsafe { sysv_signal(number, handler) }
    }
}

unsafe fn set(number: c_int, handler: sighandler_t, flags: c_int) -> sighandler_t {
    if handler == libc::SIG_ERR {
        // SAFETY: a bad number sets errno as this case does, and changes nothing.
        unsafe { pagemesh::signals::sigaction(-1, null(), null_mut()) };
        return libc::SIG_ERR;
    }
    // SAFETY: all zeros is a disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    let mut previous = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: both are ours; the handler is the caller's to answer for.
    match unsafe { pagemesh::signals::sigaction(number, &raw const action, previous.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => unsafe { previous.assume_init().sa_sigaction },
        _ => libc::SIG_ERR,
    }
}
