//! Who computes together, and on which memory: the nodes of a mesh, or threads of one process.
//!
//! A program is written once, for a [`Team`]. On a mesh each member is a node, and memory, locks and barriers are those of
//! the mesh. On plain memory each member is a thread of one process, all share the one mapping of a mesh of one node, every page
//! of which is there before the clock starts and never goes away, and locks and barriers are those of the standard library.
//! That is what the hardware allows to the same code.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pagemesh::{
    AccessError, Config, JoinError, Mesh, Placement, Plain, Protocol, RegionError, RegionOptions,
    SharedSlice, Stats, SyncError,
};

const PAGE_BYTES: usize = 4096;

/// How long a thread on plain memory waits for the others.
const WAIT: Duration = Duration::from_mins(10);

/// Where plain memory lies: far from the addresses that meshes hand out, since a node of one has it as well.
const PLAIN_BASE: usize = 0x5800_0000_0000;

/// Room for each part on plain memory, bytes.
const PLAIN_PART: usize = 1 << 36;

/// Room for all parts of one program, and how many programs have it before addresses are used again.
const PLAIN_PROGRAM: usize = 8 * PLAIN_PART;
const PLAIN_PROGRAMS: usize = 32;

/// Programs that ran on plain memory in this process. Each has addresses of its own, since others may run at the same time.
static PROGRAMS_RUN: AtomicUsize = AtomicUsize::new(0);

/// The barrier of all members; pairs of neighbours have the numbers after it.
const EVERYONE: u64 = 0;

/// Why a program came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeamError {
    /// Plain memory could not be set up.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A region could not be set up.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Shared memory could not be read or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The members could not meet, or not take a lock.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Another thread on plain memory has failed.
    #[error("a thread waited on plain memory for others that have failed")]
    Broken,
    /// Another thread on plain memory did not come.
    #[error("a thread waited {0:?} on plain memory for the others")]
    TimedOut(Duration),
    /// A node's processes cannot have so many threads.
    #[error("a thread for plain memory cannot be started")]
    Thread(#[from] std::io::Error),
}

/// Locks and barriers of threads.
#[derive(Debug, Default)]
struct PlainSync {
    /// Where its memory begins.
    base: usize,
    locks: [Mutex<()>; 4],
    barriers: Mutex<Meetings>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Meetings {
    /// Of each barrier in use, how many have come and how often it has opened.
    of: BTreeMap<u64, (usize, u64)>,
    broken: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PlainSync {
    fn meet(&self, id: u64, participants: usize) -> Result<(), TeamError> {
        let mut meetings = lock(&self.barriers);
        let (come, opened) = meetings.of.entry(id).or_default();
        let seen = *opened;
        *come += 1;
        if *come == participants {
            (*come, *opened) = (0, seen + 1);
            self.changed.notify_all();
            return Ok(());
        }
        let closed = |meetings: &mut Meetings| !meetings.broken && meetings.of[&id].1 == seen;
        let (meetings, timeout) =
            self.changed.wait_timeout_while(meetings, WAIT, closed).unwrap_or_else(PoisonError::into_inner);
        match meetings.of[&id].1 == seen {
            false => Ok(()),
            true if timeout.timed_out() => Err(TeamError::TimedOut(WAIT)),
            true => Err(TeamError::Broken),
        }
    }

    fn fail(&self) {
        lock(&self.barriers).broken = true;
        self.changed.notify_all();
    }
}

/// On what a team shares its memory.
#[derive(Debug, Clone, Copy)]
enum Ground<'a> {
    Mesh { name: &'a str, protocol: Protocol },
    Plain(&'a PlainSync),
}

/// One member's view of those who compute together.
#[derive(Debug, Clone, Copy)]
pub struct Team<'a> {
    mesh: &'a Mesh,
    member: usize,
    members: usize,
    ground: Ground<'a>,
}

/// What the timed part of a program cost one member.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// How long it took.
    pub elapsed: Duration,
    /// What the member's node did meanwhile.
    pub stats: Work,
}

/// What nodes did; a part of [`Stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Page faults.
    pub faults: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Diffs sent.
    pub diffs: u64,
}

impl Work {
    fn since(before: &Stats, after: &Stats) -> Self {
        let faults = |stats: &Stats| stats.read_faults + stats.write_faults;
        Self {
            faults: faults(after) - faults(before),
            messages: after.messages_sent - before.messages_sent,
            bytes: after.bytes_sent - before.bytes_sent,
            diffs: after.diffs_sent - before.diffs_sent,
        }
    }

    /// As items of shared memory.
    pub fn words(self) -> [u64; 4] {
        [self.faults, self.messages, self.bytes, self.diffs]
    }

    /// The sum of what several nodes did.
    #[must_use]
    pub fn plus(self, [faults, messages, bytes, diffs]: [u64; 4]) -> Self {
        Self {
            faults: self.faults + faults,
            messages: self.messages + messages,
            bytes: self.bytes + bytes,
            diffs: self.diffs + diffs,
        }
    }
}

/// Measures the timed part of a program.
#[derive(Debug)]
pub struct Clock<'a> {
    team: Team<'a>,
    started: Instant,
    stats: Stats,
}

impl Clock<'_> {
    /// Stops when everyone has come to the end.
    ///
    /// # Errors
    /// As [`Team::barrier`].
    pub fn stop(self) -> Result<Cost, TeamError> {
        self.team.barrier()?;
        let elapsed = self.started.elapsed();
        let stats = Work::since(&self.stats, &self.team.mesh.stats());
        Ok(Cost { elapsed, stats })
    }
}

impl<'a> Team<'a> {
    /// The nodes of `mesh`, with regions of `protocol` whose names start with `name`.
    pub fn of_nodes(mesh: &'a Mesh, name: &'a str, protocol: Protocol) -> Self {
        let (member, members) = (mesh.node().index(), mesh.nodes());
        Self { mesh, member, members, ground: Ground::Mesh { name, protocol } }
    }

    /// This member's number, from 0.
    pub fn member(&self) -> usize {
        self.member
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The part of `items` that is this member's when all have about the same.
    pub fn band(&self, items: usize) -> Range<usize> {
        items * self.member / self.members..items * (self.member + 1) / self.members
    }

    /// `len` items of the region with the number `part`. Every member asks for the same; the items are not all zeros when the
    /// program ran before.
    ///
    /// # Errors
    /// When the region cannot be set up.
    pub fn share<T: Plain>(
        &self,
        part: usize,
        len: usize,
        placement: Placement,
    ) -> Result<SharedSlice<T>, TeamError> {
        let options = RegionOptions::new(len * size_of::<T>());
        match self.ground {
            Ground::Mesh { name, protocol } => {
                let options = options.protocol(protocol).placement(placement);
                let region = self.mesh.region(&format!("{name}-{protocol:?}-{part}"), options)?;
                Ok(region.slice(0, len)?)
            }
            Ground::Plain(sync) => {
                let options = options.address(sync.base + part * PLAIN_PART);
                let region = self.mesh.region(&part.to_string(), options)?;
                if self.member == 0 {
                    region.prefetch_for_writing(0..region.pages())?;
                }
                self.barrier()?;
                Ok(region.slice(0, len)?)
            }
        }
    }

    /// Waits until all members are here. What they wrote before can be read after.
    ///
    /// # Errors
    /// When another member failed, or did not come in time.
    pub fn barrier(&self) -> Result<(), TeamError> {
        match self.ground {
            Ground::Mesh { .. } => Ok(self.mesh.barrier(EVERYONE).wait()?),
            Ground::Plain(sync) => sync.meet(EVERYONE, self.members),
        }
    }

    /// Waits until both `member` and the one after it are here, in a ring of all members.
    ///
    /// # Errors
    /// As [`barrier`](Team::barrier).
    pub fn hand_over_from(&self, member: usize) -> Result<(), TeamError> {
        let id = EVERYONE + 1 + member as u64;
        match (self.members, self.ground) {
            (1, _) => Ok(()),
            (_, Ground::Mesh { .. }) => Ok(self.mesh.barrier_of(id, 2).wait()?),
            (_, Ground::Plain(sync)) => sync.meet(id, 2),
        }
    }

    /// Does `work` while no other member holds the lock `id`, 0 to 3. The work must not wait for others.
    ///
    /// # Errors
    /// What `work` returns, or when the lock cannot be had.
    pub fn locked<R>(&self, id: usize, work: impl FnOnce() -> Result<R, TeamError>) -> Result<R, TeamError> {
        match self.ground {
            Ground::Mesh { .. } => {
                let _guard = self.mesh.lock(id as u64).acquire()?;
                work()
            }
            Ground::Plain(sync) => {
                let _guard = lock(&sync.locks[id]);
                work()
            }
        }
    }

    /// Starts the clock when everyone is ready.
    ///
    /// # Errors
    /// As [`barrier`](Team::barrier).
    pub fn start_clock(&self) -> Result<Clock<'a>, TeamError> {
        self.barrier()?;
        let clock = Clock { team: *self, stats: self.mesh.stats(), started: Instant::now() };
        // Nobody begins before all clocks run: a member can be late in leaving a barrier.
        self.barrier()?;
        Ok(clock)
    }
}

/// Reads `items` of `shared`, which starts with its region; its pages are asked for all at once.
///
/// # Errors
/// When a page cannot be had.
pub(super) fn read<T: Plain>(
    shared: &SharedSlice<T>,
    start: usize,
    items: &mut [T],
) -> Result<(), AccessError> {
    let pages = pages_of::<T>(start, items.len());
    if pages.len() > 1 {
        shared.region().prefetch(pages)?;
    }
    shared.read(start, items)
}

/// Writes `items` to `shared`, which starts with its region; its pages are asked for all at once.
///
/// # Errors
/// When a page cannot be had.
pub(super) fn write<T: Plain>(shared: &SharedSlice<T>, start: usize, items: &[T]) -> Result<(), AccessError> {
    let pages = pages_of::<T>(start, items.len());
    if pages.len() > 1 {
        shared.region().prefetch_for_writing(pages)?;
    }
    shared.write(start, items)
}

fn pages_of<T>(start: usize, len: usize) -> Range<usize> {
    start * size_of::<T>() / PAGE_BYTES..((start + len) * size_of::<T>()).div_ceil(PAGE_BYTES)
}

/// Runs `part` as `members` threads on plain memory and returns what member 0 found.
///
/// # Errors
/// The first error of a member.
pub fn on_plain_memory<R: Send>(
    members: usize,
    part: impl Fn(Team<'_>) -> Result<R, TeamError> + Sync,
) -> Result<R, TeamError> {
    let mesh = Mesh::join(Config::single())?;
    let place = PROGRAMS_RUN.fetch_add(1, Ordering::Relaxed) % PLAIN_PROGRAMS;
    let sync = PlainSync { base: PLAIN_BASE + place * PLAIN_PROGRAM, ..PlainSync::default() };
    let play = |member| {
        let found = part(Team { mesh: &mesh, member, members, ground: Ground::Plain(&sync) });
        if found.is_err() {
            sync.fail();
        }
        found
    };
    let (first, others) = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for member in 1..members {
            let play = &play;
            let started = std::thread::Builder::new().spawn_scoped(scope, move || play(member).map(drop));
            if started.is_err() {
                sync.fail();
            }
            threads.push(started);
        }
        let first = play(0);
        let others: Vec<Result<(), TeamError>> = threads
            .into_iter()
            .map(|thread| thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        (first, others)
    });
    let failed = others.into_iter().find_map(|found| found.err().filter(|e| !matches!(e, TeamError::Broken)));
    failed.map_or(first, Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_on_plain_memory_see_what_the_others_wrote() {
        let sum = on_plain_memory(3, |team| {
            let shared = team.share::<u64>(0, 3, Placement::Cyclic)?;
            shared.set(team.member(), team.member() as u64 + 1)?;
            team.barrier()?;
            for _ in 0..100 {
                team.locked(1, || Ok(shared.set(0, shared.get(0)? + 1)?))?;
            }
            team.barrier()?;
            let mut all = [0; 3];
            shared.read(0, &mut all)?;
            Ok(all.iter().sum::<u64>())
        });
        assert_eq!(sum.unwrap(), 6 + 300);
    }

    #[test]
    fn one_that_fails_on_plain_memory_ends_the_others() {
        let outcome = on_plain_memory(3, |team| {
            if team.member() == 1 {
                return Err(TeamError::TimedOut(Duration::ZERO));
            }
            team.barrier()
        });
        assert!(matches!(outcome, Err(TeamError::TimedOut(_))), "{outcome:?}");
    }

    #[test]
    fn bulk_accesses_ask_for_the_pages_that_they_touch() {
        assert_eq!(pages_of::<u64>(0, 512), 0..1);
        assert_eq!(pages_of::<u64>(511, 2), 0..2);
        assert_eq!(pages_of::<u32>(1024, 1024), 1..2);
    }
}
