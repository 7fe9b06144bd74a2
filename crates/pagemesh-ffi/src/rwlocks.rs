//! Reader-writer locks whose owners are threads.

use crate::error::{Answer, Code, Failed};
use crate::mutexes::{Patience, ThreadMark};
use crate::state::lock;
use pagemesh::{Access, Holders, Mesh, ReadWriteGuard, SyncError};
use std::collections::HashMap;
use std::sync::Mutex;

/// The reader-writer locks that threads of this node hold.
#[derive(Default)]
pub(crate) struct RwLocks {
    held: Mutex<HashMap<u64, Vec<(ThreadMark, ReadWriteGuard)>>>,
}

impl RwLocks {
    /// Takes lock `id`. With [`Code::OwnerDied`] it is held all the same.
    pub(crate) fn take(&self, mesh: &Mesh, id: u64, access: Access, patience: Patience) -> Answer<()> {
        let here = ThreadMark::here();
        let holds = |holders: &Vec<(ThreadMark, _)>| holders.iter().any(|(owner, _)| *owner == here);
        if lock(&self.held).get(&id).is_some_and(holds) {
            let what = format!("this thread holds reader-writer lock {id} already");
            return Err(Failed::new(Code::Busy, what));
        }
        let rwlock = mesh.read_write_lock(id);
        let busy = || Failed::new(Code::Busy, format!("reader-writer lock {id} is held or waited for"));
        let guard = match patience {
            Patience::Configured => rwlock.acquire(access, None)?,
            Patience::None => rwlock.try_acquire(access)?.ok_or_else(busy)?,
            Patience::AtMost(wait) => match rwlock.try_acquire(access)? {
                Some(guard) => guard,
                None if wait.is_zero() => {
                    let what = format!("reader-writer lock {id}");
                    return Err(SyncError::TimedOut { what, after: wait, holders: Holders::default() }.into());
                }
                None => rwlock.acquire(access, Some(wait))?,
            },
        };
        let left_by = guard.left_by();
        lock(&self.held).entry(id).or_default().push((here, guard));
        match left_by {
            None => Ok(()),
            Some(departure) => {
                let (node, how) = (departure.node, departure.how);
                let what = format!(
                    "reader-writer lock {id} is held now, but node {node}, which wrote under it, {how}"
                );
                Err(Failed::new(Code::OwnerDied, what))
            }
        }
    }

    /// Gives lock `id` back.
    pub(crate) fn give_back(&self, id: u64) -> Answer<()> {
        let here = ThreadMark::here();
        let given = {
            let mut all = lock(&self.held);
            let holders = all.entry(id).or_default();
            let place = holders.iter().position(|(owner, _)| *owner == here);
            let given = place.map(|place| holders.swap_remove(place));
            if holders.is_empty() {
                all.remove(&id);
            }
            given
        };
        let what =
            || Failed::new(Code::Permission, format!("this thread does not hold reader-writer lock {id}"));
        given.map(drop).ok_or_else(what)
    }

    pub(crate) fn clear(&self) {
        let held = std::mem::take(&mut *lock(&self.held));
        drop(held);
    }
}
