//! Storing the bytes that a diff names.
//!
//! Every store is a machine instruction of just these bytes, which the compiler can neither widen nor merge with its neighbours:
//! what lies beside them belongs to others.

use super::parse::{Body, Diff, Runs};
use crate::PAGE_BYTES;
use crate::recoverable::sites;
use std::arch::asm;
use std::arch::x86_64::__m128i;

/// From this many bytes on, the processor's copy instruction has made up for its slow start.
const LONG_BYTES: usize = 256;

/// Stores the changes of `diff`.
///
/// # Safety
/// There are [`PAGE_BYTES`] mapped and writable at `page`, and no references to those that the diff names. Others may write them,
/// and the rest as well.
pub(super) unsafe fn apply(diff: &Diff<'_>, page: *mut u8) {
    match diff.body {
        Body::Runs(body) => {
            for run in Runs::new(body).flatten() {
                assert!(
                    run.offset + run.bytes.len() <= PAGE_BYTES,
                    "a run was checked to lie within the page"
                );
                // SAFETY: just checked to stay within the page.
                unsafe { store(page.add(run.offset), run.bytes) };
            }
        }
        Body::Bitmap(bitmap, mut bytes) => {
            for (index, group) in bitmap.iter().enumerate() {
                let (stored, rest) = bytes.split_at(group.count_ones() as usize);
                // SAFETY: a bitmap has a bit for each byte of the page.
                unsafe { store_group(page.add(index * 8), *group, stored) };
                bytes = rest;
            }
        }
        // SAFETY: passed on; all bytes are named.
        Body::Whole(bytes) => unsafe { store(page, bytes) },
    }
}

/// Stores neighbouring bytes.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`], except that others may write there too.
unsafe fn store(mut to: *mut u8, mut bytes: &[u8]) {
    if bytes.len() >= LONG_BYTES {
        // SAFETY: passed on.
        let _ = unsafe { sites::copy(to, bytes.as_ptr(), 0, bytes.len()) };
        return;
    }
    while let Some((part, rest)) = bytes.split_first_chunk::<16>() {
        // SAFETY: 16 of the bytes, to where they belong.
        unsafe {
            let value = part.as_ptr().cast::<__m128i>().read_unaligned();
            asm!("movups xmmword ptr [{to}], {value}", to = in(reg) to, value = in(xmm_reg) value,
                options(nostack, preserves_flags));
            to = to.add(part.len());
        }
        bytes = rest;
    }
    if let Some((part, rest)) = bytes.split_first_chunk::<8>() {
        // SAFETY: 8 of the bytes.
        unsafe {
            store_8(to, *part);
            to = to.add(part.len());
        }
        bytes = rest;
    }
    if let Some((part, rest)) = bytes.split_first_chunk::<4>() {
        // SAFETY: 4 of the bytes.
        unsafe {
            asm!("mov dword ptr [{to}], {value:e}", to = in(reg) to, value = in(reg) u32::from_le_bytes(*part),
                options(nostack, preserves_flags));
            to = to.add(part.len());
        }
        bytes = rest;
    }
    for byte in bytes {
        // SAFETY: one of the bytes.
        unsafe {
            store_1(to, *byte);
            to = to.add(1);
        }
    }
}

/// Stores those of 8 bytes whose bit is in `group`; `bytes` has as many.
///
/// # Safety
/// As for [`store`], for the bytes whose bit is set.
unsafe fn store_group(to: *mut u8, mut group: u8, bytes: &[u8]) {
    if let Ok(all) = bytes.try_into() {
        // SAFETY: passed on.
        unsafe { store_8(to, all) };
        return;
    }
    for byte in bytes {
        // SAFETY: passed on; `group` has a bit for each of `bytes`.
        unsafe { store_1(to.add(group.trailing_zeros() as usize), *byte) };
        group &= group.wrapping_sub(1);
    }
}

/// # Safety
/// As for [`store`].
unsafe fn store_8(to: *mut u8, bytes: [u8; 8]) {
    // SAFETY: passed on.
    unsafe {
        asm!("mov qword ptr [{to}], {value}", to = in(reg) to, value = in(reg) u64::from_le_bytes(bytes),
            options(nostack, preserves_flags));
    }
}

/// # Safety
/// As for [`store`].
unsafe fn store_1(to: *mut u8, byte: u8) {
    // SAFETY: passed on.
    unsafe {
        asm!("mov byte ptr [{to}], {value}", to = in(reg) to, value = in(reg_byte) byte,
            options(nostack, preserves_flags));
    }
}
