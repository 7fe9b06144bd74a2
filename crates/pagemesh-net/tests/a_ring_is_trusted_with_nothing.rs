//! Guarantee: a peer that shares memory with this node can end its own link by what it writes there, or by not being there any
//! more, and nothing else. What it wrote before its end still arrives.
//!
//! Shared memory has no kernel between the two: no end of stream, no length that is true. The stream beside it says when
//! the peer is gone, and everything read from the ring is looked at as bytes of a stranger.

mod common;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{DEADLINE, Record, frame_bytes, lead_until, ring_pair, serve_until, stream_pair};
use pagemesh_net::frame::FrameError;
use pagemesh_net::{EnqueueError, LinkLoss, PAGE_BYTES, RingLink, Switch};

const CAPACITY: usize = 64 * 1024;

/// Node 0 with a ring to node 1, whose ends are bare, and one to node 2, a switch as it should be.
struct Mesh {
    switch: Switch,
    peer: TcpStream,
    ring: RingLink,
    spoilt: Arc<AtomicBool>,
    good: Switch,
}

fn mesh() -> Mesh {
    let ((near, peer), (to_good, from_good)) = (stream_pair(), stream_pair());
    let (near_ring, ring, spoilt) = ring_pair(CAPACITY);
    let (to_good_ring, from_good_ring, _) = ring_pair(CAPACITY);
    let streams = vec![None, Some(near), Some(to_good)];
    let switch = Switch::with_rings(0, streams, vec![None, Some(near_ring), Some(to_good_ring)]).unwrap();
    let good = Switch::with_rings(2, vec![Some(from_good)], vec![Some(from_good_ring)]).unwrap();
    Mesh { switch, peer, ring, spoilt, good }
}

impl Mesh {
    /// Puts bytes into the ring of node 1, and calls as an honest peer does.
    fn put(&self, bytes: &[u8]) {
        assert_eq!(self.ring.end().write(bytes), Ok(bytes.len()));
        self.ring.call();
    }

    /// Node 1 was reported once for `why`, and node 2 is served as before.
    fn only_peer_1_is_lost(&self, record: &mut Record, why: &LinkLoss) {
        assert_eq!(record.losses, [(1, why.clone())]);
        let frames = record.frames.len();
        self.good.enqueue(0, b"still here", &[3; PAGE_BYTES]).unwrap();
        self.good.flush();
        serve_until(&self.switch, record, |record| record.frames.len() > frames);
        assert_eq!(record.frames.last().unwrap().1, b"still here");
        assert_eq!(record.losses.len(), 1, "reported again: {:?}", record.losses);
        assert_eq!(self.switch.enqueue(1, b"hello", &[]), Err(EnqueueError::Lost { peer: 1 }));
    }
}

#[test]
fn gone_in_the_middle_of_a_frame() {
    let whole = frame_bytes(b"whole", &[5; PAGE_BYTES]);
    for cut in [1, 7, 8, 100, whole.len() - 1] {
        let mesh = mesh();
        mesh.put(&whole);
        mesh.put(&whole[..cut]);
        mesh.peer.shutdown(Shutdown::Both).unwrap();
        let mut record = Record::default();
        lead_until(&mesh.switch, &mut record, |record| !record.losses.is_empty());
        assert_eq!(record.frames, [(1, b"whole".to_vec(), vec![5; PAGE_BYTES])], "cut at {cut}");
        mesh.only_peer_1_is_lost(&mut record, &LinkLoss::Closed);
    }
}

#[test]
fn what_lies_in_the_ring_comes_before_the_end() {
    let mesh = mesh();
    let frame = frame_bytes(b"farewell", &[9; PAGE_BYTES]);
    for _ in 0..15 {
        // Without a call: it is found because the peer is gone.
        assert_eq!(mesh.ring.end().write(&frame), Ok(frame.len()));
    }
    mesh.peer.shutdown(Shutdown::Both).unwrap();
    let mut record = Record::default();
    serve_until(&mesh.switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.frames.len(), 15);
    mesh.only_peer_1_is_lost(&mut record, &LinkLoss::Closed);
}

#[test]
fn bytes_that_are_no_frame() {
    let mesh = mesh();
    mesh.put(&frame_bytes(b"good", &[]));
    mesh.put(b"GET / HTTP/1.1\r\n\r\n");
    let mut record = Record::default();
    serve_until(&mesh.switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.frames.len(), 1);
    mesh.only_peer_1_is_lost(&mut record, &LinkLoss::BadFrame(FrameError::BadMark { found: 0x5448 }));
}

#[test]
fn positions_that_cannot_be_are_found_by_who_receives_and_by_who_sends() {
    let receiving = mesh();
    receiving.spoilt.store(true, Ordering::SeqCst);
    receiving.ring.call();
    let mut record = Record::default();
    lead_until(&receiving.switch, &mut record, |record| !record.losses.is_empty());
    assert!(matches!(record.losses[..], [(1, LinkLoss::BadRing(_))]), "{:?}", record.losses);
    let why = record.losses[0].1.clone();
    receiving.only_peer_1_is_lost(&mut record, &why);

    let sending = mesh();
    sending.spoilt.store(true, Ordering::SeqCst);
    sending.switch.enqueue(1, b"hello", &[]).unwrap();
    sending.switch.flush();
    let mut record = Record::default();
    serve_until(&sending.switch, &mut record, |record| !record.losses.is_empty());
    assert!(matches!(record.losses[..], [(1, LinkLoss::BadRing(_))]), "{:?}", record.losses);
    sending.only_peer_1_is_lost(&mut record, &why);
}

#[test]
fn bytes_beside_the_ring() {
    let mut mesh = mesh();
    mesh.peer.write_all(&frame_bytes(b"over the stream", &[])).unwrap();
    let mut record = Record::default();
    serve_until(&mesh.switch, &mut record, |record| !record.losses.is_empty());
    assert!(record.frames.is_empty());
    mesh.only_peer_1_is_lost(&mut record, &LinkLoss::BytesBesideRing);
}

#[test]
fn a_peer_that_never_reads_is_dropped_and_not_waited_for() {
    let mesh = mesh();
    let mut queued = 0;
    let error = loop {
        match mesh.switch.enqueue(1, b"page", &[7; PAGE_BYTES]) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        mesh.switch.flush();
        assert!(queued * PAGE_BYTES < 64 << 20, "the queue has no end");
    };
    assert!(matches!(error, EnqueueError::Full { peer: 1, .. }));
    let mut record = Record::default();
    lead_until(&mesh.switch, &mut record, |record| !record.losses.is_empty());
    mesh.only_peer_1_is_lost(&mut record, &LinkLoss::SendQueueFull);
}

#[test]
fn room_is_waited_for_until_the_peer_reads() {
    let mesh = mesh();
    let page = || mesh.switch.enqueue(1, b"page", &[7; PAGE_BYTES]).unwrap();
    (0..32).for_each(|_| page());
    mesh.switch.flush();
    // The ring is full, and these cannot even be on their way.
    (0..32).for_each(|_| page());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                mesh.ring.end().read(&mut [0; 4096]).unwrap();
                std::thread::yield_now();
            }
        });
        let start = std::time::Instant::now();
        mesh.switch.wait_room(PAGE_BYTES, start + DEADLINE);
        ended.store(true, Ordering::SeqCst);
        assert!(start.elapsed() < DEADLINE, "there was no room");
    });
}
