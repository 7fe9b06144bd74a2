//! Node 0's part: admit every node once, tell all where the others listen, and let all go together.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use tracing::{debug, warn};

use super::channel::{Channel, ChannelError};
use super::error::JoinError;
use super::lobby::Lobby;
use super::message::{Hello, JobId, Message, NodeSet, Purpose, Refusal};
use super::{JoinOptions, socket};

/// A node that has been admitted.
#[derive(Debug)]
struct Member {
    channel: Channel,
    listens_on: SocketAddr,
    /// All its links are up.
    ready: bool,
}

#[derive(Debug)]
pub(super) struct Coordinator<'a> {
    options: &'a JoinOptions,
    deadline: Instant,
    lobby: Lobby,
    job: JobId,
    /// Index = node; node 0 stays empty.
    members: Vec<Option<Member>>,
    roster_sent: bool,
    go_sent: bool,
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(
        options: &'a JoinOptions,
        listener: TcpListener,
        deadline: Instant,
    ) -> Result<Self, JoinError> {
        let mut job = [0; 16];
        rustix::rand::getrandom(&mut job, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| JoinError::Io { doing: "drawing a job id", source: errno.into() })?;
        Ok(Self {
            options,
            deadline,
            lobby: Lobby::new(listener).map_err(JoinError::io("preparing the coordinator's listener"))?,
            job: JobId(job),
            members: (0..options.nodes).map(|_| None).collect(),
            roster_sent: false,
            go_sent: false,
        })
    }

    /// Forms the mesh. Whatever goes wrong, the nodes that have come are told.
    pub(super) fn run(mut self) -> Result<Vec<Option<TcpStream>>, JoinError> {
        loop {
            match self.step() {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => {
                    self.tell_all(&error);
                    return Err(error);
                }
            }
        }
        Ok(self.members.into_iter().map(|member| member.map(|member| member.channel.into_stream())).collect())
    }

    /// One wait and what follows from it. True when all are in and have been told to go.
    fn step(&mut self) -> Result<bool, JoinError> {
        if !self.roster_sent && self.present().missing(self.options.nodes).is_empty() {
            self.roster_sent = true;
            let listens_on =
                |member: &Option<Member>| member.as_ref().map_or(super::UNSPECIFIED, |it| it.listens_on);
            let roster = Message::Roster(self.members.iter().map(listens_on).collect());
            self.send_all(&roster)?;
        }
        if self.roster_sent && !self.go_sent && self.members.iter().flatten().all(|member| member.ready) {
            self.go_sent = true;
            self.send_all(&Message::Go)?;
        }
        if self.go_sent && self.members.iter().flatten().all(|member| member.channel.is_flushed()) {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= self.deadline {
            return Err(self.timed_out());
        }
        let mut watched = Vec::new();
        self.lobby.watch(&mut watched);
        for member in self.members.iter().flatten() {
            // After Go, what a member sends belongs to the link.
            watched.push((member.channel.as_fd(), member.channel.interest(!self.go_sent)));
        }
        socket::wait_until(&watched, self.lobby.deadline_before(self.deadline))
            .map_err(JoinError::io("waiting for the nodes"))?;
        for (channel, hello) in
            self.lobby.advance().map_err(JoinError::io("accepting a connection of a node"))?
        {
            self.admit(channel, &hello)?;
        }
        self.listen_to_members()?;
        Ok(false)
    }

    fn present(&self) -> NodeSet {
        let there = |node: &u16| *node == 0 || self.members[usize::from(*node)].is_some();
        NodeSet::of((0..self.options.nodes).filter(there))
    }

    fn timed_out(&self) -> JoinError {
        let missing = self.present().missing(self.options.nodes);
        if missing.is_empty() {
            let late =
                |node: &u16| self.members[usize::from(*node)].as_ref().is_some_and(|member| !member.ready);
            JoinError::Timeout {
                after: self.options.timeout,
                waiting_for: "the links between all nodes",
                missing: (0..self.options.nodes).filter(late).collect(),
            }
        } else {
            JoinError::Timeout { after: self.options.timeout, waiting_for: "all nodes", missing }
        }
    }

    /// A caller has said a whole Hello.
    fn admit(&mut self, mut channel: Channel, hello: &Hello) -> Result<(), JoinError> {
        let nodes = self.options.nodes;
        let taken = self.members.get(usize::from(hello.node)).is_some_and(Option::is_some);
        let refusal = if hello.purpose != Purpose::Join {
            Some((
                Refusal::Unexpected,
                "the coordinator was asked for a link instead of admission".to_owned(),
            ))
        } else if hello.nodes != nodes {
            let text = format!("it was started for {} nodes, this mesh has {nodes}", hello.nodes);
            Some((Refusal::NodesDiffer, text))
        } else if hello.node == 0 || hello.node >= nodes {
            let text = format!("it calls itself node {}, this mesh takes 1 to {}", hello.node, nodes - 1);
            Some((Refusal::NodeOutOfRange, text))
        } else if taken {
            Some((Refusal::NodeTaken, format!("node {} is there already", hello.node)))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            self.lobby.refuse(channel, reason, NodeSet::of([hello.node]), text);
            return Ok(());
        }
        let mut listens_on = hello.listens_on;
        if listens_on.ip().is_unspecified() {
            // It listens everywhere: the others reach it where this connection came from.
            listens_on.set_ip(channel.peer_address().ip());
        }
        let mut present = self.present();
        present.0 |= 1 << hello.node;
        debug!(node = hello.node, %listens_on, "node admitted");
        let welcome = Message::Welcome { node: 0, nodes, present, job: self.job };
        if channel.send(&welcome).is_err() {
            return Err(JoinError::PeerVanished { node: hello.node });
        }
        self.send_all(&Message::Present(present))?;
        self.members[usize::from(hello.node)] = Some(Member { channel, listens_on, ready: false });
        Ok(())
    }

    fn send_all(&mut self, message: &Message) -> Result<(), JoinError> {
        for (node, member) in (0..).zip(&mut self.members) {
            if let Some(member) = member
                && member.channel.send(message).is_err()
            {
                return Err(JoinError::PeerVanished { node });
            }
        }
        Ok(())
    }

    fn listen_to_members(&mut self) -> Result<(), JoinError> {
        for (node, member) in (0..).zip(&mut self.members) {
            let Some(member) = member else { continue };
            let vanished = |error: ChannelError| {
                warn!(node, "node lost while the mesh was being formed: {error}");
                JoinError::PeerVanished { node }
            };
            member.channel.flush().map_err(vanished)?;
            if self.go_sent {
                continue;
            }
            match member.channel.receive().map_err(vanished)? {
                None => {}
                Some(Message::Ready) if self.roster_sent && !member.ready => member.ready = true,
                Some(message) => {
                    warn!(node, "node dropped: it sent a {} at the wrong time", message.name());
                    return Err(JoinError::PeerVanished { node });
                }
            }
        }
        Ok(())
    }

    /// Best effort: the connections end right after.
    fn tell_all(&mut self, error: &JoinError) {
        let (reason, concerned) = match error {
            JoinError::PeerVanished { node } => (Refusal::Vanished, NodeSet::of([*node])),
            JoinError::Timeout { missing, .. } => (Refusal::Timeout, NodeSet::of(missing.iter().copied())),
            _ => (Refusal::Unexpected, NodeSet::default()),
        };
        let refused = Message::Refused { reason, concerned, text: error.to_string() };
        for member in self.members.iter_mut().flatten() {
            let _ = member.channel.send(&refused);
        }
    }
}
