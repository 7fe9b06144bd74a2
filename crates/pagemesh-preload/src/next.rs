//! The functions that ours stand in front of: the next definitions after this library, which are libc's unless another
//! library is preloaded behind.

use libc::{FILE, c_char, c_int, c_void, iovec, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function of type `F` that is looked up by name, once.
pub(crate) struct Next<F> {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
    function: PhantomData<fn() -> F>,
}

impl<F: Copy> Next<F> {
    const fn new(name: &'static CStr) -> Next<F> {
        assert!(size_of::<F>() == size_of::<*mut c_void>());
        Next { name, found: AtomicPtr::new(null_mut()), function: PhantomData }
    }

    /// The function. `None` where libc has no such function, and then nobody was linked against it.
    #[inline]
    pub(crate) fn get(&self) -> Option<F> {
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            // Before this library was initialised: another one's initialisation called in.
            found = self.resolve();
        }
        // SAFETY: `F` is a function pointer (its size was checked, its type is stated beside the name in this file), and null
        // is its `None`.
        unsafe { std::mem::transmute_copy::<*mut c_void, Option<F>>(&found) }
    }

    #[cold]
    fn resolve(&self) -> *mut c_void {
        // SAFETY: the name ends in a zero byte.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Declares one static for each function.
macro_rules! functions {
    ($($function:ident = $name:literal: $type:ty;)*) => {
        $(pub(crate) static $function: Next<$type> = Next::new($name);)*

        /// Looks up all of them.
        pub(crate) fn resolve_all() {
            $($function.resolve();)*
        }
    };
}

type Read = unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t) -> ssize_t;
type ReadChecked = unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t, size_t) -> ssize_t;
type ReadAt = unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t, off_t) -> ssize_t;
type ReadAtChecked = unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t, off_t, size_t) -> ssize_t;
type Write = unsafe extern "C-unwind" fn(c_int, *const c_void, size_t) -> ssize_t;
type WriteAt = unsafe extern "C-unwind" fn(c_int, *const c_void, size_t, off_t) -> ssize_t;
pub(crate) type Vectored = unsafe extern "C-unwind" fn(c_int, *const iovec, c_int) -> ssize_t;
pub(crate) type VectoredAt = unsafe extern "C-unwind" fn(c_int, *const iovec, c_int, off_t) -> ssize_t;
pub(crate) type VectoredAt2 =
    unsafe extern "C-unwind" fn(c_int, *const iovec, c_int, off_t, c_int) -> ssize_t;
type Receive = unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t, c_int) -> ssize_t;
type ReceiveChecked = unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t, size_t, c_int) -> ssize_t;
type ReceiveFrom =
    unsafe extern "C-unwind" fn(c_int, *mut c_void, size_t, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t;
type ReceiveFromChecked = unsafe extern "C-unwind" fn(
    c_int,
    *mut c_void,
    size_t,
    size_t,
    c_int,
    *mut sockaddr,
    *mut socklen_t,
) -> ssize_t;
type ReceiveMessage = unsafe extern "C-unwind" fn(c_int, *mut msghdr, c_int) -> ssize_t;
type Send = unsafe extern "C-unwind" fn(c_int, *const c_void, size_t, c_int) -> ssize_t;
type SendTo =
    unsafe extern "C-unwind" fn(c_int, *const c_void, size_t, c_int, *const sockaddr, socklen_t) -> ssize_t;
type SendMessage = unsafe extern "C-unwind" fn(c_int, *const msghdr, c_int) -> ssize_t;
pub(crate) type StreamRead = unsafe extern "C-unwind" fn(*mut c_void, size_t, size_t, *mut FILE) -> size_t;
type StreamReadChecked =
    unsafe extern "C-unwind" fn(*mut c_void, size_t, size_t, size_t, *mut FILE) -> size_t;
pub(crate) type StreamWrite = unsafe extern "C-unwind" fn(*const c_void, size_t, size_t, *mut FILE) -> size_t;
type StreamPut = unsafe extern "C-unwind" fn(*const c_char, *mut FILE) -> c_int;
type Put = unsafe extern "C-unwind" fn(*const c_char) -> c_int;

functions! {
    READ = c"read": Read;
    READ_CHECKED = c"__read_chk": ReadChecked;
    PREAD = c"pread": ReadAt;
    PREAD64 = c"pread64": ReadAt;
    PREAD_CHECKED = c"__pread_chk": ReadAtChecked;
    PREAD64_CHECKED = c"__pread64_chk": ReadAtChecked;
    WRITE = c"write": Write;
    PWRITE = c"pwrite": WriteAt;
    PWRITE64 = c"pwrite64": WriteAt;
    READV = c"readv": Vectored;
    WRITEV = c"writev": Vectored;
    PREADV = c"preadv": VectoredAt;
    PREADV64 = c"preadv64": VectoredAt;
    PWRITEV = c"pwritev": VectoredAt;
    PWRITEV64 = c"pwritev64": VectoredAt;
    PREADV2 = c"preadv2": VectoredAt2;
    PREADV64V2 = c"preadv64v2": VectoredAt2;
    PWRITEV2 = c"pwritev2": VectoredAt2;
    PWRITEV64V2 = c"pwritev64v2": VectoredAt2;
    RECV = c"recv": Receive;
    RECV_CHECKED = c"__recv_chk": ReceiveChecked;
    RECVFROM = c"recvfrom": ReceiveFrom;
    RECVFROM_CHECKED = c"__recvfrom_chk": ReceiveFromChecked;
    RECVMSG = c"recvmsg": ReceiveMessage;
    SEND = c"send": Send;
    SENDTO = c"sendto": SendTo;
    SENDMSG = c"sendmsg": SendMessage;
    FREAD = c"fread": StreamRead;
    FREAD_UNLOCKED = c"fread_unlocked": StreamRead;
    FREAD_CHECKED = c"__fread_chk": StreamReadChecked;
    FREAD_UNLOCKED_CHECKED = c"__fread_unlocked_chk": StreamReadChecked;
    FWRITE = c"fwrite": StreamWrite;
    FWRITE_UNLOCKED = c"fwrite_unlocked": StreamWrite;
    FPUTS = c"fputs": StreamPut;
    FPUTS_UNLOCKED = c"fputs_unlocked": StreamPut;
    PUTS = c"puts": Put;
}
