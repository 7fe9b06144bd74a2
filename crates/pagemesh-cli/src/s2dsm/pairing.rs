//! How two processes that know each other's port find each other, and which of them is the first.
//!
//! Each binds its own port before it dials the other's, so of two that start at any moments at least one dial succeeds. Who
//! finds nobody waits, and is the first when the other comes. When both dials succeed, both have said hello to each other,
//! and the two hellos decide (`Hello::precedes`).
//!
//! The listening socket later serves the mesh's own joining. So that no joining connection can be taken for a pairing one,
//! the first process says `first` only after its last `accept`, and the second process joins only after it has read that.
//! The first is sure of its part only when the second has answered: a peer that dies in between leaves it waiting on.
//!
//! Anybody may connect. Whoever says nothing, too much, or nonsense is dropped after two seconds at most, and nobody
//! waits for them: one `poll` watches all.

use super::Stage;
use super::hello::{FIRST, Hello, MAX_LINE_BYTES, Misfit, NO, SECOND};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long one step of an exchange may take: a stranger's first line, an answer, a dial.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a waiting process dials again. The peer's own dial normally comes first; this one helps where connections can
/// be made in one direction only.
const REDIAL_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that have not been answered yet; beyond it the oldest is dropped.
const MAX_PENDING: usize = 32;

/// Who pairs with whom.
#[derive(Clone, Debug)]
pub struct PairingOptions {
    /// The port to listen on.
    pub listen_port: u16,
    /// The address the peer listens on. When it is a loopback address this process listens on loopback only, otherwise on
    /// all interfaces.
    pub remote: SocketAddr,
    /// Both must have been started for the same.
    pub stage: Stage,
    /// How long to wait for the peer.
    pub wait: Duration,
}

/// The part this process plays.
#[derive(Debug)]
pub enum Part {
    /// Node 0, which asks for the number of pages. The socket is listening; the mesh is formed on it.
    First(TcpListener),
    /// Node 1. The first process can be joined at this address.
    Second(SocketAddr),
}

/// Why there is no pair. The text is complete.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum PairingError {
    /// Another process listens on the port.
    #[error("port {port} is in use by another process: choose another LISTEN_PORT, and tell the peer")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// The port cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Nobody came in time.
    #[error(
        "no peer on {remote} within {} s (last attempt: {last}): start the other s2dsm, or wait longer with --wait",
        waited.as_secs()
    )]
    NoPeer {
        /// Where the peer was expected.
        remote: SocketAddr,
        /// How long it was waited for.
        waited: Duration,
        /// What the last dial met.
        last: String,
    },
    /// The process on the other port is an s2dsm that pairs with somebody else or in another way.
    #[error("{remote} refused to pair: {reason}")]
    Refused {
        /// Who refused.
        remote: SocketAddr,
        /// Its words.
        reason: String,
    },
    /// The remote address leads back to this process.
    #[error("{remote} is this process itself: the peer must listen on a port of its own")]
    Myself {
        /// The address that was dialed.
        remote: SocketAddr,
    },
    /// The kernel refused something ordinary.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Finds the peer and the part of this process. `on_waiting` is called once, when there is nobody yet.
///
/// # Errors
/// See [`PairingError`]; all but `System` are for the user to mend.
pub fn pair(options: &PairingOptions, on_waiting: &mut dyn FnMut()) -> Result<Part, PairingError> {
    Pairing::new(options)?.run(on_waiting)
}

/// A connection on which at most one line is expected at a time.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What reading a line has come to.
enum Progress {
    More,
    Complete(Vec<u8>),
    /// Closed, broken, or too long.
    Dead,
}

impl Line {
    fn new(stream: TcpStream) -> io::Result<Line> {
        stream.set_nonblocking(true)?;
        Ok(Line { stream, buffer: Vec::new() })
    }

    /// Reads what is there.
    fn progress(&mut self) -> Progress {
        let mut chunk = [0; MAX_LINE_BYTES];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Progress::Dead,
                Ok(bytes) => self.buffer.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::More,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Progress::Dead,
            }
            // One line at a time: what follows it was said too early.
            match self.buffer.iter().position(|&byte| byte == b'\n') {
                Some(end) if end + 1 == self.buffer.len() => {
                    let mut line = std::mem::take(&mut self.buffer);
                    line.truncate(end);
                    return Progress::Complete(line);
                }
                None if self.buffer.len() < MAX_LINE_BYTES => {}
                _ => return Progress::Dead,
            }
        }
    }

    /// Sends a line. A fresh connection's send buffer has room for it, or the peer is broken.
    fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }
}

/// A connection that somebody made to us.
struct Inbound {
    line: Line,
    state: InboundState,
}

enum InboundState {
    /// Has until then to say hello.
    Unknown(Instant),
    /// The peer's. It waits for our answer.
    Peer(Hello),
    Dead,
}

/// Our own dial.
enum Outbound {
    /// None now; the next at that moment.
    None(Instant),
    /// The kernel is connecting.
    Connecting(TcpStream, Instant),
    /// The hello is said, the answer has until then.
    Said(Line, Hello, Instant),
}

struct Pairing {
    listener: TcpListener,
    remote: SocketAddr,
    /// What this process says of itself; `waiting` becomes true when a dial fails.
    hello: Hello,
    inbound: Vec<Inbound>,
    outbound: Outbound,
    last_dial: String,
    started: Instant,
    wait: Duration,
}

impl Pairing {
    fn new(options: &PairingOptions) -> Result<Pairing, PairingError> {
        let remote = options.remote;
        let interface = match remote.ip() {
            ip if ip.is_loopback() => ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = SocketAddr::new(interface, options.listen_port);
        let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => PairingError::PortInUse { port: options.listen_port },
            _ => PairingError::Listen { address, source },
        })?;
        listener.set_nonblocking(true).map_err(|source| PairingError::Listen { address, source })?;
        let mut nonce = [0; 16];
        rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| PairingError::System { what: "draw a random number", source: errno.into() })?;
        let started = Instant::now();
        let hello = Hello {
            listen_port: options.listen_port,
            remote_port: remote.port(),
            stage: options.stage,
            waiting: false,
            nonce: u128::from_le_bytes(nonce),
        };
        Ok(Pairing {
            listener,
            remote,
            hello,
            inbound: Vec::new(),
            outbound: Outbound::None(started),
            last_dial: "none".to_owned(),
            started,
            wait: options.wait,
        })
    }

    fn run(mut self, on_waiting: &mut dyn FnMut()) -> Result<Part, PairingError> {
        loop {
            let was_waiting = self.hello.waiting;
            if let Some(part) = self.advance_outbound()? {
                return Ok(part);
            }
            self.accept();
            self.advance_inbound()?;
            if self.confirm_peer() {
                self.listener
                    .set_nonblocking(false)
                    .map_err(|source| PairingError::System { what: "make the listener blocking", source })?;
                return Ok(Part::First(self.listener));
            }
            if self.hello.waiting && !was_waiting {
                on_waiting();
            }
            if self.started.elapsed() >= self.wait {
                return Err(PairingError::NoPeer {
                    remote: self.remote,
                    waited: self.wait,
                    last: self.last_dial,
                });
            }
            self.sleep()?;
        }
    }

    /// Takes our own dial as far as it goes. `Some` when the peer has said that it is the first.
    fn advance_outbound(&mut self) -> Result<Option<Part>, PairingError> {
        let now = Instant::now();
        match std::mem::replace(&mut self.outbound, Outbound::None(now + REDIAL_INTERVAL)) {
            Outbound::None(at) if now < at => self.outbound = Outbound::None(at),
            Outbound::None(_) => match start_dial(self.remote) {
                Ok(stream) => {
                    self.outbound = Outbound::Connecting(stream, now + STEP_TIMEOUT);
                    self.finish_dial();
                }
                Err(error) => self.dial_failed(error.to_string()),
            },
            Outbound::Connecting(stream, until) => {
                self.outbound = Outbound::Connecting(stream, until);
                self.finish_dial();
            }
            Outbound::Said(mut line, hello, until) => match line.progress() {
                Progress::More if now < until => self.outbound = Outbound::Said(line, hello, until),
                Progress::More => self.dial_failed("connected, but got no answer".to_owned()),
                Progress::Dead => self.dial_failed("connected, but was cut off".to_owned()),
                Progress::Complete(answer) => return self.answered(line, &answer),
            },
        }
        Ok(None)
    }

    fn answered(&mut self, mut line: Line, answer: &[u8]) -> Result<Option<Part>, PairingError> {
        let answer = String::from_utf8_lossy(answer);
        if answer == FIRST && line.say(SECOND).is_ok() {
            return Ok(Some(Part::Second(self.remote)));
        }
        if let Some(reason) = answer.strip_prefix(NO) {
            let reason = reason.escape_debug().to_string();
            return Err(PairingError::Refused { remote: self.remote, reason });
        }
        self.dial_failed("connected, but the answer was no pairing".to_owned());
        Ok(None)
    }

    /// Says hello if the connection stands; leaves it if the kernel is still at it.
    fn finish_dial(&mut self) {
        let now = Instant::now();
        let Outbound::Connecting(stream, until) =
            std::mem::replace(&mut self.outbound, Outbound::None(now + REDIAL_INTERVAL))
        else {
            return;
        };
        match dialed(&stream) {
            Ok(false) if now < until => self.outbound = Outbound::Connecting(stream, until),
            Ok(false) => self.dial_failed("no connection in time".to_owned()),
            Ok(true) => {
                let said = Line::new(stream).and_then(|mut line| {
                    line.say(&self.hello.to_string())?;
                    Ok(line)
                });
                match said {
                    Ok(line) => {
                        self.outbound = Outbound::Said(line, self.hello.clone(), now + STEP_TIMEOUT);
                    }
                    Err(error) => self.dial_failed(error.to_string()),
                }
            }
            Err(error) => self.dial_failed(error.to_string()),
        }
    }

    fn dial_failed(&mut self, why: String) {
        tracing::debug!(remote = %self.remote, why, "no peer yet");
        self.last_dial = why;
        self.hello.waiting = true;
    }

    fn accept(&mut self) {
        let until = Instant::now() + STEP_TIMEOUT;
        // Errors of accept(2) other than "nobody there" belong to one connection that is already gone.
        while let Ok((stream, from)) = self.listener.accept() {
            tracing::debug!(%from, "connection");
            let Ok(line) = Line::new(stream) else { continue };
            if self.inbound.len() == MAX_PENDING {
                self.inbound.remove(0);
            }
            self.inbound.push(Inbound { line, state: InboundState::Unknown(until) });
        }
    }

    fn advance_inbound(&mut self) -> Result<(), PairingError> {
        let now = Instant::now();
        for inbound in &mut self.inbound {
            let progress = inbound.line.progress();
            let next = match (&inbound.state, progress) {
                (InboundState::Unknown(until), Progress::More) if now < *until => continue,
                (InboundState::Peer(_), Progress::More) => continue,
                (InboundState::Unknown(_), Progress::Complete(line)) => {
                    match Hello::from_peer(&line, &self.hello) {
                        Ok(hello) if hello.nonce == self.hello.nonce => {
                            return Err(PairingError::Myself { remote: self.remote });
                        }
                        Ok(hello) => InboundState::Peer(hello),
                        Err(Misfit::Refused(reason)) => {
                            // Whether the reason arrives is the stranger's concern.
                            let _ = inbound.line.say(&format!("{NO}{reason}"));
                            InboundState::Dead
                        }
                        Err(Misfit::Stranger) => InboundState::Dead,
                    }
                }
                _ => InboundState::Dead,
            };
            inbound.state = next;
        }
        self.inbound.retain(|inbound| !matches!(inbound.state, InboundState::Dead));
        Ok(())
    }

    /// Takes the first part if it is ours to take and the peer agrees.
    fn confirm_peer(&mut self) -> bool {
        let ours_to_take = |theirs: &Hello| match &self.outbound {
            Outbound::None(_) => true,
            // Who has dialed whom is known only when the dial has ended.
            Outbound::Connecting(..) => false,
            Outbound::Said(_, ours, _) => ours.precedes(theirs),
        };
        let peer = self
            .inbound
            .iter()
            .position(|inbound| matches!(&inbound.state, InboundState::Peer(theirs) if ours_to_take(theirs)));
        let Some(peer) = peer else { return false };
        let link = self.inbound.remove(peer).line;
        // Our own hello is void from here on: no answer to it could be acted upon.
        self.outbound = Outbound::None(Instant::now());
        match agreed(link) {
            Ok(()) => true,
            Err(error) => {
                self.dial_failed(format!("the peer vanished while pairing: {error}"));
                false
            }
        }
    }

    /// Sleeps until a socket is ready or a deadline is due.
    fn sleep(&self) -> Result<(), PairingError> {
        let mut until = self.started + self.wait;
        let mut sockets = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let outbound: Option<(BorrowedFd<'_>, PollFlags)> = match &self.outbound {
            Outbound::None(at) => {
                until = until.min(*at);
                None
            }
            Outbound::Connecting(stream, at) => {
                until = until.min(*at);
                Some((stream.as_fd(), PollFlags::OUT))
            }
            Outbound::Said(line, _, at) => {
                until = until.min(*at);
                Some((line.stream.as_fd(), PollFlags::IN))
            }
        };
        sockets.extend(outbound.map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags)));
        for inbound in &self.inbound {
            sockets.push(PollFd::new(&inbound.line.stream, PollFlags::IN));
            if let InboundState::Unknown(at) = inbound.state {
                until = until.min(at);
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut sockets, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(PairingError::System { what: "poll", source: errno.into() }),
        }
    }
}

/// Starts a connection without waiting for it.
fn start_dial(remote: SocketAddr) -> io::Result<TcpStream> {
    let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &remote) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the connection stands (`false`: not yet).
fn dialed(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // TCP connects a socket to itself when the kernel happens to choose the dialed port as its own.
        Ok(peer) if peer == stream.local_addr()? => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says `first` and waits for `second`.
fn agreed(mut link: Line) -> io::Result<()> {
    link.say(FIRST)?;
    let until = Instant::now() + STEP_TIMEOUT;
    loop {
        match link.progress() {
            Progress::Complete(answer) if answer == SECOND.as_bytes() => return Ok(()),
            Progress::Complete(_) => return Err(io::ErrorKind::InvalidData.into()),
            Progress::Dead => return Err(io::ErrorKind::ConnectionReset.into()),
            Progress::More => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&link.stream, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
