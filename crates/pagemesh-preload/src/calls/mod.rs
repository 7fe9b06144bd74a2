//! The functions that stand in front of libc's.
//!
//! Each is told by its manual page; what is added is that a buffer may lie in shared memory. Where none does, the next
//! definition is called with the same arguments, as a jump.

pub mod messages;
pub mod plain;
pub mod streams;
pub mod vectored;

use crate::errno;

/// What a function returns that libc lacks, and that nobody can therefore have meant.
#[cold]
fn missing() -> isize {
    errno::fail(libc::ENOSYS)
}
