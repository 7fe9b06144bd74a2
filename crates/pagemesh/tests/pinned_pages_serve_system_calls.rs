//! A system call on shared memory cannot wait for a page as a load does. With pins it need not: read(2) fills shared pages on one
//! node and write(2) empties them on another, with every pager; without, it says EFAULT, or waits where the pager can. And a
//! pin must not become a hold-up: nodes that pin the same pages take turns, who forgets to unpin is parted from the page by the
//! deadline and told so, and who dies with pages pinned takes with it only what was there alone.

mod cluster;

use cluster::{Node, PATIENCE, everywhere, play, run, start_with};
use pagemesh::pager::PagerKind;
use pagemesh::{
    Access, AccessError, AtomicU64, Config, Mesh, NodeId, PageState, PinError, Placement, Protocol,
    RegionOptions,
};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// More than one batch of a prefetch, and neither a whole number of pages nor at the start of one.
const BYTES: usize = 90 * 4096 + 1234;
const START: usize = 4096 + 77;
const REGION: usize = 100 * 4096;

/// Bytes that repeat neither by page nor by word.
fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// A file without a name in the folder for temporary files, with these bytes.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn read_in(file: &File, place: *mut u8, bytes: usize) -> io::Result<usize> {
    // SAFETY: the caller gives a place in a region, where the kernel may write what fits; a fault is an error.
    let count = unsafe { libc::read(file.as_raw_fd(), place.cast(), bytes) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn write_out(file: &File, place: *const u8, bytes: usize) -> io::Result<usize> {
    // SAFETY: as above; the kernel reads.
    let count = unsafe { libc::write(file.as_raw_fd(), place.cast(), bytes) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[test]
fn a_file_passes_through_pinned_pages_of_two_nodes() {
    const TEST: &str = "a_file_passes_through_pinned_pages_of_two_nodes";
    play(TEST, |mesh| {
        let protocols = [Protocol::WriteInvalidate, Protocol::Migration, Protocol::Release];
        for (number, protocol) in protocols.into_iter().enumerate() {
            // Each page goes through both pointers, on either side.
            let name = format!("file {number}");
            let region = mesh.region(&name, RegionOptions::new(REGION).protocol(protocol)).unwrap();
            let barrier = mesh.barrier(number as u64);
            for round in 0..2 {
                if mesh.node() == NodeId::new(0) {
                    let bytes: Vec<u8> = (0..BYTES).map(|index| pattern(index + round)).collect();
                    let file = file(&bytes);
                    let pin = region.pin(START..START + BYTES, Access::Write).unwrap();
                    let place = if round == 0 { pin.io_pointer() } else { pin.as_ptr() };
                    assert_eq!(read_in(&file, place, BYTES).unwrap(), BYTES);
                    pin.release().unwrap();
                }
                barrier.wait().unwrap();
                if mesh.node() == NodeId::new(2) {
                    let mut file = file(&[]);
                    let pin = region.pin(START..START + BYTES, Access::Read).unwrap();
                    let place = if round == 0 { pin.as_ptr() } else { pin.io_pointer() };
                    assert_eq!(write_out(&file, place, BYTES).unwrap(), BYTES);
                    pin.release().unwrap();
                    file.rewind().unwrap();
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).unwrap();
                    assert_eq!(bytes.len(), BYTES);
                    assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == pattern(index + round)));
                    // The same through private memory.
                    let mut copied = Vec::new();
                    region.cursor(START, BYTES).read_to_end(&mut copied).unwrap();
                    assert_eq!(copied, bytes);
                    assert_eq!(region.slice::<u8>(START - 1, 1).unwrap().get(0), Ok(0), "nothing beside");
                }
                barrier.wait().unwrap();
            }
            assert_eq!(mesh.stats().pins_taken, 0);
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

/// In a release region a release does not end a pin: a system call that is under way writes on, and what it has written
/// by then is what others see. An acquire that names the page does end it, and says so.
#[test]
fn a_release_passes_by_pins_and_an_acquire_may_take_them() {
    const TEST: &str = "a_release_passes_by_pins_and_an_acquire_may_take_them";
    const HALF: usize = BYTES / 2;
    play(TEST, |mesh| {
        let options = RegionOptions::new(REGION).protocol(Protocol::Release);
        let region = mesh.region("released", options).unwrap();
        let all = region.slice::<u8>(START, BYTES).unwrap();
        let (barrier, number) = (mesh.barrier(1), mesh.node().index());
        let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
        let check = |end: usize| {
            let mut found = vec![0; BYTES];
            all.read(0, &mut found).unwrap();
            assert!(found[..end] == bytes[..end] && found[end..].iter().all(|byte| *byte == 0), "{end}");
        };
        let (mut file, pin) =
            (file(&bytes), (number == 0).then(|| region.pin(START..START + BYTES, Access::Write)));
        let pin = pin.transpose().unwrap();
        for end in [HALF, BYTES] {
            if let Some(pin) = &pin {
                let from = file.stream_position().unwrap() as usize;
                // One half through either pointer.
                let place = if end == HALF { pin.io_pointer() } else { pin.as_ptr() };
                assert_eq!(read_in(&file, place.wrapping_add(from), end - from).unwrap(), end - from);
                assert_eq!(file.stream_position().unwrap(), end as u64);
            }
            barrier.wait().unwrap();
            check(end);
            barrier.wait().unwrap();
        }
        if let Some(pin) = pin {
            assert!(pin.is_held());
            pin.release().unwrap();
        }
        assert_eq!(mesh.stats().pins_taken, 0);
        // Another node writes beside what is pinned, and this one synchronises with it.
        let own = START / 4096 * 4096;
        let pin = (number == 0).then(|| region.pin(own..own + 1, Access::Write).unwrap());
        if let Some(pin) = &pin {
            file.rewind().unwrap();
            assert_eq!(read_in(&file, pin.as_ptr(), 1).unwrap(), 1);
        }
        if number == 1 {
            all.set(0, !pattern(0)).unwrap();
        }
        barrier.wait().unwrap();
        if let Some(pin) = pin {
            assert!(!pin.is_held());
            assert!(matches!(pin.release(), Err(PinError::Taken { page: 1, .. })));
            assert_eq!(mesh.stats().pins_taken, 1);
        }
        assert_eq!(region.slice::<u8>(own, 1).unwrap().get(0), Ok(pattern(0)), "written before it went");
        assert_eq!(all.get(0), Ok(!pattern(0)));
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

/// Each try to change a word of a release region is a release. A thread that tries again and again while it has a page pinned for writing would
/// take the page from all its readers each time, if the page counted as written each time.
#[test]
fn a_thread_that_spins_beside_a_pin_tells_only_of_what_was_written() {
    const TEST: &str = "a_thread_that_spins_beside_a_pin_tells_only_of_what_was_written";
    const TRIES: u64 = 50;
    play(TEST, |mesh| {
        let options = RegionOptions::new(2 * 4096).protocol(Protocol::Release);
        let at_node_1 = Placement::Single(NodeId::new(1));
        let region = mesh.region("spun", options.placement(at_node_1)).unwrap();
        // The home writes its page in place, and the other node through a twin: with each as the one who spins.
        for spinner in 0..2 {
            mesh.barrier(1).wait().unwrap();
            let page = region.slice::<u8>(0, 4096).unwrap();
            let word = AtomicU64::new(&region, 4096 + 8 * spinner).unwrap();
            let me = mesh.node().index();
            let place = 64 * (spinner + 1);
            assert_eq!(page.get(place), Ok(0));
            mesh.barrier(1).wait().unwrap();
            if me == spinner {
                let mut file = file(&[7, 8]);
                let pin = region.pin(0..4096, Access::Write).unwrap();
                // Whoever had a copy before is told once.
                assert_eq!(word.fetch_add(1), Ok(0));
                let (diffs, looks) = (mesh.stats().diffs_sent, mesh.stats().looks);
                for tries in 1..TRIES {
                    assert_eq!(word.fetch_add(1), Ok(tries));
                }
                assert_eq!(mesh.stats().diffs_sent, diffs, "looks: {}", mesh.stats().looks - looks);
                for place in [place, place + 1] {
                    let before = file.stream_position().unwrap();
                    assert_eq!(read_in(&file, pin.io_pointer().wrapping_add(place), 1).unwrap(), 1);
                    file.seek(io::SeekFrom::Start(before + 1)).unwrap();
                    word.fetch_add(1).unwrap();
                }
                // The home sends itself nothing.
                assert_eq!(mesh.stats().diffs_sent, diffs + 2 * (1 - spinner as u64));
                pin.release().unwrap();
            } else {
                // Sees each byte once it was told of it, while the pin is held.
                let deadline = Instant::now() + PATIENCE;
                while word.load().unwrap() < TRIES + 2 {
                    assert!(Instant::now() < deadline, "the other node stopped trying");
                    std::thread::yield_now();
                }
                assert_eq!((page.get(place), page.get(place + 1)), (Ok(7), Ok(8)));
            }
            mesh.barrier(1).wait().unwrap();
        }
        assert_eq!(mesh.stats().pins_taken, 0);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn what_is_not_pinned_is_efault_or_waits_where_the_pager_can() {
    const TEST: &str = "what_is_not_pinned_is_efault_or_waits_where_the_pager_can";
    play(TEST, |mesh| {
        let region = mesh.region("bare", RegionOptions::new(4 * 4096)).unwrap();
        if mesh.node() == NodeId::new(0) {
            region.slice::<u8>(0, 4 * 4096).unwrap().write(0, &[7; 4 * 4096]).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(1) {
            let mut file = file(&[]);
            let waits = mesh.pager().kind == PagerKind::Handler;
            let written = write_out(&file, region.as_ptr(), 2 * 4096);
            if waits {
                assert_eq!(written.unwrap(), 2 * 4096, "this pager serves system calls");
                file.rewind().unwrap();
                assert_eq!(read_in(&file, region.as_ptr().wrapping_add(2 * 4096), 4096).unwrap(), 4096);
            } else {
                assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EFAULT));
                file.write_all(&[9; 4096]).unwrap();
                file.rewind().unwrap();
                region.prefetch(2..3).unwrap();
                let read = read_in(&file, region.as_ptr().wrapping_add(2 * 4096), 4096);
                assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EFAULT), "it is readable only");
                let pin = region.pin(2 * 4096..3 * 4096, Access::Write).unwrap();
                assert_eq!(read_in(&file, pin.as_ptr(), 4096).unwrap(), 4096);
                pin.release().unwrap();
            }
            let byte = if waits { 7 } else { 9 };
            assert_eq!(region.slice::<u8>(2 * 4096, 4096).unwrap().get(4095), Ok(byte));
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn nodes_that_pin_overlapping_ranges_take_turns_and_need_no_deadline() {
    const TEST: &str = "nodes_that_pin_overlapping_ranges_take_turns_and_need_no_deadline";
    const ROUNDS: u64 = 30;
    play(TEST, |mesh| {
        let region = mesh.region("overlap", RegionOptions::new(12 * 4096)).unwrap();
        let counters = region.slice::<u64>(0, 12 * 512).unwrap();
        mesh.barrier(1).wait().unwrap();
        let node = mesh.node().index();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (region, counters) = (&region, &counters);
                scope.spawn(move || {
                    for round in 0..ROUNDS as usize {
                        // Ranges of different lengths that begin above and below each other's.
                        let first = (node * 3 + thread * 2 + round) % 4;
                        let end = 8 + (node + 2 * thread + round) % 5;
                        let pin = region.pin(first * 4096..end * 4096, Access::Write).unwrap();
                        // Nests at once, also while others wait for the page.
                        let inner = region.pin(5 * 4096..6 * 4096, Access::Read).unwrap();
                        counters.fetch_add(5 * 512, 1).unwrap();
                        inner.release().unwrap();
                        pin.release().unwrap();
                    }
                });
            }
        });
        mesh.barrier(1).wait().unwrap();
        assert_eq!(counters.get(5 * 512), Ok(2 * ROUNDS * mesh.nodes() as u64));
        let stats = mesh.stats();
        say!("{} pins, {} taken", stats.pins, stats.pins_taken);
        mesh.leave().unwrap();
    });
    everywhere(|| {
        for (node, said) in start_with(TEST, 3, &PATIENT).into_iter().map(Node::rest).enumerate() {
            assert_eq!(said, ["120 pins, 0 taken"], "node {node}");
        }
    });
}

/// A deadline that a loaded machine does not reach.
const PATIENT: [(&str, &str); 1] = [("PAGEMESH_PIN_MS", "50000")];

#[test]
fn who_overstays_is_parted_from_the_page_and_told() {
    const TEST: &str = "who_overstays_is_parted_from_the_page_and_told";
    play(TEST, |mesh| {
        let region = mesh.region("late", RegionOptions::new(4 * 4096)).unwrap();
        let bytes = region.slice::<u8>(0, 4 * 4096).unwrap();
        if mesh.node() == NodeId::new(0) {
            bytes.set(0, 1).unwrap();
            bytes.set(4096, 1).unwrap();
            let pin = region.pin(0..2 * 4096, Access::Write).unwrap();
            mesh.barrier(1).wait().unwrap();
            // Node 1 writes the page while this node holds on to it until it has.
            mesh.barrier(2).wait().unwrap();
            assert!(!pin.is_held());
            assert_eq!(region.page_state(1), PageState::Modified, "only what was wanted went");
            match pin.release() {
                Err(PinError::Taken { page: 0, after, .. }) => assert_eq!(after, Duration::from_millis(300)),
                other => panic!("{other:?}"),
            }
            assert_eq!(mesh.stats().pins_taken, 1);
            let pin = region.pin(0..4096, Access::Read).unwrap();
            assert_eq!(bytes.get(0), Ok(2));
            pin.release().unwrap();
        } else {
            mesh.barrier(1).wait().unwrap();
            bytes.set(0, 2).unwrap();
            mesh.barrier(2).wait().unwrap();
        }
        mesh.barrier(3).wait().unwrap();
        mesh.leave().unwrap();
    });
    everywhere(|| {
        let nodes = start_with(TEST, 2, &[("PAGEMESH_PIN_MS", "300")]);
        for node in nodes {
            node.rest();
        }
    });
}

#[test]
fn a_pin_by_address_is_a_pin() {
    const TEST: &str = "a_pin_by_address_is_a_pin";
    play(TEST, |mesh| {
        let region = mesh.region("address", RegionOptions::new(4 * 4096)).unwrap();
        let other = mesh.region("other", RegionOptions::new(4096)).unwrap();
        if mesh.node() == NodeId::new(0) {
            region.slice::<u8>(0, 4 * 4096).unwrap().write(0, &[5; 4 * 4096]).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(1) {
            let address = region.base() + 100;
            mesh.pin_address(address, 8000, Access::Read).unwrap();
            mesh.pin_address(address, 8000, Access::Read).unwrap();
            let file = file(&[]);
            assert_eq!(write_out(&file, region.as_ptr().wrapping_add(100), 8000).unwrap(), 8000);
            assert_eq!(write_out(&file, mesh.io_pointer(address).unwrap(), 8000).unwrap(), 8000);
            mesh.unpin_address(address, 8000).unwrap();
            let not = |error: Result<(), PinError>| matches!(error, Err(PinError::NotPinned { .. }));
            assert!(not(mesh.unpin_address(address, 7999)));
            mesh.unpin_address(address, 8000).unwrap();
            assert!(not(mesh.unpin_address(address, 8000)));
            let private = Box::new([0_u8; 64]);
            let foreign = |address, bytes| {
                let pinned = mesh.pin_address(address, bytes, Access::Write);
                matches!(pinned, Err(PinError::NoRegion { .. }))
            };
            assert!(foreign(private.as_ptr().addr(), 64));
            assert!(foreign(region.base() - 1, 2) && foreign(region.base(), region.bytes() + 1));
            assert!(foreign(0, 1) && foreign(usize::MAX, 1) && foreign(region.base(), usize::MAX));
            assert_eq!(mesh.io_pointer(private.as_ptr().addr()), None);
            assert_eq!(mesh.io_pointer(other.base() + 4096), None);
            mesh.pin_address(other.base(), 4096, Access::Write).unwrap();
            mesh.unpin_address(other.base(), 4096).unwrap();
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn a_range_beyond_the_region_or_the_bound_is_an_error() {
    let mesh = Mesh::join(Config::single()).unwrap();
    let region = mesh.region("bounds", RegionOptions::new(33 << 20)).unwrap();
    let beyond = region.pin((33 << 20) - 1..(33 << 20) + 1, Access::Read);
    assert!(matches!(beyond, Err(PinError::OutOfBounds { .. })));
    let empty = region.pin(33 << 20..33 << 20, Access::Write).unwrap();
    assert!(empty.is_empty());
    empty.release().unwrap();
    assert!(matches!(region.pin(0..33 << 20, Access::Read), Err(PinError::TooMany { .. })));

    // 16 MiB, pinned twice, is what there is room for.
    let file = file(&vec![3; 16 << 20]);
    let pin = region.pin(0..16 << 20, Access::Write).unwrap();
    let again = region.pin(0..16 << 20, Access::Write).unwrap();
    assert_eq!(read_in(&file, again.io_pointer(), 16 << 20).unwrap(), 16 << 20);
    match region.pin(20 << 20..(20 << 20) + 1, Access::Read) {
        Err(PinError::TooMany { pages: 1, limit, .. }) => assert_eq!(limit, 8192),
        other => panic!("{other:?}"),
    }
    again.release().unwrap();
    let more = region.pin(20 << 20..(20 << 20) + 1, Access::Read).unwrap();
    drop(more);
    pin.release().unwrap();
    assert_eq!(region.slice::<u8>(0, 16 << 20).unwrap().get((16 << 20) - 1), Ok(3));

    let left = region.pin(0..4096, Access::Write).unwrap();
    mesh.leave().unwrap();
    assert!(!left.is_held());
    assert!(matches!(left.release(), Err(PinError::Access(AccessError::Closed { .. }))));
    assert!(matches!(region.pin(0..1, Access::Read), Err(PinError::Access(AccessError::Closed { .. }))));
}

#[test]
fn sixteen_mebibytes_are_pinned_on_one_node_and_filled_on_another() {
    const TEST: &str = "sixteen_mebibytes_are_pinned_on_one_node_and_filled_on_another";
    const LARGE: usize = 16 << 20;
    play(TEST, |mesh| {
        let region = mesh.region("large", RegionOptions::new(LARGE)).unwrap();
        if mesh.node() == NodeId::new(0) {
            let bytes: Vec<u8> = (0..LARGE).map(pattern).collect();
            let file = file(&bytes);
            let pin = region.pin(0..LARGE, Access::Write).unwrap();
            assert_eq!(read_in(&file, pin.io_pointer(), LARGE).unwrap(), LARGE);
            pin.release().unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(1) {
            let mut file = file(&[]);
            let pin = region.pin(0..LARGE, Access::Read).unwrap();
            assert_eq!(write_out(&file, pin.io_pointer(), LARGE).unwrap(), LARGE);
            pin.release().unwrap();
            file.rewind().unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() == LARGE && bytes.iter().enumerate().all(|(i, byte)| *byte == pattern(i)));
        }
        mesh.leave().unwrap();
    });
    run(TEST, 2);
}

#[test]
fn a_node_that_dies_with_pages_pinned_loses_only_what_it_had_alone() {
    const TEST: &str = "a_node_that_dies_with_pages_pinned_loses_only_what_it_had_alone";
    play(TEST, |mesh| {
        let region = mesh.region("dies", RegionOptions::new(6 * 4096)).unwrap();
        let bytes = region.slice::<u8>(0, 6 * 4096).unwrap();
        // Pages 0 and 3 have their home at node 0, 1 and 4 at node 1.
        if mesh.node() == NodeId::new(1) {
            bytes.set(0, 1).unwrap();
            bytes.set(4096, 1).unwrap();
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(2) {
            let _alone = region.pin(0..4096, Access::Write).unwrap();
            let _shared = region.pin(4096..2 * 4096, Access::Read).unwrap();
            mesh.barrier(2).wait().unwrap();
            say!("pinned");
            std::thread::park_timeout(cluster::PATIENCE);
            return;
        }
        let own = 3 + mesh.node().index();
        let mine = region.pin(own * 4096..(own + 1) * 4096, Access::Write).unwrap();
        mesh.barrier(2).wait().unwrap();
        say!("ready");
        if mesh.node() == NodeId::new(0) {
            // Its deadline is far away: to die ends its pins.
            let lost = region.pin(0..4096, Access::Read);
            assert!(matches!(lost, Err(PinError::Access(AccessError::PageLost { .. }))), "{lost:?}");
            bytes.set(4096, 2).unwrap();
            say!("went on");
        }
        mine.release().unwrap();
        mesh.wait_departure(cluster::PATIENCE).expect("node 2 is killed");
        if mesh.node() == NodeId::new(1) {
            mesh.wait_departure(cluster::PATIENCE).expect("node 0 needs this home until its end");
        }
        say!("over");
    });
    everywhere(|| {
        let mut nodes = start_with(TEST, 3, &PATIENT);
        for (node, said) in nodes.iter().zip(["ready", "ready", "pinned"]) {
            assert_eq!(node.hear(), said);
        }
        nodes[2].kill();
        let last = nodes.pop();
        assert_eq!(nodes[0].hear(), "went on");
        for node in &mut nodes {
            assert_eq!(node.hear(), "over");
        }
        drop(last);
    });
}
