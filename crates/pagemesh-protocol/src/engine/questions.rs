//! Questions about a page that change nothing: who owns it, and who is its home.
//!
//! A question for the owner goes to the home. Where the home is given by first touch and not known here, the anchor is asked
//! for it first; a page without a home has no owner either.

use super::coherence::NOT_HOME_HERE;
use super::pages::DirectoryState;
use super::tickets::Wait;
use super::{Engine, Handled};
use crate::action::{Action, Actions, Failure, Outcome, PageOwner};
use crate::ids::{NodeId, PageAddress, Ticket};
use crate::message::Message;

impl Engine {
    pub(super) fn owner_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        if self.is_gone(page.region) {
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(Failure::RegionClosed) });
            return;
        }
        let (asked, homeless) = self.who_tells(page);
        self.tickets.begin(ticket, Wait::Owner { page, asked });
        if !self.live.contains(asked) {
            self.fail(ticket, Failure::PeerLost(asked), out);
        } else if homeless {
            self.send(asked, Message::HomeQuery { page, ticket }, out);
        } else {
            self.send(asked, Message::OwnerQuery { page, ticket }, out);
        }
    }

    pub(super) fn owner_asked(
        &mut self,
        from: NodeId,
        page: PageAddress,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        let owner = match self.pages.home(page)? {
            Some(home) if home == self.config.node && self.is_entry(page.region) => PageOwner::Node(home),
            Some(home) if home == self.config.node => {
                match (self.next_owner(page), self.usable_entry(page).state) {
                    (Some(next), _) => PageOwner::Node(next),
                    (None, DirectoryState::Untouched) => PageOwner::Nobody,
                    (None, DirectoryState::Shared(owner) | DirectoryState::Modified(owner)) => {
                        PageOwner::Node(owner)
                    }
                    (None, DirectoryState::Lost(node)) => PageOwner::Lost(node),
                }
            }
            // A home that does not know it yet has granted the page to nobody.
            None if self.may_be_home(page) => PageOwner::Nobody,
            _ => return Err(NOT_HOME_HERE),
        };
        self.send(from, Message::OwnerReply { page, ticket, owner }, out);
        Ok(())
    }

    pub(super) fn home_query(&mut self, ticket: Ticket, page: PageAddress, out: &mut Actions) {
        if self.is_gone(page.region) {
            out.push(Action::Complete { ticket, outcome: Outcome::Failed(Failure::RegionClosed) });
            return;
        }
        let (asked, homeless) = self.who_tells(page);
        if !homeless {
            out.push(Action::Complete { ticket, outcome: Outcome::Home(Some(asked)) });
            return;
        }
        self.tickets.begin(ticket, Wait::Home { page, asked });
        if self.live.contains(asked) {
            self.send(asked, Message::HomeQuery { page, ticket }, out);
        } else {
            self.fail(ticket, Failure::PeerLost(asked), out);
        }
    }

    pub(super) fn home_asked(
        &mut self,
        from: NodeId,
        page: PageAddress,
        ticket: Ticket,
        out: &mut Actions,
    ) -> Handled {
        self.check_anchor_here(page)?;
        let home = self.pages.home(page)?;
        self.send(from, Message::HomeReply { page, ticket, home }, out);
        Ok(())
    }

    pub(super) fn home_replied(
        &mut self,
        from: NodeId,
        page: PageAddress,
        ticket: Ticket,
        home: Option<NodeId>,
        out: &mut Actions,
    ) -> Handled {
        self.check_anchor_says(page, from, home)?;
        if home == Some(self.config.node) && self.pages.home(page)?.is_none() {
            return Err("it has told others of this node's page before this node");
        }
        let wait = self.tickets.wait(ticket);
        let about = match wait {
            Wait::Home { page, asked }
            | Wait::Owner { page, asked }
            | Wait::AtomicHome { page, asked, .. } => Some((page, asked)),
            _ => None,
        };
        if about != Some((page, from)) {
            return Ok(());
        }
        if let Some(home) = home {
            self.learn_home(page, home);
        }
        match (wait, home) {
            (Wait::AtomicHome { operation, .. }, home) => {
                self.atomic_home_told(ticket, (page, operation), home, out);
            }
            (Wait::Home { .. }, home) => self.complete(ticket, Outcome::Home(home), out),
            (_, None) => self.complete(ticket, Outcome::Owner(PageOwner::Nobody), out),
            (_, Some(_)) => {
                self.tickets.end(ticket);
                self.owner_query(ticket, page, out);
            }
        }
        Ok(())
    }
}
