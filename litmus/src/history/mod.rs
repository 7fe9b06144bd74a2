//! Histories: what the threads of real processes did to shared memory, when, and whether it can have happened so.
//!
//! [`play`] runs a random [`Program`] on each thread of a node and records every operation with its values and the times between
//! which it happened, on one clock for all processes of the machine. [`History::check`] decides afterwards.
//!
//! # What is decided
//!
//! Every value that is written to a word is written once. So it is known which write a read has read from, and whether the operations
//! on a word have an order that explains it and agrees with their times (linearizability, Herlihy and Wing 1990) can be decided
//! exactly and in n log n: see `order`. Words that are linearizable one by one are so together; so a history of
//! settled operations is sequentially consistent, which is more than the sum of its words.
//!
//! The processor may keep a plain store in its buffer after the instruction is over. Such a store counts as over when its thread is through
//! the next fence, atomic, lock or barrier, and a read that takes the value of such a store of its own thread with it.
//! Beside times, the order of a thread's own operations on a word is kept (coherence).

mod check;
mod event;
mod order;
mod player;
mod program;
mod rules;
mod violation;
mod words;

pub use check::{Findings, History};
pub use event::{Action, Event, Loss, LossKind, ThreadName, unique_value};
pub use player::{HistoryRun, play};
pub use program::{Place, Program, Step, World};
pub use violation::{Because, Violation};
