//! Measurements of pagemesh.
//!
//! Every figure stands beside a baseline measured in the same run, round by round in turn, by the same processes on the same
//! cores: what the machine and its load do to one they do to the other, and their ratio stays. Where the baseline itself moved too
//! much between the rounds, no ratio is told.
//!
//! A [`Plan`] says what one mesh is to measure; [`run_node`] plays a node of it. What is found makes a [`Report`], which prints as
//! tables, is written and read as JSON, put into a document ([`document`]), and held against another one ([`Comparison`]). This crate
//! owns what a measuring node does; starting the nodes and reading the command line is the caller's. It must never print.
#![forbid(unsafe_code)]

mod compare;
pub mod document;
mod ground;
mod machine;
mod mode;
mod plan;
mod raw;
mod report;
mod samples;
mod suite;
mod table;

pub use compare::{Comparison, Row, Verdict};
pub use machine::Machine;
pub use mode::Mode;
pub use plan::{Link, Plan, Setting, Suite};
pub use report::{
    BASELINE_MOVES_MOST, Baseline, Figure, Measured, Ratio, Report, ReportError, Run, SCHEMA, Stage, Target,
};
pub use samples::{Samples, Statistics};
pub use suite::run_node;
