//! What the memory of a mesh may show, and what it did show.
//!
//! Two checks on real processes. **Litmus tests**: small programs of a few loads and stores, executed many times at once, whose
//! outcomes are held against the operational [`Model`] of the processor: [`play`](fn@play) runs them on a node, [`combine`] judges what
//! all nodes report. **Histories**: random programs of loads, stores, atomics, locks and barriers whose operations are recorded
//! with their times ([`history::play`](fn@history::play)), and decided by [`History::check`](history::History::check).
//!
//! This crate owns the tests, the models and the checkers; starting the nodes and reading the command line is the caller's. What a
//! node observed must never travel through the memory that is tested.
#![forbid(unsafe_code)]

mod clock;
pub mod history;
mod model;
mod plan;
mod player;
pub mod program;
mod random;
mod results;
pub mod shapes;
pub mod table;

pub use model::{Model, outcomes};
pub use plan::{Layout, LitmusRun, ROUND_INSTANCES, RoundPlan};
pub use player::play;
pub use random::Random;
pub use results::{Count, Incomplete, Part, Record, Verdict, combine};
