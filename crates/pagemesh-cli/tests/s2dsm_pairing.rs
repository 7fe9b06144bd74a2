//! Two processes pair whichever is started first, and exactly one of them is the first process.
//!
//! If both took the first part, two regions would exist and each user would see half of the truth; if neither did, both
//! would wait for ever. The listening socket is used for pairing and then for joining, so a connection must never be lost
//! or misread in between. And anybody can connect to a port: strangers must not disturb.

mod s2dsm_support;

use pagemesh_cli::s2dsm::Stage;
use pagemesh_cli::s2dsm::pairing::{PairingError, PairingOptions, Part, pair};
use s2dsm_support::player::{Connection, PAGES_PROMPT, Player};
use s2dsm_support::{two_ports, wait_until_free};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

fn options(listen_port: u16, remote_port: u16) -> PairingOptions {
    let remote = SocketAddr::from(([127, 0, 0, 1], remote_port));
    PairingOptions { listen_port, remote, stage: Stage::Shared, wait: WAIT }
}

/// Pairs in a thread of its own; the receiver gets a word when it waits.
fn pair_in_thread(
    options: PairingOptions,
) -> (JoinHandle<Result<Part, PairingError>>, mpsc::Receiver<&'static str>) {
    let (sender, receiver) = mpsc::channel();
    let handle = thread::spawn(move || pair(&options, &mut || sender.send("waiting").unwrap()));
    (handle, receiver)
}

/// The second's next connection, and what it sends, reaches the first's socket before anything else that matters.
fn assert_joinable(first: Part, second: Part) {
    let (Part::First(listener), Part::Second(address)) = (first, second) else {
        panic!("the parts are the wrong way round")
    };
    let mut joining = TcpStream::connect(address).unwrap();
    joining.write_all(b"PAGEMESH").unwrap();
    drop(joining);
    // Pairing connections that nobody needs any more may stand in the queue; they are closed and carry no joining.
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = Vec::new();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        if stream.read_to_end(&mut said).is_ok() && said == b"PAGEMESH" {
            return;
        }
        assert!(said.is_empty() || said.starts_with(b"s2dsm-pair "), "{said:?}");
    }
}

#[test]
fn who_waits_is_the_first() {
    for swapped in [false, true] {
        let (mut a, mut b) = two_ports();
        if swapped {
            (a, b) = (b, a);
        }
        let (first, waits) = pair_in_thread(options(a, b));
        assert_eq!(waits.recv_timeout(WAIT), Ok("waiting"));
        let mut waited = false;
        let second = pair(&options(b, a), &mut || waited = true).unwrap();
        assert!(!waited, "the peer was there");
        assert_joinable(first.join().unwrap().unwrap(), second);
    }
}

#[test]
fn of_two_started_at_the_same_moment_exactly_one_is_first() {
    for _ in 0..50 {
        let (a, b) = two_ports();
        let start = Arc::new(Barrier::new(2));
        let threads = [(a, b), (b, a)].map(|(listen, remote)| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                pair(&options(listen, remote), &mut || {}).unwrap()
            })
        });
        let [one, other] = threads.map(|thread| thread.join().unwrap());
        let one_is_first = matches!(one, Part::First(_));
        let (first, second) = if one_is_first { (one, other) } else { (other, one) };
        assert_joinable(first, second);
    }
}

/// A peer made by hand, so that both have dialed each other for certain before anybody has an answer.
#[test]
fn when_both_have_dialed_the_lower_nonce_is_first() {
    for (nonce, we_are_first) in [("0", false), ("ffffffffffffffffffffffffffffffff", true)] {
        let (a, b) = two_ports();
        let peer = TcpListener::bind(("127.0.0.1", b)).unwrap();
        let (process, _waits) = pair_in_thread(options(a, b));
        let (mut dialed_by_process, _) = peer.accept().unwrap();
        let mut hello = Vec::new();
        while hello.last() != Some(&b'\n') {
            let mut byte = [0];
            dialed_by_process.read_exact(&mut byte).unwrap();
            hello.push(byte[0]);
        }
        assert!(String::from_utf8_lossy(&hello).contains("waiting=no"));
        let mut dialed_by_peer = TcpStream::connect(("127.0.0.1", a)).unwrap();
        writeln!(dialed_by_peer, "s2dsm-pair 1 listen={b} remote={a} stage=2 waiting=no nonce={nonce}")
            .unwrap();
        if we_are_first {
            let mut answer = [0; 6];
            dialed_by_peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"first\n");
            dialed_by_peer.write_all(b"second\n").unwrap();
            let part = process.join().unwrap().unwrap();
            assert!(matches!(part, Part::First(_)), "{part:?}");
        } else {
            dialed_by_process.write_all(b"first\n").unwrap();
            let mut answer = String::new();
            dialed_by_process.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "second\n");
            let part = process.join().unwrap().unwrap();
            assert!(matches!(part, Part::Second(address) if address.port() == b), "{part:?}");
            let mut nothing = Vec::new();
            // Closed or reset, but never told that the other is first as well.
            let _ = dialed_by_peer.read_to_end(&mut nothing);
            assert_eq!(nothing, b"");
        }
    }
}

#[test]
fn strangers_are_dropped_and_delay_nobody() {
    let (a, b) = two_ports();
    let (first, waits) = pair_in_thread(options(a, b));
    waits.recv_timeout(WAIT).unwrap();
    let mut strangers: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", a)).unwrap()).collect();
    let hello = format!("s2dsm-pair 1 listen={b} remote={a} stage=2 waiting=no nonce=");
    let rubbish = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\n".to_vec(),
        b"first\n".to_vec(),
        b"PAGEMESH\x01\x00\x00\x00".to_vec(),
        vec![0xFF; 100_000],
        // Half a hello.
        hello.clone().into_bytes(),
        // A hello and more than that.
        format!("{hello}1\nsecond\n").into_bytes(),
        format!("{hello}xyz\n").into_bytes(),
    ];
    for (stranger, text) in strangers.iter_mut().rev().zip(&rubbish) {
        // The process may have dropped the stranger in the middle of its speech.
        let _ = stranger.write_all(text);
    }
    // The silent ones are connected all the while.
    let second = pair(&options(b, a), &mut || {}).unwrap();
    assert_joinable(first.join().unwrap().unwrap(), second);
    for mut stranger in strangers {
        stranger.set_read_timeout(Some(WAIT)).unwrap();
        let mut answer = Vec::new();
        // A reset is as much an end as a close.
        let _ = stranger.read_to_end(&mut answer);
        assert_eq!(answer, b"", "strangers learn nothing");
    }
}

#[test]
fn a_peer_that_vanishes_in_the_middle_leaves_the_other_waiting() {
    let (a, b) = two_ports();
    let (first, waits) = pair_in_thread(options(a, b));
    waits.recv_timeout(WAIT).unwrap();
    let hello = format!("s2dsm-pair 1 listen={b} remote={a} stage=2 waiting=no nonce=5\n");
    // Says hello and is gone at once.
    drop(TcpStream::connect(("127.0.0.1", a)).and_then(|mut stream| stream.write_all(hello.as_bytes())));
    // Says hello, is told who is first, and is gone.
    let mut stream = TcpStream::connect(("127.0.0.1", a)).unwrap();
    stream.write_all(hello.as_bytes()).unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"first\n");
    drop(stream);
    let second = pair(&options(b, a), &mut || {}).unwrap();
    assert_joinable(first.join().unwrap().unwrap(), second);
}

#[test]
fn a_third_process_is_told_so_and_changes_nothing() {
    let (a, b) = two_ports();
    let (c, _) = two_ports();
    let (first, waits) = pair_in_thread(options(a, b));
    waits.recv_timeout(WAIT).unwrap();
    match pair(&options(c, a), &mut || {}) {
        Err(PairingError::Refused { remote, reason }) => {
            assert_eq!(remote.port(), a);
            assert_eq!(reason, format!("the s2dsm on port {a} pairs with port {b}, not with port {c}"));
        }
        other => panic!("{other:?}"),
    }
    match pair(&PairingOptions { stage: Stage::Local, ..options(b, a) }, &mut || {}) {
        Err(error @ PairingError::Refused { .. }) => {
            assert!(error.to_string().contains("--stage 2, this one with --stage 1c"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let second = pair(&options(b, a), &mut || {}).unwrap();
    assert_joinable(first.join().unwrap().unwrap(), second);
}

#[test]
fn a_foreign_server_on_the_remote_port_is_not_the_peer() {
    let (a, b) = two_ports();
    let foreign = TcpListener::bind(("127.0.0.1", b)).unwrap();
    let (first, waits) = pair_in_thread(options(a, b));
    // Greets as a mail server does and hangs up.
    let (mut stream, _) = foreign.accept().unwrap();
    stream.write_all(b"220 ready\r\n").unwrap();
    waits.recv_timeout(WAIT).unwrap();
    drop((stream, foreign));
    wait_until_free(b);
    // Once it is gone the peer can have the port.
    let second = pair(&options(b, a), &mut || {}).unwrap();
    assert_joinable(first.join().unwrap().unwrap(), second);
}

#[test]
fn the_wait_ends() {
    let (a, b) = two_ports();
    let options = PairingOptions { wait: Duration::from_secs(1), ..options(a, b) };
    let mut waited = 0;
    let error = pair(&options, &mut || waited += 1).unwrap_err();
    assert!(matches!(error, PairingError::NoPeer { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("no peer on 127.0.0.1:{b} within 1 s")), "{error}");
    assert_eq!(waited, 1, "it is said once");
}

#[test]
fn a_port_in_use_and_a_port_of_its_own_are_errors() {
    let (a, b) = two_ports();
    let _taken = TcpListener::bind(("127.0.0.1", a)).unwrap();
    let error = pair(&options(a, b), &mut || {}).unwrap_err();
    assert!(matches!(error, PairingError::PortInUse { port } if port == a), "{error:?}");
    let error = pair(&options(b, b), &mut || {}).unwrap_err();
    assert!(matches!(error, PairingError::Myself { .. }), "{error:?}");
}

#[test]
fn the_program_says_that_it_waits_and_gives_up_with_exit_code_1() {
    let (a, b) = two_ports();
    let player = Player::start(Connection::Pipes, &[&a.to_string(), &b.to_string(), "--wait", "1"]);
    let (output, status) = player.finish();
    assert_eq!(status.code(), Some(1));
    assert!(
        output.starts_with(&format!(" [*] Waiting for the peer on port {b} (at most 1 s).\n")),
        "{output}"
    );
    assert!(output.contains(&format!("s2dsm: no peer on 127.0.0.1:{b} within 1 s")), "{output}");
}

#[test]
fn wrong_arguments_are_refused() {
    let (a, b) = two_ports();
    let (a, b) = (a.to_string(), b.to_string());
    for arguments in [
        &["0", &*b][..],
        &[&*a, "65536"],
        &[&*a, "-5"],
        &[&*a, "port"],
        &[&*a],
        &[&*a, &*a],
        &[&*a, &*b, "--stage", "3"],
        &[&*a, &*b, "--wait", "0"],
        &[&*a, &*b, "--wait", "soon"],
    ] {
        let (output, status) = Player::start(Connection::Pipes, arguments).finish();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {output}");
    }
    let _taken = TcpListener::bind(("127.0.0.1", a.parse().unwrap())).unwrap();
    let (output, status) = Player::start(Connection::Pipes, &[&*a, &*b]).finish();
    assert_eq!(status.code(), Some(1));
    assert!(output.contains(&format!("port {a} is in use")), "{output}");
}

#[test]
fn processes_started_at_the_same_moment_ask_one_question() {
    for _ in 0..5 {
        let (a, b) = two_ports();
        let (a, b) = (a.to_string(), b.to_string());
        let mut players = [[&*a, &*b], [&*b, &*a]].map(|ports| Player::start(Connection::Pipes, &ports));
        // Both say which they are.
        let parts = players.each_mut().map(|player| {
            player.expect("this is the ");
            player.expect(").\n")
        });
        let first = usize::from(!parts[0].starts_with("first"));
        assert!(parts[first].starts_with("first process (node 0"), "{parts:?}");
        assert!(parts[1 - first].starts_with("second process (node 1"), "{parts:?}");
        players[first].expect(PAGES_PROMPT);
        players[1 - first].expect("The first process chooses");
    }
}
