//! The one mesh of this process: none, joining, joined, or leaving.
//!
//! A forked child has a copy of its parent's mesh, which it must neither use nor end: everything here belongs to the process
//! that its number names, and for any other it is as if it were not there.

use crate::blocks::Blocks;
use crate::error::{Answer, Code, Failed};
use crate::fork::Children;
use crate::heap::Heap;
use crate::mutexes::Mutexes;
use crate::reports::PerformanceLog;
use crate::rwlocks::RwLocks;
use crate::settings::Settings;
use arc_swap::ArcSwapOption;
use pagemesh::{Config, Mesh, Region};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Process number and phase, in one word: `process << 2 | phase`.
static PHASE: AtomicU64 = AtomicU64::new(OFF);

const OFF: u64 = 0;
const STARTING: u64 = 1;
const UP: u64 = 2;
const STOPPING: u64 = 3;

static CURRENT: ArcSwapOption<Context> = ArcSwapOption::const_empty();

/// Locks what a panic elsewhere leaves in order.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a joined process has.
pub(crate) struct Context {
    process: u32,
    pub(crate) mesh: Mesh,
    pub(crate) settings: Settings,
    /// By address.
    regions: RwLock<BTreeMap<usize, Region>>,
    pub(crate) mutexes: Mutexes,
    pub(crate) rwlocks: RwLocks,
    pub(crate) heap: Heap,
    pub(crate) blocks: Blocks,
    pub(crate) performance_log: Mutex<Option<PerformanceLog>>,
    children: Mutex<Children>,
    allowed_wait: Duration,
}

/// A range of bytes that lies in shared memory.
pub(crate) struct Place {
    pub(crate) region: Region,
    /// From the start of the region.
    pub(crate) bytes: Range<usize>,
}

impl Place {
    /// The pages that the bytes touch.
    pub(crate) fn pages(&self) -> Range<usize> {
        self.bytes.start / 4096..self.bytes.end.div_ceil(4096)
    }
}

impl Context {
    /// Makes `region` one whose pointers calls accept.
    pub(crate) fn add_region(&self, region: Region) -> usize {
        let base = region.base();
        let before = self.regions.write().unwrap_or_else(PoisonError::into_inner).insert(base, region);
        // Not under the lock: the coordinator is told, and answers.
        drop(before);
        base
    }

    /// Makes the region at `base` none of those; `None` where there was none.
    ///
    /// # Errors
    /// When threads of this node have some of it pinned or locked.
    pub(crate) fn remove_region(&self, base: usize) -> Answer<Option<Region>> {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let Some(region) = regions.get(&base) else { return Ok(None) };
        region.check_unused()?;
        let removed = regions.remove(&base);
        self.blocks.close(base);
        Ok(removed)
    }

    /// The opened region in which `address` lies.
    pub(crate) fn region_with(&self, address: usize) -> Option<Region> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let (base, region) = regions.range(..=address).next_back()?;
        (address - base < region.bytes()).then(|| region.clone())
    }

    /// Where `bytes` bytes from `address` on are.
    pub(crate) fn find(&self, address: usize, bytes: usize) -> Answer<Place> {
        let foreign = || {
            let what = format!("{bytes} bytes at {address:#x} do not lie in one piece of shared memory");
            Failed::new(Code::Invalid, what)
        };
        let end = address.checked_add(bytes).filter(|_| bytes > 0).ok_or_else(foreign)?;
        if let Some(region) = self.region_with(address) {
            let start = address - region.base();
            let inside = end - region.base() <= region.bytes();
            return if inside { Ok(Place { bytes: start..start + bytes, region }) } else { Err(foreign()) };
        }
        self.heap.find(self, address, end)?.ok_or_else(foreign)
    }

    /// Waits for the others, if so wanted, leaves, lets go of everything, and waits for children.
    fn end(&self, wait: bool) -> Answer<()> {
        let left = if wait { self.mesh.end() } else { Ok(()) };
        self.mesh.end_at_once();
        self.regions.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.heap.clear();
        self.blocks.clear();
        self.mutexes.clear();
        self.rwlocks.clear();
        *lock(&self.performance_log) = None;
        let reaped = lock(&self.children).reap(self.allowed_wait);
        left?;
        reaped
    }
}

/// The right to start, which no other thread has meanwhile. Given up when dropped.
pub(crate) struct Starting(());

impl Starting {
    /// # Errors
    /// When the process has joined, or is about to, or leaves.
    pub(crate) fn begin() -> Answer<Starting> {
        let process = u64::from(std::process::id());
        let mut seen = PHASE.load(Ordering::SeqCst);
        loop {
            if seen >> 2 == process && seen & 3 != OFF {
                let what = match seen & 3 {
                    STARTING => "another thread is joining",
                    UP => "this process has joined already; call dsm_finalize first",
                    _ => "another thread is still in dsm_finalize",
                };
                return Err(Failed::new(Code::Busy, what));
            }
            match PHASE.compare_exchange(seen, process << 2 | STARTING, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        // What a forked child finds is its parent's: to drop it would be to end it.
        std::mem::forget(CURRENT.swap(None));
        Ok(Starting(()))
    }

    /// The forked child that this thread goes on in starts in its own name.
    pub(crate) fn carry_over() {
        PHASE.store(u64::from(std::process::id()) << 2 | STARTING, Ordering::SeqCst);
    }

    /// Joins.
    pub(crate) fn join(self, config: Config, settings: Settings, children: Children) -> Answer<Arc<Context>> {
        let allowed_wait = config.allowed_wait();
        let context = Arc::new(Context {
            process: std::process::id(),
            mesh: Mesh::join(config)?,
            settings,
            regions: RwLock::default(),
            mutexes: Mutexes::default(),
            rwlocks: RwLocks::default(),
            heap: Heap::default(),
            blocks: Blocks::default(),
            performance_log: Mutex::default(),
            children: Mutex::new(children),
            allowed_wait,
        });
        CURRENT.store(Some(context.clone()));
        PHASE.store(u64::from(context.process) << 2 | UP, Ordering::SeqCst);
        std::mem::forget(self);
        Ok(context)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        PHASE.store(OFF, Ordering::SeqCst);
    }
}

/// The mesh that this process has joined.
///
/// # Errors
/// When it has not.
pub(crate) fn current() -> Answer<Arc<Context>> {
    let context = CURRENT.load_full().filter(|context| context.process == std::process::id());
    context.ok_or_else(|| Failed::new(Code::Init, "this process has not joined; call dsm_init first"))
}

/// Waits for the others, leaves, and puts the process back to where it was before it joined.
pub(crate) fn finalize() -> Answer<()> {
    stop(true)
}

/// As [`finalize`], without waiting for the others.
pub(crate) fn abandon() -> Answer<()> {
    stop(false)
}

fn stop(wait: bool) -> Answer<()> {
    let context = current()?;
    let (up, stopping) = (u64::from(context.process) << 2 | UP, u64::from(context.process) << 2 | STOPPING);
    if PHASE.compare_exchange(up, stopping, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return Err(Failed::new(Code::Busy, "another thread is in dsm_finalize"));
    }
    let ended = context.end(wait);
    CURRENT.store(None);
    drop(context);
    PHASE.store(OFF, Ordering::SeqCst);
    ended
}
