//! Values in shared memory together with the lock that they belong to, in the shape of the standard library's types.
//!
//! **Why a guard's reference is sound.** No reference ever points into shared memory. A guard has a copy of the value in its own,
//! private memory: it is read when the lock is taken, `&T` and `&mut T` are references to the copy, and what was changed is written back
//! before the lock is given back. So nothing that another node does can change bytes behind a reference, not even a node that ignores
//! the lock; and no page fault happens behind one, so none can fail there: a page that cannot be had is an [`AccessError`] of taking
//! the lock or of giving it back. A page that was mapped and kept while the guard lives would not do: a pin has a deadline, after
//! which another node gets the page, and a reference must not end with it. The price is a copy of the value each way, which is
//! small beside the messages for the lock; large data is better kept in a [`SharedSlice`] beside a
//! [`Lock`](crate::Lock).
//!
//! A node that dies while it holds the lock takes its copy along: what is in the shared memory is then what the holder before had
//! written, but for a node that died just while it was writing back.

mod atomic;
mod mutex;
mod once;
mod rwlock;

pub use atomic::{Atomic, AtomicBool, AtomicI64, AtomicNumber, AtomicU64, AtomicUsize, AtomicValue};
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{AccessError, Plain, Region, RegionError, SharedSlice, SyncError};
use std::fmt;

/// Locks of values have numbers that no address and no small number is: the address of the value, and this.
const OF_A_VALUE: u64 = 1 << 63;

const SOUND: u64 = 0;
const POISONED: u64 = 1;

/// A value in shared memory and, before it, a word that tells whether it is poisoned.
#[derive(Debug)]
struct Place<T> {
    state: SharedSlice<u64>,
    value: SharedSlice<T>,
}

impl<T: Plain> Place<T> {
    /// Bytes before the value.
    const HEAD: usize = if align_of::<T>() > 8 { align_of::<T>() } else { 8 };
    const BYTES: usize = Self::HEAD + size_of::<T>();

    fn new(region: &Region, offset: usize) -> Result<Place<T>, RegionError> {
        region.check_not_entry("a value with a lock of its own")?;
        Ok(Place { state: region.slice(offset, 1)?, value: region.slice(offset + Self::HEAD, 1)? })
    }

    fn read(&self) -> Result<T, AccessError> {
        self.value.get(0)
    }

    fn write(&self, value: T) -> Result<(), AccessError> {
        self.value.set(0, value)
    }

    fn is_poisoned(&self) -> Result<bool, AccessError> {
        Ok(self.state.get(0)? != SOUND)
    }

    fn set_poisoned(&self, poisoned: bool) -> Result<(), AccessError> {
        self.state.set(0, if poisoned { POISONED } else { SOUND })
    }
}

/// The number of the lock of what lies at `offset`.
fn number_of(region: &Region, offset: usize) -> u64 {
    OF_A_VALUE | (region.base() + offset) as u64
}

/// Why a value could not be had under its lock.
#[non_exhaustive]
pub enum LockError<G> {
    /// A thread panicked, or a node died, while it held the lock. The lock is held now; the value is in the guard.
    Poisoned(G),
    /// The lock could not be had.
    Sync(SyncError),
    /// The lock could be had, but not the page of the value. The lock is free again.
    Access(AccessError),
}

impl<G> LockError<G> {
    /// The guard of a poisoned value, for callers that know how to go on; anything else stays an error.
    ///
    /// # Errors
    /// When the value could not be had at all.
    pub fn into_poisoned(self) -> Result<G, LockError<G>> {
        match self {
            LockError::Poisoned(guard) => Ok(guard),
            other => Err(other),
        }
    }
}

impl<G> From<SyncError> for LockError<G> {
    fn from(error: SyncError) -> LockError<G> {
        LockError::Sync(error)
    }
}

impl<G> From<AccessError> for LockError<G> {
    fn from(error: AccessError) -> LockError<G> {
        LockError::Access(error)
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(_) => f.write_str("Poisoned(..)"),
            LockError::Sync(error) => fmt::Debug::fmt(error, f),
            LockError::Access(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(_) => f.write_str(
                "a thread panicked, or a node died, while it held the lock; look at the value, and clear the poison to go on",
            ),
            LockError::Sync(error) => fmt::Display::fmt(error, f),
            LockError::Access(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}
