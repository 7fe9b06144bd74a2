//! Opening a userfaultfd.

use super::{UffdError, raw};
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::mm::{UserfaultfdFlags, userfaultfd};
use std::ffi::c_void;
use std::fmt;
use std::ptr::without_provenance_mut;

/// The file through which whoever has rights on it gets a userfaultfd of any kind. Linux 6.1.
pub const DEVICE: &str = "/dev/userfaultfd";

/// Whose accesses are reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scope {
    /// The program's own; those of the kernel fail (`UFFD_USER_MODE_ONLY`, Linux 5.11).
    UserMode,
    /// The kernel's as well.
    UserAndKernel,
}

/// By what a descriptor is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Way {
    /// `userfaultfd(2)`.
    SystemCall,
    /// [`DEVICE`].
    Device,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::SystemCall => "userfaultfd(2)",
            Way::Device => DEVICE,
        })
    }
}

impl Way {
    pub(super) fn open(self, scope: Scope) -> Result<OwnedFd, Errno> {
        let common = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let flags = match scope {
            Scope::UserMode => {
                common | UserfaultfdFlags::from_bits_retain(linux_raw_sys::general::UFFD_USER_MODE_ONLY)
            }
            Scope::UserAndKernel => common,
        };
        match self {
            // SAFETY: what the descriptor can do to memory, it does through `Userfault` and `RegisteredRange`, which stay
            // within what the unsafe `register` was given.
            Way::SystemCall => unsafe { userfaultfd(flags) },
            Way::Device => {
                let device = open_file(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
                // SAFETY: as above; the request is declared below, for this device.
                unsafe { ioctl(device, NewDescriptor { flags }) }
            }
        }
    }
}

/// Opens a descriptor by the system call or, where that is refused, through the device.
pub(super) fn open(scope: Scope) -> Result<OwnedFd, UffdError> {
    let call = match Way::SystemCall.open(scope) {
        Ok(descriptor) => return Ok(descriptor),
        Err(errno) => errno,
    };
    Way::Device.open(scope).map_err(|device| match scope {
        // The device is no more than a way around a filter here: what has to be allowed is the call.
        Scope::UserMode => UffdError::from_user_mode(call),
        Scope::UserAndKernel => UffdError::from_all_faults(call, device),
    })
}

/// `USERFAULTFD_IOC_NEW`.
struct NewDescriptor {
    flags: UserfaultfdFlags,
}

// SAFETY: the request takes a number in place of a pointer, so the kernel neither reads nor writes memory for it, and it returns a
// new descriptor.
unsafe impl Ioctl for NewDescriptor {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        raw::NEW
    }

    fn as_ptr(&mut self) -> *mut c_void {
        without_provenance_mut(self.flags.bits() as usize)
    }

    unsafe fn output_from_ptr(descriptor: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the kernel has just made it, for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}
