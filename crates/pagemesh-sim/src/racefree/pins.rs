//! Pins: what a system call does with shared memory, beside threads that touch and synchronise.

use super::threads::{Activity, Step};
use super::world::{Checked, World};
use pagemesh_protocol::{Access, PageAddress, PinHolder, PinId};

/// A page that a thread has pinned for a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pin: PinId,
    page: PageAddress,
    access: Access,
    /// The kernel found that it may not touch the page.
    refused: bool,
}

impl World {
    /// Thread `index` pins the page of `cell`.
    pub(super) fn pin(&mut self, index: usize, cell: usize, access: Access) -> Checked {
        let (page, _) = self.place(cell);
        let node = self.threads[index].node;
        self.report.pins += 1;
        let pin = PinId(self.report.pins);
        self.threads[index].pins.push(Held { pin, page, access, refused: false });
        let ticket = self.wait(index);
        self.note(|| format!("thread {index} pins {page:?} {access:?}, {pin:?}"));
        self.event(node, |engine, out| {
            engine.on_pin(ticket, (pin, PinHolder(index as u64)), page, access, out);
        })
    }

    /// The page that thread `index` wanted to pin is here, or will not be had.
    pub(super) fn pinned(&mut self, index: usize, failed: bool) {
        let thread = &mut self.threads[index];
        if failed {
            // The system call is not made; what was pinned before for it is let go.
            thread.pins.pop();
            while matches!(thread.steps.front(), Some(Step::Pin(..) | Step::Kernel(..))) {
                thread.steps.pop_front();
            }
        } else {
            thread.steps.pop_front();
        }
    }

    /// The kernel touches a cell for thread `index`: it cannot fault, and has to be able to while the pin holds.
    pub(super) fn system_call(&mut self, index: usize, cell: usize, access: Access) -> Checked {
        self.threads[index].steps.pop_front();
        let (page, place) = self.place(cell);
        let node = self.threads[index].node;
        if self.may(node, page, access) {
            if access == Access::Write {
                self.write(index, cell, page, place);
                return Ok(());
            }
            return self.check_read(index, cell);
        }
        self.note(|| format!("the kernel may not touch {page:?} for thread {index}"));
        let engine = &self.nodes[node].engine;
        let covers =
            |held: &&mut Held| held.page == page && (access == Access::Read || held.access == Access::Write);
        for held in self.threads[index].pins.iter_mut().filter(covers) {
            if engine.holds(held.pin) {
                return Err(format!("thread {index} holds {page:?} pinned, and the kernel may not touch it"));
            }
            held.refused = true;
        }
        Ok(())
    }

    /// Thread `index` lets its pins go, and is told of each that did not last.
    pub(super) fn unpin(&mut self, index: usize) -> Checked {
        self.threads[index].steps.pop_front();
        let node = self.threads[index].node;
        for Held { pin, page, refused, .. } in std::mem::take(&mut self.threads[index].pins) {
            self.note(|| format!("thread {index} lets {pin:?} go"));
            let mut taken = None;
            self.event(node, |engine, out| taken = engine.on_unpin(pin, out))?;
            self.report.pins_taken += u64::from(taken.is_some());
            if refused && taken != Some(page) {
                return Err(format!("thread {index} was not told that {page:?} went from {pin:?}"));
            }
        }
        Ok(())
    }

    /// Others have waited long enough for pins of `node`.
    pub(super) fn expire_pins(&mut self, node: usize) -> Checked {
        let Some(wait) = self.nodes[node].awaited.take() else { return Ok(()) };
        self.note(|| format!("the deadline for {wait:?} of node {node} has passed"));
        self.event(node, |engine, out| engine.on_pins_expired(wait, out))
    }

    /// Whether some thread of a living node has pages pinned.
    pub(super) fn pins_left(&self) -> Option<usize> {
        let threads = self.threads.iter();
        let alive = |node: usize| self.nodes[node].alive;
        threads.enumerate().find_map(|(index, thread)| {
            let left = !thread.pins.is_empty() && alive(thread.node) && thread.activity == Activity::Over;
            left.then_some(index)
        })
    }
}
