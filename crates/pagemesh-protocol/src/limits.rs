//! Every bound of the engine in one place, with the relations between them checked at compile time.

use crate::region::Unit;

/// Nodes of one mesh. What a mesh of many costs is told in docs/scaling.md.
pub const NODES: usize = 1024;
/// Waiting calls of one node at a time; a further thread waits for a free ticket. So no more calls of a node wait at one home for
/// its locks, nor for its barriers: more is a breach of the protocol.
pub const TICKETS: usize = 1024;
/// Page requests that a node has outstanding when it makes one more of its own accord.
pub const REFETCHES: usize = 256;
/// Page requests that one node may have outstanding at one home: each holds at least one ticket, but for those that it makes of its own
/// accord.
pub const REQUESTS_PER_PEER: u32 = (TICKETS + REFETCHES) as u32;
/// Pages that are given back by others and that a home takes at a time, and transactions beside which it does: hints beyond them are let go. So a
/// home's own requests are for waiting calls and these.
pub const EVICTIONS: usize = TICKETS;
/// Calls that may wait for one region. A node's call that gave up is not told apart from one that waits.
pub const WAITING_FOR_ONE_REGION: usize = 65_536;
/// Sharers that tell a writer themselves that their copies are gone: so many stand in one message. More tell the home.
pub const COLLECTED: usize = 4;
/// Pages that one node has sent to readers who asked it without their homes, and of which the homes have not said that they know; who asks for
/// one more is sent to the home.
pub const STAKED: usize = 64;
/// Misses in one region for which no hint is used after so many were wrong in a row as its node has patience for.
pub const HINTS_PAUSED: u8 = 64;
/// Wrong hints in a row for which a node has patience.
pub const HINT_PATIENCE: u8 = 4;
/// Demands for one copy that may wait at once until threads have used it: a home has one under way, and goes on without an answer
/// only when a node was lost. So many are not lost while one thread is let run; and a home that lies cannot make the list long.
pub const DEMANDS_FOR_ONE_COPY: usize = 64;
/// Twins of one node at a time, beside those of pages that stay pinned over a release: 4 MiB. With one more page to be written it ends
/// the interval by itself. With [`PINS`] this bounds what one event may send, and the twins that there are.
pub const TWINS: usize = 1024;
/// Pages that one home has lent to their only writers at a time: 64 MiB. So many marks of what others wrote meanwhile it may have to keep.
pub const LENT: usize = 16_384;
/// Pages that a home has offered to others and that were not taken or declined yet: each offer carries the page.
pub const OFFERS: usize = 64;
/// Pages that one node keeps for other homes.
pub const OWNED: usize = 65_536;
/// Diffs of a page by one node, one after the other and by no other node, after which its home lends it the page.
pub const LEND_AFTER: u32 = 3;
/// The most that [`LEND_AFTER`] can be made for a node.
pub const LEND_AFTER_MOST: u32 = 7;
/// How often a page that was called in has to be written by one node alone as many times again before it is lent again.
pub const LEND_DOUBLINGS: u32 = 5;
/// Pages that one node follows: they are sent to it unasked.
pub const FOLLOWED: usize = 1024;
/// Followers of pages that one node writes in place, each as often as it follows one: so many pages one event sends beside diffs, 4 MiB.
pub const FOLLOWERS: usize = 1024;
/// Runs of pages that one node keeps write notices of. There are never more than pages that were written since all nodes last
/// knew of each other's writes.
pub const NOTICES: usize = 1 << 22;
/// What the requests of one node may need of other writers, at one home: a few a request.
pub const NEEDS_PER_PEER: usize = 16 * TICKETS;
/// Intervals of one node: more than a node that releases every nanosecond ends in a century.
pub const INTERVALS: u64 = 1 << 62;
/// Bytes that one node passes on to all others between two meetings.
pub const PIECES_BYTES: usize = 1 << 20;
/// Bytes of one piece of them.
pub const PIECE_BYTES: usize = 4096;
/// Pages that one node can have pinned at a time, each as often as it is pinned: 32 MiB, or 16 MiB twice.
pub const PINS: usize = 8192;
/// Messages of a node to itself that wait for their turn without an allocation.
pub const LOOPBACK: usize = 128;
/// Engines of one node.
pub const ENGINES: usize = 64;
/// Neighbouring pages that one engine of a node with several decides about: 2 MiB, what one table of the processor maps and the largest unit has.
pub const STRIPE_PAGES: u64 = 512;
/// Regions of one mesh at a time.
pub const REGIONS: usize = 256;
/// Pages of one region: 16 TiB.
pub const REGION_PAGES: u64 = 1 << 32;
/// Pages that one message can ask for, or bring: 256 KiB. A longer run would have others wait behind it for long.
pub const RUN_PAGES: u32 = 64;
/// Bytes of a region's name.
pub const REGION_NAME_BYTES: usize = 63;
/// Locks of one home that are in use: held, waited for, idle at the node that had them last, or left behind by a dead holder. And
/// those that one node holds or waits for.
pub const LOCKS: usize = 65_536;
/// Locks that one node keeps to itself while nobody else wants them; for each beyond it gives one back, if it finds one.
pub const IDLE_TOKENS: usize = LOCKS / 2;
/// Locks of one home whose tokens are looked for at a time after a loss: so many questions go out at once to each node.
pub const LOCKS_MENDED_AT_A_TIME: usize = 256;
/// Reader-writer locks, semaphores and conditions, each, that a home can have in use before a table of them grows, which allocates.
pub const OBJECTS_AT_HAND: usize = 1024;
/// Times that reader-writer locks of one home can be held for reading.
pub const READERS: usize = 65_536;
/// How often reader-writer locks of one home are left with other nodes, each node that has one counted. Beside those there are
/// [`LOCKS`] in use.
pub const RWLOCKS_LEFT: usize = 65_536;
/// Reader-writer locks that one node keeps for its threads; for one more it gives one back.
pub const RWLOCKS_KEPT: usize = 16_384;
/// Calls that one may let in after itself, as they were named to it; and of a reader-writer lock's line so many are looked at for it.
pub const RWLOCK_NAMED: usize = 8;
/// Times that those are held for reading; who comes then asks the home.
pub const READERS_KEPT: usize = 4096;
/// Times that one node can have reader-writer locks of one home for reading. Those that it kept count with those that it was granted when it gives them
/// back, and so do those that were left with it at the requests of calls that are beyond what it keeps.
pub const READERS_OF_ONE_NODE: usize = READERS + READERS_KEPT + TICKETS;
/// Ranges of entry regions that are locked or waited for at one master.
pub const RANGES: usize = 16_384;
/// Parts of one entry region, each with a time of its own, that a node keeps in mind. With more, it knows less exactly.
pub const RANGE_STAMPS: usize = 16_384;
/// Bytes of an entry region that one message carries, at most.
pub const RANGE_PIECE_BYTES: u64 = 4096;
/// Such messages that a master sends before it waits to be asked for more.
pub const RANGE_BURST: usize = 8;
/// Units of one semaphore, as `SEM_VALUE_MAX` of POSIX on Linux.
pub const SEMAPHORE_UNITS: u32 = i32::MAX as u32;
/// Barriers in use at one home.
pub const BARRIERS: usize = 4096;
/// Children of a node in the tree of a barrier; a mesh of no more nodes than that has no such trees.
pub const BARRIER_FAN: u16 = 8;
/// Most children of a node in the tree of a barrier.
pub const BARRIER_FAN_MOST: u16 = 64;
/// Barriers of one home that are gathered in a tree.
pub const GATHERED_BARRIERS: usize = 64;
/// Generations of gathered barriers that a node remembers to be over.
pub const GENERATIONS_OVER: usize = 1024;
/// Addresses that the coordinator tries for one region before it gives up.
pub const MAP_ROUNDS: u16 = 16;
/// Pages whose table entries are allocated together.
pub const TABLE_CHUNK: usize = 1024;
/// Regions up to this size have their page tables allocated when they are mapped (1 GiB), larger ones piece by piece.
pub const EAGER_TABLE_PAGES: u64 = 1 << 18;
/// Lowest address handed to a region that asks for none. Above what sanitizers use for their shadow memory, below where
/// Linux on `x86_64` and `aarch64` (48 bits) puts programs, heaps and libraries.
pub const REGION_BASE: u64 = 0x2000_0000_0000;
/// End of the addresses handed to regions.
pub const REGION_END: u64 = 0x5000_0000_0000;
/// Regions start on a multiple of this, so that neighbours never share a page-table page.
pub const REGION_ALIGN: u64 = 1 << 30;

/// Bytes that are left out before the address of a round: none before the first two, then 1, 3, 7 GiB and so on. What
/// is in the way may be as large as a region, such as one that a process still has from the mesh that it was in before: together the
/// rounds leave it, whatever its size.
pub const fn gap_before_round(round: u16) -> u64 {
    match round {
        0 => 0,
        round => ((1 << (round - 1)) - 1) * REGION_ALIGN,
    }
}

const _: () = assert!(NODES < u16::MAX as usize);
const _: () = assert!(TICKETS <= u16::MAX as usize);
const _: () = assert!(BARRIER_FAN > 0 && BARRIER_FAN <= BARRIER_FAN_MOST);
const _: () = assert!(LEND_AFTER <= LEND_AFTER_MOST && LEND_AFTER_MOST << LEND_DOUBLINGS <= 0xff);
const _: () = assert!(PINS * 4096 >= 32 << 20);
// A region's number is a place and a count of uses, which goes round without a gap.
const _: () = assert!(REGIONS.is_power_of_two() && REGIONS <= 1 << 8);
const _: () = assert!(REGION_PAGES * 4096 <= REGION_END - REGION_BASE);
// What a node's calls can have a master queue for it at once stays below what a queue may hold.
const _: () = assert!(TICKETS * RANGE_BURST * RANGE_PIECE_BYTES as usize <= 32 << 20);
const _: () = assert!(TABLE_CHUNK.is_power_of_two());
const _: () = assert!(STRIPE_PAGES.is_multiple_of(Unit::MiB2.pages()));
// Half of all distance lies before the last round, and a region is as large as that at most.
const _: () = assert!(gap_before_round(MAP_ROUNDS - 1) + REGION_ALIGN >= REGION_PAGES * 4096);
const _: () = assert!(MAP_ROUNDS < 32);
