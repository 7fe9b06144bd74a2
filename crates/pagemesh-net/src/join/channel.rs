//! One handshake conversation on a non-blocking socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;
use thiserror::Error;

use super::message::{HEADER_BYTES, Header, Message, MessageError};

/// Why a conversation is over.
#[derive(Debug, Error)]
pub(super) enum ChannelError {
    #[error("it closed the connection")]
    Closed,
    #[error("it closed the connection in the middle of a message")]
    ClosedMidway,
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl ChannelError {
    /// The other side is gone, as opposed to: it is there and says something wrong.
    pub(super) fn is_loss(&self) -> bool {
        !matches!(self, Self::Message(_))
    }
}

/// Reads exactly the bytes of one message at a time, never more: what follows the handshake on the same stream
/// belongs to the link.
#[derive(Debug)]
pub(super) struct Channel {
    stream: TcpStream,
    peer_address: SocketAddr,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Channel {
    /// Takes a connected stream and makes it non-blocking.
    pub(super) fn new(stream: TcpStream, peer_address: SocketAddr) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, peer_address, incoming: Vec::new(), outgoing: Vec::new() })
    }

    pub(super) fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Queues a message and sends what the socket takes.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), ChannelError> {
        self.outgoing.extend_from_slice(&message.encode());
        self.flush()
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Sends what the socket takes now.
    pub(super) fn flush(&mut self) -> Result<(), ChannelError> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ChannelError::Io(error)),
            }
        }
        Ok(())
    }

    /// The next message, or `None` when it is not all there yet.
    pub(super) fn receive(&mut self) -> Result<Option<Message>, ChannelError> {
        loop {
            let header = Header::decode(&self.incoming)?;
            let wanted = header.map_or(HEADER_BYTES, Header::message_bytes);
            let have = self.incoming.len();
            if let Some(header) = header
                && have == wanted
            {
                let message = Message::decode(header, &self.incoming[HEADER_BYTES..])?;
                self.incoming.clear();
                return Ok(Some(message));
            }
            self.incoming.resize(wanted, 0);
            let result = self.stream.read(&mut self.incoming[have..]);
            self.incoming.truncate(have + result.as_ref().copied().unwrap_or(0));
            match result {
                Ok(0) if have == 0 => return Err(ChannelError::Closed),
                Ok(0) => return Err(ChannelError::ClosedMidway),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ChannelError::Io(error)),
            }
        }
    }

    /// Sends what is queued and throws away what comes. False when the other side has hung up.
    pub(super) fn linger(&mut self) -> bool {
        let mut thrown_away = [0; 4096];
        self.flush().is_ok()
            && match self.stream.read(&mut thrown_away) {
                Ok(count) => count > 0,
                Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            }
    }

    /// What to wait for: room while something is queued, and bytes when `reading`.
    pub(super) fn interest(&self, reading: bool) -> PollFlags {
        let room = if self.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        if reading { room | PollFlags::IN } else { room }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
