//! Locked ranges of entry regions.

use crate::error::{Answer, Code, Failed, status};
use crate::state::current;
use pagemesh::{Access, RangeError, RangeGuard};
use std::ffi::{c_int, c_void};
use std::ops::Range;

/// Locks the bytes. With [`Code::OwnerDied`] they are locked all the same.
fn take(address: usize, bytes: usize, access: Access, waits: bool) -> Answer<()> {
    // A region that was closed here, and the tables of the library, are none of the program's.
    let place = current()?.find(address, bytes)?;
    let (region, range) = (place.region, place.bytes);
    let guard = if waits {
        region.lock_range(range.clone(), access, None)?
    } else {
        let Range { start, end } = range;
        let busy = || RangeError::Busy { region: region.name().to_owned(), start, end };
        region.try_lock_range(range, access)?.ok_or_else(busy)?
    };
    match RangeGuard::keep(guard) {
        None => Ok(()),
        Some(departure) => {
            let (node, how) = (departure.node, departure.how);
            let what = format!(
                "{bytes} bytes at {address:#x} are locked now, but node {node}, which had some of them for writing, {how}"
            );
            Err(Failed::new(Code::OwnerDied, what))
        }
    }
}

/// Waits for the bytes, for reading.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_range_rdlock(address: *mut c_void, bytes: usize) -> c_int {
    status("dsm_range_rdlock", || take(address.addr(), bytes, Access::Read, true))
}

/// Waits for the bytes, for writing.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_range_wrlock(address: *mut c_void, bytes: usize) -> c_int {
    status("dsm_range_wrlock", || take(address.addr(), bytes, Access::Write, true))
}

/// Locks the bytes for reading, if nobody is in the way.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_range_tryrdlock(address: *mut c_void, bytes: usize) -> c_int {
    status("dsm_range_tryrdlock", || take(address.addr(), bytes, Access::Read, false))
}

/// Locks the bytes for writing, if nobody is in the way.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_range_trywrlock(address: *mut c_void, bytes: usize) -> c_int {
    status("dsm_range_trywrlock", || take(address.addr(), bytes, Access::Write, false))
}

/// Publishes what was written to just these bytes, and gives them back.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_range_unlock(address: *mut c_void, bytes: usize) -> c_int {
    status("dsm_range_unlock", || {
        let place = current()?.find(address.addr(), bytes)?;
        Ok(place.region.unlock_range(place.bytes)?)
    })
}
