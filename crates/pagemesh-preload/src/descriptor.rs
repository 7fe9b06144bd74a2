//! What kind of thing a descriptor stands for.

use libc::{
    AF_INET, AF_INET6, F_GETFL, O_DIRECT, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, SO_DOMAIN,
    SO_TYPE, SOCK_STREAM, SOL_SOCKET, c_int,
};
use std::mem::MaybeUninit;

/// How a descriptor may be read and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Never waits for somebody else: a file or a block device.
    File,
    /// A terminal, `/dev/null` and the like: what is read or written at a time has no meaning beyond [a
    /// piece](crate::transfer::PIECE_BYTES).
    Device,
    /// May wait; bytes without borders: a pipe, a stream socket.
    Stream,
    /// May wait; each call is a message of its own: a datagram socket, a timer, an event counter.
    Message,
    /// The call will say what is wrong with it.
    Unknown,
}

pub(crate) fn kind(descriptor: c_int) -> Kind {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fills in the structure.
    if unsafe { libc::fstat(descriptor, status.as_mut_ptr()) } != 0 {
        return Kind::Unknown;
    }
    // SAFETY: filled in.
    match unsafe { status.assume_init() }.st_mode & S_IFMT {
        S_IFREG | S_IFBLK => Kind::File,
        S_IFCHR => Kind::Device,
        // A pipe with O_DIRECT passes packets on (pipe(2)).
        // SAFETY: asks for flags.
        S_IFIFO if unsafe { libc::fcntl(descriptor, F_GETFL) } & O_DIRECT == 0 => Kind::Stream,
        S_IFSOCK if socket_type(descriptor) == SOCK_STREAM => Kind::Stream,
        _ => Kind::Message,
    }
}

/// Whether what is received with MSG_TRUNC is dropped and written nowhere: tcp(7) does that.
pub(crate) fn drops_truncated(descriptor: c_int) -> bool {
    socket_type(descriptor) == SOCK_STREAM && matches!(option(descriptor, SO_DOMAIN), AF_INET | AF_INET6)
}

fn socket_type(descriptor: c_int) -> c_int {
    option(descriptor, SO_TYPE)
}

/// A number that a socket knows of itself; 0 for what is no socket.
fn option(descriptor: c_int, name: c_int) -> c_int {
    let mut found: c_int = 0;
    let mut bytes = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: fills in one number of the size it is told.
    unsafe {
        libc::getsockopt(descriptor, SOL_SOCKET, name, (&raw mut found).cast(), &raw mut bytes);
    }
    found
}
