//! Sockets as the mesh wants them, and waiting for several at once.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_congestion;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// A silent peer is probed after a part of the lease without traffic, and then every so often (`tcp(7)`).
const PROBES_A_LEASE: u32 = 4;
/// The shortest time between probes that the kernel knows.
const PROBE_PERIOD_MIN: Duration = Duration::from_secs(1);
/// The lease while nodes join.
const JOINING_LEASE: Duration = super::JoinOptions::LEASE;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;

/// The congestion control that does least, and that every Linux lets every user have (tcp(7), `TCP_CONGESTION`).
const PLAINEST: &str = "reno";

/// Sets the options of a link: no delay, and the lease of joining. Between two nodes of one host, where nothing is congested or lost, none of what more
/// elaborate congestion control does is of use: BBR measures and paces, which takes about 0.5 us a round trip of one page.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if stays_on_host(stream) {
        // Where it cannot be had, what the system gives does as well.
        let _ = set_tcp_congestion(stream, PLAINEST);
    }
    set_lease(stream, JOINING_LEASE)
}

/// Whether both ends have one address: nothing leaves this host.
fn stays_on_host(stream: &TcpStream) -> bool {
    let ends = (stream.local_addr(), stream.peer_addr());
    matches!(ends, (Ok(own), Ok(peer)) if own.ip() == peer.ip() || peer.ip().is_loopback())
}

/// Has the kernel end the connection when the peer's machine has been silent for so long: sent bytes stay without acknowledgement
/// (`TCP_USER_TIMEOUT`), or probes of a connection without traffic stay without an answer. With that option set it is the time that
/// counts, and not the number of probes (tcp(7)); it is looked at whenever a probe is due.
pub(super) fn set_lease(stream: &TcpStream, lease: Duration) -> io::Result<()> {
    let period = (lease / PROBES_A_LEASE).max(PROBE_PERIOD_MIN);
    let keepalive =
        TcpKeepalive::new().with_time(period).with_interval(period).with_retries(PROBES_A_LEASE - 1);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(lease))
}

/// A non-blocking listener. `SO_REUSEADDR`, so that a port that another process keeps reserved by a bound socket that
/// does not listen can be used, and one whose last connections are in TIME-WAIT as well.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Starts a connection without waiting for it. It is up, or has failed, when the socket becomes writable: see
/// [`connected`].
pub(super) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Whether a dialled connection is up. `Ok(false)`: not yet.
pub(super) fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // TCP lets a socket connect to itself when its own port was chosen to be the one it dials (RFC 9293, 3.5,
        // simultaneous open). Nobody listens there, then.
        Ok(peer) if stream.local_addr()? == peer => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until one of the descriptors is ready or the time has come. The caller then looks at all of them: a
/// handshake has few, and it is not a hot path.
pub(super) fn wait_until(watched: &[(BorrowedFd<'_>, PollFlags)], deadline: Instant) -> io::Result<()> {
    let mut descriptors: Vec<_> =
        watched.iter().map(|(descriptor, flags)| PollFd::from_borrowed_fd(*descriptor, *flags)).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
    match poll(&mut descriptors, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
