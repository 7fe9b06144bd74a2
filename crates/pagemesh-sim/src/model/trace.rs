//! How a breach came about: one line an event, with what it changed and what was sent.

use super::local::{Activity, Event, Local, Operation};
use super::search::{Found, Move, Search};
use std::fmt::Write;

impl Search<'_> {
    /// The shortest way from the start to what was found.
    pub(super) fn trace(&mut self, found: &Found) -> Vec<String> {
        let mut numbers = vec![found.state];
        while self.states.parent(numbers[numbers.len() - 1]) != u32::MAX {
            numbers.push(self.states.parent(numbers[numbers.len() - 1]));
        }
        numbers.reverse();
        let mut lines = Vec::new();
        for pair in numbers.windows(2) {
            let here = self.states.state(pair[0]).to_vec();
            let there = self.states.state(pair[1]).to_vec();
            let mut moves = Vec::new();
            self.moves(&here, &mut moves);
            let taken = moves
                .into_iter()
                .find(|next| self.after(&here, *next).is_ok_and(|after| after == there))
                .expect("a state was found from its parent");
            lines.push(self.line(lines.len() + 1, &here, taken, Some(&there)));
        }
        if let Some(next) = found.next {
            let here = self.states.state(found.state).to_vec();
            lines.push(self.line(lines.len() + 1, &here, next, None));
        }
        lines
    }

    fn line(&mut self, step: usize, here: &[u32], next: Move, there: Option<&[u32]>) -> String {
        let (node, event) = match next {
            Move::Death { node } => return format!("{step:>4}  n{node} dies"),
            Move::Event { node, event } => (node as usize, event),
        };
        let before = self.locals[node].local(here[node]).clone();
        let mut text = format!("{step:>4}  n{node} {}", self.describe(&before, event));
        if let Some(there) = there {
            let after = self.locals[node].local(there[node]);
            for (page, (old, new)) in before.copies.iter().zip(&after.copies).enumerate() {
                if old.rights != new.rights {
                    let _ = write!(text, "; p{page} {} -> {}", old.rights, new.rights);
                }
            }
        }
        for (to, parcel) in self.sent(here, node, event) {
            let _ = write!(text, "; to n{to}: {:?}", parcel.message);
        }
        if there.is_none() {
            text.push_str("; and then the guarantee does not hold");
        }
        text
    }

    fn describe(&self, local: &Local, event: Event) -> String {
        match event {
            Event::Deliver { from, parcel } => {
                format!("hears from n{from}: {:?}", self.queues.parcel(parcel).message)
            }
            Event::Begin { thread, operation, .. } => match operation {
                Operation::Fault { page, access, held: true } => {
                    format!("thread {thread}: {access:?} fault on p{page}")
                }
                Operation::Fault { page, access, held: false } => {
                    format!("thread {thread}: prefetch of p{page} to {access:?}")
                }
                Operation::Atomic(page) => format!("thread {thread}: has p{page} changed where it is"),
                Operation::Lock(lock) => format!("thread {thread}: wants lock {lock}"),
                Operation::Unlock => format!("thread {thread}: gives its lock back"),
                Operation::Barrier => format!("thread {thread}: comes to the barrier"),
            },
            Event::Touch { thread } => match local.threads[thread as usize].activity {
                Activity::Touching { page, access } => {
                    format!("thread {thread}: touches p{page} ({access:?})")
                }
                _ => format!("thread {thread}: goes on"),
            },
            Event::Write { thread, page } => format!("thread {thread}: writes p{page}"),
            Event::Evict { page } => format!("gives p{page} back"),
            Event::Postponed => "threads have had their time".into(),
            Event::AskBack { thread } => format!("thread {thread}: would rather leave it"),
            Event::Cancel { thread } => format!("thread {thread}: gives up waiting"),
            Event::Lost { node } => format!("loses n{node}"),
            Event::Outdated { page } => format!("p{page} was written elsewhere"),
            Event::Full => "the barrier is full".into(),
        }
    }
}
