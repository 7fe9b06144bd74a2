//! SIGBUS and SIGSEGV: one handler for the whole process, which resolves the faults of registered regions and passes everything
//! else on.
//!
//! # How it is installed
//!
//! For each of the two signals with the first region whose pager needs it; with the last one, what was there before is put back
//! (`change.rs`). The handler that was there before is remembered and gets every signal that is not ours: a fault elsewhere, a
//! memory error, one sent by `kill` or `raise`, and a fault in a region that the sink could not resolve. A handler that the
//! application installs later replaces ours, unless it does so through [`sigaction`]; it has to pass on what it does not know, all
//! three arguments of it, with every signal masked, and must not be one that ours passes on to in turn.
//!
//! # What may happen inside
//!
//! The handler runs between two instructions of arbitrary code. It allocates nothing, takes no lock of the application, writes
//! no log, leaves `errno` as it was, and finds the region in a table of atomics. What the sink may do is told at
//! [`FaultSink`](crate::FaultSink).
//!
//! # On which stack
//!
//! A fault in a region is no stack overflow, so the thread's own stack is sound, and only there is room enough for
//! fetching a page: the alternate stacks that the Rust runtime gives its threads have 8 KiB, of which the kernel's frame takes
//! about 3.5 with AVX-512. So the handler of SIGBUS asks for no alternate stack. That of SIGSEGV has to, where the one
//! before it did: a stack overflow is a SIGSEGV whose thread has no other stack left, and the Rust runtime reports it
//! from its own handler, which ours passes on to. Whoever put us on an alternate stack, the sink is called on the thread's own
//! (`stack.rs`).

mod blocked;
mod chain;
mod change;
mod context;
mod front;
mod mask;
mod registry;
mod stack;

pub use blocked::{BlockedThread, blocked_threads, sigbus_blocked_here, sigsegv_blocked_here};
pub use change::sigaction;
pub(crate) use change::{Installed, install};
pub(crate) use front::InFront;
pub(crate) use mask::AllMasked;
pub(crate) use registry::{Entry, Registration, find};

/// Forgets the regions of a parent, in a child made by fork. The handlers stay installed, and what they pass on to stays known:
/// a child has its parent's dispositions.
pub(crate) fn forget() {
    change::forget();
    registry::forget();
}

use crate::pager::failures;
use crate::recoverable::sites;
use crate::{Fault, PAGE_BYTES, PagerKind, RegionKey, Resolution};
use context::FaultContext;
use std::ffi::{c_int, c_void};

/// The signals as which the kernel reports faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FaultSignal {
    /// From userfaultfd.
    Sigbus,
    /// From protected memory.
    Sigsegv,
}

impl FaultSignal {
    const ALL: [FaultSignal; 2] = [FaultSignal::Sigbus, FaultSignal::Sigsegv];

    const fn number(self) -> c_int {
        match self {
            FaultSignal::Sigbus => libc::SIGBUS,
            FaultSignal::Sigsegv => libc::SIGSEGV,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            FaultSignal::Sigbus => "sigaction(SIGBUS)",
            FaultSignal::Sigsegv => "sigaction(SIGSEGV)",
        }
    }

    /// Its bit in a mask of 64 signals.
    const fn bit(self) -> u64 {
        1 << (self.number() - 1)
    }

    fn from_number(number: c_int) -> Option<FaultSignal> {
        FaultSignal::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

/// Our disposition for `signal`.
fn ours(signal: FaultSignal, previous: &libc::sigaction) -> libc::sigaction {
    // SA_SIGINFO: the address of the fault and the interrupted registers are needed.
    let mut action = bare_disposition(on_fault as *const () as usize);
    // No SA_NODEFER: a fault in an app view while one is being resolved is a mistake in the sink; to be killed at
    //   the spot says more than a recursion does.
    // No SA_RESETHAND: it stays.
    // SA_ONSTACK only for SIGSEGV, and only if the handler that is passed on to has it (see the module's text): without
    //   it, a stack overflow would kill the process before any handler can say so.
    if signal == FaultSignal::Sigsegv && chain::is_function(previous) {
        action.sa_flags |= previous.sa_flags & libc::SA_ONSTACK;
    }
    // SA_RESTART matters only for a signal that somebody sends: it interrupts system calls as far as it did before us.
    if !chain::is_function(previous) || previous.sa_flags & libc::SA_RESTART != 0 {
        action.sa_flags |= libc::SA_RESTART;
    }
    // Every signal waits: a handler of the application that ran now, and touched shared memory, would fault while the sink holds
    // its locks.
    // SAFETY: fills a set of our own.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    action
}

/// A disposition whose function takes three arguments and runs with no other signal masked, on the stack of the interrupted code.
fn bare_disposition(function: usize) -> libc::sigaction {
    let mut action = change::default_disposition();
    action.sa_sigaction = function;
    action.sa_flags = libc::SA_SIGINFO;
    action
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

/// What a signal turned out to be.
enum Answer {
    /// A fault of ours, which is dealt with: the interrupted code goes on.
    GoOn,
    /// A fault of ours, for a page that cannot be had.
    Lost,
    /// Nothing of ours.
    Foreign,
}

/// The handler.
extern "C" fn on_fault(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let _errno = KeepErrno::new();
    let Some(signal) = FaultSignal::from_number(number) else { return };
    // SAFETY: both come from the kernel, or from a later handler that passes on what it got from there.
    match unsafe { answer(signal, &*info, &mut FaultContext::new(context)) } {
        Answer::GoOn => {}
        Answer::Lost => {
            // SAFETY: as above.
            let mut told = lost_page(unsafe { &*info });
            // SAFETY: as above.
            unsafe { chain::pass_on(FaultSignal::Sigbus, &raw mut told, context) };
        }
        // SAFETY: as above.
        Answer::Foreign => unsafe { chain::pass_on(signal, info, context) },
    }
}

/// Resolves the fault if it is one of ours.
fn answer(signal: FaultSignal, info: &libc::siginfo_t, context: &mut FaultContext) -> Answer {
    // userfaultfd raises BUS_ADRERR for missing, minor and write-protection faults alike; a poisoned page raises
    // BUS_MCEERR_AR, or BUS_ADRERR where the kernel was built without CONFIG_MEMORY_FAILURE; protected memory raises SEGV_ACCERR.
    // All with the exact address. A signal that somebody sent has no code above zero.
    let may_come_from = |kind| match (signal, info.si_code) {
        (FaultSignal::Sigbus, libc::BUS_ADRERR) => kind != PagerKind::Sigsegv,
        (FaultSignal::Sigbus, libc::BUS_MCEERR_AR) => kind == PagerKind::Handler,
        (FaultSignal::Sigsegv, SEGV_ACCERR) => kind == PagerKind::Sigsegv,
        _ => false,
    };
    if info.si_code <= 0 {
        return Answer::Foreign;
    }
    // SAFETY: signals with a code above zero carry an address.
    let address = unsafe { info.si_addr() }.addr();
    let Some(region) = find(address).filter(|region| may_come_from(region.kind)) else {
        return Answer::Foreign;
    };
    let page = ((address - region.start) / PAGE_BYTES) as u64;
    let resolution = if region.kind == PagerKind::Handler {
        failures::told_by_signal(region.start + page as usize * PAGE_BYTES)
    } else {
        let fault = Fault { region: region.key, page, access: context.access() };
        stack::on_own_stack(context, || region.sink.resolve(fault))
    };
    match resolution {
        Resolution::Resolved => Answer::GoOn,
        Resolution::Failed => fail(context, region.key, page),
    }
}

/// Ends a recoverable access in its place.
fn fail(context: &mut FaultContext, region: RegionKey, page: u64) -> Answer {
    if sites::contain(context.instruction()) {
        context.fail(region, page);
        Answer::GoOn
    } else {
        Answer::Lost
    }
}

/// `SEGV_ACCERR`: the memory is mapped, but not for this access.
const SEGV_ACCERR: c_int = 2;

/// What is told about a page that cannot be had, whichever pager the region has: what a file that was cut short would cause.
fn lost_page(found: &libc::siginfo_t) -> libc::siginfo_t {
    // The address lies at the same place for both signals.
    let mut told = *found;
    told.si_signo = libc::SIGBUS;
    told.si_code = libc::BUS_ADRERR;
    told
}
