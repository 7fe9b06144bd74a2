//! What a node did, counted.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of what this node did since it joined. All are counts, bytes where the name says so.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Messages sent to other nodes.
            pub messages_sent: u64,
            /// Messages received from other nodes.
            pub messages_received: u64,
            /// Bytes sent to other nodes.
            pub bytes_sent: u64,
            /// Bytes received from other nodes.
            pub bytes_received: u64,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Page faults by loads.
    read_faults,
    /// Page faults by stores and read-modify-write instructions.
    write_faults,
    /// Pages whose bytes came from another node.
    pages_fetched,
    /// Pages whose bytes went to another node.
    pages_sent,
    /// Copies of this node that were dropped because another node writes.
    invalidations,
    /// Diffs sent to the homes of pages.
    diffs_sent,
    /// Bytes of these diffs.
    diff_bytes,
    /// Locks acquired.
    lock_acquires,
    /// Barriers passed.
    barrier_waits,
    /// Ranges pinned.
    pins,
    /// Pins from which a deadline took a page.
    pins_taken,
    /// Time that threads spent waiting for pages, nanoseconds.
    fault_wait_ns,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
