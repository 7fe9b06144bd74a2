//! What came before the first state, where pages are sent along: a reader follows a page that it has fetched again twice.

use super::super::plan::plural;
use super::local::{Activity, Deed, Event, Load, Local, Operation, Parcel, Step};
use super::plan::IntervalPlan;
use super::search::Book;
use crate::breach::Breach;
use pagemesh_protocol::{Access, NodeId, Placement};
use std::collections::VecDeque;

/// So often one node writes all pages, and the others read them: they fetch, fetch again twice, and are sent the page once.
const ROUNDS: usize = 4;

/// What did not hold, and what happened before.
type Failure = Box<(Breach, Vec<String>)>;

struct Rounds<'a> {
    plan: &'a IntervalPlan,
    nodes: Vec<Local>,
    book: Book,
    /// Messages in the order in which they were sent, with their links.
    flying: VecDeque<(NodeId, NodeId, Parcel)>,
    trace: Vec<String>,
}

/// The nodes after these rounds, or at once where there are none, and what they have done.
///
/// # Errors
/// When a guarantee does not hold on the way; with what happened.
pub(super) fn play(plan: &IntervalPlan, nodes: Vec<Local>) -> Result<(Vec<Local>, Book), Failure> {
    let mut rounds =
        Rounds { plan, nodes, book: Book::default(), flying: VecDeque::new(), trace: Vec::new() };
    if plan.updates {
        rounds.play().map_err(|breach| Box::new((breach, std::mem::take(&mut rounds.trace))))?;
    }
    Ok((rounds.nodes, rounds.book))
}

impl Rounds<'_> {
    fn play(&mut self) -> Result<(), Breach> {
        self.nodes.iter_mut().for_each(|node| node.left = u8::MAX);
        for _ in 0..ROUNDS {
            if self.plan.locks > 0 { self.round_of_locks()? } else { self.round_of_barriers()? }
        }
        self.nodes.iter_mut().for_each(|node| node.left = self.plan.operations);
        // Taken over, or come too late for that.
        let came =
            self.nodes.iter().map(|node| node.engine.updates()).map(|(adopted, ignored)| adopted + ignored);
        let sent: u64 = came.sum();
        let text = format!("nothing was sent along in {ROUNDS} {}", plural(ROUNDS as u64, "round"));
        if sent > 0 { Ok(()) } else { Err(Breach::Stuck(text)) }
    }

    fn round_of_locks(&mut self) -> Result<(), Breach> {
        let others = (0..self.nodes.len()).filter(|node| *node != self.writer());
        let all: Vec<usize> = std::iter::once(self.writer()).chain(others).collect();
        for node in all {
            let access = if node == self.writer() { Access::Write } else { Access::Read };
            self.begin(node, Operation::Lock(0))?;
            self.touch_all(node, 0, access)?;
            self.begin(node, Operation::Unlock)?;
        }
        Ok(())
    }

    fn round_of_barriers(&mut self) -> Result<(), Breach> {
        let (writer, cell) = (self.writer(), (self.plan.locks + self.writer()) as u8);
        self.touch_all(writer, cell, Access::Write)?;
        self.meet()?;
        let readers = (0..self.nodes.len()).filter(|node| *node != writer);
        readers.into_iter().try_for_each(|node| self.touch_all(node, cell, Access::Read))?;
        self.meet()
    }

    /// The home where there are two nodes, which writes in place; else node 0, whether it is the home or not.
    fn writer(&self) -> usize {
        match self.plan.placement {
            Placement::Single(home) if self.plan.nodes == 2 => home.index(),
            _ => 0,
        }
    }

    fn meet(&mut self) -> Result<(), Breach> {
        (0..self.nodes.len()).try_for_each(|node| self.begin(node, Operation::Barrier))
    }

    fn touch_all(&mut self, node: usize, cell: u8, access: Access) -> Result<(), Breach> {
        let pages = 0..self.plan.pages as u8;
        pages
            .map(|page| Deed { page, cell, access })
            .try_for_each(|deed| self.begin(node, Operation::Touch(deed)))
    }

    /// A thread begins something, and all comes to rest.
    fn begin(&mut self, node: usize, operation: Operation) -> Result<(), Breach> {
        let value = match operation {
            Operation::Touch(deed) if deed.access == Access::Write => self.book.next(deed),
            _ => 0,
        };
        self.event(node, Event::Begin { operation, value }, None)?;
        loop {
            if let Some((from, to, parcel)) = self.flying.pop_front() {
                let event = Event::Deliver { from: from.get() as u8, parcel: 0 };
                self.event(to.index(), event, Some(parcel))?;
            } else if let Some((node, deed)) = self.given() {
                let write = deed.access == Access::Write;
                let value = if write { self.book.next(deed) } else { 0 };
                self.event(node, Event::Touch { value }, None)?;
            } else if let Some(node) = self.nodes.iter().position(|node| node.postponing) {
                self.event(node, Event::Postponed, None)?;
            } else {
                return Ok(());
            }
        }
    }

    /// A thread that was given a page.
    fn given(&self) -> Option<(usize, Deed)> {
        self.nodes.iter().enumerate().find_map(|(index, node)| match node.activity {
            Activity::Touching(deed) => Some((index, deed)),
            _ => None,
        })
    }

    fn event(&mut self, node: usize, event: Event, parcel: Option<Parcel>) -> Result<(), Breach> {
        let load = parcel.map_or(Load::Nothing, |parcel| parcel.load);
        let message = parcel.map(|parcel| parcel.message);
        self.trace.push(format!("{:>4}  n{node} {event:?} {message:?} {load:?}", self.trace.len() + 1));
        let mut step = Step::new(self.plan, self.nodes[node].clone(), None);
        step.take(event, parcel)?;
        self.book = self.book.judge(self.plan.nodes, node, &step.done)?;
        let from = NodeId::new(node as u16);
        self.flying.extend(step.done.sent.iter().map(|(to, parcel)| (from, *to, *parcel)));
        self.nodes[node] = step.local;
        Ok(())
    }
}
