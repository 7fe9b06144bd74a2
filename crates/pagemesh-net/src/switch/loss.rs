//! Why a link ended, why a message was not taken, and how a receiver refuses one.

use std::borrow::Cow;
use std::io;

use thiserror::Error;

use crate::frame::{FrameError, MAX_MESSAGE_BYTES, PAGE_BYTES};
use crate::ring::RingFault;

/// Why the link to a peer ended. Given to [`Receiver::on_lost`](super::Receiver::on_lost), once for each peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkLoss {
    /// The peer closed its end: its process ended or left.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer's kernel reset the connection: its process ended with data unread.
    #[error("the peer reset the connection")]
    Reset,
    /// The kernel gave up on the connection; [`io::ErrorKind::TimedOut`] is a peer that does not acknowledge.
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
    /// What the peer sent is not a frame.
    #[error("the peer sent bytes that are no frame: {0}")]
    BadFrame(FrameError),
    /// What the peer wrote into the memory that it shares with this node is nothing that a node writes.
    #[error("the peer spoilt the memory that it shares with this node: {0}")]
    BadRing(RingFault),
    /// The peer sent bytes over TCP on a link whose messages go through shared memory.
    #[error("the peer sent bytes beside the shared memory of its link")]
    BytesBesideRing,
    /// The receiver refused a message of the peer.
    #[error("a message of the peer was refused: {0}")]
    Rejected(Cow<'static, str>),
    /// The peer takes messages more slowly than they are made, by more than
    /// [`TX_LIMIT_BYTES`](super::TX_LIMIT_BYTES).
    #[error("the peer fell more than {} bytes behind in receiving", super::TX_LIMIT_BYTES)]
    SendQueueFull,
    /// [`Switch::close`](super::Switch::close) was called on this node.
    #[error("the link was closed by this node")]
    ClosedHere,
}

impl LinkLoss {
    pub(crate) fn from_errno(errno: rustix::io::Errno) -> Self {
        if errno == rustix::io::Errno::CONNRESET || errno == rustix::io::Errno::PIPE {
            Self::Reset
        } else {
            Self::Io(io::Error::from(errno).kind())
        }
    }
}

/// A receiver's refusal of a message; the link it came on is dropped with [`LinkLoss::Rejected`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject(pub Cow<'static, str>);

impl From<&'static str> for Reject {
    fn from(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }
}

impl From<String> for Reject {
    fn from(reason: String) -> Self {
        Self(Cow::Owned(reason))
    }
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The link to this peer has ended; [`Receiver::on_lost`](super::Receiver::on_lost) was or will be called.
    #[error("message to node {peer} not queued: the link to it has ended")]
    Lost {
        /// The peer asked for.
        peer: u16,
    },
    /// There is no such peer: it is this node, or no stream was given for it.
    #[error(
        "message to node {peer} not queued: there is no link to it; send only to other nodes of the mesh"
    )]
    NoLink {
        /// The peer asked for.
        peer: u16,
    },
    /// More than [`TX_LIMIT_BYTES`](super::TX_LIMIT_BYTES) are waiting to be sent. The link has been dropped with
    /// [`LinkLoss::SendQueueFull`].
    #[error(
        "message to node {peer} not queued: {queued_bytes} bytes already wait to be sent to it; the link was dropped"
    )]
    Full {
        /// The peer asked for.
        peer: u16,
        /// Bytes that were waiting.
        queued_bytes: usize,
    },
    /// No receiver would accept a frame of these lengths. The link is not affected.
    #[error(
        "message to node {peer} not queued: {message_bytes} bytes of message and {payload_bytes} of payload; send 1 to {MAX_MESSAGE_BYTES} and 0 or {PAGE_BYTES}"
    )]
    BadLength {
        /// The peer asked for.
        peer: u16,
        /// Length of the message in bytes.
        message_bytes: usize,
        /// Length of the payload in bytes.
        payload_bytes: usize,
    },
}
