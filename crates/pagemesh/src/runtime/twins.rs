//! The twins of the pages that this node is writing in release regions.

use pagemesh_memory::diff::patch;
use pagemesh_memory::{DIFF_MOST, DiffBytes, DiffScratch, PAGE_BYTES, ServiceView, Twin, TwinPool};
use pagemesh_protocol::{PageAddress, limits};
use std::collections::HashMap;

/// Pages that are pinned for writing keep their twins beyond those that the engine counts.
const MOST: usize = limits::TWINS + limits::PINS;

/// Where twins and diffs are. Not on the stack: a fault handler may have as little as 8 KiB of it (sigaltstack(2)), and what a write
/// fault begins may end an interval.
#[derive(Debug)]
struct Room {
    pool: TwinPool,
    scratch: DiffScratch,
    diff: DiffBytes,
}

/// The twins; nothing is set aside before the first is made.
#[derive(Debug, Default)]
pub(super) struct Twins {
    room: Option<Box<Room>>,
    of: HashMap<PageAddress, Twin>,
}

impl Twins {
    /// Reserves the room, before the first fault that needs it: a thread in a fault handler should not. False when there is none.
    pub(super) fn prepare(&mut self) -> bool {
        if self.room.is_none() {
            self.of.reserve(MOST);
            self.room = TwinPool::new(MOST * PAGE_BYTES)
                .inspect_err(|error| tracing::error!(%error, "no place for twins"))
                .ok()
                .map(|pool| Box::new(Room { pool, scratch: DiffScratch::new(), diff: [0; DIFF_MOST] }));
        }
        self.room.is_some()
    }

    /// Keeps a copy of `page`. False when there is no memory for it.
    pub(super) fn make(&mut self, page: PageAddress, service: &ServiceView) -> bool {
        let Some(Room { pool, .. }) = self.room.as_deref_mut() else { return false };
        let Ok(twin) = pool.take() else { return false };
        service.read_page(page.page, pool.bytes_mut(&twin));
        if let Some(old) = self.of.insert(page, twin) {
            pool.put(old);
        }
        true
    }

    /// What differs between `page` and its twin, which ends; or, to keep it, becomes what was sent.
    ///
    /// # Panics
    /// When the page has no twin: what was written to it would be lost without a word.
    pub(super) fn take_diff(&mut self, page: PageAddress, keep: bool, service: &ServiceView) -> &[u8] {
        let (Room { pool, scratch, diff: out }, twin) =
            self.room.as_deref_mut().zip(self.of.remove(&page)).expect("a page that is written has a twin");
        let length = service.diff_page_with(page.page, pool.bytes(&twin), scratch, out);
        if keep {
            if length > 0 {
                patch(pool.bytes_mut(&twin), &out[..length]).expect("the diff was just made");
            }
            self.of.insert(page, twin);
        } else {
            pool.put(twin);
        }
        &out[..length]
    }

    pub(super) fn drop_twin(&mut self, page: PageAddress) {
        if let Some((room, twin)) = self.room.as_mut().zip(self.of.remove(&page)) {
            room.pool.put(twin);
        }
    }
}
