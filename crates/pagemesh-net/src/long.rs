//! Long payloads: pages that go from memory into a link, and from a link into memory, without a stop in a buffer of this crate.

use std::any::Any;
use std::fmt;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::ring::{RingEnd, RingFault};
use crate::switch::LinkLoss;

/// Bytes that are thrown away at a time: whoever does it may have little stack.
const WASTE_BYTES: usize = 1024;

/// Memory that long payloads are sent from. What is queued of it must not change until the peer has said that it has it, and stays
/// mapped as long as this lives.
pub trait Pages: Send + Sync + fmt::Debug {
    /// Sends some of `head` and then of the `bytes` bytes from `at` on through a socket, without blocking (`MSG_DONTWAIT`, `MSG_NOSIGNAL`), and
    /// says how many in all.
    ///
    /// # Errors
    /// What `sendmsg(2)` says.
    fn send(&self, socket: BorrowedFd<'_>, head: &[u8], at: usize, bytes: usize) -> Result<usize, Errno>;

    /// Appends as many of the `bytes` bytes from `at` on as there is room for, and says how many.
    ///
    /// # Errors
    /// When the peer has written nonsense.
    fn write(&self, ring: &dyn RingEnd, at: usize, bytes: usize) -> Result<usize, RingFault>;
}

/// Where the bytes of a long payload come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// They are here already.
    Bytes(&'a [u8]),
    /// A socket.
    Socket(&'a TcpStream),
    /// A ring.
    Ring(&'a dyn RingEnd),
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Bytes(_) => "Bytes",
            Source::Socket(_) => "Socket",
            Source::Ring(_) => "Ring",
        })
    }
}

impl Source<'_> {
    /// What a `recv(2)` of the socket means for a link: 0 when there is nothing now.
    ///
    /// # Errors
    /// When the connection has ended, or failed.
    pub fn received(result: Result<usize, Errno>) -> Result<usize, LinkLoss> {
        match result {
            Ok(0) => Err(LinkLoss::Closed),
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(LinkLoss::from_errno(errno)),
        }
    }

    /// Takes some bytes, at most `most`, that nobody wants, and says how many; 0 when there are none now.
    ///
    /// # Errors
    /// When the connection has ended, or failed.
    pub fn waste(self, most: usize) -> Result<usize, LinkLoss> {
        let mut waste = [0; WASTE_BYTES];
        let space = &mut waste[..most.min(WASTE_BYTES)];
        match self {
            Source::Bytes(bytes) => Ok(bytes.len().min(most)),
            Source::Socket(stream) => {
                let received = rustix::net::recv(stream.as_fd(), space, RecvFlags::DONTWAIT);
                Source::received(received.map(|(count, _)| count))
            }
            Source::Ring(ring) => ring.read(space).map_err(LinkLoss::BadRing),
        }
    }
}

/// For whoever has made the memory of a ring, and finds it behind a [`RingEnd`] again.
pub trait AsAny: 'static {
    /// Itself.
    fn as_any(&self) -> &dyn Any;
}

impl<T: 'static> AsAny for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
