//! Children made by fork(2).
//!
//! A child gets a copy of this crate's statics, of the handlers of signals and of all descriptors, but neither the mappings
//! (`MADV_DONTFORK`) nor the threads. What the statics say is therefore true of the parent only: a lock may be held by a thread that
//! does not exist, and the table names regions that are not there. So a child forgets all of it, before it runs any code
//! of its own (pthread_atfork(3)), and can have regions as any process. A child that was made by a bare clone(2) runs no
//! such handler; it forgets when it maps its first region, which it knows by its process number.
//!
//! Descriptors of the parent's that would live on in a child do harm: a connection whose other end waits for its close would
//! seem alive after the parent's death. A child replaces those by `/dev/null`, under the same numbers, so that nobody else is
//! given a number that an inherited value still names.
//!
//! Nothing here allocates or locks in the child: other threads of the parent were in the middle of anything.

use crate::pager;
use crate::signal;
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Whose the statics are: a process number, 0 before the first region, or [`BUSY`].
static OWNER: AtomicU32 = AtomicU32::new(0);
/// Being set to another process.
const BUSY: u32 = u32::MAX;

/// How long it may take to set it.
const TAKEOVER: Duration = Duration::from_secs(1);

/// How many forks lie between the first process with regions and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Descriptors at a time that children are kept from: some 60 meshes of the largest size, or all regions.
const DESCRIPTORS: usize = 4096;
/// Descriptors and one; 0 is a free place.
static DESCRIPTOR: [AtomicI32; DESCRIPTORS] = [const { AtomicI32::new(0) }; DESCRIPTORS];
/// Places from here on have never been used.
static DESCRIPTORS_USED: AtomicUsize = AtomicUsize::new(0);

/// A number that is another one in a child made by fork(2), once its parent has had a region. What was made under another number
/// belongs to the parent: its threads are not here, and its locks may be held for ever. To be asked after something was
/// [kept from children](KeptFromChildren), or a region was mapped: a child of a bare clone(2) gets its number then.
pub fn process_generation() -> u32 {
    GENERATION.load(Ordering::Acquire)
}

/// Makes the statics this process's own. Comes before anything else that a new region needs.
pub(crate) fn settle() -> Result<(), Errno> {
    let own = std::process::id();
    let began = Instant::now();
    loop {
        let owner = OWNER.load(Ordering::Acquire);
        if owner == own {
            return Ok(());
        }
        // After a while it is clear that the thread which was at it did not come along with a fork.
        if owner == BUSY && began.elapsed() < TAKEOVER {
            std::thread::yield_now();
            continue;
        }
        if OWNER.compare_exchange(owner, BUSY, Ordering::AcqRel, Ordering::Acquire).is_err() {
            continue;
        }
        let done = if owner == 0 || owner == BUSY {
            watch_forks()
        } else {
            forget();
            Ok(())
        };
        OWNER.store(if done.is_ok() { own } else { 0 }, Ordering::Release);
        return done;
    }
}

/// Sees to it that every child forgets. A child inherits this too.
fn watch_forks() -> Result<(), Errno> {
    // SAFETY: the function lives as long as the process, or as the library that it is part of, which glibc knows.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error)),
    }
}

/// Runs in the child, on its only thread.
unsafe extern "C" fn in_child() {
    forget();
    OWNER.store(std::process::id(), Ordering::Release);
}

fn forget() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
    signal::forget();
    pager::forget();
    close_descriptors();
}

/// Replaces what is kept from children by `/dev/null`.
fn close_descriptors() {
    // SAFETY: a constant path.
    let nothing = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for place in &DESCRIPTOR[..DESCRIPTORS_USED.load(Ordering::Acquire)] {
        let descriptor = place.swap(0, Ordering::AcqRel) - 1;
        if descriptor >= 0 && nothing >= 0 {
            // SAFETY: the number stands for something that only values inherited from the parent use.
            unsafe { libc::dup3(nothing, descriptor, libc::O_CLOEXEC) };
        }
    }
    if nothing >= 0 {
        // SAFETY: opened above.
        unsafe { libc::close(nothing) };
    }
}

/// A descriptor that children made by fork(2) do not get. To be dropped before the descriptor is closed.
#[derive(Debug)]
pub struct KeptFromChildren {
    place: &'static AtomicI32,
    generation: u32,
}

impl KeptFromChildren {
    /// Keeps `descriptor` from children that are made from now on; `None` when there are too many such descriptors, and
    /// children get this one.
    pub fn new(descriptor: BorrowedFd<'_>) -> Option<KeptFromChildren> {
        // A child that was not told that it is one must not lose this with what it inherited. An error is met again where a
        // region is mapped.
        let _ = settle();
        let value = descriptor.as_raw_fd() + 1;
        for (index, place) in DESCRIPTOR.iter().enumerate() {
            if place.compare_exchange(0, value, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                DESCRIPTORS_USED.fetch_max(index + 1, Ordering::AcqRel);
                return Some(KeptFromChildren { place, generation: process_generation() });
            }
        }
        None
    }
}

impl Drop for KeptFromChildren {
    fn drop(&mut self) {
        // In a child the place was given back already, and may be another's.
        if self.generation == process_generation() {
            self.place.store(0, Ordering::Release);
        }
    }
}

/// A static that every process has a fresh one of. What a parent had is left alone: nobody can tell who is using it.
pub(crate) struct PerProcess<T: 'static> {
    value: AtomicPtr<T>,
    make: fn() -> T,
}

impl<T: Sync> PerProcess<T> {
    pub(crate) const fn new(make: fn() -> T) -> PerProcess<T> {
        PerProcess { value: AtomicPtr::new(null_mut()), make }
    }

    /// This process's. Allocates when it is asked for the first time: whoever needs it in a signal handler asks before.
    pub(crate) fn get(&'static self) -> &'static T {
        let mut found = self.value.load(Ordering::Acquire);
        if found.is_null() {
            found = self.make_first();
        }
        // SAFETY: made by `Box::into_raw` and never freed once it was stored.
        unsafe { &*found }
    }

    /// Never a part of its caller: the value may take more stack than a signal handler has (8 KiB, sigaltstack(2)).
    #[cold]
    #[inline(never)]
    fn make_first(&'static self) -> *mut T {
        let made = Box::into_raw(Box::new((self.make)()));
        match self.value.compare_exchange(null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: made above, and shown to nobody.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        }
    }

    /// The next `get` makes another.
    pub(crate) fn forget(&self) {
        self.value.store(null_mut(), Ordering::Release);
    }
}
