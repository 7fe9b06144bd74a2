//! A seeded simulator of a whole mesh: real engines, simulated memory, links and application threads.
//!
//! This crate owns the simulated world and the checks: it runs N [`pagemesh_protocol::Engine`]s over links that delay
//! messages at random, and reorder those of different links, while threads read, write, add, prefetch, lock, meet at barriers and
//! give up waiting, and while nodes die, leave and stand still and connections break. After every step it checks that a page
//! has one writer or many readers (one holder, where it migrates), that every readable copy is the latest, that the directory
//! tells the truth, that locks are held by one and passed in order, that nobody passes a barrier early. Then all faults end, and
//! everything has to come to rest. Last it judges by the recorded history alone whether one order explains all that was read.
//! It must never let anything but the seed decide: no clock, no address, no iteration order of a hash table. It is for tests
//! only; nothing that ships depends on it. docs/simulator.md tells how to use it.
//!
//! [`run()`] runs one seed; [`Config`] is what a seed stands for; [`Failed`] tells what did not hold, with the
//! events before, and [`shrink()`] makes it smaller; [`History`] judges what threads saw; [`Tally`] tells what runs had;
//! [`Sabotage`] plants faults to show that the checks see them; [`Lockstep`] is driven by hand, to count messages and
//! to pin the smallest scenario of a fault; [`scale`] counts what standard workloads cost on many nodes.
#![forbid(unsafe_code)]

mod breach;
mod config;
mod engines;
pub mod entry;
mod event;
mod history;
pub mod lives;
mod lockstep;
pub mod model;
mod network;
mod node;
mod pinners;
mod pins;
mod program;
pub mod racefree;
mod random;
mod referee;
mod run;
mod sabotage;
pub mod scale;
mod shrink;
mod tally;
mod text;
mod thread;
mod trace;
mod truth;
mod turns;
mod world;

pub use breach::Breach;
pub use config::{Config, CutPlan, FaultPlan, LossPlan, PausePlan, RegionPlan, Timing};
pub use engines::{Misdivision, Sharding};
pub use history::{Deed, Disorder, Entry, History, Location, Reason};
pub use lockstep::Lockstep;
pub use pinners::{PinCounts, PinFailed, Pinners, run_pins};
pub use program::{PATTERNS, Pattern, Program, Workload};
pub use random::Random;
pub use run::{Failed, Options, Report, run, run_config};
pub use sabotage::Sabotage;
pub use shrink::{Shrunk, shrink};
pub use tally::Tally;
pub use trace::TraceMode;
pub use world::Counts;
