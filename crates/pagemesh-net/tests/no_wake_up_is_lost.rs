//! Guarantee: a thread that waits is woken, whoever receives what it waits for.
//!
//! Receiving passes all the time from leader to service thread and back, without any thread waiting for the right to
//! receive. If one of these hand-overs could go wrong a page fault would hang, once in a million. So these tests make
//! very many of them; every wait has a deadline that is only met when a wake-up was lost.

mod common;

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread::{self, ScopedJoinHandle, Thread};
use std::time::{Duration, Instant};

use common::{DEADLINE, look_and_mute, mesh, narrow_stream_pair, ring_mesh, stream_pair, switch_and_peers};
use pagemesh_net::{LinkLoss, PAGE_BYTES, Receiver, Reject, Switch};

/// One waiting thread of a node: which of its requests was answered last, and how to wake it.
struct Waiter {
    answered: AtomicU64,
    thread: Thread,
}

/// What all receivers of a node share.
struct Node<'a> {
    switch: &'a Switch,
    waiters: Vec<Waiter>,
}

/// Answers requests with a page made of their number, and delivers answers.
struct Delivery<'a>(&'a Node<'a>);

/// Calls of a waiting thread, one after the other.
const ROUNDS: u64 = 20_000;
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;

fn message(kind: u8, waiter: usize, number: u64) -> [u8; 17] {
    let mut bytes = [kind; 17];
    bytes[1..9].copy_from_slice(&(waiter as u64).to_le_bytes());
    bytes[9..].copy_from_slice(&number.to_le_bytes());
    bytes
}

impl Receiver for Delivery<'_> {
    fn on_frame(&mut self, peer: u16, bytes: &[u8], payload: &[u8]) -> Result<(), Reject> {
        let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let (waiter, number) = (field(1) as usize, field(9));
        if bytes[0] == REQUEST {
            let answer = message(ANSWER, waiter, number);
            self.0.switch.enqueue_with(peer, &answer, PAGE_BYTES, |page| page.fill(number as u8)).unwrap();
            return Ok(());
        }
        assert!(payload.len() == PAGE_BYTES && payload.iter().all(|byte| *byte == number as u8));
        let waiter = &self.0.waiters[waiter];
        waiter.answered.store(number, Ordering::SeqCst);
        waiter.thread.unpark();
        Ok(())
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        panic!("lost node {peer}: {why}");
    }
}

/// What a faulting thread does: lead if it can, else sleep until whoever receives delivers.
fn request(node: &Node<'_>, waiter: usize, peer: u16, number: u64) {
    let start = Instant::now();
    let answered = || node.waiters[waiter].answered.load(Ordering::SeqCst) == number;
    let leader = node.switch.try_lead();
    node.switch.enqueue(peer, &message(REQUEST, waiter, number), &[]).unwrap();
    if let Some(mut leader) = leader {
        while !answered() {
            leader.receive(Some(DEADLINE), &mut Delivery(node)).unwrap();
            assert!(start.elapsed() < DEADLINE, "a leader never got its answer: {:?}", node.switch);
        }
    } else {
        node.switch.flush();
        while !answered() {
            thread::park_timeout(DEADLINE);
            assert!(start.elapsed() < DEADLINE, "an answer was never delivered: {:?}", node.switch);
        }
    }
}

/// Every thread of every node sends requests to all other nodes in turn and waits for each answer.
fn stress(switches: &[Switch], threads: usize, requests: u64) {
    let nodes: Vec<OnceLock<Node<'_>>> = switches.iter().map(|_| OnceLock::new()).collect();
    let ended = AtomicBool::new(false);
    let all_known = Barrier::new(switches.len() * (threads + 1) + 1);
    thread::scope(|scope| {
        let mut working = Vec::new();
        for (switch, node) in switches.iter().zip(&nodes) {
            let (ended, all_known) = (&ended, &all_known);
            let spawn = |waiter| {
                scope.spawn(move || {
                    all_known.wait();
                    ask_everybody(node.get().unwrap(), waiter, switches.len(), requests);
                })
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            scope.spawn(move || {
                all_known.wait();
                while !ended.load(Ordering::SeqCst) {
                    switch.wait_service(Some(DEADLINE), &mut Delivery(node.get().unwrap())).unwrap();
                }
            });
            let waiter = |handle: &ScopedJoinHandle<'_, ()>| Waiter {
                answered: AtomicU64::new(0),
                thread: handle.thread().clone(),
            };
            assert!(node.set(Node { switch, waiters: handles.iter().map(waiter).collect() }).is_ok());
            working.extend(handles);
        }
        all_known.wait();
        let results: Vec<_> = working.into_iter().map(ScopedJoinHandle::join).collect();
        ended.store(true, Ordering::SeqCst);
        switches.iter().for_each(Switch::wake_service);
        assert!(results.iter().all(Result::is_ok), "{switches:?}");
    });
}

fn ask_everybody(node: &Node<'_>, waiter: usize, nodes: usize, requests: u64) {
    for number in 1..=requests {
        let other = (number + waiter as u64) as usize % (nodes - 1);
        let peer = if other >= usize::from(node.switch.node()) { other + 1 } else { other };
        request(node, waiter, peer as u16, number);
    }
}

#[test]
fn a_hundred_thousand_requests_of_three_nodes() {
    stress(&mesh(3, stream_pair), 3, 11_200);
}

#[test]
fn one_thread_a_node_and_all_receivers_spin() {
    let switches = mesh(2, stream_pair);
    for switch in &switches {
        switch.set_spin(Duration::from_micros(20));
        switch.set_service_spin(Duration::from_micros(20));
    }
    stress(&switches, 1, 5_000);
}

/// Who looks mutes one socket: what comes through another wakes the service thread under its leader, and the next leader comes while the
/// one before still unmutes.
#[test]
fn receivers_mute_what_they_look_at() {
    let switches = mesh(2, stream_pair);
    look_and_mute(&switches, Duration::from_micros(20));
    stress(&switches, 1, 5_000);
    stress(&switches, 3, 2_000);
    let switches = mesh(3, stream_pair);
    look_and_mute(&switches, Duration::from_micros(20));
    stress(&switches, 2, 3_000);
}

#[test]
fn narrow_sockets_are_muted() {
    let switches = mesh(2, narrow_stream_pair);
    look_and_mute(&switches, Duration::from_micros(20));
    stress(&switches, 2, 1_000);
}

#[test]
fn more_threads_than_cores_over_narrow_sockets() {
    stress(&mesh(2, narrow_stream_pair), 6, 800);
}

/// Room for a few pages: both directions run full.
const NARROW_RING: usize = 3 * PAGE_BYTES;

fn all_rings(_: usize, _: usize) -> bool {
    false
}

#[test]
fn a_hundred_thousand_requests_through_rings() {
    stress(&ring_mesh(3, 64 * 1024, all_rings), 3, 11_200);
}

#[test]
fn rings_and_sockets_in_one_mesh() {
    let switches = ring_mesh(4, 64 * 1024, |one, two| one == 0 && two == 3);
    stress(&switches, 2, 4_000);
    look_and_mute(&switches, Duration::from_micros(20));
    stress(&switches, 2, 1_000);
}

#[test]
fn all_receivers_of_rings_spin() {
    let switches = ring_mesh(2, 64 * 1024, all_rings);
    for switch in &switches {
        switch.set_spin(Duration::from_micros(20));
        switch.set_service_spin(Duration::from_micros(20));
    }
    stress(&switches, 1, 20_000);
    stress(&switches, 3, 5_000);
}

#[test]
fn more_threads_than_cores_through_narrow_rings() {
    stress(&ring_mesh(2, NARROW_RING, all_rings), 6, 2_000);
}

/// The other half of a conversation that one thread has with itself.
struct Silent;

impl Receiver for Silent {
    fn on_frame(&mut self, _: u16, _: &[u8], _: &[u8]) -> Result<(), Reject> {
        Ok(())
    }
    fn on_lost(&mut self, _: u16, _: LinkLoss) {}
}

#[test]
fn a_leader_that_waits_for_something_local_is_called() {
    let switches = mesh(2, stream_pair);
    let switch = &switches[0];
    let (asked, granted) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                while asked.load(Ordering::SeqCst) < round {
                    thread::yield_now();
                }
                granted.store(round, Ordering::SeqCst);
                switch.wake_leader();
            }
        });
        for round in 1..=ROUNDS {
            let start = Instant::now();
            let mut leader = switch.try_lead().unwrap();
            asked.store(round, Ordering::SeqCst);
            while granted.load(Ordering::SeqCst) < round {
                leader.receive(Some(DEADLINE), &mut Silent).unwrap();
                assert!(start.elapsed() < DEADLINE, "round {round}: the call was lost: {switch:?}");
            }
        }
    });
    // Calls that nobody waits for cost nothing and break nothing.
    let calls = switch.counters_total().leader_wakes;
    switch.wake_leader();
    switch.wake_leader();
    assert_eq!(switch.counters_total().leader_wakes, calls);
}

#[test]
fn the_service_thread_is_called() {
    let switches = mesh(2, stream_pair);
    let switch = &switches[0];
    let (asked, granted) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                while asked.load(Ordering::SeqCst) < round {
                    thread::yield_now();
                }
                granted.store(round, Ordering::SeqCst);
                switch.wake_service();
            }
        });
        for round in 1..=ROUNDS {
            let start = Instant::now();
            asked.store(round, Ordering::SeqCst);
            while granted.load(Ordering::SeqCst) < round {
                switch.wait_service(Some(DEADLINE), &mut Silent).unwrap();
                assert!(start.elapsed() < DEADLINE, "round {round}: the call was lost: {switch:?}");
            }
        }
    });
}

#[test]
fn the_service_thread_stays_asleep_while_a_leader_receives() {
    the_service_thread_sleeps(&mesh(2, stream_pair));
    the_service_thread_sleeps(&ring_mesh(2, 64 * 1024, all_rings));
}

fn the_service_thread_sleeps(switches: &[Switch]) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let switch = &switches[0];
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                switch.wait_service(Some(DEADLINE), &mut Silent).unwrap();
            }
        });
        // Only when it sleeps does standing it down mean anything.
        let start = Instant::now();
        while switch.counters_total().service_waits == 0 {
            assert!(start.elapsed() < DEADLINE);
            thread::yield_now();
        }
        let mut leader = switch.try_lead().unwrap();
        for number in 1..=1000u64 {
            switches[1].enqueue(0, &number.to_le_bytes(), &[1; PAGE_BYTES]).unwrap();
            switches[1].flush();
            while switch.counters(1).frames_in < number {
                leader.receive(Some(DEADLINE), &mut Silent).unwrap();
            }
        }
        assert_eq!(switch.counters_total().service_wakes, 0);
        drop(leader);
        // And when the leader has left it receives again.
        switches[1].enqueue(0, b"for the service thread", &[]).unwrap();
        switches[1].flush();
        while switch.counters(1).frames_in < 1001 {
            assert!(start.elapsed() < DEADLINE, "nobody receives");
            thread::yield_now();
        }
        ended.store(true, Ordering::SeqCst);
        switch.wake_service();
    });
}

/// A leader that looks for its replies hears them without any word to the service thread, though that sleeps and was not stood down.
#[test]
fn who_looks_for_its_reply_disturbs_no_service_thread() {
    let switches = mesh(2, stream_pair);
    let (switch, peer) = (&switches[0], &switches[1]);
    // Nobody sleeps who looks.
    switch.set_spin(DEADLINE);
    let ended = AtomicBool::new(false);
    let server = AtomicI32::new(0);
    let wakes = thread::scope(|scope| {
        scope.spawn(|| {
            server.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
            while !ended.load(Ordering::SeqCst) {
                switch.wait_service(Some(DEADLINE), &mut Silent).unwrap();
            }
        });
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let heard = peer.counters(0).frames_in;
                peer.wait_service(Some(DEADLINE), &mut Silent).unwrap();
                for _ in heard..peer.counters(0).frames_in {
                    // The leader has sent, and looks, when this is sent.
                    thread::sleep(Duration::from_millis(2));
                    peer.enqueue(0, b"a reply", &[1; PAGE_BYTES]).unwrap();
                }
            }
        });
        let start = Instant::now();
        while switch.counters_total().service_waits == 0 && start.elapsed() < DEADLINE {
            thread::yield_now();
        }
        let server = server.load(Ordering::SeqCst);
        let stood_down = wakes_of_requests(switch, server);
        look_and_mute(&switches[..1], DEADLINE);
        switch.set_service_spin(Duration::ZERO);
        let muted = wakes_of_requests(switch, server);
        // When the leader has left, what comes wakes the service thread again.
        let heard = switch.counters(1).frames_in;
        switch.enqueue(1, b"a request", &[]).unwrap();
        switch.flush();
        let start = Instant::now();
        while switch.counters(1).frames_in == heard && start.elapsed() < DEADLINE {
            thread::yield_now();
        }
        let is_served = switch.counters(1).frames_in > heard;
        ended.store(true, Ordering::SeqCst);
        switch.wake_service();
        peer.wake_service();
        is_served.then_some((stood_down?, muted?))
    });
    let (stood_down, muted) = wakes.unwrap_or_else(|| panic!("nobody receives: {switch:?}"));
    // The leader may be kept from its core before it looks. If the replies themselves woke the service thread, that would be some 300.
    assert!(stood_down < 30, "{stood_down} wake-ups of who was stood down");
    assert!(muted < 30, "{muted} wake-ups beside a muted socket");
}

/// How often 300 requests of a leader wake the thread numbered `server`, if only to sleep again; `None` when a reply is missing.
fn wakes_of_requests(switch: &Switch, server: i32) -> Option<u64> {
    let before = sleeps_of(server);
    let (first, start) = (switch.counters(1).frames_in, Instant::now());
    for number in first + 1..=first + 300 {
        let mut leader = switch.try_lead()?;
        switch.enqueue(1, b"a request", &[]).unwrap();
        while switch.counters(1).frames_in < number {
            leader.receive(Some(DEADLINE), &mut Silent).unwrap();
            if start.elapsed() > DEADLINE {
                return None;
            }
        }
    }
    Some(sleeps_of(server) - before)
}

/// How often a thread of this process has gone to sleep (proc_pid_status(5)).
fn sleeps_of(thread: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// A thread leads for no reason just when the service thread is woken: the one finds the lock held while the other is
/// on its way out. Afterwards nobody leads, so only an armed service thread brings the frame in.
#[test]
fn a_leader_that_leaves_while_the_service_thread_is_woken_strands_nothing() {
    leaders_come_and_go(&mesh(2, stream_pair));
    leaders_come_and_go(&ring_mesh(2, 64 * 1024, all_rings));
}

fn leaders_come_and_go(switches: &[Switch]) {
    let switch = &switches[0];
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                switch.wait_service(Some(DEADLINE * 2), &mut Silent).unwrap();
            }
        });
        for round in 1..=ROUNDS {
            switches[1].enqueue(0, &round.to_le_bytes(), &[]).unwrap();
            switches[1].flush();
            let start = Instant::now();
            // Later and later after the wake-up, to meet the service thread at every point of its way.
            for _ in 0..round % 64 {
                drop(switch.try_lead());
                std::hint::spin_loop();
            }
            while switch.counters(1).frames_in < round {
                assert!(start.elapsed() < DEADLINE, "round {round}: nobody receives: {switch:?}");
                thread::yield_now();
            }
        }
        ended.store(true, Ordering::SeqCst);
        switch.wake_service();
    });
}

/// Two threads queue and flush at the same moment and then do nothing more: what the one leaves to the other must go
/// out.
#[test]
fn of_two_that_flush_at_once_one_sends_for_both() {
    let (switch, mut peers) = switch_and_peers(1);
    let round = AtomicU64::new(0);
    let give_up = AtomicBool::new(false);
    let peer = &mut peers[0];
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    thread::scope(|scope| {
        for sender in 0..2u8 {
            let (switch, round, give_up) = (&switch, &round, &give_up);
            scope.spawn(move || {
                for mine in 1..=ROUNDS {
                    while round.load(Ordering::SeqCst) < mine {
                        if give_up.load(Ordering::SeqCst) {
                            return;
                        }
                        thread::yield_now();
                    }
                    switch.enqueue(1, &[sender], &[]).unwrap();
                    switch.flush();
                }
            });
        }
        for current in 1..=ROUNDS {
            round.store(current, Ordering::SeqCst);
            let mut frames = [0; 18];
            let result = peer.read_exact(&mut frames);
            give_up.store(result.is_err(), Ordering::SeqCst);
            assert!(result.is_ok(), "round {current}: a message was left behind: {result:?} {switch:?}");
        }
    });
}

/// Who looks without sleeping looks first at the peer that sent last, or that was asked. If that sends without end, the others must
/// have their turn all the same.
#[test]
fn whoever_sends_without_end_keeps_nobody_else_waiting() {
    for leads in [false, true] {
        let switches = mesh(3, stream_pair);
        let (switch, flooder, other) = (&switches[0], &switches[1], &switches[2]);
        look_and_mute(&switches[..1], Duration::from_micros(50));
        let ended = AtomicBool::new(false);
        let heard = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    if flooder.queued(0) < 16 * PAGE_BYTES {
                        flooder.enqueue(0, b"once more", &[1; PAGE_BYTES]).unwrap();
                    }
                    flooder.wait_service(Some(Duration::from_millis(1)), &mut Silent).unwrap();
                }
            });
            let heard = hears_both(switch, other, leads);
            ended.store(true, Ordering::SeqCst);
            heard
        });
        assert!(heard, "the other was not heard; a leader: {leads}");
    }
}

/// Receives until something came from node 2, which sends when node 1 has sent much.
fn hears_both(switch: &Switch, other: &Switch, leads: bool) -> bool {
    let start = Instant::now();
    let mut leader = leads.then(|| switch.try_lead().unwrap());
    switch.enqueue(1, b"a request", &[]).unwrap();
    let mut sent = false;
    while switch.counters(2).frames_in == 0 && start.elapsed() < DEADLINE {
        if switch.counters(1).frames_in > 100 && !sent {
            sent = true;
            other.enqueue(0, b"a word", &[]).unwrap();
            other.flush();
        }
        match &mut leader {
            Some(leader) => leader.receive(Some(DEADLINE), &mut Silent).unwrap(),
            None => switch.wait_service(Some(DEADLINE), &mut Silent).unwrap(),
        }
    }
    switch.counters(2).frames_in > 0
}
