//! The twins of the pages that this node is writing in release regions.

use pagemesh_memory::diff::patch;
use pagemesh_memory::{DiffBytes, PAGE_BYTES, ServiceView, Twin, TwinPool};
use pagemesh_protocol::{PageAddress, limits};
use std::collections::HashMap;

/// Pages that are pinned for writing keep their twins beyond those that the engine counts.
const MOST: usize = limits::TWINS + limits::PINS;

/// The twins; nothing is set aside before the first is made.
#[derive(Debug, Default)]
pub(super) struct Twins {
    pool: Option<TwinPool>,
    of: HashMap<PageAddress, Twin>,
}

impl Twins {
    /// Reserves the room, before the first fault that needs it: a thread in a fault handler should not. False when there is none.
    pub(super) fn prepare(&mut self) -> bool {
        if self.pool.is_none() {
            self.of.reserve(MOST);
            self.pool = TwinPool::new(MOST * PAGE_BYTES)
                .inspect_err(|error| tracing::error!(%error, "no place for twins"))
                .ok();
        }
        self.pool.is_some()
    }

    /// Keeps a copy of `page`. False when there is no memory for it.
    pub(super) fn make(&mut self, page: PageAddress, service: &ServiceView) -> bool {
        let Some(pool) = &mut self.pool else { return false };
        let Ok(twin) = pool.take() else { return false };
        service.read_page(page.page, pool.bytes_mut(&twin));
        if let Some(old) = self.of.insert(page, twin) {
            pool.put(old);
        }
        true
    }

    /// Writes to `out` what differs between `page` and its twin, and ends the twin; or, to keep it, makes it what was sent.
    /// Returns the length.
    ///
    /// # Panics
    /// When the page has no twin: what was written to it would be lost without a word.
    pub(super) fn take_diff(
        &mut self,
        page: PageAddress,
        keep: bool,
        service: &ServiceView,
        out: &mut DiffBytes,
    ) -> usize {
        let (pool, twin) =
            self.pool.as_mut().zip(self.of.remove(&page)).expect("a page that is written has a twin");
        let length = service.diff_page(page.page, pool.bytes(&twin), out);
        if keep {
            if length > 0 {
                patch(pool.bytes_mut(&twin), &out[..length]).expect("the diff was just made");
            }
            self.of.insert(page, twin);
        } else {
            pool.put(twin);
        }
        length
    }

    pub(super) fn drop_twin(&mut self, page: PageAddress) {
        if let Some((pool, twin)) = self.pool.as_mut().zip(self.of.remove(&page)) {
            pool.put(twin);
        }
    }
}
