//! The transport of pagemesh: how nodes find each other, and how opaque messages and pages move between them.
//!
//! This crate owns every socket of a node, the handshake that forms the mesh, the framing of messages on a TCP
//! stream, and the question of *which thread* receives. It must never know what a message means (that is
//! `pagemesh-protocol`), never touch a page table or a signal (that is `pagemesh-memory`), never block in a
//! send, and never print or exit.
//!
//! * [`join`](fn@join) forms the full mesh: one TCP stream for each pair of nodes, and beside it, where two nodes are on one host
//!   and may share memory, a ring ([`RingLink`]) through which their messages go instead.
//! * [`frame`] cuts a byte stream into messages with payloads and back.
//! * [`Switch`] holds all links of a node. A thread that waits for a reply becomes the [`Leader`] and receives for
//!   the whole node; the service thread receives when nobody waits. What arrives goes to a [`Receiver`].
#![forbid(unsafe_code)]

pub mod frame;
pub mod join;
mod long;
mod pack;
pub mod ring;
pub mod switch;

pub use frame::{FrameError, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, PAGE_BYTES};
pub use join::{JoinError, JoinOptions, Joined, Refusal, WIRE_VERSION, join};
pub use long::{AsAny, Pages, Source};
pub use pack::Packing;
pub use ring::{LinkKind, NoRing, RingEnd, RingFault, RingLink, RingSource, Transport};
pub use switch::{
    EnqueueError, Leader, LinkCounters, LinkLoss, LowMark, Receiver, Reject, Switch, SwitchCounters,
    TX_LIMIT_BYTES,
};
