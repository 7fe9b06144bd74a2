//! Who was heard first is served first: what a home has heard and not yet answered, by the checker's own book.
//!
//! A home's requests for pages to itself pass no link and are not in the book; those of other nodes may not pass each other. Of a lock it
//! is the calls of one node that may not pass each other.

use super::local::{Event, Local, Operation, page_of};
use super::plan::Plan;
use super::step::Parcel;
use crate::breach::Breach;
use pagemesh_protocol::{Action, Collect, Hint, Message, NodeId, Outcome, Ticket};

/// What one home has heard and not answered, oldest first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Turns {
    /// By page.
    pages: Vec<Vec<NodeId>>,
    /// Calls of this node, by lock.
    locks: Vec<Vec<(NodeId, Ticket)>>,
}

impl Turns {
    pub(super) fn new(plan: &Plan) -> Turns {
        Turns { pages: vec![Vec::new(); plan.pages as usize], locks: vec![Vec::new(); plan.locks.len()] }
    }

    fn serve_page(&mut self, page: u8, node: NodeId) -> Result<(), Breach> {
        let waiting = &mut self.pages[page as usize];
        if waiting.first() == Some(&node) {
            waiting.remove(0);
            return Ok(());
        }
        Err(Breach::Turn(format!("p{page} goes to {node:?} while it is the turn of {waiting:?}")))
    }

    fn serve_lock(&mut self, lock: usize, caller: (NodeId, Ticket)) -> Result<(), Breach> {
        let waiting = &mut self.locks[lock];
        if waiting.first() == Some(&caller) {
            waiting.remove(0);
            return Ok(());
        }
        Err(Breach::Turn(format!("lock {lock} goes to {caller:?} while it is the turn of {waiting:?}")))
    }
}

impl Local {
    /// Keeps in mind whose request this node is about to hear.
    pub(super) fn hear(&mut self, event: Event, parcel: Option<Parcel>) {
        let here = self.engine.node();
        match (event, parcel.map(|parcel| parcel.message)) {
            (Event::Deliver { from, .. }, Some(message)) => {
                self.hear_message(NodeId::new(from as u16), &message);
            }
            (Event::Begin { thread, operation: Operation::Lock(lock), generation, .. }, _) => {
                self.turns.locks[lock as usize].push((here, Ticket::new(thread as u16, generation)));
            }
            (Event::Cancel { thread }, _) => {
                let ticket = self.ticket(thread);
                for waiting in &mut self.turns.locks {
                    waiting.retain(|caller| *caller != (here, ticket));
                }
            }
            (Event::Lost { node }, _) => {
                let lost = NodeId::new(node as u16);
                self.turns.pages.iter_mut().for_each(|waiting| waiting.retain(|node| *node != lost));
            }
            _ => {}
        }
    }

    fn hear_message(&mut self, from: NodeId, message: &Message) {
        let here = self.engine.node();
        match *message {
            Message::PageRequest { page, .. } => self.turns.pages[page.page as usize].push(from),
            // Who took this node for the home is owed no answer.
            Message::HomeNamed { page, home, .. } if home != here => {
                self.turns.pages[page.page as usize].clear();
            }
            // The owner has forgotten for whom it was asked: that one is served once more.
            Message::Hint { page, step: Hint::Served { .. }, .. } => {
                let waiting = &mut self.turns.pages[page.page as usize];
                let again = self.engine.moving_to(page).filter(|node| *node != here);
                if let Some(node) = again.filter(|node| !waiting.contains(node)) {
                    waiting.insert(0, node);
                }
            }
            _ => {}
        }
    }

    /// Checks that what this node does as a home is done for the one whose turn it is.
    pub(super) fn check_turn(&mut self, action: &Action) -> Result<(), Breach> {
        let here = self.engine.node();
        match *action {
            Action::Send { to, message, .. } => match message {
                Message::Grant { page, .. }
                | Message::Deny { page, .. }
                | Message::Collect { page, step: Collect::Data(_), .. } => {
                    self.turns.serve_page(page.page as u8, to)
                }
                // A sharer may pass the grant on.
                Message::Data { page, .. } | Message::Collect { page, step: Collect::Grant(_), .. }
                    if self.engine.home(page) == Some(here) =>
                {
                    self.turns.serve_page(page.page as u8, to)
                }
                Message::Collect { page, step: Collect::Drop { requester, grant, .. }, .. }
                    if !grant.is_empty() =>
                {
                    self.turns.serve_page(page.page as u8, requester)
                }
                Message::Fetch { requester, .. } if requester != here => {
                    page_of(&message).map_or(Ok(()), |page| self.turns.serve_page(page, requester))
                }
                _ => Ok(()),
            },
            Action::Complete { ticket, outcome: Outcome::Done | Outcome::OwnerDied(_) } => {
                let own = (here, ticket);
                let lock = self.turns.locks.iter().position(|waiting| waiting.contains(&own));
                lock.map_or(Ok(()), |lock| self.turns.serve_lock(lock, own))
            }
            _ => Ok(()),
        }
    }

    /// A call of this node that fails in this event has had its turn, though what the home told itself comes last.
    pub(super) fn end_turns(&mut self, actions: &[Action]) {
        let here = self.engine.node();
        for action in actions {
            if let Action::Complete { ticket, outcome: Outcome::Failed(_) } = *action {
                for waiting in &mut self.turns.locks {
                    waiting.retain(|caller| *caller != (here, ticket));
                }
            }
        }
    }
}
