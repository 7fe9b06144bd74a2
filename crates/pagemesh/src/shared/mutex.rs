//! A value that one thread of all nodes has at a time.

use super::{Entered, LockError, Place, Waiting};
use crate::{Access, AccessError, Condvar, Lock, LockGuard, Plain, RangeError, Region, RegionError};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// A value in shared memory that one thread of all nodes has at a time, as std's `Mutex`. Every node makes one of the same region and
/// offset; the value starts as zeros.
///
/// ```
/// use pagemesh::{Config, Mesh, Mutex, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let region = mesh.region("sums", RegionOptions::new(4096))?;
/// let sums = Mutex::<[u64; 3]>::new(&region, 0)?;
/// sums.lock().unwrap()[1] += 5;
/// assert_eq!(*sums.lock().unwrap(), [0, 5, 0]);
/// # Ok(())
/// # }
/// ```
///
/// Only types that mean the same on every node can be shared: no text, no reference, no box, and no `bool`, which has bit patterns that
/// are none.
///
/// ```compile_fail
/// # fn refused(region: &pagemesh::Region) {
/// let _ = pagemesh::Mutex::<String>::new(region, 0);
/// # }
/// ```
///
/// A guard belongs to its thread:
///
/// ```compile_fail
/// # fn refused(mutex: &'static pagemesh::Mutex<u64>) {
/// let guard = mutex.lock().unwrap();
/// std::thread::spawn(move || drop(guard));
/// # }
/// ```
#[derive(Debug)]
pub struct Mutex<T: Plain> {
    lock: Lock,
    place: Place<T>,
}

impl<T: Plain> Mutex<T> {
    /// Bytes that it takes in its region.
    pub const BYTES: usize = Place::<T>::BYTES;

    /// The mutex at byte `offset` of the region, a multiple of 8 and of the value's alignment.
    ///
    /// # Errors
    /// When it does not lie in the region, or not aligned.
    pub fn new(region: &Region, offset: usize) -> Result<Mutex<T>, RegionError> {
        let place = Place::new(region, offset)?;
        Ok(Mutex { lock: region.lock_numbered(place.number()), place })
    }

    /// Waits until no other thread on any node has the value, as long as is configured. The thread that has it must not ask again.
    ///
    /// # Errors
    /// When the lock or the page cannot be had; [`LockError::Poisoned`] has the guard.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.entered(self.lock.inherit(None)?, (true, None))
    }

    /// As [`lock`](Mutex::lock), at most `timeout`.
    ///
    /// # Errors
    /// As for [`lock`](Mutex::lock).
    pub fn lock_within(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.entered(self.lock.inherit(Some(timeout))?, (true, Some(timeout)))
    }

    /// As [`lock`](Mutex::lock), but does not wait for another holder: `None` when there is one.
    ///
    /// # Errors
    /// As for [`lock`](Mutex::lock).
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        let Some(guard) = self.lock.try_inherit()? else { return Ok(None) };
        match self.entered(guard, (false, None)) {
            Err(LockError::Range(RangeError::Busy { .. })) => Ok(None),
            entered => entered.map(Some),
        }
    }

    fn entered(
        &self,
        guard: LockGuard,
        waiting: Waiting,
    ) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let range = self.place.enter(Access::Write, waiting)?;
        if guard.left_by().is_some() {
            self.place.set_poisoned(true)?;
        }
        let poisoned = self.place.is_poisoned()?;
        let guard = MutexGuard {
            mutex: self,
            value: self.place.read()?,
            changed: false,
            panicking: std::thread::panicking(),
            range,
            guard: Some(guard),
            of_this_thread: PhantomData,
        };
        if poisoned { Err(LockError::Poisoned(guard)) } else { Ok(guard) }
    }
}

/// Has the value of a [`Mutex`] until it is dropped: a copy, which is written back then if it was borrowed for changing. When the thread
/// panics, the value is not written back, and the mutex is poisoned.
#[derive(Debug)]
#[must_use = "the mutex is free again when the guard is dropped"]
pub struct MutexGuard<'a, T: Plain> {
    mutex: &'a Mutex<T>,
    value: T,
    changed: bool,
    /// The thread was panicking when it got the guard.
    panicking: bool,
    /// In an entry region. Goes before the lock: what it publishes is for who gets that next.
    range: Option<Entered>,
    /// `None` when the lock went another way.
    guard: Option<LockGuard>,
    of_this_thread: PhantomData<*const ()>,
}

impl<'a, T: Plain> MutexGuard<'a, T> {
    /// Writes the value back and gives the lock back: what dropping does, but that it tells what went wrong.
    ///
    /// # Errors
    /// When the page of the value cannot be had. The value is what it was before, as far as it still is; the mutex is free.
    pub fn unlock(mut guard: MutexGuard<'a, T>) -> Result<(), AccessError> {
        guard.publish()
    }

    /// The value is as it should be: it is no longer poisoned.
    ///
    /// # Errors
    /// When its page cannot be had.
    pub fn clear_poison(guard: &MutexGuard<'a, T>) -> Result<(), AccessError> {
        guard.mutex.place.set_poisoned(false)
    }

    fn write_back(&mut self) -> Result<(), AccessError> {
        if std::mem::take(&mut self.changed) { self.mutex.place.write(self.value) } else { Ok(()) }
    }

    /// After this the value is the lock's next holder's.
    fn publish(&mut self) -> Result<(), AccessError> {
        self.write_back()?;
        self.mutex.place.leave(self.range.take())
    }
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}

impl<T: Plain> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.guard.is_none() {
            return;
        }
        let panicked = !self.panicking && std::thread::panicking();
        if panicked || self.write_back().is_err() {
            // Where the page is lost the next to come finds that out.
            let _ = self.mutex.place.set_poisoned(true);
        }
    }
}

impl Condvar {
    /// Writes the value back, gives it to others, waits for a signal, as long as is configured, and has the value again. Look
    /// again at what was waited for: a wait may end without it.
    ///
    /// # Errors
    /// As [`Mutex::lock`]. When nobody signalled in time, the value was had again and is free now.
    pub fn wait<'a, T: Plain>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        let (guard, timed_out) = self.wait_on(guard, None)?;
        match timed_out {
            None => Ok(guard),
            Some(error) => Err(error.into()),
        }
    }

    /// As [`wait`](Condvar::wait), at most `timeout`; the value is had again after it, too. True: nobody signalled.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub fn wait_timeout<'a, T: Plain>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<(MutexGuard<'a, T>, bool), LockError<MutexGuard<'a, T>>> {
        let (guard, timed_out) = self.wait_on(guard, Some(timeout))?;
        Ok((guard, timed_out.is_some()))
    }

    /// Waits as [`wait`](Condvar::wait) does as long as `condition` holds of the value: wakes that are not meant for it are waited out.
    ///
    /// # Errors
    /// As for [`wait`](Condvar::wait), each wait by itself.
    pub fn wait_while<'a, T: Plain>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait_while`](Condvar::wait_while), at most `timeout` in all; the value is had again after it, too. True: `condition` still holds.
    ///
    /// # Errors
    /// As for [`wait_timeout`](Condvar::wait_timeout).
    pub fn wait_timeout_while<'a, T: Plain>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, bool), LockError<MutexGuard<'a, T>>> {
        let began = Instant::now();
        while condition(&mut guard) {
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok((guard, true));
            }
            (guard, _) = self.wait_timeout(guard, left)?;
        }
        Ok((guard, false))
    }

    #[expect(clippy::type_complexity, reason = "the guard, or the error that may have one")]
    fn wait_on<'a, T: Plain>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Option<Duration>,
    ) -> Result<(MutexGuard<'a, T>, Option<crate::SyncError>), LockError<MutexGuard<'a, T>>> {
        guard.publish()?;
        let mutex = guard.mutex;
        let lock = guard.guard.take().expect("a guard that lives holds its lock");
        match self.wait_lock(lock, timeout) {
            Ok(lock) => Ok((mutex.entered(lock, (true, None))?, None)),
            Err(failed) if failed.timed_out() => {
                let (error, lock) = failed.into_parts();
                let lock = lock.ok_or_else(|| error.clone())?;
                Ok((mutex.entered(lock, (true, None))?, Some(error)))
            }
            Err(failed) => Err(failed.into_parts().0.into()),
        }
    }
}
