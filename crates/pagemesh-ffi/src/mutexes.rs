//! Locks whose owners are threads.
//!
//! The mesh knows callers, not threads: who holds what on this node is written down here, so that a thread that takes what it
//! holds is told so instead of waiting for itself.

use crate::error::{Answer, Code, Failed};
use crate::state::lock;
use pagemesh::{Holders, LockGuard, Mesh, SyncError};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A thread of this process, for as long as the process lives: the kernel uses its numbers again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ThreadMark(u64);

impl ThreadMark {
    pub(crate) fn here() -> ThreadMark {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static MARK: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        ThreadMark(MARK.with(|mark| *mark))
    }
}

struct Held {
    owner: ThreadMark,
    guard: LockGuard,
}

/// How long a taker waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// As long as is configured.
    Configured,
    /// At most so long, but for the question whether the lock is free.
    AtMost(Duration),
    /// Not for another holder.
    None,
}

/// The locks that threads of this node hold, and the handles that name some.
#[derive(Default)]
pub(crate) struct Mutexes {
    held: Mutex<HashMap<u64, Held>>,
    /// The number behind each handle. The handle is the box's address.
    handles: Mutex<HashMap<usize, Box<u64>>>,
}

impl Mutexes {
    /// Takes lock `id`. With [`Code::OwnerDied`] it is held all the same.
    pub(crate) fn take(&self, mesh: &Mesh, id: u64, patience: Patience) -> Answer<()> {
        let here = ThreadMark::here();
        if lock(&self.held).get(&id).is_some_and(|held| held.owner == here) {
            return Err(Failed::new(Code::Busy, format!("this thread holds lock {id} already")));
        }
        let mutex = mesh.lock(id);
        let busy = || Failed::new(Code::Busy, format!("another thread holds lock {id}"));
        let guard = match patience {
            Patience::Configured => mutex.inherit(None)?,
            Patience::None => mutex.try_inherit()?.ok_or_else(busy)?,
            Patience::AtMost(wait) => match mutex.try_inherit()? {
                Some(guard) => guard,
                None if wait.is_zero() => {
                    let what = format!("lock {id}");
                    return Err(SyncError::TimedOut { what, after: wait, holders: Holders::default() }.into());
                }
                None => mutex.inherit(Some(wait))?,
            },
        };
        self.hold(id, guard)
    }

    /// Writes down that this thread holds lock `id`.
    fn hold(&self, id: u64, guard: LockGuard) -> Answer<()> {
        let left_by = guard.left_by();
        lock(&self.held).insert(id, Held { owner: ThreadMark::here(), guard });
        match left_by {
            None => Ok(()),
            Some(departure) => {
                let (node, how) = (departure.node, departure.how);
                let what = format!("lock {id} is held now, but node {node}, which held it before, {how}");
                Err(Failed::new(Code::OwnerDied, what))
            }
        }
    }

    /// Gives lock `id` back.
    pub(crate) fn give_back(&self, id: u64) -> Answer<()> {
        drop(self.taken_out(id)?);
        Ok(())
    }

    /// Waits for a signal of condition `condition` without lock `id`, which this thread holds, and holds again afterwards if it can
    /// be had.
    pub(crate) fn wait(&self, mesh: &Mesh, condition: u64, id: u64, timeout: Option<Duration>) -> Answer<()> {
        let guard = self.taken_out(id)?;
        match mesh.condvar(condition).wait_lock(guard, timeout) {
            Ok(guard) => self.hold(id, guard),
            Err(failed) => {
                let (error, guard) = failed.into_parts();
                // That its holder died goes before why nothing was signalled: the caller looks again in any case.
                guard.map_or(Ok(()), |guard| self.hold(id, guard))?;
                Err(error.into())
            }
        }
    }

    /// The guard of lock `id`, which this thread holds.
    fn taken_out(&self, id: u64) -> Answer<LockGuard> {
        let held = {
            let mut all = lock(&self.held);
            if all.get(&id).is_some_and(|held| held.owner == ThreadMark::here()) {
                all.remove(&id)
            } else {
                None
            }
        };
        let Some(Held { guard, .. }) = held else {
            return Err(Failed::new(Code::Permission, format!("this thread does not hold lock {id}")));
        };
        Ok(guard)
    }

    /// A handle for lock `id`.
    pub(crate) fn handle(&self, id: u64) -> usize {
        let named = Box::new(id);
        let address = (&raw const *named).addr();
        lock(&self.handles).insert(address, named);
        address
    }

    /// The lock that a handle names.
    pub(crate) fn named(&self, handle: usize) -> Answer<u64> {
        let found = lock(&self.handles).get(&handle).map(|id| **id);
        let what =
            || Failed::new(Code::Invalid, format!("{handle:#x} is no lock of dsm_lock_create, or destroyed"));
        found.ok_or_else(what)
    }

    /// Ends a handle.
    pub(crate) fn destroy(&self, handle: usize) -> Answer<()> {
        let id = self.named(handle)?;
        if lock(&self.held).contains_key(&id) {
            return Err(Failed::new(Code::Busy, format!("a thread of this node holds lock {id}")));
        }
        lock(&self.handles).remove(&handle);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        let held = std::mem::take(&mut *lock(&self.held));
        drop(held);
        lock(&self.handles).clear();
    }
}
