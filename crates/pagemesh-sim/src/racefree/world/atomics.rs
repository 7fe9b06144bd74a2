//! Cells that threads change by atomic operations, wherever the page is.

use super::super::plan::{CELLS, Fault};
use super::super::threads::Activity;
use super::{Checked, Load, World};
use pagemesh_protocol::{AtomicAnswer, AtomicChange, AtomicOperation, NodeId, Outcome, PageAddress, Ticket};

impl World {
    /// Thread `index` has one added to a cell, and may lose its patience.
    pub(super) fn add(&mut self, index: usize, cell: usize) -> Checked {
        self.change(index, cell, AtomicChange::Add(1))?;
        let impatient = self.random.chance(self.plan.impatience);
        if impatient && self.threads[index].activity == Activity::Waiting {
            let (node, ticket) = (self.threads[index].node, self.threads[index].ticket);
            self.threads[index].patience_over = true;
            self.event(node, |engine, out| engine.on_atomic_give_up(ticket, out))?;
        }
        Ok(())
    }

    pub(super) fn change(&mut self, index: usize, cell: usize, change: AtomicChange) -> Checked {
        let (ticket, node) = (self.wait(index), self.threads[index].node);
        let (page, place) = self.place(cell);
        self.note(|| format!("thread {index} wants {change:?} of cell {cell}, {page:?}"));
        let operation = AtomicOperation { word: place as u16, change };
        self.event(node, |engine, out| engine.on_atomic(ticket, page, operation, out))
    }

    /// Changes the cell in the bytes of `node`, where its newest value has to be, and answers.
    pub(super) fn operate(
        &mut self,
        node: usize,
        page: PageAddress,
        operation: AtomicOperation,
        (requester, ticket, answer): (NodeId, Ticket, AtomicAnswer),
    ) -> Checked {
        let before =
            |region: usize| self.plan.regions[..region].iter().map(|region| region.pages).sum::<u64>();
        let place = operation.word as usize;
        let cell = (before(page.region.index()) + page.page) as usize * CELLS + place;
        self.report.atomics += 1;
        let again = self.fault == Some(Fault::RepeatedAtomic) && self.random.chance(20);
        let held = &mut self.copy(node, page).cells[place];
        let old = *held;
        let changed = |old| operation.change.apply(u64::from(old)) as u32;
        let new = changed(old);
        *held = if again { changed(new) } else { new };
        let truth = &mut self.truth[cell];
        let expected = old == truth.value || truth.uncertain && truth.past.contains(&old);
        if !expected {
            let value = truth.value;
            return Err(format!("node {node} changes {old} in cell {cell}, {page:?}; it should be {value}"));
        }
        truth.past.push(new);
        (truth.value, truth.writer, truth.uncertain) = (new, Some(node), false);
        self.note(|| format!("node {node} makes {new} of {old} in cell {cell}, {page:?}"));
        if answer == AtomicAnswer::Call {
            return self.complete(node, ticket, Outcome::Word(u64::from(old)));
        }
        if let Some((to, message)) = answer.message(page, requester, ticket, u64::from(old)) {
            self.send(node, to, message, Load::Nothing);
        }
        Ok(())
    }
}
