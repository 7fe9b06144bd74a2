//! Changing what the two signals do: our handler comes with the first region, goes with the last, and stays in front of what
//! the application sets in between, where that comes through [`sigaction`].

use super::mask::AllMasked;
use super::{FaultSignal, chain, on_fault, ours};
use rustix::io::Errno;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Regions that need the handler of each signal.
static USERS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Whether the handler is in place, or was and is behind another by now.
static IN_PLACE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

static CHANGING: AtomicBool = AtomicBool::new(false);

/// Forgets the regions of a parent, in a child made by fork. The handlers stay in place, and what they pass on to stays known: a child has
/// its parent's dispositions.
pub(super) fn forget() {
    for users in &USERS {
        users.store(0, Ordering::Relaxed);
    }
    // Whoever held it is not here.
    CHANGING.store(false, Ordering::Release);
}

/// The right to change dispositions. A lock of its own kind, since the application may change them in a signal handler: nobody is
/// interrupted by one while holding it, nothing in it waits, and it allocates nothing.
pub(super) struct Changing {
    _masked: AllMasked,
}

impl Changing {
    pub(super) fn begin() -> Changing {
        let masked = AllMasked::new();
        while CHANGING.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Changing { _masked: masked }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        CHANGING.store(false, Ordering::Release);
    }
}

/// Keeps the handler of a signal in place.
#[derive(Debug)]
pub(crate) struct Installed {
    signal: FaultSignal,
}

/// Sees to it that the handler of `signal` is in place as long as the value lives. An error comes with the call that failed.
pub(crate) fn install(signal: FaultSignal) -> Result<Installed, (&'static str, Errno)> {
    let changing = Changing::begin();
    let index = signal as usize;
    if !IN_PLACE[index].load(Ordering::Relaxed) {
        let named = |errno| (signal.name(), errno);
        let previous = disposition(signal).map_err(named)?;
        // It is ours already where this process was forked while a thread of its parent was here.
        if !is_ours(&previous) {
            // The handler needs it from its first moment on.
            chain::remember(signal, &previous, &changing);
            let found = replace_disposition(signal, &ours(signal, &previous)).map_err(named)?;
            if found.sa_sigaction != previous.sa_sigaction {
                // Another thread was here between the two calls: its handler is the one to pass on to.
                chain::remember(signal, &found, &changing);
            }
        }
        IN_PLACE[index].store(true, Ordering::Relaxed);
    }
    USERS[index].fetch_add(1, Ordering::Relaxed);
    Ok(Installed { signal })
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _changing = Changing::begin();
        let index = self.signal as usize;
        if USERS[index].fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        // A handler that was put over ours may pass signals on to it: then it stays where it is.
        if disposition(self.signal).is_ok_and(|now| is_ours(&now))
            && replace_disposition(self.signal, &chain::remembered(self.signal)).is_ok()
        {
            IN_PLACE[index].store(false, Ordering::Relaxed);
        }
    }
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_fault as *const () as usize
}

/// `sigaction(2)` as a program sees it that knows nothing of regions: what it sets for SIGBUS and SIGSEGV while there are some gets
/// what is not for them, and is what it is told was set before. For libraries that put this in the place of the C library's.
///
/// It may be called where `sigaction` may: in signal handlers too.
///
/// # Safety
/// As for `sigaction`: the pointers are null or valid, and a function that is set has the signature that its flags say.
pub unsafe fn sigaction(
    number: c_int,
    action: *const libc::sigaction,
    previous: *mut libc::sigaction,
) -> c_int {
    let Some(signal) = FaultSignal::from_number(number) else {
        // SAFETY: promised by the caller.
        return unsafe { __sigaction(number, action, previous) };
    };
    // The program's memory is touched while nothing is locked or masked: it may fault, also in a region.
    // SAFETY: promised by the caller.
    let action = unsafe { action.as_ref() }.copied();
    match exchange(signal, action.as_ref()) {
        Ok(before) => {
            if !previous.is_null() {
                // SAFETY: promised by the caller.
                unsafe { previous.write(before) };
            }
            0
        }
        // `errno` says why.
        Err(_) => -1,
    }
}

/// Sets what gets the signals that are not ours, and returns what got them before.
fn exchange(signal: FaultSignal, action: Option<&libc::sigaction>) -> Result<libc::sigaction, Errno> {
    let changing = Changing::begin();
    if !IN_PLACE[signal as usize].load(Ordering::Relaxed) {
        return action.map_or_else(|| disposition(signal), |action| replace_disposition(signal, action));
    }
    let before = chain::remembered(signal);
    if let Some(action) = action {
        chain::remember(signal, action, &changing);
        // Its flags decide some of ours.
        if let Err(errno) = replace_disposition(signal, &ours(signal, action)) {
            chain::remember(signal, &before, &changing);
            return Err(errno);
        }
    }
    Ok(before)
}

unsafe extern "C" {
    /// The C library's own `sigaction`, by the name that nobody puts another function in the place of.
    fn __sigaction(number: c_int, action: *const libc::sigaction, previous: *mut libc::sigaction) -> c_int;
}

/// What `signal` does now.
pub(super) fn disposition(signal: FaultSignal) -> Result<libc::sigaction, Errno> {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new disposition the call only fills in the current one.
    match unsafe { __sigaction(signal.number(), null(), found.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(last_errno()),
    }
}

/// Sets what `signal` does and returns what it did before.
pub(super) fn replace_disposition(
    signal: FaultSignal,
    action: &libc::sigaction,
) -> Result<libc::sigaction, Errno> {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is complete: its handler is a function with the signature that its flags say, or a constant.
    match unsafe { __sigaction(signal.number(), action, found.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    // SAFETY: the address of this thread's own variable.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// The default disposition.
pub(super) fn default_disposition() -> libc::sigaction {
    // SAFETY: all zeros is the default disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = libc::SIG_DFL;
    action
}
