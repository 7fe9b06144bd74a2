//! recv(2) and send(2) and their forms with addresses and message headers.

use super::missing;
use crate::descriptor::drops_truncated;
use crate::next;
use crate::table::{self, shares};
use crate::transfer::{Call, drain, fill, hinted, is_plausible, vectors_share, with_private_vectors};
use libc::{
    MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, MSG_TRUNC, c_int, c_void, msghdr, size_t, sockaddr, socklen_t,
    ssize_t,
};

/// With these flags only, a large send is the same as several.
const SPLITTING: c_int = MSG_DONTWAIT | MSG_MORE | MSG_NOSIGNAL;

fn receive(descriptor: c_int, buffer: *mut c_void, bytes: usize, flags: c_int, call: Call<'_>) -> ssize_t {
    if flags & MSG_TRUNC != 0 && drops_truncated(descriptor) {
        return hinted(buffer, bytes, true, call);
    }
    fill(descriptor, buffer, bytes, call)
}

/// recv(2).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recv(
    descriptor: c_int,
    buffer: *mut c_void,
    bytes: size_t,
    flags: c_int,
) -> ssize_t {
    let Some(next) = next::RECV.get() else { return missing() };
    if !shares(buffer, bytes) {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, buffer, bytes, flags) };
    }
    receive(descriptor, buffer, bytes, flags, &mut |at, count, _| {
        // SAFETY: the caller's call, on a buffer that is good for as much.
        unsafe { next(descriptor, at, count, flags) }
    })
}

/// `recv` where the compiler knew the buffer's size.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __recv_chk(
    descriptor: c_int,
    buffer: *mut c_void,
    bytes: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    let Some(next) = next::RECV_CHECKED.get() else { return missing() };
    if !shares(buffer, bytes) {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, buffer, bytes, room, flags) };
    }
    receive(descriptor, buffer, bytes, flags, &mut |at, count, _| {
        // SAFETY: the caller's call, on a buffer that is good for as much.
        unsafe { next(descriptor, at, count, room, flags) }
    })
}

/// recvfrom(2).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvfrom(
    descriptor: c_int,
    buffer: *mut c_void,
    bytes: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_bytes: *mut socklen_t,
) -> ssize_t {
    let Some(next) = next::RECVFROM.get() else { return missing() };
    if !shares(buffer, bytes) {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, buffer, bytes, flags, from, from_bytes) };
    }
    receive(descriptor, buffer, bytes, flags, &mut |at, count, _| {
        // SAFETY: the caller's call, on a buffer that is good for as much.
        unsafe { next(descriptor, at, count, flags, from, from_bytes) }
    })
}

/// `recvfrom` where the compiler knew the buffer's size.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __recvfrom_chk(
    descriptor: c_int,
    buffer: *mut c_void,
    bytes: size_t,
    room: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_bytes: *mut socklen_t,
) -> ssize_t {
    let Some(next) = next::RECVFROM_CHECKED.get() else { return missing() };
    if !shares(buffer, bytes) {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, buffer, bytes, room, flags, from, from_bytes) };
    }
    receive(descriptor, buffer, bytes, flags, &mut |at, count, _| {
        // SAFETY: the caller's call, on a buffer that is good for as much.
        unsafe { next(descriptor, at, count, room, flags, from, from_bytes) }
    })
}

/// send(2).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn send(
    descriptor: c_int,
    buffer: *const c_void,
    bytes: size_t,
    flags: c_int,
) -> ssize_t {
    let Some(next) = next::SEND.get() else { return missing() };
    if !shares(buffer, bytes) {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, buffer, bytes, flags) };
    }
    drain(descriptor, buffer, bytes, flags & !SPLITTING == 0, &mut |at, count, _| {
        // SAFETY: the caller's call, or its part, on a buffer that is good for as much.
        unsafe { next(descriptor, at, count, flags) }
    })
}

/// sendto(2).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendto(
    descriptor: c_int,
    buffer: *const c_void,
    bytes: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_bytes: socklen_t,
) -> ssize_t {
    let Some(next) = next::SENDTO.get() else { return missing() };
    if !shares(buffer, bytes) {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, buffer, bytes, flags, to, to_bytes) };
    }
    let splits = to.is_null() && flags & !SPLITTING == 0;
    drain(descriptor, buffer, bytes, splits, &mut |at, count, _| {
        // SAFETY: the caller's call, or its part, on a buffer that is good for as much.
        unsafe { next(descriptor, at, count, flags, to, to_bytes) }
    })
}

/// Whether a buffer of the message lies in shared memory.
unsafe fn message_shares(message: *const msghdr) -> bool {
    // SAFETY: the caller's own message, of which only what can be one is looked at.
    table::is_used()
        && is_plausible(message)
        && unsafe { vectors_share((*message).msg_iov, (*message).msg_iovlen) }
}

/// recvmsg(2).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmsg(descriptor: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let Some(next) = next::RECVMSG.get() else { return missing() };
    // SAFETY: the caller's own message.
    if !unsafe { message_shares(message) } {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, message, flags) };
    }
    // SAFETY: as above.
    let mut own = unsafe { *message };
    // SAFETY: the message's own list, and its copy.
    let received = unsafe {
        with_private_vectors(own.msg_iov, own.msg_iovlen, true, &mut |list| {
            own.msg_iov = list.cast_mut();
            next(descriptor, &raw mut own, flags)
        })
    };
    if received >= 0 {
        // SAFETY: the caller's message, in which the kernel would have set these.
        unsafe {
            (*message).msg_namelen = own.msg_namelen;
            (*message).msg_controllen = own.msg_controllen;
            (*message).msg_flags = own.msg_flags;
        }
    }
    received
}

/// sendmsg(2).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendmsg(descriptor: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let Some(next) = next::SENDMSG.get() else { return missing() };
    // SAFETY: the caller's own message.
    if !unsafe { message_shares(message) } {
        // SAFETY: the caller's own call.
        return unsafe { next(descriptor, message, flags) };
    }
    // SAFETY: as above.
    let mut own = unsafe { *message };
    // SAFETY: the message's own list, and its copy.
    unsafe {
        with_private_vectors(own.msg_iov, own.msg_iovlen, false, &mut |list| {
            own.msg_iov = list.cast_mut();
            next(descriptor, &raw const own, flags)
        })
    }
}
