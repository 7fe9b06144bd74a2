//! Pages for system calls, as the preload library asks for them.
//!
//! Nothing here allocates: the program may be in a signal handler, in which POSIX allows read(2) and write(2).

use super::calls::Call;
use super::failure::CallFailure;
use super::{AT_A_TIME, Runtime};
use pagemesh_memory::{PageRange, RegionKey, Resolution};
use pagemesh_protocol::{Access, PageAddress, RegionId};
use std::time::Instant;

impl Runtime {
    /// Gets the pages of a system call's buffer to this node. They are not kept: another node's demand takes them
    /// again at once. Then the system call fails with EFAULT, and the preload library repeats it.
    pub(super) fn pin_range(
        &self,
        region: RegionKey,
        pages: PageRange,
        access: pagemesh_memory::Access,
    ) -> Resolution {
        let access = match access {
            pagemesh_memory::Access::Read => Access::Read,
            pagemesh_memory::Access::Write => Access::Write,
        };
        let mut pages = pages.iter().map(|page| PageAddress::new(RegionId(region.0 as u16), page));
        while let Some(first) = pages.next() {
            let batch = std::iter::once(first).chain(pages.by_ref()).take(AT_A_TIME);
            if self.fetch_batch(batch, access).is_err() {
                return Resolution::Failed;
            }
        }
        Resolution::Resolved
    }

    /// Ends what [`pin_range`](Runtime::pin_range) began. True when the pages were here all the while, which is not known.
    #[allow(clippy::unused_self, reason = "what keeps pages will want it")]
    pub(super) fn unpin_range(&self, _: RegionKey, _: PageRange, _: pagemesh_memory::Access) -> bool {
        false
    }

    fn fetch_batch(
        &self,
        pages: impl Iterator<Item = PageAddress>,
        access: Access,
    ) -> Result<(), CallFailure> {
        let timeout = self.fault_timeout;
        let deadline = Instant::now() + timeout;
        let mut waiting: [Option<(PageAddress, Call<'_>)>; AT_A_TIME] = [const { None }; AT_A_TIME];
        for (slot, page) in waiting.iter_mut().zip(pages) {
            *slot = Some((page, self.calls.claim(deadline).ok_or(CallFailure::TimedOut(timeout))?));
        }
        self.event(|engine, out| {
            for (page, call) in waiting.iter().flatten() {
                engine.on_prefetch(call.ticket(), *page, access, out);
            }
        })
        .ok_or(CallFailure::Closed)?;
        let mut outcome = Ok(());
        for (_, call) in waiting.iter().flatten() {
            outcome = outcome.and(self.finish_call(call, deadline, timeout).map(|_| ()));
        }
        outcome
    }
}
