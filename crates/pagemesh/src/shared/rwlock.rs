//! A value that one writer or many readers of all nodes have at a time.

use super::{Entered, LockError, Place, Waiting};
use crate::{Access, AccessError, Plain, RangeError, ReadWriteGuard, ReadWriteLock, Region, RegionError};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A value in shared memory that one writer, or any number of readers, of all nodes have at a time, as std's `RwLock`. Every node makes
/// one of the same region and offset; the value starts as zeros. Readers and writers stand in one line: see [`ReadWriteLock`]. In an entry region a
/// thread that has a guard gets no second one, also for reading.
///
/// ```
/// use pagemesh::{Config, Mesh, RegionOptions, RwLock};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let region = mesh.region("limits", RegionOptions::new(4096))?;
/// let limit = RwLock::<f64>::new(&region, 64)?;
/// *limit.write().unwrap() = 0.5;
/// let (one, another) = (limit.read().unwrap(), limit.read().unwrap());
/// assert_eq!(*one + *another, 1.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RwLock<T: Plain> {
    lock: ReadWriteLock,
    place: Place<T>,
}

impl<T: Plain> RwLock<T> {
    /// Bytes that it takes in its region.
    pub const BYTES: usize = Place::<T>::BYTES;

    /// The lock at byte `offset` of the region, a multiple of 8 and of the value's alignment.
    ///
    /// # Errors
    /// When it does not lie in the region, or not aligned.
    pub fn new(region: &Region, offset: usize) -> Result<RwLock<T>, RegionError> {
        let place = Place::new(region, offset)?;
        Ok(RwLock { lock: region.read_write_lock_numbered(place.number()), place })
    }

    /// Waits until nobody writes and those who came before have had their turn, as long as is configured.
    ///
    /// # Errors
    /// When the lock or the page cannot be had; [`LockError::Poisoned`] has the guard.
    pub fn read(&self) -> Result<RwLockReadGuard<T>, LockError<RwLockReadGuard<T>>> {
        self.entered_for_reading(self.lock.acquire(Access::Read, None)?, (true, None))
    }

    /// As [`read`](RwLock::read), at most `timeout`.
    ///
    /// # Errors
    /// As for [`read`](RwLock::read).
    pub fn read_within(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<T>, LockError<RwLockReadGuard<T>>> {
        self.entered_for_reading(self.lock.acquire(Access::Read, Some(timeout))?, (true, Some(timeout)))
    }

    /// As [`read`](RwLock::read), but does not wait for others: `None` when somebody writes, or waits to write.
    ///
    /// # Errors
    /// As for [`read`](RwLock::read).
    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<T>>, LockError<RwLockReadGuard<T>>> {
        let Some(guard) = self.lock.try_acquire(Access::Read)? else { return Ok(None) };
        match self.entered_for_reading(guard, (false, None)) {
            Err(LockError::Range(RangeError::Busy { .. })) => Ok(None),
            entered => entered.map(Some),
        }
    }

    fn entered_for_reading(
        &self,
        guard: ReadWriteGuard,
        waiting: Waiting,
    ) -> Result<RwLockReadGuard<T>, LockError<RwLockReadGuard<T>>> {
        let range = self.place.enter(Access::Read, waiting)?;
        let poisoned = guard.left_by().is_some() || self.place.is_poisoned()?;
        let value = self.place.read()?;
        let guard = RwLockReadGuard { value, _range: range, _guard: guard, of_this_thread: PhantomData };
        if poisoned { Err(LockError::Poisoned(guard)) } else { Ok(guard) }
    }

    /// Waits until nobody else has the value, as long as is configured.
    ///
    /// # Errors
    /// When the lock or the page cannot be had; [`LockError::Poisoned`] has the guard.
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.entered_for_writing(self.lock.acquire(Access::Write, None)?, (true, None))
    }

    /// As [`write`](RwLock::write), at most `timeout`.
    ///
    /// # Errors
    /// As for [`write`](RwLock::write).
    pub fn write_within(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.entered_for_writing(self.lock.acquire(Access::Write, Some(timeout))?, (true, Some(timeout)))
    }

    /// As [`write`](RwLock::write), but does not wait for others: `None` when somebody has the value.
    ///
    /// # Errors
    /// As for [`write`](RwLock::write).
    pub fn try_write(&self) -> Result<Option<RwLockWriteGuard<'_, T>>, LockError<RwLockWriteGuard<'_, T>>> {
        let Some(guard) = self.lock.try_acquire(Access::Write)? else { return Ok(None) };
        match self.entered_for_writing(guard, (false, None)) {
            Err(LockError::Range(RangeError::Busy { .. })) => Ok(None),
            entered => entered.map(Some),
        }
    }

    fn entered_for_writing(
        &self,
        guard: ReadWriteGuard,
        waiting: Waiting,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        let range = self.place.enter(Access::Write, waiting)?;
        if guard.left_by().is_some() {
            self.place.set_poisoned(true)?;
        }
        let poisoned = self.place.is_poisoned()?;
        let guard = RwLockWriteGuard {
            value: self.place.read()?,
            lock: self,
            changed: false,
            panicking: std::thread::panicking(),
            range,
            _guard: guard,
            of_this_thread: PhantomData,
        };
        if poisoned { Err(LockError::Poisoned(guard)) } else { Ok(guard) }
    }
}

/// Has the value of a [`RwLock`] for reading until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct RwLockReadGuard<T: Plain> {
    value: T,
    /// In an entry region. Goes before the lock.
    _range: Option<Entered>,
    _guard: ReadWriteGuard,
    of_this_thread: PhantomData<*const ()>,
}

impl<T: Plain> Deref for RwLockReadGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Has the value of a [`RwLock`] alone until it is dropped: a copy, which is written back then if it was borrowed for changing. When the
/// thread panics, the value is not written back, and the lock is poisoned.
#[derive(Debug)]
#[must_use = "the lock is given back when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: Plain> {
    value: T,
    lock: &'a RwLock<T>,
    changed: bool,
    panicking: bool,
    /// In an entry region. Goes before the lock: what it publishes is for who gets that next.
    range: Option<Entered>,
    _guard: ReadWriteGuard,
    of_this_thread: PhantomData<*const ()>,
}

impl<'a, T: Plain> RwLockWriteGuard<'a, T> {
    /// Writes the value back and gives the lock back: what dropping does, but that it tells what went wrong.
    ///
    /// # Errors
    /// When the page of the value cannot be had. The lock is free.
    pub fn unlock(mut guard: RwLockWriteGuard<'a, T>) -> Result<(), AccessError> {
        guard.write_back()?;
        guard.lock.place.leave(guard.range.take())
    }

    /// The value is as it should be: it is no longer poisoned.
    ///
    /// # Errors
    /// When its page cannot be had.
    pub fn clear_poison(guard: &RwLockWriteGuard<'a, T>) -> Result<(), AccessError> {
        guard.lock.place.set_poisoned(false)
    }

    fn write_back(&mut self) -> Result<(), AccessError> {
        if std::mem::take(&mut self.changed) { self.lock.place.write(self.value) } else { Ok(()) }
    }
}

impl<T: Plain> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let panicked = !self.panicking && std::thread::panicking();
        if panicked || self.write_back().is_err() {
            // Where the page is lost the next to come finds that out.
            let _ = self.lock.place.set_poisoned(true);
        }
    }
}
