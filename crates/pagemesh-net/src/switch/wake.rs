//! A wake-up call that costs a system call only when somebody sleeps, and that cannot be lost.
//!
//! The sleeper has three states. A sleeper goes `AWAKE -> ASLEEP` with one compare-and-swap just before it waits,
//! and whoever calls it stores `NOTIFIED` with one swap: either the swap finds `ASLEEP` and the caller writes the
//! eventfd that ends the wait, or the sleeper's compare-and-swap finds `NOTIFIED` and it does not wait at all. All
//! accesses are sequentially consistent read-modify-writes of one word, so there is no third case.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const NOTIFIED: u32 = 2;

/// The state word and the eventfd (`eventfd(2)`, non-blocking) of one sleeper.
#[derive(Debug)]
pub(super) struct Wake {
    state: AtomicU32,
    event: OwnedFd,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: AtomicU32::new(AWAKE), event })
    }

    /// The descriptor that becomes readable when a sleeping thread is called.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Calls the sleeper. True when that took a system call.
    pub(super) fn notify(&self) -> bool {
        if self.state.swap(NOTIFIED, Ordering::SeqCst) != ASLEEP {
            return false;
        }
        // EAGAIN means that the counter is full, so the descriptor is readable already; EINTR does not happen on a
        // non-blocking eventfd.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        true
    }

    /// Forgets calls made so far. Only for a sleeper that looks at its condition afterwards.
    pub(super) fn reset(&self) {
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    /// True when a call has come since the last wait.
    pub(super) fn is_notified(&self) -> bool {
        self.state.load(Ordering::SeqCst) == NOTIFIED
    }

    /// The sleeper is about to wait. False: a call has come since it last looked, so it must not.
    pub(super) fn prepare(&self) -> bool {
        if self.state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return true;
        }
        self.state.store(AWAKE, Ordering::SeqCst);
        false
    }

    /// The sleeper is back from its wait.
    pub(super) fn finish(&self) {
        self.state.swap(AWAKE, Ordering::SeqCst);
    }

    /// Makes the descriptor unreadable again. The call itself lives in the state word.
    pub(super) fn drain(&self) {
        let mut count = [0; 8];
        match rustix::io::read(&self.event, &mut count) {
            // EAGAIN: another thread drained it.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => debug_assert!(false, "reading an eventfd failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_before_the_wait_prevents_it_and_costs_no_system_call() {
        let wake = Wake::new().unwrap();
        assert!(!wake.notify());
        assert!(!wake.prepare());
        assert!(wake.prepare());
    }

    #[test]
    fn a_call_during_the_wait_makes_the_descriptor_readable_once() {
        let wake = Wake::new().unwrap();
        assert!(wake.prepare());
        assert!(wake.notify());
        assert!(!wake.notify());
        wake.finish();
        let mut count = [0; 8];
        assert_eq!(rustix::io::read(wake.descriptor(), &mut count), Ok(8));
        assert_eq!(u64::from_ne_bytes(count), 1);
        wake.drain();
        assert!(wake.prepare());
    }

    #[test]
    fn reset_forgets_an_old_call() {
        let wake = Wake::new().unwrap();
        wake.notify();
        wake.reset();
        assert!(!wake.is_notified());
        assert!(wake.prepare());
    }
}
