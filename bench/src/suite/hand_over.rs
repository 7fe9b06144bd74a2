//! From giving a lock back until the node that waits for it has it.
//!
//! Both sides look at the clock of the machine that counts on its own, which is one for all processes. The other is to stand in line, and to sleep, when
//! the holder gives the lock back: so it says that it is about to ask, and the holder keeps the lock for many times what that takes.

use crate::ground::{Case, Ground, HOME, PATIENCE, THIRD};
use crate::report::Target;
use crate::samples::Samples;
use anyhow::{Result, bail};
use pagemesh::{Access, NodeId, SharedSlice};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The barrier at which the nodes meet between two hand-overs.
const MEETING: u64 = 1_000_002;

/// How long the lock is held after the other was about to ask for it. Nothing tells a holder that somebody waits. The holder is at work meanwhile, as holders
/// of locks mostly are, but gives way to whoever wants its core.
const HELD: Duration = Duration::from_micros(500);
/// Words: when the lock was given back, and whether the other is about to ask for it.
const GIVEN: usize = 0;
const ASKING: usize = 1;

/// Which lock.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// One at a time.
    Mutex,
    /// For writing, where there are readers too.
    Writer,
}

pub(super) struct HandOver<'a> {
    pub(super) ground: &'a Ground,
    pub(super) kind: Kind,
    /// A lock whose home is [`HOME`].
    pub(super) number: u64,
    /// Here the holder says when it gave the lock back.
    pub(super) given: SharedSlice<u64>,
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl HandOver<'_> {
    fn holder(&self) -> NodeId {
        if self.ground.mesh.nodes() > 2 { THIRD } else { HOME }
    }

    fn rounds(&self) -> usize {
        self.ground.plan.samples.div_ceil(4)
    }

    fn meet(&self) -> Result<()> {
        Ok(self.ground.mesh.barrier(MEETING).wait().map(drop)?)
    }

    /// Has the lock while `work` is done.
    fn with<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let mesh = &self.ground.mesh;
        match self.kind {
            Kind::Mutex => {
                let _guard = mesh.lock(self.number).acquire()?;
                work()
            }
            Kind::Writer => {
                let _guard = mesh.read_write_lock(self.number).acquire(Access::Write, None)?;
                work()
            }
        }
    }

    fn hold(&self) -> Result<()> {
        self.with(|| {
            self.given.set(ASKING, 0)?;
            self.meet()?;
            let deadline = now() + PATIENCE;
            while self.given.get(ASKING)? == 0 {
                if now() > deadline {
                    bail!("nobody asks for the lock that is to be handed over");
                }
                std::thread::yield_now();
            }
            let until = now() + HELD;
            while now() < until {
                std::thread::yield_now();
            }
            // Now the page is here, and saying when takes no time.
            self.given.set(GIVEN, 0)?;
            Ok(self.given.set(GIVEN, now().as_nanos() as u64)?)
        })
    }
}

impl Case for HandOver<'_> {
    fn name(&self) -> String {
        let what = match self.kind {
            Kind::Mutex => "lock",
            Kind::Writer => "reader-writer lock",
        };
        format!("{what}, given back to who waits: until that one has it")
    }

    fn target(&self) -> Option<Target> {
        Some(Target::Ratio(1.5))
    }

    fn baseline(&self) -> Option<String> {
        Some("raw TCP, 64 B and 64 B".to_owned())
    }

    fn measure_baseline(&self, _: usize) -> Result<Samples> {
        self.ground.pinger.borrow_mut().ping(64, 64, self.ground.plan.samples)
    }

    fn measure(&self, _: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        for _ in 0..self.rounds() {
            self.meet()?;
            self.given.set(ASKING, 1)?;
            let (taken, given) = self.with(|| Ok((now(), Duration::from_nanos(self.given.get(GIVEN)?))))?;
            samples.add(taken.saturating_sub(given));
            self.meet()?;
        }
        Ok(samples)
    }

    fn accompany(&self, _: usize) -> Result<()> {
        for _ in 0..self.rounds() {
            if self.ground.node() == self.holder() {
                self.hold()?;
            } else {
                self.meet()?;
            }
            self.meet()?;
        }
        Ok(())
    }
}
