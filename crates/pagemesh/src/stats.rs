//! What a node did, counted.

use pagemesh_protocol::PageAddress;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of what this node did since it joined. All are counts, bytes where the name says so.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// The longest that a thread waited for a page, nanoseconds.
            pub fault_wait_ns_max: u64,
            /// The shortest that a thread waited for a page, nanoseconds; 0 while none did.
            pub fault_wait_ns_min: u64,
            /// Messages sent to other nodes.
            pub messages_sent: u64,
            /// Messages received from other nodes.
            pub messages_received: u64,
            /// Bytes sent to other nodes.
            pub bytes_sent: u64,
            /// Bytes received from other nodes.
            pub bytes_received: u64,
            /// Bytes that were not sent to other nodes because pages and diffs were packed.
            pub bytes_saved: u64,
            /// Times a connection could not take at once what was to be sent.
            pub sends_blocked: u64,
        }

        #[derive(Debug)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            fault_wait_ns_max: AtomicU64,
            fault_wait_ns_min: AtomicU64,
        }

        impl Default for Counters {
            fn default() -> Counters {
                Counters {
                    $($name: AtomicU64::new(0),)*
                    fault_wait_ns_max: AtomicU64::new(0),
                    fault_wait_ns_min: AtomicU64::new(u64::MAX),
                }
            }
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                let shortest = self.fault_wait_ns_min.load(Ordering::Relaxed);
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    fault_wait_ns_max: self.fault_wait_ns_max.load(Ordering::Relaxed),
                    fault_wait_ns_min: if shortest == u64::MAX { 0 } else { shortest },
                    ..Stats::default()
                }
            }

            pub(crate) fn reset(&self) {
                $(self.$name.store(0, Ordering::Relaxed);)*
                self.fault_wait_ns_max.store(0, Ordering::Relaxed);
                self.fault_wait_ns_min.store(u64::MAX, Ordering::Relaxed);
            }
        }
    };
}

counters! {
    /// Page faults by loads.
    read_faults,
    /// Page faults by stores and read-modify-write instructions.
    write_faults,
    /// Page faults that needed no answer of another node.
    faults_resolved_here,
    /// Page faults on pages that this node had before, and that were taken from it since because another node writes, or because they
    /// migrate. Of the last thousand pages or so that were taken.
    pages_regained,
    /// Pages that a prefetch, or reading ahead, had to ask another node for.
    pages_prefetched,
    /// Pages whose bytes came from another node.
    pages_fetched,
    /// Reads that went straight to the owner of a page, as this node had heard of it, and were served there.
    owner_hints_right,
    /// Reads that went to a node which was not, or no longer, able to serve them, and then to the page's home.
    owner_hints_wrong,
    /// Pages whose bytes went to another node.
    pages_sent,
    /// Copies of this node that were dropped because another node writes.
    invalidations,
    /// Diffs sent to the homes of pages.
    diffs_sent,
    /// Bytes of these diffs.
    diff_bytes,
    /// Pages of release regions that this node asked for when they were taken, before a thread asked, because threads did each time.
    pages_foreseen,
    /// Pages of release regions that were found written without a fault: the kernel had noted it.
    pages_found_written,
    /// Times that this node looked for such pages, before it synchronised.
    looks,
    /// Times that a page of this home stayed writable at a barrier, because threads had written it after each.
    writes_foreseen,
    /// Pages of release regions that this node sent to who had fetched them after each notice, without being asked.
    updates_sent,
    /// Such pages that others sent, and that changed the copies of this node.
    updates_adopted,
    /// Such pages that others sent for nothing: the copy was gone, or had what they lacked.
    updates_ignored,
    /// Pages of other homes that this node keeps, or kept, since it alone writes them.
    pages_borrowed,
    /// Those of them that it has given back.
    pages_returned,
    /// Ranges of entry regions locked.
    range_locks,
    /// Bytes of entry regions sent: what others lacked of ranges that they locked, and what was written here.
    range_bytes,
    /// Copies of other nodes that this node, as the home, had dropped.
    invalidations_sent,
    /// Requests of other nodes that had to wait here, at the page's home, because another was being served.
    requests_queued,
    /// Atomic operations that were done where the page is, for threads of this node.
    atomics,
    /// Those among them that needed no answer of another node.
    atomics_here,
    /// Atomic operations that this node did for others.
    atomics_for_others,
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
    /// Calls and accesses that gave up at their deadline.
    timeouts,
    /// Nodes that were lost: not those that said that they leave.
    nodes_lost,
}

impl Counters {
    /// A thread has waited so long for a page.
    pub(crate) fn fault_waited(&self, wait: Duration) {
        let wait = wait.as_nanos() as u64;
        self.fault_wait_ns.fetch_add(wait, Ordering::Relaxed);
        self.fault_wait_ns_max.fetch_max(wait, Ordering::Relaxed);
        self.fault_wait_ns_min.fetch_min(wait, Ordering::Relaxed);
    }
}

impl Stats {
    /// Less the traffic of `before`, which the network counted and does not forget.
    pub(crate) fn without_traffic(self, before: &Stats) -> Stats {
        Stats {
            messages_sent: self.messages_sent - before.messages_sent,
            messages_received: self.messages_received - before.messages_received,
            bytes_sent: self.bytes_sent - before.bytes_sent,
            bytes_received: self.bytes_received - before.bytes_received,
            bytes_saved: self.bytes_saved - before.bytes_saved,
            sends_blocked: self.sends_blocked - before.sends_blocked,
            ..self
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Pages that were taken from this node lately. Of those that meet in one place, the later one is remembered.
#[derive(Debug)]
pub(crate) struct TakenPages(Box<[AtomicU64]>);

const TAKEN_PAGES: usize = 1024;

impl Default for TakenPages {
    fn default() -> TakenPages {
        TakenPages((0..TAKEN_PAGES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl TakenPages {
    /// Never 0: a region has fewer than 2^48 pages, and 1 is added to its number.
    fn place(&self, page: PageAddress) -> (&AtomicU64, u64) {
        let mark = (page.region.0 as u64 + 1) << 48 | page.page;
        let place = (page.page as usize).wrapping_add(page.region.index() * 61) % TAKEN_PAGES;
        (&self.0[place], mark)
    }

    /// `page` was taken.
    pub(crate) fn add(&self, page: PageAddress) {
        let (place, mark) = self.place(page);
        place.store(mark, Ordering::Relaxed);
    }

    /// Whether `page` was taken; it is forgotten.
    pub(crate) fn remove(&self, page: PageAddress) -> bool {
        let (place, mark) = self.place(page);
        place.compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagemesh_protocol::RegionId;

    #[test]
    fn the_shortest_wait_is_zero_until_there_is_one() {
        let counters = Counters::default();
        assert_eq!(counters.snapshot().fault_wait_ns_min, 0);
        counters.fault_waited(Duration::from_nanos(70));
        counters.fault_waited(Duration::from_nanos(30));
        let stats = counters.snapshot();
        assert_eq!((stats.fault_wait_ns, stats.fault_wait_ns_min, stats.fault_wait_ns_max), (100, 30, 70));
        counters.reset();
        assert_eq!(counters.snapshot(), Stats::default());
    }

    #[test]
    fn a_taken_page_is_found_once() {
        let taken = TakenPages::default();
        let page = |page| PageAddress::new(RegionId(0), page);
        taken.add(page(0));
        assert!(!taken.remove(page(TAKEN_PAGES as u64)), "another page in the same place");
        assert!(!taken.remove(PageAddress::new(RegionId(1), 0)));
        assert!(taken.remove(page(0)));
        assert!(!taken.remove(page(0)));
    }
}
