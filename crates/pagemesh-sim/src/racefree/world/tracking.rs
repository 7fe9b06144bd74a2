//! Looks before releases: where the kernel notes which pages are written, and at pages that are pinned for writing. And threads that go on
//! writing while an event is performed.

use super::super::plan::Fault;
use super::super::threads::{Activity, Step};
use super::{Checked, Load, PageCopy, Rights, World};
use pagemesh_protocol::{Access, Message, NodeId, PageAddress, RegionId};

/// Of 100 actions of a node whose threads go on meanwhile, before how many a thread of it goes on.
const INTERLUDES: u32 = 30;
/// Of 100 accesses to a page that is tracked, how many find that the kernel has taken it out of the page table.
const SWAPPED: u32 = 2;

impl PageCopy {
    fn is_written(&self) -> bool {
        self.rights == Rights::Write || self.written
    }

    /// It can be read from now on. Who had it already counts as having written it: the kernel may have taken it away since.
    pub(super) fn enter(&mut self) {
        (self.written, self.rights) = (self.rights != Rights::None, Rights::Read);
    }

    /// What is written from now on is noted anew.
    pub(super) fn clean(&mut self) {
        (self.written, self.rights) = (false, Rights::Read);
    }

    pub(super) fn leave(&mut self) {
        (self.written, self.rights) = (self.is_written(), Rights::None);
    }
}

impl World {
    /// Whether the kernel of `node` notes which pages of this region are written.
    pub(super) fn is_tracked(&self, node: usize, region: RegionId) -> bool {
        self.nodes[node].engine.tracks_writes(region)
    }

    /// Tells the engine of `node` which pages were written, before what may be a release.
    pub(super) fn look(&mut self, node: usize) {
        let missed = self.fault == Some(Fault::MissedLook) && self.random.chance(20);
        let mut from = PageAddress::new(RegionId(0), 0);
        while let Some((first, count)) = self.nodes[node].engine.next_to_look_at(from) {
            from = PageAddress::new(first.region, first.page + count);
            for page in (first.page..from.page).map(|page| PageAddress::new(first.region, page)) {
                if !missed && self.copy(node, page).is_written() {
                    self.report.found_written += self.nodes[node].engine.on_written(page, 1);
                }
            }
        }
        self.compare_pinned(node);
        self.nodes[node].engine.on_looked();
    }

    /// Tells the engine of `node` which pages that are pinned for writing were not written.
    fn compare_pinned(&mut self, node: usize) {
        let blind = self.fault == Some(Fault::BlindLook);
        let mut from = PageAddress::new(RegionId(0), 0);
        while let Some(page) = self.nodes[node].engine.next_to_compare(from) {
            from = PageAddress::new(page.region, page.page + 1);
            let copy = self.copy(node, page);
            if blind || copy.twin == Some(copy.cells) {
                self.report.found_unwritten += 1;
                self.nodes[node].engine.on_unwritten(page);
            }
        }
    }

    /// A thread of `node` goes on between two actions, on another processor.
    pub(super) fn interlude(&mut self, node: usize) -> Checked {
        let busy = self.plan.tracked[node] || self.plan.busy;
        if !busy || !self.interludes.chance(INTERLUDES) {
            return Ok(());
        }
        let free = |(index, thread): &(usize, &super::Thread)| {
            let runs = thread.activity == Activity::Ready && !thread.owes_use;
            thread.node == node && runs && self.acting != Some(*index)
        };
        let free: Vec<usize> = self.threads.iter().enumerate().filter(free).map(|(index, _)| index).collect();
        if free.is_empty() {
            return Ok(());
        }
        let index = free[self.interludes.index(free.len())];
        let (cell, access) = match self.threads[index].steps.front() {
            Some(Step::Read(cell)) => (*cell, Access::Read),
            Some(Step::Write(cell)) => (*cell, Access::Write),
            Some(Step::Kernel(cell, access)) if self.plan.busy => (*cell, *access),
            _ => return Ok(()),
        };
        let (page, place) = self.place(cell);
        if !self.may(node, page, access) {
            return Ok(());
        }
        self.threads[index].steps.pop_front();
        match access {
            Access::Read => self.check_read(index, cell),
            Access::Write => {
                self.write(index, cell, page, place);
                Ok(())
            }
        }
    }

    /// Whether the kernel has just taken the page out of the page table, so that a thread faults though it may touch the page.
    pub(super) fn is_swapped(&mut self, node: usize, page: PageAddress) -> bool {
        self.is_tracked(node, page.region) && self.interludes.chance(SWAPPED)
    }

    /// Sends what was written to a page until it was unmapped, or only says that something was.
    pub(super) fn flush(
        &mut self,
        node: usize,
        page: PageAddress,
        diff: Option<(NodeId, Message)>,
    ) -> Checked {
        let lost = self.fault == Some(Fault::LostFlush);
        let copy = self.copy(node, page);
        let was_written = copy.is_written();
        let twin = copy.twin.take();
        if !was_written || lost {
            return Ok(());
        }
        let cells = copy.cells;
        if let Some(twin) = twin {
            let changes: super::Changes = (0..cells.len())
                .filter(|cell| cells[*cell] != twin[*cell])
                .map(|cell| (cell, cells[cell]))
                .collect();
            if changes.is_empty() {
                return Ok(());
            }
            if let Some((to, message)) = diff {
                self.report.flushed += 1;
                self.send(node, to, message, Load::Diff(changes));
            }
        } else if diff.is_some() {
            return Err(format!("node {node} flushes {page:?} without a twin"));
        }
        self.nodes[node].engine.on_flushed(page);
        Ok(())
    }
}
