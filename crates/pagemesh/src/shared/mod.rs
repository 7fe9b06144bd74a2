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
//! In an entry region, where only locked ranges bring bytes, the value is locked as a range too while its lock is held.
//!
//! A node that dies while it holds the lock takes its copy along: what is in the shared memory is then what the holder before had
//! written, but for a node that died just while it was writing back.

mod atomic;
mod mutex;
mod once;
mod rwlock;

pub use atomic::{Atomic, AtomicBool, AtomicI64, AtomicNumber, AtomicU64, AtomicUsize, AtomicValue};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    Access, AccessError, Plain, Protocol, RangeError, RangeGuard, Region, RegionError, RegionOptions,
    SharedSlice, SyncError,
};
use std::fmt;
use std::time::Duration;

/// Locks of values have numbers that no address and no small number is: the address of the value, and this.
const OF_A_VALUE: u64 = 1 << 63;

/// What errors call a lock: by its number or, where nobody chose that, by the value that it belongs to.
pub(crate) fn lock_name(kind: &str, number: u64) -> String {
    let address = number & !OF_A_VALUE;
    if number != address && RegionOptions::ADDRESSES.contains(&(address as usize)) {
        format!("{kind} of the value at {address:#x}")
    } else {
        format!("{kind} {number}")
    }
}

const SOUND: u64 = 0;
const POISONED: u64 = 1;

/// Whether to wait for others, and how long; by default as long as is configured.
type Waiting = (bool, Option<Duration>);

/// The locked range of a value. In a box, since few guards have one.
type Entered = Box<RangeGuard>;

/// A value in shared memory and, before it, a word that tells whether it is poisoned. Together they have the range that has to be locked in an
/// entry region: the lock of the value says who may use it, that of the range brings it here and publishes it.
#[derive(Debug)]
struct Place<T> {
    offset: usize,
    state: SharedSlice<u64>,
    value: SharedSlice<T>,
}

impl<T: Plain> Place<T> {
    /// Bytes before the value.
    const HEAD: usize = if align_of::<T>() > 8 { align_of::<T>() } else { 8 };
    const BYTES: usize = Self::HEAD + size_of::<T>();

    fn new(region: &Region, offset: usize) -> Result<Place<T>, RegionError> {
        region.check_items(offset, 1, Self::BYTES, Self::HEAD)?;
        Ok(Place { offset, state: region.slice(offset, 1)?, value: region.slice(offset + Self::HEAD, 1)? })
    }

    /// The number of its lock.
    fn number(&self) -> u64 {
        OF_A_VALUE | (self.state.region().base() + self.offset) as u64
    }

    /// Brings what is there up to date, where only locked ranges do that, until the guard goes, which publishes it.
    fn enter(&self, access: Access, waiting: Waiting) -> Result<Option<Entered>, RangeError> {
        let region = self.state.region();
        if region.protocol() != Protocol::Entry {
            return Ok(None);
        }
        region
            .guard(self.offset..self.offset + Self::BYTES, access, waiting)
            .map(|range| Some(Box::new(range)))
    }

    /// Gives back what [`enter`](Place::enter) returned.
    fn leave(&self, entered: Option<Entered>) -> Result<(), AccessError> {
        let Some(range) = entered else { return Ok(()) };
        let (region, page) = (self.state.region().name().to_owned(), (self.offset / 4096) as u64);
        range.unlock().map_err(|error| match error {
            // What goes with its master goes with its home.
            RangeError::Sync(SyncError::PeerLost { node, how, .. }) => {
                AccessError::PeerLost { region, page, node, how }
            }
            _ => AccessError::Closed { region },
        })
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

/// Why a value could not be had under its lock.
#[non_exhaustive]
pub enum LockError<G> {
    /// A thread panicked, or a node died, while it held the lock. The lock is held now; the value is in the guard.
    Poisoned(G),
    /// The lock could not be had.
    Sync(SyncError),
    /// The lock could be had, but not the page of the value. The lock is free again.
    Access(AccessError),
    /// The value is in an entry region, and the lock could be had, but not the range of the value. The lock is free again.
    Range(RangeError),
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

impl<G> From<RangeError> for LockError<G> {
    fn from(error: RangeError) -> LockError<G> {
        LockError::Range(error)
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(_) => f.write_str("Poisoned(..)"),
            LockError::Sync(error) => fmt::Debug::fmt(error, f),
            LockError::Access(error) => fmt::Debug::fmt(error, f),
            LockError::Range(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned(_) => f.write_str(
                "a thread panicked, or a node died, while it held the lock; look at what it left, then clear the poison to go on, or use call_once_force",
            ),
            LockError::Sync(error) => fmt::Display::fmt(error, f),
            LockError::Access(error) => fmt::Display::fmt(error, f),
            LockError::Range(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}
