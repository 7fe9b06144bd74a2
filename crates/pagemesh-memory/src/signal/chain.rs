//! Passing a SIGBUS that is not ours on to whoever would have had it without us.

use super::{context, default_disposition, disposition, replace_disposition, set_mask};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The bit of SIGBUS in a mask of 64 signals.
const SIGBUS_BIT: u64 = 1 << (libc::SIGBUS - 1);

/// The disposition that ours replaced; null is the default one. Never freed: a handler may be reading it.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());

/// Makes `action` the one that signals are passed on to.
pub(super) fn remember(action: &libc::sigaction) {
    PREVIOUS.store(Box::into_raw(Box::new(*action)), Ordering::Release);
}

/// Whether the disposition is a function, not one of the two constants.
pub(super) fn is_function(action: &libc::sigaction) -> bool {
    action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN
}

/// Does what the kernel would have done with the signal, had it found the disposition that ours replaced.
///
/// A function that sets the disposition back to the default and returns wants the process to die of this signal (the Rust
/// runtime's does that): then it does, also where the instruction would not fault a second time, or was never at fault.
///
/// # Safety
/// The arguments are those that the kernel gave to a handler which is still running on this thread.
pub(super) unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: promised by the caller. A copy, since the function may change what it is given.
    let original = unsafe { *info };
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: null or never freed.
    let action = unsafe { previous.as_ref() }.copied().unwrap_or_else(default_disposition);
    if action.sa_sigaction == libc::SIG_IGN {
        // The kernel does not let a process ignore its own faults.
        if original.si_code > 0 {
            die(&original);
        }
        return;
    }
    if action.sa_sigaction == libc::SIG_DFL {
        die(&original);
        return;
    }
    if action.sa_flags & libc::SA_RESETHAND != 0 {
        // It wanted to be called once.
        PREVIOUS.store(null_mut(), Ordering::Release);
    }
    // SAFETY: promised by the caller; the function has the signature that its flags say.
    unsafe { call(&action, signal, info, context) };
    if disposition().is_ok_and(|now| now.sa_sigaction == libc::SIG_DFL) {
        die(&original);
    }
}

/// Calls the function of `action` with the signals masked that it asked for.
unsafe fn call(action: &libc::sigaction, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: promised by the caller.
    let mut mask = unsafe { context::interrupted_mask(context) };
    // SAFETY: the first eight bytes of libc's set are the kernel's 64 signals.
    mask |= unsafe { (&raw const action.sa_mask).cast::<u64>().read() };
    if action.sa_flags & libc::SA_NODEFER == 0 {
        mask |= SIGBUS_BIT;
    }
    set_mask(mask);
    if action.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: without the flag the function takes the number alone.
        let function: extern "C" fn(c_int) = unsafe { std::mem::transmute(action.sa_sigaction) };
        function(signal);
    } else {
        // SAFETY: with the flag it takes all three.
        let function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(action.sa_sigaction) };
        function(signal, info, context);
    }
    // Back to what our own handler runs with; the interrupted mask returns with the interrupted code.
    set_mask(u64::MAX);
}

/// Sees to it that this thread dies of SIGBUS as soon as the handler returns, at the instruction that was interrupted and
/// with the same information, as a core dump shows it.
fn die(original: &libc::siginfo_t) {
    let _ = replace_disposition(&default_disposition());
    // The kernel lets a thread send itself any information (rt_tgsigqueueinfo(2)). SIGBUS is blocked in here: it is
    // delivered on return.
    // SAFETY: reads one siginfo.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            libc::getpid(),
            libc::gettid(),
            libc::SIGBUS,
            &raw const *original,
        )
    };
    if sent != 0 {
        // SAFETY: sends this thread a signal.
        unsafe { libc::raise(libc::SIGBUS) };
    }
}
