//! Who computes together, and on which memory: the nodes of a mesh, or the same processes on one plain mapping.
//!
//! A program is written once, for a [`Team`]. On a mesh each member is a node, and memory, locks and barriers are those of
//! the mesh. On plain memory ([`PlainGround`]) each member is a process too, all map one file, every page of which is there before the
//! clock starts and never goes away, and locks and barriers are words in it. That is what the hardware allows to the same code.

use std::ops::Range;
use std::time::{Duration, Instant};

use pagemesh::{
    AccessError, DepartureKind, Mesh, NodeId, Placement, Plain, Protocol, RegionError, RegionOptions, Stats,
    SyncError,
};
use pagemesh_memory::PlainMemoryError;

use super::plain::PlainGround;
use super::shared::Shared;

/// The barrier of all members; pairs of neighbours have the numbers after it.
const EVERYONE: usize = 0;

/// Why a program came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeamError {
    /// Plain memory could not be set up.
    #[error(transparent)]
    Plain(#[from] PlainMemoryError),
    /// Plain memory was made for smaller programs.
    #[error("a program asked for {asked} bytes of plain memory, which has {found}; make it for that program")]
    NoRoom {
        /// How many bytes there would have to be.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// A region could not be set up.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Shared memory could not be read or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The members could not meet, or not take a lock.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// Another member is gone, whom this one waited for on plain memory.
    #[error("waited on plain memory for others, and node {node} {how}; run it again")]
    Gone {
        /// Which.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// Another member has failed on plain memory.
    #[error("waited on plain memory for another node, which has failed; it says why")]
    Broken,
    /// Another member did not come.
    #[error("waited {0:?} on plain memory for the others; let fewer nodes or a smaller program run")]
    TimedOut(Duration),
}

/// On what a team shares its memory.
#[derive(Debug, Clone, Copy)]
enum Ground<'a> {
    Mesh { name: &'a str, protocol: Protocol },
    Plain(&'a PlainGround),
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

    /// The members that map `plain`: processes that are nodes of `mesh` as well, which tells when one of them dies.
    pub fn on_plain_memory(mesh: &'a Mesh, plain: &'a PlainGround) -> Self {
        Self { mesh, member: plain.member(), members: plain.members(), ground: Ground::Plain(plain) }
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

    /// `len` items of the part with the number `part`; parts are asked for in this order. Every member asks for the same; the items are not all
    /// zeros when the program ran before.
    ///
    /// # Errors
    /// When the memory cannot be set up.
    pub fn share<T: Plain>(
        &self,
        part: usize,
        len: usize,
        placement: Placement,
    ) -> Result<Shared<T>, TeamError> {
        let bytes = len * size_of::<T>();
        match self.ground {
            Ground::Mesh { name, protocol } => {
                let options = RegionOptions::new(bytes).protocol(protocol).placement(placement);
                let region = self.mesh.region(&format!("{name}-{protocol:?}-{part}"), options)?;
                Ok(Shared::on_mesh(region.slice(0, len)?))
            }
            Ground::Plain(plain) => {
                let start = plain.part(bytes, self.band(bytes), self.mesh)?;
                Ok(Shared::on_plain_memory(plain.memory().clone(), start, len))
            }
        }
    }

    /// Waits until all members are here. What they wrote before can be read after.
    ///
    /// # Errors
    /// When another member failed, or did not come in time.
    pub fn barrier(&self) -> Result<(), TeamError> {
        match self.ground {
            Ground::Mesh { .. } => Ok(self.mesh.barrier(EVERYONE as u64).wait()?),
            Ground::Plain(plain) => plain.meet(EVERYONE, self.members, self.mesh),
        }
    }

    /// Waits until both `member` and the one after it are here, in a ring of all members.
    ///
    /// # Errors
    /// As [`barrier`](Team::barrier).
    pub fn hand_over_from(&self, member: usize) -> Result<(), TeamError> {
        let id = EVERYONE + 1 + member;
        match (self.members, self.ground) {
            (1, _) => Ok(()),
            (_, Ground::Mesh { .. }) => Ok(self.mesh.barrier_of(id as u64, 2).wait()?),
            (_, Ground::Plain(plain)) => plain.meet(id, 2, self.mesh),
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
            Ground::Plain(plain) => {
                let _guard = plain.lock(id, self.mesh)?;
                work()
            }
        }
    }

    /// Sleeps before looking again for what another member is to leave.
    ///
    /// # Errors
    /// On plain memory, when another member is gone: nobody else would tell.
    pub fn pause(&self, duration: Duration) -> Result<(), TeamError> {
        std::thread::sleep(duration);
        match self.ground {
            Ground::Mesh { .. } => Ok(()),
            Ground::Plain(plain) => plain.check(self.mesh),
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

#[cfg(test)]
mod tests {
    use pagemesh::Config;
    use pagemesh_memory::PlainMemory;

    use super::*;

    /// Plays `part` as members that have a mapping each; they are threads here, and processes in the tests of the program.
    fn on_plain_memory<R: Send>(
        members: usize,
        part: impl Fn(Team<'_>) -> Result<R, TeamError> + Sync,
    ) -> Vec<Result<R, TeamError>> {
        let mesh = Mesh::join(Config::single()).unwrap();
        let file = PlainMemory::file(1 << 20).unwrap();
        let play = |member| {
            let plain = PlainGround::open(file.try_clone().unwrap(), member, members).unwrap();
            let found = part(Team::on_plain_memory(&mesh, &plain));
            if found.is_err() {
                plain.fail();
            }
            found
        };
        std::thread::scope(|scope| {
            let play = &play;
            let threads: Vec<_> = (0..members).map(|member| scope.spawn(move || play(member))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn members_on_plain_memory_see_what_the_others_wrote() {
        let sums = on_plain_memory(3, |team| {
            let shared = team.share::<u64>(0, 3, Placement::Cyclic)?;
            shared.set(team.member(), team.member() as u64 + 1)?;
            team.barrier()?;
            for _ in 0..1000 {
                team.locked(1, || Ok(shared.set(0, shared.get(0)? + 1)?))?;
            }
            team.barrier()?;
            let mut all = [0; 3];
            shared.read(0, &mut all)?;
            Ok(all.iter().sum::<u64>())
        });
        for sum in sums {
            assert_eq!(sum.unwrap(), 6 + 3000);
        }
    }

    #[test]
    fn neighbours_on_plain_memory_hand_over_in_turn() {
        const TURNS: usize = 900;
        let found = on_plain_memory(3, |team| {
            let shared = team.share::<u64>(0, 1, Placement::Cyclic)?;
            for turn in (0..TURNS).filter(|turn| turn % 3 == team.member()) {
                if turn > 0 {
                    team.hand_over_from((turn - 1) % 3)?;
                }
                // No lock: whoever is not in turn would spoil the sum.
                shared.set(0, shared.get(0)? + 1)?;
                if turn + 1 < TURNS {
                    team.hand_over_from(turn % 3)?;
                }
            }
            team.barrier()?;
            Ok(shared.get(0)?)
        });
        for found in found {
            assert_eq!(found.unwrap(), TURNS as u64);
        }
    }

    #[test]
    fn one_that_fails_on_plain_memory_ends_the_others() {
        let pause = |team: &Team<'_>| -> Result<(), TeamError> {
            loop {
                team.pause(Duration::from_millis(1))?;
            }
        };
        for pauses in [false, true] {
            let outcomes = on_plain_memory(3, |team| {
                if team.member() == 1 {
                    return Err(TeamError::TimedOut(Duration::ZERO));
                }
                if pauses { pause(&team) } else { team.barrier() }
            });
            assert!(matches!(outcomes[1], Err(TeamError::TimedOut(_))), "{outcomes:?}");
            for other in [0, 2] {
                assert!(matches!(outcomes[other], Err(TeamError::Broken)), "{outcomes:?}");
            }
        }
    }

    #[test]
    fn a_lock_that_a_failed_member_holds_is_not_waited_for() {
        let outcomes = on_plain_memory(2, |team| {
            let Ground::Plain(plain) = team.ground else { unreachable!() };
            if team.member() == 0 {
                std::mem::forget(plain.lock(0, team.mesh)?);
                team.barrier()?;
                return Err(TeamError::TimedOut(Duration::ZERO));
            }
            team.barrier()?;
            team.locked(0, || Ok(()))
        });
        assert!(matches!(outcomes[1], Err(TeamError::Broken)), "{outcomes:?}");
    }

    #[test]
    fn a_program_that_is_too_large_is_refused() {
        let outcomes = on_plain_memory(1, |team| team.share::<u64>(0, 1 << 17, Placement::Cyclic).map(drop));
        let refused = outcomes.into_iter().next().unwrap().unwrap_err();
        assert!(refused.to_string().contains("of plain memory, which has 1048576"), "{refused}");
    }
}
