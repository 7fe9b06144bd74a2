//! Regions of memory whose pages are granted and taken away one by one, and the faults in between.
//!
//! This crate owns everything that touches page tables and signals: userfaultfd, the two mappings of a region, the handler
//! of SIGBUS and SIGSEGV, and accesses that survive a fault which nobody resolves. It knows neither network nor protocol: it says that a
//! page is needed ([`FaultSink`]) and does with pages as it is told ([`Pager`]). It must never decide who may have a page,
//! allocate or lock in a signal handler, swallow a signal that is not its own, or make a reference into memory that others
//! write.
//!
//! The main types:
//!
//! * [`Mapping`]: a region, mapped twice. The application uses the app view; the bytes are served and received through the
//!   [`ServiceView`], which never faults.
//! * [`Pager`]: what the app view allows, page by page. There are three ([`PagerKind`]); [`choose`] takes the best that can be
//!   had, and [`probe()`] tells what there is and why.
//! * [`Mapping::harvest`]: which pages were written, without a fault for each, where the kernel can tell ([`WriteTracking`]).
//! * [`FaultSink`]: whoever resolves a [`Fault`], on the thread that faulted or, with one of the pagers, on one made for it.
//! * [`Mapping::read_app`] and its kin: recoverable accesses, which return an [`AccessFault`] instead of dying.
//! * [`diff`]: the bytes of a page that changed since its twin was made, found ([`ServiceView::diff_page`]), stored
//!   ([`ServiceView::apply_diff`]), and a place for twins ([`TwinPool`]).
//! * [`SharedRing`]: two streams of bytes through memory that two processes share, of which each believes nothing.
//! * [`set_low_mark`]: when a socket tells that something has come, which no safe library sets.
//! * [`PlainMemory`]: memory that processes share with nothing in between, to be measured against.
//! * [`BareFaults`]: a program that resolves its own faults with nothing else around, to be measured against too.
//! * [`uffd`]: the thin layer over userfaultfd that all this stands on.
//!
//! ```
//! use pagemesh_memory::{Access, Fault, FaultSink, Mapping, MappingOptions, PageRange, RegionKey, Resolution, PAGE_BYTES};
//! use std::sync::{Arc, OnceLock, Weak};
//!
//! /// Fills each page with its number when it is first touched.
//! #[derive(Default)]
//! struct Numbers(OnceLock<Weak<Mapping>>);
//!
//! impl FaultSink for Numbers {
//!     fn resolve(&self, fault: Fault) -> Resolution {
//!         let Some(mapping) = self.0.get().and_then(Weak::upgrade) else { return Resolution::Failed };
//!         mapping.service().write_page(fault.page, &[fault.page as u8; PAGE_BYTES]);
//!         match mapping.pager().map(PageRange::one(fault.page), fault.access) {
//!             Ok(()) => Resolution::Resolved,
//!             Err(_) => Resolution::Failed,
//!         }
//!     }
//! }
//!
//! let sink = Arc::new(Numbers::default());
//! let options = MappingOptions::new(RegionKey(0), 16 * PAGE_BYTES);
//! let mapping = Arc::new(Mapping::new(options, sink.clone())?);
//! sink.0.set(Arc::downgrade(&mapping)).unwrap();
//!
//! assert_eq!(mapping.load_u8(7 * PAGE_BYTES + 5)?, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `docs/memory.md` tells how the parts work together, and what the limits are.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!(
    "pagemesh-memory runs on Linux on x86_64: it reads the registers of interrupted code and has its recoverable accesses in \
     machine code. Another processor needs its own src/signal/context.rs and src/recoverable/sites.rs"
);

mod bare;
pub mod diff;
mod fault;
mod fork;
mod low_mark;
mod mapped;
mod mapping;
mod page;
mod pager;
mod plain;
mod preload;
mod recoverable;
mod ring;
mod service;
mod signal;
pub mod uffd;

pub use bare::{BareFaults, BareFaultsError, BarePages, BareSpace};
pub use diff::{
    DIFF_MOST, Diff, DiffBytes, DiffError, DiffForm, DiffScratch, Twin, TwinArea, TwinError, TwinPool,
};
pub use fault::{Fault, FaultSink, RegionKey, Resolution};
pub use fork::{KeptFromChildren, process_generation};
pub use low_mark::set_low_mark;
pub use mapping::{Mapping, MappingError, MappingOptions};
pub use page::{Access, PAGE_BYTES, PageBytes, PageRange};
pub use pager::{
    Chosen, HANDLER_FEATURES, Improvement, Opening, Pager, PagerChoiceError, PagerError, PagerKind,
    Privileges, Probe, SIGBUS_FEATURES, StillFaulting, TRACKING_FEATURES, WriteTracking, WriteTrackingError,
    choose, probe,
};
pub use plain::{PlainMemory, PlainMemoryError};
pub use recoverable::AccessFault;
pub use ring::{RING_BYTES_LEAST, RING_BYTES_MOST, RingError, RingFault, SharedRing};
pub use service::ServiceView;
pub use signal::{BlockedThread, blocked_threads, sigaction, sigbus_blocked_here, sigsegv_blocked_here};
pub use uffd::UffdError;
