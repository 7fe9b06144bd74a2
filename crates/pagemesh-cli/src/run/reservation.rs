//! A TCP port that stays free for node 0 for the whole run.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, bind, getsockname, socket_with};

use super::LaunchError;

/// A socket bound to a loopback port, never listening.
///
/// socket(7): two sockets may be bound to one address when both have `SO_REUSEADDR` and none of them listens yet. Node
/// 0 so can bind the port and listen, while the kernel gives it to no program that asks for any free port.
pub(super) struct Reservation {
    _socket: OwnedFd,
    address: SocketAddrV4,
}

impl Reservation {
    /// Reserves a free port of 127.0.0.1.
    pub(super) fn new() -> Result<Reservation, LaunchError> {
        let (socket, address) =
            reserve().map_err(LaunchError::system("reserve a port for the coordinator"))?;
        Ok(Reservation { _socket: socket, address })
    }

    /// The reserved address.
    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

fn reserve() -> rustix::io::Result<(OwnedFd, SocketAddrV4)> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let name: SocketAddrAny = getsockname(&socket)?;
    let address = SocketAddrV4::try_from(name)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn node_0_can_listen_on_the_reserved_port() {
        let reservation = Reservation::new().unwrap();
        // std sets SO_REUSEADDR on a listener, as every node does.
        let listener = TcpListener::bind(reservation.address()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), reservation.address().into());
    }

    #[test]
    fn two_runs_get_two_ports() {
        let one = Reservation::new().unwrap();
        let other = Reservation::new().unwrap();
        assert_ne!(one.address(), other.address());
    }
}
