//! After the mesh is formed, before its first message: which links get a ring in shared memory.
//!
//! Every two nodes tell each other over their TCP connection, as the first thing on it, what they want and on which host
//! they are (an *introduction*). Where both want a ring and the hosts are the same, the node with the larger number dials a
//! socket of the other (`unix(7)`, abstract, of a random name), which sends it the memory and the means to call each other
//! (`SCM_RIGHTS`). Each sees in `SO_PEERCRED` that the other is of its own user; who is not gets nothing. The node
//! with the larger number then says over TCP how it went (a *verdict*, one byte), and both do accordingly. So both
//! directions of a link change at its beginning or never, and no message is ever on both ways.
//!
//! | offset | bytes | field | value |
//! |---|---|---|---|
//! | 0 | 8 | magic | `PMESHWAY` |
//! | 8 | 1 | wish | 0 TCP only, 1 a ring where it can be had |
//! | 9 | 7 | | zeros |
//! | 16 | 16 | host | the boot id of the kernel; zeros when it is not known |
//! | 32 | 8 | name | the sender's socket is `pagemesh-` and these bytes in hexadecimal digits |
//! | 40 | 8 | token | to be said to that socket, by this peer only |
//!
//! On that socket the peer says its token; the answer is one byte, 1, with three descriptors: the memory, the bell that the
//! peer rings, and the bell that rings for the peer. A verdict is 0 for a ring; otherwise 1 to 5 say, in the order of
//! [`NoRing`], why not.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tracing::debug;

use super::error::JoinError;
use super::{JoinOptions, socket};
use crate::ring::{LinkKind, NoRing, RingLink, RingSource, Transport};

const MAGIC: [u8; 8] = *b"PMESHWAY";
const INTRODUCTION_BYTES: usize = 48;
/// How long a caller on the local socket may take to say its token: it is of our user and has it at hand.
const TOKEN_TIME: Duration = Duration::from_secs(2);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a node says of itself to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Introduction {
    wishes_ring: bool,
    host: [u8; 16],
    name: [u8; 8],
    token: [u8; 8],
}

impl Introduction {
    fn encode(self) -> [u8; INTRODUCTION_BYTES] {
        let mut bytes = [0; INTRODUCTION_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.wishes_ring.into();
        bytes[16..32].copy_from_slice(&self.host);
        bytes[32..40].copy_from_slice(&self.name);
        bytes[40..].copy_from_slice(&self.token);
        bytes
    }

    fn decode(bytes: &[u8; INTRODUCTION_BYTES]) -> Result<Self, String> {
        if bytes[..8] != MAGIC {
            return Err("what it sent first is no introduction".to_owned());
        }
        let (mut host, mut name, mut token) = ([0; 16], [0; 8], [0; 8]);
        host.copy_from_slice(&bytes[16..32]);
        name.copy_from_slice(&bytes[32..40]);
        token.copy_from_slice(&bytes[40..]);
        Ok(Self { wishes_ring: bytes[8] == 1, host, name, token })
    }

    /// Whether a ring is worth trying between the two.
    fn suits(&self, other: &Self) -> Result<(), NoRing> {
        if !self.wishes_ring || !other.wishes_ring {
            Err(NoRing::NotWanted)
        } else if self.host != other.host || self.host == [0; 16] {
            Err(NoRing::OtherHost)
        } else {
            Ok(())
        }
    }
}

/// What came of a link.
pub(super) type Found = (LinkKind, Option<RingLink>);

/// Introduces this node to all others; returns what each link is, `None` in this node's place.
pub(super) fn introduce(
    options: &JoinOptions,
    streams: &[Option<TcpStream>],
    deadline: Instant,
) -> Result<Vec<Option<Found>>, JoinError> {
    let mut host = Host { options, deadline, listener: None, own: Vec::new(), theirs: Vec::new() };
    host.exchange(streams)?;
    let mut found: Vec<Option<Found>> = streams.iter().map(|_| None).collect();
    // Those with smaller numbers are asked first, and answer whoever asks them: nobody waits in a circle.
    for (peer, stream) in (0..).zip(streams).take(usize::from(options.node)) {
        if let Some(stream) = stream {
            found[usize::from(peer)] = Some(host.ask(peer, stream)?);
        }
    }
    host.answer_all(streams, &mut found)?;
    for (peer, found) in (0..).zip(&found) {
        match found {
            Some((LinkKind::Tcp(reason), _)) if options.transport == Transport::Ring => {
                return Err(JoinError::NoRing { node: peer, reason: *reason });
            }
            Some((kind, _)) => debug!(peer, ?kind, "link"),
            None => {}
        }
    }
    Ok(found)
}

struct Host<'a> {
    options: &'a JoinOptions,
    deadline: Instant,
    listener: Option<UnixListener>,
    own: Vec<Introduction>,
    theirs: Vec<Option<Introduction>>,
}

impl Host<'_> {
    fn source(&self) -> Option<&dyn RingSource> {
        self.options.rings.as_deref().filter(|_| self.options.transport != Transport::Tcp)
    }

    /// Tells every peer about this node, and hears about them.
    fn exchange(&mut self, streams: &[Option<TcpStream>]) -> Result<(), JoinError> {
        let mut name = [0; 8];
        if self.source().is_some() {
            name = random()?;
            let bound = address(name).and_then(|address| UnixListener::bind_addr(&address));
            match bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener)) {
                Ok(listener) => self.listener = Some(listener),
                Err(error) => debug!(%error, "no local socket: all links are TCP"),
            }
        }
        let wishes_ring = self.listener.is_some();
        let host = if wishes_ring { boot_id() } else { [0; 16] };
        for _ in streams {
            self.own.push(Introduction { wishes_ring, host, name, token: random()? });
        }
        for (peer, stream) in (0..).zip(streams) {
            if let Some(stream) = stream {
                let bytes = self.own[usize::from(peer)].encode();
                self.send(peer, stream, &bytes)?;
            }
        }
        for (peer, stream) in (0..).zip(streams) {
            let Some(stream) = stream else {
                self.theirs.push(None);
                continue;
            };
            let mut bytes = [0; INTRODUCTION_BYTES];
            self.receive(peer, stream, &mut bytes)?;
            let theirs = Introduction::decode(&bytes).map_err(|what| {
                let address = stream.peer_addr().unwrap_or(super::UNSPECIFIED);
                JoinError::NotPagemesh { address, what }
            })?;
            self.theirs.push(Some(theirs));
        }
        Ok(())
    }

    fn suits(&self, peer: u16) -> Result<Introduction, NoRing> {
        let theirs = self.theirs[usize::from(peer)].ok_or(NoRing::NotWanted)?;
        self.own[usize::from(peer)].suits(&theirs).map(|()| theirs)
    }

    /// Asks a node with a smaller number for a ring, and tells it how that went.
    fn ask(&self, peer: u16, stream: &TcpStream) -> Result<Found, JoinError> {
        let theirs = match self.suits(peer) {
            Ok(theirs) => theirs,
            Err(reason) => return Ok((LinkKind::Tcp(reason), None)),
        };
        let got = self.dial(&theirs);
        let verdict = got.as_ref().map_or_else(|reason| code(*reason), |_| 0);
        self.send(peer, stream, &[verdict])?;
        Ok(match got {
            Ok(link) => (LinkKind::Ring, Some(link)),
            Err(reason) => (LinkKind::Tcp(reason), None),
        })
    }

    fn dial(&self, theirs: &Introduction) -> Result<RingLink, NoRing> {
        let source = self.source().ok_or(NoRing::NotWanted)?;
        let connected = address(theirs.name).and_then(|address| UnixStream::connect_addr(&address));
        let mut socket = connected.map_err(|_| NoRing::Unreachable)?;
        if !is_own_user(&socket) {
            return Err(NoRing::OtherUser);
        }
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let said = socket.set_read_timeout(Some(left)).and_then(|()| socket.write_all(&theirs.token));
        said.map_err(|_| NoRing::Unreachable)?;
        // Closed without an answer: it has seen another user here, or has no memory.
        let [file, peer_bell, own_bell] = receive_descriptors(&socket).ok_or(NoRing::Refused)?;
        let end = source.open(file).map_err(|error| {
            debug!(%error, "a peer's shared memory is not used");
            NoRing::Refused
        })?;
        Ok(RingLink::new(end, own_bell, peer_bell))
    }

    /// Gives rings to the nodes with larger numbers, in the order in which they ask, until each has said how it went.
    fn answer_all(
        &self,
        streams: &[Option<TcpStream>],
        found: &mut [Option<Found>],
    ) -> Result<(), JoinError> {
        let mut given: Vec<Option<RingLink>> = streams.iter().map(|_| None).collect();
        let mut waiting = Vec::new();
        for (peer, stream) in (0..).zip(streams).skip(usize::from(self.options.node) + 1) {
            match (stream, self.suits(peer)) {
                (Some(stream), Ok(_)) => waiting.push((peer, stream)),
                (Some(_), Err(reason)) => found[usize::from(peer)] = Some((LinkKind::Tcp(reason), None)),
                (None, _) => {}
            }
        }
        let Some(listener) = &self.listener else { return Ok(()) };
        while !waiting.is_empty() {
            self.in_time(waiting.iter().map(|(peer, _)| *peer))?;
            let mut watched = vec![(listener.as_fd(), PollFlags::IN)];
            watched.extend(waiting.iter().map(|(_, stream)| (stream.as_fd(), PollFlags::IN)));
            socket::wait_until(&watched, self.deadline).map_err(JoinError::io("waiting for rings"))?;
            while let Ok((caller, _)) = listener.accept() {
                self.answer(caller, &mut given);
            }
            let mut still = Vec::new();
            for (peer, stream) in waiting {
                let Some(verdict) = verdict(peer, stream)? else {
                    still.push((peer, stream));
                    continue;
                };
                let link = given[usize::from(peer)].take();
                found[usize::from(peer)] = Some(match (reason(verdict), link) {
                    (None, Some(link)) => (LinkKind::Ring, Some(link)),
                    (None, None) => {
                        let address = stream.peer_addr().unwrap_or(super::UNSPECIFIED);
                        let what = format!("node {peer} says that it has a ring, and was given none");
                        return Err(JoinError::NotPagemesh { address, what });
                    }
                    (Some(reason), _) => (LinkKind::Tcp(reason), None),
                });
            }
            waiting = still;
        }
        Ok(())
    }

    /// Somebody has connected to the local socket. Whoever is not of our user, or has no token of ours, gets nothing.
    fn answer(&self, mut caller: UnixStream, given: &mut [Option<RingLink>]) {
        if !is_own_user(&caller) {
            debug!("a process of another user asked for a ring");
            return;
        }
        let mut token = [0; 8];
        let heard = caller
            .set_nonblocking(false)
            .and_then(|()| caller.set_read_timeout(Some(TOKEN_TIME)))
            .and_then(|()| caller.read_exact(&mut token));
        let peer = self.own.iter().position(|own| own.token == token);
        let (Ok(()), Some(peer)) = (heard, peer.filter(|peer| *peer > usize::from(self.options.node))) else {
            debug!("a process without a token asked for a ring");
            return;
        };
        match self.source().map(|source| give(source, &caller)) {
            Some(Ok(link)) => given[peer] = Some(link),
            Some(Err(error)) => debug!(peer, %error, "no ring could be made"),
            None => {}
        }
    }

    fn in_time(&self, missing: impl Iterator<Item = u16>) -> Result<(), JoinError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let (after, waiting_for) = (self.options.timeout, "the nodes' words on how their links are to be");
        Err(JoinError::Timeout { after, waiting_for, missing: missing.collect() })
    }

    fn send(&self, peer: u16, mut stream: &TcpStream, bytes: &[u8]) -> Result<(), JoinError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => self.after(peer, stream, PollFlags::OUT, &error)?,
            }
        }
        Ok(())
    }

    fn receive(&self, peer: u16, mut stream: &TcpStream, bytes: &mut [u8]) -> Result<(), JoinError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(JoinError::PeerVanished { node: peer }),
                Ok(count) => filled += count,
                Err(error) => self.after(peer, stream, PollFlags::IN, &error)?,
            }
        }
        Ok(())
    }

    /// Waits where the stream was not ready; gives up where it failed.
    fn after(
        &self,
        peer: u16,
        stream: &TcpStream,
        flags: PollFlags,
        error: &io::Error,
    ) -> Result<(), JoinError> {
        if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
            return Err(JoinError::PeerVanished { node: peer });
        }
        self.in_time(std::iter::once(peer))?;
        socket::wait_until(&[(stream.as_fd(), flags)], self.deadline)
            .map_err(JoinError::io("waiting for the introduction of a node"))
    }
}

/// What a peer said, if it has said it; see [`reason`].
fn verdict(peer: u16, mut stream: &TcpStream) -> Result<Option<u8>, JoinError> {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(1) => Ok(Some(byte[0])),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        _ => Err(JoinError::PeerVanished { node: peer }),
    }
}

const REASONS: [NoRing; 5] =
    [NoRing::NotWanted, NoRing::OtherHost, NoRing::Unreachable, NoRing::OtherUser, NoRing::Refused];

fn code(reason: NoRing) -> u8 {
    1 + REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1) as u8
}

/// Why there is no ring; `None` when there is one.
fn reason(code: u8) -> Option<NoRing> {
    let index = usize::from(code).checked_sub(1)?;
    Some(REASONS.get(index).copied().unwrap_or(NoRing::Refused))
}

fn random() -> Result<[u8; 8], JoinError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| JoinError::Io { doing: "drawing a token", source: errno.into() })?;
    Ok(bytes)
}

/// Tells kernels apart, each time they start; the same in every container of a host.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let digits: String = text.trim().chars().filter(|letter| *letter != '-').collect();
    u128::from_str_radix(&digits, 16).map_or([0; 16], u128::to_be_bytes)
}

fn address(name: [u8; 8]) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("pagemesh-{:016x}", u64::from_be_bytes(name)))
}

/// In a user namespace that does not know the peer's user, the kernel says the overflow user, which is not ours either.
fn is_own_user(socket: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Makes a ring and sends its other end.
fn give(source: &dyn RingSource, caller: &UnixStream) -> io::Result<RingLink> {
    let (file, end) = source.create()?;
    let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let (own_bell, peer_bell) = (bell()?, bell()?);
    let descriptors = [file.as_fd(), own_bell.as_fd(), peer_bell.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    rustix::net::sendmsg(caller, &[IoSlice::new(&[1])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(RingLink::new(end, own_bell, peer_bell))
}

/// The memory, the bell of whoever sends them, and the bell for this node.
fn receive_descriptors(socket: &UnixStream) -> Option<[OwnedFd; 3]> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    if received.ok()?.bytes != 1 || byte != [1] {
        return None;
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    descriptors.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_is_laid_out_as_documented() {
        let said = Introduction { wishes_ring: true, host: [2; 16], name: [3; 8], token: [4; 8] };
        let bytes = said.encode();
        assert_eq!(&bytes[..17], b"PMESHWAY\x01\0\0\0\0\0\0\0\x02");
        assert_eq!((bytes[31], bytes[32], bytes[39], bytes[40], bytes[47]), (2, 3, 3, 4, 4));
        assert_eq!(Introduction::decode(&bytes), Ok(said));
        assert!(Introduction::decode(&[0; 48]).is_err());
    }

    #[test]
    fn hosts_that_are_not_known_are_not_the_same() {
        let known = Introduction { wishes_ring: true, host: [1; 16], name: [0; 8], token: [0; 8] };
        let unknown = Introduction { host: [0; 16], ..known };
        let other = Introduction { host: [2; 16], ..known };
        let unwilling = Introduction { wishes_ring: false, ..known };
        assert_eq!(known.suits(&known), Ok(()));
        assert_eq!(known.suits(&other), Err(NoRing::OtherHost));
        assert_eq!(unknown.suits(&unknown), Err(NoRing::OtherHost));
        assert_eq!(known.suits(&unwilling), Err(NoRing::NotWanted));
    }

    #[test]
    fn every_reason_has_its_code() {
        for known in REASONS {
            assert_eq!(reason(code(known)), Some(known));
        }
        assert_eq!(reason(0), None);
        assert_eq!(reason(200), Some(NoRing::Refused));
    }
}
