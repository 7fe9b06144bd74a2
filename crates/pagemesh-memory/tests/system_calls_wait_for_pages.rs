//! With the `handler` pager the kernel's own accesses fault like a program's: a system call that is given an absent page waits for
//! it, and fails only if the page cannot be had, for as long as it cannot.

mod common;

use common::{DEADLINE, address, fetch, fetch_zeros, grant, load, region, remote_page, store, wait_until};
use pagemesh_memory::{Access, Fault, Mapping, PAGE_BYTES, PageRange, PagerKind, Resolution};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

crate::for_pager! { handler, Handler:
    a_write_from_absent_pages_finds_their_bytes,
    a_read_into_absent_pages_and_into_a_readable_one_is_stored,
    a_futex_in_an_absent_page_works,
    a_system_call_on_a_page_that_cannot_be_had_fails_and_works_when_it_can,
    readers_of_a_page_are_unharmed_by_stores_that_fail,
    a_thread_that_is_signalled_while_it_waits_goes_on_waiting
}

/// A file in memory.
fn file() -> File {
    // SAFETY: a new descriptor that nobody else has.
    unsafe {
        let descriptor = libc::memfd_create(c"plain".as_ptr(), libc::MFD_CLOEXEC);
        assert!(descriptor >= 0);
        File::from_raw_fd(descriptor)
    }
}

/// `write(2)` from the app view.
fn write_from(mapping: &Mapping, byte_offset: usize, bytes: usize, file: &File) -> Result<usize, i32> {
    // SAFETY: the kernel only reads, from the app view.
    let written = unsafe { libc::write(file.as_raw_fd(), address(mapping, byte_offset).cast(), bytes) };
    usize::try_from(written).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn a_write_from_absent_pages_finds_their_bytes(kind: PagerKind) {
    let (mapping, sink) = region(kind, 3, fetch);
    let mut file = file();
    assert_eq!(write_from(&mapping, 100, 2 * PAGE_BYTES, &file), Ok(2 * PAGE_BYTES));
    assert_eq!(sink.counts(), (3, 0));
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let expected: Vec<u8> = (0..3).flat_map(remote_page).skip(100).take(2 * PAGE_BYTES).collect();
    assert_eq!(bytes, expected);
}

fn a_read_into_absent_pages_and_into_a_readable_one_is_stored(kind: PagerKind) {
    let (mapping, sink) = region(kind, 3, fetch_zeros);
    assert_eq!(load(&mapping, PAGE_BYTES), 0);
    let mut file = file();
    file.write_all(&remote_page(9)).unwrap();
    file.write_all(&remote_page(10)).unwrap();
    file.rewind().unwrap();
    let into = address(&mapping, 50).cast();
    // SAFETY: the kernel writes into the app view only.
    let read = unsafe { libc::read(file.as_raw_fd(), into, 2 * PAGE_BYTES) };
    assert_eq!(read.cast_unsigned(), 2 * PAGE_BYTES);
    assert_eq!(sink.counts(), (1, 3));
    for (offset, byte) in remote_page(9).into_iter().chain(remote_page(10)).enumerate() {
        assert_eq!(load(&mapping, 50 + offset), byte, "byte {offset}");
    }
}

fn futex(word: *mut u8, operation: i32, value: u32) -> Result<i64, i32> {
    let timeout = libc::timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
    // SAFETY: the word lies in the app view and is aligned; the timeout outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_futex, word, operation, value, &raw const timeout) };
    if result >= 0 { Ok(result) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

fn a_futex_in_an_absent_page_works(kind: PagerKind) {
    let (mapping, sink) = region(kind, 1, fetch_zeros);
    let word = address(&mapping, 64);
    assert_eq!(futex(word, libc::FUTEX_WAIT, 7), Err(libc::EAGAIN), "the word was read: it is 0");
    assert_eq!(sink.reads() + sink.writes(), 1);
    let waiting = {
        let mapping = Arc::clone(&mapping);
        thread::spawn(move || {
            let word = address(&mapping, 64);
            mapping.pager().unmap(PageRange::one(0)).unwrap();
            futex(word, libc::FUTEX_WAIT, 0)
        })
    };
    wait_until("a thread is woken", || futex(word, libc::FUTEX_WAKE, 1) == Ok(1));
    assert_eq!(waiting.join().unwrap(), Ok(0));
}

fn a_system_call_on_a_page_that_cannot_be_had_fails_and_works_when_it_can(kind: PagerKind) {
    let can_be_had = Arc::new(AtomicBool::new(false));
    let inside = can_be_had.clone();
    let (mapping, sink) = region(kind, 2, move |mapping: &Mapping, fault: Fault| {
        if fault.page == 1 && !inside.load(Ordering::SeqCst) {
            Resolution::Failed
        } else {
            fetch(mapping, fault)
        }
    });
    let file = file();
    assert_eq!(write_from(&mapping, PAGE_BYTES, 10, &file), Err(libc::EFAULT));
    assert_eq!(write_from(&mapping, PAGE_BYTES - 10, 20, &file), Ok(10), "as far as there are pages");
    can_be_had.store(true, Ordering::SeqCst);
    // Nobody but the kernel touches the page: its failure is forgotten by itself.
    wait_until("the page can be had", || write_from(&mapping, PAGE_BYTES, 10, &file) == Ok(10));
    assert_eq!(load(&mapping, PAGE_BYTES), remote_page(1)[0]);
    let faults = sink.counts();
    assert_eq!(write_from(&mapping, PAGE_BYTES, 10, &file), Ok(10));
    assert_eq!(sink.counts(), faults, "it is there");

    can_be_had.store(false, Ordering::SeqCst);
    mapping.pager().unmap(PageRange::one(1)).unwrap();
    assert!(mapping.load_u8(PAGE_BYTES).is_err());
    can_be_had.store(true, Ordering::SeqCst);
    assert_eq!(
        mapping.load_u8(PAGE_BYTES),
        Ok(remote_page(1)[0]),
        "the thread that was told asks anew at once"
    );
}

/// A store that fails takes the page out of the page table for a moment; whoever reads it meanwhile must not be told that.
fn readers_of_a_page_are_unharmed_by_stores_that_fail(kind: PagerKind) {
    const STORES: usize = 300;
    let (mapping, _) = region(kind, 1, |mapping: &Mapping, fault: Fault| match fault.access {
        Access::Read => grant(mapping, fault),
        Access::Write => Resolution::Failed,
    });
    mapping.service().write_page(0, &remote_page(3));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [0; 2].map(|_| {
            scope.spawn(|| {
                let mut loads = 0_u64;
                while !done.load(Ordering::SeqCst) || loads == 0 {
                    assert_eq!(mapping.load_u8(77), Ok(remote_page(3)[77]));
                    loads += 1;
                }
            })
        });
        let writers = [0; 2].map(|_| {
            scope.spawn(|| {
                for _ in 0..STORES {
                    assert!(mapping.store_u8(77, 0).is_err());
                }
            })
        });
        let results = writers.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok));
        assert!(readers.map(thread::ScopedJoinHandle::join).iter().all(Result::is_ok));
    });
    let mut page = [0; PAGE_BYTES];
    mapping.service().read_page(0, &mut page);
    assert_eq!(page, remote_page(3));
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: i32) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

fn a_thread_that_is_signalled_while_it_waits_goes_on_waiting(kind: PagerKind) {
    let (entered, may_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (inside, inside_may_go) = (entered.clone(), may_go.clone());
    let (mapping, _) = region(kind, 1, move |mapping: &Mapping, fault: Fault| {
        inside.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        while !inside_may_go.load(Ordering::SeqCst) && begin.elapsed() < DEADLINE {
            thread::yield_now();
        }
        fetch_zeros(mapping, fault)
    });
    // SAFETY: the handler takes the one argument that it gets, and only counts.
    unsafe { libc::signal(libc::SIGUSR1, count_signal as *const () as usize) };
    let number = AtomicU32::new(0);
    let (mapping, number_inside) = (&mapping, &number);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            // SAFETY: asks for a number.
            number_inside.store(unsafe { libc::gettid() }.cast_unsigned(), Ordering::SeqCst);
            store(mapping, 5, 6);
            load(mapping, 5)
        });
        wait_until("the fault is with the sink", || entered.load(Ordering::SeqCst));
        let thread = number.load(Ordering::SeqCst).cast_signed();
        // SAFETY: a signal to a thread of this process that has not ended.
        assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) }, 0);
        wait_until("the signal was handled", || SIGNALS.load(Ordering::SeqCst) == 1);
        assert!(!waiting.is_finished());
        may_go.store(true, Ordering::SeqCst);
        assert_eq!(waiting.join().unwrap(), 6);
    });
}
