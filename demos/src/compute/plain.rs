//! Plain memory: one mapping of all members, who are processes, and locks and barriers in it.
//!
//! Every member maps the same file, with nothing in between: to the kernel and the processor that is what processes have that were
//! made by `fork` after `mmap` of shared memory. Locks and barriers are those of a good native program: words in that mapping, on which
//! whoever waits sleeps in the kernel (futex(2)). A lock that is free is taken by one compare-and-exchange and given back by one
//! exchange. At a barrier whoever waits looks for a moment before it sleeps, where each member has a processor.
//!
//! The mapping begins with words, each on cache lines of its own:
//!
//! | place | what |
//! |---|---|
//! | 0 | 0, or 1 when a member has failed |
//! | 1 to 4 | the locks: 0 free, 1 held, 2 held and perhaps waited for |
//! | 5 and after | the barriers: who has come, how often it has opened, how many sleep |

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pagemesh::{Departure, Mesh};
use pagemesh_memory::{PAGE_BYTES, PageRange, PlainMemory};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::thread::futex;

use super::team::TeamError;
use super::workload::Workload;

/// Processors fetch cache lines in pairs.
const PLACE_BYTES: usize = 128;

const FAILED: usize = 0;
const FIRST_LOCK: usize = 1;
/// How many locks there are.
pub(super) const LOCKS: usize = 4;
const FIRST_BARRIER: usize = FIRST_LOCK + LOCKS;

/// Members at most: the nodes of a mesh at most.
const MEMBERS_MOST: usize = 64;

/// Barriers: one of all members, and one of each pair of neighbours.
const BARRIERS: usize = 1 + MEMBERS_MOST;

/// Where the first part begins.
const HEAD_BYTES: usize = ((FIRST_BARRIER + BARRIERS) * PLACE_BYTES).next_multiple_of(PAGE_BYTES);

/// How long a member waits for the others.
const WAIT: Duration = Duration::from_mins(10);

/// How long a member sleeps before it looks whether the others live.
const SLICE: Duration = Duration::from_millis(50);

/// How long whoever waits at a barrier looks before it sleeps, where each member has a processor: as a node of a mesh.
const SPIN: Duration = Duration::from_micros(50);

/// Looks at the clock are far apart: each costs as much as many looks at a word.
const LOOKS: u32 = 32;

/// How many waits go without a look at most, after others in which looking was in vain.
const SKIPS_MOST: u32 = 31;

/// How often whoever wants a lock looks before it sleeps: what a lock is held for here is short.
const LOCK_LOOKS: u32 = 100;

/// Room in plain memory for each of these, in which one runs after the other.
///
/// # Errors
/// When the kernel refuses the file.
pub fn file_for(workloads: &[Workload]) -> Result<OwnedFd, TeamError> {
    let parts = |workload: &Workload| {
        workload.part_bytes().into_iter().map(|bytes| bytes.next_multiple_of(PAGE_BYTES)).sum::<usize>()
    };
    Ok(PlainMemory::file(HEAD_BYTES + workloads.iter().map(parts).max().unwrap_or(0))?)
}

/// A member's mapping of plain memory.
pub struct PlainGround {
    memory: Rc<PlainMemory>,
    member: usize,
    members: usize,
    /// How long to look before sleeping.
    spin: Duration,
    /// How many waits are to go without a look, and how many more did.
    skips: Cell<(u32, u32)>,
    /// Where the next part begins.
    end: Cell<usize>,
    /// The node that was found to be gone.
    gone: RefCell<Option<Departure>>,
}

impl fmt::Debug for PlainGround {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PlainGround(member {} of {})", self.member, self.members)
    }
}

impl PlainGround {
    /// Maps a file that [`file_for`] made, for one of `members`, all of whom must.
    ///
    /// # Errors
    /// When the file is none, or cannot be mapped.
    ///
    /// # Panics
    /// When there is no such member, or there are more than 64.
    pub fn open(file: OwnedFd, member: usize, members: usize) -> Result<Self, TeamError> {
        assert!(member < members && members <= MEMBERS_MOST, "member {member} of {members}");
        let memory = Rc::new(PlainMemory::open(file)?);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = if members <= processors { SPIN } else { Duration::ZERO };
        let (end, gone) = (Cell::new(HEAD_BYTES), RefCell::new(None));
        Ok(Self { memory, member, members, spin, skips: Cell::default(), end, gone })
    }

    /// This member's number, from 0.
    pub fn member(&self) -> usize {
        self.member
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members
    }

    pub(super) fn memory(&self) -> &Rc<PlainMemory> {
        &self.memory
    }

    /// Forgets the parts: the next program has its own. No member must use those any more; the first gives the memory back.
    ///
    /// # Errors
    /// When the kernel does not take it back.
    pub fn clear(&self) -> Result<(), TeamError> {
        let end = self.end.replace(HEAD_BYTES);
        if self.member == 0 {
            self.memory.release(pages(HEAD_BYTES..end))?;
        }
        Ok(())
    }

    /// Room for `bytes` more, which all members ask for in the same order. All of it is present in every member when this returns; each page
    /// lies near the member whose band it is.
    pub(super) fn part(&self, bytes: usize, band: Range<usize>, mesh: &Mesh) -> Result<usize, TeamError> {
        let start = self.end.get();
        let end = start + bytes.next_multiple_of(PAGE_BYTES);
        if end > self.memory.bytes() {
            return Err(TeamError::NoRoom { asked: end, found: self.memory.bytes() });
        }
        self.end.set(end);
        self.memory.populate(pages(start + band.start..start + band.end))?;
        self.meet(0, self.members, mesh)?;
        self.memory.populate(pages(start..end))?;
        self.meet(0, self.members, mesh)?;
        Ok(start)
    }

    fn word(&self, place: usize, word: usize) -> &AtomicU32 {
        self.memory.word(place * PLACE_BYTES + word * 4)
    }

    /// Tells the others that this member comes no more. They see it within a moment.
    pub(super) fn fail(&self) {
        self.word(FAILED, 0).store(1, Ordering::Release);
    }

    /// Whether all others are still there, as far as is known.
    pub(super) fn check(&self, mesh: &Mesh) -> Result<(), TeamError> {
        // First: whoever fails says so, and leaves only then.
        if self.word(FAILED, 0).load(Ordering::Acquire) != 0 {
            return Err(TeamError::Broken);
        }
        let mut gone = self.gone.borrow_mut();
        *gone = gone.or_else(|| mesh.wait_departure(Duration::ZERO));
        gone.map_or(Ok(()), |Departure { node, how }| Err(TeamError::Gone { node, how }))
    }

    /// Sleeps until `word` is no longer `seen`, at most for a slice; then looks whether there is anyone to wait for.
    fn sleep(&self, word: &AtomicU32, seen: u32, since: Instant, mesh: &Mesh) -> Result<(), TeamError> {
        let slice = futex::Timespec { tv_sec: 0, tv_nsec: i64::from(SLICE.subsec_nanos()) };
        // Without FUTEX_PRIVATE_FLAG: the others are processes.
        match futex::wait(word, futex::Flags::empty(), seen, Some(&slice)) {
            Err(Errno::TIMEDOUT) => {
                self.check(mesh)?;
                if since.elapsed() > WAIT {
                    return Err(TeamError::TimedOut(WAIT));
                }
                Ok(())
            }
            // Woken, by a signal too, or not even asleep: who called looks again.
            _ => Ok(()),
        }
    }

    /// Waits at the barrier `id` until `participants` members are there.
    pub(super) fn meet(&self, id: usize, participants: usize, mesh: &Mesh) -> Result<(), TeamError> {
        assert!(id < BARRIERS, "barrier {id} of {BARRIERS}");
        let [come, opened, sleepers] = [0, 1, 2].map(|word| self.word(FIRST_BARRIER + id, word));
        // It cannot open between this and the next line: this member has not come.
        let seen = opened.load(Ordering::Acquire);
        if come.fetch_add(1, Ordering::AcqRel) as usize + 1 == participants {
            // Nobody comes again before it has opened.
            come.store(0, Ordering::Relaxed);
            opened.fetch_add(1, Ordering::SeqCst);
            if sleepers.load(Ordering::SeqCst) > 0 {
                wake(opened, u32::MAX >> 1);
            }
            return Ok(());
        }
        if self.spins_until(|| opened.load(Ordering::Acquire) != seen) {
            return Ok(());
        }
        // Before the kernel looks at `opened`: whoever opens looks here after having opened.
        sleepers.fetch_add(1, Ordering::SeqCst);
        let since = Instant::now();
        let mut slept = Ok(());
        while slept.is_ok() && opened.load(Ordering::Acquire) == seen {
            slept = self.sleep(opened, seen, since, mesh);
        }
        sleepers.fetch_sub(1, Ordering::SeqCst);
        slept
    }

    /// Looks for a moment whether it is so. Where that was in vain, the others being late or without a processor, the next waits go without:
    /// once, then three times, and so on. Whoever looks may keep the processor from the one that is waited for.
    fn spins_until(&self, is_so: impl Fn() -> bool) -> bool {
        let (skips, done) = self.skips.get();
        if self.spin.is_zero() || done < skips {
            self.skips.set((skips, done + 1));
            return is_so();
        }
        let since = Instant::now();
        while since.elapsed() < self.spin {
            for _ in 0..LOOKS {
                if is_so() {
                    self.skips.set((skips / 2, 0));
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        self.skips.set(((2 * skips + 1).min(SKIPS_MOST), 0));
        false
    }

    /// Takes the lock `id`, which is free again when what is returned goes.
    pub(super) fn lock(&self, id: usize, mesh: &Mesh) -> Result<PlainGuard<'_>, TeamError> {
        assert!(id < LOCKS, "lock {id} of {LOCKS}");
        let word = self.word(FIRST_LOCK + id, 0);
        if word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.await_lock(word, mesh)?;
        }
        Ok(PlainGuard { word })
    }

    #[cold]
    fn await_lock(&self, word: &AtomicU32, mesh: &Mesh) -> Result<(), TeamError> {
        let looks = if self.spin.is_zero() { 0 } else { LOCK_LOOKS };
        for _ in 0..looks {
            let found = word.load(Ordering::Relaxed);
            if found == 0 && word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Ok(());
            }
            // Others sleep already: it is not given back soon.
            if found == 2 {
                break;
            }
            std::hint::spin_loop();
        }
        let since = Instant::now();
        // Whoever has it after having waited does not know whether others wait as well, so it stays 2.
        while word.swap(2, Ordering::Acquire) != 0 {
            self.sleep(word, 2, since, mesh)?;
        }
        Ok(())
    }
}

/// A lock that is held.
pub(super) struct PlainGuard<'a> {
    word: &'a AtomicU32,
}

impl Drop for PlainGuard<'_> {
    fn drop(&mut self) {
        if self.word.swap(0, Ordering::Release) == 2 {
            wake(self.word, 1);
        }
    }
}

fn wake(word: &AtomicU32, count: u32) {
    // There is no error for a word that is mapped; who was not woken looks again after a slice.
    let _ = futex::wake(word, futex::Flags::empty(), count);
}

/// The pages that hold these bytes.
fn pages(bytes: Range<usize>) -> PageRange {
    let first = bytes.start / PAGE_BYTES;
    PageRange::new(first as u64, (bytes.end.div_ceil(PAGE_BYTES).max(first) - first) as u64)
}
