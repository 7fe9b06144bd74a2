//! Measurements of pagemesh.
//!
//! Every figure stands beside a baseline measured in the same run, round by round in turn, with the same processes on the same
//! cores: what the machine and its load do to one they do to the other, and their ratio stays. This crate owns what a
//! measuring node does; starting the nodes and reading the command line is the caller's.
#![forbid(unsafe_code)]

mod fault;
mod machine;
mod raw;
mod summary;

pub use fault::{FaultBench, Pinning, run_node};
pub use summary::Summary;
