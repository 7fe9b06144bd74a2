//! Pages for system calls, as the preload library asks for them.
//!
//! Nothing here allocates: the program may be in a signal handler, in which POSIX allows read(2) and write(2).

use super::calls::Call;
use super::failure::CallFailure;
use super::{AT_A_TIME, Runtime};
use pagemesh_memory::{PageRange, RegionKey, Resolution};
use pagemesh_protocol::{Access, Failure, PageAddress, RegionId};
use std::time::Instant;

impl Runtime {
    /// Gets the pages of a system call's buffer to this node, and pins them. Where they cannot be pinned, because too many pages are, they are
    /// just here for now: another node may take them, the system call fails with EFAULT, and the preload library repeats it.
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
        let region = RegionId(region.0 as u16);
        let mut rest = pages.iter().map(|page| PageAddress::new(region, page));
        while let Some(first) = rest.next() {
            let batch = std::iter::once(first).chain(rest.by_ref()).take(AT_A_TIME);
            if self.fetch_batch(batch, access).is_err() {
                return Resolution::Failed;
            }
        }
        match self.pin_once(region, pages.iter(), access) {
            Ok(Some(pin)) => {
                if !self.record_call(region, pages, pin) {
                    let _ = self.unpin(pin);
                }
                Resolution::Resolved
            }
            Ok(None) | Err((_, CallFailure::Failed(Failure::Limit(_)))) => Resolution::Resolved,
            Err(_) => Resolution::Failed,
        }
    }

    /// Ends what [`pin_range`](Runtime::pin_range) began. True when the pages are known to have been here all the while.
    pub(super) fn unpin_range(&self, region: RegionKey, pages: PageRange) -> bool {
        let pin = self.forget_call(RegionId(region.0 as u16), pages);
        pin.is_some_and(|pin| self.unpin(pin) == Ok(None))
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
        self.ask_for(waiting.iter().flatten().map(|(page, _)| *page));
        let is_together = |one: &Option<(PageAddress, Call<'_>)>, next: &Option<(PageAddress, Call<'_>)>| {
            let pages = one.as_ref().zip(next.as_ref());
            pages.is_some_and(|((one, _), (next, _))| self.is_of_one_shard(*one, *next))
        };
        for together in waiting.chunk_by(is_together) {
            let Some((first, _)) = &together[0] else { break };
            self.page_event(*first, |engine, out| {
                for (page, call) in together.iter().flatten() {
                    engine.on_prefetch(call.ticket(), *page, access, out);
                }
            })
            .ok_or(CallFailure::Closed)?;
        }
        let mut outcome = Ok(());
        for (_, call) in waiting.iter().flatten() {
            outcome = outcome.and(self.finish_call(call, deadline, timeout).map(|_| ()));
        }
        outcome
    }
}
