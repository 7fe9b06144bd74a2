//! fread(3), fwrite(3), fputs(3), puts(3): stdio hands large buffers to read(2) and write(2) by itself, past our functions.
//!
//! So the stream works on a private buffer, a piece at a time, and shared memory is touched in between. The stream stays
//! locked for the whole call, as libc keeps it; a call on a part of the bytes leaves end-of-file and error flags as the
//! call on all would.

use crate::bounce::{Bounce, Room};
use crate::errno::{self, Kept};
use crate::next::{self, StreamRead, StreamWrite};
use crate::table::{self, Shared, shares};
use crate::transfer::{collect, deliver};
use libc::{EFAULT, EOF, FILE, c_char, c_int, c_void, size_t};
use std::ptr::without_provenance;

/// What is read or written at a time: more than a stream's own buffer has, so that its large reads stay large.
const PIECE_BYTES: usize = 64 << 10;

unsafe extern "C" {
    /// stdout(3): a variable.
    static stdout: *mut FILE;
    fn flockfile(stream: *mut FILE);
    fn funlockfile(stream: *mut FILE);
}

/// A stream that is locked, as often as need be, by this thread.
struct Locked(*mut FILE);

impl Locked {
    /// # Safety
    /// The stream is open.
    unsafe fn new(stream: *mut FILE) -> Locked {
        // SAFETY: promised by the caller.
        unsafe { flockfile(stream) };
        Locked(stream)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: locked by `new`; to close it meanwhile would be the caller's mistake.
        unsafe { funlockfile(self.0) };
    }
}

/// All items as one buffer of shared memory.
fn items(buffer: *const c_void, size: usize, count: usize) -> Option<Shared> {
    table::whole(buffer, size.checked_mul(count)?)
}

/// Fills shared memory from a stream; returns how many bytes came.
///
/// # Safety
/// The stream is open and, if that matters, locked.
unsafe fn fill(memory: Shared, next: StreamRead, stream: *mut FILE) -> usize {
    let kept = Kept::new();
    let mut room = Room::uninit();
    let Some(bounce) = Bounce::new(&mut room, memory.bytes.min(PIECE_BYTES)) else {
        errno::set(libc::ENOMEM);
        return 0;
    };
    let mut done = 0;
    while done < memory.bytes {
        let part = memory.part(done, PIECE_BYTES.min(memory.bytes - done));
        // SAFETY: the buffer is as large as any part.
        let count = unsafe { next(bounce.start(), 1, part.bytes, stream) };
        // SAFETY: as above.
        if unsafe { deliver(part.part(0, count), bounce.start()) }.is_err() {
            errno::set(EFAULT);
            return done;
        }
        done += count;
        if count < part.bytes {
            return done;
        }
    }
    kept.after(0);
    done
}

/// Writes shared memory to a stream; returns how many bytes went.
///
/// # Safety
/// As [`fill`].
unsafe fn drain(memory: Shared, next: StreamWrite, stream: *mut FILE) -> usize {
    let kept = Kept::new();
    let mut room = Room::uninit();
    let Some(bounce) = Bounce::new(&mut room, memory.bytes.min(PIECE_BYTES)) else {
        errno::set(libc::ENOMEM);
        return 0;
    };
    let mut done = 0;
    while done < memory.bytes {
        let part = memory.part(done, PIECE_BYTES.min(memory.bytes - done));
        // SAFETY: the buffer is as large as any part.
        let from = match unsafe { collect(part, bounce.start()) } {
            Ok(()) => bounce.start().cast_const(),
            // Let libc find out, and set what flags it sets.
            Err(_) => without_provenance(part.address),
        };
        // SAFETY: the caller's bytes, or their copy.
        let count = unsafe { next(from, 1, part.bytes, stream) };
        done += count;
        if count < part.bytes {
            return done;
        }
    }
    kept.after(0);
    done
}

/// fread(3).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fread(
    buffer: *mut c_void,
    size: size_t,
    count: size_t,
    stream: *mut FILE,
) -> size_t {
    let Some(next) = next::FREAD.get() else { return 0 };
    if shares(buffer, size.saturating_mul(count))
        && let Some(memory) = items(buffer, size, count)
    {
        // SAFETY: the caller's own stream.
        unsafe {
            let _locked = Locked::new(stream);
            return fill(memory, next, stream) / size;
        }
    }
    // SAFETY: the caller's own call.
    unsafe { next(buffer, size, count, stream) }
}

/// `fread` on a stream that the caller has locked, or need not lock.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fread_unlocked(
    buffer: *mut c_void,
    size: size_t,
    count: size_t,
    stream: *mut FILE,
) -> size_t {
    let Some(next) = next::FREAD_UNLOCKED.get() else { return 0 };
    if shares(buffer, size.saturating_mul(count))
        && let Some(memory) = items(buffer, size, count)
    {
        // SAFETY: the caller's own stream.
        return unsafe { fill(memory, next, stream) } / size;
    }
    // SAFETY: the caller's own call.
    unsafe { next(buffer, size, count, stream) }
}

/// `fread` where the compiler knew the buffer's size.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __fread_chk(
    buffer: *mut c_void,
    room: size_t,
    size: size_t,
    count: size_t,
    stream: *mut FILE,
) -> size_t {
    if size.checked_mul(count).is_some_and(|bytes| bytes <= room && shares(buffer, bytes)) {
        // SAFETY: the caller's own call, whose check has passed.
        return unsafe { fread(buffer, size, count, stream) };
    }
    let Some(next) = next::FREAD_CHECKED.get() else { return 0 };
    // SAFETY: the caller's own call.
    unsafe { next(buffer, room, size, count, stream) }
}

/// `fread_unlocked` where the compiler knew the buffer's size.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __fread_unlocked_chk(
    buffer: *mut c_void,
    room: size_t,
    size: size_t,
    count: size_t,
    stream: *mut FILE,
) -> size_t {
    if size.checked_mul(count).is_some_and(|bytes| bytes <= room && shares(buffer, bytes)) {
        // SAFETY: the caller's own call, whose check has passed.
        return unsafe { fread_unlocked(buffer, size, count, stream) };
    }
    let Some(next) = next::FREAD_UNLOCKED_CHECKED.get() else { return 0 };
    // SAFETY: the caller's own call.
    unsafe { next(buffer, room, size, count, stream) }
}

/// fwrite(3).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fwrite(
    buffer: *const c_void,
    size: size_t,
    count: size_t,
    stream: *mut FILE,
) -> size_t {
    let Some(next) = next::FWRITE.get() else { return 0 };
    if shares(buffer, size.saturating_mul(count))
        && let Some(memory) = items(buffer, size, count)
    {
        // SAFETY: the caller's own stream.
        unsafe {
            let _locked = Locked::new(stream);
            return drain(memory, next, stream) / size;
        }
    }
    // SAFETY: the caller's own call.
    unsafe { next(buffer, size, count, stream) }
}

/// `fwrite` on a stream that the caller has locked, or need not lock.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fwrite_unlocked(
    buffer: *const c_void,
    size: size_t,
    count: size_t,
    stream: *mut FILE,
) -> size_t {
    let Some(next) = next::FWRITE_UNLOCKED.get() else { return 0 };
    if shares(buffer, size.saturating_mul(count))
        && let Some(memory) = items(buffer, size, count)
    {
        // SAFETY: the caller's own stream.
        return unsafe { drain(memory, next, stream) } / size;
    }
    // SAFETY: the caller's own call.
    unsafe { next(buffer, size, count, stream) }
}

/// The text before the zero byte, if it begins in shared memory and lies there whole.
unsafe fn text(start: *const c_char) -> Option<Shared> {
    if !shares(start.cast(), 1) {
        return None;
    }
    // SAFETY: the caller's text, which ends.
    let bytes = unsafe { libc::strlen(start) };
    table::whole(start.cast(), bytes)
}

/// fputs(3).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fputs(start: *const c_char, stream: *mut FILE) -> c_int {
    // SAFETY: the caller's own text and stream.
    unsafe {
        if let (Some(memory), Some(write)) = (text(start), next::FWRITE.get()) {
            let _locked = Locked::new(stream);
            return if drain(memory, write, stream) == memory.bytes { 1 } else { EOF };
        }
        next::FPUTS.get().map_or(EOF, |next| next(start, stream))
    }
}

/// `fputs` on a stream that the caller has locked, or need not lock.
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fputs_unlocked(start: *const c_char, stream: *mut FILE) -> c_int {
    // SAFETY: the caller's own text and stream.
    unsafe {
        if let (Some(memory), Some(write)) = (text(start), next::FWRITE_UNLOCKED.get()) {
            return if drain(memory, write, stream) == memory.bytes { 1 } else { EOF };
        }
        next::FPUTS_UNLOCKED.get().map_or(EOF, |next| next(start, stream))
    }
}

/// puts(3).
///
/// # Safety
/// As that of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn puts(start: *const c_char) -> c_int {
    // SAFETY: the caller's own text, and libc's stream.
    unsafe {
        if let (Some(memory), Some(write)) = (text(start), next::FWRITE.get()) {
            let _locked = Locked::new(stdout);
            if drain(memory, write, stdout) < memory.bytes || libc::fputc(c_int::from(b'\n'), stdout) == EOF {
                return EOF;
            }
            return c_int::try_from(memory.bytes + 1).unwrap_or(c_int::MAX);
        }
        next::PUTS.get().map_or(EOF, |next| next(start))
    }
}
