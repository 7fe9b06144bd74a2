//! A machine that loses its network, or its power, says nothing: no connection ends by itself. What waits for it must not
//! wait longer than the lease. So nodes are cut off from each other for real, in a network that only this test has.

mod cluster;

use cluster::{PATIENCE, play, start_with};
use pagemesh::{AccessError, DepartureKind, RegionOptions, SyncError};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

const NODES: usize = 3;

/// Says to this test program that it has a network of its own.
const INSIDE: &str = "PAGEMESH_TEST_OWN_NETWORK";

/// Switches the loopback device of this network on or off, as `ip link set lo` does (netdevice(7)).
fn switch_loopback(on: bool) {
    // SAFETY: all zeros is such a structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l', b'o'].map(|letter| letter.cast_signed() as libc::c_char));
    request.ifr_ifru.ifru_flags = if on { libc::IFF_UP as i16 } else { 0 };
    // SAFETY: system calls with a structure as they want it.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request);
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        libc::close(socket);
    }
}

/// Runs this test again in a network of its own. False, and said, where that is not allowed.
fn runs_inside(test: &str) -> bool {
    let mut unshare = Command::new("unshare");
    // SAFETY: asks a number, and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg("--net");
    let possible = Command::new(unshare.get_program()).args(unshare.get_args()).arg("true").output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        // Past the harness, which would keep it to itself.
        let _ =
            writeln!(std::io::stderr(), "not tried, since no network of its own can be had: {possible:?}");
        return false;
    }
    unshare.arg(std::env::current_exe().expect("this test binary"));
    let ran = unshare.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1").output();
    let ran = ran.expect("it starts");
    assert!(ran.status.success(), "{ran:?}");
    true
}

#[test]
fn every_wait_for_nodes_that_are_cut_off_ends() {
    const TEST: &str = "every_wait_for_nodes_that_are_cut_off_ends";
    play(TEST, |mesh| {
        // One page of each node's.
        let region = mesh.region("words", RegionOptions::new(NODES * 4096)).unwrap();
        let words = region.slice::<u64>(0, NODES * 512).unwrap();
        let me = mesh.node().index();
        words.set(me * 512, 7).unwrap();
        let held = (me == 2).then(|| mesh.lock(5).acquire().unwrap());
        mesh.barrier(1).wait().unwrap();
        say!("ready");
        // One waits for a lock, with nothing under way; the others meet again and again.
        if me == 1 {
            let waited = mesh.lock(5).acquire();
            assert!(
                matches!(waited, Err(SyncError::PeerLost { .. } | SyncError::OwnerDied { .. })),
                "{waited:?}"
            );
        } else {
            while mesh.barrier_of(3, 2).wait().is_ok() {}
        }
        for _ in 1..NODES {
            let lost = mesh.wait_departure(PATIENCE).expect("a node is lost");
            assert_eq!(lost.how, DepartureKind::Died);
        }
        for other in (0..NODES).filter(|other| *other != me) {
            let read = words.get(other * 512);
            assert!(
                matches!(read, Err(AccessError::PageLost { .. } | AccessError::PeerLost { .. })),
                "{read:?}"
            );
        }
        assert!(matches!(mesh.barrier(2).wait(), Err(SyncError::PeerLost { .. })));
        say!("lost");
        drop(held);
    });
    if std::env::var_os(INSIDE).is_none() {
        runs_inside(TEST);
        return;
    }
    switch_loopback(true);
    let nodes = start_with(TEST, NODES, &[("PAGEMESH_LEASE_MS", "1000")]);
    for node in &nodes {
        assert_eq!(node.hear(), "ready");
    }
    switch_loopback(false);
    for node in &nodes {
        assert_eq!(node.hear_within(Duration::from_secs(30)), "lost");
    }
    for node in nodes {
        node.rest();
    }
}
