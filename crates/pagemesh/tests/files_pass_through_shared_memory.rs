//! A file that is read into shared memory on one node is written out of it on another, byte for byte; and system calls straight on
//! shared pages say EFAULT for those that are not here, rather than anything else.

mod cluster;

use cluster::{everywhere, play, run};
use pagemesh::{NodeId, RegionOptions};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// More than one batch of a prefetch, and not a whole number of pages.
const BYTES: usize = 300 * 4096 + 1234;

/// Bytes that repeat neither by page nor by word.
fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

#[test]
fn a_file_read_in_on_one_node_is_written_out_on_another() {
    const TEST: &str = "a_file_read_in_on_one_node_is_written_out_on_another";
    play(TEST, |mesh| {
        let region = mesh.region("file", RegionOptions::new(BYTES)).unwrap();
        let mut shared = region.cursor(0, BYTES);
        if mesh.node() == NodeId::new(0) {
            let mut file = temporary();
            let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
            file.write_all(&bytes).unwrap();
            file.rewind().unwrap();
            assert_eq!(io::copy(&mut file, &mut shared).unwrap(), BYTES as u64);
            assert_eq!(shared.write(b"beyond the end").unwrap(), 0);
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(2) {
            let mut file = temporary();
            assert_eq!(io::copy(&mut shared, &mut file).unwrap(), BYTES as u64);
            file.rewind().unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == pattern(index)));
            shared.seek(SeekFrom::End(-2)).unwrap();
            let mut last = Vec::new();
            shared.read_to_end(&mut last).unwrap();
            assert_eq!(last, [pattern(BYTES - 2), pattern(BYTES - 1)]);
            assert!(shared.seek(SeekFrom::Current(-1 << 40)).is_err());
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 3);
    });
}

/// A file without a name in the folder for temporary files.
fn temporary() -> File {
    let path = std::env::temp_dir().join(format!("pagemesh-test-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

#[test]
fn a_prefetched_page_is_here_and_faults_no_more() {
    const TEST: &str = "a_prefetched_page_is_here_and_faults_no_more";
    play(TEST, |mesh| {
        let region = mesh.region("ahead", RegionOptions::new(200 * 4096)).unwrap();
        let bytes = region.slice::<u8>(0, 200 * 4096).unwrap();
        if mesh.node() == NodeId::new(0) {
            for page in 0..200 {
                bytes.set(page * 4096, page as u8).unwrap();
            }
        }
        mesh.barrier(1).wait().unwrap();
        if mesh.node() == NodeId::new(1) {
            region.prefetch(10..190).unwrap();
            let faults = mesh.stats().read_faults;
            for page in 10..190 {
                assert_eq!(bytes.get(page * 4096).unwrap(), page as u8);
            }
            assert_eq!(mesh.stats().read_faults, faults, "a prefetched page faulted");
            region.prefetch_for_writing(10..190).unwrap();
            let faults = mesh.stats().write_faults;
            for page in 10..190 {
                bytes.set(page * 4096, 1).unwrap();
            }
            assert_eq!(mesh.stats().write_faults, faults, "a page that was prefetched for writing faulted");
        }
        mesh.leave().unwrap();
    });
    everywhere(|| {
        run(TEST, 2);
    });
}

#[test]
fn a_system_call_on_pages_that_are_not_here_says_so() {
    let mesh = pagemesh::Mesh::join(pagemesh::Config::single()).unwrap();
    let region = mesh.region("raw", RegionOptions::new(2 * 4096)).unwrap();
    region.slice::<u8>(0, 1).unwrap().set(0, 7).unwrap();
    let file = temporary();
    // SAFETY: both pages are mapped; the kernel reads what of them is present.
    let written = |offset: usize, bytes: usize| unsafe {
        libc::write(std::os::fd::AsRawFd::as_raw_fd(&file), region.as_ptr().add(offset).cast(), bytes)
    };
    assert_eq!(written(0, 2 * 4096), 4096, "one page is here, the next is not: a short count");
    assert_eq!(written(4096, 1), -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
    region.prefetch(1..2).unwrap();
    assert_eq!(written(4096, 1), 1, "it is here now");
    mesh.leave().unwrap();
}
