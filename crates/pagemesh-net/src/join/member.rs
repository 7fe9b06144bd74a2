//! The part of every node but 0: be admitted, dial the nodes with smaller numbers, accept those with larger ones.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tracing::debug;

use super::channel::{Channel, ChannelError};
use super::error::JoinError;
use super::lobby::Lobby;
use super::message::{Hello, JobId, Message, NodeSet, Purpose, Refusal};
use super::{JoinOptions, socket};

/// How long to wait before dialling a coordinator again that does not listen yet: at first, and at most.
const REDIAL_FIRST: Duration = Duration::from_millis(10);
const REDIAL_MAX: Duration = Duration::from_millis(200);
/// How long one attempt to reach the coordinator's machine may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A link being made to a node with a smaller number.
#[derive(Debug)]
enum Dial {
    Connecting(TcpStream),
    Greeted(Channel),
}

#[derive(Debug)]
pub(super) struct Member<'a> {
    options: &'a JoinOptions,
    deadline: Instant,
    lobby: Lobby,
    coordinator: Channel,
    job: JobId,
    present: NodeSet,
    /// The roster has come and the dialling begun.
    roster_seen: bool,
    dials: Vec<Option<Dial>>,
    streams: Vec<Option<TcpStream>>,
    ready_sent: bool,
}

impl<'a> Member<'a> {
    /// Reaches the coordinator and is admitted by it.
    pub(super) fn admitted(
        options: &'a JoinOptions,
        listener: TcpListener,
        deadline: Instant,
    ) -> Result<Self, JoinError> {
        let lobby = Lobby::new(listener).map_err(JoinError::io("preparing this node's listener"))?;
        let listens_on =
            lobby.listener().local_addr().map_err(JoinError::io("asking for this node's address"))?;
        let hello = Hello {
            node: options.node,
            nodes: options.nodes,
            purpose: Purpose::Join,
            listens_on,
            job: JobId([0; 16]),
        };
        let mut pause = REDIAL_FIRST;
        loop {
            if let Some(channel) = dial_coordinator(options, deadline)?
                && let Some((coordinator, present, job)) =
                    greet_coordinator(options, channel, &hello, deadline)?
            {
                return Ok(Self {
                    options,
                    deadline,
                    lobby,
                    coordinator,
                    job,
                    present,
                    roster_seen: false,
                    dials: (0..options.nodes).map(|_| None).collect(),
                    streams: (0..options.nodes).map(|_| None).collect(),
                    ready_sent: false,
                });
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(timed_out(options, "the coordinator", vec![0]));
            }
            socket::wait_until(&[], deadline.min(now + pause)).map_err(JoinError::io("waiting"))?;
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }

    /// Makes the links and waits until everybody has theirs.
    pub(super) fn run(mut self) -> Result<Vec<Option<TcpStream>>, JoinError> {
        while !self.step()? {}
        self.streams[0] = Some(self.coordinator.into_stream());
        Ok(self.streams)
    }

    /// One wait and what follows from it. True when the coordinator said Go.
    fn step(&mut self) -> Result<bool, JoinError> {
        if Instant::now() >= self.deadline {
            return Err(self.timed_out());
        }
        if self.roster_seen && !self.ready_sent && self.unlinked().is_empty() {
            self.ready_sent = true;
            self.coordinator.send(&Message::Ready).map_err(|_| JoinError::PeerVanished { node: 0 })?;
        }
        let mut watched = Vec::new();
        self.lobby.watch(&mut watched);
        watched.push((self.coordinator.as_fd(), self.coordinator.interest(true)));
        for dial in self.dials.iter().flatten() {
            watched.push(dial.watch());
        }
        socket::wait_until(&watched, self.lobby.deadline_before(self.deadline))
            .map_err(JoinError::io("waiting for the nodes"))?;
        for (channel, hello) in
            self.lobby.advance().map_err(JoinError::io("accepting a connection of a node"))?
        {
            self.accept_link(channel, &hello);
        }
        self.advance_dials()?;
        self.listen_to_coordinator()
    }

    /// Nodes other than 0 and this one to which there is no link yet.
    fn unlinked(&self) -> Vec<u16> {
        let unlinked = |node: &u16| *node != self.options.node && self.streams[usize::from(*node)].is_none();
        (1..self.options.nodes).filter(unlinked).collect()
    }

    fn timed_out(&self) -> JoinError {
        let missing = self.present.missing(self.options.nodes);
        if !missing.is_empty() {
            return timed_out(self.options, "all nodes", missing);
        }
        let unlinked = self.unlinked();
        if self.roster_seen && !unlinked.is_empty() {
            return timed_out(self.options, "the links to all nodes", unlinked);
        }
        timed_out(self.options, "the coordinator's word that all nodes are linked", Vec::new())
    }

    fn listen_to_coordinator(&mut self) -> Result<bool, JoinError> {
        loop {
            let message = self.coordinator.receive();
            match message.map_err(|error| lost(0, self.coordinator.peer_address(), &error))? {
                None => break,
                // Not one byte more is read from this stream: the rest is the link's.
                Some(Message::Go) if self.ready_sent => return Ok(true),
                Some(Message::Present(present)) => self.present = present,
                Some(Message::Roster(roster))
                    if !self.roster_seen && roster.len() == usize::from(self.options.nodes) =>
                {
                    self.present = NodeSet::of(0..self.options.nodes);
                    self.dial_all(&roster)?;
                    self.roster_seen = true;
                }
                Some(Message::Refused { reason, concerned, text }) => {
                    return Err(refused(self.options, 0, reason, concerned, text));
                }
                Some(message) => {
                    return Err(JoinError::NotPagemesh {
                        address: self.coordinator.peer_address(),
                        what: format!("it sent a {} at the wrong time", message.name()),
                    });
                }
            }
        }
        self.coordinator.flush().map_err(|_| JoinError::PeerVanished { node: 0 })?;
        Ok(false)
    }

    fn dial_all(&mut self, roster: &[SocketAddr]) -> Result<(), JoinError> {
        for node in 1..self.options.node {
            let address = roster[usize::from(node)];
            let stream = socket::dial(address).map_err(|source| match source.kind() {
                std::io::ErrorKind::ConnectionRefused => JoinError::PeerVanished { node },
                _ => JoinError::BadAddress { address, source },
            })?;
            self.dials[usize::from(node)] = Some(Dial::Connecting(stream));
        }
        Ok(())
    }

    fn advance_dials(&mut self) -> Result<(), JoinError> {
        for node in 1..self.options.node {
            let Some(dial) = self.dials[usize::from(node)].take() else { continue };
            let vanished = |_| JoinError::PeerVanished { node };
            self.dials[usize::from(node)] = match dial {
                Dial::Connecting(stream) if !socket::connected(&stream).map_err(vanished)? => {
                    Some(Dial::Connecting(stream))
                }
                Dial::Connecting(stream) => Some(Dial::Greeted(self.greet_peer(node, stream)?)),
                Dial::Greeted(channel) => self.hear_peer(node, channel)?.map(Dial::Greeted),
            };
        }
        Ok(())
    }

    fn greet_peer(&self, node: u16, stream: TcpStream) -> Result<Channel, JoinError> {
        socket::configure(&stream).map_err(JoinError::io("setting the options of a link"))?;
        let address = stream.peer_addr().map_err(|_| JoinError::PeerVanished { node })?;
        let mut channel = Channel::new(stream, address).map_err(JoinError::io("preparing a link"))?;
        let hello = Hello {
            node: self.options.node,
            nodes: self.options.nodes,
            purpose: Purpose::Link,
            listens_on: super::UNSPECIFIED,
            job: self.job,
        };
        channel.send(&Message::Hello(hello)).map_err(|error| lost(node, address, &error))?;
        Ok(channel)
    }

    /// The answer to a Hello. `None` when the link is made; the channel when there is no answer yet.
    fn hear_peer(&mut self, node: u16, mut channel: Channel) -> Result<Option<Channel>, JoinError> {
        let address = channel.peer_address();
        channel.flush().map_err(|error| lost(node, address, &error))?;
        match channel.receive().map_err(|error| lost(node, address, &error))? {
            None => Ok(Some(channel)),
            Some(Message::Welcome { node: by, job, .. }) if by == node && job == self.job => {
                self.streams[usize::from(node)] = Some(channel.into_stream());
                Ok(None)
            }
            Some(Message::Refused { reason, concerned, text }) => {
                Err(refused(self.options, node, reason, concerned, text))
            }
            Some(message) => Err(JoinError::NotPagemesh {
                address,
                what: format!("node {node} was dialled and answered with the wrong {}", message.name()),
            }),
        }
    }

    /// A caller has said a whole Hello. Nobody but a node of this job with a larger number has business here.
    fn accept_link(&mut self, mut channel: Channel, hello: &Hello) {
        let (me, nodes) = (self.options.node, self.options.nodes);
        let refusal = if hello.purpose != Purpose::Link {
            Some((Refusal::Unexpected, format!("node {me} is not the coordinator")))
        } else if hello.job != self.job {
            Some((Refusal::WrongJob, "it belongs to another job".to_owned()))
        } else if hello.nodes != nodes {
            let text = format!("it was started for {} nodes, this mesh has {nodes}", hello.nodes);
            Some((Refusal::NodesDiffer, text))
        } else if hello.node <= me || hello.node >= nodes {
            let text = format!("node {} does not dial node {me} in a mesh of {nodes}", hello.node);
            Some((Refusal::NodeOutOfRange, text))
        } else if self.streams[usize::from(hello.node)].is_some() {
            Some((Refusal::NodeTaken, format!("node {} is linked already", hello.node)))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            self.lobby.refuse(channel, reason, NodeSet::of([hello.node]), text);
            return;
        }
        let welcome = Message::Welcome { node: me, nodes, present: self.present, job: self.job };
        // Some bytes into an empty socket buffer: they are taken at once, or the caller is gone, which the
        // coordinator notices.
        match channel.send(&welcome) {
            Ok(()) if channel.is_flushed() => {
                debug!(node = hello.node, "link accepted");
                self.streams[usize::from(hello.node)] = Some(channel.into_stream());
            }
            _ => debug!(node = hello.node, "a node hung up before it was welcomed"),
        }
    }
}

impl Dial {
    fn watch(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::Connecting(stream) => (stream.as_fd(), PollFlags::OUT),
            Self::Greeted(channel) => (channel.as_fd(), channel.interest(true)),
        }
    }
}

fn timed_out(options: &JoinOptions, waiting_for: &'static str, missing: Vec<u16>) -> JoinError {
    JoinError::Timeout { after: options.timeout, waiting_for, missing }
}

fn refused(options: &JoinOptions, by: u16, reason: Refusal, concerned: NodeSet, text: String) -> JoinError {
    JoinError::refused((options.node, options.nodes), by, (reason, concerned, text), options.timeout)
}

fn lost(node: u16, address: SocketAddr, error: &ChannelError) -> JoinError {
    if error.is_loss() {
        JoinError::PeerVanished { node }
    } else {
        JoinError::NotPagemesh { address, what: error.to_string() }
    }
}

/// One attempt. `None`: nobody listens there yet.
fn dial_coordinator(options: &JoinOptions, deadline: Instant) -> Result<Option<Channel>, JoinError> {
    let address = options.coordinator;
    let attempt_deadline = deadline.min(Instant::now() + DIAL_TIMEOUT);
    let stream = match socket::dial(address) {
        Ok(stream) => stream,
        Err(error) if may_come(&error) => return Ok(None),
        Err(source) => return Err(JoinError::BadAddress { address, source }),
    };
    loop {
        socket::wait_until(&[(stream.as_fd(), PollFlags::OUT)], attempt_deadline)
            .map_err(JoinError::io("dialling the coordinator"))?;
        match socket::connected(&stream) {
            Ok(true) => break,
            Ok(false) if Instant::now() < attempt_deadline => {}
            Ok(false) => return Ok(None),
            Err(error) if may_come(&error) => return Ok(None),
            Err(source) => return Err(JoinError::BadAddress { address, source }),
        }
    }
    socket::configure(&stream).map_err(JoinError::io("setting the options of a link"))?;
    Channel::new(stream, address).map(Some).map_err(JoinError::io("preparing a link"))
}

/// A coordinator that is not up yet, or whose machine is not.
fn may_come(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | ConnectionAborted
            | TimedOut
            | HostUnreachable
            | NetworkUnreachable
    )
}

/// Says Hello and waits for the answer, for as long as there is time: the coordinator's port may be listening before
/// the coordinator is. `None`: it hung up before it answered.
fn greet_coordinator(
    options: &JoinOptions,
    mut channel: Channel,
    hello: &Hello,
    deadline: Instant,
) -> Result<Option<(Channel, NodeSet, JobId)>, JoinError> {
    if channel.send(&Message::Hello(hello.clone())).is_err() {
        return Ok(None);
    }
    loop {
        match channel.receive() {
            Ok(None) => {}
            Ok(Some(Message::Welcome { node: 0, nodes, present, job })) if nodes == options.nodes => {
                return Ok(Some((channel, present, job)));
            }
            Ok(Some(Message::Refused { reason, concerned, text })) => {
                return Err(refused(options, 0, reason, concerned, text));
            }
            Ok(Some(message)) => {
                return Err(JoinError::NotPagemesh {
                    address: options.coordinator,
                    what: format!("it answered a Hello with the wrong {}", message.name()),
                });
            }
            Err(error) if error.is_loss() => return Ok(None),
            Err(error) => {
                let what = error.to_string();
                return Err(JoinError::NotPagemesh { address: options.coordinator, what });
            }
        }
        if Instant::now() >= deadline {
            return Err(timed_out(options, "the coordinator's answer", vec![0]));
        }
        socket::wait_until(&[(channel.as_fd(), channel.interest(true))], deadline)
            .map_err(JoinError::io("waiting for the coordinator"))?;
        if channel.flush().is_err() {
            return Ok(None);
        }
    }
}
