//! When a socket tells that something has come.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// Has a socket tell that it is readable, to poll(2), epoll(7) and their sleepers, only when it holds `bytes` bytes, or has come to its end:
/// `SO_RCVLOWAT`, socket(7). A `recv(2)` that does not wait takes what is there all the same. When the mark goes down to what is there already, the kernel tells so at once
/// (TCP, Linux 4.18).
///
/// For a mark beyond half of the socket's receive buffer the kernel makes that larger, and ends its growth by need.
///
/// # Errors
/// What `setsockopt(2)` says: `ENOTSOCK`, and for sockets without a mark `EOPNOTSUPP`.
pub fn set_low_mark(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads so many bytes at the address of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
