//! Guarantee: a long payload, which is sent from the memory that it lies in and received into the memory that it is for, arrives whole and
//! between the frames that it was queued between, however little of it the link takes at a time; and when its link ends, its
//! memory is let go of.
//!
//! What lies between its parts would be taken for pages, so half of one must never be followed by anything.

mod common;

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use common::{DEADLINE, Record, lead_until, mesh, narrow_stream_pair, ring_mesh, stream_pair};
use pagemesh_net::frame::MAX_LONG_BYTES;
use pagemesh_net::{
    LinkLoss, PAGE_BYTES, Packing, Pages, Receiver, Reject, RingEnd, RingFault, Source, Switch,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

#[derive(Debug)]
struct Heap(Vec<u8>);

impl Heap {
    /// Bytes that repeat only after a prime number of them.
    fn of(bytes: usize) -> Arc<dyn Pages> {
        Arc::new(Heap((0..bytes).map(byte).collect()))
    }
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

impl Pages for Heap {
    fn send(&self, socket: BorrowedFd<'_>, head: &[u8], at: usize, bytes: usize) -> Result<usize, Errno> {
        let pieces = [IoSlice::new(head), IoSlice::new(&self.0[at..at + bytes])];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg(socket, &pieces, &mut SendAncillaryBuffer::default(), flags)
    }

    fn write(&self, ring: &dyn RingEnd, at: usize, bytes: usize) -> Result<usize, RingFault> {
        ring.write(&self.0[at..at + bytes])
    }
}

/// Expects the rounds that [`send_rounds`] queues.
struct Collector<'a> {
    received: &'a AtomicUsize,
    next: usize,
    /// Of the long payload that is coming.
    there: usize,
    /// Throws every third payload away.
    wasteful: bool,
}

/// Bytes of the long payload of a round, and where they begin.
fn long(round: usize) -> (usize, usize) {
    let pages = [64, 1, 7, 33][round % 4];
    (round * 3 * PAGE_BYTES % MAX_LONG_BYTES, pages * PAGE_BYTES)
}

fn send_rounds(switch: &Switch, rounds: usize, pages: &Arc<dyn Pages>) {
    for round in 0..rounds {
        switch.enqueue(1, &(2 * round).to_le_bytes(), &[7; 100]).unwrap();
        let (at, bytes) = long(round);
        assert_eq!(switch.enqueue_long(1, &(2 * round + 1).to_le_bytes(), (pages, at, bytes)), Ok(true));
    }
}

impl Collector<'_> {
    fn check_number(&mut self, message: &[u8]) {
        assert_eq!(message, self.next.to_le_bytes(), "out of order");
    }

    fn take(left: usize, source: Source<'_>) -> Result<Vec<u8>, LinkLoss> {
        // Odd numbers, so that parts end anywhere.
        let mut space = vec![0; left.min(10_007)];
        let count = match source {
            Source::Bytes(bytes) => {
                let count = bytes.len().min(space.len());
                space[..count].copy_from_slice(&bytes[..count]);
                count
            }
            Source::Socket(stream) => {
                let received = rustix::net::recv(stream.as_fd(), &mut space[..], RecvFlags::DONTWAIT);
                Source::received(received.map(|(count, _)| count))?
            }
            Source::Ring(ring) => ring.read(&mut space).map_err(LinkLoss::BadRing)?,
        };
        space.truncate(count);
        Ok(space)
    }
}

impl Receiver for Collector<'_> {
    fn on_frame(&mut self, _: u16, message: &[u8], payload: &[u8]) -> Result<(), Reject> {
        self.check_number(message);
        assert_eq!((self.next % 2, payload), (0, &[7; 100][..]));
        self.next += 1;
        self.received.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn on_long(
        &mut self,
        _: u16,
        message: &[u8],
        part: Range<usize>,
        source: Source<'_>,
    ) -> Result<usize, LinkLoss> {
        self.check_number(message);
        let (at, bytes) = long(self.next / 2);
        assert_eq!((self.next % 2, part.clone()), (1, self.there..bytes));
        let count = if self.wasteful && self.next.is_multiple_of(3) {
            source.waste(part.len())?
        } else {
            let came = Self::take(part.len(), source)?;
            let first = at + part.start;
            assert!(came.iter().zip(first..).all(|(came, at)| *came == byte(at)), "another's bytes");
            came.len()
        };
        self.there += count;
        if self.there == bytes {
            self.there = 0;
            self.next += 1;
            self.received.fetch_add(1, Ordering::SeqCst);
        }
        Ok(count)
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        panic!("lost node {peer}: {why}");
    }
}

#[test]
fn long_payloads_arrive_between_their_neighbours() {
    const ROUNDS: usize = 40;
    let narrow_rings = || ring_mesh(2, 5 * PAGE_BYTES, |_, _| false);
    for switches in [mesh(2, narrow_stream_pair), mesh(2, stream_pair), narrow_rings()] {
        for wasteful in [false, true] {
            let pages = Heap::of(2 * MAX_LONG_BYTES);
            send_rounds(&switches[0], ROUNDS, &pages);
            let received = AtomicUsize::new(0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut nothing = Record::default();
                    while received.load(Ordering::SeqCst) < 2 * ROUNDS {
                        switches[0].wait_service(Some(DEADLINE), &mut nothing).unwrap();
                    }
                });
                let start = Instant::now();
                let mut collector = Collector { received: &received, next: 0, there: 0, wasteful };
                while received.load(Ordering::SeqCst) < 2 * ROUNDS {
                    assert!(start.elapsed() < DEADLINE, "nothing comes any more: {switches:?}");
                    switches[1].wait_service(Some(DEADLINE), &mut collector).unwrap();
                }
                switches[0].wake_service();
            });
            assert_eq!(Arc::strong_count(&pages), 1, "what was sent is not kept");
        }
    }
}

#[test]
fn the_end_of_a_link_lets_go_of_what_was_queued() {
    for switches in [mesh(2, narrow_stream_pair), ring_mesh(2, 5 * PAGE_BYTES, |_, _| false)] {
        let pages = Heap::of(MAX_LONG_BYTES);
        for _ in 0..3 {
            let queued = switches[0].enqueue_long(1, b"pages", (&pages, 0, MAX_LONG_BYTES));
            assert_eq!(queued, Ok(true));
        }
        // The first is on its way, in part.
        switches[0].flush();
        assert!(switches[0].counters_total().sends_blocked > 0);
        switches[0].close(1);
        assert_eq!(Arc::strong_count(&pages), 1);
        assert!(switches[0].enqueue_long(1, b"pages", (&pages, 0, MAX_LONG_BYTES)).is_err());
    }
}

#[test]
fn so_many_may_wait_and_what_is_packed_goes_another_way() {
    let switches = mesh(2, stream_pair);
    let pages = Heap::of(PAGE_BYTES);
    let queue = || switches[0].enqueue_long(1, b"pages", (&pages, 0, PAGE_BYTES)).unwrap();
    assert_eq!((0..1000).take_while(|_| queue()).count(), 64);
    assert_eq!(switches[0].queued(1), 64 * (8 + 5 + PAGE_BYTES));
    switches[0].set_packing(Packing::On);
    assert!(!queue());
    assert!(switches[0].enqueue_long(1, b"pages", (&pages, 0, 100)).is_err(), "no whole page");
}

#[test]
fn who_expects_none_drops_its_sender() {
    let switches = mesh(2, stream_pair);
    let pages = Heap::of(PAGE_BYTES);
    assert_eq!(switches[0].enqueue_long(1, b"pages", (&pages, 0, PAGE_BYTES)), Ok(true));
    switches[0].flush();
    let mut record = Record::default();
    lead_until(&switches[1], &mut record, |record| !record.losses.is_empty());
    assert!(matches!(record.losses[..], [(0, LinkLoss::Rejected(_))]), "{record:?}");
    assert!(record.frames.is_empty());
}
