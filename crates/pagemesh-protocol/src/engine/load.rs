//! What an engine has to keep in mind at a moment, in entries of its tables.

use super::Engine;

/// Entries in the tables of one engine: how busy a node is, and how long its queues are. Every one is bounded by
/// [`limits`](crate::limits), whatever peers send.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Load {
    /// Page requests of this node that were not answered.
    pub requests: usize,
    /// Pages of this home on which a transaction is under way.
    pub transactions: usize,
    /// Page requests that wait behind those transactions.
    pub queued_requests: usize,
    /// Page requests to this home that wait until diffs have come.
    pub awaiting_diffs: usize,
    /// Demands for copies of this node that wait until threads have used them.
    pub demands: usize,
    /// Locks of this home that are in use: some node has or had the token, or was lost with it.
    pub locks: usize,
    /// Requests for those locks that are not known to be fulfilled, but for the oldest of each.
    pub lock_waiters: usize,
    /// Locks whose tokens this node has, or asked for.
    pub tokens: usize,
    /// Calls of this node that wait for those.
    pub token_waiters: usize,
    /// Barriers of this home at which somebody waits.
    pub barriers: usize,
    /// Calls that wait at those barriers, and those of this node at barriers that are gathered in a tree.
    pub barrier_waiters: usize,
    /// Reader-writer locks of this home that are held, waited for, or left behind by a dead writer, and left with nobody.
    pub rwlocks: usize,
    /// How often reader-writer locks of this home are left with other nodes.
    pub rwlocks_left: usize,
    /// Reader-writer locks of other homes that are left with this node.
    pub rwlocks_kept: usize,
    /// Calls of this node that have reader-writer locks which it does not keep, or were told who comes after them.
    pub rwlocks_held: usize,
    /// Calls that are to have such a lock straight from this node.
    pub rwlocks_handed: usize,
    /// Calls that homes have named to others, this node being the home.
    pub rwlock_names: usize,
    /// How often those that it keeps are held for reading.
    pub readers_kept: usize,
    /// Calls in line for those.
    pub kept_waiters: usize,
    /// How often those of this home are held for reading.
    pub readers: usize,
    /// Calls in line for them.
    pub rwlock_waiters: usize,
    /// Semaphores of this home that have a value, units, or waiters.
    pub semaphores: usize,
    /// Calls that wait for their units.
    pub semaphore_waiters: usize,
    /// Conditions of this home that somebody waits for.
    pub conditions: usize,
    /// Calls that wait for their signals.
    pub condition_waiters: usize,
    /// Ranges of entry regions that are locked at this master.
    pub ranges: usize,
    /// Calls in line for ranges.
    pub range_waiters: usize,
    /// Ranges whose writer was lost, of which nobody was told yet.
    pub orphaned_ranges: usize,
    /// Regions that the coordinator has agreed on, or tried to.
    pub regions: usize,
    /// Calls that wait for a region.
    pub region_waiters: usize,
    /// Proposals of regions that this node has not mapped yet.
    pub proposals: usize,
}

impl Load {
    /// Requests and calls that stand in line at this node as a home.
    pub const fn in_line(&self) -> usize {
        self.queued_requests + self.awaiting_diffs + self.lock_waiters
    }
}

impl Engine {
    /// How full the tables of this engine are.
    pub fn load(&self) -> Load {
        let (locks, lock_waiters) = self.locks.load();
        let (tokens, token_waiters) = self.tokens.load();
        let (barriers, alone) = self.barriers.load();
        let barrier_waiters = alone + self.gatherings.callers.len();
        let (rwlocks, readers, rwlock_waiters) = self.rwlocks.load();
        let (rwlocks_kept, readers_kept, kept_waiters) = self.kept.load();
        let (rwlocks_held, rwlocks_handed) = self.hands.load();
        let (semaphores, semaphore_waiters) = self.semaphores.load();
        let (conditions, condition_waiters) = self.conditions.load();
        let (ranges, range_waiters, orphaned_ranges) = self.entry.load();
        let (regions, region_waiters, proposals) = self.agreements.load();
        Load {
            requests: self.coherence.pending.len(),
            transactions: self.coherence.transactions.len(),
            queued_requests: self.coherence.queued.len(),
            awaiting_diffs: self.release.waiting(),
            demands: self.uses.demands_in_all(),
            locks,
            lock_waiters,
            tokens,
            token_waiters,
            barriers,
            barrier_waiters,
            rwlocks,
            rwlocks_left: self.rwlocks.left(),
            rwlocks_kept,
            rwlocks_held,
            rwlocks_handed,
            rwlock_names: self.rwlocks.named(),
            readers_kept,
            kept_waiters,
            readers,
            rwlock_waiters,
            semaphores,
            semaphore_waiters,
            conditions,
            condition_waiters,
            ranges,
            range_waiters,
            orphaned_ranges,
            regions,
            region_waiters,
            proposals,
        }
    }
}
