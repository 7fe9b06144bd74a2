//! The C interface: `libdsm.so`, `libdsm.a`, and the headers `dsm/dsm.h` and `dsm/types.h` beside them.
//!
//! This crate owns the translation between C and [`pagemesh`], and what C programs expect on top of it: one mesh a process, found
//! without a handle; memory that is allocated page by page; locks that know which thread holds them; error numbers with a text a
//! thread. It must never decide anything about pages, let a panic cross into C, trust a pointer that it can check, or print except
//! in the calls that are for printing.
//!
//! The header says what every call does; the texts here say how.
//!
//! * `state`: from `dsm_init` to `dsm_finalize`, and again.
//! * [`error`]: numbers and texts.
//! * [`types`]: what lies in memory as C sees it.
//! * `heap`: `dsm_malloc` on top of two regions.
//! * [`blocks`]: `dsm_alloc`, blocks of any size in a region.
//! * [`atomics`]: words that are changed where their pages are.
//! * [`broadcast`]: private bytes of one node for all.
//! * `mutexes`, `rwlocks`: locks whose owners are threads.
//! * [`ranges`]: locked ranges of entry regions.
//! * `objects`: reader-writer locks, semaphores and condition variables.
//! * [`interpose`]: `sigaction` and `signal` for the two signals that page faults need.
#![allow(clippy::doc_markdown, reason = "the names of C stand as they are")]

pub mod atomics;
pub mod blocks;
pub mod broadcast;
pub mod error;
pub mod interpose;
pub mod logging;
pub mod memory;
pub mod objects;
pub mod pins;
pub mod ranges;
pub mod reports;
pub mod start;
pub mod sync;
pub mod types;

mod fork;
mod heap;
mod mutexes;
mod rwlocks;
mod settings;
mod state;
