//! Passing a signal that is not ours on to whoever would have had it without us.

use super::change::{Changing, default_disposition, disposition, replace_disposition};
use super::mask::set_mask;
use super::{FaultSignal, context};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The disposition of each signal that ours replaced; null is the default one. Never freed: a handler may be reading it.
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] = [const { AtomicPtr::new(null_mut()) }; 2];

/// The disposition of SIGBUS that stands behind the handler in front; null where there never was one. Never freed.
static BEHIND: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());

/// Dispositions that were remembered once: a program has few, and may set them in turn for ever, also in its signal handlers,
/// where nothing can be allocated.
static KNOWN: Known = Known {
    actions: UnsafeCell::new([const { MaybeUninit::uninit() }; KNOWN_ACTIONS]),
    used: AtomicUsize::new(0),
};

/// Beyond so many different ones, each costs an allocation that is never freed.
const KNOWN_ACTIONS: usize = 128;

struct Known {
    actions: UnsafeCell<[MaybeUninit<libc::sigaction>; KNOWN_ACTIONS]>,
    /// The first so many are there, for ever.
    used: AtomicUsize,
}

// SAFETY: only the holder of the right to change adds an action, beyond those that others know of.
unsafe impl Sync for Known {}

impl Known {
    /// A copy of `action` that stays.
    fn keep(&self, action: &libc::sigaction, _: &Changing) -> *mut libc::sigaction {
        let first = self.actions.get().cast::<libc::sigaction>();
        let used = self.used.load(Ordering::Relaxed);
        // SAFETY: the first `used` are there, and nobody changes them.
        let known = (0..used)
            .map(|index| unsafe { first.add(index) })
            .find(|known| same(unsafe { &**known }, action));
        if let Some(known) = known {
            return known;
        }
        if used == KNOWN_ACTIONS {
            return Box::into_raw(Box::new(*action));
        }
        // SAFETY: within the array; nobody else knows of this place yet, and nobody else may add.
        unsafe { first.add(used).write(*action) };
        self.used.store(used + 1, Ordering::Relaxed);
        // SAFETY: just written.
        unsafe { first.add(used) }
    }
}

fn same(one: &libc::sigaction, other: &libc::sigaction) -> bool {
    let of = |action: &libc::sigaction| (action.sa_sigaction, action.sa_flags, mask_of(action));
    of(one) == of(other)
}

fn mask_of(action: &libc::sigaction) -> u64 {
    // SAFETY: the first eight bytes of libc's set are the kernel's 64 signals.
    unsafe { (&raw const action.sa_mask).cast::<u64>().read() }
}

/// Makes `action` the one that `signal` is passed on to.
pub(super) fn remember(signal: FaultSignal, action: &libc::sigaction, changing: &Changing) {
    PREVIOUS[signal as usize].store(KNOWN.keep(action, changing), Ordering::Release);
}

/// What `signal` is passed on to.
pub(super) fn remembered(signal: FaultSignal) -> libc::sigaction {
    load(&PREVIOUS[signal as usize])
}

/// Makes `action` the one that stands behind the handler in front.
pub(super) fn remember_behind(action: &libc::sigaction, changing: &Changing) {
    BEHIND.store(KNOWN.keep(action, changing), Ordering::Release);
}

/// What stands behind the handler in front.
pub(super) fn behind() -> libc::sigaction {
    load(&BEHIND)
}

fn load(place: &AtomicPtr<libc::sigaction>) -> libc::sigaction {
    // SAFETY: null or never freed.
    unsafe { place.load(Ordering::Acquire).as_ref() }.copied().unwrap_or_else(default_disposition)
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
/// `info` and `context` are those that the kernel gave to a handler which is still running on this thread, or `info` tells the
/// same fault as another signal.
pub(super) unsafe fn pass_on(signal: FaultSignal, info: *mut libc::siginfo_t, context: *mut c_void) {
    let action = remembered(signal);
    if is_function(&action) && action.sa_flags & libc::SA_RESETHAND != 0 {
        // It wanted to be called once.
        PREVIOUS[signal as usize].store(null_mut(), Ordering::Release);
    }
    // SAFETY: promised by the caller.
    unsafe { deliver(&action, signal, info, context) };
}

/// As [`pass_on`], to a disposition that is given.
///
/// # Safety
/// As for [`pass_on`].
pub(super) unsafe fn deliver(
    action: &libc::sigaction,
    signal: FaultSignal,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: promised by the caller. A copy, since the function may change what it is given.
    let original = unsafe { *info };
    if action.sa_sigaction == libc::SIG_IGN {
        // The kernel does not let a process ignore its own faults.
        if original.si_code > 0 {
            // SAFETY: promised by the caller.
            unsafe { die(signal, &original, context) };
        }
        return;
    }
    if action.sa_sigaction == libc::SIG_DFL {
        // SAFETY: promised by the caller.
        unsafe { die(signal, &original, context) };
        return;
    }
    // SAFETY: promised by the caller; the function has the signature that its flags say.
    unsafe { call(action, signal, info, context) };
    if disposition(signal).is_ok_and(|now| now.sa_sigaction == libc::SIG_DFL) {
        // SAFETY: promised by the caller.
        unsafe { die(signal, &original, context) };
    }
}

/// Calls the function of `action` with the signals masked that it asked for.
unsafe fn call(
    action: &libc::sigaction,
    signal: FaultSignal,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: promised by the caller.
    let mut mask = unsafe { context::interrupted_mask(context) };
    mask |= mask_of(action);
    if action.sa_flags & libc::SA_NODEFER == 0 {
        mask |= signal.bit();
    }
    set_mask(mask);
    if action.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: without the flag the function takes the number alone.
        let function: extern "C" fn(c_int) = unsafe { std::mem::transmute(action.sa_sigaction) };
        function(signal.number());
    } else {
        // SAFETY: with the flag it takes all three.
        let function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(action.sa_sigaction) };
        function(signal.number(), info, context);
    }
    // Back to what our own handler runs with; the interrupted mask returns with the interrupted code.
    set_mask(u64::MAX);
}

/// Sees to it that this thread dies of `signal` as soon as the handler returns, at the instruction that was interrupted and
/// with the same information, as a core dump shows it. Like the kernel, it does not mind whether the thread has it blocked.
unsafe fn die(signal: FaultSignal, original: &libc::siginfo_t, context: *mut c_void) {
    // SAFETY: promised by the caller.
    unsafe { context::unmask(context, signal) };
    let _ = replace_disposition(signal, &default_disposition());
    // The kernel lets a thread send itself any information (rt_tgsigqueueinfo(2)). Every signal is blocked in here: it
    // is delivered on return.
    // SAFETY: reads one siginfo.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            libc::getpid(),
            libc::gettid(),
            signal.number(),
            &raw const *original,
        )
    };
    if sent != 0 {
        // SAFETY: sends this thread a signal.
        unsafe { libc::raise(signal.number()) };
    }
}
