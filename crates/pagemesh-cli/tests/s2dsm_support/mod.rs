//! What the s2dsm tests share: free ports, and s2dsm processes that are talked to as a user would.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub(crate) mod player;
#[path = "../user_support/mod.rs"]
pub(crate) mod user_support;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Two ports of the loopback interface that nobody uses. They lie below the range from which the kernel takes ports for
/// outgoing connections (`net.ipv4.ip_local_port_range`), so that they stay free until the process under test binds them.
pub(crate) fn two_ports() -> (u16, u16) {
    (port(), port())
}

fn port() -> u16 {
    const RANGE: u16 = 11_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..RANGE {
        let spread = (std::process::id() as u16).wrapping_mul(40_503) % RANGE;
        let port = 21_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % RANGE;
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port between 21000 and 32000");
}

/// Whether a process could listen on `port`. The question itself listens on nothing: a child that another thread forks at
/// this moment holds a copy of the socket until its exec, and must not keep the port from anybody.
fn is_free(port: u16) -> bool {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}

/// Waits until nobody listens on `port`: a listener that was dropped lives on in a child between fork and exec.
pub(crate) fn wait_until_free(port: u16) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_free(port) {
        assert!(Instant::now() < until, "port {port} stays in use");
        std::thread::yield_now();
    }
}
