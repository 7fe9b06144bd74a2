//! The coherence engine of pagemesh, as a pure state machine.
//!
//! This crate owns the identifiers, the messages and their byte layout, and the [`Engine`]: directory and page
//! coherence, atomic operations, locks, barriers, semaphores, condition variables, the agreement on regions, and what happens when a peer is lost. It performs nothing:
//! no input or output, no clock, no thread, no random source, no `unsafe`. Events go in through the engine's `on_*`
//! methods, [`Action`]s come out in a buffer that the caller owns, and page bytes never pass through: a payload
//! is named by the [`PageAddress`] whose bytes it is.
//!
//! A node has one [`Engine`] or, where it has many cores, several: the first, and parts that decide about some of the pages
//! ([`Division`]).
//!
//! The feature `verification` adds what only checkers need: a canonical form of an engine's state, and faults to be
//! planted in one. `pagemesh-sim` turns it on; nothing that ships does.
#![forbid(unsafe_code)]

mod action;
mod atomic;
mod division;
mod engine;
mod ids;
mod layout;
pub mod limits;
mod message;
mod message_parts;
mod node_set;
mod placement;
mod region;
mod sharers;
mod sparse;

pub use action::{Action, Actions, AtomicAnswer, Failure, Outcome, PageOwner, RegionRefusal};
pub use atomic::{AtomicChange, AtomicOperation};
pub use division::Division;
pub use engine::{
    DirectoryEntry, DirectoryState, Engine, EngineConfig, Load, PinHolder, PinId, PinWait, Violation,
    barrier_home, lock_home, sync_home,
};
#[cfg(feature = "verification")]
pub use engine::{Name, Planted};
pub use ids::{
    Access, BarrierId, ByteRange, ConditionId, LockId, NodeId, NodeSet, PageAddress, PageState, RegionId,
    RequestId, RwLockId, SemaphoreId, Ticket, View,
};
pub use layout::{DecodeError, Run, RunKind};
pub use message::{
    BarrierPlan, Collect, HandOver, Hint, MeetingEnd, Message, Named, Payload, ReaderCopy, SyncObject,
};
pub use placement::{Placement, Protocol};
pub use region::{RegionName, RegionNameError, RegionSpec, Unit};
pub use sharers::Sharers;
