//! Guarantee: whoever connects to a node while a mesh is formed, and whatever it says or does not say, the nodes
//! form their mesh; and a node that really dies meanwhile is named to all.
//!
//! The listeners are open to every process of the machine, and to every machine where that was asked for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pagemesh_net::join::message::{HEADER_BYTES, MAX_BODY_BYTES};
use pagemesh_net::{JoinError, JoinOptions, Joined, Refusal, join};

const HELLO: u16 = 1;
const WELCOME: u16 = 2;
const REFUSED: u16 = 3;
const PRESENT: u16 = 4;
const ROSTER: u16 = 5;
const READY: u16 = 6;
const GO: u16 = 7;

fn message(version: u16, kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"PAGEMESH".to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn hello(node: u16, nodes: u16, purpose: u16, port: u16, job: [u8; 16]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [node, nodes, purpose, port] {
        body.extend_from_slice(&field.to_le_bytes());
    }
    body.extend_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
    body.extend_from_slice(&job);
    message(1, HELLO, &body)
}

/// A connection on which this test plays a node, or a stranger.
struct Played(TcpStream);

impl Played {
    fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self(stream)
    }

    fn says(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut played = Self::dial(address);
        played.0.write_all(bytes).unwrap();
        played
    }

    /// The next message: its kind and body.
    fn hears(&mut self) -> (u16, Vec<u8>) {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).unwrap();
        assert_eq!(&header[..10], b"PAGEMESH\x01\x00");
        let mut body = vec![0; u32::from_le_bytes(header[12..].try_into().unwrap()) as usize];
        self.0.read_exact(&mut body).unwrap();
        (u16::from_le_bytes([header[10], header[11]]), body)
    }

    /// The next message of this kind, past the news of who is present.
    fn hears_kind(&mut self, kind: u16) -> Vec<u8> {
        loop {
            let (found, body) = self.hears();
            if found == kind {
                return body;
            }
            assert_eq!(found, PRESENT, "waiting for a message of kind {kind}");
        }
    }

    fn must_be_refused_with(mut self, code: u16) {
        let body = self.hears_kind(REFUSED);
        assert_eq!(u16::from_le_bytes([body[0], body[1]]), code, "{}", String::from_utf8_lossy(&body[16..]));
        assert!(body.len() > 16, "a refusal says why");
    }

    fn must_be_hung_up_on(mut self) {
        let end = self.0.read(&mut [0; 64]);
        assert!(
            matches!(&end, Ok(0)) || end.as_ref().is_err_and(|error| error.raw_os_error() == Some(104)),
            "{end:?}"
        );
    }
}

/// Everything that must be refused or dropped by any listener of a mesh of 4.
fn pester(address: SocketAddr, job: [u8; 16]) -> Vec<Played> {
    let good = hello(3, 4, 2, 0, job);
    let mut oversized = good.clone();
    oversized[12..16].copy_from_slice(&(MAX_BODY_BYTES as u32 + 1).to_le_bytes());
    let mut wrong_version = good.clone();
    wrong_version[8] = 2;
    let mut bad_purpose = good.clone();
    bad_purpose[20] = 9;
    Played::says(address, b"GET / HTTP/1.1\r\nHost: pagemesh\r\n\r\n").must_be_hung_up_on();
    Played::says(address, &[0x16, 3, 1, 2, 0]).must_be_hung_up_on();
    Played::says(address, &oversized).must_be_hung_up_on();
    Played::says(address, &bad_purpose).must_be_hung_up_on();
    Played::says(address, &message(1, 99, &[])).must_be_hung_up_on();
    Played::says(address, &message(1, HELLO, &[0; 39])).must_be_hung_up_on();
    Played::says(address, &wrong_version).must_be_refused_with(1);
    Played::says(address, &message(1, GO, &[])).must_be_refused_with(8);
    Played::says(address, &hello(3, 5, 1, 0, job)).must_be_refused_with(if job == [0; 16] { 2 } else { 8 });
    Played::says(address, &hello(3, 5, 2, 0, job)).must_be_refused_with(if job == [0; 16] { 8 } else { 2 });
    drop(Played::dial(address));
    drop(Played::says(address, &good[..30]));
    // These stay: one says nothing, one stops in the header, one in the body.
    vec![Played::dial(address), Played::says(address, &good[..9]), Played::says(address, &good[..30])]
}

fn start(options: JoinOptions) -> JoinHandle<Result<Joined, JoinError>> {
    thread::spawn(move || join(options))
}

fn coordinator(nodes: u16) -> (SocketAddr, JoinHandle<Result<Joined, JoinError>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (address, start(JoinOptions { listener: Some(listener), ..JoinOptions::new(0, nodes, address) }))
}

/// Plays node `node`: is admitted, and returns its connection and the job id.
fn play(node: u16, nodes: u16, address: SocketAddr, port: u16) -> (Played, [u8; 16]) {
    let mut played = Played::says(address, &hello(node, nodes, 1, port, [0; 16]));
    let (kind, body) = played.hears();
    assert_eq!(kind, WELCOME);
    (played, body[16..32].try_into().unwrap())
}

fn roster_address(roster: &[u8], node: usize) -> SocketAddr {
    let entry = &roster[node * 20..][..20];
    assert_eq!(&entry[..16], Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
    SocketAddr::from((Ipv4Addr::LOCALHOST, u16::from_le_bytes([entry[16], entry[17]])))
}

#[test]
fn strangers_at_the_coordinator() {
    let (address, zero) = coordinator(4);
    let stayed = pester(address, [0; 16]);
    Played::says(address, &hello(4, 4, 1, 0, [0; 16])).must_be_refused_with(3);
    Played::says(address, &hello(u16::MAX, 4, 1, 0, [0; 16])).must_be_refused_with(3);
    Played::says(address, &hello(0, 4, 1, 0, [0; 16])).must_be_refused_with(3);
    let others: Vec<_> = (1..4).map(|node| start(JoinOptions::new(node, 4, address))).collect();
    for thread in others.into_iter().chain([zero]) {
        assert_eq!(thread.join().unwrap().unwrap().streams.iter().flatten().count(), 3);
    }
    drop(stayed);
}

#[test]
fn strangers_at_the_listener_of_another_node() {
    let (address, zero) = coordinator(4);
    let one = start(JoinOptions::new(1, 4, address));
    let two = start(JoinOptions::new(2, 4, address));
    let (mut three, job) = play(3, 4, address, 1);
    let roster = three.hears_kind(ROSTER);
    let mut links = Vec::new();
    let mut stayed = Vec::new();
    for node in [1, 2] {
        let listener = roster_address(&roster, node);
        stayed.extend(pester(listener, job));
        let mut wrong_job = job;
        wrong_job[15] ^= 1;
        Played::says(listener, &hello(3, 4, 2, 0, wrong_job)).must_be_refused_with(5);
        Played::says(listener, &hello(3, 4, 1, 0, job)).must_be_refused_with(8);
        Played::says(listener, &hello(node as u16, 4, 2, 0, job)).must_be_refused_with(3);
        Played::says(listener, &hello(0, 4, 2, 0, job)).must_be_refused_with(3);
        Played::says(listener, &hello(64, 4, 2, 0, job)).must_be_refused_with(3);
        let mut link = Played::says(listener, &hello(3, 4, 2, 0, job));
        assert_eq!(link.hears().0, WELCOME);
        links.push(link);
        Played::says(listener, &hello(3, 4, 2, 0, job)).must_be_refused_with(4);
    }
    three.0.write_all(&message(1, READY, &[])).unwrap();
    three.hears_kind(GO);
    // The introduction of a node that wants no ring.
    let mut introduction = [0; 48];
    introduction[..8].copy_from_slice(b"PMESHWAY");
    for link in std::iter::once(&mut three).chain(&mut links) {
        link.0.write_all(&introduction).unwrap();
    }
    for thread in [zero, one, two] {
        assert_eq!(thread.join().unwrap().unwrap().streams.iter().flatten().count(), 3);
    }
}

#[test]
fn a_flood_of_silent_strangers_is_bounded() {
    let (address, zero) = coordinator(2);
    let silent: Vec<_> = (0..300).map(|_| Played::dial(address)).collect();
    let one = start(JoinOptions::new(1, 2, address));
    assert!(zero.join().unwrap().is_ok() && one.join().unwrap().is_ok());
    drop(silent);
}

#[test]
fn the_second_of_two_nodes_with_one_number_is_refused() {
    let (address, zero) = coordinator(3);
    let (first, _) = play(2, 3, address, 1);
    match join(JoinOptions::new(2, 3, address)) {
        Err(JoinError::Refused { node: 2, by: 0, reason: Refusal::NodeTaken, text }) => {
            assert!(text.contains("node 2"), "{text}");
        }
        other => panic!("expected a refusal: {other:?}"),
    }
    match join(JoinOptions::new(1, 4, address)) {
        Err(JoinError::Refused { node: 1, by: 0, reason: Refusal::NodesDiffer, .. }) => {}
        other => panic!("expected a refusal: {other:?}"),
    }
    drop(first);
    assert!(matches!(zero.join().unwrap(), Err(JoinError::PeerVanished { node: 2 })));
}

#[test]
fn a_node_that_dies_before_all_have_come_is_named_to_all() {
    let (address, zero) = coordinator(4);
    let (two, _) = play(2, 4, address, 1);
    let (mut three, _) = play(3, 4, address, 1);
    let one = start(JoinOptions::new(1, 4, address));
    // Complete now: node 1 has been admitted when the roster comes.
    three.hears_kind(ROSTER);
    drop(two);
    let body = three.hears_kind(REFUSED);
    assert_eq!((body[0], body[8]), (7, 1 << 2));
    for thread in [zero, one] {
        assert!(matches!(thread.join().unwrap(), Err(JoinError::PeerVanished { node: 2 })));
    }
}

#[test]
fn a_node_that_dies_while_the_links_are_made_is_named_to_all() {
    let (address, zero) = coordinator(3);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (mut one, _) = play(1, 3, address, listener.local_addr().unwrap().port());
    let two = start(JoinOptions::new(2, 3, address));
    one.hears_kind(ROSTER);
    let (dialled, _) = listener.accept().unwrap();
    drop((one, dialled, listener));
    for thread in [zero, two] {
        assert!(matches!(thread.join().unwrap(), Err(JoinError::PeerVanished { node: 1 })));
    }
}

#[test]
fn a_coordinator_that_dies_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let one = start(JoinOptions::new(1, 3, listener.local_addr().unwrap()));
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 56]).unwrap();
    let mut body = [0; 32];
    body[2] = 3;
    body[8] = 0b011;
    stream.write_all(&message(1, WELCOME, &body)).unwrap();
    drop(stream);
    assert!(matches!(one.join().unwrap(), Err(JoinError::PeerVanished { node: 0 })));
}

#[test]
fn a_node_that_speaks_out_of_turn_is_dropped() {
    let (address, zero) = coordinator(2);
    let (mut one, _) = play(1, 2, address, 1);
    one.hears_kind(ROSTER);
    one.0.write_all(&message(1, GO, &[])).unwrap();
    assert!(matches!(zero.join().unwrap(), Err(JoinError::PeerVanished { node: 1 })));
}
