//! Guarantee: a send never waits for the peer, and messages of one link arrive in the order in which they were queued.
//!
//! Two nodes that wait in sends to each other read nothing and wait for ever; that was seen with pages in both
//! directions over small socket buffers. Order within a link is what the protocol may rely on.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use common::{DEADLINE, mesh, narrow_stream_pair, ring_mesh, ring_pair, stream_pair};
use pagemesh_net::{EnqueueError, LinkLoss, PAGE_BYTES, Receiver, Reject, Switch};

/// Checks that the frames of each sending thread come in order and whole.
struct Inspector<'a> {
    next: Vec<u64>,
    received: &'a AtomicUsize,
}

fn message(thread: usize, number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(thread as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn page(thread: usize, number: u64) -> [u8; PAGE_BYTES] {
    let mut page = [(number as u8) ^ (thread as u8); PAGE_BYTES];
    page[..8].copy_from_slice(&number.to_le_bytes());
    page
}

impl Receiver for Inspector<'_> {
    fn on_frame(&mut self, _: u16, bytes: &[u8], payload: &[u8]) -> Result<(), Reject> {
        let thread = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let number = u64::from_le_bytes(bytes[8..].try_into().unwrap());
        assert_eq!(number, self.next[thread], "thread {thread} is out of order");
        self.next[thread] += 1;
        assert!(payload.is_empty() || payload == page(thread, number));
        self.received.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        panic!("lost node {peer}: {why}");
    }
}

fn narrow_rings() -> Vec<Switch> {
    ring_mesh(2, 5 * PAGE_BYTES, |_, _| false)
}

#[test]
fn bulk_in_both_directions_between_two_leaders() {
    bulk_in_both_directions(&mesh(2, narrow_stream_pair));
    bulk_in_both_directions(&narrow_rings());
}

fn bulk_in_both_directions(switches: &[Switch]) {
    const PAGES: usize = 900;
    let received = [const { AtomicUsize::new(0) }; 2];
    let full = Barrier::new(2);
    thread::scope(|scope| {
        for me in 0..2 {
            let (received, full) = (&received, &full);
            scope.spawn(move || {
                let start = Instant::now();
                let mut inspector = Inspector { next: vec![0], received: &received[me] };
                let mut leader = switches[me].try_lead().unwrap();
                for number in 0..PAGES as u64 {
                    switches[me].enqueue(1 - me as u16, &message(0, number), &page(0, number)).unwrap();
                }
                // Nobody receives yet: more than the sockets hold is on its way in both directions.
                switches[me].flush();
                full.wait();
                while received.iter().any(|count| count.load(Ordering::SeqCst) < PAGES) {
                    assert!(start.elapsed() < DEADLINE, "deadlock: {switches:?}");
                    leader.receive(Some(DEADLINE), &mut inspector).unwrap();
                    if received[me].load(Ordering::SeqCst) == PAGES {
                        // The other one may be waiting for nothing but this count.
                        switches[1 - me].wake_leader();
                    }
                }
                switches[1 - me].wake_leader();
            });
        }
    });
    assert!(
        switches.iter().all(|switch| switch.counters_total().sends_blocked > 0),
        "the sockets were never full"
    );
}

#[test]
fn whoever_receives_goes_on_sending() {
    the_receiver_goes_on_sending(&mesh(2, narrow_stream_pair));
    the_receiver_goes_on_sending(&narrow_rings());
}

fn the_receiver_goes_on_sending(switches: &[Switch]) {
    const PAGES: usize = 500;
    let received = AtomicUsize::new(0);
    // Queued and flushed by a thread that then goes away; node 0 only ever waits as its service thread.
    for number in 0..PAGES as u64 {
        switches[0].enqueue(1, &message(0, number), &page(0, number)).unwrap();
    }
    switches[0].flush();
    assert_eq!(switches[0].counters_total().sends_blocked, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut nothing = Inspector { next: vec![], received: &AtomicUsize::new(0) };
            while received.load(Ordering::SeqCst) < PAGES {
                switches[0].wait_service(Some(DEADLINE), &mut nothing).unwrap();
            }
        });
        let start = Instant::now();
        let mut inspector = Inspector { next: vec![0], received: &received };
        while received.load(Ordering::SeqCst) < PAGES {
            assert!(start.elapsed() < DEADLINE, "nobody goes on sending: {switches:?}");
            switches[1].wait_service(Some(DEADLINE), &mut inspector).unwrap();
        }
        switches[0].wake_service();
    });
}

/// Several threads queue and flush at once; one node receives.
fn many_senders(switches: &[Switch], threads: usize, frames: u64) {
    let received = AtomicUsize::new(0);
    let all = threads * frames as usize;
    let ended = || received.load(Ordering::SeqCst) == all;
    thread::scope(|scope| {
        for thread in 0..threads {
            let switch = &switches[0];
            scope.spawn(move || {
                for number in 0..frames {
                    let bytes = message(thread, number);
                    let queued = if number % 3 == 0 {
                        switch.enqueue_with(1, &bytes, PAGE_BYTES, |place| {
                            place.copy_from_slice(&page(thread, number));
                        })
                    } else {
                        switch.enqueue(1, &bytes, &[])
                    };
                    assert!(
                        !matches!(queued, Err(EnqueueError::Full { .. })),
                        "the limit is sized for this test"
                    );
                    queued.unwrap();
                    switch.flush();
                }
            });
        }
        scope.spawn(|| {
            let mut nothing = Inspector { next: vec![], received: &AtomicUsize::new(0) };
            while !ended() {
                switches[0].wait_service(Some(DEADLINE), &mut nothing).unwrap();
            }
        });
        let start = Instant::now();
        let mut inspector = Inspector { next: vec![0; threads], received: &received };
        while !ended() {
            assert!(start.elapsed() < DEADLINE, "frames are missing: {switches:?}");
            switches[1].wait_service(Some(DEADLINE), &mut inspector).unwrap();
        }
        switches[0].wake_service();
    });
}

#[test]
fn many_threads_sending_at_once_keep_their_orders() {
    many_senders(&mesh(2, stream_pair), 4, 600);
    many_senders(&mesh(2, narrow_stream_pair), 4, 600);
    many_senders(&ring_mesh(2, 64 * 1024, |_, _| false), 4, 600);
    many_senders(&narrow_rings(), 4, 600);
}

/// A peer calls for room that may be used up when the call is heard, and the wish to be called went with it.
#[test]
fn room_is_called_for_until_there_is_some() {
    let (stream, _far_stream) = stream_pair();
    let (ring, far, _) = ring_pair(64 * 1024);
    let switch = Switch::with_rings(0, vec![None, Some(stream)], vec![None, Some(ring)]).unwrap();
    while switch.counters_total().sends_blocked == 0 {
        switch.enqueue(1, &message(0, 0), &page(0, 0)).unwrap();
        switch.flush();
    }
    assert!(far.end().take_writer_call(), "the sender waits for room");
    far.call();
    let mut nothing = Inspector { next: vec![], received: &AtomicUsize::new(0) };
    switch.wait_service(Some(DEADLINE), &mut nothing).unwrap();
    assert!(far.end().take_writer_call(), "it still does");
}
