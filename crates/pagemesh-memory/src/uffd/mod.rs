//! A thin layer over userfaultfd: the calls that this crate needs, in the kernel's own terms. See `userfaultfd(2)` and
//! `ioctl_userfaultfd(2)`.
//!
//! There are two ways to a descriptor ([`Way`]): the system call, and `/dev/userfaultfd` (Linux 6.1), which needs rights on
//! that file. And there are two kinds ([`Scope`]): one that reports only what programs do, `UFFD_USER_MODE_ONLY` (Linux 5.11),
//! which any user may open, and with which the kernel's own accesses to a registered range (a `read(2)` into an absent page)
//! fail with EFAULT; and one that reports those too, for which the system call wants `CAP_SYS_PTRACE` or
//! `vm.unprivileged_userfaultfd = 1`. With [`Features::SIGBUS`] the kernel's accesses fail either way.
//!
//! Nothing in here allocates after the descriptor was opened, so that all operations can be called from a signal handler.

mod descriptor;
mod error;
mod features;
mod message;
mod raw;

pub use descriptor::{DEVICE, Scope, Way};
pub use error::UffdError;
pub use features::{Features, KernelVersion};
pub use message::{FaultCause, FaultMessage};

use crate::PAGE_BYTES;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use std::sync::Arc;

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

/// An open userfaultfd.
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
    pub fn supported(scope: Scope) -> Result<Features, UffdError> {
        // The handshake works once a descriptor, so this one is thrown away.
        handshake(&descriptor::open(scope)?, Features::NONE).map_err(handshake_failed)
    }

    /// The features that a descriptor has which is opened in just this way.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn attempt(way: Way, scope: Scope) -> Result<Features, Errno> {
        handshake(&way.open(scope)?, Features::NONE)
    }

    /// Opens a userfaultfd with exactly the features `asked` for: by the system call or, where that is refused, through the device.
    ///
    /// # Errors
    /// [`UffdError::MissingFeature`] names those that this kernel lacks; the other variants tell why there is no userfaultfd at
    /// all.
    pub fn open(scope: Scope, asked: Features) -> Result<Userfault, UffdError> {
        let missing = asked.without(Userfault::supported(scope)?);
        if !missing.is_empty() {
            return Err(UffdError::MissingFeature { asked, missing });
        }
        let descriptor = descriptor::open(scope)?;
        handshake(&descriptor, asked).map_err(handshake_failed)?;
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
    pub unsafe fn register(
        self: &Arc<Self>,
        start: usize,
        bytes: usize,
    ) -> Result<RegisteredRange, UffdError> {
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
            (raw::CAN_POISON, "UFFDIO_POISON", KernelVersion(6, 6)),
        ] {
            let needed = bit != raw::CAN_POISON || self.features.contains(Features::POISON);
            if needed && request.ioctls & bit == 0 {
                return Err(UffdError::MissingOperation { operation, since });
            }
        }
        Ok(RegisteredRange { userfault: self.clone(), start, bytes })
    }

    /// The next fault that waits for an answer, `None` when none does. Not with [`Features::SIGBUS`]. Each fault is given out
    /// once, to one thread. The thread that had it sleeps until it is woken, or gets a signal.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn read_fault(&self) -> Result<Option<FaultMessage>, Errno> {
        loop {
            let mut bytes = [0; FaultMessage::BYTES];
            match rustix::io::read(&self.descriptor, &mut bytes) {
                // Other events come only if they were asked for.
                Ok(_) => match FaultMessage::decode(&bytes) {
                    None => {}
                    fault => return Ok(fault),
                },
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Lets the threads go on that sleep because of a fault in a range of addresses, registered or not: they try their
    /// access again (`UFFDIO_WAKE`).
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn wake(&self, start: usize, bytes: usize) -> Result<(), Errno> {
        update::<{ raw::WAKE }, _>(&self.descriptor, &mut range(start, bytes))
    }

    /// Takes the note off an absent page that it is to be write-protected, which dropping a protected page leaves behind. The
    /// caller knows that the page is absent: else this would make it writable.
    ///
    /// # Errors
    /// What the kernel answered; EAGAIN asks for another try.
    pub(crate) fn forget_protection(&self, page_address: usize) -> Result<(), Errno> {
        let mut request = raw::uffdio_writeprotect {
            range: range(page_address, PAGE_BYTES),
            mode: raw::UNPROTECT_SILENTLY,
        };
        update::<{ raw::WRITEPROTECT }, _>(&self.descriptor, &mut request)
    }

    /// Marks an absent page of a registered range as lost: whoever touches it gets SIGBUS, and the
    /// kernel's own accesses fail with EFAULT, until the page is dropped or entered (`UFFDIO_POISON`, Linux 6.6).
    ///
    /// # Errors
    /// EEXIST: the page is there, or a note of protection, or poison. EAGAIN: try again.
    pub(crate) fn poison(&self, page_address: usize) -> Result<(), Errno> {
        let mut request = raw::uffdio_poison {
            range: range(page_address, PAGE_BYTES),
            mode: raw::POISON_SILENTLY,
            updated: 0,
        };
        update::<{ raw::POISON }, _>(&self.descriptor, &mut request)
    }
}

impl AsFd for Userfault {
    /// For waiting (`epoll(7)`) until a fault can be read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A range of shared memory whose faults go to a userfaultfd.
///
/// The operations take offsets and check them, because the kernel does not: it operates on any range of the process that is
/// registered, with whichever descriptor (seen on Linux 6.18). None of them wakes a thread that sleeps because of a fault
/// ([`Userfault::wake`]): it is to go on when whoever answers it is done.
///
/// When its last range is dropped and nobody else holds the [`Userfault`], that is closed: the pages behave like those of any
/// shared mapping then. Unmap them first.
#[derive(Debug)]
pub struct RegisteredRange {
    userfault: Arc<Userfault>,
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
                Protection::WriteProtected => raw::CONTINUE_SILENTLY | raw::CONTINUE_WRITEPROTECTED,
                Protection::Writable => raw::CONTINUE_SILENTLY,
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
                Protection::Writable => raw::UNPROTECT_SILENTLY,
            },
        };
        self.call::<{ raw::WRITEPROTECT }, _>(&mut request)
    }

    /// Gives the range back while it stays mapped.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn unregister(self) -> Result<Arc<Userfault>, Errno> {
        self.leave()?;
        Ok(self.userfault)
    }

    /// As [`unregister`](Self::unregister), of a range that others still use: their operations fail from now on.
    pub(crate) fn leave(&self) -> Result<(), Errno> {
        self.call::<{ raw::UNREGISTER }, _>(&mut range(self.start, self.bytes))
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

/// Agrees on `features` and returns those that the kernel has.
fn handshake(descriptor: &OwnedFd, features: Features) -> Result<Features, Errno> {
    let mut request = raw::uffdio_api { api: raw::API_VERSION, features: features.bits(), ioctls: 0 };
    update::<{ raw::API }, _>(descriptor, &mut request)?;
    Ok(Features::from_bits(request.features))
}

fn handshake_failed(errno: Errno) -> UffdError {
    UffdError::Failed { call: "UFFDIO_API", errno }
}

fn update<const OPCODE: Opcode, T>(descriptor: &OwnedFd, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each opcode is declared beside the structure that the kernel reads and writes for it, and is only used with
    // that; the structures hold plain numbers, no pointers that the kernel would follow to write.
    unsafe { ioctl(descriptor, Updater::<OPCODE, T>::new(argument)) }
}
