//! The threads: what each does next, drawn while it runs, by the rules of a program without data races.

use super::plan::{Guard, Plan};
use crate::random::Random;
use pagemesh_protocol::Ticket;
use std::collections::VecDeque;

/// One thing that a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Read(usize),
    Write(usize),
    /// Gives back the copy that has the cell.
    Evict(usize),
    Lock(usize),
    Unlock,
    Barrier,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Activity {
    Ready,
    /// For the end of a call.
    Waiting,
    Over,
}

#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) node: usize,
    pub(super) activity: Activity,
    pub(super) steps: VecDeque<Step>,
    /// The call that is under way, or was last.
    pub(super) ticket: Ticket,
    /// The page of the last call was given and not used yet.
    pub(super) owes_use: bool,
    /// The lock that is held, and what proves it.
    pub(super) held: Option<(usize, Ticket)>,
    pub(super) round: u64,
}

impl Thread {
    pub(super) fn new(node: usize, slot: u16) -> Thread {
        Thread {
            node,
            activity: Activity::Ready,
            steps: VecDeque::new(),
            ticket: Ticket::new(slot, 0),
            owes_use: false,
            held: None,
            round: 0,
        }
    }

    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.ticket = Ticket::new(self.ticket.slot, self.ticket.generation.wrapping_add(1));
        self.ticket
    }

    /// Forgets what is left of a critical section whose lock was not had.
    pub(super) fn skip_section(&mut self) {
        while self.steps.pop_front().is_some_and(|step| step != Step::Unlock) {}
    }

    /// Draws the steps of the next round; false after the last. After the last round everything is read by everyone.
    pub(super) fn plan_round(&mut self, index: usize, plan: &Plan, random: &mut Random) -> bool {
        if self.round > plan.rounds {
            return false;
        }
        let steps = &mut self.steps;
        if self.round == plan.rounds {
            steps.extend((0..plan.guards.len()).map(Step::Read));
            self.round += 1;
            return true;
        }
        for _ in 0..random.between(0, plan.accesses) {
            push_access(steps, phase_access(index, self.round, plan, random), plan, random);
        }
        for _ in 0..random.between(0, plan.sections) {
            let lock = random.index(plan.locks);
            let cells: Vec<usize> =
                (0..plan.guards.len()).filter(|cell| plan.guards[*cell] == Guard::Lock(lock)).collect();
            steps.push_back(Step::Lock(lock));
            for _ in 0..random.between(0, plan.accesses) {
                if !cells.is_empty() && random.chance(90) {
                    let cell = cells[random.index(cells.len())];
                    let access = if random.chance(50) { Step::Write(cell) } else { Step::Read(cell) };
                    push_access(steps, Some(access), plan, random);
                } else {
                    push_access(steps, phase_access(index, self.round, plan, random), plan, random);
                }
            }
            steps.push_back(Step::Unlock);
        }
        steps.push_back(Step::Barrier);
        self.round += 1;
        true
    }
}

/// Adds an access, after which the copy may be given back while other threads of the node use it.
fn push_access(steps: &mut VecDeque<Step>, access: Option<Step>, plan: &Plan, random: &mut Random) {
    steps.extend(access);
    if let Some(Step::Read(cell) | Step::Write(cell)) = access
        && random.chance(plan.evictions)
    {
        steps.push_back(Step::Evict(cell));
    }
}

/// An access of thread `index` to a cell that it may touch in this round.
fn phase_access(index: usize, round: u64, plan: &Plan, random: &mut Random) -> Option<Step> {
    let cell = random.index(plan.guards.len());
    if plan.guards[cell] != Guard::Phase {
        return None;
    }
    // Every other round a cell has one writer, in between only readers.
    if (cell as u64 + round).is_multiple_of(2) {
        let writer = (cell + round as usize / 2 * 7) % plan.threads.len();
        let step = if random.chance(60) { Step::Write(cell) } else { Step::Read(cell) };
        (writer == index).then_some(step)
    } else {
        Some(Step::Read(cell))
    }
}
