//! Atomic operations on words of shared memory, done where the page is.

use crate::error::{Answer, Failed, status};
use crate::state::current;
use pagemesh::{AtomicError, Mesh};
use std::ffi::c_int;

/// Does `change` to the word at `address`, and stores what it was at `old`, unless that is NULL.
fn change(
    call: &str,
    word: *mut u64,
    old: *mut u64,
    change: impl FnOnce(&Mesh, usize) -> Result<u64, AtomicError>,
) -> c_int {
    status(call, || {
        let context = current()?;
        let address = aligned(word)?;
        // A region that was closed here, and the tables of the library, are none of the program's.
        context.find(address, 8)?;
        let found = change(&context.mesh, address)?;
        if !old.is_null() {
            // SAFETY: the caller's, by the contract of the call; it may lie in shared memory, and then faults as any store.
            unsafe { old.write_unaligned(found) };
        }
        Ok(())
    })
}

fn aligned(word: *mut u64) -> Answer<usize> {
    let address = word.addr();
    if address.is_multiple_of(8) {
        return Ok(address);
    }
    Failed::invalid(format!("the word at {address:#x} does not lie on a multiple of 8"))
}

/// Adds to a word.
///
/// # Safety
/// `old` is NULL, or a `uint64_t` of the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_fetch_add_u64(word: *mut u64, add: u64, old: *mut u64) -> c_int {
    change("dsm_fetch_add_u64", word, old, |mesh, address| mesh.fetch_add_u64(address, add))
}

/// Replaces a word.
///
/// # Safety
/// As for [`dsm_fetch_add_u64`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_swap_u64(word: *mut u64, value: u64, old: *mut u64) -> c_int {
    change("dsm_swap_u64", word, old, |mesh, address| mesh.swap_u64(address, value))
}

/// Replaces a word if it is what is expected.
///
/// # Safety
/// As for [`dsm_fetch_add_u64`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_compare_swap_u64(
    word: *mut u64,
    expected: u64,
    desired: u64,
    old: *mut u64,
) -> c_int {
    change("dsm_compare_swap_u64", word, old, |mesh, address| {
        mesh.compare_swap_u64(address, expected, desired)
    })
}
