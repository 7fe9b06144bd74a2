//! Where twins are kept.

use crate::{PAGE_BYTES, PageBytes};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ptr::null_mut;

/// Why there is no twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    /// The size is none that a pool can have.
    #[error(
        "asked for a pool of twins of {bytes} bytes; give at least {PAGE_BYTES}, and at most {PAGE_BYTES} for each of 2^32 - 1 twins"
    )]
    BadSize {
        /// What was asked for.
        bytes: usize,
    },
    /// The kernel has no addresses, or no memory, for the pool.
    #[error("asked the kernel for {bytes} bytes for twins and was refused ({errno}); ask for fewer")]
    Refused {
        /// What was asked for.
        bytes: usize,
        /// What the kernel answered.
        errno: Errno,
    },
    /// All twins are in use.
    #[error(
        "asked for one twin more than the {most} that the pool has; release what was written, or configure a larger pool"
    )]
    Exhausted {
        /// How many it has.
        most: u32,
    },
}

/// A twin of a [`TwinPool`]. It is given back by [`TwinPool::put`]; one that is not stays in use as long as the pool.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Twin {
    slot: u32,
}

/// Room for twins: copies of pages, as many as were agreed on and no more.
///
/// The addresses are taken all at once and the memory page by page, when it is first used, so a large pool costs nothing
/// yet. After that nothing allocates: all methods can be called where allocating is forbidden, as in a
/// [`FaultSink`](crate::FaultSink). The twin that was given back last is handed out first, since the caches still know it.
///
/// It takes no lock; whoever shares it has one.
#[derive(Debug)]
pub struct TwinPool {
    start: *mut u8,
    most: u32,
    /// Slots from here on have never been used.
    used: u32,
    /// Slots that were given back. Has room for all.
    free: Vec<u32>,
}

// SAFETY: the memory belongs to this value alone and may be used from any thread.
unsafe impl Send for TwinPool {}
// SAFETY: what changes the memory or the lists wants `&mut self`.
unsafe impl Sync for TwinPool {}

impl TwinPool {
    /// A pool of as many twins as fit into `bytes_max`.
    ///
    /// # Errors
    /// [`TwinError::BadSize`] or [`TwinError::Refused`].
    pub fn new(bytes_max: usize) -> Result<TwinPool, TwinError> {
        let bad_size = TwinError::BadSize { bytes: bytes_max };
        let most = u32::try_from(bytes_max / PAGE_BYTES).map_err(|_| bad_size)?;
        if most == 0 {
            return Err(bad_size);
        }
        let bytes = most as usize * PAGE_BYTES;
        let refused = |errno| TwinError::Refused { bytes, errno };
        let mut free = Vec::new();
        free.try_reserve_exact(most as usize).map_err(|_| refused(Errno::NOMEM))?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory where the kernel finds room.
        let start =
            unsafe { mmap_anonymous(null_mut(), bytes, rights, MapFlags::PRIVATE | MapFlags::NORESERVE) }
                .map_err(refused)?;
        Ok(TwinPool { start: start.cast(), most, used: 0, free })
    }

    /// How many twins there can be at a time.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// How many there are.
    pub fn taken(&self) -> u32 {
        self.used - self.free.len() as u32
    }

    /// Gets memory for the first `twins` of them, so that taking these is no page fault.
    ///
    /// # Errors
    /// [`TwinError::Refused`] when the kernel has none.
    pub fn warm(&mut self, twins: u32) -> Result<(), TwinError> {
        let bytes = twins.min(self.most) as usize * PAGE_BYTES;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: part of our own mapping; this does what stores would do that change nothing.
        match unsafe { madvise(self.start.cast(), bytes, Advice::LinuxPopulateWrite) } {
            // Before Linux 5.14: then each comes when it is used.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(TwinError::Refused { bytes, errno }),
        }
    }

    /// A twin that nobody uses, to be filled: it holds anything.
    ///
    /// # Errors
    /// [`TwinError::Exhausted`] when all are in use.
    pub fn take(&mut self) -> Result<Twin, TwinError> {
        if let Some(slot) = self.free.pop() {
            return Ok(Twin { slot });
        }
        if self.used == self.most {
            return Err(TwinError::Exhausted { most: self.most });
        }
        self.used += 1;
        Ok(Twin { slot: self.used - 1 })
    }

    /// Gives a twin back.
    ///
    /// # Panics
    /// When it is not of this pool, as far as that can be seen.
    #[allow(clippy::needless_pass_by_value, reason = "whoever gives a twin back cannot use it any more")]
    pub fn put(&mut self, twin: Twin) {
        assert!(twin.slot < self.used, "a twin of another pool was given back");
        assert!(self.free.len() < self.used as usize, "more twins were given back than were taken");
        self.free.push(twin.slot);
    }

    /// What the twin holds.
    ///
    /// # Panics
    /// When it is not of this pool, as far as that can be seen.
    pub fn bytes(&self, twin: &Twin) -> &PageBytes {
        // SAFETY: the slot lies in the mapping, which lives as long as `self`, and is only changed through `&mut self`.
        unsafe { &*self.slot(twin) }
    }

    /// What the twin holds, to be changed.
    ///
    /// # Panics
    /// When it is not of this pool, as far as that can be seen.
    pub fn bytes_mut(&mut self, twin: &Twin) -> &mut PageBytes {
        // SAFETY: as above, and `self` is borrowed to be changed.
        unsafe { &mut *self.slot(twin) }
    }

    fn slot(&self, twin: &Twin) -> *mut PageBytes {
        assert!(twin.slot < self.used, "a twin of another pool was used");
        // SAFETY: there are more slots than that.
        unsafe { self.start.add(twin.slot as usize * PAGE_BYTES).cast() }
    }
}

impl Drop for TwinPool {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what borrowed from it is gone; nothing can be done about an error.
        let _ = unsafe { munmap(self.start.cast(), self.most as usize * PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_hands_out_what_it_has_and_no_more() {
        let mut pool = TwinPool::new(3 * PAGE_BYTES + 17).unwrap();
        pool.warm(2).unwrap();
        let twins = [0; 3].map(|_| pool.take().unwrap());
        for (twin, fill) in twins.iter().zip(1..) {
            pool.bytes_mut(twin).fill(fill);
        }
        assert_eq!(pool.take(), Err(TwinError::Exhausted { most: 3 }));
        for (twin, fill) in twins.iter().zip(1..) {
            assert_eq!(*pool.bytes(twin), [fill; PAGE_BYTES]);
        }
        let [first, second, third] = twins;
        pool.put(second);
        assert_eq!((pool.taken(), pool.most()), (2, 3));
        let again = pool.take().unwrap();
        assert_eq!(*pool.bytes(&again), [2; PAGE_BYTES], "the last one given back comes first");
        for twin in [first, again, third] {
            pool.put(twin);
        }
        assert_eq!(pool.taken(), 0);
    }

    #[test]
    fn sizes_that_no_pool_can_have_are_refused() {
        let bytes = PAGE_BYTES - 1;
        assert_eq!(TwinPool::new(bytes).unwrap_err(), TwinError::BadSize { bytes });
        let bytes = usize::MAX;
        assert_eq!(TwinPool::new(bytes).unwrap_err(), TwinError::BadSize { bytes });
    }

    #[test]
    fn a_pool_larger_than_what_is_used_of_it_can_be_had() {
        let mut pool = TwinPool::new(1 << 30).unwrap();
        let twin = pool.take().unwrap();
        pool.bytes_mut(&twin)[7] = 1;
        assert_eq!(pool.bytes(&twin)[7], 1);
        pool.put(twin);
    }
}
