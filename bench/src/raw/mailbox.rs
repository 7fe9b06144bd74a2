//! A plain mailbox in memory that two processes have: one asks for a page, the other puts it there, and both look without a pause.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | the number of the request, counted from 1 |
//! | 4 | the page that is asked for, or that no more will be |
//! | 128 | the number of the request that was answered |
//! | 4096 | the page |

use anyhow::{Result, bail};
use pagemesh_memory::{BareSpace, PAGE_BYTES, PageRange, PlainMemory};
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const REQUEST: usize = 0;
const PAGE: usize = 4;
const ANSWER: usize = 128;
const BYTES: usize = PAGE_BYTES;

/// In place of a page: that was the last request.
const NO_MORE: u32 = u32::MAX;

/// How long whoever asks waits for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How long whoever answers waits for the next request.
const REQUEST_WAIT: Duration = Duration::from_secs(20);

/// Looks at the clock are far apart: each costs as much as many looks at a word.
const LOOKS: u32 = 1 << 10;

/// Makes room for a mailbox.
pub(crate) fn file() -> Result<OwnedFd> {
    Ok(PlainMemory::file(2 * PAGE_BYTES)?)
}

/// The side that asks.
pub(crate) struct Asker {
    memory: PlainMemory,
    asked: AtomicU32,
    has_failed: AtomicBool,
}

/// The side that answers, with the pages that it has.
pub(crate) struct Answerer {
    memory: PlainMemory,
    pages: PlainMemory,
}

impl Asker {
    pub(crate) fn open(file: OwnedFd) -> Result<Asker> {
        let memory = open(file)?;
        Ok(Asker { memory, asked: AtomicU32::new(0), has_failed: AtomicBool::new(false) })
    }

    /// Gets a page, in a handler of faults; says whether it could. After one that it could not get, it asks for no more.
    pub(crate) fn fetch(&self, space: &mut BareSpace<'_>) -> bool {
        if self.has_failed() {
            return false;
        }
        let number = self.ask(space.page() as u32);
        let got = look(ANSWER_WAIT, || self.memory.word(ANSWER).load(Ordering::Acquire) == number);
        if got {
            space.copy_from(&self.memory, BYTES);
        } else {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        got
    }

    /// Whether a page could not be had.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Tells the other side that no more will be asked for in this round.
    pub(crate) fn end(&self) {
        self.ask(NO_MORE);
    }

    fn ask(&self, page: u32) -> u32 {
        let number = self.asked.load(Ordering::Relaxed).wrapping_add(1);
        self.asked.store(number, Ordering::Relaxed);
        self.memory.word(PAGE).store(page, Ordering::Relaxed);
        self.memory.word(REQUEST).store(number, Ordering::Release);
        number
    }
}

impl Answerer {
    /// With so many pages.
    pub(crate) fn open(file: OwnedFd, pages: usize) -> Result<Answerer> {
        Ok(Answerer { memory: open(file)?, pages: open(PlainMemory::file(pages * PAGE_BYTES)?)? })
    }

    /// Has each page begin with a word, and hold zeros behind it.
    pub(crate) fn write(&self, word: impl Fn(usize) -> u64) {
        for page in 0..self.pages.bytes() / PAGE_BYTES {
            let mut bytes = [0; PAGE_BYTES];
            bytes[..8].copy_from_slice(&word(page).to_ne_bytes());
            self.pages.write(page * PAGE_BYTES, &bytes);
        }
    }

    /// Answers until no more is asked for.
    pub(crate) fn serve(&self) -> Result<()> {
        let [request, answer] = [REQUEST, ANSWER].map(|place| self.memory.word(place));
        let mut answered = answer.load(Ordering::Relaxed);
        loop {
            if !look(REQUEST_WAIT, || request.load(Ordering::Acquire) != answered) {
                bail!("nobody asks the baseline for a page");
            }
            answered = request.load(Ordering::Acquire);
            let page = self.memory.word(PAGE).load(Ordering::Relaxed);
            if page != NO_MORE {
                let place = page as usize * PAGE_BYTES;
                if place >= self.pages.bytes() {
                    bail!("the baseline is asked for page {page}, which it has not");
                }
                self.memory.copy(BYTES, &self.pages, place, PAGE_BYTES);
            }
            answer.store(answered, Ordering::Release);
            if page == NO_MORE {
                return Ok(());
            }
        }
    }
}

/// All of it, mapped and present.
fn open(file: OwnedFd) -> Result<PlainMemory> {
    let memory = PlainMemory::open(file)?;
    memory.populate(PageRange::new(0, (memory.bytes() / PAGE_BYTES) as u64))?;
    Ok(memory)
}

/// Looks until something is so, for so long at most.
fn look(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let mut began = None;
    loop {
        for _ in 0..LOOKS {
            if is_so() {
                return true;
            }
            std::hint::spin_loop();
        }
        if began.get_or_insert_with(Instant::now).elapsed() > patience {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::shuffled;
    use crate::raw::BareProgram;
    use pagemesh_memory::{PagerKind, choose};
    use std::io::Write;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// One program at a time in a process resolves its own faults.
    static ALONE: Mutex<()> = Mutex::new(());

    /// `None` where there can be no such program.
    fn program() -> Option<(MutexGuard<'static, ()>, BareProgram)> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = choose(Some(PagerKind::Sigbus)) {
            // Said on stderr itself, which the harness does not keep to itself.
            let _ = std::io::stderr().write_all(format!("not run: {why}\n").as_bytes());
            return None;
        }
        Some((alone, BareProgram::new(30).unwrap()))
    }

    fn both() -> (Asker, Answerer) {
        let file = file().unwrap();
        (Asker::open(file.try_clone().unwrap()).unwrap(), Answerer::open(file, 30).unwrap())
    }

    #[test]
    fn pages_that_are_asked_for_in_faults_are_those_of_the_other_side() {
        let Some((_alone, mut program)) = program() else { return };
        let (asker, answerer) = both();
        for round in 0..3 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    answerer.write(|page| page as u64 + round);
                    answerer.serve().unwrap();
                });
                let samples = program.ask(&asker, &shuffled(30), |page| page as u64 + round).unwrap();
                assert_eq!(samples.statistics().unwrap().samples, 30);
            });
        }
    }

    #[test]
    fn who_is_not_answered_gives_up_and_asks_no_more() {
        let Some((_alone, mut program)) = program() else { return };
        let (asker, _) = both();
        let began = Instant::now();
        assert!(program.ask(&asker, &shuffled(30), |_| 0).is_err());
        let waited = began.elapsed();
        assert!(waited > ANSWER_WAIT && waited < 5 * ANSWER_WAIT, "{waited:?}");
    }

    #[test]
    fn a_page_that_is_not_there_is_not_answered() {
        let (asker, answerer) = both();
        asker.ask(30);
        assert!(answerer.serve().is_err());
    }
}
