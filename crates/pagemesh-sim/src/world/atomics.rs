//! Atomic operations that are done where the page is: each once, on the newest value, while nobody else can read it.

use super::World;
use crate::breach::Breach;
use crate::event::Caller;
use crate::history::{Deed, Entry, Location};
use crate::node::Rights;
use crate::truth::payload;
use pagemesh_protocol::{AtomicAnswer, AtomicOperation, NodeId, Outcome, PageAddress, Ticket};

/// From here on, threads that stand for one deed each: that of a call which had given up.
const NOBODYS_THREADS: u16 = 50_000;

impl World {
    /// Changes the word in the bytes of node `at` and answers.
    pub(super) fn operate(
        &mut self,
        at: usize,
        page: PageAddress,
        operation: AtomicOperation,
        (requester, ticket, answer): (NodeId, Ticket, AtomicAnswer),
    ) -> Result<(), Breach> {
        self.touched.push(page);
        let word = operation.word as usize;
        let counted = self.is_counted(at, page);
        let Some(old) = self.bytes(at, page).map(|words| words[word]) else {
            return Err(Breach::Action(format!("n{at}: {page:?} is to be changed and is not mapped")));
        };
        if counted {
            self.check_alone(at, page)?;
            let latest = self.truth.page(page).map(|truth| truth.latest[word]);
            if latest != Some(old) && self.config.instant_checks {
                return Err(Breach::Data(format!(
                    "n{at} adds to {page:?}[{word}], where {old:#x} is; the latest is {latest:x?}"
                )));
            }
            let sum = self.referee.sums.entry(page).or_default();
            let expected = std::mem::replace(sum, payload(old) + 1);
            if expected != payload(old) && self.config.instant_checks {
                let found = payload(old);
                return Err(Breach::Lock(format!("{page:?} holds {found} after {expected} additions")));
            }
        }
        if self.operated.insert((requester, ticket), old).is_some() {
            return Err(Breach::Completion(format!("n{at} adds twice for {ticket:?} of {requester:?}")));
        }
        let value = self.truth.fresh_value(payload(old) + 1);
        if let Some(copy) = self.nodes[at].copy_mut(page) {
            copy.words[word] = value;
        }
        if counted && let Some(truth) = self.truth.page_mut(page) {
            truth.previous = truth.latest;
            truth.latest[word] = value;
            let location = Location { page, word: word as u8 };
            self.record_operation(requester, ticket, Deed::Read { location, value: old });
            let deed = Deed::Write { location, value, replaced: Some(old) };
            self.record_operation(requester, ticket, deed);
        }
        if answer == AtomicAnswer::Call {
            return self.complete(at, ticket, Outcome::Word(old));
        }
        match answer.message(page, requester, ticket, old) {
            Some((to, message)) if self.nodes[at].engine.live().contains(to) => {
                self.send(at, to, message, None)
            }
            _ => Ok(()),
        }
    }

    /// Whoever changes a word in place has rights to the page, and nobody else has.
    fn check_alone(&self, at: usize, page: PageAddress) -> Result<(), Breach> {
        let holder = |index: usize| {
            let node = &self.nodes[index];
            node.alive && node.rights(page) > Rights::None && self.is_counted(index, page)
        };
        let holders: Vec<usize> = (0..self.nodes.len()).filter(|index| holder(*index)).collect();
        if holders == [at] || !self.config.instant_checks {
            return Ok(());
        }
        Err(Breach::Exclusion(format!("n{at} changes {page:?} in place while nodes {holders:?} can use it")))
    }

    /// A thread that waits did it; or a call that has given up, which no thread's order knows of.
    fn record_operation(&mut self, requester: NodeId, ticket: Ticket, deed: Deed) {
        let node = &self.nodes[requester.index()];
        let caller = node.call(ticket).filter(|_| node.alive).map(|call| call.caller);
        let thread = match caller {
            Some(Caller::Thread(index)) => index as u16,
            _ => NOBODYS_THREADS + (self.operated.len() % 10_000) as u16,
        };
        self.history.push(Entry { step: self.counts.steps, node: requester.get(), thread, deed });
    }

    /// What a call is told is what was done: nothing, or just that.
    pub(super) fn check_operated(&self, at: usize, ticket: Ticket, told: Option<u64>) -> Result<(), Breach> {
        let done = self.operated.get(&(self.nodes[at].id, ticket)).copied();
        if done == told {
            return Ok(());
        }
        Err(Breach::Completion(format!(
            "n{at}: {ticket:?} is told {told:x?}, and what was done is {done:x?}"
        )))
    }
}
