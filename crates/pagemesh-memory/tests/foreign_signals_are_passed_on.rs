//! A SIGBUS that is not for a region does what it would do without us, whatever the program had set for it, before or after
//! its first region. A library that swallowed or bent the signals of its host would make every crash of the host a riddle.
//!
//! Each scenario is played by a process of its own, since a process has one disposition only.

mod common;

use common::{
    address, dies_of, exits_with, fetch, load, no_core_file, refuse, region, remote_page, scenario,
};
use libc::{
    SA_NODEFER, SA_RESETHAND, SA_SIGINFO, SIG_DFL, SIG_IGN, SIGBUS, SIGUSR1, SIGUSR2, c_int, c_void,
    siginfo_t,
};
use pagemesh_memory::{Mapping, PAGE_BYTES};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The code that a process exits with to say: as it should be.
const RIGHT: c_int = 42;
/// The code for: not as it should be.
const WRONG: c_int = 43;

/// How often a handler was called.
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// Where the scenario is going to fault.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);
/// What a handler that was installed over ours passes on to.
static BENEATH: AtomicUsize = AtomicUsize::new(0);
/// Whether SIGUSR1, SIGUSR2 and SIGBUS were blocked when a handler was called.
static BLOCKED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

fn install(handler: usize, flags: c_int, masked: Option<c_int>) -> usize {
    // SAFETY: the handlers of this file have the signature that their flags say.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigemptyset(&raw mut action.sa_mask);
        if let Some(signal) = masked {
            libc::sigaddset(&raw mut action.sa_mask, signal);
        }
        let mut previous: libc::sigaction = zeroed();
        assert_eq!(libc::sigaction(SIGBUS, &raw const action, &raw mut previous), 0);
        previous.sa_sigaction
    }
}

/// A page that faults although it is no region: mapped beyond the end of its file.
fn foreign_page() -> *mut u8 {
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let page = unsafe {
        let file = libc::memfd_create(c"foreign".as_ptr(), 0);
        libc::mmap(null_mut(), PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    EXPECTED.store(page as usize + 12, Ordering::SeqCst);
    page.cast()
}

fn touch(page: *mut u8) -> u8 {
    // SAFETY: mapped; that it faults is the point.
    unsafe { page.add(12).read_volatile() }
}

fn end(right: bool) -> ! {
    // SAFETY: ends the process, from a handler or elsewhere.
    unsafe { libc::_exit(if right { RIGHT } else { WRONG }) }
}

/// A region of ours that works.
fn working_region() -> Arc<Mapping> {
    let (mapping, sink) = region(4, fetch);
    if load(&mapping, 1) != remote_page(0)[1] || sink.counts() != (1, 0) {
        end(false);
    }
    mapping
}

/// Whether another page of the region can still be touched.
fn still_works(mapping: &Mapping, page: usize) -> bool {
    load(mapping, page * PAGE_BYTES + 1) == remote_page(page as u64)[1]
}

/// Ends the process well if the signal is the expected fault.
extern "C" fn expects_fault(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: given by the kernel.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    end(signal == SIGBUS && code == libc::BUS_ADRERR && address == EXPECTED.load(Ordering::SeqCst));
}

/// Makes the foreign page readable, so that the program can go on.
extern "C" fn repairs(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the page belongs to the scenario, which expects it to be replaced.
    unsafe {
        let page = ((*info).si_addr() as usize & !(PAGE_BYTES - 1)) as *mut c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page, PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
    }
}

extern "C" fn counts(signal: c_int) {
    assert_eq!(signal, SIGBUS);
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: reads this thread's mask.
    unsafe {
        let mut mask = zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, null(), &raw mut mask);
        for (blocked, signal) in BLOCKED.iter().zip([SIGUSR1, SIGUSR2, SIGBUS]) {
            blocked.store(libc::sigismember(&raw const mask, signal) == 1, Ordering::SeqCst);
        }
    }
}

/// Installed over ours: passes everything on.
extern "C" fn passes_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: what was found when this handler was installed is one of three arguments.
    unsafe {
        let beneath: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
            std::mem::transmute(BENEATH.load(Ordering::SeqCst));
        beneath(signal, info, context);
    }
}

/// Installed over ours: keeps the expected foreign fault, and passes everything else on.
extern "C" fn knows_its_own(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: given by the kernel.
    if unsafe { (*info).si_addr() as usize } == EXPECTED.load(Ordering::SeqCst) {
        repairs(signal, info, context);
    } else {
        passes_on(signal, info, context);
    }
}

fn raise() {
    // SAFETY: sends this thread a signal.
    unsafe { libc::raise(SIGBUS) };
}

fn blocked() -> [bool; 3] {
    [0, 1, 2].map(|index| BLOCKED[index].load(Ordering::SeqCst))
}

/// The scenarios that end by a signal, if all is right.
fn play_to_death(name: &str) {
    match name {
        "foreign fault, default" => {
            install(SIG_DFL, 0, None);
            let _mapping = working_region();
            touch(foreign_page());
        }
        "foreign fault, ignored" => {
            install(SIG_IGN, 0, None);
            let _mapping = working_region();
            touch(foreign_page());
        }
        "foreign fault, runtime" => {
            let _mapping = working_region();
            touch(foreign_page());
        }
        "raised, default" => {
            install(SIG_DFL, 0, None);
            let _mapping = working_region();
            raise();
        }
        "raised, runtime" => {
            let _mapping = working_region();
            raise();
        }
        "raised twice, to be called once" => {
            install(counts as *const () as usize, SA_RESETHAND, None);
            let mapping = working_region();
            raise();
            if CALLS.load(Ordering::SeqCst) != 1 || !still_works(&mapping, 1) {
                end(false);
            }
            raise();
        }
        "failed fault, default" => {
            install(SIG_DFL, 0, None);
            let (mapping, _) = region(1, refuse);
            load(&mapping, 0);
        }
        "failed fault, runtime" => {
            let (mapping, _) = region(1, refuse);
            load(&mapping, 0);
        }
        "fault with SIGBUS blocked" => {
            install(counts as *const () as usize, 0, None);
            let (mapping, _) = region(1, fetch);
            // SAFETY: changes this thread's mask.
            unsafe {
                let mut mask = zeroed();
                libc::sigaddset(&raw mut mask, SIGBUS);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, null_mut());
            }
            if !pagemesh_memory::sigbus_blocked_here() {
                end(false);
            }
            load(&mapping, 0);
        }
        other => panic!("there is no scenario {other}"),
    }
    end(false);
}

/// The scenarios that end well.
fn play_to_end(name: &str) {
    match name {
        "foreign fault, handler before" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let _mapping = working_region();
            touch(foreign_page());
            end(false);
        }
        "foreign fault repaired, handler before" => {
            install(repairs as *const () as usize, SA_SIGINFO, None);
            let mapping = working_region();
            let right = touch(foreign_page()) == 0 && CALLS.load(Ordering::SeqCst) == 1;
            end(right && still_works(&mapping, 1));
        }
        "foreign fault, handler after" => {
            let mapping = working_region();
            let page = foreign_page();
            BENEATH.store(install(knows_its_own as *const () as usize, SA_SIGINFO, None), Ordering::SeqCst);
            let right = still_works(&mapping, 1) && CALLS.load(Ordering::SeqCst) == 1;
            end(right && touch(page) == 0 && still_works(&mapping, 2) && CALLS.load(Ordering::SeqCst) == 3);
        }
        "foreign fault, handlers before and after" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let mapping = working_region();
            BENEATH.store(install(passes_on as *const () as usize, SA_SIGINFO, None), Ordering::SeqCst);
            if !still_works(&mapping, 1) || CALLS.load(Ordering::SeqCst) != 1 {
                end(false);
            }
            touch(foreign_page());
            end(false);
        }
        "raised, ignored" => {
            install(SIG_IGN, 0, None);
            let mapping = working_region();
            raise();
            end(still_works(&mapping, 1));
        }
        "raised, handler before" => {
            install(counts as *const () as usize, 0, Some(SIGUSR1));
            let mapping = working_region();
            raise();
            let right = CALLS.load(Ordering::SeqCst) == 1 && blocked() == [true, false, true];
            end(right && still_works(&mapping, 1) && !pagemesh_memory::sigbus_blocked_here());
        }
        "raised, handler that wants to be interrupted" => {
            install(counts as *const () as usize, SA_NODEFER, None);
            let mapping = working_region();
            raise();
            let right = CALLS.load(Ordering::SeqCst) == 1 && blocked() == [false; 3];
            end(right && still_works(&mapping, 1));
        }
        "failed fault, handler before" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let (mapping, _) = region(2, refuse);
            EXPECTED.store(address(&mapping, PAGE_BYTES + 5) as usize, Ordering::SeqCst);
            load(&mapping, PAGE_BYTES + 5);
            end(false);
        }
        "failed recoverable access, handler before" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let (mapping, _) = region(2, refuse);
            end(mapping.load_u8(0).is_err() && mapping.load_u8(0).is_err());
        }
        _ => play_to_death(name),
    }
}

/// Where a process of its own begins. In an ordinary run of the tests there is no scenario to play.
#[test]
fn entry() {
    if let Some(scenario) = scenario() {
        no_core_file();
        play_to_end(&scenario);
    }
}

#[test]
fn a_foreign_fault_kills_where_nobody_handles_it() {
    dies_of(SIGBUS, "entry", "foreign fault, default");
    dies_of(SIGBUS, "entry", "foreign fault, ignored");
    dies_of(SIGBUS, "entry", "foreign fault, runtime");
}

#[test]
fn a_foreign_fault_reaches_the_handler_that_was_there_before() {
    exits_with(RIGHT, "entry", "foreign fault, handler before");
    exits_with(RIGHT, "entry", "foreign fault repaired, handler before");
}

#[test]
fn a_handler_installed_later_works_over_ours() {
    exits_with(RIGHT, "entry", "foreign fault, handler after");
    exits_with(RIGHT, "entry", "foreign fault, handlers before and after");
}

#[test]
fn a_sent_signal_does_what_it_did_before() {
    dies_of(SIGBUS, "entry", "raised, default");
    dies_of(SIGBUS, "entry", "raised, runtime");
    exits_with(RIGHT, "entry", "raised, ignored");
}

#[test]
fn a_handler_gets_the_mask_and_the_flags_that_it_asked_for() {
    exits_with(RIGHT, "entry", "raised, handler before");
    exits_with(RIGHT, "entry", "raised, handler that wants to be interrupted");
    dies_of(SIGBUS, "entry", "raised twice, to be called once");
}

#[test]
fn a_fault_that_cannot_be_resolved_is_passed_on_unless_it_is_recoverable() {
    exits_with(RIGHT, "entry", "failed fault, handler before");
    exits_with(RIGHT, "entry", "failed recoverable access, handler before");
    dies_of(SIGBUS, "entry", "failed fault, default");
    dies_of(SIGBUS, "entry", "failed fault, runtime");
}

/// Not our choice but the kernel's; `sigbus_blocked_here` exists because of it.
#[test]
fn a_thread_with_sigbus_blocked_kills_the_process_when_it_faults() {
    dies_of(SIGBUS, "entry", "fault with SIGBUS blocked");
}
