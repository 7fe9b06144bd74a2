//! readv(2), writev(2), and those with a position and flags.

use super::missing;
use crate::next;
use crate::transfer::{vectors_share, with_private_vectors};
use libc::{c_int, iovec, off_t, ssize_t};

/// Defines a call on a list of buffers.
macro_rules! vectored {
    ($(#[$doc:meta])* $name:ident -> $next:ident, $fills:literal ($($more:ident: $type:ty),*)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As that of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            descriptor: c_int,
            vectors: *const iovec,
            count: c_int,
            $($more: $type),*
        ) -> ssize_t {
            let Some(next) = next::$next.get() else { return missing() };
            let entries = usize::try_from(count).unwrap_or(0);
            // SAFETY: the caller's own list.
            if !unsafe { vectors_share(vectors, entries) } {
                // SAFETY: the caller's own call.
                return unsafe { next(descriptor, vectors, count, $($more),*) };
            }
            // SAFETY: the caller's own list.
            unsafe {
                with_private_vectors(vectors, entries, $fills, &mut |list| {
                    next(descriptor, list, count, $($more),*)
                })
            }
        }
    };
}

vectored! {
    /// readv(2).
    readv -> READV, true ()
}
vectored! {
    /// preadv(2).
    preadv -> PREADV, true (position: off_t)
}
vectored! {
    /// `preadv` under its name for large files.
    preadv64 -> PREADV64, true (position: off_t)
}
vectored! {
    /// preadv2(2).
    preadv2 -> PREADV2, true (position: off_t, flags: c_int)
}
vectored! {
    /// `preadv2` under its name for large files.
    preadv64v2 -> PREADV64V2, true (position: off_t, flags: c_int)
}
vectored! {
    /// writev(2).
    writev -> WRITEV, false ()
}
vectored! {
    /// pwritev(2).
    pwritev -> PWRITEV, false (position: off_t)
}
vectored! {
    /// `pwritev` under its name for large files.
    pwritev64 -> PWRITEV64, false (position: off_t)
}
vectored! {
    /// pwritev2(2).
    pwritev2 -> PWRITEV2, false (position: off_t, flags: c_int)
}
vectored! {
    /// `pwritev2` under its name for large files.
    pwritev64v2 -> PWRITEV64V2, false (position: off_t, flags: c_int)
}
