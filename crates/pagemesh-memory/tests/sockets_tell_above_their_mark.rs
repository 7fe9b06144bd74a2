//! Guarantee: a socket tells an epoll nothing while it holds less than its mark, tells at once when the mark goes down to what it holds, and
//! always tells of its end. What threads that look at a socket themselves rest upon.

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use pagemesh_memory::set_low_mark;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Longer than loopback takes to deliver, which is within the send.
const WHILE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(1);
const MARK: u32 = 16 * 1024;

struct Watched {
    near: TcpStream,
    far: TcpStream,
    epoll: OwnedFd,
}

impl Watched {
    fn new() -> Watched {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nodelay(true).unwrap();
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&epoll, &near, EventData::new_u64(0), EventFlags::IN).unwrap();
        Watched { near, far, epoll }
    }

    fn tells_within(&self, time: Duration) -> bool {
        let mut events = [const { MaybeUninit::uninit() }; 1];
        let timeout = Timespec::try_from(time).unwrap();
        let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&timeout)).unwrap();
        !ready.is_empty()
    }
}

#[test]
fn below_its_mark_a_socket_is_silent_and_can_be_read() {
    let mut watched = Watched::new();
    set_low_mark(watched.near.as_fd(), MARK).unwrap();
    watched.far.write_all(&[7; 100]).unwrap();
    assert!(!watched.tells_within(WHILE));
    let mut bytes = [0; 200];
    assert_eq!(watched.near.read(&mut bytes).unwrap(), 100);
    watched.far.write_all(&[7; MARK as usize]).unwrap();
    assert!(watched.tells_within(PATIENCE), "the mark is reached");
}

#[test]
fn when_the_mark_goes_down_it_tells_what_is_there() {
    let mut watched = Watched::new();
    set_low_mark(watched.near.as_fd(), MARK).unwrap();
    watched.far.write_all(&[7]).unwrap();
    assert!(!watched.tells_within(WHILE));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| watched.tells_within(PATIENCE));
        set_low_mark(watched.near.as_fd(), 1).unwrap();
        assert!(waiter.join().unwrap(), "whoever sleeps is told");
    });
}

#[test]
fn the_end_is_told_whatever_the_mark() {
    let Watched { near, far, epoll } = Watched::new();
    set_low_mark(near.as_fd(), MARK).unwrap();
    drop(far);
    assert!(Watched { far: near.try_clone().unwrap(), near, epoll }.tells_within(PATIENCE));
}

#[test]
fn what_has_no_mark_says_so() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(set_low_mark(file.as_fd(), 1).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
}
