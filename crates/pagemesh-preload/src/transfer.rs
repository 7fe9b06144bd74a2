//! Filling and emptying shared memory by calls that would fail with EFAULT on an absent page.
//!
//! Two ways, by what the descriptor stands for. A call on a file is short, so the pages are held while it runs. One on a pipe, a
//! socket or a terminal may wait for somebody else for ever, and a held page keeps other nodes waiting: it works on a private
//! buffer, and pages are held only while the bytes are copied.
//!
//! What holding a page means is the runtime's business ([`Handlers::pin`](crate::table::Handlers::pin)). It may be no more than
//! that the page was here a moment ago; then `unpin` says so, and the call is repeated a few times and at last made on a private buffer.

use crate::bounce::{Bounce, Room};
use crate::descriptor::{Kind, kind};
use crate::errno::{self, Kept};
use crate::table::{self, Shared};
use libc::{EFAULT, ENOENT, ENOMEM, c_int, c_void, iovec};
use std::ptr::without_provenance_mut;

/// Held at a time, and copied at a time: 256 pages. A larger call on a file becomes several.
pub const PIECE_BYTES: usize = 1 << 20;

/// What Linux reads or writes at most in one call (read(2)).
const BYTES_MAX: usize = 0x7fff_f000;

/// Tries at a call whose pages did not stay, before a private buffer is taken.
const TRIES: u32 = 8;

/// `IOV_MAX` of Linux; more is an error that the kernel reports.
const VECTORS_MAX: usize = 1024;

/// Nothing is mapped below this address: a pointer there is the caller's mistake, for the kernel to report.
const FIRST_MAPPED: usize = 4096;

/// The call: on how many bytes at which place, and how many are done already.
pub(crate) type Call<'a> = &'a mut dyn FnMut(*mut c_void, usize, usize) -> isize;

/// What a part of a call did: how many bytes, and whether their number is final; or an error number.
type Step = Result<(usize, bool), c_int>;

/// Makes `call`, which fills a buffer from a descriptor.
#[cold]
#[inline(never)]
pub(crate) fn fill(descriptor: c_int, buffer: *mut c_void, bytes: usize, call: Call<'_>) -> isize {
    let kept = Kept::new();
    let Some(memory) = table::whole(buffer, bytes) else {
        return kept.after(hinted(buffer, bytes, true, call));
    };
    let memory = memory.part(0, bytes.min(BYTES_MAX));
    kept.after(match kind(descriptor) {
        Kind::Unknown => call(buffer, bytes, 0),
        Kind::File => in_pieces(memory, |part, done| held(part, true, done, call)),
        Kind::Device => in_pieces(memory, |part, done| fill_bounced(part, done, call)),
        Kind::Stream | Kind::Message => finish(0, fill_bounced(memory, 0, call)),
    })
}

/// Makes `call`, which empties a buffer into a descriptor. In pieces only if `splits`, so that each goes out as the whole would.
#[cold]
#[inline(never)]
pub(crate) fn drain(
    descriptor: c_int,
    buffer: *const c_void,
    bytes: usize,
    splits: bool,
    call: Call<'_>,
) -> isize {
    let kept = Kept::new();
    let Some(memory) = table::whole(buffer, bytes) else {
        return kept.after(hinted(buffer.cast_mut(), bytes, false, call));
    };
    let memory = memory.part(0, bytes.min(BYTES_MAX));
    kept.after(match kind(descriptor) {
        Kind::Unknown => call(buffer.cast_mut(), bytes, 0),
        Kind::File => in_pieces(memory, |part, done| held(part, false, done, call)),
        Kind::Device | Kind::Stream if splits => {
            in_pieces(memory, |part, done| drain_bounced(part, done, call))
        }
        Kind::Device | Kind::Stream | Kind::Message => finish(0, drain_bounced(memory, 0, call)),
    })
}

/// Makes the call as it is, after a try to have the shared part of the buffer here: for what no buffer can stand in for.
pub(crate) fn hinted(buffer: *mut c_void, bytes: usize, write: bool, call: Call<'_>) -> isize {
    if let Some(part) = table::first(buffer.addr(), bytes)
        && let Ok(pinned) = part.part(0, part.bytes.min(PIECE_BYTES)).pin(write)
    {
        pinned.release();
    }
    call(buffer, bytes, 0)
}

/// What libc returns after `done` bytes and then a last step.
fn finish(done: usize, step: Step) -> isize {
    match step {
        Ok((count, _)) => (done + count).cast_signed(),
        Err(error) if done == 0 => errno::fail(error),
        // The next call will report it.
        Err(_) => done.cast_signed(),
    }
}

/// Goes through the bytes, until one piece comes up short.
fn in_pieces(memory: Shared, mut step: impl FnMut(Shared, usize) -> Step) -> isize {
    let mut done = 0;
    loop {
        let part = memory.part(done, PIECE_BYTES.min(memory.bytes - done));
        match step(part, done) {
            Ok((count, is_final)) if count > 0 && (count == part.bytes || !is_final) => done += count,
            last => return finish(done, last),
        }
        if done == memory.bytes {
            return done.cast_signed();
        }
    }
}

/// Makes the call on the shared pages themselves while they are held.
fn held(part: Shared, write: bool, done: usize, call: Call<'_>) -> Step {
    let place = without_provenance_mut(part.address);
    for _ in 0..TRIES {
        let pinned = match part.pin(write) {
            Ok(pinned) => pinned,
            // The page is lost, or the region is gone: what the kernel says about it is right.
            Err(EFAULT | ENOENT) => return outcome(call(place, part.bytes, done)),
            Err(_) => break,
        };
        let result = outcome(call(place, part.bytes, done));
        let stayed = pinned.release();
        match result {
            // A file that gives less has ended; or a page had gone, and then another call tells.
            Ok((count, _)) => return Ok((count, stayed)),
            Err(EFAULT) if !stayed => {}
            Err(error) => return Err(error),
        }
    }
    if write { fill_bounced(part, done, call) } else { drain_bounced(part, done, call) }
}

/// The result of a system call, before anything else changes `errno`.
fn outcome(result: isize) -> Step {
    usize::try_from(result).map(|count| (count, true)).map_err(|_| errno::get())
}

/// Makes the call on a private buffer, and copies what came to shared memory.
fn fill_bounced(memory: Shared, done: usize, call: Call<'_>) -> Step {
    let mut room = Room::uninit();
    let bounce = Bounce::new(&mut room, memory.bytes).ok_or(ENOMEM)?;
    let (count, _) = outcome(call(bounce.start(), memory.bytes, done))?;
    // With MSG_TRUNC a message may have been longer than the buffer (recv(2)).
    let arrived = memory.part(0, count.min(memory.bytes));
    // SAFETY: the buffer is as large.
    unsafe { deliver(arrived, bounce.start()) }?;
    Ok((count, true))
}

/// Copies shared memory to a private buffer, and makes the call on that.
fn drain_bounced(memory: Shared, done: usize, call: Call<'_>) -> Step {
    let mut room = Room::uninit();
    let bounce = Bounce::new(&mut room, memory.bytes).ok_or(ENOMEM)?;
    // SAFETY: the buffer is as large.
    unsafe { collect(memory, bounce.start()) }?;
    outcome(call(bounce.start(), memory.bytes, done))
}

/// Copies private bytes to shared memory.
///
/// # Safety
/// `from` is good for as many bytes as there are in `memory`.
pub(crate) unsafe fn deliver(memory: Shared, from: *const c_void) -> Result<(), c_int> {
    each_piece(memory, true, |part, offset| {
        // SAFETY: promised by the caller.
        unsafe { part.copy_in(from.byte_add(offset)) }
    })
}

/// Copies shared memory to private bytes.
///
/// # Safety
/// `to` is good for as many bytes as there are in `memory`.
pub(crate) unsafe fn collect(memory: Shared, to: *mut c_void) -> Result<(), c_int> {
    each_piece(memory, false, |part, offset| {
        // SAFETY: promised by the caller.
        unsafe { part.copy_out(to.byte_add(offset)) }
    })
}

fn each_piece(
    memory: Shared,
    write: bool,
    copy: impl Fn(Shared, usize) -> Result<(), c_int>,
) -> Result<(), c_int> {
    for offset in (0..memory.bytes).step_by(PIECE_BYTES) {
        let part = memory.part(offset, PIECE_BYTES.min(memory.bytes - offset));
        // Many pages are got faster at once than fault by fault. The copy itself can fault: it needs no pin.
        let pinned = part.pin(write);
        copy(part, offset).map_err(|_| EFAULT)?;
        drop(pinned);
    }
    Ok(())
}

/// Whether one of the buffers lies in shared memory. A list that the kernel would refuse does not.
///
/// # Safety
/// `vectors` is what a call was given.
#[inline]
pub(crate) unsafe fn vectors_share(vectors: *const iovec, count: usize) -> bool {
    if !table::is_used() || vectors.addr() < FIRST_MAPPED || count > VECTORS_MAX {
        return false;
    }
    // SAFETY: the caller of the call says that there are as many.
    (0..count).map(|index| unsafe { *vectors.add(index) }).any(|one| table::shares(one.iov_base, one.iov_len))
}

/// Whether a pointer is worth looking at.
pub(crate) fn is_plausible<T>(pointer: *const T) -> bool {
    pointer.addr() >= FIRST_MAPPED
}

/// Makes `call` with a list of buffers in which private memory stands in for those that are shared: it is one call, as it was
/// meant, whatever the descriptor.
///
/// # Safety
/// `vectors` has `count` entries, at most [`VECTORS_MAX`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn with_private_vectors(
    vectors: *const iovec,
    count: usize,
    fills: bool,
    call: &mut dyn FnMut(*const iovec) -> isize,
) -> isize {
    let kept = Kept::new();
    // SAFETY: promised by the caller.
    match unsafe { replace_vectors(vectors, count, fills, call) } {
        Ok((count, _)) => kept.after(count.cast_signed()),
        Err(error) => errno::fail(error),
    }
}

unsafe fn replace_vectors(
    vectors: *const iovec,
    count: usize,
    fills: bool,
    call: &mut dyn FnMut(*const iovec) -> isize,
) -> Step {
    const ALIGNMENT: usize = 16;
    let mut list_room = Room::uninit();
    // Twice: as it was given, and as it is passed on. Another thread may change the caller's own.
    let lists = Bounce::new(&mut list_room, 2 * count * size_of::<iovec>()).ok_or(ENOMEM)?;
    let given = lists.start().cast::<iovec>();
    // SAFETY: there is room for twice as many.
    let passed = unsafe { given.add(count) };
    let mut bytes = 0_usize;
    for index in 0..count {
        // SAFETY: promised by the caller, and as above.
        let one = unsafe { *vectors.add(index) };
        // SAFETY: as above.
        unsafe { given.add(index).write(one) };
        if table::whole(one.iov_base, one.iov_len).is_some() {
            bytes = bytes.saturating_add(one.iov_len.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT));
        }
    }
    let mut room = Room::uninit();
    let bounce = Bounce::new(&mut room, bytes).ok_or(ENOMEM)?;
    let mut offset = 0;
    for index in 0..count {
        // SAFETY: as above.
        let mut one = unsafe { *given.add(index) };
        if let Some(memory) = table::whole(one.iov_base, one.iov_len) {
            let end = offset + one.iov_len.div_ceil(ALIGNMENT) * ALIGNMENT;
            // A region that came while this was counted.
            if end > bytes {
                return Err(EFAULT);
            }
            // SAFETY: just checked to be within the buffer.
            one.iov_base = unsafe { bounce.start().byte_add(offset) };
            if !fills {
                // SAFETY: as above.
                unsafe { collect(memory, one.iov_base) }?;
            }
            offset = end;
        }
        // SAFETY: as above.
        unsafe { passed.add(index).write(one) };
    }
    let (moved, _) = outcome(call(passed))?;
    let mut left = if fills { moved } else { 0 };
    for index in 0..count {
        // SAFETY: as above.
        let (from, to) = unsafe { (*passed.add(index), *given.add(index)) };
        let arrived = left.min(to.iov_len);
        if arrived > 0
            && from.iov_base != to.iov_base
            && let Some(memory) = table::whole(to.iov_base, to.iov_len)
        {
            // SAFETY: as above.
            unsafe { deliver(memory.part(0, arrived), from.iov_base) }?;
        }
        left -= arrived;
    }
    Ok((moved, true))
}
