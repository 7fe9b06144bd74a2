//! A call ends: is that what it waited for, and may it fail?

use super::World;
use super::applications::only_tries;
use crate::breach::Breach;
use crate::event::{Caller, Wanted};
use crate::history::Deed;
use crate::node::Call;
use crate::program::{COMMON_BARRIER, Step};
use crate::sabotage::Sabotage;
use crate::thread::Activity;
use pagemesh_protocol::{Failure, Outcome, PageOwner, PageState, RegionRefusal, Ticket, barrier_home};

impl World {
    pub(super) fn complete(&mut self, at: usize, ticket: Ticket, outcome: Outcome) -> Result<(), Breach> {
        let Some(call) = self.nodes[at].end_call(ticket) else {
            return Err(Breach::Completion(format!("n{at}: {ticket:?} ends with {outcome:?}, unasked")));
        };
        if let Outcome::Failed(failure) = outcome {
            self.counts.failed += 1;
            self.check_excuse(at, &call, failure)?;
            if let Wanted::Page { page, .. } | Wanted::Pin { page, .. } = call.wanted {
                self.turns.gives_up(page, self.nodes[at].id);
            }
        } else {
            self.counts.completed += 1;
        }
        let waited = call.caller != Caller::Background;
        if waited && matches!(call.wanted, Wanted::Page { .. }) && outcome == Outcome::Done {
            self.nodes[at].set_resuming(ticket, true);
        }
        if let (Wanted::Pin { pin, page, access }, Outcome::Done) = (call.wanted, outcome) {
            self.pins.begins(at, pin, page, access);
        }
        self.observe_home_answer(at, &call, outcome)?;
        self.check_outcome(at, &call, outcome)?;
        match call.caller {
            Caller::Script => {
                if matches!(call.wanted, Wanted::Page { .. })
                    && outcome == Outcome::Done
                    && !self.slow_threads
                {
                    self.used.push((at, ticket));
                }
                if call.wanted == Wanted::Leave {
                    self.may_leave(at);
                }
                self.ended.push((at, ticket, outcome));
                Ok(())
            }
            Caller::Thread(thread) => self.resume(thread, &call, outcome),
            Caller::Background => Ok(()),
        }
    }

    /// What a home says to its own node passes no link: the referee sees it here.
    fn observe_home_answer(&mut self, at: usize, call: &Call, outcome: Outcome) -> Result<(), Breach> {
        let id = self.nodes[at].id;
        let applicant = (id, call.ticket);
        match (call.wanted, outcome) {
            (Wanted::Lock(lock), outcome) => {
                self.referee.ends(lock, applicant, !matches!(outcome, Outcome::Failed(_)))
            }
            (Wanted::Barrier(barrier), Outcome::Done) if barrier_home(barrier, self.config.nodes) == id => {
                self.referee.released(barrier, applicant)
            }
            // Of others' refusals the referee hears what the home sends.
            (Wanted::Barrier(barrier), Outcome::Failed(_))
                if barrier_home(barrier, self.config.nodes) == id =>
            {
                self.referee.refused(applicant);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The outcome has to fit the question.
    fn check_outcome(&mut self, at: usize, call: &Call, outcome: Outcome) -> Result<(), Breach> {
        let wrong = || Err(Breach::Completion(format!("n{at}: {call:?} ends with {outcome:?}")));
        match (call.wanted, outcome) {
            (_, Outcome::Failed(_))
            | (
                Wanted::Page { .. } | Wanted::Pin { .. } | Wanted::Lock(_) | Wanted::Barrier(_),
                Outcome::Done,
            ) => Ok(()),
            (Wanted::Lock(_), Outcome::OwnerDied(node))
                if !self.nodes[node.index()].alive || self.is_cut_off(node.index()) =>
            {
                Ok(())
            }
            (Wanted::Atomic { .. }, Outcome::Word(old)) => self.check_operated(at, call.ticket, Some(old)),
            (Wanted::Leave, Outcome::Done) if self.nodes.iter().all(|node| node.called_leave) => Ok(()),
            (Wanted::Region(_), Outcome::Region { region, spec }) => self.check_mapped(region, spec),
            (Wanted::Home { touched, .. }, Outcome::Home(None)) if touched => wrong(),
            (Wanted::Home { page, .. }, Outcome::Home(home)) => {
                let placement = self.nodes[at].engine.region(page.region);
                let fixed =
                    placement.and_then(|spec| spec.placement.home(page.page, spec.pages, self.config.nodes));
                if fixed.is_some() && fixed != home { wrong() } else { Ok(()) }
            }
            (Wanted::Owner { touched, .. }, Outcome::Owner(owner)) => match owner {
                PageOwner::Nobody if touched => wrong(),
                PageOwner::Node(node) if node.index() >= self.nodes.len() => wrong(),
                PageOwner::Lost(node) if self.nodes[node.index()].alive && !self.is_cut_off(node.index()) => {
                    wrong()
                }
                _ => Ok(()),
            },
            _ => wrong(),
        }
    }

    /// A failure needs a reason outside the engine.
    fn check_excuse(&self, at: usize, call: &Call, failure: Failure) -> Result<(), Breach> {
        // Of two that have lost each other each takes the other for dead, and tells third ones so.
        let dead = |node: pagemesh_protocol::NodeId| {
            !self.nodes[node.index()].alive || self.is_cut_off(node.index())
        };
        let excused = match failure {
            Failure::PeerLost(node) => dead(node),
            Failure::Unanswered(node) => dead(node) && matches!(call.wanted, Wanted::Atomic { .. }),
            Failure::PageLost(node) => {
                let (Wanted::Page { page, .. } | Wanted::Pin { page, .. } | Wanted::Atomic { page }) =
                    call.wanted
                else {
                    return Err(Breach::Completion(format!("n{at}: {call:?} fails with {failure:?}")));
                };
                // A copy may still be there while the order to hand it to the dead node is on its way, or waits for a thread.
                let settled = self.is_settled(page);
                // A reader that was sent the page by its dead owner may be unknown to the home.
                let least =
                    if self.config.hint_patience > 0 { PageState::Modified } else { PageState::Shared };
                let copies =
                    self.nodes.iter().any(|node| node.alive && node.engine.page_state(page) >= least);
                dead(node) && !(settled && copies && self.severed.is_empty())
            }
            Failure::Busy => matches!(call.wanted, Wanted::Lock(_)) && only_tries(call.ticket),
            Failure::Limit(_) => matches!(call.wanted, Wanted::Lock(_)) && self.config.lock_bound == 1,
            Failure::Withdrawn => {
                self.check_operated(at, call.ticket, None)?;
                matches!(call.caller, Caller::Thread(index) if self.threads[index].asked_back)
            }
            Failure::RegionRefused(RegionRefusal::AddressTaken { .. }) => {
                matches!(call.wanted, Wanted::Region(plan) if self.config.regions[plan].address != 0)
            }
            _ => false,
        };
        if excused {
            return Ok(());
        }
        Err(Breach::Completion(format!("n{at}: {call:?} fails with {failure:?} and nothing excuses it")))
    }

    /// The thread goes on.
    fn resume(&mut self, index: usize, call: &Call, outcome: Outcome) -> Result<(), Breach> {
        let at = self.time + self.pause(self.threads[index].node);
        let participants = self.threads.len();
        let thread = &mut self.threads[index];
        if !matches!(thread.activity, Activity::Waiting { ticket, .. } if ticket == call.ticket) {
            return Err(Breach::Completion(format!("thread {index} does not wait for {call:?}")));
        }
        thread.activity = Activity::Ready(at);
        thread.ended = Some(call.ticket);
        match (call.wanted, outcome) {
            // Tried again; the page is held until then.
            (Wanted::Page { .. }, Outcome::Done) => {
                thread.resuming = Some((call.ticket, false));
                if self.saboteur.strikes(Sabotage::EarlyResume) {
                    self.used.push((thread.node, call.ticket));
                }
            }
            // Whoever held it before: now this thread does.
            (Wanted::Lock(lock), Outcome::Done | Outcome::OwnerDied(_)) => {
                if let Some(Step::Lock(place)) = thread.plan.pop_front() {
                    thread.locks.push((place, call.ticket));
                }
                let trusted = self.is_trusted(lock);
                self.referee.takes(lock, index, trusted)?;
                if trusted {
                    self.record(index, Deed::Acquire(lock));
                }
            }
            (Wanted::Barrier(barrier), _) => {
                let step = thread.plan.pop_front();
                let met = outcome == Outcome::Done;
                if barrier == COMMON_BARRIER {
                    thread.generation += 1;
                    thread.met_all = met;
                    if met {
                        self.referee.passes(thread.generation - 1, participants)?;
                    }
                }
                let turn = thread.turns.get(&barrier).copied().unwrap_or_default();
                let timed = matches!(step, Some(Step::Barrier { timed: true, .. }));
                if met && !timed && !self.config.has_losses() {
                    self.record(index, Deed::Pass(barrier, turn));
                }
            }
            (Wanted::Region(plan), outcome) => {
                thread.plan.pop_front();
                if let Outcome::Region { region, spec } = outcome {
                    thread.regions[plan] = Some((region, spec.pages));
                }
            }
            (Wanted::Atomic { .. }, Outcome::Word(_)) => {
                thread.asked_back = false;
                thread.plan.pop_front();
            }
            (Wanted::Page { .. } | Wanted::Lock(_) | Wanted::Atomic { .. }, _) => {
                thread.asked_back = false;
                thread.abort();
            }
            (Wanted::Owner { .. } | Wanted::Home { .. } | Wanted::Pin { .. } | Wanted::Leave, _) => {
                thread.plan.pop_front();
            }
        }
        Ok(())
    }
}
