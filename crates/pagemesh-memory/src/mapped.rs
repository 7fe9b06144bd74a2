//! The memory behind a region: its file, and the ranges of addresses where the file is mapped.

use crate::{Access, KeptFromChildren, MappingError, PAGE_BYTES, PageRange};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, ftruncate, memfd_create,
    seek,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::process::{Resource, getrlimit};
use std::ptr::{null_mut, without_provenance_mut};

/// Where the maps of this process can be read.
const MAPS: &str = "/proc/self/maps";

/// The file of a region: it exists only in memory, holds only the pages that were touched, and never changes its
/// size, so that no access inside it can run past its end.
#[derive(Debug)]
pub(crate) struct Memory {
    /// A child would keep the memory of a parent that is gone.
    _kept: Option<KeptFromChildren>,
    file: OwnedFd,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Result<Memory, MappingError> {
        let failed = |call| move |errno| MappingError::Failed { call, address: None, bytes, errno };
        // Beyond the limit the kernel would send SIGXFSZ, which ends the process (setrlimit(2)).
        if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| *limit < bytes as u64) {
            return Err(MappingError::FileLimit { bytes, limit });
        }
        let file = open_memory().map_err(failed("memfd_create"))?;
        ftruncate(&file, bytes as u64).map_err(failed("ftruncate of the memory file"))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(failed("sealing the memory file"))?;
        Ok(Memory::of(file, bytes))
    }

    /// Over a file of `bytes`, whose size nobody can change any more.
    pub(crate) fn of(file: OwnedFd, bytes: usize) -> Memory {
        Memory { _kept: KeptFromChildren::new(file.as_fd()), file, bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The file itself; what is mapped of it stays.
    pub(crate) fn into_file(self) -> OwnedFd {
        self.file
    }

    /// Makes the file hold `pages`, as zeros where it does not yet.
    pub(crate) fn populate(&self, pages: PageRange) -> Result<(), Errno> {
        if pages.is_empty() {
            return Ok(());
        }
        let page = PAGE_BYTES as u64;
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), pages.first() * page, pages.count() * page) {
                // Linux undoes the allocation when a signal comes in between.
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Gives the memory of `pages` back; they are zeros then.
    pub(crate) fn release(&self, pages: PageRange) -> Result<(), Errno> {
        if pages.is_empty() {
            return Ok(());
        }
        let page = PAGE_BYTES as u64;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, hole, pages.first() * page, pages.count() * page)
    }
}

impl Memory {
    /// The first of `pages` that the file does not hold, `None` where it holds them all or cannot say. A page that was
    /// allocated and never touched counts as one that it does not hold.
    pub(crate) fn first_hole(&self, pages: PageRange) -> Option<u64> {
        pages.iter().find(|page| {
            let offset = page * PAGE_BYTES as u64;
            // One page at a time: a search for the next hole would walk through all that the file holds. Nobody uses the
            // file's position, which this moves.
            match seek(&self.file, SeekFrom::Data(offset)) {
                Ok(found) => found != offset,
                Err(errno) => errno == Errno::NXIO,
            }
        })
    }
}

fn open_memory() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 knows this flag, and can be told (vm.memfd_noexec = 2) to refuse files without it.
    match memfd_create("pagemesh", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("pagemesh", flags),
        result => result,
    }
}

/// A range of addresses at which a region's file is mapped, readable and writable. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct MappedRange {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: a range of addresses belongs to the process, not to a thread, and the type only ever calculates with the pointer.
unsafe impl Send for MappedRange {}
// SAFETY: see above; nothing in it changes.
unsafe impl Sync for MappedRange {}

impl MappedRange {
    /// Maps the whole file, at `address` if one is given, else where the kernel finds room.
    ///
    /// Both kinds are invisible to children (`MADV_DONTFORK`): a child would write into the parent's pages, past all
    /// protection, since userfaultfd does not follow a fork. They are left out of core dumps (`MADV_DONTDUMP`): the kernel
    /// would fill every hole of the file to write it out. Huge pages are declined (`MADV_NOHUGEPAGE`): one touched page
    /// would cost 2 MiB where they are enabled for shared memory.
    pub(crate) fn new(memory: &Memory, address: Option<usize>) -> Result<MappedRange, MappingError> {
        let bytes = memory.bytes;
        let (hint, placement) = match address {
            Some(address) => (without_provenance_mut(address), MapFlags::FIXED_NOREPLACE),
            None => (null_mut(), MapFlags::empty()),
        };
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | placement;
        // SAFETY: either the kernel chooses the addresses, or FIXED_NOREPLACE makes it refuse those that are in use; so no
        // memory of anyone else changes.
        let mapped = unsafe { mmap(hint, bytes, rights, flags, &memory.file, 0) };
        let start = match (mapped, address) {
            (Ok(start), _) => start.cast::<u8>(),
            (Err(Errno::EXIST), Some(asked)) => return Err(address_taken(asked, bytes)),
            (Err(errno), _) => return Err(MappingError::Failed { call: "mmap", address, bytes, errno }),
        };
        let range = MappedRange { start, bytes };
        // Before Linux 4.17, FIXED_NOREPLACE was taken for a hint.
        if let Some(asked) = address.filter(|asked| *asked != range.address()) {
            return Err(address_taken(asked, bytes));
        }
        range.advise(Advice::LinuxDontFork, "madvise(MADV_DONTFORK)")?;
        range.advise(Advice::LinuxDontDump, "madvise(MADV_DONTDUMP)")?;
        match range.advise(Advice::LinuxNoHugepage, "madvise(MADV_NOHUGEPAGE)") {
            // A kernel without huge pages does not know the word.
            Ok(()) | Err(MappingError::Failed { errno: Errno::INVAL, .. }) => Ok(range),
            Err(error) => Err(error),
        }
    }

    /// Touches `pages` by a load from each: what the file had only allocated, it holds then.
    pub(crate) fn touch(&self, pages: PageRange) {
        if pages.is_empty() {
            return;
        }
        let start = self.start.wrapping_add(pages.first() as usize * PAGE_BYTES);
        // SAFETY: the range is ours and readable; this does what loads would do.
        let result =
            unsafe { madvise(start.cast(), pages.count() as usize * PAGE_BYTES, Advice::LinuxPopulateRead) };
        if result.is_ok() {
            return;
        }
        // Before Linux 5.14.
        for page in 0..pages.count() as usize {
            // SAFETY: as above; the value is not looked at, so it does not matter who writes it.
            unsafe { start.add(page * PAGE_BYTES).read_volatile() };
        }
    }

    /// Whether a system call could use all of `pages` now, in one call of the kernel.
    pub(crate) fn is_accessible(&self, pages: PageRange, access: Access) -> bool {
        if pages.is_empty() {
            return true;
        }
        let advice = match access {
            Access::Read => Advice::LinuxPopulateRead,
            Access::Write => Advice::LinuxPopulateWrite,
        };
        let start = self.start.wrapping_add(pages.first() as usize * PAGE_BYTES);
        // SAFETY: the range is ours; this has the kernel do what a system call's access would, and changes no byte.
        unsafe { madvise(start.cast(), pages.count() as usize * PAGE_BYTES, advice) }.is_ok()
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    pub(crate) fn address(&self) -> usize {
        self.start.addr()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn pages(&self) -> u64 {
        (self.bytes / PAGE_BYTES) as u64
    }

    fn advise(&self, advice: Advice, call: &'static str) -> Result<(), MappingError> {
        // SAFETY: the range is ours, and none of the advice given in this file changes what it holds.
        unsafe { madvise(self.start.cast(), self.bytes, advice) }.map_err(|errno| MappingError::Failed {
            call,
            address: Some(self.address()),
            bytes: self.bytes,
            errno,
        })
    }
}

impl Drop for MappedRange {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever held this value has no pointer into it any more; nothing can be done
        // about an error, of which none is known for a range that was mapped whole.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

fn address_taken(asked: usize, bytes: usize) -> MappingError {
    let maps = std::fs::read_to_string(MAPS).unwrap_or_default();
    let found = occupants(&maps, asked, bytes).unwrap_or_else(|| format!("nothing in {MAPS} any more"));
    MappingError::AddressTaken { asked, bytes, found }
}

/// The first line of `maps` that lies within the range, and how many more do.
fn occupants(maps: &str, start: usize, bytes: usize) -> Option<String> {
    let mut lines = maps.lines().filter(|line| {
        let bounds = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let parse = |text| usize::from_str_radix(text, 16).ok();
        bounds
            .and_then(|(low, high)| Some((parse(low)?, parse(high)?)))
            .is_some_and(|(low, high)| low < start.saturating_add(bytes) && high > start)
    });
    let first = lines.next()?.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_occupants_of_a_range_are_found_by_overlap() {
        let maps = "1000-3000 r-xp 00000000 08:01 42    /bin/a\n3000-4000 rw-p 00000000 00:00 0\n8000-9000 ---p 0 00:00 0";
        assert_eq!(occupants(maps, 0x2000, 0x1000).unwrap(), "1000-3000 r-xp 00000000 08:01 42 /bin/a");
        assert_eq!(
            occupants(maps, 0x2000, 0x8000).unwrap(),
            "1000-3000 r-xp 00000000 08:01 42 /bin/a (and 2 more)"
        );
        assert_eq!(occupants(maps, 0x4000, 0x4000), None);
    }

    #[test]
    fn the_file_cannot_be_resized() {
        let memory = Memory::new(4 * PAGE_BYTES).unwrap();
        assert_eq!(ftruncate(&memory.file, PAGE_BYTES as u64), Err(Errno::PERM));
        assert_eq!(ftruncate(&memory.file, 8 * PAGE_BYTES as u64), Err(Errno::PERM));
    }
}
