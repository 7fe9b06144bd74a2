//! The shards of a node, and which of them decides about what.
//!
//! Each shard has a lock of its own, so a thread that faults on a page of one does not wait for what happens in another. The first decides about
//! everything but the pages of divided regions ([`Division`]); of those it has its part as the others do. Where there is one shard, it
//! decides about everything.
//!
//! *Order of locks.* The first shard's lock comes before those of the others, and no two of the others are held at a time. A shard other than the first is
//! locked beside it only to be told of a region, and when all ends.

use super::shard::{Load, Shard};
use super::{CallFailure, Runtime, lock};
use pagemesh_protocol::{
    Actions, Division, Engine, Outcome, PageAddress, Protocol, RegionId, Ticket, limits,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// All shards of a node.
pub(super) struct Shards {
    all: Box<[Mutex<Shard>]>,
    division: Division,
    /// For each place of a region, the number of the divided region in it and 1; 0 where there is none. Written with the lock of the
    /// first shard held.
    divided: Box<[AtomicU32]>,
}

impl Shards {
    pub(super) fn new(division: Division, shard: impl Fn(usize) -> Shard) -> Shards {
        let all: Box<[_]> = (0..division.engines()).map(|place| Mutex::new(shard(place.into()))).collect();
        let places = if all.len() == 1 { 0 } else { limits::REGIONS };
        Shards { all, division, divided: (0..places).map(|_| AtomicU32::new(0)).collect() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Which shard decides about `page`.
    pub(super) fn place_of(&self, page: PageAddress) -> usize {
        if self.all.len() == 1 || !self.is_divided(page.region) {
            return 0;
        }
        self.division.engine_of(page)
    }

    fn is_divided(&self, region: RegionId) -> bool {
        self.divided[region.index()].load(Ordering::Acquire) == u32::from(region.0) + 1
    }

    /// The shard for everything that is not about a page.
    pub(super) fn first(&self) -> MutexGuard<'_, Shard> {
        lock(&self.all[0])
    }

    /// The shard that decides about `page`.
    pub(super) fn of(&self, page: PageAddress) -> MutexGuard<'_, Shard> {
        loop {
            let place = self.place_of(page);
            let shard = self.at(place);
            // The region may have been mapped while the lock was waited for.
            if place != 0 || self.place_of(page) == 0 {
                return shard;
            }
        }
    }

    pub(super) fn at(&self, place: usize) -> MutexGuard<'_, Shard> {
        lock(&self.all[place])
    }

    /// All but the first, one locked at a time.
    pub(super) fn others(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.all[1..].iter().map(lock)
    }

    /// Whether the pages of such a region are divided.
    pub(super) fn divides(&self, protocol: Protocol) -> bool {
        self.division.divides(protocol)
    }

    /// From now on the pages of `region` are divided, or are not. All other shards were told, and the caller has the lock of the
    /// first.
    pub(super) fn set_divided(&self, region: RegionId, is_divided: bool) {
        if let Some(divided) = self.divided.get(region.index()) {
            divided.store(if is_divided { u32::from(region.0) + 1 } else { 0 }, Ordering::Release);
        }
    }
}

/// The shards of one page after the other, of which one is locked at a time, and as long as the pages are its own.
pub(super) struct Along<'a> {
    shards: &'a Shards,
    held: Option<MutexGuard<'a, Shard>>,
}

impl<'a> Along<'a> {
    pub(super) fn new(shards: &'a Shards) -> Along<'a> {
        Along { shards, held: None }
    }

    /// The shard that decides about `page`.
    pub(super) fn at(&mut self, page: PageAddress) -> &mut Shard {
        let place = self.shards.place_of(page);
        let held = self.held.take().filter(|held| held.place() == place);
        // What was held is free before the next is locked.
        let held = held.unwrap_or_else(|| self.shards.of(page));
        self.held.insert(held)
    }
}

/// Events of one shard or of several.
impl Runtime {
    /// As [`quiet_event`](Runtime::quiet_event), for an event that is about a page, or several of one shard.
    pub(super) fn page_event<R>(
        &self,
        page: PageAddress,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> Option<R> {
        if self.is_inherited() {
            return None;
        }
        let mut shard = self.shards.of(page);
        (!shard.is_closed()).then(|| shard.run(self, Load::Nothing, event))
    }

    /// The same for an event of the shard at `place`.
    pub(super) fn place_event<R>(
        &self,
        place: usize,
        event: impl FnOnce(&mut Engine, &mut Actions) -> R,
    ) -> Option<R> {
        if self.is_inherited() {
            return None;
        }
        let mut shard = self.shards.at(place);
        (!shard.is_closed()).then(|| shard.run(self, Load::Nothing, event))
    }

    /// Gives an event to all shards but the first, which by rule comes after them.
    pub(super) fn part_event(&self, event: impl Fn(&mut Engine, &mut Actions)) {
        if self.is_inherited() {
            return;
        }
        for mut shard in self.shards.others() {
            if !shard.is_closed() {
                shard.run(self, Load::Nothing, &event);
            }
        }
    }

    /// As [`call`](Runtime::call), for a call about a page that is no release.
    pub(super) fn page_call(
        &self,
        page: PageAddress,
        timeout: Duration,
        start: impl FnOnce(&mut Engine, Ticket, &mut Actions),
    ) -> Result<Outcome, CallFailure> {
        self.call_by(timeout, |ticket| self.page_event(page, |engine, out| start(engine, ticket, out)))
    }

    /// Others want a page of the shard at `place` that threads of this node are about to touch: the service thread sees to it a
    /// little later.
    pub(super) fn postpone(&self, place: usize) {
        self.postponed.fetch_or(1 << place, Ordering::SeqCst);
        self.switch.wake_service();
    }

    /// Threads have had their chance to touch the pages that they were given.
    pub(super) fn end_postponing(&self, places: u64) {
        for place in (0..self.shards.count()).filter(|place| places >> place & 1 != 0) {
            self.place_event(place, Engine::on_postponed);
        }
    }

    pub(super) fn is_of_one_shard(&self, one: PageAddress, other: PageAddress) -> bool {
        self.shards.place_of(one) == self.shards.place_of(other)
    }
}
