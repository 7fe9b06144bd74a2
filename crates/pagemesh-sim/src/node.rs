//! One simulated process: its engine, its memory, its waiting calls.

use crate::engines::{Engines, Sharding};
use crate::event::{Caller, WORDS, Wanted, Words};
use crate::random::Random;
use pagemesh_protocol::{EngineConfig, NodeId, PageAddress, PageState, RegionId, RegionSpec, Ticket};
use std::collections::VecDeque;

/// What the application may do with a page: the protection of the app view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rights {
    None,
    Read,
    Write,
}

impl Rights {
    /// What the engine's state of a page promises.
    pub(crate) fn of(state: PageState) -> Rights {
        match state {
            PageState::Invalid => Rights::None,
            PageState::Shared => Rights::Read,
            PageState::Modified => Rights::Write,
        }
    }

    /// The name of the page state that gives these rights.
    pub(crate) fn state(self) -> &'static str {
        match self {
            Rights::None => "INVALID",
            Rights::Read => "SHARED",
            Rights::Write => "MODIFIED",
        }
    }
}

/// A page of one node: the bytes of its service view and the rights of its app view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageCopy {
    pub(crate) words: Words,
    pub(crate) rights: Rights,
}

/// A mapped region.
#[derive(Clone, Debug)]
pub(crate) struct MappedRegion {
    pub(crate) spec: RegionSpec,
    pub(crate) pages: Vec<PageCopy>,
}

/// A call that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) ticket: Ticket,
    pub(crate) wanted: Wanted,
    pub(crate) caller: Caller,
}

/// A proposal that this node has not mapped yet, or a region that it has not forgotten yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposal {
    pub(crate) at: u64,
    pub(crate) region: RegionId,
    pub(crate) round: u16,
    /// `None` when it is a region to be forgotten.
    pub(crate) spec: Option<RegionSpec>,
}

/// One simulated process.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) engine: Engines,
    pub(crate) alive: bool,
    pub(crate) said_goodbye: bool,
    /// Nothing happens in it before this time, microseconds.
    pub(crate) paused_until: u64,
    /// When it lets others have pages that its threads may have used by then, microseconds.
    pub(crate) postponed_at: Option<u64>,
    /// When it announces that it leaves, microseconds; `None` before the end of the program and after the call.
    pub(crate) leave_at: Option<u64>,
    pub(crate) called_leave: bool,
    pub(crate) proposals: VecDeque<Proposal>,
    /// Addresses at which this process has something else, of one region alignment each.
    blocked: Vec<u64>,
    regions: Vec<Option<MappedRegion>>,
    calls: Vec<Option<Call>>,
    generations: Vec<u16>,
    /// Slots of calls that have ended and whose threads have not gone on.
    resuming: Vec<bool>,
}

/// What never-written memory holds: not zero, so that a forgotten zeroing is seen.
const GARBAGE: u64 = 0xdead_beef_0bad_f00d;

impl Node {
    pub(crate) fn new(config: EngineConfig, sharding: Sharding, blocked: Vec<u64>) -> Node {
        Node {
            id: config.node,
            engine: Engines::new(config, sharding),
            alive: true,
            said_goodbye: false,
            paused_until: 0,
            postponed_at: None,
            leave_at: None,
            called_leave: false,
            proposals: VecDeque::new(),
            blocked,
            regions: Vec::new(),
            calls: vec![None; config.tickets],
            generations: vec![0; config.tickets],
            resuming: vec![false; config.tickets],
        }
    }

    /// Maps a region, if nothing else is at its address.
    pub(crate) fn map_region(&mut self, region: RegionId, spec: RegionSpec) -> bool {
        let range = spec.address..spec.address + spec.pages * 4096;
        let align = pagemesh_protocol::limits::REGION_ALIGN;
        let overlaps = |start: u64, bytes: u64| start < range.end && range.start < start + bytes;
        let foreign = self.blocked.iter().any(|start| overlaps(*start, align));
        let own = self.regions.iter().flatten().any(|r| overlaps(r.spec.address, r.spec.pages * 4096));
        if foreign || own {
            return false;
        }
        if self.regions.len() <= region.index() {
            self.regions.resize_with(region.index() + 1, || None);
        }
        let page = PageCopy { words: [GARBAGE; WORDS], rights: Rights::None };
        self.regions[region.index()] = Some(MappedRegion { spec, pages: vec![page; spec.pages as usize] });
        true
    }

    /// Undoes a mapping; false when there is none.
    pub(crate) fn unmap_region(&mut self, region: RegionId) -> bool {
        self.regions.get_mut(region.index()).and_then(Option::take).is_some()
    }

    pub(crate) fn region(&self, region: RegionId) -> Option<&MappedRegion> {
        self.regions.get(region.index())?.as_ref()
    }

    pub(crate) fn copy(&self, page: PageAddress) -> Option<PageCopy> {
        self.region(page.region)?.pages.get(page.page as usize).copied()
    }

    pub(crate) fn copy_mut(&mut self, page: PageAddress) -> Option<&mut PageCopy> {
        self.regions.get_mut(page.region.index())?.as_mut()?.pages.get_mut(page.page as usize)
    }

    pub(crate) fn rights(&self, page: PageAddress) -> Rights {
        self.copy(page).map_or(Rights::None, |copy| copy.rights)
    }

    /// Takes a free ticket slot, not always the same, for a call.
    ///
    /// # Panics
    /// When none is free: a configuration has more tickets than threads.
    pub(crate) fn begin_call(&mut self, caller: Caller, wanted: Wanted, random: &mut Random) -> Ticket {
        let count = self.calls.len();
        let start = random.index(count);
        let slot = (0..count)
            .map(|offset| (start + offset) % count)
            .find(|slot| self.calls[*slot].is_none() && !self.resuming[*slot])
            .expect("there are more tickets than threads");
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        let ticket = Ticket::new(slot as u16, self.generations[slot]);
        self.calls[slot] = Some(Call { ticket, wanted, caller });
        ticket
    }

    pub(crate) fn call(&self, ticket: Ticket) -> Option<Call> {
        let call = (*self.calls.get(ticket.slot as usize)?)?;
        (call.ticket == ticket).then_some(call)
    }

    pub(crate) fn end_call(&mut self, ticket: Ticket) -> Option<Call> {
        let call = self.call(ticket)?;
        self.calls[ticket.slot as usize] = None;
        Some(call)
    }

    /// Whether the slot of `ticket` is kept until the thread of its ended call has gone on.
    pub(crate) fn set_resuming(&mut self, ticket: Ticket, resuming: bool) {
        // A call that is given up too late must not free the slot of a later one.
        if self.generations[ticket.slot as usize] == ticket.generation {
            self.resuming[ticket.slot as usize] = resuming;
        }
    }

    /// Calls that wait, by slot.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().flatten()
    }
}
