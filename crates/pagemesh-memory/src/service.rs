//! The service view: the mapping of a region that never faults.

use crate::mapped::MappedRange;
use crate::recoverable::sites;
use crate::{PAGE_BYTES, PageBytes, PageRange, RingFault, SharedRing};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::io::IoSlice;
use std::mem::MaybeUninit;

const CACHE_LINE_BYTES: usize = 64;

/// The mapping of a region through which its bytes are served and received: always readable and writable, whatever the app
/// view allows.
///
/// There are no references into it, only copies in and out. The bytes can change at any time by a store through the
/// app view, which the compiler does not see; so each copy is one opaque piece of machine code, as far from Rust's memory
/// model as a `read(2)` into the buffer would be. A copy that runs against stores may be torn (a mixture of old and new
/// bytes), nothing worse. Callers that need a whole page take the right to write away first
/// ([`Pager::protect`](crate::Pager::protect) or [`Pager::unmap`](crate::Pager::unmap), which return when no processor can
/// use it any more).
///
/// The first touch of a page here, of either kind, makes the file hold it. If the kernel finds no memory for it, that access
/// raises a SIGBUS which nobody resolves; [`Mapping::populate`](crate::Mapping::populate) finds out with an error instead.
#[derive(Debug)]
pub struct ServiceView {
    range: MappedRange,
}

impl ServiceView {
    pub(crate) fn new(range: MappedRange) -> ServiceView {
        ServiceView { range }
    }

    /// Touches `pages`, so that the file holds what it had only allocated.
    pub(crate) fn touch(&self, pages: PageRange) {
        self.range.touch(pages);
    }

    /// How many pages the region has.
    pub fn pages(&self) -> u64 {
        self.range.pages()
    }

    /// Copies `page` out.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn read_page(&self, page: u64, bytes: &mut PageBytes) {
        self.read(self.offset(page), bytes);
    }

    /// Replaces `page`.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn write_page(&self, page: u64, bytes: &PageBytes) {
        self.write(self.offset(page), bytes);
    }

    /// Has the processor fetch the bytes of `page` into its caches, since they are about to be copied out. Waits for nothing, and changes nothing.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn expect_to_read(&self, page: u64) {
        let place = self.pointer(self.offset(page), PAGE_BYTES);
        for offset in (0..PAGE_BYTES).step_by(CACHE_LINE_BYTES) {
            // SAFETY: a hint to the processor, which faults nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(offset).cast()) };
        }
    }

    /// Makes `page` all zeros.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn zero_page(&self, page: u64) {
        self.write_page(page, &[0; PAGE_BYTES]);
    }

    /// Copies out what lies at `byte_offset`.
    ///
    /// # Panics
    /// When it does not lie in the region.
    pub fn read(&self, byte_offset: usize, bytes: &mut [u8]) {
        let from = self.pointer(byte_offset, bytes.len());
        // SAFETY: `pointer` checked the bounds, the view is mapped as long as `self` lives, and nothing else overlaps it.
        unsafe { sites::transfer(bytes.as_mut_ptr(), from, bytes.len()) };
    }

    /// Replaces what lies at `byte_offset`.
    ///
    /// # Panics
    /// When it does not lie in the region.
    pub fn write(&self, byte_offset: usize, bytes: &[u8]) {
        let to = self.pointer(byte_offset, bytes.len());
        // SAFETY: as in `read`; nobody holds a reference into the view, since none is ever made.
        unsafe { sites::transfer(to, bytes.as_ptr(), bytes.len()) };
    }

    /// Sends some of `head` and then of the `bytes` bytes from `byte_offset` on through a socket, by one call, without blocking and without a
    /// signal when the peer is gone; says how many in all.
    ///
    /// # Errors
    /// What `send(2)` or `sendmsg(2)` says.
    ///
    /// # Panics
    /// When they do not lie in the region.
    pub fn send(
        &self,
        socket: BorrowedFd<'_>,
        head: &[u8],
        byte_offset: usize,
        bytes: usize,
    ) -> Result<usize, Errno> {
        let from = self.pointer(byte_offset, bytes);
        // SAFETY: `pointer` checked the bounds, and the view is mapped as long as `self` lives. Only the kernel reads through the slice, which
        // is gone after the call; that others may store there meanwhile is as for any copy out.
        let bytes = unsafe { std::slice::from_raw_parts(from, bytes) };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if head.is_empty() {
            return rustix::net::send(socket, bytes, flags);
        }
        let pieces = [IoSlice::new(head), IoSlice::new(bytes)];
        rustix::net::sendmsg(socket, &pieces, &mut SendAncillaryBuffer::default(), flags)
    }

    /// Receives some of the `bytes` bytes from `byte_offset` on from a socket, without blocking; says how many, 0 when the peer has closed it.
    ///
    /// # Errors
    /// What `recv(2)` says. `EFAULT`: the kernel has no memory for them.
    ///
    /// # Panics
    /// When they do not lie in the region.
    pub fn receive(&self, socket: BorrowedFd<'_>, byte_offset: usize, bytes: usize) -> Result<usize, Errno> {
        let to = self.pointer(byte_offset, bytes).cast::<MaybeUninit<u8>>();
        // SAFETY: as in `send`; only the kernel writes through the slice, and nobody holds a reference into the view.
        let space = unsafe { std::slice::from_raw_parts_mut(to, bytes) };
        let ((received, _), _) = rustix::net::recv(socket, space, RecvFlags::DONTWAIT)?;
        Ok(received.len())
    }

    /// Appends as many of the `bytes` bytes from `byte_offset` on to a ring as there is room for; says how many.
    ///
    /// # Errors
    /// As [`SharedRing::write`].
    ///
    /// # Panics
    /// When they do not lie in the region.
    pub fn write_to(&self, ring: &SharedRing, byte_offset: usize, bytes: usize) -> Result<usize, RingFault> {
        let from = self.pointer(byte_offset, bytes);
        // SAFETY: as in `read`.
        unsafe { ring.write_from(from, bytes) }
    }

    /// Takes as many of the `bytes` bytes from `byte_offset` on from a ring as are there; says how many.
    ///
    /// # Errors
    /// As [`SharedRing::read`].
    ///
    /// # Panics
    /// When they do not lie in the region.
    pub fn read_from(&self, ring: &SharedRing, byte_offset: usize, bytes: usize) -> Result<usize, RingFault> {
        let to = self.pointer(byte_offset, bytes);
        // SAFETY: as in `write`.
        unsafe { ring.read_to(to, bytes) }
    }

    /// Adds to 64 bits, wrapping around, and returns what was there. As the other two, one instruction of the processor: atomic with
    /// those that threads of this process do to the same bytes through the app view, and sequentially consistent.
    ///
    /// # Panics
    /// When they do not lie in the region, or not on a multiple of 8.
    pub fn fetch_add_u64(&self, byte_offset: usize, value: u64) -> u64 {
        let word = self.word(byte_offset);
        // SAFETY: `word` checked bounds and alignment, and the view is mapped as long as `self` lives and never fails.
        unsafe { sites::fetch_add_u64(word, value) }.value
    }

    /// Replaces 64 bits and returns what was there.
    ///
    /// # Panics
    /// When they do not lie in the region, or not on a multiple of 8.
    pub fn swap_u64(&self, byte_offset: usize, value: u64) -> u64 {
        let word = self.word(byte_offset);
        // SAFETY: as in `fetch_add_u64`.
        unsafe { sites::swap_u64(word, value) }.value
    }

    /// Replaces 64 bits if they are `expected`, and returns what was there in either case.
    ///
    /// # Panics
    /// When they do not lie in the region, or not on a multiple of 8.
    pub fn compare_swap_u64(&self, byte_offset: usize, expected: u64, value: u64) -> u64 {
        let word = self.word(byte_offset);
        // SAFETY: as in `fetch_add_u64`.
        unsafe { sites::compare_exchange_u64(word, expected, value) }.value
    }

    fn word(&self, byte_offset: usize) -> *mut u8 {
        assert!(byte_offset.is_multiple_of(8), "8 bytes at offset {byte_offset} are not aligned");
        self.pointer(byte_offset, 8)
    }

    /// Where `page` lies in the service view, for other system calls that send from it or receive into it. Valid as long as
    /// the [`Mapping`](crate::Mapping); never to be made a reference.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn page_pointer(&self, page: u64) -> *mut u8 {
        self.pointer(self.offset(page), PAGE_BYTES)
    }

    fn offset(&self, page: u64) -> usize {
        assert!(page < self.pages(), "page {page} of a region of {} pages was asked for", self.pages());
        page as usize * PAGE_BYTES
    }

    fn pointer(&self, byte_offset: usize, bytes: usize) -> *mut u8 {
        assert!(
            byte_offset <= self.range.bytes() && bytes <= self.range.bytes() - byte_offset,
            "{bytes} bytes at offset {byte_offset} of a region of {} bytes were asked for",
            self.range.bytes()
        );
        // SAFETY: just checked to stay within the mapping.
        unsafe { self.range.start().add(byte_offset) }
    }
}
