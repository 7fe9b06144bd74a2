//! What the engine's tests share: one engine as the subject of a test, a mesh of engines without delay, and short
//! names for messages and actions on the one page that most tests speak of.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

pub(crate) mod mesh;
pub(crate) mod rwlock;

use pagemesh_protocol::{
    Access, Action, Actions, BarrierId, Collect, ConditionId, DirectoryEntry, DirectoryState, Engine,
    EngineConfig, Failure, Hint, LockId, Message, NodeId, NodeSet, Outcome, PageAddress, PageState,
    Placement, Protocol, ReaderCopy, RegionId, RegionName, RegionSpec, RequestId, RwLockId, SemaphoreId,
    Sharers, Ticket, Unit, View, barrier_home, lock_home, sync_home,
};

/// The region of every test that needs just one.
pub(crate) const REGION: RegionId = RegionId(0);
/// The page of every test that needs just one.
pub(crate) const PAGE: PageAddress = PageAddress::new(REGION, 3);
/// Pages of [`REGION`].
pub(crate) const PAGES: u64 = 64;

pub(crate) const fn node(number: u16) -> NodeId {
    NodeId::new(number)
}

pub(crate) fn nodes(numbers: &[u16]) -> NodeSet {
    numbers.iter().copied().map(node).collect()
}

pub(crate) const fn ticket(slot: u16) -> Ticket {
    Ticket::new(slot, 1)
}

/// The properties of a region named `name` that asks for no address.
pub(crate) fn asked(name: &str, placement: Placement) -> RegionSpec {
    RegionSpec {
        name: RegionName::new(name).expect("the tests choose valid names"),
        pages: PAGES,
        placement,
        protocol: Protocol::WriteInvalidate,
        unit: Unit::Page,
        address: 0,
    }
}

/// Who got the lock under `slot` is told that node `next` wants it, under the ticket of `wanted`.
pub(crate) fn forwarded(lock: LockId, slot: u16, next: u16, wanted: u16) -> Message {
    let (node, wanted) = (node(next), ticket(wanted));
    Message::LockForward { lock, ticket: ticket(slot), node, wanted, waits: true }
}

/// Who got the lock under `slot` gives it to its home, for nobody in particular.
pub(crate) fn returned(lock: LockId, slot: u16) -> Message {
    Message::LockRelease { lock, ticket: ticket(slot), died: None, wanted: None }
}

/// The lock with the `nth` lowest number among those whose home is node `home` of `count`.
pub(crate) fn lock_at(home: u16, count: u16, nth: usize) -> LockId {
    let mut locks = (0..).map(LockId).filter(|lock| lock_home(*lock, count) == node(home));
    locks.nth(nth).expect("every node is home of some lock")
}

/// The `nth` lowest number of an object of synchronisation whose home is node `home` of `count`.
pub(crate) fn number_at(home: u16, count: u16, nth: usize) -> u64 {
    let mut numbers = (0..).filter(|number| sync_home(*number, count) == node(home));
    numbers.nth(nth).expect("every node is home of some number")
}

/// The barrier with the `nth` lowest number among those whose home is node `home` of `count`.
pub(crate) fn barrier_at(home: u16, count: u16, nth: usize) -> BarrierId {
    let mut barriers = (0..).map(BarrierId).filter(|barrier| barrier_home(*barrier, count) == node(home));
    barriers.nth(nth).expect("every node is home of some barrier")
}

/// A directory entry on which no transaction runs.
pub(crate) fn at_rest(state: DirectoryState, holders: &[u16]) -> DirectoryEntry {
    DirectoryEntry { state, holders: nodes(holders), busy: None }
}

// Messages about PAGE.

pub(crate) const INVALIDATE: Message = Message::Invalidate { page: PAGE };
pub(crate) const INVALIDATE_ACK: Message = Message::InvalidateAck { page: PAGE };

pub(crate) const fn request(id: u32, access: Access) -> Message {
    Message::PageRequest { page: PAGE, request: RequestId(id), access }
}

pub(crate) const fn data(id: u32, access: Access) -> Message {
    Message::Data { page: PAGE, request: RequestId(id), access }
}

pub(crate) const fn grant(id: u32, access: Access) -> Message {
    Message::Grant { page: PAGE, request: RequestId(id), access, zero: false }
}

pub(crate) const fn zero_grant(id: u32, access: Access) -> Message {
    Message::Grant { page: PAGE, request: RequestId(id), access, zero: true }
}

pub(crate) const fn deny(id: u32, lost_with: u16) -> Message {
    Message::Deny { page: PAGE, request: RequestId(id), lost_with: node(lost_with) }
}

pub(crate) const fn fetch(id: u32, access: Access, requester: u16) -> Message {
    Message::Fetch { page: PAGE, request: RequestId(id), access, requester: node(requester) }
}

pub(crate) const fn report(id: u32, installed: bool) -> Message {
    Message::Done { page: PAGE, request: RequestId(id), installed }
}

pub(crate) const fn recall(id: u32) -> Message {
    Message::Recall { page: PAGE, request: RequestId(id) }
}

/// About a write whose sharers tell the writer.
pub(crate) const fn collect(id: u32, step: Collect) -> Message {
    Message::Collect { page: PAGE, request: RequestId(id), step }
}

pub(crate) const fn drop_for(id: u32, requester: u16) -> Message {
    collect(id, Collect::Drop { requester: node(requester), again: false, grant: Sharers::NONE })
}

pub(crate) const fn drop_again(id: u32, requester: u16) -> Message {
    collect(id, Collect::Drop { requester: node(requester), again: true, grant: Sharers::NONE })
}

/// A copy is to be dropped, and the requester to be told that it may write when those of these nodes are gone.
pub(crate) fn drop_granting(id: u32, requester: u16, sharers: &[u16]) -> Message {
    collect(id, Collect::Drop { requester: node(requester), again: false, grant: few(sharers) })
}

fn few(sharers: &[u16]) -> Sharers {
    Sharers::of(nodes(sharers)).expect("they are few")
}

pub(crate) const fn dropped(id: u32) -> Message {
    collect(id, Collect::Dropped)
}

pub(crate) fn grant_after(id: u32, sharers: &[u16]) -> Message {
    collect(id, Collect::Grant(few(sharers)))
}

pub(crate) fn data_after(id: u32, sharers: &[u16]) -> Message {
    collect(id, Collect::Data(few(sharers)))
}

pub(crate) const fn unheard(id: u32, sharer: u16) -> Message {
    collect(id, Collect::Unheard(node(sharer)))
}

pub(crate) fn gone(id: u32, sharer: u16, sharers: &[u16]) -> Message {
    collect(id, Collect::Gone { sharer: node(sharer), grant: few(sharers) })
}

/// About a read that goes to the owner.
pub(crate) const fn hint(id: u32, step: Hint) -> Message {
    Message::Hint { page: PAGE, request: RequestId(id), step }
}

/// From an owner to the home: what `reader` has said about the copy that was sent to it.
pub(crate) const fn served(id: u32, reader: u16, copy: ReaderCopy) -> Message {
    hint(id, Hint::Served { reader: node(reader), copy })
}

// Actions.

pub(crate) const fn send(to: u16, message: Message) -> Action {
    Action::Send { to: node(to), message, payload: None }
}

/// A message with the bytes of PAGE.
pub(crate) const fn send_page(to: u16, message: Message) -> Action {
    Action::Send { to: node(to), message, payload: Some(PAGE) }
}

pub(crate) const fn done(slot: u16) -> Action {
    Action::Complete { ticket: ticket(slot), outcome: Outcome::Done }
}

pub(crate) const fn failed(slot: u16, failure: Failure) -> Action {
    Action::Complete { ticket: ticket(slot), outcome: Outcome::Failed(failure) }
}

/// The one engine whose actions a test compares; the test itself speaks for all other nodes.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) engine: Engine,
    /// Threads that were let go touch their pages only when the test says so.
    pub(crate) slow_threads: bool,
    /// Whose reports are waited for, as the engine has said since the test looked; it is not among the actions that are compared.
    pub(crate) hurried: Vec<NodeId>,
}

/// The call that ends well by `action`.
pub(crate) fn completed(action: &Action) -> Option<Ticket> {
    match action {
        Action::Complete { ticket, outcome: Outcome::Done } => Some(*ticket),
        _ => None,
    }
}

impl Subject {
    /// Node `number` of `count`, without a region.
    pub(crate) fn new(number: u16, count: u16) -> Subject {
        Subject::configured(EngineConfig::new(node(number), count))
    }

    pub(crate) fn configured(config: EngineConfig) -> Subject {
        Subject { engine: Engine::new(config), slow_threads: false, hurried: Vec::new() }
    }

    /// Node `number` of `count`, where [`REGION`] is mapped on every node and all its pages have their home at
    /// node `home`.
    pub(crate) fn mapped(number: u16, count: u16, home: u16) -> Subject {
        Subject::following(Protocol::WriteInvalidate, number, count, home)
    }

    /// As `mapped`, where the region follows `protocol`.
    pub(crate) fn following(protocol: Protocol, number: u16, count: u16, home: u16) -> Subject {
        let spec = RegionSpec { protocol, ..asked("shared", Placement::Single(node(home))) };
        Subject::with_region(number, count, spec)
    }

    /// Node `number` of `count`, where a region like `spec` is mapped on every node.
    pub(crate) fn with_region(number: u16, count: u16, spec: RegionSpec) -> Subject {
        let mut subject = Subject::new(number, count);
        if number == 0 {
            subject.act(|engine, out| engine.on_region_open(ticket(1000), true, spec, out));
            subject.act(|engine, out| engine.on_region_mapped(REGION, 0, true, out));
            for other in 1..count {
                subject.hears(other, Message::RegionMapped { region: REGION, round: 0, mapped: true });
            }
        } else {
            let spec = RegionSpec { address: 0x2000_0000_0000, ..spec };
            subject.hears(0, Message::RegionMap { region: REGION, round: 0, spec });
            subject.act(|engine, out| engine.on_region_mapped(REGION, 0, true, out));
        }
        subject
    }

    /// One call, and all that it asks for; after it, threads that were let go run at once.
    pub(crate) fn act(&mut self, event: impl FnOnce(&mut Engine, &mut Actions)) -> Actions {
        let mut out = Actions::new();
        event(&mut self.engine, &mut out);
        if !self.slow_threads {
            self.resume_all(&mut out);
        }
        out.retain(|action| match action {
            Action::Hurry(node) => {
                self.hurried.push(*node);
                false
            }
            _ => true,
        });
        out
    }

    /// Threads whose calls are over in `out` touch their pages, and demands for these are met.
    fn resume_all(&mut self, out: &mut Actions) {
        let over: Vec<Ticket> = out.iter().filter_map(completed).collect();
        for ticket in over {
            self.engine.on_resumed(ticket, out);
        }
        let before = out.len();
        out.retain(|action| *action != Action::Postpone);
        if out.len() < before {
            self.engine.on_postponed(out);
        }
    }

    pub(crate) fn resumes(&mut self, slot: u16) -> Actions {
        self.act(|engine, out| engine.on_resumed(ticket(slot), out))
    }

    pub(crate) fn postponed(&mut self) -> Actions {
        self.act(Engine::on_postponed)
    }

    pub(crate) fn hears(&mut self, from: u16, message: Message) -> Actions {
        let view = self.engine.view();
        self.act(|engine, out| {
            engine.on_message(node(from), view, &message, out).expect("the message is well-behaved");
        })
    }

    /// What is wrong with `message`; checks that a refusal changes neither the engine nor the caller's buffer.
    #[track_caller]
    pub(crate) fn refuses(&mut self, from: u16, message: Message) -> &'static str {
        self.refuses_in(self.engine.view(), from, message)
    }

    #[track_caller]
    pub(crate) fn refuses_in(&mut self, view: View, from: u16, message: Message) -> &'static str {
        let earlier = vec![Action::Unmap(PageAddress::new(RegionId(9), 9))];
        let mut out = earlier.clone();
        let before = format!("{:?}", self.engine);
        let refused = self.engine.on_message(node(from), view, &message, &mut out);
        let violation = refused.expect_err("the message breaks the protocol");
        assert_eq!((violation.from, violation.message), (node(from), message));
        assert_eq!(out, earlier, "a refused message left actions behind");
        assert_eq!(format!("{:?}", self.engine), before, "a refused message changed the engine");
        violation.what
    }

    /// An access to PAGE that faults.
    pub(crate) fn fault(&mut self, slot: u16, access: Access) -> Actions {
        self.act(|engine, out| engine.on_fault(ticket(slot), PAGE, access, out))
    }

    pub(crate) fn cancel(&mut self, slot: u16) -> Actions {
        self.act(|engine, out| engine.on_cancel(ticket(slot), out))
    }

    pub(crate) fn loses(&mut self, other: u16) -> Actions {
        self.act(|engine, out| engine.on_peer_lost(node(other), out))
    }

    pub(crate) fn acquires(&mut self, slot: u16, lock: LockId) -> Actions {
        self.act(|engine, out| engine.on_lock_acquire(ticket(slot), lock, out))
    }

    pub(crate) fn tries(&mut self, slot: u16, lock: LockId) -> Actions {
        self.act(|engine, out| engine.on_lock_try(ticket(slot), lock, out))
    }

    pub(crate) fn releases(&mut self, slot: u16, lock: LockId) -> Actions {
        self.act(|engine, out| engine.on_lock_release(ticket(slot), lock, out))
    }

    /// Has a lock of which its home, node `home`, said that it is wanted back.
    pub(crate) fn holds_for_home(&mut self, slot: u16, lock: LockId, home: u16) {
        self.acquires(slot, lock);
        self.hears(home, Message::LockGrant { lock, ticket: ticket(slot), died: None });
        self.is_asked_for(slot, lock, home);
    }

    /// The home of a lock that is held, node `home`, says that it is wanted back.
    pub(crate) fn is_asked_for(&mut self, slot: u16, lock: LockId, home: u16) {
        assert_eq!(self.hears(home, forwarded(lock, slot, home, 1000)), []);
    }

    /// Gives a lock back that is wanted by its home, node `home`.
    pub(crate) fn gives_to_home(&mut self, slot: u16, lock: LockId, home: u16) -> Actions {
        self.holds_for_home(slot, lock, home);
        self.releases(slot, lock)
    }

    pub(crate) fn wants(&mut self, slot: u16, lock: RwLockId, access: Access) -> Actions {
        self.act(|engine, out| engine.on_rw_acquire(ticket(slot), lock, access, true, out))
    }

    pub(crate) fn tries_to(&mut self, slot: u16, lock: RwLockId, access: Access) -> Actions {
        self.act(|engine, out| engine.on_rw_acquire(ticket(slot), lock, access, false, out))
    }

    pub(crate) fn gives_back(&mut self, slot: u16, lock: RwLockId) -> Actions {
        self.act(|engine, out| engine.on_rw_release(ticket(slot), lock, out))
    }

    pub(crate) fn takes_unit(&mut self, slot: u16, semaphore: SemaphoreId, waits: bool) -> Actions {
        self.act(|engine, out| engine.on_semaphore_wait(ticket(slot), semaphore, waits, out))
    }

    pub(crate) fn posts(&mut self, slot: u16, semaphore: SemaphoreId) -> Actions {
        self.act(|engine, out| engine.on_semaphore_post(ticket(slot), semaphore, out))
    }

    pub(crate) fn initialises(&mut self, slot: u16, semaphore: SemaphoreId, value: u32) -> Actions {
        self.act(|engine, out| engine.on_semaphore_init(ticket(slot), semaphore, value, out))
    }

    /// Waits for `condition` with `lock`, which is held under the ticket of slot `held`.
    pub(crate) fn awaits(&mut self, slot: u16, condition: ConditionId, lock: LockId, held: u16) -> Actions {
        let lock = (lock, ticket(held));
        self.act(|engine, out| engine.on_condition_wait(ticket(slot), condition, lock, out))
    }

    pub(crate) fn runs_out_of_time(&mut self, slot: u16) -> Actions {
        self.act(|engine, out| engine.on_condition_give_up(ticket(slot), out))
    }

    pub(crate) fn notifies(&mut self, condition: ConditionId, all: bool) -> Actions {
        self.act(|engine, out| engine.on_condition_notify(condition, all, out).expect("the home lives"))
    }

    pub(crate) fn arrives(&mut self, slot: u16, barrier: BarrierId, participants: u32) -> Actions {
        self.act(|engine, out| engine.on_barrier_arrive(ticket(slot), barrier, participants, out))
    }

    /// Arrives at a barrier whose home is node `home` of five.
    pub(crate) fn arrives_at_barrier(&mut self, slot: u16, home: u16) -> Actions {
        self.arrives(slot, barrier_at(home, 5, 0), 2)
    }

    /// Gets a lock from its home, node `home` of five, which tells that `writer` wrote `page` in its interval 1.
    pub(crate) fn gets_lock_with_notice(
        &mut self,
        slot: u16,
        home: u16,
        writer: u16,
        page: PageAddress,
    ) -> Actions {
        let (lock, writer) = (lock_at(home, 5, 0), node(writer));
        let mut all = self.acquires(slot, lock);
        all.extend(self.hears(home, Message::Wrote { writer, interval: 1, first: page, count: 1 }));
        all.extend(self.hears(home, Message::Told { writer, interval: 1 }));
        all.extend(self.hears(home, Message::LockGrant { lock, ticket: ticket(slot), died: None }));
        all
    }

    pub(crate) fn opens(&mut self, slot: u16, create: bool, spec: RegionSpec) -> Actions {
        self.act(|engine, out| engine.on_region_open(ticket(slot), create, spec, out))
    }

    pub(crate) fn maps(&mut self, region: RegionId, round: u16, mapped: bool) -> Actions {
        self.act(|engine, out| engine.on_region_mapped(region, round, mapped, out))
    }

    pub(crate) fn leaves(&mut self, slot: u16) -> Actions {
        self.act(|engine, out| engine.on_leave(ticket(slot), out))
    }

    /// The state of this node's copy of PAGE.
    pub(crate) fn state(&self) -> PageState {
        self.engine.page_state(PAGE)
    }

    /// This home's directory entry of PAGE.
    pub(crate) fn entry(&self) -> DirectoryEntry {
        self.engine.directory(PAGE).expect("the subject is the home of the page")
    }

    /// Makes this home's directory say that PAGE is shared by `holders`, the first of them its owner, unless the
    /// home itself is one.
    #[must_use]
    pub(crate) fn shared_by(mut self, holders: &[u16]) -> Subject {
        let home = self.engine.node().get();
        let mut others = holders.to_vec();
        if let Some(at) = others.iter().position(|number| *number == home) {
            others.remove(at);
            assert_eq!(self.fault(900, Access::Read).last(), Some(&done(900)));
        }
        for number in others {
            // A message that is not needed is refused, so the report is sent only where a copy moved.
            self.hears(number, request(900, Access::Read));
            if self.entry().busy.is_some() {
                self.hears(number, report(900, true));
            }
        }
        assert_eq!(self.entry().holders, nodes(holders));
        self
    }

    /// Makes this home's directory say that node `owner` has the only copy of PAGE and may write it.
    #[must_use]
    pub(crate) fn modified_by(mut self, owner: u16) -> Subject {
        if owner == self.engine.node().get() {
            self.fault(900, Access::Write);
        } else {
            self.hears(owner, request(900, Access::Write));
        }
        assert_eq!(self.entry(), at_rest(DirectoryState::Modified(node(owner)), &[owner]));
        self
    }
}
