//! Looks for written pages in release regions, before whatever may be a release: where the kernel notes them, and where pages are pinned for
//! writing, of which nobody else tells.

use super::Runtime;
use super::shard::{Load, Shard};
use pagemesh_memory::PageRange;
use pagemesh_protocol::{Engine, NodeId, PageAddress, RegionId, limits};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Before anything.
const START: PageAddress = PageAddress::new(RegionId(0), 0);

/// Pages that are told of before they go out, lest one event sends more than a queue holds: as many as have twins elsewhere.
const AT_ONCE: u64 = limits::TWINS as u64;

/// So often a release is divided; threads that go on writing could have it divided without end.
const PARTS_MOST: u32 = 4096;

impl Shard {
    /// Tells the engine of pages that were written, at most `most`; true when that was not all.
    pub(super) fn look(&mut self, runtime: &Runtime, most: u64) -> bool {
        self.compare_pinned();
        let (mut found, mut from) = (0, START);
        while let Some((first, count)) = self.engine.next_to_look_at(from) {
            from = PageAddress::new(first.region, first.page + count);
            let Some(mapping) = self.mapping(first.region) else { continue };
            let engine = &mut self.engine;
            let mut tell = |run: PageRange| {
                let most_pages = run.count().min(most - found);
                found += engine.on_written(PageAddress::new(first.region, run.first()), most_pages);
            };
            let pages = PageRange::new(first.page, count);
            if let Err(error) = mapping.pager().written(pages, &mut tell) {
                // A page too many is said to be written, none too few.
                tracing::error!(%error, "taking all of them for written");
                tell(pages);
            }
            if found >= most {
                break;
            }
        }
        let counters = &runtime.counters;
        counters.pages_found_written.fetch_add(found, Ordering::Relaxed);
        if from != START {
            counters.looks.fetch_add(1, Ordering::Relaxed);
        }
        if found >= most {
            return true;
        }
        self.engine.on_looked();
        false
    }

    /// Tells the engine which pages that are pinned for writing were not written: these are not told of.
    fn compare_pinned(&mut self) {
        let mut from = START;
        while let Some(page) = self.engine.next_to_compare(from) {
            from = PageAddress::new(page.region, page.page + 1);
            if self.equals_twin(page) {
                self.engine.on_unwritten(page);
            }
        }
    }
}

impl Runtime {
    /// The shard, after a look; for an event that may be a release. `None` after the end.
    pub(super) fn look_and_lock(&self) -> Option<MutexGuard<'_, Shard>> {
        for part in 0.. {
            let mut shard = self.shards.first();
            if shard.is_closed() {
                return None;
            }
            let most = if part < PARTS_MOST { AT_ONCE } else { u64::MAX };
            if !shard.look(self, most) {
                return Some(shard);
            }
            shard.run(self, Load::Nothing, Engine::on_much_written);
            drop(shard);
            self.switch.flush();
            self.wait_room(Instant::now() + self.fault_timeout);
        }
        unreachable!("the last part has no bound")
    }
}

impl Shard {
    /// Sends what was written to a page until it was unmapped, or only says that something was.
    pub(super) fn flush(
        &mut self,
        runtime: &Runtime,
        page: PageAddress,
        diff: Option<(NodeId, pagemesh_protocol::Message)>,
    ) {
        let is_it = |run: &(PageAddress, u64)| {
            run.0.region == page.region && (run.0.page..run.0.page + run.1).contains(&page.page)
        };
        if !self.late.iter().any(is_it) {
            return;
        }
        // Where there is nobody to send it to, it may be a page without a twin.
        let differs =
            diff.is_none_or(|(to, message)| self.send_diff_of(runtime, to, &message, (page, false), true));
        if differs {
            self.flushed.push(page);
        }
    }
}
