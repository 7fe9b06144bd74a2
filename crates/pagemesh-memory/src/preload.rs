//! The preload library (`pagemesh-preload`), if the process has it: told which addresses are regions, and what to do for a
//! system call there.
//!
//! The library exports two functions, which are looked up by name for each region, so that neither needs the other to be
//! linked. It calls back with addresses; the region is found in the same table as that of a fault, so that a region which
//! goes meanwhile is no region any more, and never a dangling pointer.

use crate::recoverable::sites;
use crate::signal::{AllMasked, Entry, find};
use crate::{Access, Fault, PAGE_BYTES, PageRange, Resolution};
use std::ffi::{CStr, c_int, c_void};
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

/// Tries at a copy whose page could be had after all.
const TRIES: u32 = 3;

/// `Handlers` of the library: the layout belongs to the version in the functions' names.
#[repr(C)]
struct Handlers {
    pin: unsafe extern "C" fn(usize, usize, c_int) -> c_int,
    unpin: unsafe extern "C" fn(usize, usize, c_int) -> c_int,
    copy_in: unsafe extern "C" fn(usize, *const c_void, usize) -> c_int,
    copy_out: unsafe extern "C" fn(*mut c_void, usize, usize) -> c_int,
}

static HANDLERS: Handlers = Handlers { pin, unpin, copy_in, copy_out };

type Add = unsafe extern "C" fn(usize, usize, *const Handlers) -> c_int;
type Remove = unsafe extern "C" fn(usize);

/// A range of addresses that the library knows of. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Announced {
    start: usize,
}

impl Announced {
    /// Tells the library of a region; `None` when there is no library. One that is full serves the region's system calls no
    /// worse than none.
    pub(crate) fn new(start: usize, bytes: usize) -> Option<Announced> {
        let add = look_up(c"pagemesh_preload_add_v1")?;
        // SAFETY: the function of that name has this type.
        let add = unsafe { std::mem::transmute::<*mut c_void, Add>(add) };
        // SAFETY: the handlers are static, and the region stays mapped until it is taken out.
        let added = unsafe { add(start, bytes, &raw const HANDLERS) };
        (added == 0).then_some(Announced { start })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(remove) = look_up(c"pagemesh_preload_remove_v1") {
            // SAFETY: the function of that name has this type.
            let remove = unsafe { std::mem::transmute::<*mut c_void, Remove>(remove) };
            // SAFETY: takes any number.
            unsafe { remove(self.start) };
        }
    }
}

fn look_up(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends in a zero byte.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The pages of `bytes` bytes at `address`, which lie in the region.
fn pages(region: &Entry, address: usize, bytes: usize) -> Option<PageRange> {
    let end = address.checked_add(bytes).filter(|end| *end <= region.end)?;
    let first = (address - region.start) / PAGE_BYTES;
    Some(PageRange::new(first as u64, ((end - region.start).div_ceil(PAGE_BYTES) - first) as u64))
}

fn access(write: c_int) -> Access {
    if write == 0 { Access::Read } else { Access::Write }
}

unsafe extern "C" fn pin(address: usize, bytes: usize, write: c_int) -> c_int {
    // A handler of the application that interrupted the sink, and touched shared memory, would wait for the sink's locks.
    let _masked = AllMasked::new();
    let Some(region) = find(address) else { return libc::ENOENT };
    let Some(pages) = pages(&region, address, bytes) else { return libc::ENOENT };
    match region.sink.hold(region.key, pages, access(write)) {
        Resolution::Resolved => 0,
        Resolution::Failed => libc::EFAULT,
    }
}

unsafe extern "C" fn unpin(address: usize, bytes: usize, write: c_int) -> c_int {
    let _masked = AllMasked::new();
    let Some(region) = find(address) else { return libc::ENOENT };
    let Some(pages) = pages(&region, address, bytes) else { return libc::ENOENT };
    if region.sink.let_go(region.key, pages, access(write)) { 0 } else { libc::EAGAIN }
}

unsafe extern "C" fn copy_in(address: usize, from: *const c_void, bytes: usize) -> c_int {
    copy(address, bytes, Access::Write, |done| {
        let to = with_exposed_provenance_mut::<u8>(address + done);
        // SAFETY: the caller's bytes go to a region that stays mapped as long as `copy` has it.
        unsafe { sites::copy(to, from.cast::<u8>().add(done), 0, bytes - done) }.result()
    })
}

unsafe extern "C" fn copy_out(to: *mut c_void, address: usize, bytes: usize) -> c_int {
    copy(address, bytes, Access::Read, |done| {
        let from = with_exposed_provenance::<u8>(address + done);
        // SAFETY: as in `copy_in`, the other way.
        unsafe { sites::copy(to.cast::<u8>().add(done), from, 0, bytes - done) }.result()
    })
}

/// Tries `attempt`, which copies from so many bytes on, again as long as the page that stopped it can be had after all.
fn copy(
    address: usize,
    bytes: usize,
    access: Access,
    attempt: impl Fn(usize) -> Result<u64, (crate::RegionKey, u64)>,
) -> c_int {
    // It stays mapped as long as this is held.
    let Some(region) = find(address) else { return libc::ENOENT };
    if pages(&region, address, bytes).is_none() {
        return libc::ENOENT;
    }
    let mut done = 0;
    for _ in 0..TRIES {
        let Err((stopped, page)) = attempt(done) else { return 0 };
        if stopped != region.key {
            return libc::EFAULT;
        }
        done = (region.start + page as usize * PAGE_BYTES).saturating_sub(address);
        let _masked = AllMasked::new();
        if region.sink.resolve(Fault { region: region.key, page, access }) == Resolution::Failed {
            break;
        }
    }
    libc::EFAULT
}
