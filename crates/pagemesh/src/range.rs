//! Locked ranges of entry regions and of release regions.

use crate::{Access, Departure, RangeError, Region};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::Duration;

/// What an entry region has instead of coherent pages: reader-writer locks on ranges of bytes, whose grants bring the bytes up to date.
///
/// A range is of any bytes, inside one page or over many. Any number of threads of all nodes have ranges that overlap for reading, or one has such a
/// range for writing; those that do not overlap know nothing of each other. Whoever asks is served in the order of arrival at the
/// region's master: nobody waits but for those who hold or want an overlapping range and came before, so neither readers nor
/// writers starve.
///
/// A range belongs to the thread that locked it. That thread cannot lock an overlapping one before it has given this back, for
/// whatever access: there is no upgrade, since two readers who both waited for it would wait for each other. What a thread has not given
/// back when it ends stays locked until its node leaves.
///
/// In a [`Protocol::Release`](crate::Protocol::Release) region ranges are locks as all others: who gets one sees what was written before it was given back, there and
/// in every other region, and plain loads and stores outside of ranges mean there what they always do.
///
/// In an entry region, loads and stores outside of locked ranges are not checked. They find what this node last had, and what they store is for this node alone,
/// until a lock brings other bytes.
impl Region {
    /// [`lock_range`](Region::lock_range) for reading, waiting as long as is configured.
    ///
    /// # Errors
    /// As [`lock_range`](Region::lock_range).
    pub fn lock_read(&self, bytes: Range<usize>) -> Result<RangeGuard, RangeError> {
        self.lock_range(bytes, Access::Read, None)
    }

    /// [`lock_range`](Region::lock_range) for writing, waiting as long as is configured.
    ///
    /// # Errors
    /// As [`lock_range`](Region::lock_range).
    pub fn lock_write(&self, bytes: Range<usize>) -> Result<RangeGuard, RangeError> {
        self.lock_range(bytes, Access::Write, None)
    }

    /// Waits until `bytes` of this region can be had for `access`, at most `timeout`, by default as long as is configured. From then
    /// on this node has what was published last to each of them.
    ///
    /// When a node died that had some of them for writing, the first who has any of that again is told by
    /// [`RangeGuard::left_by`]: what that node wrote and had not published is lost.
    ///
    /// # Errors
    /// When the region is neither an entry nor a release region or has no such bytes, when this thread has some of them already, when the master is gone, has too
    /// many ranges locked, or the time ran out. Then nothing is locked.
    pub fn lock_range(
        &self,
        bytes: Range<usize>,
        access: Access,
        timeout: Option<Duration>,
    ) -> Result<RangeGuard, RangeError> {
        self.guard(bytes, access, (true, timeout))
    }

    /// As [`lock_range`](Region::lock_range), but does not wait for others: `None` when somebody has, or waits for, some of `bytes` in a way
    /// that keeps this call out.
    ///
    /// # Errors
    /// As [`lock_range`](Region::lock_range).
    pub fn try_lock_range(
        &self,
        bytes: Range<usize>,
        access: Access,
    ) -> Result<Option<RangeGuard>, RangeError> {
        match self.guard(bytes, access, (false, None)) {
            Err(RangeError::Busy { .. }) => Ok(None),
            got => got.map(Some),
        }
    }

    /// Locks `bytes`: whether to wait for others, and how long; [`RangeError::Busy`] when they are not to be waited for.
    pub(crate) fn guard(
        &self,
        bytes: Range<usize>,
        access: Access,
        how: (bool, Option<Duration>),
    ) -> Result<RangeGuard, RangeError> {
        let range = self.byte_range(&bytes)?;
        let left_by = self.runtime().lock_range(self, range, access, how)?;
        Ok(RangeGuard {
            region: self.clone(),
            bytes,
            access,
            left_by,
            is_kept: false,
            of_thread: PhantomData,
        })
    }

    /// Gives back just these bytes, which this thread has locked and [kept](RangeGuard::keep). What it wrote has been sent when this
    /// returns; who gets the range next, has it.
    ///
    /// # Errors
    /// When this thread has not locked just this range; when the master is gone, and with it what was written.
    pub fn unlock_range(&self, bytes: Range<usize>) -> Result<(), RangeError> {
        let range = self.byte_range(&bytes)?;
        self.runtime().unlock_range(self, range)
    }
}

/// Holds a range of a region until it is dropped, by the thread that locked it.
#[must_use = "the range is given back when the guard is dropped"]
pub struct RangeGuard {
    region: Region,
    bytes: Range<usize>,
    access: Access,
    left_by: Option<Departure>,
    is_kept: bool,
    /// Another thread could not give it back.
    of_thread: PhantomData<*const ()>,
}

impl fmt::Debug for RangeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RangeGuard({:?} of {:?} for {:?})", self.bytes, self.region.name(), self.access)
    }
}

impl RangeGuard {
    /// The bytes that are locked.
    pub fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }

    /// What they are locked for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The node that died while it had some of the range for writing, if nobody has had that since.
    pub fn left_by(&self) -> Option<Departure> {
        self.left_by
    }

    /// Gives the range back, as dropping does, and says whether that went well.
    ///
    /// # Errors
    /// When the master is gone, and with it what was written.
    pub fn unlock(mut self) -> Result<(), RangeError> {
        self.is_kept = true;
        self.region.unlock_range(self.bytes.clone())
    }

    /// Leaves the range locked by this thread, until [`Region::unlock_range`]. Returns what [`left_by`](RangeGuard::left_by) does.
    pub fn keep(mut self) -> Option<Departure> {
        self.is_kept = true;
        self.left_by
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            // With its master gone there is nothing to give back; who wants to know calls `unlock`.
            let _ = self.region.unlock_range(self.bytes.clone());
        }
    }
}
