//! SIGBUS: one handler for the whole process, which resolves the faults of registered regions and passes everything else on.
//!
//! # How it is installed
//!
//! With the first region, once, and never again. The handler that was there before is remembered and gets every SIGBUS that is
//! not ours: a fault elsewhere, a memory error, one sent by `kill` or `raise`, and a fault in a region that the sink
//! could not resolve. A handler that the application installs later replaces ours; it has to pass on what it does not
//! know, all three arguments of it, with every signal masked, and must not be one that ours passes on to in turn.
//!
//! # What may happen inside
//!
//! The handler runs between two instructions of arbitrary code. It allocates nothing, takes no lock, writes no log,
//! leaves `errno` as it was, and finds the region in a table of atomics. What the sink may do is told at
//! [`FaultSink`](crate::FaultSink).

mod chain;
mod context;
mod registry;

pub(crate) use registry::Registration;

use crate::recoverable::sites;
use crate::{Fault, PAGE_BYTES, Resolution};
use context::FaultContext;
use registry::REGISTRY;
use rustix::io::Errno;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// Installs the handler, unless that was done before.
pub(crate) fn install() -> Result<(), Errno> {
    static INSTALLED: OnceLock<Result<(), Errno>> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let previous = disposition()?;
        // The handler needs it from its first moment on.
        chain::remember(&previous);
        let found = replace_disposition(&ours(&previous))?;
        if found.sa_sigaction != previous.sa_sigaction {
            // Another thread was here between the two calls: its handler is the one to pass on to.
            chain::remember(&found);
        }
        Ok(())
    })
}

/// Whether the calling thread has SIGBUS blocked (`pthread_sigmask(3)`). Such a thread must not touch an app view: the kernel
/// kills the process when a thread faults with the fault's signal blocked. Libraries that block all signals in
/// their worker threads are the usual cause.
pub fn sigbus_blocked_here() -> bool {
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: without a new mask the call only fills in the current one; it has no way to fail at that.
    unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, null(), mask.as_mut_ptr());
        libc::sigismember(mask.as_ptr(), libc::SIGBUS) == 1
    }
}

/// Our disposition for SIGBUS.
fn ours(previous: &libc::sigaction) -> libc::sigaction {
    // SAFETY: all zeros is a disposition (the default one).
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_sigbus as *const () as usize;
    // SA_SIGINFO: the address of the fault and the interrupted registers are needed.
    // No SA_ONSTACK: the alternate stacks that the Rust runtime gives its threads have 8 KiB, of which the kernel's frame takes
    //   about 3.5 with AVX-512; fetching a page needs more than what is left. A fault is no stack overflow, so the
    //   thread's own stack is sound.
    // No SA_NODEFER: a fault in an app view while one is being resolved is a mistake in the sink; to be killed at
    //   the spot says more than a recursion does.
    // No SA_RESETHAND: it stays.
    action.sa_flags = libc::SA_SIGINFO;
    // SA_RESTART matters only for a SIGBUS that somebody sends: it interrupts system calls as far as it did before us.
    if !chain::is_function(previous) || previous.sa_flags & libc::SA_RESTART != 0 {
        action.sa_flags |= libc::SA_RESTART;
    }
    // Every signal waits: a handler of the application that ran now, and touched shared memory, would fault while the sink holds
    // its locks.
    // SAFETY: fills a set of our own.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    action
}

/// What SIGBUS does now.
fn disposition() -> Result<libc::sigaction, Errno> {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new disposition the call only fills in the current one.
    match unsafe { libc::sigaction(libc::SIGBUS, null(), found.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(last_errno()),
    }
}

/// Sets what SIGBUS does and returns what it did before.
fn replace_disposition(action: &libc::sigaction) -> Result<libc::sigaction, Errno> {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is complete: its handler is a function with the signature that its flags say, or a constant.
    match unsafe { libc::sigaction(libc::SIGBUS, action, found.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    // SAFETY: the address of this thread's own variable.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// Puts `errno` back at its end: the interrupted code may be about to look at it.
struct KeepErrno(c_int);

impl KeepErrno {
    fn new() -> KeepErrno {
        // SAFETY: the address of this thread's own variable.
        KeepErrno(unsafe { *libc::__errno_location() })
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: the address of this thread's own variable.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// The handler.
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let _errno = KeepErrno::new();
    // SAFETY: both come from the kernel, or from a later handler that passes on what it got from there.
    let ours = unsafe { resolve(&*info, &mut FaultContext::new(context)) };
    if !ours {
        // SAFETY: see above.
        unsafe { chain::pass_on(signal, info, context) };
    }
}

/// Resolves the fault if it is one of ours. Returns whether the interrupted code can go on.
fn resolve(info: &libc::siginfo_t, context: &mut FaultContext) -> bool {
    // userfaultfd raises BUS_ADRERR for missing, minor and write-protection faults alike, with the exact address. Memory
    // errors have codes of their own, and a signal that somebody sent has none above zero.
    if info.si_code != libc::BUS_ADRERR {
        return false;
    }
    // SAFETY: signals with this code carry an address.
    let address = unsafe { info.si_addr() }.addr();
    let Some(region) = REGISTRY.find(address) else {
        return false;
    };
    let fault = Fault {
        region: region.key,
        page: ((address - region.start) / PAGE_BYTES) as u64,
        access: context.access(),
    };
    match region.sink.resolve(fault) {
        Resolution::Resolved => true,
        Resolution::Failed if sites::contain(context.instruction()) => {
            context.fail(fault.region, fault.page);
            true
        }
        Resolution::Failed => false,
    }
}

/// The default disposition.
fn default_disposition() -> libc::sigaction {
    // SAFETY: all zeros is the default disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = libc::SIG_DFL;
    action
}

/// Sets the calling thread's signal mask to the first 64 signals of `mask`, which are all there are.
fn set_mask(mask: u64) {
    let bytes = size_of::<u64>();
    // SAFETY: reads one mask of the size that the kernel's own masks have. Not through libc, which would leave out the
    // signals that it uses itself: the interrupted mask has to come back as it was.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, null_mut::<u64>(), bytes)
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_is_told_whether_it_has_sigbus_blocked() {
        assert!(!sigbus_blocked_here());
        let inside = thread::spawn(|| {
            let mut all = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: changes this thread's mask only.
            unsafe {
                libc::sigfillset(all.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), null_mut());
            }
            sigbus_blocked_here()
        });
        assert!(inside.join().unwrap());
        assert!(!sigbus_blocked_here());
    }
}
