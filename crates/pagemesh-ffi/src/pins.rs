//! Pins: shared memory that stays here while a system call works on it.

use crate::error::{Answer, Failed, status, value};
use crate::state::current;
use crate::types::access;
use pagemesh::Access;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

fn access_of(asked: c_int) -> Answer<Access> {
    match asked {
        access::READ => Ok(Access::Read),
        access::WRITE => Ok(Access::Write),
        other => {
            Failed::invalid(format!("access {other} was asked for; there are ACCESS_READ and ACCESS_WRITE"))
        }
    }
}

/// Gets the pages of `bytes` bytes here and keeps them.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_pin(address: *mut c_void, bytes: usize, access: c_int) -> c_int {
    status("dsm_pin", || {
        let (context, access) = (current()?, access_of(access)?);
        // A region that was closed here, and the tables of the library, are none of the program's.
        context.find(address.addr(), bytes)?;
        Ok(context.mesh.pin_address(address.addr(), bytes, access)?)
    })
}

/// Lets go what `dsm_pin` was given.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_unpin(address: *mut c_void, bytes: usize) -> c_int {
    status("dsm_unpin", || Ok(current()?.mesh.unpin_address(address.addr(), bytes)?))
}

/// Where the byte at `address` is to be found without ever faulting.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_io_pointer(address: *mut c_void) -> *mut c_void {
    value("dsm_io_pointer", null_mut(), || {
        let context = current()?;
        context.find(address.addr(), 1)?;
        let found = context.mesh.io_pointer(address.addr());
        found.map(<*mut u8>::cast).map_or_else(|| Failed::invalid(format!("{address:p} is in no region")), Ok)
    })
}
