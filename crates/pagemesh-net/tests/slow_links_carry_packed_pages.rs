//! Guarantee: on a link on which bytes come slowly, the receiver finds that out and asks for packed payloads, and gets them; whatever is
//! packed comes out as it was; and who wants nothing packed gets nothing packed.
//!
//! A page that takes longer on the link than it takes to be packed is waited for in vain. The slow link here is a relay between two
//! connections that lets a few megabytes a second through.

mod common;

use common::{DEADLINE, Record, lead_until, mesh, serve_until, stream_pair};
use pagemesh_net::{PAGE_BYTES, Packing, Switch};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Pages asked for at a time.
const BATCH: usize = 64;

/// A page that says the same again and again, but not the same as another.
fn text(number: usize) -> Vec<u8> {
    format!("line {number} of a text in which much is said twice\n")
        .bytes()
        .cycle()
        .take(PAGE_BYTES)
        .collect()
}

/// Lets `bytes_per_second` through from one stream to the other, until it ends.
fn relay(mut from: TcpStream, mut to: TcpStream, bytes_per_second: u64) {
    let mut piece = [0; 16 * 1024];
    let start = Instant::now();
    let mut passed = 0;
    while let Ok(count) = from.read(&mut piece) {
        if count == 0 || to.write_all(&piece[..count]).is_err() {
            break;
        }
        passed += count as u64;
        let due = Duration::from_nanos(passed * 1_000_000_000 / bytes_per_second);
        // This is the link, not a wait for anything.
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Two switches, and a link between them on which bytes go so fast.
fn over_a_link(bytes_per_second: u64) -> [Switch; 2] {
    let (near, near_relay) = stream_pair();
    let (far_relay, far) = stream_pair();
    for (from, to) in [(&near_relay, &far_relay), (&far_relay, &near_relay)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || relay(from, to, bytes_per_second));
    }
    [Switch::new(0, vec![None, Some(near)]).unwrap(), Switch::new(1, vec![Some(far), None]).unwrap()]
}

/// Node 0 asks for pages, a batch at a time, until `enough` says so of node 1, which sends them, and of how many came.
fn ask_until(switches: &[Switch; 2], enough: impl Fn(&Switch, usize) -> bool) {
    let [asker, server] = switches;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut record = Record::default();
            let mut sent = 0;
            loop {
                serve_until(server, &mut record, |record| record.frames.len() > sent / BATCH);
                if over.load(Ordering::SeqCst) {
                    break;
                }
                for number in sent..sent + BATCH {
                    server.enqueue(0, b"page", &text(number)).unwrap();
                }
                sent += BATCH;
            }
        });
        let start = Instant::now();
        let mut record = Record::default();
        let mut got = 0;
        while !enough(server, got) {
            assert!(start.elapsed() < DEADLINE, "{:?} after {got} pages", server.counters(0));
            asker.enqueue(1, b"more", b"").unwrap();
            lead_until(asker, &mut record, |record| record.frames.len() == BATCH);
            for (number, (_, _, payload)) in (got..).zip(record.frames.drain(..)) {
                assert_eq!(payload, text(number), "page {number}");
            }
            got += BATCH;
        }
        over.store(true, Ordering::SeqCst);
        asker.enqueue(1, b"the end", b"").unwrap();
        asker.flush();
    });
}

#[test]
fn a_slow_link_is_found_out() {
    let switches = over_a_link(20_000_000);
    ask_until(&switches, |server, _| server.counters(0).bytes_saved > 0);
    let before = switches[1].counters(0);
    ask_until(&switches, |_, got| got >= 4 * BATCH);
    let after = switches[1].counters(0);
    let (sent, saved) = (after.bytes_out - before.bytes_out, after.bytes_saved - before.bytes_saved);
    assert!(saved > 10 * sent, "{sent} bytes sent, {saved} saved");
}

#[test]
fn who_does_not_want_it_gets_pages_as_they_are() {
    for off in 0..2 {
        let switches = over_a_link(40_000_000);
        switches[off].set_packing(Packing::Off);
        // Long after a slow link is found out elsewhere.
        ask_until(&switches, |_, got| got >= 40 * BATCH);
        assert_eq!(switches[1].counters(0).bytes_saved, 0, "node {off} wants nothing packed");
    }
}

#[test]
fn who_always_packs_does_so_from_the_first_page() {
    let switches: [Switch; 2] = mesh(2, stream_pair).try_into().unwrap();
    switches[1].set_packing(Packing::On);
    ask_until(&switches, |_, got| got >= 2 * BATCH);
    let counts = switches[1].counters(0);
    assert!(counts.bytes_saved > 10 * counts.bytes_out, "{counts:?}");
}
