//! One engine and what its runtime keeps: waiting calls, rights of the application, proposals.

use pagemesh_protocol::{
    Access, Action, Engine, EngineConfig, LockId, NodeId, Outcome, PageAddress, PageState, RegionId,
    RegionSpec, RwLockId, Ticket,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Waiting calls of a node at a time.
pub(super) const SLOTS: usize = 8;
/// Locks, and barriers, and objects of each other kind, in use at one home.
pub(super) const SYNC_BOUND: usize = 4;

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Page {
        held: bool,
    },
    Lock(LockId),
    RwLock(RwLockId, Access),
    /// Without the lock that it had, and with it when it ends well.
    Signal(LockId),
    /// Others may keep it waiting for ever: a barrier, a unit of a semaphore, a region that nobody creates, leaving.
    Others,
    Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Free,
    Waiting(Ticket, Wanted),
    /// It has its page, and its thread has not gone on.
    Resuming(Ticket),
}

pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) slots: [Slot; SLOTS],
    generations: [u16; SLOTS],
    /// Locks that are held, and the tickets that prove it.
    pub(super) held: Vec<(LockId, Ticket)>,
    /// The same of reader-writer locks.
    pub(super) rw_held: Vec<(RwLockId, Access, Ticket)>,
    pub(super) proposals: VecDeque<(RegionId, u16, RegionSpec)>,
    pub(super) postponed: bool,
    /// What the application may do with pages; those it may not touch are left out.
    rights: BTreeMap<(u16, u64), PageState>,
    /// Pages of which the node keeps a twin.
    twins: BTreeSet<(u16, u64)>,
    /// Pages in which it is marked what others wrote.
    marked: BTreeSet<(u16, u64)>,
}

impl Node {
    pub(super) fn new(number: usize, count: usize) -> Node {
        let bounds = EngineConfig::new(NodeId::new(number as u16), count as u16);
        let config = EngineConfig {
            tickets: SLOTS,
            locks: SYNC_BOUND,
            rwlocks_left: SYNC_BOUND,
            barriers: SYNC_BOUND,
            updates: true,
            hint_patience: u8::MAX,
            ..bounds
        };
        Node {
            engine: Engine::new(config),
            slots: [Slot::Free; SLOTS],
            generations: [0; SLOTS],
            held: Vec::new(),
            rw_held: Vec::new(),
            proposals: VecDeque::new(),
            postponed: false,
            rights: BTreeMap::new(),
            twins: BTreeSet::new(),
            marked: BTreeSet::new(),
        }
    }

    /// Whether it has as many calls as it can.
    pub(super) fn is_full(&self) -> bool {
        self.slots.iter().all(|slot| *slot != Slot::Free)
    }

    /// A name for a new call; `None` when all slots are taken.
    pub(super) fn begin(&mut self, wanted: Wanted) -> Option<Ticket> {
        let slot = self.slots.iter().position(|slot| *slot == Slot::Free)?;
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        let ticket = Ticket::new(slot as u16, self.generations[slot]);
        self.slots[slot] = Slot::Waiting(ticket, wanted);
        Some(ticket)
    }

    /// Tickets of the calls that wait, or whose threads have not gone on.
    pub(super) fn open(&self) -> Vec<Ticket> {
        let ticket = |slot: &Slot| match slot {
            Slot::Free => None,
            Slot::Waiting(ticket, _) | Slot::Resuming(ticket) => Some(*ticket),
        };
        self.slots.iter().filter_map(ticket).collect()
    }

    /// Tickets of threads that have not gone on.
    pub(super) fn resuming(&self) -> Vec<Ticket> {
        let ticket = |slot: &Slot| match slot {
            Slot::Resuming(ticket) => Some(*ticket),
            _ => None,
        };
        self.slots.iter().filter_map(ticket).collect()
    }

    pub(super) fn free(&mut self, ticket: Ticket) {
        self.slots[ticket.slot as usize] = Slot::Free;
    }

    /// The call of `ticket` is over.
    pub(super) fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        let slot = self.slots.get_mut(ticket.slot as usize).expect("a ticket of this node");
        let Slot::Waiting(waiting, wanted) = *slot else { panic!("{ticket:?} ended and was not waiting") };
        assert_eq!(waiting, ticket, "an earlier call of the slot ended again");
        *slot = match wanted {
            Wanted::Page { held: true } if outcome == Outcome::Done => Slot::Resuming(ticket),
            _ => Slot::Free,
        };
        match (wanted, outcome) {
            (_, Outcome::Failed(_)) => {}
            (Wanted::Lock(lock) | Wanted::Signal(lock), _) => self.held.push((lock, ticket)),
            (Wanted::RwLock(lock, access), _) => self.rw_held.push((lock, access, ticket)),
            _ => {}
        }
    }

    /// Changes the rights of the application as `action` says.
    pub(super) fn change_rights(&mut self, action: &Action) {
        let key = |page: PageAddress| (page.region.0, page.page);
        match *action {
            Action::MapRead(page) => {
                let before = self.rights.insert(key(page), PageState::Shared);
                assert_ne!(before, Some(PageState::Modified), "a right was taken away by granting one");
            }
            Action::MapWrite(page) => {
                let before = self.rights.insert(key(page), PageState::Modified);
                assert_ne!(before, Some(PageState::Shared), "a readable page is unprotected, not mapped");
            }
            Action::Unprotect(page) => {
                let before = self.rights.insert(key(page), PageState::Modified);
                assert_eq!(before, Some(PageState::Shared), "only a readable page is unprotected");
            }
            Action::Protect(page) => {
                let before = self.rights.insert(key(page), PageState::Shared);
                assert_eq!(before, Some(PageState::Modified), "only a writable page is protected");
            }
            Action::Unmap(page) => {
                assert!(self.rights.remove(&key(page)).is_some(), "the page was not mapped");
            }
            Action::Fill(page) | Action::FillZero(page) => {
                assert!(!self.rights.contains_key(&key(page)), "a page that is in use was overwritten");
            }
            Action::MakeTwin(page) => {
                let writable = self.rights.get(&key(page)) == Some(&PageState::Modified);
                assert!(!writable, "a page was written before its twin was made");
                assert!(self.twins.insert(key(page)), "a page has one twin");
            }
            Action::SendDiff { page, keep_twin, .. } => {
                assert!(self.twins.contains(&key(page)), "a diff is made from a twin");
                let writable = self.rights.get(&key(page)) == Some(&PageState::Modified);
                assert_eq!(writable, keep_twin, "what is written on has a twin, and only that");
                if !keep_twin {
                    self.twins.remove(&key(page));
                }
            }
            Action::TwinWhileWritten(page) => {
                assert!(self.twins.insert(key(page)), "a page has one twin");
            }
            Action::DropTwin(page) => {
                let (twin, marks) = (self.twins.remove(&key(page)), self.marked.remove(&key(page)));
                assert!(twin != marks, "there was either a twin or marks");
            }
            Action::ApplyMarked(page) => {
                assert!(!self.rights.contains_key(&key(page)), "a page that is lent was in use");
                self.marked.insert(key(page));
            }
            Action::FillAround(page) => {
                assert!(!self.rights.contains_key(&key(page)), "a page that is in use was overwritten");
                self.marked.remove(&key(page));
            }
            Action::Adopt(page) => {
                let writable = self.rights.get(&key(page)) == Some(&PageState::Modified);
                assert_eq!(self.twins.remove(&key(page)), writable, "what is written has a twin");
            }
            Action::Update(page) => {
                let state = self.rights.get(&key(page)).expect("a page is sent along to who has it");
                let writable = *state == PageState::Modified;
                assert_eq!(self.twins.contains(&key(page)), writable, "what is written has a twin");
            }
            Action::UnmapRegion(region) => self.rights.retain(|(of, _), _| *of != region.0),
            Action::ForgetRegion(region) => {
                self.rights.retain(|(of, _), _| *of != region.0);
                self.twins.retain(|(of, _)| *of != region.0);
                self.marked.retain(|(of, _)| *of != region.0);
            }
            _ => {}
        }
    }

    /// The application may do what the engine says, and no more.
    pub(super) fn check_rights(&self) {
        for ((region, page), state) in &self.rights {
            let page = PageAddress::new(RegionId(*region), *page);
            assert_eq!(self.engine.page_state(page), *state, "{page:?} at {:?}", self.engine.node());
        }
    }
}
