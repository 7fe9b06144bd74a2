//! Guarantee: `join` returns on no node before every node is linked to every other, or it says on every node why not.
//!
//! A program that starts on a partial mesh would fault on a page whose home it cannot reach.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pagemesh_net::{JoinError, JoinOptions, Joined, join};

fn coordinator() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn start(node: u16, nodes: u16, address: SocketAddr) -> JoinHandle<Result<Joined, JoinError>> {
    start_with(JoinOptions::new(node, nodes, address))
}

fn start_with(options: JoinOptions) -> JoinHandle<Result<Joined, JoinError>> {
    thread::spawn(move || join(options))
}

/// What ends a link to a machine that is silent; without it a node that was cut off would be waited for until TCP itself gives
/// up, for a quarter of an hour.
#[test]
fn the_kernel_is_told_the_lease() {
    for (lease, period) in
        [(JoinOptions::LEASE, 1), (JoinOptions::LEASE_MIN, 1), (Duration::from_mins(2), 30)]
    {
        let (listener, address) = coordinator();
        let first =
            start_with(JoinOptions { listener: Some(listener), lease, ..JoinOptions::new(0, 2, address) });
        let second = start_with(JoinOptions { lease, ..JoinOptions::new(1, 2, address) });
        for joined in [first, second] {
            let joined = joined.join().unwrap().unwrap();
            for stream in joined.streams.iter().flatten() {
                let socket = socket2::SockRef::from(stream);
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(lease));
                assert!(socket.keepalive().unwrap());
                assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(period));
                assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(period));
            }
        }
    }
    for lease in [Duration::ZERO, Duration::from_millis(999), Duration::from_hours(2)] {
        let (_listener, address) = coordinator();
        let refused = join(JoinOptions { lease, ..JoinOptions::new(1, 2, address) });
        assert!(matches!(refused, Err(JoinError::Configuration { .. })), "{refused:?}");
    }
}

/// Every pair exchanges a byte in both directions.
fn check_links(mut mesh: Vec<Joined>) {
    let nodes = mesh.len();
    for (node, joined) in (0u16..).zip(&mut mesh) {
        assert_eq!((joined.node, usize::from(joined.nodes), joined.streams.len()), (node, nodes, nodes));
        assert!(joined.streams[usize::from(node)].is_none());
        for stream in joined.streams.iter_mut().flatten() {
            assert!(stream.nodelay().unwrap());
            let would_block = stream.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(
                would_block,
                Err(ErrorKind::WouldBlock),
                "non-blocking and nothing left of the handshake"
            );
        }
    }
    for (node, joined) in (0u8..).zip(&mut mesh) {
        for (peer, stream) in (0u8..).zip(&mut joined.streams) {
            if let Some(stream) = stream {
                stream.write_all(&[node, peer]).unwrap();
            }
        }
    }
    for (node, joined) in (0u8..).zip(&mut mesh) {
        for (peer, stream) in (0u8..).zip(&mut joined.streams) {
            let Some(stream) = stream else { continue };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [peer, node], "the link between {node} and {peer}");
        }
    }
}

#[test]
fn meshes_of_many_sizes() {
    for nodes in [1, 2, 3, 4, 9] {
        let (listener, address) = coordinator();
        let first = JoinOptions { listener: Some(listener), ..JoinOptions::new(0, nodes, address) };
        let mut threads = vec![start_with(first)];
        threads.extend(
            (1..nodes).rev().map(|node| start(node, nodes, address)).collect::<Vec<_>>().into_iter().rev(),
        );
        check_links(threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect());
    }
}

#[test]
fn one_node_needs_no_socket() {
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 1));
    let joined = join(JoinOptions::new(0, 1, nowhere)).unwrap();
    assert_eq!(joined.streams.len(), 1);
}

#[test]
fn node_0_comes_late_and_to_a_reserved_port() {
    // A launcher keeps the port with a socket that is bound and does not listen.
    let reservation = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    reservation.set_reuse_address(true).unwrap();
    reservation.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = reservation.local_addr().unwrap().as_socket().unwrap();
    // One that hangs up is no coordinator: node 1 has dialled once when it is there, and must dial again.
    let impostor = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    impostor.set_reuse_address(true).unwrap();
    impostor.bind(&address.into()).unwrap();
    impostor.listen(1).unwrap();
    let one = start(1, 2, address);
    drop(impostor.accept().unwrap());
    drop(impostor);
    let zero = start(0, 2, address);
    check_links(vec![zero.join().unwrap().unwrap(), one.join().unwrap().unwrap()]);
}

#[test]
fn the_missing_nodes_are_named() {
    let (listener, address) = coordinator();
    let timeout = Duration::from_millis(400);
    let zero =
        start_with(JoinOptions { listener: Some(listener), timeout, ..JoinOptions::new(0, 4, address) });
    let two = start_with(JoinOptions { timeout: timeout * 20, ..JoinOptions::new(2, 4, address) });
    for thread in [zero, two] {
        match thread.join().unwrap() {
            Err(JoinError::Timeout { missing, .. }) => assert_eq!(missing, [1, 3]),
            other => panic!("expected a timeout: {other:?}"),
        }
    }
}

#[test]
fn a_node_without_a_coordinator_says_so() {
    let (listener, address) = coordinator();
    drop(listener);
    let timeout = Duration::from_millis(200);
    match join(JoinOptions { timeout, ..JoinOptions::new(1, 2, address) }) {
        Err(JoinError::Timeout { missing, .. }) => assert_eq!(missing, [0]),
        other => panic!("expected a timeout: {other:?}"),
    }
    // The port listens but nobody ever answers.
    let (_listener, address) = coordinator();
    match join(JoinOptions { timeout, ..JoinOptions::new(1, 2, address) }) {
        Err(JoinError::Timeout { missing, .. }) => assert_eq!(missing, [0]),
        other => panic!("expected a timeout: {other:?}"),
    }
}

#[test]
fn a_taken_port_is_reported() {
    let (_listener, address) = coordinator();
    match join(JoinOptions::new(0, 2, address)) {
        Err(JoinError::AddressInUse { address: reported }) => assert_eq!(reported, address),
        other => panic!("expected an address in use: {other:?}"),
    }
}

#[test]
fn options_that_cannot_work_fail_at_once() {
    let (listener, address) = coordinator();
    for (node, nodes) in [(0, 0), (2, 2), (9, 4), (0, 65), (64, 65)] {
        let result = join(JoinOptions::new(node, nodes, address));
        assert!(matches!(result, Err(JoinError::Configuration { .. })), "{node} of {nodes}: {result:?}");
    }
    let result = join(JoinOptions { listener: Some(listener), ..JoinOptions::new(1, 2, address) });
    assert!(matches!(result, Err(JoinError::Configuration { .. })), "{result:?}");
    let elsewhere = JoinOptions { listen_address: [192, 0, 2, 1].into(), ..JoinOptions::new(1, 2, address) };
    let result = join(elsewhere);
    assert!(matches!(result, Err(JoinError::BadAddress { .. })), "{result:?}");
    for (node, address) in
        [(0, "127.0.0.1:0"), (1, "127.0.0.1:0"), (1, "0.0.0.0:4000"), (0, "192.0.2.1:4000")]
    {
        let result = join(JoinOptions::new(node, 2, address.parse().unwrap()));
        assert!(matches!(result, Err(JoinError::BadAddress { .. })), "{node} at {address}: {result:?}");
    }
}

#[test]
fn a_coordinator_that_is_something_else_is_recognised() {
    let (listener, address) = coordinator();
    let one = start(1, 2, address);
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
    assert!(matches!(one.join().unwrap(), Err(JoinError::NotPagemesh { .. })));
    drop(TcpStream::connect(address));
}
