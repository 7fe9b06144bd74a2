//! A thin layer over userfaultfd: the calls that this crate needs, in the kernel's own terms. See `userfaultfd(2)` and
//! `ioctl_userfaultfd(2)`.
//!
//! The file descriptor is opened with `UFFD_USER_MODE_ONLY` (Linux 5.11), which any user may do: the kernel's own accesses to a
//! registered range (a `read(2)` into an absent page) then fail with EFAULT instead of waiting. Two other ways exist
//! and are not taken here: the call without that flag, which needs `CAP_SYS_PTRACE` or
//! `vm.unprivileged_userfaultfd = 1`, and `/dev/userfaultfd` (Linux 6.1), which needs rights on that file. They matter only for
//! a pager whose faults are answered by another thread: with [`Features::SIGBUS`] kernel accesses fail all the same.
//!
//! Nothing in here allocates after [`Userfault::open`], so that all operations can be called from a signal handler.

mod error;
mod features;
mod raw;

pub use error::UffdError;
pub use features::{Features, KernelVersion};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// How a page is entered into the page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Stores fault.
    WriteProtected,
    /// Nothing faults.
    Writable,
}

/// How far [`RegisteredRange::continue_pages`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Continued {
    /// Bytes from where it started whose pages are entered now.
    pub bytes: usize,
    /// Why it stopped there, `None` when it is complete. EEXIST: the next page is in the page table already. EFAULT: the
    /// file does not hold the next page. EAGAIN: try again from there.
    pub stopped: Option<Errno>,
}

/// An open userfaultfd that no memory was handed to yet.
#[derive(Debug)]
pub struct Userfault {
    descriptor: OwnedFd,
    features: Features,
}

impl Userfault {
    /// The features that this kernel has.
    ///
    /// # Errors
    /// When userfaultfd itself is refused or missing.
    pub fn supported() -> Result<Features, UffdError> {
        // The handshake works once a descriptor, so this one is thrown away.
        handshake(&open_descriptor()?, Features::NONE)
    }

    /// Opens a userfaultfd with exactly the features `asked` for.
    ///
    /// # Errors
    /// [`UffdError::MissingFeature`] names those that this kernel lacks; the other variants tell why there is no userfaultfd at
    /// all.
    pub fn open(asked: Features) -> Result<Userfault, UffdError> {
        let missing = asked.without(Userfault::supported()?);
        if !missing.is_empty() {
            return Err(UffdError::MissingFeature { asked, missing });
        }
        let descriptor = open_descriptor()?;
        handshake(&descriptor, asked)?;
        Ok(Userfault { descriptor, features: asked })
    }

    /// The features it was opened with.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Hands the faults of a range of shared memory over: accesses to pages that the file lacks (MISSING), to pages that it
    /// holds but the page table does not (MINOR), and stores to write-protected pages (WP). `start` and `bytes` are
    /// multiples of the page size.
    ///
    /// # Errors
    /// [`UffdError::MissingOperation`] when the kernel registers the range but cannot do what is needed on it, else
    /// [`UffdError::Failed`].
    ///
    /// # Safety
    /// The range is a shared mapping that belongs to the caller, made for this, and stays mapped as long as the
    /// [`RegisteredRange`] lives: every access to it, from any thread, may fault from now on until then.
    pub unsafe fn register(self, start: usize, bytes: usize) -> Result<RegisteredRange, UffdError> {
        let mut request = raw::uffdio_register {
            range: range(start, bytes),
            mode: raw::REGISTER_MISSING | raw::REGISTER_MINOR | raw::REGISTER_WRITEPROTECT,
            ioctls: 0,
        };
        update::<{ raw::REGISTER }, _>(&self.descriptor, &mut request)
            .map_err(|errno| UffdError::Failed { call: "UFFDIO_REGISTER", errno })?;
        for (bit, operation, since) in [
            (raw::CAN_CONTINUE, "UFFDIO_CONTINUE", KernelVersion(5, 14)),
            (raw::CAN_WRITEPROTECT, "UFFDIO_WRITEPROTECT", KernelVersion(5, 19)),
        ] {
            if request.ioctls & bit == 0 {
                return Err(UffdError::MissingOperation { operation, since });
            }
        }
        Ok(RegisteredRange { userfault: self, start, bytes })
    }
}

/// A range of shared memory whose faults go to a userfaultfd.
///
/// The operations take offsets and check them, because the kernel does not: it operates on any range of the process that is
/// registered, with whichever descriptor (seen on Linux 6.18).
///
/// Dropping it closes the descriptor: the pages behave like those of any shared mapping then. Unmap them first.
#[derive(Debug)]
pub struct RegisteredRange {
    userfault: Userfault,
    start: usize,
    bytes: usize,
}

impl RegisteredRange {
    /// Address of the first byte.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Enters the file's pages into the page table (`UFFDIO_CONTINUE`), as far as it goes in one call.
    ///
    /// # Panics
    /// When the pages do not lie in the range.
    pub fn continue_pages(&self, byte_offset: usize, bytes: usize, protection: Protection) -> Continued {
        let mut request = raw::uffdio_continue {
            range: self.part(byte_offset, bytes),
            mode: match protection {
                Protection::WriteProtected => raw::CONTINUE_WRITEPROTECTED,
                Protection::Writable => 0,
            },
            mapped: 0,
        };
        match self.call::<{ raw::CONTINUE }, _>(&mut request) {
            Ok(()) => Continued { bytes, stopped: None },
            // With EAGAIN the kernel tells how far it came, or repeats the error as a negative number.
            Err(errno) => {
                Continued { bytes: usize::try_from(request.mapped).unwrap_or(0), stopped: Some(errno) }
            }
        }
    }

    /// Write-protects pages, or takes the protection off (`UFFDIO_WRITEPROTECT`). Pages that are absent from the page table
    /// stay so; to protect one leaves a marker there that costs its page-table page.
    ///
    /// # Errors
    /// What the kernel answered; EAGAIN asks for another try.
    ///
    /// # Panics
    /// When the pages do not lie in the range.
    pub fn write_protect(
        &self,
        byte_offset: usize,
        bytes: usize,
        protection: Protection,
    ) -> Result<(), Errno> {
        let mut request = raw::uffdio_writeprotect {
            range: self.part(byte_offset, bytes),
            mode: match protection {
                Protection::WriteProtected => raw::WRITEPROTECT_SET,
                Protection::Writable => 0,
            },
        };
        self.call::<{ raw::WRITEPROTECT }, _>(&mut request)
    }

    /// Gives the range back while it stays mapped.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn unregister(self) -> Result<Userfault, Errno> {
        self.call::<{ raw::UNREGISTER }, _>(&mut range(self.start, self.bytes))?;
        Ok(self.userfault)
    }

    fn part(&self, byte_offset: usize, bytes: usize) -> raw::uffdio_range {
        assert!(
            byte_offset <= self.bytes && bytes <= self.bytes - byte_offset,
            "{bytes} bytes at offset {byte_offset} of a range of {} bytes",
            self.bytes
        );
        range(self.start + byte_offset, bytes)
    }

    fn call<const OPCODE: Opcode, T>(&self, argument: &mut T) -> Result<(), Errno> {
        update::<OPCODE, T>(&self.userfault.descriptor, argument)
    }
}

fn range(start: usize, bytes: usize) -> raw::uffdio_range {
    raw::uffdio_range { start: start as u64, len: bytes as u64 }
}

fn open_descriptor() -> Result<OwnedFd, UffdError> {
    let flags = UserfaultfdFlags::from_bits_retain(linux_raw_sys::general::UFFD_USER_MODE_ONLY)
        | UserfaultfdFlags::CLOEXEC
        | UserfaultfdFlags::NONBLOCK;
    // SAFETY: what the descriptor can do to memory, it does through `RegisteredRange`, which stays within what the unsafe
    // `register` was given.
    unsafe { userfaultfd(flags) }.map_err(UffdError::from_open)
}

/// Agrees on `features` and returns those that the kernel has.
fn handshake(descriptor: &OwnedFd, features: Features) -> Result<Features, UffdError> {
    let mut request = raw::uffdio_api { api: raw::API_VERSION, features: features.bits(), ioctls: 0 };
    update::<{ raw::API }, _>(descriptor, &mut request)
        .map_err(|errno| UffdError::Failed { call: "UFFDIO_API", errno })?;
    Ok(Features::from_bits(request.features))
}

fn update<const OPCODE: Opcode, T>(descriptor: &OwnedFd, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each opcode is declared beside the structure that the kernel reads and writes for it, and is only used with
    // that; the structures hold plain numbers, no pointers that the kernel would follow to write.
    unsafe { ioctl(descriptor, Updater::<OPCODE, T>::new(argument)) }
}
