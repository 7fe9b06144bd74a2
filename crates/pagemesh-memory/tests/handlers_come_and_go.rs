//! A library that leaves its signal handler behind, or hides the one that the program has set, changes what a later crash of the
//! program does. So our handler is there only as long as a region is, and a program that asks what it has set is told just that.
//!
//! One test: what a signal does is set for the whole process.

mod common;

use common::{fetch, region};
use pagemesh_memory::{PagerKind, sigaction};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

static FIRST: AtomicU32 = AtomicU32::new(0);
static SECOND: AtomicU32 = AtomicU32::new(0);

extern "C" fn first(_: c_int) {
    FIRST.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn second(_: c_int) {
    SECOND.fetch_add(1, Ordering::Relaxed);
}

fn action(function: extern "C" fn(c_int)) -> libc::sigaction {
    // SAFETY: all zeros is a disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = function as *const () as usize;
    action
}

/// What the kernel has for SIGBUS.
fn installed() -> usize {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only fills in what there is.
    unsafe {
        assert_eq!(libc::sigaction(libc::SIGBUS, null(), found.as_mut_ptr()), 0);
        found.assume_init().sa_sigaction
    }
}

/// Sets what SIGBUS does as a program does that does not know of regions, and returns what it is told was set before.
fn set(action: Option<&libc::sigaction>) -> usize {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the functions only count.
    unsafe {
        let action = action.map_or(null(), |action| &raw const *action);
        assert_eq!(sigaction(libc::SIGBUS, action, found.as_mut_ptr()), 0);
        found.assume_init().sa_sigaction
    }
}

#[test]
fn the_program_finds_what_it_has_set_before_among_and_after_regions() {
    let (first_action, second_action) = (action(first), action(second));
    set(Some(&first_action));
    assert_eq!((installed(), set(None)), (first_action.sa_sigaction, first_action.sa_sigaction));
    for _ in 0..3 {
        FIRST.store(0, Ordering::Relaxed);
        SECOND.store(0, Ordering::Relaxed);
        let (one, _) = region(PagerKind::Sigsegv, 2, fetch);
        let (other, _) = region(PagerKind::Sigsegv, 2, fetch);
        assert_ne!(installed(), first_action.sa_sigaction, "ours is in front");
        assert_eq!(set(None), first_action.sa_sigaction);
        // SAFETY: the handler counts.
        unsafe { libc::raise(libc::SIGBUS) };
        assert_eq!(set(Some(&second_action)), first_action.sa_sigaction);
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGBUS) };
        assert_eq!((FIRST.load(Ordering::Relaxed), SECOND.load(Ordering::Relaxed)), (1, 1));
        assert!(one.load_u8(0).is_ok(), "faults are still ours");
        drop(one);
        assert_ne!(installed(), second_action.sa_sigaction, "a region is left");
        assert_eq!(set(None), second_action.sa_sigaction);
        drop(other);
        assert_eq!(installed(), second_action.sa_sigaction);
        assert_eq!(set(Some(&first_action)), second_action.sa_sigaction);
    }
    // SAFETY: a bad number is refused.
    assert_eq!(unsafe { sigaction(0, null(), null_mut()) }, -1);
}
