//! Lets unchanged programs hand shared memory to system calls.
//!
//! A system call does not fault a page in: with two of the three pagers, `read(2)` into a page that is not here fails with
//! EFAULT. This library, preloaded (`LD_PRELOAD`, ld.so(8)), stands in front of the functions of libc that fill or empty a
//! buffer. A buffer outside every region goes straight to libc; the test for that is two comparisons. For one inside,
//! the pages are got and held around the call where the call is short, and a private buffer stands in where it may
//! wait for somebody else:
//!
//! | call | on | how |
//! |---|---|---|
//! | `read`, `pread`, `write`, `pwrite` | files, block devices | pages held, [`PIECE_BYTES`](transfer::PIECE_BYTES) at a time |
//! | the same | pipes, sockets, terminals, other devices | through a private buffer |
//! | `readv` and its kin, `recv`, `send` and theirs | anything | through a private buffer, for the shared parts |
//! | `fread`, `fwrite`, `fputs`, `puts` | streams | through a private buffer |
//!
//! `fgets` and `getc` need nothing: libc copies from the stream's buffer by plain stores, which fault as any.
//!
//! The crate owns that and nothing else. It depends on no other crate of pagemesh: the runtime finds its two functions by
//! name (`dlsym`) and says which ranges of addresses are regions and what to call for them ([`table`]). It must never
//! allocate, lock or log on the way of a call that POSIX lets signal handlers make, hold a page while it waits for a
//! descriptor, or change what libc would have returned. Its functions work before `main`, in every thread, in programs that
//! never join a mesh and in forked children, which have no regions.
//!
//! All functions have the ABI `C-unwind`: a thread that is cancelled in one (pthreads(7)) is unwound through it.

mod bounce;
pub mod calls;
mod descriptor;
mod errno;
mod next;
pub mod table;
pub mod transfer;

/// Runs when the library is loaded: looks libc's functions up, since dlsym(3) is nothing for a signal handler.
extern "C" fn loaded() {
    next::resolve_all();
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;
