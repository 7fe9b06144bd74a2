//! Threads that have the signal of their faults blocked.
//!
//! The kernel kills the process when a thread faults with the fault's signal blocked: it has no way to tell the thread, and
//! none to let it go on. Libraries that block all signals in their worker threads are the usual cause.

use super::{FaultSignal, mask};
use crate::PagerKind;
use std::{fs, io};

/// Whether the calling thread has SIGBUS blocked (`pthread_sigmask(3)`). Such a thread must not touch the app view of a
/// region with the [`sigbus`](PagerKind::Sigbus) pager: the kernel kills the process. With the [`handler`](PagerKind::Handler)
/// pager it dies only of a page that cannot be had.
pub fn sigbus_blocked_here() -> bool {
    mask::current_mask() & FaultSignal::Sigbus.bit() != 0
}

/// Whether the calling thread has SIGSEGV blocked. Such a thread must not touch the app view of a region with the
/// [`sigsegv`](PagerKind::Sigsegv) pager: the kernel kills the process.
pub fn sigsegv_blocked_here() -> bool {
    mask::current_mask() & FaultSignal::Sigsegv.bit() != 0
}

/// A thread of this process that would be killed at a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockedThread {
    /// Its number, as `gettid(2)` returns it.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// The threads of this process that have the signal blocked by which a pager of this kind hears of faults, as they are at
/// this moment. None of them may touch such a region. The `handler` pager needs no signal, except to report a page that
/// cannot be had; its answer is that of `sigbus`.
///
/// # Errors
/// When `/proc/self/task` cannot be read.
pub fn blocked_threads(kind: PagerKind) -> io::Result<Vec<BlockedThread>> {
    let signal = match kind {
        PagerKind::Sigbus | PagerKind::Handler => FaultSignal::Sigbus,
        PagerKind::Sigsegv => FaultSignal::Sigsegv,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else { continue };
        if let Some(thread) = blocked_thread(&status, signal) {
            found.push(thread);
        }
    }
    Ok(found)
}

/// The thread that a `status` file describes, if it has the signal blocked.
fn blocked_thread(status: &str, signal: FaultSignal) -> Option<BlockedThread> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let mask = u64::from_str_radix(field("SigBlk")?, 16).ok()?;
    if mask & signal.bit() == 0 {
        return None;
    }
    Some(BlockedThread { id: field("Pid")?.parse().ok()?, name: field("Name")?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::AllMasked;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_thread_is_told_whether_it_has_the_signals_blocked() {
        assert!(!sigbus_blocked_here() && !sigsegv_blocked_here());
        let inside = thread::spawn(|| {
            let _masked = AllMasked::new();
            sigbus_blocked_here() && sigsegv_blocked_here()
        });
        assert!(inside.join().unwrap());
        assert!(!sigbus_blocked_here() && !sigsegv_blocked_here());
    }

    #[test]
    fn other_threads_that_have_it_blocked_are_found_by_name() {
        let (ready, is_ready) = mpsc::channel();
        let (finish, may_finish) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("all blocked".to_owned());
        let thread = thread.spawn(move || {
            let _masked = AllMasked::new();
            ready.send(()).unwrap();
            let _ = may_finish.recv();
        });
        is_ready.recv().unwrap();
        for kind in [PagerKind::Sigbus, PagerKind::Handler, PagerKind::Sigsegv] {
            let found = blocked_threads(kind).unwrap();
            assert!(found.iter().any(|thread| thread.name == "all blocked" && thread.id != 0), "{found:?}");
        }
        drop(finish);
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn a_status_file_says_what_is_blocked() {
        let status = "Name:\tworker\nPid:\t77\nSigBlk:\t0000000000000040\n";
        let thread = BlockedThread { id: 77, name: "worker".to_owned() };
        assert_eq!(blocked_thread(status, FaultSignal::Sigbus), Some(thread));
        assert_eq!(blocked_thread(status, FaultSignal::Sigsegv), None);
        assert_eq!(blocked_thread("", FaultSignal::Sigbus), None);
    }
}
