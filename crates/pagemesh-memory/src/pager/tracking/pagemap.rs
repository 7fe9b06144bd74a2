//! `PAGEMAP_SCAN` on `/proc/self/pagemap`, Linux 6.7: the kernel's list of pages that were written. See
//! `Documentation/admin-guide/mm/pagemap.rst` of the kernel.

use linux_raw_sys::general::{self as kernel, page_region, pm_scan_arg};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::ffi::c_void;

/// Where the page tables of this process can be asked.
pub(super) const PAGEMAP: &str = "/proc/self/pagemap";

/// A macro in the kernel's header, and so missing from its translation.
const PAGEMAP_SCAN: Opcode = opcode::read_write::<pm_scan_arg>(b'f', 16);

const _: () = assert!(PAGEMAP_SCAN == 0xC060_6610);
const _: () = assert!(size_of::<pm_scan_arg>() == 96 && size_of::<page_region>() == 24);

/// Runs of written pages that one call tells when it protects them.
const RUNS_MAX: usize = 256;
/// The same when it does not: this one is asked on the stack of a fault handler too.
const LOOK_RUNS_MAX: usize = 24;

/// The page tables of this process, as a file.
#[derive(Debug)]
pub(super) struct Pagemap {
    file: OwnedFd,
}

/// What one call told, in addresses.
pub(super) struct Scanned<const RUNS: usize> {
    runs: [page_region; RUNS],
    count: usize,
    /// Up to where it looked.
    pub(super) end: usize,
}

/// Neighbouring pages that may have been written.
pub(super) struct ScannedRun {
    /// Address of the first byte.
    pub(super) start: usize,
    /// Address behind the last.
    pub(super) end: usize,
    /// Whether they are in the page table, and so were written.
    pub(super) present: bool,
}

impl<const RUNS: usize> Scanned<RUNS> {
    pub(super) fn runs(&self) -> impl Iterator<Item = ScannedRun> {
        self.runs[..self.count].iter().map(|run| ScannedRun {
            start: run.start as usize,
            end: run.end as usize,
            present: run.categories & u64::from(kernel::PAGE_IS_PRESENT) != 0,
        })
    }
}

impl Pagemap {
    pub(super) fn open() -> Result<Pagemap, Errno> {
        open(PAGEMAP, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(|file| Pagemap { file })
    }

    /// Lists the pages between two addresses that are not write-protected, and protects them again in the same step, page by
    /// page, until the end or until the list is full. When it returns, no processor can write one that was listed without the
    /// kernel's notice. All of them have to be registered with a userfaultfd that has `WP_ASYNC`, else it fails with EPERM.
    ///
    /// A page that is not in the page table counts as not protected, unless a note there says that it is; listing it leaves
    /// such a note, for which the kernel allocates the page table where there is none (seen on Linux 6.18).
    pub(super) fn take_written(&self, start: usize, end: usize) -> Result<Scanned<RUNS_MAX>, Errno> {
        self.scan(kernel::PM_SCAN_WP_MATCHING, start, end)
    }

    /// Lists them as `take_written` does and changes nothing. A page that was taken out of the page table after it had been protected, and not
    /// written since, is not in the list: the note that it was protected stays (`MADV_DONTNEED` of shared memory, `mm/memory.c`).
    pub(super) fn written(&self, start: usize, end: usize) -> Result<Scanned<LOOK_RUNS_MAX>, Errno> {
        self.scan(0, start, end)
    }

    fn scan<const RUNS: usize>(&self, flags: u32, start: usize, end: usize) -> Result<Scanned<RUNS>, Errno> {
        let nothing = page_region { start: 0, end: 0, categories: 0 };
        let mut scanned = Scanned { runs: [nothing; RUNS], count: 0, end: start };
        let request = pm_scan_arg {
            size: size_of::<pm_scan_arg>() as u64,
            flags: u64::from(flags | kernel::PM_SCAN_CHECK_WPASYNC),
            start: start as u64,
            end: end as u64,
            walk_end: 0,
            vec: (&raw mut scanned.runs).expose_provenance() as u64,
            vec_len: RUNS as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: u64::from(kernel::PAGE_IS_WRITTEN),
            category_anyof_mask: 0,
            return_mask: u64::from(kernel::PAGE_IS_WRITTEN | kernel::PAGE_IS_PRESENT),
        };
        // SAFETY: the request is declared below for this file. The kernel writes to `scanned.runs`, which lives longer than the
        // call and of which there is no reference, at most as many as it has.
        let (count, walk_end) = unsafe { ioctl(&self.file, Scan { request }) }?;
        scanned.count = count.min(RUNS);
        scanned.end = walk_end as usize;
        Ok(scanned)
    }
}

/// The request: how many runs it found, and up to where it looked.
struct Scan {
    request: pm_scan_arg,
}

// SAFETY: the opcode is that of a request which reads and writes this structure, and returns a count.
unsafe impl Ioctl for Scan {
    type Output = (usize, u64);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PAGEMAP_SCAN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.request).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, request: *mut c_void) -> rustix::io::Result<(usize, u64)> {
        // SAFETY: it is the pointer that `as_ptr` gave.
        let walk_end = unsafe { (*request.cast::<pm_scan_arg>()).walk_end };
        Ok((usize::try_from(count).unwrap_or(0), walk_end))
    }
}
