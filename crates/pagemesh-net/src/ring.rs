//! What this crate asks of memory that two processes of one host share. It maps none itself: whoever may do that hands in a
//! [`RingSource`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use thiserror::Error;

use crate::long::AsAny;

/// The peer has written something into the shared memory that no node writes. Its text says what.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RingFault(pub String);

/// One end of two streams of bytes through shared memory. The peer may write anywhere in that memory at any time: what an end
/// returns has been copied out of it.
///
/// One thread at a time writes, and one at a time reads; the other calls may come from any thread. Nothing here blocks, makes a
/// system call or allocates, but for the text of a fault.
pub trait RingEnd: Send + Sync + fmt::Debug + AsAny {
    /// Appends as many of `bytes` as there is room for, and says how many.
    ///
    /// # Errors
    /// When the peer has written nonsense.
    fn write(&self, bytes: &[u8]) -> Result<usize, RingFault>;
    /// Takes what has arrived, as far as it fits into `space`, and says how many bytes. The peer need not hear of it before
    /// [`take_writer_call`](Self::take_writer_call).
    ///
    /// # Errors
    /// When the peer has written nonsense.
    fn read(&self, space: &mut [u8]) -> Result<usize, RingFault>;
    /// Whether `read` would return something else than 0.
    fn is_readable(&self) -> bool;
    /// Whether `write` would return something else than 0.
    fn is_writable(&self) -> bool;
    /// Whether this end wants to be called when something was written for it. Whoever sets this, and then finds the ring not
    /// readable, will be called.
    fn call_reader(&self, wanted: bool);
    /// Whether this end wants to be called when there is room again. Whoever sets this, and then finds the ring not writable, will
    /// be called.
    fn call_writer(&self, wanted: bool);
    /// After a write: whether the peer wants to be called for it. Asked once, the wish is gone.
    fn take_reader_call(&self) -> bool;
    /// After reads: gives the peer the room, and says whether it wants to be called for that. Asked once, the wish is gone.
    fn take_writer_call(&self) -> bool;
}

/// Makes and opens shared memory.
pub trait RingSource: Send + Sync + fmt::Debug {
    /// Makes memory for a ring: a file for the peer, and this node's end.
    ///
    /// # Errors
    /// What the kernel says.
    fn create(&self) -> io::Result<(OwnedFd, Box<dyn RingEnd>)>;
    /// Opens the other end of a ring that a peer has made. The file may be anything.
    ///
    /// # Errors
    /// When it is no such file, or cannot be mapped.
    fn open(&self, file: OwnedFd) -> io::Result<Box<dyn RingEnd>>;
}

/// A ring with the means to call each other: an eventfd(2) for each side.
#[derive(Debug)]
pub struct RingLink {
    pub(crate) end: Box<dyn RingEnd>,
    /// Readable when the peer has called.
    own_bell: OwnedFd,
    peer_bell: OwnedFd,
}

impl RingLink {
    /// A link of `end`, whose peer writes to `own_bell` and waits for `peer_bell`.
    pub fn new(end: Box<dyn RingEnd>, own_bell: OwnedFd, peer_bell: OwnedFd) -> Self {
        Self { end, own_bell, peer_bell }
    }

    /// This node's end.
    pub fn end(&self) -> &dyn RingEnd {
        &*self.end
    }

    /// Calls the peer if it wants to be called for what was written.
    pub fn call(&self) {
        if self.end.take_reader_call() {
            self.call_peer();
        }
    }

    pub(crate) fn own_bell(&self) -> BorrowedFd<'_> {
        self.own_bell.as_fd()
    }

    pub(crate) fn peer_bell(&self) -> BorrowedFd<'_> {
        self.peer_bell.as_fd()
    }

    /// Calls the peer, which waits for this. EAGAIN means that the counter is full, which takes as many calls as a peer can do
    /// harm to itself by not being called.
    pub(crate) fn call_peer(&self) {
        let _ = rustix::io::write(&self.peer_bell, &1u64.to_ne_bytes());
    }

    /// Makes this node look again, as if the peer had called.
    pub(crate) fn call_self(&self) {
        let _ = rustix::io::write(&self.own_bell, &1u64.to_ne_bytes());
    }
}

/// What links may consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Shared memory between nodes on one host that may share it, TCP elsewhere.
    #[default]
    Auto,
    /// TCP only.
    Tcp,
    /// Shared memory only: a mesh in which two nodes cannot share memory is not formed.
    Ring,
}

/// Why a link is plain TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoRing {
    /// One of the two nodes was told to use TCP, or has no shared memory to offer.
    #[error("one of the nodes uses TCP only")]
    NotWanted,
    /// The kernels that they run on are not the same (`/proc/sys/kernel/random/boot_id`).
    #[error("the nodes are on different hosts")]
    OtherHost,
    /// They do not see each other's sockets: they are in different network namespaces.
    #[error("the nodes are in different containers (network namespaces)")]
    Unreachable,
    /// They run as different users, or one cannot see as which user the other does.
    #[error("the nodes run as different users")]
    OtherUser,
    /// One of them could not make, or would not map, the memory.
    #[error("memory could not be shared between the nodes")]
    Refused,
}

/// What the link to a peer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Messages go through shared memory; a TCP connection tells when the peer is gone.
    Ring,
    /// Messages go over a TCP connection.
    Tcp(NoRing),
}
