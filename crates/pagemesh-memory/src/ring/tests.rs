use super::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

fn pair() -> (SharedRing, SharedRing) {
    let (one, file) = SharedRing::create(RING_BYTES_LEAST).unwrap();
    (one, SharedRing::open(file).unwrap())
}

/// A mapping of the same file, with which a test does what a broken process could.
fn scribbler() -> (SharedRing, MappedRange) {
    let (one, file) = SharedRing::create(RING_BYTES_LEAST).unwrap();
    let memory = Memory::sealed(file).unwrap();
    (one, MappedRange::new(&memory, None).unwrap())
}

fn position(range: &MappedRange, at: usize) -> &AtomicU64 {
    // SAFETY: within the first page, and aligned.
    unsafe { AtomicU64::from_ptr(range.start().add(at).cast()) }
}

#[test]
fn bytes_come_out_in_order_in_both_directions_and_across_the_end() {
    let (one, two) = pair();
    let all: Vec<u8> =
        (0..3_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (from, to) in [(&one, &two), (&two, &one)] {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut rest = all.as_slice();
                while !rest.is_empty() {
                    let count = from.write(&rest[..rest.len().min(5003)]).unwrap();
                    rest = &rest[count..];
                    if count == 0 {
                        thread::yield_now();
                    }
                }
            });
            let mut got = Vec::new();
            let mut space = [0; 7001];
            while got.len() < all.len() {
                let count = to.read(&mut space).unwrap();
                got.extend_from_slice(&space[..count]);
                assert!(!to.take_writer_call());
                if count == 0 {
                    thread::yield_now();
                }
            }
            assert!(got == all);
        });
        assert!(!to.is_readable() && from.is_writable());
    }
}

#[test]
fn a_page_is_taken_while_it_is_written_and_never_before() {
    const PAGES: usize = 20_000;
    let (one, two) = pair();
    let page =
        |number: usize| -> Vec<u8> { (0..PAGE_BYTES).map(|at| (number * 31 + at / 7) as u8).collect() };
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..PAGES {
                let bytes = page(number);
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    rest = &rest[one.write(rest).unwrap()..];
                }
            }
        });
        let mut got = [0; PAGE_BYTES];
        for number in 0..PAGES {
            let mut count = 0;
            while count < PAGE_BYTES {
                let space = &mut got[count..];
                // SAFETY: a mutable slice can be written.
                count += unsafe { two.read_to(space.as_mut_ptr(), space.len()) }.unwrap();
                two.take_writer_call();
            }
            assert!(got.as_slice() == page(number), "page {number}");
        }
    });
}

#[test]
fn a_full_ring_takes_nothing_and_says_so() {
    let (one, two) = pair();
    let bytes = vec![7; 2 * RING_BYTES_LEAST];
    assert_eq!(one.write(&bytes), Ok(RING_BYTES_LEAST));
    assert_eq!(one.write(&bytes), Ok(0));
    assert!(!one.is_writable() && two.is_readable());
    assert_eq!(two.read(&mut [0; 10]), Ok(10));
    assert!(!one.is_writable(), "before it is told");
    assert!(!two.take_writer_call());
    assert!(one.is_writable());
    assert_eq!(one.write(&bytes), Ok(10));
}

#[test]
fn a_call_is_wanted_until_it_is_taken() {
    let (one, two) = pair();
    assert!(!one.take_reader_call());
    two.call_reader(true);
    assert!(one.take_reader_call());
    assert!(!one.take_reader_call());
    two.call_reader(true);
    two.call_reader(false);
    assert!(!one.take_reader_call());
    one.call_writer(true);
    assert!(two.take_writer_call());
    assert!(!two.take_writer_call());
}

#[test]
fn a_position_that_cannot_be_is_found_before_a_byte_is_touched() {
    // Lane 0 is written by the creator, lane 1 by the scribbler.
    for wrong in [RING_BYTES_LEAST as u64 + 1, u64::MAX, 1 << 63] {
        let (ring, file) = scribbler();
        position(&file, LANE_HEAD_BYTES).store(wrong, Ordering::SeqCst);
        assert!(ring.is_readable());
        let most = RING_BYTES_LEAST as u64;
        assert_eq!(ring.read(&mut [0; 16]), Err(RingFault { found: wrong, least: 0, most }));
    }
    let (ring, file) = scribbler();
    position(&file, LANE_HEAD_BYTES).store(10, Ordering::SeqCst);
    assert_eq!(ring.read(&mut [0; 16]), Ok(10));
    position(&file, LANE_HEAD_BYTES).store(9, Ordering::SeqCst);
    assert!(ring.read(&mut [0; 16]).is_err(), "what was written cannot become less");
    assert_eq!(ring.write(&vec![1; RING_BYTES_LEAST]), Ok(RING_BYTES_LEAST));
    position(&file, 128).store(RING_BYTES_LEAST as u64 + 1, Ordering::SeqCst);
    assert!(ring.write(&[1]).is_err(), "what was never written cannot be read");
}

#[test]
fn positions_of_this_end_are_not_read_back() {
    let (ring, file) = scribbler();
    ring.write(&[1; 100]).unwrap();
    position(&file, 0).store(5, Ordering::SeqCst);
    assert_eq!(ring.write(&[2; 100]), Ok(100));
    assert_eq!(position(&file, 0).load(Ordering::SeqCst), 200);
}

#[test]
fn a_file_that_could_shrink_or_is_no_ring_is_refused() {
    let bytes = (LANES_AT + 2 * RING_BYTES_LEAST) as u64;
    let open = || memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    let file = open();
    ftruncate(&file, bytes).unwrap();
    assert!(matches!(SharedRing::open(file), Err(RingError::Foreign { .. })));
    for odd in [0, 4096, bytes - 4096, bytes + 1] {
        let file = open();
        ftruncate(&file, odd).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        assert!(matches!(SharedRing::open(file), Err(RingError::Foreign { .. })), "{odd}");
    }
    let plain = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(matches!(SharedRing::open(plain.into()), Err(RingError::Foreign { .. })));
}
