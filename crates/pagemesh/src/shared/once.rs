//! Something that is done once in the life of a mesh.

use super::{LockError, POISONED, SOUND, number_of};
use crate::{Lock, Region, RegionError, SharedSlice};
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
    state: SharedSlice<u64>,
    /// This node knows that it was done, and has seen what was done.
    seen: AtomicBool,
}

impl Once {
    /// Bytes that it takes in its region.
    pub const BYTES: usize = 8;

    /// The one at byte `offset` of the region, a multiple of 8.
    ///
    /// # Errors
    /// When it does not lie in the region, or not aligned.
    pub fn new(region: &Region, offset: usize) -> Result<Once, RegionError> {
        region.check_not_entry("what happens once")?;
        let lock = region.lock_numbered(number_of(region, offset));
        Ok(Once { lock, state: region.slice(offset, 1)?, seen: AtomicBool::new(false) })
    }

    /// Calls `work` unless some thread on some node has done so; waits while one does, as long as is configured. Afterwards all that
    /// it wrote can be seen here. A call from within `work` waits for itself until the time runs out.
    ///
    /// # Errors
    /// When the lock or the page cannot be had, and [`LockError::Poisoned`] when a thread panicked or a node died in it.
    pub fn call_once(&self, work: impl FnOnce()) -> Result<(), LockError<()>> {
        if self.seen.load(Ordering::Acquire) {
            return Ok(());
        }
        let guard = self.lock.inherit(None)?;
        let mut state = self.state.get(0)?;
        if state == SOUND {
            // Stays when `work` panics, and when this node dies.
            self.state.set(0, POISONED)?;
            if guard.left_by().is_none() {
                work();
                state = DONE;
                self.state.set(0, state)?;
            }
        }
        if state != DONE {
            return Err(LockError::Poisoned(()));
        }
        self.seen.store(true, Ordering::Release);
        Ok(())
    }
}
