//! Distributed shared memory for ordinary processes.
//!
//! Processes on one machine or many join a [`Mesh`] and open a [`Region`]: a range of memory that lies at the same virtual
//! address in each of them. Loads and stores to it are plain loads and stores; a page that is not here is fetched by the
//! page fault that touching it raises, and a coherence protocol keeps every copy right. [`Lock`] and [`Barrier`], [`ReadWriteLock`],
//! [`Semaphore`] and [`Condvar`] order what threads of different nodes do.
//!
//! ```
//! use pagemesh::{Config, Mesh, RegionOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A mesh of one; `Config::from_env()` joins what `pagemesh run` started.
//! let mesh = Mesh::join(Config::single())?;
//! let region = mesh.region("numbers", RegionOptions::new(1 << 20))?;
//! let numbers = region.slice::<u64>(0, 1000)?;
//! {
//!     let _guard = mesh.lock(1).acquire()?;
//!     numbers.set(7, numbers.get(7)? + 1)?;
//! }
//! mesh.barrier(1).wait()?;
//! assert_eq!(numbers.get(7)?, mesh.nodes() as u64);
//! mesh.leave()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Heap`] allocates blocks of any size in a region, for all nodes. [`Mutex`], [`RwLock`], [`Once`] and the [`Atomic`] types have the shape of the standard
//! library's, for values in shared memory.
//!
//! No reference into shared memory is ever made: another node may write there at any time. [`SharedSlice`] copies values
//! in and out, and reports a page that cannot be had as an [`AccessError`]. Who wants plain pointers takes [`Region::base`]; a
//! page that cannot be had then raises SIGBUS, as a file that was cut short does.
//!
//! This crate joins three others: the engine (`pagemesh-protocol`), the memory (`pagemesh-memory`) and the network
//! (`pagemesh-net`). It never prints, never exits, and leaves faults on addresses that are not its own to whoever handled them
//! before.
#![deny(unsafe_code)]

mod condvar;
mod config;
mod error;
mod heap;
mod holders;
mod io;
mod mesh;
pub mod pager;
mod pin;
pub mod priority;
mod range;
mod read_write_lock;
mod region;
mod runtime;
mod semaphore;
mod shared;
pub mod signals;
mod slice;
mod stats;
mod sync;

pub use condvar::{Condvar, WaitError};
pub use config::{Config, ConfigError, OwnerHints};
pub use error::{
    AccessError, AtomicError, DepartureKind, JoinError, PinError, RangeError, RegionError, SyncError,
};
pub use heap::{Heap, HeapAddress, HeapError, HeapStats};
pub use holders::{Holders, NodeHold};
pub use io::RegionCursor;
pub use mesh::{Departure, Mesh};
pub use pagemesh_net::{
    JoinError as JoinFailure, LinkKind, NoRing, Packing, Refusal as JoinRefusal, Transport,
};
pub use pagemesh_protocol::{Access, NodeId, PageState, Placement, Protocol, Unit};
pub use pin::PinGuard;
pub use range::RangeGuard;
pub use read_write_lock::{ReadWriteGuard, ReadWriteLock};
pub use region::{Region, RegionOptions};
pub use runtime::FaultTrace;
pub use semaphore::Semaphore;
pub use shared::{
    Atomic, AtomicBool, AtomicI64, AtomicNumber, AtomicU64, AtomicUsize, AtomicValue, LockError, Mutex,
    MutexGuard, Once, OnceState, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
pub use slice::{Plain, SharedSlice};
pub use stats::Stats;
pub use sync::{Barrier, Lock, LockGuard};

/// The examples of the README are tested too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
