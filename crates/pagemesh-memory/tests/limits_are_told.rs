//! What cannot be done is refused with an error that says what was asked, what was found and what to do; and what the kernel
//! does at the borders (system calls, forks) is what the manual says.

mod common;

use common::{DEADLINE, Nothing, address, fetch, load, refuse, region, region_at, remote_page, store};
use pagemesh_memory::uffd::{Features, KernelVersion, Scope, Userfault};
use pagemesh_memory::{
    Access, HANDLER_FEATURES, Mapping, MappingError, MappingOptions, PAGE_BYTES, PageRange, PagerKind,
    RegionKey, SIGBUS_FEATURES, UffdError,
};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

crate::for_every_pager! {
    an_address_in_use_is_refused_and_its_user_named,
    what_the_pager_needs_is_there,
    system_calls_work_through_the_service_view,
    a_forked_child_has_no_region,
    a_child_that_drops_its_copy_harms_neither_its_parent_nor_itself,
}

/// With the third pager they fault like the program: `system_calls_wait_for_pages.rs`.
mod system_calls {
    use super::{
        system_calls_go_as_far_as_pages_are_there, system_calls_on_absent_pages_fail_and_do_not_fault,
    };

    crate::for_pager! { sigbus, Sigbus:
        system_calls_on_absent_pages_fail_and_do_not_fault,
        system_calls_go_as_far_as_pages_are_there
    }
    crate::for_pager! { sigsegv, Sigsegv:
        system_calls_on_absent_pages_fail_and_do_not_fault,
        system_calls_go_as_far_as_pages_are_there
    }
}

fn refusal(options: MappingOptions) -> MappingError {
    Mapping::new(options, Arc::new(Nothing)).expect_err("it should be refused")
}

/// A file in memory, for system calls.
fn file() -> File {
    // SAFETY: a new descriptor that nobody else has.
    unsafe {
        let descriptor = libc::memfd_create(c"plain".as_ptr(), libc::MFD_CLOEXEC);
        assert!(descriptor >= 0);
        File::from_raw_fd(descriptor)
    }
}

/// `write(2)` from the app view.
fn write_from(
    mapping: &Mapping,
    byte_offset: usize,
    bytes: usize,
    file: &File,
) -> Result<usize, Option<i32>> {
    // SAFETY: the kernel only reads, from the app view.
    let written = unsafe { libc::write(file.as_raw_fd(), address(mapping, byte_offset).cast(), bytes) };
    usize::try_from(written).map_err(|_| std::io::Error::last_os_error().raw_os_error())
}

/// `read(2)` into the app view.
fn read_into(mapping: &Mapping, byte_offset: usize, bytes: usize, file: &File) -> Result<usize, Option<i32>> {
    // SAFETY: the kernel writes into the app view only.
    let read = unsafe { libc::read(file.as_raw_fd(), address(mapping, byte_offset).cast(), bytes) };
    usize::try_from(read).map_err(|_| std::io::Error::last_os_error().raw_os_error())
}

fn an_address_in_use_is_refused_and_its_user_named(kind: PagerKind) {
    let base = 0x3100_0000_0000 + ((kind as usize) << 32);
    let options = MappingOptions::new(RegionKey(1), 16 * PAGE_BYTES).address(base).pager(kind);
    let (mapping, _) = region_at(options, fetch);
    assert_eq!(mapping.base(), base);
    let error = refusal(options.address(base - 8 * PAGE_BYTES));
    let MappingError::AddressTaken { asked, bytes, found } = &error else { panic!("{error:?}") };
    assert_eq!((*asked, *bytes), (base - 8 * PAGE_BYTES, 16 * PAGE_BYTES));
    let begins = format!("{base:x}-{:x} ", base + 16 * PAGE_BYTES);
    assert!(found.starts_with(&begins) && found.contains("memfd:pagemesh"), "{found}");
    assert!(error.to_string().contains(&format!("{:#x}", base - 8 * PAGE_BYTES)), "{error}");
    assert_eq!(load(&mapping, 0), remote_page(0)[0], "the user is unharmed");
    drop(mapping);
    region_at(options, fetch);
}

#[test]
fn sizes_and_addresses_that_cannot_be_are_refused() {
    for bytes in [0, 1, PAGE_BYTES + 1, !(PAGE_BYTES - 1)] {
        let error = refusal(MappingOptions::new(RegionKey(1), bytes));
        assert!(matches!(error, MappingError::BadSize { bytes: found } if found == bytes), "{error:?}");
    }
    for address in [0, 1, 0x3200_0000_0800, !(PAGE_BYTES - 1)] {
        let error = refusal(MappingOptions::new(RegionKey(1), 2 * PAGE_BYTES).address(address));
        assert!(
            matches!(error, MappingError::BadAddress { address: found, .. } if found == address),
            "{error:?}"
        );
    }
    // Beyond what a program can have on this processor.
    let error = refusal(MappingOptions::new(RegionKey(1), PAGE_BYTES).address(1 << 62));
    assert!(matches!(error, MappingError::Failed { call: "mmap", address: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("0x4000000000000000"), "{error}");
    let error = refusal(MappingOptions::new(RegionKey(1), 1 << 60));
    assert!(matches!(error, MappingError::Failed { .. }), "{error:?}");
}

#[test]
fn a_feature_that_the_kernel_lacks_is_named() {
    let bogus = Features::from_bits(1 << 62);
    let error = match Userfault::open(Scope::UserMode, Features::SIGBUS | bogus) {
        Err(UffdError::Refused { .. } | UffdError::NotImplemented { .. }) => return,
        other => other.unwrap_err(),
    };
    assert_eq!(error, UffdError::MissingFeature { asked: Features::SIGBUS | bogus, missing: bogus });
    let text = error.to_string();
    assert!(
        text.contains("lacks feature bit 62") && text.contains("asked userfaultfd for UFFD_FEATURE_SIGBUS"),
        "{text}"
    );
}

#[test]
fn what_each_pager_needs_comes_from_the_kernel_that_the_manual_says() {
    assert_eq!(SIGBUS_FEATURES.since(), Some(KernelVersion(6, 4)));
    assert_eq!(HANDLER_FEATURES.since(), Some(KernelVersion(6, 6)));
}

fn what_the_pager_needs_is_there(kind: PagerKind) {
    let needed = match kind {
        PagerKind::Sigbus => Some((Scope::UserMode, SIGBUS_FEATURES)),
        PagerKind::Handler => Some((Scope::UserAndKernel, HANDLER_FEATURES)),
        _ => None,
    };
    if let Some((scope, features)) = needed {
        assert!(Userfault::supported(scope).unwrap().contains(features));
        assert_eq!(Userfault::open(scope, features).unwrap().features(), features);
    }
    let (mapping, _) = region(kind, 1, refuse);
    assert_eq!((mapping.pager().kind(), mapping.key()), (kind, RegionKey(5)));
    assert!(mapping.chosen().forced && mapping.chosen().reason.contains(&kind.to_string()));
}

fn system_calls_on_absent_pages_fail_and_do_not_fault(kind: PagerKind) {
    let (mapping, sink) = region(kind, 3, refuse);
    let mut file = file();
    assert_eq!(write_from(&mapping, 0, 100, &file), Err(Some(libc::EFAULT)));
    file.write_all(&[1; 100]).unwrap();
    file.rewind().unwrap();
    assert_eq!(read_into(&mapping, 0, 100, &file), Err(Some(libc::EFAULT)));
    assert_eq!(sink.counts(), (0, 0));
}

fn system_calls_go_as_far_as_pages_are_there(kind: PagerKind) {
    let (mapping, _) = region(kind, 3, refuse);
    mapping.service().write_page(0, &remote_page(0));
    mapping.pager().map(PageRange::one(0), Access::Read).unwrap();
    let mut file = file();
    assert_eq!(write_from(&mapping, 0, 2 * PAGE_BYTES, &file), Ok(PAGE_BYTES));
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, remote_page(0));
    file.rewind().unwrap();
    assert_eq!(read_into(&mapping, 0, 10, &file), Err(Some(libc::EFAULT)), "readable is not writable");
    mapping.pager().unprotect(PageRange::one(0)).unwrap();
    assert_eq!(read_into(&mapping, 1, 10, &file), Ok(10));
    assert_eq!(load(&mapping, 1), remote_page(0)[0]);
}

fn system_calls_work_through_the_service_view(kind: PagerKind) {
    let (mapping, sink) = region(kind, 2, refuse);
    let mut file = file();
    file.write_all(&remote_page(1)).unwrap();
    file.rewind().unwrap();
    // SAFETY: the kernel writes one page into the service view.
    let read = unsafe { libc::read(file.as_raw_fd(), mapping.service().page_pointer(1).cast(), PAGE_BYTES) };
    assert_eq!(read.cast_unsigned(), PAGE_BYTES);
    mapping.pager().map(PageRange::one(1), Access::Read).unwrap();
    assert_eq!(load(&mapping, PAGE_BYTES + 8), remote_page(1)[8]);
    assert_eq!(sink.counts(), (0, 0));
}

/// Runs `inside` in a child made by fork and returns the status it ended with. `inside` must not allocate or lock.
fn forked(inside: impl FnOnce()) -> i32 {
    // SAFETY: the child only does what is allowed between fork and exec.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        inside();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let begin = Instant::now();
    let mut status = 0;
    // SAFETY: waits for the child made above.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        assert!(begin.elapsed() < DEADLINE, "the child does not end");
        thread::sleep(Duration::from_millis(1));
    }
    status
}

fn a_forked_child_has_no_region(kind: PagerKind) {
    let (mapping, sink) = region(kind, 2, fetch);
    store(&mapping, 3, 200);
    let status = forked(|| store(&mapping, 3, 1));
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status:#x}");
    let service = mapping.service().page_pointer(0);
    // SAFETY: not mapped in the child; that it faults is the point.
    let status = forked(|| unsafe { service.write_volatile(1) });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status:#x}");
    assert_eq!(load(&mapping, 3), 200);
    assert_eq!(load(&mapping, PAGE_BYTES), remote_page(1)[0], "the parent goes on");
    assert_eq!(sink.counts(), (1, 1));
}

/// The addresses of a region are free in a child; what it put there is not the region's to unmap.
fn a_child_that_drops_its_copy_harms_neither_its_parent_nor_itself(kind: PagerKind) {
    let (mapping, _) = region(kind, 2, fetch);
    let handle = Arc::as_ptr(&mapping).cast_mut();
    // SAFETY: the child has a handle of its own, which it drops here and never uses again.
    let status = forked(|| unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let base = mapping.app_pointer().cast();
        let own = libc::mmap(base, PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if own != base {
            libc::_exit(1);
        }
        std::ptr::drop_in_place(handle);
        own.cast::<u8>().write_volatile(1);
    });
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
    assert_eq!(load(&mapping, PAGE_BYTES), remote_page(1)[0]);
}
