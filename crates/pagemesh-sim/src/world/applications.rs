//! The application threads: accesses with and without a fault, locks, barriers.

use super::World;
use crate::breach::Breach;
use crate::event::{Caller, Event, Wanted};
use crate::node::Rights;
use crate::thread::{Activity, COMMON_BARRIER, COUNTER_WORD, Step};
use pagemesh_protocol::{Access, LockId, PageAddress, RegionName, RegionSpec, Ticket};

/// A wait that is given up lasts up to so many times the longest usual way of a message.
const PATIENCE: u64 = 6;
/// A wait that only a deadline can end: longer than anything that ends by itself.
const DEADLINE_US: u64 = 3_000_000;

impl World {
    /// One step of a thread that is not waiting.
    pub(super) fn think(&mut self, index: usize) -> Result<(), Breach> {
        if matches!(self.threads[index].resuming, Some((_, true))) {
            return self.go_on(index);
        }
        if self.threads[index].plan.is_empty() {
            self.threads[index].refill(&self.config);
        }
        let Some(step) = self.threads[index].plan.front().copied() else {
            self.threads[index].activity = Activity::Over;
            return Ok(());
        };
        let at = self.threads[index].node;
        match step {
            Step::Read(page, _) | Step::Write(page, _) | Step::Load(page, _) | Step::Increment(page, _) => {
                let spurious = self.schedule.chance(self.config.spurious_percent);
                if !spurious && self.access(index, step)? {
                    return self.go_on(index);
                }
                if self.threads[index].resuming.is_some() {
                    self.check_turn(index, page)?;
                    self.go_on(index)?;
                }
                let access = needed_access(step);
                let retries = &mut self.threads[index].retries;
                *retries += 1;
                self.counts.retries_max = self.counts.retries_max.max(*retries);
                self.counts.faults += 1;
                let ticket = self.begin(index, Wanted::Page { page, access }, false);
                self.feed(at, Event::Fault { ticket, page, access })
            }
            Step::Open(plan) => self.open(index, plan),
            Step::Lock(lock) => {
                let lock = LockId(self.config.locks[lock]);
                let ticket = self.begin(index, Wanted::Lock(lock), false);
                self.feed(at, Event::LockAcquire { ticket, lock })
            }
            Step::Unlock(lock) => self.unlock(index, lock),
            Step::Barrier { barrier, participants, timed } => {
                if barrier == COMMON_BARRIER {
                    self.referee.arrives(self.threads[index].generation);
                }
                let ticket = self.begin(index, Wanted::Barrier(barrier), timed);
                self.feed(at, Event::BarrierArrive { ticket, barrier, participants })?;
                self.plant_early_release(at, Wanted::Barrier(barrier), ticket);
                Ok(())
            }
            Step::Home(page) => {
                let touched = self.truth.page(page).is_some_and(|truth| truth.touched);
                let ticket = self.begin(index, Wanted::Home { page, touched }, false);
                self.feed(at, Event::HomeQuery { ticket, page })
            }
            Step::Owner(page) => {
                let touched = self.truth.page(page).is_some_and(|truth| truth.touched);
                let ticket = self.begin(index, Wanted::Owner { page, touched }, false);
                self.feed(at, Event::OwnerQuery { ticket, page })
            }
        }
    }

    /// The engine is told that the thread has used, or tried to use, the page that it waited for.
    pub(super) fn go_on(&mut self, index: usize) -> Result<(), Breach> {
        let at = self.threads[index].node;
        match self.threads[index].resuming.take() {
            Some((ticket, _)) => self.feed(at, Event::Resumed { ticket }),
            None => Ok(()),
        }
    }

    /// A thread that was given a page finds it; unless it asked for what it had, when nobody holds the page for it.
    fn check_turn(&self, index: usize, page: PageAddress) -> Result<(), Breach> {
        if self.config.spurious_percent > 0 {
            return Ok(());
        }
        Err(Breach::Turn(format!(
            "thread {index} was given {page:?} and finds it gone before it could use it"
        )))
    }

    /// A waiting call of a thread, which may give it up after a time.
    fn begin(&mut self, index: usize, wanted: Wanted, timed: bool) -> Ticket {
        let at = self.threads[index].node;
        let ticket = self.nodes[at].begin_call(Caller::Thread(index), wanted, &mut self.schedule);
        let may_cancel = match wanted {
            Wanted::Page { .. }
            | Wanted::Pin { .. }
            | Wanted::Lock(_)
            | Wanted::Owner { .. }
            | Wanted::Home { .. }
            | Wanted::Region(_) => true,
            // The others of a barrier count on this thread.
            Wanted::Barrier(_) | Wanted::Leave => false,
        };
        let impatient = may_cancel && self.schedule.chance(self.config.cancel_percent);
        let deadline = if impatient || timed && !self.config.has_losses() {
            let timing = self.config.timing;
            let span = PATIENCE * (timing.delay_us + timing.jitter_us + timing.think_us);
            Some(self.time + self.schedule.below(span))
        } else {
            timed.then_some(self.time + DEADLINE_US)
        };
        self.threads[index].activity = Activity::Waiting { ticket, deadline };
        ticket
    }

    /// The thread no longer waits.
    pub(super) fn give_up(&mut self, index: usize) -> Result<(), Breach> {
        let at = self.time + self.pause();
        let thread = &mut self.threads[index];
        let Activity::Waiting { ticket, .. } = thread.activity else { return Ok(()) };
        thread.activity = Activity::Ready(at);
        if !matches!(thread.plan.pop_front(), Some(Step::Barrier { .. } | Step::Open(_))) {
            thread.abort();
        }
        self.counts.cancelled += 1;
        let node = self.threads[index].node;
        self.feed(node, Event::Cancel { ticket })
    }

    /// Does the access if the rights are there; false when it faults.
    fn access(&mut self, index: usize, step: Step) -> Result<bool, Breach> {
        let at = self.threads[index].node;
        let (page, word) = match step {
            Step::Read(page, word) | Step::Write(page, word) => (page, word),
            Step::Load(page, _) | Step::Increment(page, _) => (page, COUNTER_WORD),
            _ => return Ok(false),
        };
        let needed = match needed_access(step) {
            Access::Read => Rights::Read,
            Access::Write => Rights::Write,
        };
        if !self.allowed(at, page, needed) {
            return Ok(false);
        }
        match step {
            Step::Read(..) => {
                self.read(index, page, word)?;
            }
            Step::Write(..) => {
                let value = self.truth.fresh_value();
                self.write(index, page, word, value);
            }
            Step::Load(_, lock) => {
                let value = self.read(index, page, word)?;
                let expected = self.referee.counters[lock];
                if value != expected {
                    return Err(Breach::Lock(format!(
                        "counter {lock} is {value} after {expected} increments behind its lock"
                    )));
                }
                self.threads[index].loaded[lock] = value;
            }
            Step::Increment(_, lock) => {
                let value = self.threads[index].loaded[lock] + 1;
                self.referee.counters[lock] += 1;
                self.write(index, page, word, value);
            }
            _ => {}
        }
        let next = self.time + 1 + self.pause();
        let thread = &mut self.threads[index];
        thread.plan.pop_front();
        thread.retries = 0;
        thread.activity = Activity::Ready(next);
        if let Some((_, used)) = &mut thread.resuming {
            *used = true;
        }
        self.counts.hits += 1;
        Ok(true)
    }

    /// Every read returns what was written last, by anyone.
    fn read(&mut self, index: usize, page: PageAddress, word: usize) -> Result<u64, Breach> {
        let at = self.threads[index].node;
        let found = self.bytes(at, page).map(|words| words[word]);
        let latest = self.truth.page(page).map(|truth| truth.latest[word]);
        self.trace_access(index, "reads", page, word, found);
        match (found, latest) {
            (Some(found), Some(latest)) if found == latest => Ok(found),
            _ => Err(Breach::Data(format!(
                "thread {index} of n{at} reads {page:?}[{word}] and finds {found:?}; the latest is {latest:?}"
            ))),
        }
    }

    fn write(&mut self, index: usize, page: PageAddress, word: usize, value: u64) {
        let at = self.threads[index].node;
        self.trace_access(index, "writes", page, word, Some(value));
        if let Some(copy) = self.nodes[at].copy_mut(page) {
            copy.words[word] = value;
        }
        if let Some(truth) = self.truth.page_mut(page) {
            truth.previous = truth.latest;
            truth.latest[word] = value;
        }
    }

    fn trace_access(&mut self, index: usize, does: &str, page: PageAddress, word: usize, value: Option<u64>) {
        let (time, step, at) = (self.time, self.counts.steps, self.threads[index].node);
        self.trace.line(|| format!("{step:>5} {time:>7}us n{at}.{index} {does} {page:?}[{word}] {value:x?}"));
    }

    /// Between two actions of an engine, a running thread of its node does what its rights allow.
    pub(super) fn interlope(&mut self, at: usize) -> Result<(), Breach> {
        let count = self.config.threads;
        let first = at * count;
        let start = self.schedule.index(count);
        for offset in 0..count {
            let index = first + (start + offset) % count;
            let Some(thread) = self.threads.get(index) else { continue };
            let ready = matches!(thread.activity, Activity::Ready(_));
            if let (true, Some(step)) = (ready, thread.plan.front().copied())
                && self.access(index, step)?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn unlock(&mut self, index: usize, lock: usize) -> Result<(), Breach> {
        let next = self.time + 1 + self.pause();
        let id = LockId(self.config.locks[lock]);
        let thread = &mut self.threads[index];
        thread.plan.pop_front();
        thread.activity = Activity::Ready(next);
        let Some(place) = thread.locks.iter().position(|(held, _)| *held == lock) else { return Ok(()) };
        let (_, ticket) = thread.locks.remove(place);
        let at = thread.node;
        self.referee.gives_back(id);
        self.feed(at, Event::LockRelease { ticket, lock: id })
    }

    /// A region at an address of its own is created by everyone: after a refusal nobody else would.
    fn open(&mut self, index: usize, plan: usize) -> Result<(), Breach> {
        let at = self.threads[index].node;
        let region = &self.config.regions[plan];
        let create = index == 0 || region.address != 0 || self.threads[index].random.chance(50);
        let spec = RegionSpec {
            name: RegionName::new(&format!("region {plan}")).expect("it is short and has no NUL"),
            pages: if create { region.pages } else { 0 },
            placement: region.placement,
            protocol: region.protocol,
            address: if create { region.address } else { 0 },
        };
        let ticket = self.begin(index, Wanted::Region(plan), false);
        self.feed(at, Event::RegionOpen { ticket, create, spec })
    }
}

fn needed_access(step: Step) -> Access {
    match step {
        Step::Write(..) | Step::Increment(..) => Access::Write,
        _ => Access::Read,
    }
}
