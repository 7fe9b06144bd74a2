//! The numbers and structures of `<linux/userfaultfd.h>` that are used here. Some of the numbers are macros in the kernel's
//! header and therefore missing from its translation; they are derived here and checked against those that are not.

pub(super) use linux_raw_sys::general::{
    uffd_msg, uffdio_api, uffdio_continue, uffdio_poison, uffdio_range, uffdio_register, uffdio_writeprotect,
};

use linux_raw_sys::general as kernel;
use rustix::ioctl::{Opcode, opcode};

/// `UFFD_API`: the only version of the handshake there ever was.
pub(super) const API_VERSION: u64 = kernel::UFFD_API as u64;

const GROUP: u8 = kernel::UFFDIO as u8;

pub(super) const API: Opcode = opcode::read_write::<uffdio_api>(GROUP, kernel::_UFFDIO_API as u8);
pub(super) const REGISTER: Opcode =
    opcode::read_write::<uffdio_register>(GROUP, kernel::_UFFDIO_REGISTER as u8);
/// Takes its range in, although the number says that it gives one out.
pub(super) const UNREGISTER: Opcode = opcode::read::<uffdio_range>(GROUP, kernel::_UFFDIO_UNREGISTER as u8);
pub(super) const WRITEPROTECT: Opcode =
    opcode::read_write::<uffdio_writeprotect>(GROUP, kernel::_UFFDIO_WRITEPROTECT as u8);
pub(super) const CONTINUE: Opcode =
    opcode::read_write::<uffdio_continue>(GROUP, kernel::_UFFDIO_CONTINUE as u8);
/// Takes its range in, although the number says that it gives one out.
pub(super) const WAKE: Opcode = opcode::read::<uffdio_range>(GROUP, kernel::_UFFDIO_WAKE as u8);
pub(super) const POISON: Opcode = opcode::read_write::<uffdio_poison>(GROUP, kernel::_UFFDIO_POISON as u8);
/// `USERFAULTFD_IOC_NEW`, on `/dev/userfaultfd`: its argument is the flags of `userfaultfd(2)`.
pub(super) const NEW: Opcode = opcode::none(kernel::USERFAULTFD_IOC as u8, 0);

/// `UFFD_EVENT_PAGEFAULT`.
pub(super) const EVENT_PAGEFAULT: u8 = 0x12;
/// Bits of `uffd_msg.arg.pagefault.flags`.
pub(super) const FAULT_WRITE: u64 = kernel::UFFD_PAGEFAULT_FLAG_WRITE as u64;
pub(super) const FAULT_WRITEPROTECT: u64 = kernel::UFFD_PAGEFAULT_FLAG_WP as u64;
pub(super) const FAULT_MINOR: u64 = kernel::UFFD_PAGEFAULT_FLAG_MINOR as u64;

/// Bits of `uffdio_register.mode`.
pub(super) const REGISTER_MISSING: u64 = kernel::UFFDIO_REGISTER_MODE_MISSING as u64;
pub(super) const REGISTER_WRITEPROTECT: u64 = kernel::UFFDIO_REGISTER_MODE_WP as u64;
pub(super) const REGISTER_MINOR: u64 = kernel::UFFDIO_REGISTER_MODE_MINOR as u64;

/// `UFFDIO_CONTINUE_MODE_WP`, Linux 6.4: the entry is made write-protected.
pub(super) const CONTINUE_WRITEPROTECTED: u64 = 1 << 1;
/// `UFFDIO_CONTINUE_MODE_DONTWAKE`.
pub(super) const CONTINUE_SILENTLY: u64 = 1 << 0;
/// `UFFDIO_POISON_MODE_DONTWAKE`.
pub(super) const POISON_SILENTLY: u64 = 1 << 0;
/// `UFFDIO_WRITEPROTECT_MODE_DONTWAKE`; only for taking the protection off.
pub(super) const UNPROTECT_SILENTLY: u64 = 1 << 1;
/// `UFFDIO_WRITEPROTECT_MODE_WP`: protect; without it, the protection is taken off.
pub(super) const WRITEPROTECT_SET: u64 = 1 << 0;

/// Bits of `uffdio_register.ioctls`: what the kernel can do on the range.
pub(super) const CAN_CONTINUE: u64 = 1 << kernel::_UFFDIO_CONTINUE;
pub(super) const CAN_WRITEPROTECT: u64 = 1 << kernel::_UFFDIO_WRITEPROTECT;
pub(super) const CAN_POISON: u64 = 1 << kernel::_UFFDIO_POISON;

const _: () = {
    use linux_raw_sys::ioctl;
    assert!(API == ioctl::UFFDIO_API && size_of::<uffdio_api>() == 24);
    assert!(REGISTER == ioctl::UFFDIO_REGISTER && size_of::<uffdio_register>() == 32);
    assert!(UNREGISTER == ioctl::UFFDIO_UNREGISTER && size_of::<uffdio_range>() == 16);
    assert!(WRITEPROTECT == ioctl::UFFDIO_WRITEPROTECT && size_of::<uffdio_writeprotect>() == 24);
    assert!(CONTINUE == ioctl::UFFDIO_CONTINUE && size_of::<uffdio_continue>() == 32);
    assert!(WAKE == ioctl::UFFDIO_WAKE && POISON == 0xC020_AA08 && size_of::<uffdio_poison>() == 32);
    assert!(NEW == 0xAA00 && size_of::<uffd_msg>() == 32);
};
