//! A handler of SIGBUS that stands in front of what is there for a while, and of every kind of region, for
//! [`BareFaults`](crate::BareFaults).

use super::chain;
use super::change::{Changing, Installed, disposition, install, replace_disposition};
use super::context::FaultContext;
use super::{FaultSignal, bare_disposition};
use crate::bare;
use rustix::io::Errno;
use std::ffi::{c_int, c_void};

const SIGNAL: FaultSignal = FaultSignal::Sigbus;

/// Keeps the handler in front. One at a time in a process: its user sees to that.
#[derive(Debug)]
pub(crate) struct InFront {
    before: libc::sigaction,
    /// What is behind it always passes on what is not for it, to whoever was there before the first region.
    _behind: Installed,
}

impl InFront {
    /// Puts the handler in front. An error comes with the call that failed, and changes nothing.
    pub(crate) fn new() -> Result<InFront, (&'static str, Errno)> {
        let behind = install(SIGNAL)?;
        let changing = Changing::begin();
        let named = |errno| (SIGNAL.name(), errno);
        let before = disposition(SIGNAL).map_err(named)?;
        // Somebody put theirs over it, and took it away when it was no longer wanted: it is known what is behind.
        if !is_here(&before) {
            // The handler needs it from its first moment on.
            chain::remember_behind(&before, &changing);
            // No mask, and no other stack: a program that has nothing else to do asks for no more.
            let action = bare_disposition(on_fault as *const () as usize);
            let found = replace_disposition(SIGNAL, &action).map_err(named)?;
            if found.sa_sigaction != before.sa_sigaction {
                // Another thread was here between the two calls.
                chain::remember_behind(&found, &changing);
            }
        }
        drop(changing);
        Ok(InFront { before: chain::behind(), _behind: behind })
    }
}

impl Drop for InFront {
    fn drop(&mut self) {
        let _changing = Changing::begin();
        // A handler that was put over it may pass signals on to it: then it stays, and passes them on as well.
        if disposition(SIGNAL).is_ok_and(|now| is_here(&now)) {
            // It was in force before, so there is no reason to refuse it.
            let _ = replace_disposition(SIGNAL, &self.before);
        }
    }
}

fn is_here(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_fault as *const () as usize
}

/// The handler.
extern "C" fn on_fault(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: both come from the kernel, or from a later handler that passes on what it got from there.
    let resolved = unsafe {
        (*info).si_code == libc::BUS_ADRERR
            && bare::resolve((*info).si_addr().addr(), FaultContext::new(context).found_page())
    };
    if !resolved {
        let behind = chain::behind();
        // SAFETY: as above.
        unsafe { chain::deliver(&behind, SIGNAL, info, context) };
    }
}
