//! Something that is done once in the life of a mesh.

use super::{LockError, POISONED, Place, SOUND};
use crate::{Access, Lock, RangeError, Region, RegionError};
use std::sync::atomic::{AtomicBool, Ordering};

const DONE: u64 = 2;

/// Something that one thread of all nodes does, once, as std's `Once`. Every node makes one of the same region and offset, where it takes 8
/// bytes.
///
/// ```
/// use pagemesh::{Config, Mesh, Once, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let region = mesh.region("table", RegionOptions::new(4096))?;
/// let (once, table) = (Once::new(&region, 0)?, region.slice::<u64>(8, 100)?);
/// once.call_once(|| (0..100).for_each(|n| table.set(n, (n * n) as u64).expect("a page")))?;
/// once.call_once(|| unreachable!("it was done"))?;
/// assert_eq!(table.get(9)?, 81);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Once {
    lock: Lock,
    /// Has no value but its state.
    place: Place<()>,
    /// This node knows that it was done, and has seen what was done.
    seen: AtomicBool,
}

/// How [`Once::call_once_force`] found things.
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Whether a thread panicked, or a node died, in an earlier call: something may be half done.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl Once {
    /// Bytes that it takes in its region.
    pub const BYTES: usize = Place::<()>::BYTES;

    /// The one at byte `offset` of the region, a multiple of 8.
    ///
    /// # Errors
    /// When it does not lie in the region, or not aligned.
    pub fn new(region: &Region, offset: usize) -> Result<Once, RegionError> {
        let place = Place::new(region, offset)?;
        Ok(Once { lock: region.lock_numbered(place.number()), place, seen: AtomicBool::new(false) })
    }

    /// Calls `work` unless some thread on some node has done so; waits while one does, as long as is configured. Afterwards all that
    /// it wrote can be seen here; in an entry region, in ranges that are locked. A call from within `work` waits for itself until the time runs out.
    ///
    /// # Errors
    /// When the lock or the page cannot be had, and [`LockError::Poisoned`] when a thread panicked or a node died in it.
    pub fn call_once(&self, work: impl FnOnce()) -> Result<(), LockError<()>> {
        self.call(false, |_| work())
    }

    /// As [`call_once`](Once::call_once), but calls `work` also when a thread panicked or a node died in an earlier call, of which it is told.
    ///
    /// # Errors
    /// When the lock or the page cannot be had.
    pub fn call_once_force(&self, work: impl FnOnce(&OnceState)) -> Result<(), LockError<()>> {
        self.call(true, work)
    }

    /// Whether it was done; then all that was done can be seen here. Does not wait for a thread that is about to do it.
    ///
    /// # Errors
    /// When the lock or the page cannot be had.
    pub fn is_completed(&self) -> Result<bool, LockError<()>> {
        if self.seen.load(Ordering::Acquire) {
            return Ok(true);
        }
        let Some(guard) = self.lock.try_inherit()? else { return Ok(false) };
        let _entered = match self.place.enter(Access::Write, (false, None)) {
            Err(RangeError::Busy { .. }) => return Ok(false),
            entered => entered?,
        };
        let state = self.place.state.get(0)?;
        if state == SOUND && guard.left_by().is_some() {
            // Nobody else is told of it.
            self.place.set_poisoned(true)?;
        }
        self.seen.fetch_or(state == DONE, Ordering::Release);
        Ok(state == DONE)
    }

    fn call(&self, forced: bool, work: impl FnOnce(&OnceState)) -> Result<(), LockError<()>> {
        if self.seen.load(Ordering::Acquire) {
            return Ok(());
        }
        let guard = self.lock.inherit(None)?;
        let _entered = self.place.enter(Access::Write, (true, None))?;
        let found = self.place.state.get(0)?;
        if found != DONE {
            let poisoned = found == POISONED || guard.left_by().is_some();
            // Stays when `work` panics, and when this node dies.
            self.place.set_poisoned(true)?;
            if poisoned && !forced {
                return Err(LockError::Poisoned(()));
            }
            work(&OnceState { poisoned });
            self.place.state.set(0, DONE)?;
        }
        self.seen.store(true, Ordering::Release);
        Ok(())
    }
}
