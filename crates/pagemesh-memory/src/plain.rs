//! Memory that processes of one machine share with nothing in between: what pagemesh is measured against.

use crate::mapped::{MappedRange, Memory};
use crate::recoverable::sites;
use crate::{Access, MappingError, PAGE_BYTES, PageRange};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Why a file cannot be plain memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlainMemoryError {
    /// The file is not one that [`PlainMemory::file`] made.
    #[error("a file that was offered as plain memory is none: {what}; offer one that was made for it")]
    Foreign {
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be made or mapped.
    #[error("plain memory cannot be had: {0}")]
    Mapping(#[from] MappingError),
}

/// A file in memory, mapped once, readable and writable as a whole: what processes have that `fork` after `mmap` of `MAP_SHARED`
/// memory, or that map the same file. No page of it is ever protected or asked for; the kernel and the processor are all there is.
///
/// It never changes its size, so no access within it can fail. It is mapped with pages of 4 KiB, as regions are
/// (`MADV_NOHUGEPAGE`), left out of core dumps, and children made by `fork` do not have it: they open it anew.
///
/// There are no references into it but to single atomic words: others write it at any time. As long as who writes and who reads take
/// turns by those words, each reads what was written.
#[derive(Debug)]
pub struct PlainMemory {
    memory: Memory,
    range: MappedRange,
}

impl PlainMemory {
    /// Makes a file of `bytes` zeros, a multiple of [`PAGE_BYTES`], for any number of processes to [`open`](Self::open). Only what is touched
    /// takes memory. The descriptor is closed when a program is executed, until that is changed (`FD_CLOEXEC`, fcntl(2)).
    ///
    /// # Errors
    /// When the size is none, or the kernel refuses.
    pub fn file(bytes: usize) -> Result<OwnedFd, PlainMemoryError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) || isize::try_from(bytes).is_err() {
            return Err(MappingError::BadSize { bytes }.into());
        }
        Ok(Memory::new(bytes)?.into_file())
    }

    /// Maps such a file.
    ///
    /// # Errors
    /// When it could change its size, or cannot be mapped.
    pub fn open(file: OwnedFd) -> Result<PlainMemory, PlainMemoryError> {
        let memory = Memory::sealed(file).map_err(|what| PlainMemoryError::Foreign { what })?;
        let range = MappedRange::new(&memory, None)?;
        Ok(PlainMemory { memory, range })
    }

    /// Size.
    pub fn bytes(&self) -> usize {
        self.range.bytes()
    }

    /// Makes `pages` present and writable in this process, so that touching them costs no page fault. A page that nobody had is
    /// allocated near the calling thread's processor.
    ///
    /// # Errors
    /// When the kernel has no memory for them.
    ///
    /// # Panics
    /// When there are no such pages.
    pub fn populate(&self, pages: PageRange) -> Result<(), PlainMemoryError> {
        assert!(pages.end() <= self.range.pages(), "{pages} of {} pages", self.range.pages());
        self.memory.populate(pages).map_err(self.failed("fallocate of plain memory", pages))?;
        if !self.range.is_accessible(pages, Access::Write) {
            // Linux knows MADV_POPULATE_WRITE since 5.14. Before, a load maps a page of a shared file as a store does.
            self.range.touch(pages);
        }
        Ok(())
    }

    /// Gives the memory of `pages` back, in all processes; they are zeros then, and absent.
    ///
    /// # Errors
    /// When the kernel refuses.
    ///
    /// # Panics
    /// When there are no such pages.
    pub fn release(&self, pages: PageRange) -> Result<(), PlainMemoryError> {
        assert!(pages.end() <= self.range.pages(), "{pages} of {} pages", self.range.pages());
        self.memory.release(pages).map_err(self.failed("punching a hole into plain memory", pages))?;
        Ok(())
    }

    fn failed(&self, call: &'static str, pages: PageRange) -> impl FnOnce(Errno) -> MappingError {
        let address = Some(self.range.address());
        let bytes = pages.count() as usize * PAGE_BYTES;
        move |errno| MappingError::Failed { call, address, bytes, errno }
    }

    /// The address of `bytes` bytes.
    #[inline]
    pub(crate) fn place(&self, byte_offset: usize, bytes: usize) -> *mut u8 {
        let end = byte_offset.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= self.bytes()),
            "{bytes} bytes at {byte_offset} of {}",
            self.bytes()
        );
        self.range.start().wrapping_add(byte_offset)
    }

    /// Copies what lies at `byte_offset` to `value`, which is loaded whole if it is 1, 2, 4 or 8 bytes at a multiple of its size.
    ///
    /// # Panics
    /// When it does not lie in this memory.
    #[inline]
    pub fn load(&self, byte_offset: usize, value: &mut [u8]) {
        let from = self.place(byte_offset, value.len());
        if byte_offset & value.len().wrapping_sub(1) != 0 {
            return self.read(byte_offset, value);
        }
        // SAFETY: `place` checked that the bytes lie within the range, which is mapped as long as `self` lives; it begins on a page, so that
        // an offset which is a multiple of the size is aligned. Others use the same bytes only by such accesses or opaque copies.
        unsafe {
            match value.len() {
                1 => value.copy_from_slice(&AtomicU8::from_ptr(from).load(Ordering::Relaxed).to_ne_bytes()),
                2 => value
                    .copy_from_slice(&AtomicU16::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                4 => value
                    .copy_from_slice(&AtomicU32::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                8 => value
                    .copy_from_slice(&AtomicU64::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                _ => self.read(byte_offset, value),
            }
        }
    }

    /// Replaces what lies at `byte_offset` by `value`, which is stored whole if it is 1, 2, 4 or 8 bytes at a multiple of its size.
    ///
    /// # Panics
    /// When it does not lie in this memory.
    #[inline]
    pub fn store(&self, byte_offset: usize, value: &[u8]) {
        let to = self.place(byte_offset, value.len());
        if byte_offset & value.len().wrapping_sub(1) != 0 {
            return self.write(byte_offset, value);
        }
        // SAFETY: as in `load`.
        unsafe {
            match *value {
                [a] => AtomicU8::from_ptr(to).store(a, Ordering::Relaxed),
                [a, b] => {
                    AtomicU16::from_ptr(to.cast()).store(u16::from_ne_bytes([a, b]), Ordering::Relaxed);
                }
                [a, b, c, d] => {
                    AtomicU32::from_ptr(to.cast()).store(u32::from_ne_bytes([a, b, c, d]), Ordering::Relaxed);
                }
                [a, b, c, d, e, f, g, h] => AtomicU64::from_ptr(to.cast())
                    .store(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), Ordering::Relaxed),
                _ => self.write(byte_offset, value),
            }
        }
    }

    /// Copies out what lies at `byte_offset`.
    ///
    /// # Panics
    /// When it does not lie in this memory.
    pub fn read(&self, byte_offset: usize, bytes: &mut [u8]) {
        let from = self.place(byte_offset, bytes.len());
        // SAFETY: as in `load`; nothing else overlaps this memory.
        unsafe { sites::transfer(bytes.as_mut_ptr(), from, bytes.len()) };
    }

    /// Replaces what lies at `byte_offset`.
    ///
    /// # Panics
    /// When it does not lie in this memory.
    pub fn write(&self, byte_offset: usize, bytes: &[u8]) {
        let to = self.place(byte_offset, bytes.len());
        // SAFETY: as in `read`.
        unsafe { sites::transfer(to, bytes.as_ptr(), bytes.len()) };
    }

    /// Replaces `bytes` bytes at `byte_offset` by those that lie at another place in `from`, which is other memory.
    ///
    /// # Panics
    /// When either do not lie in their memory, or both are the same.
    pub fn copy(&self, byte_offset: usize, from: &PlainMemory, from_offset: usize, bytes: usize) {
        assert!(!std::ptr::eq(self, from), "{bytes} bytes are to be copied within one memory");
        let (to, from) = (self.place(byte_offset, bytes), from.place(from_offset, bytes));
        // SAFETY: as in `load`; two mappings do not overlap.
        unsafe { sites::transfer(to, from, bytes) };
    }

    /// The 32 bits at `byte_offset`, to wait at (futex(2), without `FUTEX_PRIVATE_FLAG`: the kernel knows the word by its file).
    ///
    /// # Panics
    /// When they do not lie in this memory, or not on a multiple of 4.
    #[inline]
    pub fn word(&self, byte_offset: usize) -> &AtomicU32 {
        assert!(byte_offset.is_multiple_of(4), "a word at {byte_offset}, which is no multiple of 4");
        let word = self.place(byte_offset, 4);
        // SAFETY: as in `load`. Other processes may store there at any time, which an atomic allows.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    fn twice(bytes: usize) -> [PlainMemory; 2] {
        let file = PlainMemory::file(bytes).unwrap();
        let other = file.try_clone().unwrap();
        [file, other].map(|file| PlainMemory::open(file).unwrap())
    }

    #[test]
    fn what_one_mapping_writes_another_reads() {
        let [one, other] = twice(3 * PAGE_BYTES);
        for bytes in [1, 2, 3, 4, 5, 8, 9, 64, PAGE_BYTES, PAGE_BYTES + 1] {
            for offset in [0, 1, 8, PAGE_BYTES - 1] {
                let value: Vec<u8> = (0..bytes).map(|at| (at + offset) as u8 | 1).collect();
                let mut found = vec![0; bytes];
                one.store(offset, &value);
                other.load(offset, &mut found);
                assert_eq!(found, value, "{bytes} bytes at {offset}");
                other.write(offset, &vec![7; bytes]);
                one.read(offset, &mut found);
                assert_eq!(found, vec![7; bytes], "{bytes} bytes at {offset}");
            }
        }
        let elsewhere = PlainMemory::open(PlainMemory::file(PAGE_BYTES).unwrap()).unwrap();
        elsewhere.copy(0, &one, PAGE_BYTES - 1, PAGE_BYTES);
        let (mut copied, mut found) = ([0; PAGE_BYTES], [1; PAGE_BYTES]);
        elsewhere.read(0, &mut copied);
        other.read(PAGE_BYTES - 1, &mut found);
        assert!(copied == found && copied.contains(&7));
        one.word(8).store(5, Ordering::Release);
        assert_eq!(other.word(8).load(Ordering::Acquire), 5);
    }

    #[test]
    fn pages_that_are_given_back_are_zeros() {
        let [one, other] = twice(2 * PAGE_BYTES);
        let all = PageRange::new(0, 2);
        one.populate(all).unwrap();
        one.write(0, &[1; 2 * PAGE_BYTES]);
        other.release(PageRange::one(1)).unwrap();
        let mut found = [2; 2 * PAGE_BYTES];
        one.read(0, &mut found);
        assert_eq!(found[..PAGE_BYTES], [1; PAGE_BYTES]);
        assert_eq!(found[PAGE_BYTES..], [0; PAGE_BYTES]);
    }

    #[test]
    fn a_file_that_could_shrink_is_refused() {
        let file = memfd_create("not sealed", MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(PlainMemory::open(file), Err(PlainMemoryError::Foreign { .. })));
        for bytes in [0, 1, PAGE_BYTES + 1, usize::MAX & !(PAGE_BYTES - 1)] {
            let refused = PlainMemory::file(bytes);
            assert!(
                matches!(refused, Err(PlainMemoryError::Mapping(MappingError::BadSize { .. }))),
                "{bytes}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "2 bytes at 4095 of 4096")]
    fn an_access_beyond_the_end_is_refused() {
        let [one, _] = twice(PAGE_BYTES);
        one.load(PAGE_BYTES - 1, &mut [0; 2]);
    }
}
