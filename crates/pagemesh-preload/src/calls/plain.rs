//! read(2), write(2), and those with a position; the forms that glibc's fortified headers call (`_FORTIFY_SOURCE`) check the
//! buffer's size first.

use super::missing;
use crate::next;
use crate::table::shares;
use crate::transfer::{drain, fill};
use libc::{c_int, c_void, off_t, size_t, ssize_t};

/// Defines a call that fills a buffer.
macro_rules! filling {
    ($(#[$doc:meta])* $name:ident -> $next:ident ($($more:ident: $type:ty),*)
        |$at:ident, $count:ident, $done:ident| ($($passed:expr),*)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As that of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            descriptor: c_int,
            buffer: *mut c_void,
            bytes: size_t,
            $($more: $type),*
        ) -> ssize_t {
            let Some(next) = next::$next.get() else { return missing() };
            if !shares(buffer, bytes) {
                // SAFETY: the caller's own call.
                return unsafe { next(descriptor, buffer, bytes, $($more),*) };
            }
            fill(descriptor, buffer, bytes, &mut |$at, $count, $done| {
                // SAFETY: the caller's call, or its part, on a buffer that is good for as much.
                unsafe { next(descriptor, $at, $count, $($passed),*) }
            })
        }
    };
}

/// Defines a call that empties a buffer.
macro_rules! draining {
    ($(#[$doc:meta])* $name:ident -> $next:ident ($($more:ident: $type:ty),*)
        |$done:ident| ($($passed:expr),*)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As that of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            descriptor: c_int,
            buffer: *const c_void,
            bytes: size_t,
            $($more: $type),*
        ) -> ssize_t {
            let Some(next) = next::$next.get() else { return missing() };
            if !shares(buffer, bytes) {
                // SAFETY: the caller's own call.
                return unsafe { next(descriptor, buffer, bytes, $($more),*) };
            }
            drain(descriptor, buffer, bytes, true, &mut |at, count, $done| {
                // SAFETY: the caller's call, or its part, on a buffer that is good for as much.
                unsafe { next(descriptor, at, count, $($passed),*) }
            })
        }
    };
}

/// Where a call goes on after `done` bytes.
fn further(position: off_t, done: usize) -> off_t {
    position.wrapping_add(done.cast_signed() as off_t)
}

filling! {
    /// read(2).
    read -> READ () |at, count, _done| ()
}
filling! {
    /// `read` where the compiler knew the buffer's size.
    __read_chk -> READ_CHECKED (room: size_t)
        |at, count, done| (room.saturating_sub(done))
}
filling! {
    /// pread(2).
    pread -> PREAD (position: off_t) |at, count, done| (further(position, done))
}
filling! {
    /// `pread` under its name for large files.
    pread64 -> PREAD64 (position: off_t) |at, count, done| (further(position, done))
}
filling! {
    /// `pread` where the compiler knew the buffer's size.
    __pread_chk -> PREAD_CHECKED (position: off_t, room: size_t)
        |at, count, done| (further(position, done), room.saturating_sub(done))
}
filling! {
    /// `pread64` where the compiler knew the buffer's size.
    __pread64_chk -> PREAD64_CHECKED (position: off_t, room: size_t)
        |at, count, done| (further(position, done), room.saturating_sub(done))
}
draining! {
    /// write(2).
    write -> WRITE () |_done| ()
}
draining! {
    /// pwrite(2).
    pwrite -> PWRITE (position: off_t) |done| (further(position, done))
}
draining! {
    /// `pwrite` under its name for large files.
    pwrite64 -> PWRITE64 (position: off_t) |done| (further(position, done))
}
