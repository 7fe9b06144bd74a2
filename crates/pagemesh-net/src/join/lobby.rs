//! Where connections wait until they have said who they are.
//!
//! Anybody can connect. A caller that says something wrong, nothing, or half of it must cost the mesh nothing: callers
//! are served side by side, each has a deadline, and their number is bounded.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tracing::warn;

use super::channel::{Channel, ChannelError};
use super::message::{Hello, Message, MessageError, NodeSet, Refusal};
use super::socket;

/// How long a caller has to say its Hello.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Callers that may be in the lobby. When one more comes, the one that has been silent longest is sent away: a node
/// says its Hello at once.
const CALLERS_MAX: usize = 128;

/// A connection that has not said its Hello, or that is being told why it is refused.
#[derive(Debug)]
struct Caller {
    channel: Channel,
    deadline: Instant,
    refused: bool,
}

/// A listener and the callers it brought.
#[derive(Debug)]
pub(super) struct Lobby {
    listener: TcpListener,
    callers: VecDeque<Caller>,
}

impl Lobby {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, callers: VecDeque::new() })
    }

    pub(super) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// What to wait for.
    pub(super) fn watch<'a>(&'a self, watched: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        watched.push((self.listener.as_fd(), PollFlags::IN));
        for caller in &self.callers {
            watched.push((caller.channel.as_fd(), caller.channel.interest(true)));
        }
    }

    /// When somebody's time is over, if not earlier than `deadline`.
    pub(super) fn deadline_before(&self, deadline: Instant) -> Instant {
        self.callers.iter().map(|caller| caller.deadline).fold(deadline, Instant::min)
    }

    /// Accepts who calls, listens to who speaks, and returns those who have said a whole Hello.
    pub(super) fn advance(&mut self) -> io::Result<Vec<(Channel, Hello)>> {
        self.accept()?;
        let now = Instant::now();
        let mut greeted = Vec::new();
        for _ in 0..self.callers.len() {
            let Some(mut caller) = self.callers.pop_front() else { break };
            if caller.deadline <= now {
                if !caller.refused {
                    warn!(from = %caller.channel.peer_address(), "connection dropped: it said no Hello in {HELLO_TIMEOUT:?}");
                }
                continue;
            }
            if caller.refused {
                // Stay until the refusal is out and the caller has hung up: closing first, with bytes of it
                // unread, would reset the connection and the refusal with it.
                if caller.channel.linger() {
                    self.callers.push_back(caller);
                }
                continue;
            }
            match caller.channel.receive() {
                Ok(None) => self.callers.push_back(caller),
                Ok(Some(Message::Hello(hello))) => greeted.push((caller.channel, hello)),
                Ok(Some(message)) => {
                    let text = format!("a {} came where a Hello was expected", message.name());
                    self.refuse(caller.channel, Refusal::Unexpected, NodeSet::default(), text);
                }
                Err(ChannelError::Message(error @ MessageError::Version { .. })) => {
                    let text = error.to_string();
                    self.refuse(caller.channel, Refusal::Version, NodeSet::default(), text);
                }
                Err(error) => warn!(from = %caller.channel.peer_address(), "connection dropped: {error}"),
            }
        }
        Ok(greeted)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (stream, peer_address) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    // accept(2): errors of the new connection are passed on here.
                    ErrorKind::Interrupted
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::NetworkDown
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable => continue,
                    _ => return Err(error),
                },
            };
            let channel = match socket::configure(&stream).and_then(|()| Channel::new(stream, peer_address)) {
                Ok(channel) => channel,
                Err(error) => {
                    warn!(from = %peer_address, "connection dropped: {error}");
                    continue;
                }
            };
            if self.callers.len() >= CALLERS_MAX
                && let Some(oldest) = self.callers.pop_front()
            {
                warn!(from = %oldest.channel.peer_address(), "connection dropped: too many said no Hello");
            }
            self.callers.push_back(Caller {
                channel,
                deadline: Instant::now() + HELLO_TIMEOUT,
                refused: false,
            });
        }
    }

    /// Tells a caller why it cannot come in.
    pub(super) fn refuse(&mut self, mut channel: Channel, reason: Refusal, concerned: NodeSet, text: String) {
        warn!(from = %channel.peer_address(), ?reason, "connection refused: {text}");
        if channel.send(&Message::Refused { reason, concerned, text }).is_ok() {
            self.callers.push_back(Caller {
                channel,
                deadline: Instant::now() + HELLO_TIMEOUT,
                refused: true,
            });
        }
    }
}
