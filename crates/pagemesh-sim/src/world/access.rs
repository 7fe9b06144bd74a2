//! Loads and stores of the application threads, and what each has to find.

use super::World;
use crate::breach::Breach;
use crate::history::{Deed, Entry, Location};
use crate::node::Rights;
use crate::program::Step;
use crate::thread::Activity;
use crate::truth::payload;
use pagemesh_protocol::{Access, LockId, PageAddress};

/// Where and by whom a word is used.
#[derive(Clone, Copy)]
struct Use {
    index: usize,
    at: usize,
    page: PageAddress,
    word: usize,
    /// Whether it belongs to the history that all agree on.
    counted: bool,
}

impl World {
    /// Does the access if the rights are there; false when it faults.
    pub(super) fn access(&mut self, index: usize, step: Step<PageAddress>) -> Result<bool, Breach> {
        let at = self.threads[index].node;
        let Some((page, word, access)) = step.target() else { return Ok(false) };
        let needed = match access {
            Access::Read => Rights::Read,
            Access::Write => Rights::Write,
        };
        if !self.allowed(at, page, needed) {
            return Ok(false);
        }
        let used = Use { index, at, page, word, counted: self.is_counted(at, page) };
        self.use_word(used, step)?;
        let next = self.time + 1 + self.pause(at);
        let thread = &mut self.threads[index];
        thread.plan.pop_front();
        thread.retries = 0;
        thread.activity = Activity::Ready(next);
        if let Some((_, done)) = &mut thread.resuming {
            *done = true;
        }
        self.counts.hits += 1;
        Ok(true)
    }

    fn use_word(&mut self, used: Use, step: Step<PageAddress>) -> Result<(), Breach> {
        let Use { index, page, counted, .. } = used;
        let trusted = |world: &World, lock: usize| counted && world.is_trusted(world.lock(lock));
        match step {
            Step::Write(..) => {
                self.write(used, 0);
            }
            Step::Add(_) => {
                let found = payload(self.read(used)?);
                if counted {
                    let sum = self.referee.sums.entry(page).or_default();
                    let expected = std::mem::replace(sum, found + 1);
                    self.expect("after so many additions its sum", used, found, expected)?;
                }
                self.write(used, found + 1);
            }
            Step::Load(_, lock) => {
                let found = payload(self.read(used)?);
                if trusted(self, lock) {
                    let expected = self.referee.counters[lock];
                    self.expect("the counter behind its lock", used, found, expected)?;
                }
                self.threads[index].loaded[lock] = found;
            }
            Step::Increment(_, lock) => {
                let value = self.threads[index].loaded[lock] + 1;
                if trusted(self, lock) {
                    self.referee.counters[lock] += 1;
                }
                self.write(used, value);
            }
            Step::ReadData(_, lock) => {
                let found = self.read(used)?;
                if trusted(self, lock) {
                    let expected = self.referee.guarded.get(&page).copied().unwrap_or(0);
                    self.expect("what the last holder of its lock wrote", used, found, expected)?;
                }
            }
            Step::WriteData(..) => {
                let value = self.write(used, 0);
                if counted {
                    self.referee.guarded.insert(page, value);
                }
            }
            Step::Publish(_, parity) => {
                let value = self.write(used, 0);
                if counted {
                    self.referee.published.insert((index, parity), value);
                }
            }
            Step::Collect(_, parity, owner) => {
                let found = self.read(used)?;
                if counted && self.threads[index].met_all {
                    let expected = self.referee.published.get(&(owner, parity)).copied().unwrap_or(0);
                    self.expect("what was written before the barrier", used, found, expected)?;
                }
            }
            _ => {
                self.read(used)?;
            }
        }
        Ok(())
    }

    /// Synchronisation promises this value, whatever else may be going on.
    fn expect(&self, what: &str, used: Use, found: u64, expected: u64) -> Result<(), Breach> {
        if found == expected || !self.config.instant_checks {
            return Ok(());
        }
        let Use { index, at, page, word, .. } = used;
        Err(Breach::Lock(format!(
            "thread {index} of n{at} reads {found:#x} from {page:?}[{word}]; {what} is {expected:#x}"
        )))
    }

    pub(super) fn lock(&self, lock: usize) -> LockId {
        LockId(self.config.locks[lock])
    }

    /// Every read returns what was written last, by anyone.
    fn read(&mut self, used: Use) -> Result<u64, Breach> {
        let Use { index, at, page, word, counted } = used;
        let found = self.bytes(at, page).map(|words| words[word]).unwrap_or_default();
        self.trace_access(used, "reads", found);
        if !counted {
            return Ok(found);
        }
        self.record(index, Deed::Read { location: Location { page, word: word as u8 }, value: found });
        let latest = self.truth.page(page).map(|truth| truth.latest[word]);
        if latest == Some(found) || !self.config.instant_checks {
            return Ok(found);
        }
        Err(Breach::Data(format!(
            "thread {index} of n{at} reads {page:?}[{word}] and finds {found:#x}; the latest is {latest:x?}"
        )))
    }

    fn write(&mut self, used: Use, payload: u64) -> u64 {
        let Use { index, at, page, word, counted } = used;
        let value = self.truth.fresh_value(payload);
        self.trace_access(used, "writes", value);
        let replaced =
            self.nodes[at].copy_mut(page).map(|copy| std::mem::replace(&mut copy.words[word], value));
        if counted {
            if let Some(truth) = self.truth.page_mut(page) {
                truth.previous = truth.latest;
                truth.latest[word] = value;
            }
            self.record(
                index,
                Deed::Write { location: Location { page, word: word as u8 }, value, replaced },
            );
        }
        value
    }

    pub(super) fn record(&mut self, index: usize, deed: Deed) {
        let node = self.threads[index].node as u16;
        self.history.push(Entry { step: self.counts.steps, node, thread: index as u16, deed });
    }

    fn trace_access(&mut self, used: Use, does: &str, value: u64) {
        let Use { index, at, page, word, counted } = used;
        let (time, step) = (self.time, self.counts.steps);
        let state = self.nodes[at].rights(page).state();
        let aside = if counted { "" } else { " (cut off)" };
        self.trace.line(|| {
            let page = format!("{page:?}");
            format!("{step:>6} {time:>8}us n{at} {page:<6} {state:<17} thread {index} {does} {value:#x} [{word}]{aside}")
        });
    }
}
