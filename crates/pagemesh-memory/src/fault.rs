//! Faults, and who resolves them.

use crate::{Access, PageRange};

/// A region's number in this process, chosen by whoever creates its [`Mapping`](crate::Mapping) and handed back with every
/// fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RegionKey(pub u32);

/// An access that the app view does not allow (yet).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Whose app view was touched.
    pub region: RegionKey,
    /// Which page, counted from the region's start.
    pub page: u64,
    /// What the instruction wanted. A read-modify-write instruction, also a failing compare-and-exchange, wants to write.
    pub access: Access,
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Resolution {
    /// The page was granted: the access is tried again. When the right was taken away again meanwhile, the
    /// access faults anew; whoever resolves has to see to it that this ends.
    Resolved,
    /// The page cannot be had. A recoverable access ([`Mapping::read_app`](crate::Mapping::read_app) and its kin) returns an
    /// error; any other instruction gets the SIGBUS that it would get from a file that was cut short, whichever the pager. With
    /// the [`handler`](crate::PagerKind::Handler) pager, a system call fails with EFAULT.
    Failed,
}

/// Whoever can get a page: called for each fault, on the thread that faulted or on one that does nothing else.
///
/// With the [`sigbus`](crate::PagerKind::Sigbus) and [`sigsegv`](crate::PagerKind::Sigsegv) pagers,
/// [`resolve`](FaultSink::resolve) runs inside a signal handler, between two instructions of code that knows nothing of it. That
/// code was touching the app view, so it is not in the middle of anything of ours, but it may hold any lock of the
/// application. With the [`handler`](crate::PagerKind::Handler) pager it runs on a thread of the pager's while the one that
/// faulted sleeps, with its locks held all the same. An implementation therefore
///
/// * may block, take locks and make system calls, provided that no thread ever touches an app view, starts a
///   recoverable access or drops a [`Mapping`](crate::Mapping) while it holds one of those locks;
/// * must not touch an app view itself: the signals of faults are blocked meanwhile, and the kernel kills the process, or the
///   fault waits for a thread that may never be free. Bytes go through the service view;
/// * must not allocate, log, print or take any lock that the application can hold: a shared page may be the
///   argument of a call that holds the allocator's or the output's lock;
/// * must not panic (the process would be aborted), and must not need much stack: it has what the faulting thread has left;
/// * must return: after a deadline of its own, it answers [`Resolution::Failed`]. The `handler` pager has few threads;
/// * must grant a page again that it granted before, if it faults again: a pager may have had to take it away.
///
/// A sink that owns the [`Mapping`](crate::Mapping) it serves has to do so through a [`Weak`](std::sync::Weak): the mapping
/// owns its sink.
pub trait FaultSink: Send + Sync {
    /// Gets the right that `fault` asks for, and grants it through the region's [`Pager`](crate::Pager), or says that
    /// this cannot be done. The same fault may arrive from several threads at once, and also for a page that was granted a
    /// moment ago.
    fn resolve(&self, fault: Fault) -> Resolution;
    /// A system call is about to use `pages`: gets the right to `access` all of them and, if it can, keeps them here until
    /// [`let_go`](FaultSink::let_go). Called by the preload library, on a thread of the application that is in the middle of
    /// a system call's function and not of a fault; the rules for [`resolve`](FaultSink::resolve) hold here too.
    ///
    /// By default each page is got as by a fault, and not kept.
    fn hold(&self, region: RegionKey, pages: PageRange, access: Access) -> Resolution {
        let failed = |page| self.resolve(Fault { region, page, access }) == Resolution::Failed;
        if pages.iter().any(failed) { Resolution::Failed } else { Resolution::Resolved }
    }

    /// Ends a [`hold`](FaultSink::hold) of the same pages that returned [`Resolution::Resolved`]. True when none of them
    /// was away meanwhile; if one may have been, a system call that failed with EFAULT is tried again.
    fn let_go(&self, _region: RegionKey, _pages: PageRange, _access: Access) -> bool {
        false
    }
}
