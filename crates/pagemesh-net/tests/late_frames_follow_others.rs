//! Guarantee: a frame that may wait is sent with what is sent next, to whomever, or when its receiver says that it waits; and it is never lost
//! or overtaken.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{DEADLINE, mesh, ring_mesh, stream_pair};
use pagemesh_net::{LinkLoss, PAGE_BYTES, Receiver, Reject, Switch};

/// Writes down which frames came, by their first bytes.
#[derive(Default)]
struct Notes(Vec<u8>);

impl Receiver for Notes {
    fn on_frame(&mut self, _: u16, message: &[u8], _: &[u8]) -> Result<(), Reject> {
        self.0.push(message[0]);
        Ok(())
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        panic!("lost node {peer}: {why}");
    }
}

/// What `switch` receives until `count` frames are there.
fn receive(switch: &Switch, count: usize) -> Vec<u8> {
    let mut notes = Notes::default();
    let until = Instant::now() + DEADLINE;
    while notes.0.len() < count {
        assert!(Instant::now() < until, "only {:?} came", notes.0);
        let mut leader = switch.try_lead().expect("nobody else leads");
        leader.receive(Some(Duration::from_millis(10)), &mut notes).unwrap();
    }
    notes.0
}

fn send(switch: &Switch, peer: u16, number: u8) {
    switch.enqueue(peer, &[number], &[]).unwrap();
    switch.flush();
}

fn send_late(switch: &Switch, peer: u16, number: u8) {
    switch.enqueue_late(peer, &[number]).unwrap();
    switch.flush();
}

fn put_off(switch: &Switch) -> u64 {
    switch.counters_total().sends_put_off
}

#[test]
fn a_late_frame_goes_with_the_next_to_its_peer() {
    let switches = mesh(2, stream_pair);
    send_late(&switches[0], 1, 1);
    assert_eq!(put_off(&switches[0]), 1);
    send(&switches[0], 1, 2);
    assert_eq!(put_off(&switches[0]), 1, "the next is not put off");
    assert_eq!(receive(&switches[1], 2), [1, 2]);
}

#[test]
fn what_is_queued_with_a_late_frame_does_not_wait() {
    let switches = mesh(2, stream_pair);
    switches[0].enqueue(1, &[1], &[7; PAGE_BYTES]).unwrap();
    switches[0].enqueue_late(1, &[2]).unwrap();
    switches[0].flush();
    assert_eq!(put_off(&switches[0]), 0);
    assert_eq!(receive(&switches[1], 2), [1, 2]);
}

#[test]
fn a_late_frame_goes_when_anything_goes_anywhere() {
    let switches = mesh(3, stream_pair);
    send_late(&switches[0], 1, 1);
    send(&switches[0], 2, 2);
    assert_eq!(receive(&switches[1], 1), [1]);
    assert_eq!(receive(&switches[2], 1), [2]);
}

#[test]
fn nothing_is_put_off_for_a_peer_that_waits() {
    let switches = mesh(2, stream_pair);
    send_late(&switches[0], 1, 1);
    switches[1].hurry(0);
    switches[1].flush();
    send(&switches[1], 0, 9);
    assert_eq!(receive(&switches[0], 1), [9], "a frame that only hurries is not handed out");
    assert_eq!(receive(&switches[1], 1), [1]);
    send_late(&switches[0], 1, 2);
    assert_eq!(put_off(&switches[0]), 1, "the second is not put off");
    assert_eq!(receive(&switches[1], 1), [2]);
}

/// Answers a frame with a late one.
struct Reporter<'a>(&'a Switch);

impl Receiver for Reporter<'_> {
    fn on_frame(&mut self, peer: u16, message: &[u8], _: &[u8]) -> Result<(), Reject> {
        self.0.enqueue_late(peer, message).map_err(|error| Reject::from(error.to_string()))
    }

    fn on_lost(&mut self, peer: u16, why: LinkLoss) {
        panic!("lost node {peer}: {why}");
    }
}

#[test]
fn a_frame_that_is_queued_before_the_peer_says_that_it_waits_goes_at_once_too() {
    let switches = mesh(2, stream_pair);
    switches[1].enqueue(0, &[1], &[]).unwrap();
    switches[1].hurry(0);
    switches[1].flush();
    // Both come in one piece, and what the first gives rise to is sent after the second was heard.
    let until = Instant::now() + DEADLINE;
    while switches[0].counters(1).frames_in == 0 {
        assert!(Instant::now() < until, "nothing came");
        let mut leader = switches[0].try_lead().expect("nobody else leads");
        leader.receive(Some(Duration::from_millis(10)), &mut Reporter(&switches[0])).unwrap();
    }
    assert_eq!(put_off(&switches[0]), 0);
    assert_eq!(receive(&switches[1], 1), [1]);
}

#[test]
fn who_has_had_to_wait_is_spared_it_for_some_hundred_frames() {
    let switches = mesh(2, stream_pair);
    switches[1].hurry(0);
    for round in 0..10_000 {
        send(&switches[1], 0, 9);
        assert_eq!(receive(&switches[0], 1), [9]);
        send_late(&switches[0], 1, 1);
        assert_eq!(receive(&switches[1], 1), [1]);
        if put_off(&switches[0]) > 0 {
            assert!((100..1000).contains(&round), "after {round} frames");
            return;
        }
    }
    panic!("it is spared it for ever");
}

#[test]
fn through_a_ring_nothing_is_put_off() {
    let switches = ring_mesh(2, 5 * PAGE_BYTES, |_, _| false);
    switches[1].hurry(0);
    send_late(&switches[0], 1, 1);
    assert_eq!(put_off(&switches[0]), 0);
    assert_eq!(receive(&switches[1], 1), [1]);
}

#[test]
fn late_frames_keep_their_order_among_others() {
    /// The numbers that one thread sends, late or not as they come.
    const FRAMES: usize = 20_000;
    let switches = mesh(2, stream_pair);
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..FRAMES {
                if number % 3 == 0 {
                    send(&switches[0], 1, number as u8);
                } else {
                    send_late(&switches[0], 1, number as u8);
                }
                sent.store(number + 1, Ordering::SeqCst);
            }
            send(&switches[0], 1, FRAMES as u8);
        });
        let got = receive(&switches[1], FRAMES + 1);
        let expected: Vec<u8> = (0..=FRAMES).map(|number| number as u8).collect();
        assert!(got == expected, "{} of {} were sent", got.len(), sent.load(Ordering::SeqCst));
    });
    assert!(put_off(&switches[0]) > 0);
}
