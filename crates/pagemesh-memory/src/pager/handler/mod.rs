//! The `handler` pager: userfaultfd gives every fault to a thread of ours, while the thread that had it sleeps.
//!
//! It is the only one with which the kernel's own accesses fault like a program's: a `read(2)` into an absent page
//! waits until the page is there. That takes a userfaultfd that may report them (see [`uffd`](crate::uffd)), and two changes of
//! threads for each fault.
//!
//! # A page that cannot be had
//!
//! A sleeping thread can be woken, not told: it tries its access again. So the page is dropped and poisoned (`UFFDIO_POISON`)
//! before the thread is woken. If it was the program's own access, the kernel raises SIGBUS then; our handler takes the poison
//! off and does what the `sigbus` pager does with a failed fault. If it was an access of the kernel's, that fails with EFAULT,
//! of which nobody hears: that poison is taken off after a while (`failures.rs`). Poison does nothing else but end one access:
//! whoever meets it and was not meant tries again, and the sink is asked anew.

pub(crate) mod failures;
mod service;

use super::userfault::UserfaultPages;
use super::{FaultDelivery, Pager, PagerError, PagerKind, StillFaulting};
use crate::fork::PerProcess;
use crate::mapped::MappedRange;
use crate::signal::{AllMasked, FaultSignal, Installed, Registration};
use crate::uffd::{Features, Scope, Userfault};
use crate::{Access, MappingError, PageRange, UffdError};
use service::Service;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Held shared by whatever changes a page, and exclusively while one is poisoned: that takes three steps, in between which the
/// page has to stay absent. Locked with all signals masked: a handler of the application that interrupted the holder may
/// touch a region.
static CHANGES: PerProcess<RwLock<()>> = PerProcess::new(|| RwLock::new(()));

/// In a child made by fork: threads of the parent may hold any of these locks for ever.
pub(super) fn forget() {
    CHANGES.forget();
    failures::forget();
    service::forget();
}

/// What the kernel must offer for the [`handler`](PagerKind::Handler) pager.
pub const FEATURES: Features = Features::from_bits(
    Features::MISSING_SHMEM.bits()
        | Features::MINOR_SHMEM.bits()
        | Features::WRITE_PROTECT.bits()
        | Features::WRITE_PROTECT_SHMEM.bits()
        // Stands for CONTINUE with MODE_WP, which came with the same kernel.
        | Features::WRITE_PROTECT_UNPOPULATED.bits()
        | Features::THREAD_ID.bits()
        | Features::POISON.bits(),
);

pub(super) struct HandlerPager {
    registration: Registration,
    pages: UserfaultPages,
    /// Runs as long as there is a region that needs it.
    _service: Arc<Service>,
    _signals: Installed,
}

/// A userfaultfd for all regions of this pager.
pub(super) fn open_userfault() -> Result<Arc<Userfault>, UffdError> {
    Userfault::open(Scope::UserAndKernel, FEATURES).map(Arc::new)
}

impl HandlerPager {
    pub(super) fn open(app: &MappedRange, delivery: FaultDelivery) -> Result<HandlerPager, MappingError> {
        // Service threads and signal handlers must find them made.
        CHANGES.get();
        failures::prepare();
        let service = Service::join()?;
        let signals = super::install(FaultSignal::Sigbus, app)?;
        let registration = delivery.register(PagerKind::Handler, app)?;
        // SAFETY: `app` is a shared mapping made for this, and it is unmapped before the pager is dropped; when the pager cannot
        // be dropped, neither is unmapped.
        let range = unsafe { service.userfault().register(app.address(), app.bytes()) }?;
        Ok(HandlerPager {
            registration,
            pages: UserfaultPages::new(range),
            _service: service,
            _signals: signals,
        })
    }
}

/// Changes pages while none is being poisoned.
fn change<R>(work: impl FnOnce() -> R) -> R {
    let _masked = AllMasked::new();
    let _shared = CHANGES.get().read().unwrap_or_else(PoisonError::into_inner);
    work()
}

impl Pager for HandlerPager {
    fn kind(&self) -> PagerKind {
        PagerKind::Handler
    }

    fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError> {
        change(|| self.pages.map(pages, access))
    }

    fn unprotect(&self, pages: PageRange) -> Result<(), PagerError> {
        change(|| self.pages.unprotect(pages))
    }

    fn protect(&self, pages: PageRange) -> Result<(), PagerError> {
        change(|| self.pages.protect(pages))
    }

    fn unmap(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pages.unmap(pages)
    }

    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting> {
        self.registration.stop(timeout)
    }
}
