//! A SIGBUS or SIGSEGV that is not for a region does what it would do without us, whatever the program had set for it, before or
//! after its first region. A library that swallowed or bent the signals of its host would make every crash of the host a riddle.
//!
//! Each scenario is played by a process of its own, since a process has one disposition only.

mod common;

use common::{
    address, dies_of, exits_with, fetch, load, no_core_file, play, refuse, region, remote_page, scenario,
};
use libc::{
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_SIGINFO, SIG_DFL, SIG_IGN, SIGABRT, SIGBUS, SIGSEGV, SIGUSR1,
    SIGUSR2, c_int, c_void, siginfo_t,
};
use pagemesh_memory::{Fault, Mapping, PAGE_BYTES, PagerKind, Resolution};
use std::mem::zeroed;
use std::os::unix::process::ExitStatusExt;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// The code that a process exits with to say: as it should be.
const RIGHT: c_int = 42;
/// The code for: not as it should be.
const WRONG: c_int = 43;

crate::for_every_pager! {
    a_foreign_fault_kills_where_nobody_handles_it,
    a_foreign_fault_reaches_the_handler_that_was_there_before,
    a_handler_installed_later_works_over_ours,
    a_sent_signal_does_what_it_did_before,
    a_handler_gets_the_mask_and_the_flags_that_it_asked_for,
    a_fault_that_cannot_be_resolved_is_passed_on_unless_it_is_recoverable,
    a_thread_with_the_signal_of_its_faults_blocked_kills_the_process_when_it_faults,
    a_stack_overflow_is_reported_as_ever,
}

/// The signals that a pager hears of, and so takes over.
fn signals(kind: PagerKind) -> &'static [c_int] {
    match kind {
        PagerKind::Sigsegv => &[SIGSEGV, SIGBUS],
        _ => &[SIGBUS],
    }
}

/// The signal by which a fault in a region comes, if it comes by one.
fn signal_of_faults(kind: PagerKind) -> Option<c_int> {
    match kind {
        PagerKind::Sigbus => Some(SIGBUS),
        PagerKind::Sigsegv => Some(SIGSEGV),
        _ => None,
    }
}

/// The signal that a scenario is about.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

fn signal() -> c_int {
    SIGNAL.load(Ordering::SeqCst)
}

/// How often a handler was called.
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// Where the scenario is going to fault.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);
/// What a handler that was installed over ours passes on to.
static BENEATH: AtomicUsize = AtomicUsize::new(0);
/// Whether SIGUSR1, SIGUSR2 and the scenario's signal were blocked when a handler was called.
static BLOCKED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

fn install(handler: usize, flags: c_int, masked: Option<c_int>) -> usize {
    install_for(signal(), handler, flags, masked)
}

fn install_for(signal: c_int, handler: usize, flags: c_int, masked: Option<c_int>) -> usize {
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
        assert_eq!(libc::sigaction(signal, &raw const action, &raw mut previous), 0);
        previous.sa_sigaction
    }
}

/// A page that faults, with the scenario's signal, although it is no region: mapped beyond the end of its file, or protected.
fn foreign_page() -> *mut u8 {
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let page = unsafe {
        if signal() == SIGBUS {
            let file = libc::memfd_create(c"foreign".as_ptr(), 0);
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(null_mut(), PAGE_BYTES, rights, libc::MAP_SHARED, file, 0)
        } else {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(null_mut(), PAGE_BYTES, libc::PROT_NONE, flags, -1, 0)
        }
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

/// Needs more stack than the alternate stacks of the Rust runtime have, which are 8 KiB.
fn deep_sink(mapping: &Mapping, fault: Fault) -> Resolution {
    let room = std::hint::black_box([1_u8; 16_000]);
    if room.iter().all(|byte| *byte == 1) { fetch(mapping, fault) } else { Resolution::Failed }
}

/// A region of ours that works.
fn working_region(kind: PagerKind) -> Arc<Mapping> {
    let (mapping, sink) = region(kind, 4, fetch);
    if load(&mapping, 1) != remote_page(0)[1] || sink.counts() != (1, 0) {
        end(false);
    }
    mapping
}

/// Whether another page of the region can still be touched.
fn still_works(mapping: &Mapping, page: usize) -> bool {
    load(mapping, page * PAGE_BYTES + 1) == remote_page(page as u64)[1]
}

/// Ends the process well if the signal is the expected fault. (The code of both is 2: BUS_ADRERR and SEGV_ACCERR.)
extern "C" fn expects_fault(number: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: given by the kernel.
    let (told, code, address) = unsafe { ((*info).si_signo, (*info).si_code, (*info).si_addr() as usize) };
    let right = number == signal() && told == number && code == libc::BUS_ADRERR;
    end(right && address == EXPECTED.load(Ordering::SeqCst));
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

extern "C" fn counts(number: c_int) {
    assert_eq!(number, signal());
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: reads this thread's mask.
    unsafe {
        let mut mask = zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, null(), &raw mut mask);
        for (blocked, signal) in BLOCKED.iter().zip([SIGUSR1, SIGUSR2, number]) {
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
    unsafe { libc::raise(signal()) };
}

/// Blocks every signal in the calling thread.
fn block_all() {
    // SAFETY: changes this thread's mask.
    unsafe {
        let mut mask = zeroed();
        libc::sigfillset(&raw mut mask);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, null_mut());
    }
}

/// Calls itself until the stack is full.
#[allow(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 100]);
    overflow(depth + 1) + room[depth as usize % 100]
}

fn blocked() -> [bool; 3] {
    [0, 1, 2].map(|index| BLOCKED[index].load(Ordering::SeqCst))
}

/// The scenarios that end by a signal, if all is right.
fn play_to_death(kind: PagerKind, name: &str) {
    match name {
        "foreign fault, default" => {
            install(SIG_DFL, 0, None);
            let _mapping = working_region(kind);
            touch(foreign_page());
        }
        "foreign fault, ignored" => {
            install(SIG_IGN, 0, None);
            let _mapping = working_region(kind);
            touch(foreign_page());
        }
        "foreign fault, runtime" => {
            let _mapping = working_region(kind);
            touch(foreign_page());
        }
        "raised, default" => {
            install(SIG_DFL, 0, None);
            let _mapping = working_region(kind);
            raise();
        }
        "raised, runtime" => {
            let _mapping = working_region(kind);
            raise();
        }
        "raised twice, to be called once" => {
            install(counts as *const () as usize, SA_RESETHAND, None);
            let mapping = working_region(kind);
            raise();
            if CALLS.load(Ordering::SeqCst) != 1 || !still_works(&mapping, 1) {
                end(false);
            }
            raise();
        }
        "failed fault, default" => {
            install(SIG_DFL, 0, None);
            let (mapping, _) = region(kind, 1, refuse);
            load(&mapping, 0);
        }
        "failed fault, runtime" => {
            let (mapping, _) = region(kind, 1, refuse);
            load(&mapping, 0);
        }
        "fault with all blocked" => {
            install(counts as *const () as usize, 0, None);
            let (mapping, _) = region(kind, 1, fetch);
            block_all();
            if !pagemesh_memory::sigbus_blocked_here() || !pagemesh_memory::sigsegv_blocked_here() {
                end(false);
            }
            load(&mapping, 0);
            // With the pager that needs no signal.
            end(true);
        }
        "failed fault with all blocked" => {
            let (mapping, _) = region(kind, 1, refuse);
            block_all();
            load(&mapping, 0);
        }
        "stack overflow" => {
            let mapping = working_region(kind);
            let deep = std::thread::spawn(move || {
                // The signal's handler, and the stack it runs on, are in use at the same time as this thread's end.
                if still_works(&mapping, 1) { overflow(1) } else { 0 }
            });
            let _ = deep.join();
        }
        other => panic!("there is no scenario {other}"),
    }
    end(false);
}

/// The scenarios that end well.
fn play_to_end(kind: PagerKind, name: &str) {
    // How often a handler over ours hears of a fault in the region.
    let heard = usize::from(signal_of_faults(kind) == Some(signal()));
    match name {
        "foreign fault, handler before" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let _mapping = working_region(kind);
            touch(foreign_page());
            end(false);
        }
        "foreign fault repaired, handler before" => {
            install(repairs as *const () as usize, SA_SIGINFO, None);
            let mapping = working_region(kind);
            let right = touch(foreign_page()) == 0 && CALLS.load(Ordering::SeqCst) == 1;
            end(right && still_works(&mapping, 1));
        }
        "foreign fault, handler after" => {
            let mapping = working_region(kind);
            let page = foreign_page();
            BENEATH.store(install(knows_its_own as *const () as usize, SA_SIGINFO, None), Ordering::SeqCst);
            let right = still_works(&mapping, 1) && CALLS.load(Ordering::SeqCst) == heard;
            end(right
                && touch(page) == 0
                && still_works(&mapping, 2)
                && CALLS.load(Ordering::SeqCst) == 1 + 2 * heard);
        }
        "foreign fault, handlers before and after" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let mapping = working_region(kind);
            BENEATH.store(install(passes_on as *const () as usize, SA_SIGINFO, None), Ordering::SeqCst);
            if !still_works(&mapping, 1) || CALLS.load(Ordering::SeqCst) != heard {
                end(false);
            }
            touch(foreign_page());
            end(false);
        }
        "raised, ignored" => {
            install(SIG_IGN, 0, None);
            let mapping = working_region(kind);
            raise();
            end(still_works(&mapping, 1));
        }
        "raised, handler before" => {
            install(counts as *const () as usize, 0, Some(SIGUSR1));
            let mapping = working_region(kind);
            raise();
            let right = CALLS.load(Ordering::SeqCst) == 1 && blocked() == [true, false, true];
            let masked = pagemesh_memory::sigbus_blocked_here() || pagemesh_memory::sigsegv_blocked_here();
            end(right && still_works(&mapping, 1) && !masked);
        }
        "raised, handler that wants to be interrupted" => {
            install(counts as *const () as usize, SA_NODEFER, None);
            let mapping = working_region(kind);
            raise();
            let right = CALLS.load(Ordering::SeqCst) == 1 && blocked() == [false; 3];
            end(right && still_works(&mapping, 1));
        }
        "fault needs much stack" | "fault needs much stack, handler after" => {
            let (mapping, _) = region(kind, 2, deep_sink);
            if name.ends_with("after") {
                let beneath = install(passes_on as *const () as usize, SA_SIGINFO | SA_ONSTACK, None);
                BENEATH.store(beneath, Ordering::SeqCst);
            }
            let deep = std::thread::spawn(move || still_works(&mapping, 1));
            end(deep.join().is_ok_and(|right| right));
        }
        "failed fault, handler before" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let (mapping, _) = region(kind, 2, refuse);
            EXPECTED.store(address(&mapping, PAGE_BYTES + 5) as usize, Ordering::SeqCst);
            load(&mapping, PAGE_BYTES + 5);
            end(false);
        }
        "failed recoverable access, handler before" => {
            install(expects_fault as *const () as usize, SA_SIGINFO, None);
            let (mapping, _) = region(kind, 2, refuse);
            end(mapping.load_u8(0).is_err() && mapping.load_u8(0).is_err());
        }
        _ => play_to_death(kind, name),
    }
}

/// Where a process of its own begins. In an ordinary run of the tests there is no scenario to play.
#[test]
fn entry() {
    if let Some((kind, scenario)) = scenario() {
        let (number, name) = scenario.split_once(": ").expect("the signal comes first");
        SIGNAL.store(number.parse().expect("a number"), Ordering::SeqCst);
        no_core_file();
        play_to_end(kind, name);
    }
}

/// Every scenario is played for each signal that the pager takes over, and the process dies of that.
#[track_caller]
fn dies(kind: PagerKind, scenario: &str) {
    for signal in signals(kind) {
        dies_of(*signal, kind, "entry", &format!("{signal}: {scenario}"));
    }
}

#[track_caller]
fn ends_well(kind: PagerKind, scenario: &str) {
    for signal in signals(kind) {
        exits_with(RIGHT, kind, "entry", &format!("{signal}: {scenario}"));
    }
}

fn a_foreign_fault_kills_where_nobody_handles_it(kind: PagerKind) {
    dies(kind, "foreign fault, default");
    dies(kind, "foreign fault, ignored");
    dies(kind, "foreign fault, runtime");
}

fn a_foreign_fault_reaches_the_handler_that_was_there_before(kind: PagerKind) {
    ends_well(kind, "foreign fault, handler before");
    ends_well(kind, "foreign fault repaired, handler before");
}

fn a_handler_installed_later_works_over_ours(kind: PagerKind) {
    ends_well(kind, "foreign fault, handler after");
    ends_well(kind, "foreign fault, handlers before and after");
}

fn a_sent_signal_does_what_it_did_before(kind: PagerKind) {
    dies(kind, "raised, default");
    dies(kind, "raised, runtime");
    ends_well(kind, "raised, ignored");
}

fn a_handler_gets_the_mask_and_the_flags_that_it_asked_for(kind: PagerKind) {
    ends_well(kind, "raised, handler before");
    ends_well(kind, "raised, handler that wants to be interrupted");
    dies(kind, "raised twice, to be called once");
}

/// It is told as SIGBUS, whichever the pager.
fn a_fault_that_cannot_be_resolved_is_passed_on_unless_it_is_recoverable(kind: PagerKind) {
    let scenario = |name: &str| format!("{SIGBUS}: {name}");
    exits_with(RIGHT, kind, "entry", &scenario("failed fault, handler before"));
    exits_with(RIGHT, kind, "entry", &scenario("failed recoverable access, handler before"));
    dies_of(SIGBUS, kind, "entry", &scenario("failed fault, default"));
    dies_of(SIGBUS, kind, "entry", &scenario("failed fault, runtime"));
}

/// Not our choice but the kernel's; `blocked_threads` exists because of it.
fn a_thread_with_the_signal_of_its_faults_blocked_kills_the_process_when_it_faults(kind: PagerKind) {
    let scenario = |name: &str| format!("{SIGBUS}: {name}");
    match signal_of_faults(kind) {
        Some(signal) => dies_of(signal, kind, "entry", &scenario("fault with all blocked")),
        None => exits_with(RIGHT, kind, "entry", &scenario("fault with all blocked")),
    }
    dies_of(
        signal_of_faults(kind).unwrap_or(SIGBUS),
        kind,
        "entry",
        &scenario("failed fault with all blocked"),
    );
}

/// The runtime says which thread it was, from a handler of SIGSEGV on an alternate stack.
fn a_stack_overflow_is_reported_as_ever(kind: PagerKind) {
    let (status, messages) = play(kind, "entry", &format!("{SIGSEGV}: stack overflow"));
    assert_eq!(status.signal(), Some(SIGABRT), "{kind}: {status}\n{messages}");
    assert!(messages.contains("has overflowed its stack"), "{kind}: {messages}");
    ends_well(kind, "fault needs much stack");
    ends_well(kind, "fault needs much stack, handler after");
}
