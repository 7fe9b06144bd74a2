//! Guarantee: the end of a link is reported exactly once, with its reason, after the last frame that came over it,
//! and no other link is touched.
//!
//! Everything that recovers from a death hangs on this report: a second one would remove a node from a view in which
//! it has been replaced, a missing one leaves threads waiting for ever.

mod common;

use std::io::Write;
use std::net::Shutdown;

use common::{DEADLINE, Record, frame_bytes, lead_until, serve_until, switch_and_peers};
use pagemesh_net::frame::FrameError;
use pagemesh_net::{EnqueueError, LinkLoss, PAGE_BYTES, Receiver, Reject, Switch};

/// After a loss: nothing more about that peer, and peer 2 works as before.
fn only_peer_1_is_lost(switch: &Switch, record: &mut Record, peer_2: &mut std::net::TcpStream) {
    let (frames, losses) = (record.frames.len(), record.losses.len());
    peer_2.write_all(&frame_bytes(b"still here", &[])).unwrap();
    serve_until(switch, record, |record| record.frames.len() > frames);
    assert_eq!(record.frames.last().unwrap().1, b"still here");
    assert_eq!(record.losses.len(), losses, "reported again: {:?}", record.losses);
    assert_eq!(switch.enqueue(1, b"hello", &[]), Err(EnqueueError::Lost { peer: 1 }));
    assert_eq!(switch.enqueue(2, b"hello", &[]), Ok(()));
    switch.flush();
    let mut reply = [0; 13];
    std::io::Read::read_exact(peer_2, &mut reply).unwrap();
    assert_eq!(&reply[8..], b"hello");
}

#[test]
fn killed_in_the_middle_of_a_frame() {
    let whole = frame_bytes(b"whole", &[5; PAGE_BYTES]);
    for cut in [1, 7, 8, 12, 100, whole.len() - 1] {
        let (switch, mut peers) = switch_and_peers(2);
        peers[0].write_all(&whole).unwrap();
        peers[0].write_all(&whole[..cut]).unwrap();
        peers[0].shutdown(Shutdown::Both).unwrap();
        let mut record = Record::default();
        lead_until(&switch, &mut record, |record| !record.losses.is_empty());
        assert_eq!(record.losses, [(1, LinkLoss::Closed)], "cut at {cut}");
        assert_eq!(record.frames, [(1, b"whole".to_vec(), vec![5; PAGE_BYTES])]);
        only_peer_1_is_lost(&switch, &mut record, &mut peers[1]);
    }
}

#[test]
fn ended_with_data_of_ours_unread() {
    let (switch, mut peers) = switch_and_peers(2);
    switch.enqueue(1, b"never read", &[1; PAGE_BYTES]).unwrap();
    switch.flush();
    // Wait until it lies in the peer's socket: closing over unread data resets the connection.
    let mut peeked = [0; 8];
    assert!(peers[0].peek(&mut peeked).unwrap() > 0);
    drop(peers.remove(0));
    let mut record = Record::default();
    serve_until(&switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.losses, [(1, LinkLoss::Reset)]);
    only_peer_1_is_lost(&switch, &mut record, &mut peers[0]);
}

#[test]
fn a_failing_send_does_not_hide_what_was_said_before() {
    let (switch, mut peers) = switch_and_peers(2);
    peers[0].write_all(&frame_bytes(b"farewell", &[])).unwrap();
    switch.enqueue(1, b"first", &[]).unwrap();
    switch.flush();
    let mut peeked = [0; 8];
    assert!(peers[0].peek(&mut peeked).unwrap() > 0);
    drop(peers.remove(0));
    // Nobody receives while the sends fail.
    let start = std::time::Instant::now();
    while switch.enqueue(1, b"into the void", &[]).is_ok() {
        assert!(start.elapsed() < DEADLINE, "sending to a dead peer never fails");
        switch.flush();
    }
    let mut record = Record::default();
    lead_until(&switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.frames, [(1, b"farewell".to_vec(), Vec::new())]);
    assert_eq!(record.losses, [(1, LinkLoss::Reset)]);
    only_peer_1_is_lost(&switch, &mut record, &mut peers[0]);
}

#[test]
fn garbage_drops_the_link_it_came_on() {
    let (switch, mut peers) = switch_and_peers(2);
    peers[0].write_all(&frame_bytes(b"good", &[])).unwrap();
    peers[0].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut record = Record::default();
    serve_until(&switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.frames.len(), 1);
    assert_eq!(record.losses, [(1, LinkLoss::BadFrame(FrameError::BadMark { found: 0x5448 }))]);
    only_peer_1_is_lost(&switch, &mut record, &mut peers[1]);
    // The other side learns of it, as an end or as a reset.
    let end = std::io::Read::read(&mut peers[0], &mut [0; 8]);
    assert!(matches!(&end, Ok(0)) || end.is_err(), "{end:?}");
}

#[test]
fn a_refused_message_drops_the_link_and_what_follows() {
    let (switch, mut peers) = switch_and_peers(2);
    peers[0].write_all(&[frame_bytes(b"refuse me", &[]), frame_bytes(b"too late", &[])].concat()).unwrap();
    let mut record = Record::default();
    lead_until(&switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.frames.len(), 1, "{:?}", record.frames);
    assert_eq!(record.losses, [(1, LinkLoss::Rejected("as asked".into()))]);
    only_peer_1_is_lost(&switch, &mut record, &mut peers[1]);
}

#[test]
fn closed_by_this_node_from_within_a_message() {
    struct Closer<'a>(&'a Switch, Record);
    impl Receiver for Closer<'_> {
        fn on_frame(&mut self, peer: u16, message: &[u8], payload: &[u8]) -> Result<(), Reject> {
            self.0.close(peer);
            self.1.on_frame(peer, message, payload)
        }
        fn on_lost(&mut self, peer: u16, why: LinkLoss) {
            self.1.on_lost(peer, why);
        }
    }
    let (switch, mut peers) = switch_and_peers(2);
    peers[0].write_all(&[frame_bytes(b"one", &[]), frame_bytes(b"two", &[])].concat()).unwrap();
    let mut closer = Closer(&switch, Record::default());
    let start = std::time::Instant::now();
    while closer.1.losses.is_empty() {
        assert!(start.elapsed() < DEADLINE);
        switch.wait_service(Some(DEADLINE), &mut closer).unwrap();
    }
    let mut record = closer.1;
    assert_eq!(record.frames.len(), 1);
    assert_eq!(record.losses, [(1, LinkLoss::ClosedHere)]);
    only_peer_1_is_lost(&switch, &mut record, &mut peers[1]);
}

#[test]
fn closing_all_reports_each() {
    let (switch, _peers) = switch_and_peers(3);
    switch.close_all();
    let mut record = Record::default();
    serve_until(&switch, &mut record, |record| record.losses.len() == 3);
    record.losses.sort_by_key(|(peer, _)| *peer);
    assert_eq!(record.losses, [1, 2, 3].map(|peer| (peer, LinkLoss::ClosedHere)));
    switch.wait_service(Some(std::time::Duration::ZERO), &mut record).unwrap();
    assert_eq!(record.losses.len(), 3);
}

#[test]
fn a_peer_that_stops_receiving_is_dropped_and_not_waited_for() {
    let (switch, mut peers) = switch_and_peers(2);
    let mut queued = 0;
    let error = loop {
        match switch.enqueue(1, b"page", &[7; PAGE_BYTES]) {
            Ok(()) => queued += 1,
            Err(error) => break error,
        }
        switch.flush();
        assert!(queued * PAGE_BYTES < 64 << 20, "the queue has no end");
    };
    assert!(
        matches!(error, EnqueueError::Full { peer: 1, queued_bytes } if queued_bytes >= pagemesh_net::TX_LIMIT_BYTES)
    );
    let mut record = Record::default();
    lead_until(&switch, &mut record, |record| !record.losses.is_empty());
    assert_eq!(record.losses, [(1, LinkLoss::SendQueueFull)]);
    only_peer_1_is_lost(&switch, &mut record, &mut peers[1]);
}

#[test]
fn what_cannot_be_sent_is_refused_and_harms_nothing() {
    let (switch, mut peers) = switch_and_peers(2);
    let bad =
        |message_bytes, payload_bytes| EnqueueError::BadLength { peer: 1, message_bytes, payload_bytes };
    assert_eq!(switch.enqueue(0, b"to myself", &[]), Err(EnqueueError::NoLink { peer: 0 }));
    assert_eq!(switch.enqueue(9, b"to nobody", &[]), Err(EnqueueError::NoLink { peer: 9 }));
    assert_eq!(switch.enqueue(1, &[], &[]), Err(bad(0, 0)));
    assert_eq!(switch.enqueue(1, &[0; 513], &[]), Err(bad(513, 0)));
    assert_eq!(switch.enqueue(1, &[0; 8], &[0; 4609]), Err(bad(8, 4609)));
    assert_eq!(switch.enqueue_with(1, &[0; 8], usize::MAX, |_| unreachable!()), Err(bad(8, usize::MAX)));
    switch.enqueue_with(1, b"ok", PAGE_BYTES, |place| place.fill(3)).unwrap();
    switch.flush();
    let mut bytes = vec![0; 8 + 2 + PAGE_BYTES];
    std::io::Read::read_exact(&mut peers[0], &mut bytes).unwrap();
    assert_eq!(bytes, frame_bytes(b"ok", &[3; PAGE_BYTES]));
    let counters = switch.counters(1);
    assert_eq!((counters.frames_out, counters.bytes_out), (1, bytes.len() as u64));
}
