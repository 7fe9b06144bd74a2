//! The threads: what each does next, drawn while it runs, by the rules of a program without data races.

use super::pins::Held;
use super::plan::{Guard, Kind, Plan};
use crate::random::Random;
use pagemesh_protocol::{Access, Ticket};
use std::collections::VecDeque;

/// One thing that a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Read(usize),
    Write(usize),
    /// Has one added to the cell, wherever its page is.
    Add(usize),
    /// Gives back the copy that has the cell.
    Evict(usize),
    Lock(usize, Access),
    Unlock,
    /// The unit was given, and the answer has not come.
    Posted,
    /// For a signal of the lock that is held.
    Wait,
    /// A signal to one or to all.
    Notify(usize, bool),
    Barrier,
    /// A barrier that nothing depends on, and that may be given up.
    Meet,
    /// Pins the page of a cell for a system call.
    Pin(usize, Access),
    /// The kernel touches a cell.
    Kernel(usize, Access),
    /// Ends all pins of this thread.
    Unpin,
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
    /// What is pinned for the system call that is under way; the last may still be waited for.
    pub(super) pins: Vec<Held>,
    /// The lock under which it waits for a signal.
    pub(super) awaits: Option<usize>,
    /// How often it has found the lock's word taken.
    pub(super) tries: u32,
    /// It has given up waiting for the signal.
    pub(super) patience_over: bool,
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
            pins: Vec::new(),
            awaits: None,
            tries: 0,
            patience_over: false,
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

    /// Does nothing more but to let its pins go.
    pub(super) fn give_up(&mut self) {
        self.steps.clear();
        self.steps.push_back(Step::Unpin);
        self.round = u64::MAX;
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
            push_access(steps, phase_access(index, self.round, plan, random), None, plan, random);
        }
        for _ in 0..random.between(0, plan.sections) {
            let lock = random.index(plan.locks.len());
            let kind = plan.locks[lock];
            let reads = matches!(kind, Kind::ReadersAndWriters | Kind::Range) && random.chance(60);
            let cells: Vec<usize> =
                (0..plan.guards.len()).filter(|cell| plan.guards[*cell] == Guard::Lock(lock)).collect();
            steps.push_back(Step::Lock(lock, if reads { Access::Read } else { Access::Write }));
            for _ in 0..random.between(0, plan.accesses) {
                if !cells.is_empty() && random.chance(90) {
                    let cell = cells[random.index(cells.len())];
                    let writes = !reads && random.chance(50);
                    let step = if writes { Step::Write(cell) } else { Step::Read(cell) };
                    let other = cells[random.index(cells.len())];
                    push_access(steps, Some(step), Some(other), plan, random);
                } else {
                    push_access(steps, phase_access(index, self.round, plan, random), None, plan, random);
                }
                if kind == Kind::Mutex && random.chance(plan.signals) {
                    let all = random.chance(30);
                    steps.push_back(if random.chance(30) { Step::Wait } else { Step::Notify(lock, all) });
                }
            }
            steps.push_back(Step::Unlock);
            steps.extend((plan.pins > 0).then_some(Step::Unpin));
        }
        for _ in 0..3 {
            steps.extend(random.chance(plan.meetings).then_some(Step::Meet));
        }
        steps.push_back(Step::Barrier);
        steps.extend((plan.pins > 0).then_some(Step::Unpin));
        self.round += 1;
        true
    }
}

/// Adds an access, after which the copy may be given back while other threads of the node use it.
fn push_access(
    steps: &mut VecDeque<Step>,
    access: Option<Step>,
    other: Option<usize>,
    plan: &Plan,
    random: &mut Random,
) {
    steps.extend(access.into_iter().flat_map(|step| call_or_touch(step, other, plan, random)));
    if let Some(Step::Read(cell) | Step::Write(cell)) = access
        && random.chance(plan.evictions)
    {
        steps.push_back(Step::Evict(cell));
    }
}

/// An access by the thread itself, or by a system call that it makes; then perhaps to a cell of another page as well. Pages are
/// pinned in the order of their addresses.
fn call_or_touch(step: Step, other: Option<usize>, plan: &Plan, random: &mut Random) -> Vec<Step> {
    let (cell, access) = match step {
        Step::Read(cell) => (cell, Access::Read),
        Step::Write(cell) => (cell, Access::Write),
        _ => return vec![step],
    };
    if !random.chance(plan.pins) {
        return vec![step];
    }
    let mut cells = vec![cell];
    cells.extend(other.filter(|_| random.chance(40)));
    cells.sort_unstable();
    let mut steps: Vec<Step> = cells.iter().map(|cell| Step::Pin(*cell, access)).collect();
    for _ in 0..random.between(1, 4) {
        let reads = access == Access::Read || random.chance(30);
        let access = if reads { Access::Read } else { Access::Write };
        steps.push(Step::Kernel(cells[random.index(cells.len())], access));
    }
    // Else the pin lasts until the lock is given back, or the barrier was passed, and others write the same cell.
    steps.extend(random.chance(70).then_some(Step::Unpin));
    steps
}

/// An access of thread `index` to a cell that it may touch in this round.
fn phase_access(index: usize, round: u64, plan: &Plan, random: &mut Random) -> Option<Step> {
    let cell = random.index(plan.guards.len());
    match plan.guards[cell] {
        Guard::Phase => {}
        Guard::Counter if round.is_multiple_of(2) => return Some(Step::Add(cell)),
        Guard::Counter => return Some(Step::Read(cell)),
        Guard::Lock(_) | Guard::LockWord => return None,
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
