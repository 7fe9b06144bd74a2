//! The `sigbus` pager: userfaultfd raises SIGBUS in the faulting thread, and the handler resolves the fault there and then.

use super::userfault::UserfaultPages;
use super::{FaultDelivery, Pager, PagerError, PagerKind, StillFaulting};
use crate::mapped::MappedRange;
use crate::signal::{FaultSignal, Installed, Registration};
use crate::uffd::{Features, Scope, Userfault};
use crate::{Access, MappingError, PageRange, UffdError};
use std::sync::Arc;
use std::time::Duration;

/// What the kernel must offer for the [`sigbus`](PagerKind::Sigbus) pager.
pub const FEATURES: Features = Features::from_bits(
    Features::SIGBUS.bits()
        | Features::MISSING_SHMEM.bits()
        | Features::MINOR_SHMEM.bits()
        | Features::WRITE_PROTECT.bits()
        | Features::WRITE_PROTECT_SHMEM.bits()
        // Stands for CONTINUE with MODE_WP, which came with the same kernel.
        | Features::WRITE_PROTECT_UNPOPULATED.bits(),
);

pub(super) struct SigbusPager {
    registration: Registration,
    pages: UserfaultPages,
    _signals: Installed,
}

/// A userfaultfd for one region.
pub(crate) fn open_userfault(features: Features) -> Result<Arc<Userfault>, UffdError> {
    Userfault::open(Scope::UserMode, features).map(Arc::new)
}

impl SigbusPager {
    pub(super) fn open(
        app: &MappedRange,
        delivery: FaultDelivery,
        features: Features,
    ) -> Result<SigbusPager, MappingError> {
        let userfault = open_userfault(features)?;
        let signals = super::install(FaultSignal::Sigbus, app)?;
        let registration = delivery.register(PagerKind::Sigbus, app)?;
        // SAFETY: `app` is a shared mapping made for this, and it is unmapped before the pager is dropped; when the pager cannot
        // be dropped, neither is unmapped.
        let range = unsafe { userfault.register(app.address(), app.bytes()) }?;
        Ok(SigbusPager { registration, pages: UserfaultPages::new(range), _signals: signals })
    }

    /// Enters pages that are absent, writable, and leaves the others as they are.
    pub(super) fn restore(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pages.restore(pages)
    }
}

impl Pager for SigbusPager {
    fn kind(&self) -> PagerKind {
        PagerKind::Sigbus
    }

    fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError> {
        self.pages.map(pages, access)
    }

    fn unprotect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pages.unprotect(pages)
    }

    fn protect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pages.protect(pages)
    }

    fn unmap(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pages.unmap(pages)
    }

    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting> {
        self.registration.stop(timeout)
    }
}
