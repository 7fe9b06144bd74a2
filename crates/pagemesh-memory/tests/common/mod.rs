//! What the tests share: regions with a sink that counts, plain accesses, and processes of their own.

#![allow(dead_code, reason = "each test file uses its part of this")]

use pagemesh_memory::{
    Access, Fault, FaultSink, Mapping, MappingError, MappingOptions, PAGE_BYTES, PageRange, PagerChoiceError,
    PagerKind, RegionKey, Resolution, choose,
};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that anything here is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// More faults than any test here needs: a region that goes on faulting for ever fails instead of hanging.
const FAULTS_MAX: u64 = 1_000_000;

/// Makes a test of each function: one for every pager, in a module of its name. The function is told which.
#[macro_export]
macro_rules! for_every_pager {
    ($($test:ident),+ $(,)?) => {
        $crate::for_pager! { sigbus, Sigbus: $($test),+ }
        $crate::for_pager! { handler, Handler: $($test),+ }
        $crate::for_pager! { sigsegv, Sigsegv: $($test),+ }
    };
}

/// The tests of one pager.
#[macro_export]
macro_rules! for_pager {
    ($module:ident, $kind:ident: $($test:ident),+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    $crate::common::with_pager(pagemesh_memory::PagerKind::$kind, super::$test);
                }
            )+
        }
    };
}

/// Runs a test with a pager. Where that cannot be had, says so, and proves that whoever asks for it is told the same.
pub(crate) fn with_pager(kind: PagerKind, test: impl FnOnce(PagerKind)) {
    if can_have(kind) {
        test(kind);
    }
}

/// Resolves no fault.
pub(crate) struct Nothing;

impl FaultSink for Nothing {
    fn resolve(&self, _: Fault) -> Resolution {
        Resolution::Failed
    }
}

/// The reason is told once for each pager.
static WHY_NOT: [Once; 3] = [const { Once::new() }; 3];

/// Whether the pager can be had. If not, says so, past what captures the output of tests.
pub(crate) fn can_have(kind: PagerKind) -> bool {
    let Err(error) = choose(Some(kind)) else { return true };
    let PagerChoiceError::Userfaultfd { asked, cause } = error else { panic!("{error}") };
    assert_eq!(asked, kind);
    let options = MappingOptions::new(RegionKey(0), PAGE_BYTES).pager(kind);
    match Mapping::new(options, Arc::new(Nothing)) {
        Err(MappingError::Uffd(found)) => assert_eq!(found, cause),
        other => panic!("{other:?}"),
    }
    let name = thread::current().name().unwrap_or_default().to_owned();
    let mut told = format!("{name}: not run without the {kind} pager\n");
    WHY_NOT[kind as usize].call_once(|| told.extend([error.to_string(), "\n".to_owned()]));
    let _ = std::io::stderr().write_all(told.as_bytes());
    false
}

type Resolve = Box<dyn Fn(&Mapping, Fault) -> Resolution + Send + Sync>;

/// Counts faults and leaves them to a function.
pub(crate) struct Sink {
    mapping: OnceLock<Weak<Mapping>>,
    resolve: Resolve,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Sink {
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Faults of both kinds, reads first.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.reads(), self.writes())
    }
}

impl FaultSink for Sink {
    fn resolve(&self, fault: Fault) -> Resolution {
        let count = match fault.access {
            Access::Read => &self.reads,
            Access::Write => &self.writes,
        };
        if count.fetch_add(1, Ordering::SeqCst) == FAULTS_MAX {
            return Resolution::Failed;
        }
        match self.mapping.get().and_then(Weak::upgrade) {
            Some(mapping) => (self.resolve)(&mapping, fault),
            None => Resolution::Failed,
        }
    }
}

/// A region whose faults go to `resolve`.
pub(crate) fn region_at(
    options: MappingOptions,
    resolve: impl Fn(&Mapping, Fault) -> Resolution + Send + Sync + 'static,
) -> (Arc<Mapping>, Arc<Sink>) {
    let sink = Arc::new(Sink {
        mapping: OnceLock::new(),
        resolve: Box::new(resolve),
        reads: AtomicU64::new(0),
        writes: AtomicU64::new(0),
    });
    let mapping = Arc::new(Mapping::new(options, sink.clone()).expect("a region can be mapped"));
    sink.mapping.set(Arc::downgrade(&mapping)).expect("set once");
    (mapping, sink)
}

/// A region of `pages`, wherever there is room.
pub(crate) fn region(
    kind: PagerKind,
    pages: usize,
    resolve: impl Fn(&Mapping, Fault) -> Resolution + Send + Sync + 'static,
) -> (Arc<Mapping>, Arc<Sink>) {
    region_at(MappingOptions::new(RegionKey(5), pages * PAGE_BYTES).pager(kind), resolve)
}

/// What the pretended other node holds in `page`.
pub(crate) fn remote_page(page: u64) -> [u8; PAGE_BYTES] {
    std::array::from_fn(|index| (page as usize * 31 + index * 7 + index / 256) as u8)
}

/// Grants what is asked for, with the bytes that the file holds.
pub(crate) fn grant(mapping: &Mapping, fault: Fault) -> Resolution {
    match mapping.pager().map(PageRange::one(fault.page), fault.access) {
        Ok(()) => Resolution::Resolved,
        Err(_) => Resolution::Failed,
    }
}

/// Fetches the page from the pretended other node and grants it. Only for pages that fault once.
pub(crate) fn fetch(mapping: &Mapping, fault: Fault) -> Resolution {
    mapping.service().write_page(fault.page, &remote_page(fault.page));
    grant(mapping, fault)
}

/// Makes the file hold zeros for the page, unless it holds something, and grants it.
pub(crate) fn fetch_zeros(mapping: &Mapping, fault: Fault) -> Resolution {
    match mapping.populate(PageRange::one(fault.page)) {
        Ok(()) => grant(mapping, fault),
        Err(_) => Resolution::Failed,
    }
}

/// Grants nothing.
pub(crate) fn refuse(_: &Mapping, _: Fault) -> Resolution {
    Resolution::Failed
}

/// Address in the app view.
pub(crate) fn address(mapping: &Mapping, byte_offset: usize) -> *mut u8 {
    assert!(byte_offset < mapping.bytes());
    mapping.app_pointer().wrapping_add(byte_offset)
}

/// An ordinary load from the app view.
pub(crate) fn load(mapping: &Mapping, byte_offset: usize) -> u8 {
    // SAFETY: inside the app view, which is mapped as long as `mapping` lives.
    unsafe { address(mapping, byte_offset).read_volatile() }
}

/// An ordinary store to the app view.
pub(crate) fn store(mapping: &Mapping, byte_offset: usize, value: u8) {
    // SAFETY: inside the app view, which is mapped as long as `mapping` lives.
    unsafe { address(mapping, byte_offset).write_volatile(value) }
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Names, in the environment, the scenario that a process of its own is to play, and with which pager.
const SCENARIO: &str = "PAGEMESH_MEMORY_TEST_SCENARIO";
const PAGER: &str = "PAGEMESH_MEMORY_TEST_PAGER";

/// The scenario that this process was started for.
pub(crate) fn scenario() -> Option<(PagerKind, String)> {
    let name = std::env::var(SCENARIO).ok()?;
    let pager = std::env::var(PAGER).ok()?;
    let kind = PagerKind::ALL.into_iter().find(|kind| kind.to_string() == pager)?;
    Some((kind, name))
}

/// Runs the test `entry` of this test program in a process of its own, which finds `scenario` and pager in its environment.
/// Returns how it ended and what it wrote to its standard error.
pub(crate) fn play(kind: PagerKind, entry: &str, scenario: &str) -> (ExitStatus, String) {
    let program = std::env::current_exe().expect("a running program has a file");
    let mut child = Command::new(program)
        .args([entry, "--exact", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .env(PAGER, kind.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test program can be started again");
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None if begin.elapsed() > DEADLINE => {
                child.kill().expect("a child can be killed");
                panic!("scenario {scenario} does not end");
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut messages = String::new();
    let mut pipe = child.stderr.take().expect("it was asked for");
    std::io::Read::read_to_string(&mut pipe, &mut messages).expect("messages are text");
    (status, messages)
}

/// Runs a scenario that has to end by `signal`.
#[track_caller]
pub(crate) fn dies_of(signal: i32, kind: PagerKind, entry: &str, scenario: &str) {
    let (status, messages) = play(kind, entry, scenario);
    assert_eq!(status.signal(), Some(signal), "{kind}, {scenario}: {status}\n{messages}");
}

/// Runs a scenario that has to end by `exit(code)`.
#[track_caller]
pub(crate) fn exits_with(code: i32, kind: PagerKind, entry: &str, scenario: &str) {
    let (status, messages) = play(kind, entry, scenario);
    assert_eq!(status.code(), Some(code), "{kind}, {scenario}: {status}\n{messages}");
}

/// Keeps a process that is going to die from leaving a core file.
pub(crate) fn no_core_file() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads one limit.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    assert_eq!(result, 0);
}
