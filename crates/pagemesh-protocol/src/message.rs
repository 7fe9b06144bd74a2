//! The messages between nodes. How they lie in bytes is the business of `layout.rs`.

use crate::action::{PageOwner, RegionRefusal};
use crate::atomic::AtomicOperation;
use crate::ids::{
    Access, BarrierId, ByteRange, ConditionId, LockId, NodeId, PageAddress, RegionId, RequestId, RwLockId,
    SemaphoreId, Ticket,
};
use crate::region::RegionSpec;

pub use crate::message_parts::{
    BarrierPlan, Collect, HandOver, Hint, MeetingEnd, Named, Payload, ReaderCopy, SyncObject,
};

/// What one node says to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Message {
    /// To the home: grant me `access` to the page.
    PageRequest {
        /// The page.
        page: PageAddress,
        /// The requester's name for this request.
        request: RequestId,
        /// What is wanted.
        access: Access,
    },
    /// From the page's home or owner to the requester: the page's bytes (in the payload), with `access` to them.
    Data {
        /// The page.
        page: PageAddress,
        /// The request that this answers.
        request: RequestId,
        /// What is granted.
        access: Access,
    },
    /// From the home to the requester: `access` without bytes; the requester has them, or they are zero.
    Grant {
        /// The page.
        page: PageAddress,
        /// The request that this answers.
        request: RequestId,
        /// What is granted.
        access: Access,
        /// Whether the page is all zeros, never touched before.
        zero: bool,
    },
    /// From the home to the requester: the only copy went with node `lost_with`.
    Deny {
        /// The page.
        page: PageAddress,
        /// The request that this answers.
        request: RequestId,
        /// The node that held the only copy.
        lost_with: NodeId,
    },
    /// From the home to the owner: send your copy to `requester`, and keep no more than `access` leaves you.
    Fetch {
        /// The page.
        page: PageAddress,
        /// The requester's name for its request.
        request: RequestId,
        /// What the requester wants: after a read the owner keeps a readable copy, after a write none.
        access: Access,
        /// Where the bytes go.
        requester: NodeId,
    },
    /// From the requester to the home: the owner's bytes have come and are in use; or, to a [`Message::Recall`], have not.
    Done {
        /// The page.
        page: PageAddress,
        /// The request.
        request: RequestId,
        /// Whether the bytes have come.
        installed: bool,
    },
    /// From the home to the requester, when the owner that was to send the bytes was lost: have they come?
    Recall {
        /// The page.
        page: PageAddress,
        /// The request.
        request: RequestId,
    },
    /// From the home to a sharer: drop your copy.
    Invalidate {
        /// The page.
        page: PageAddress,
    },
    /// From a sharer to the home: the copy is gone.
    InvalidateAck {
        /// The page.
        page: PageAddress,
    },
    /// About a request to write a page whose sharers tell the requester itself that their copies are gone.
    Collect {
        /// The page.
        page: PageAddress,
        /// The requester's name for its request.
        request: RequestId,
        /// What is said.
        step: Collect,
    },
    /// About a read of a page that goes to the node which is taken for its owner, and not to its home.
    Hint {
        /// The page.
        page: PageAddress,
        /// The requester's name for its request.
        request: RequestId,
        /// What is said.
        step: Hint,
    },
    /// To the home: I have no more use for my copy. A hint, which nobody answers.
    Evict {
        /// The page.
        page: PageAddress,
    },
    /// To the home: who owns this page?
    OwnerQuery {
        /// The page.
        page: PageAddress,
        /// The asker's waiting call.
        ticket: Ticket,
    },
    /// The answer.
    OwnerReply {
        /// The page.
        page: PageAddress,
        /// The waiting call.
        ticket: Ticket,
        /// Who.
        owner: PageOwner,
    },
    /// To the page's anchor, where homes are given by first touch: I touch it; who is its home?
    HomeClaim {
        /// The page.
        page: PageAddress,
        /// The request that will go to the home.
        request: RequestId,
    },
    /// The answer: this node, for ever; it touched the page first.
    HomeNamed {
        /// The page.
        page: PageAddress,
        /// The claim's request.
        request: RequestId,
        /// The home.
        home: NodeId,
    },
    /// To the page's anchor: who is its home? Asking settles nothing.
    HomeQuery {
        /// The page.
        page: PageAddress,
        /// The asker's waiting call.
        ticket: Ticket,
    },
    /// The answer.
    HomeReply {
        /// The page.
        page: PageAddress,
        /// The waiting call.
        ticket: Ticket,
        /// The home; `None` while nobody has touched the page.
        home: Option<NodeId>,
    },
    /// To the page's home: do this to a word of it, and tell me what the word was.
    AtomicRequest {
        /// The page.
        page: PageAddress,
        /// The waiting call.
        ticket: Ticket,
        /// What to do.
        operation: AtomicOperation,
    },
    /// From the home to the only holder of the page: do this for `requester`, and tell me what the word was.
    AtomicForward {
        /// The page.
        page: PageAddress,
        /// The node that wants it.
        requester: NodeId,
        /// Its waiting call.
        ticket: Ticket,
        /// What to do.
        operation: AtomicOperation,
    },
    /// From the holder to the home: it is done.
    AtomicDone {
        /// The page.
        page: PageAddress,
        /// The node that wanted it.
        requester: NodeId,
        /// Its waiting call.
        ticket: Ticket,
        /// What the word was.
        old: u64,
    },
    /// From the home: it is done.
    AtomicReply {
        /// The page.
        page: PageAddress,
        /// The waiting call.
        ticket: Ticket,
        /// What the word was.
        old: u64,
    },
    /// From the home: the only copy of the page went with node `lost_with`.
    AtomicDeny {
        /// The page.
        page: PageAddress,
        /// The waiting call.
        ticket: Ticket,
        /// The node that held the only copy.
        lost_with: NodeId,
    },
    /// To the home: this call's time is over; do not begin what it asked for.
    AtomicCancel {
        /// The page.
        page: PageAddress,
        /// The call.
        ticket: Ticket,
    },
    /// From the home: it was not begun, and will not be.
    AtomicWithdrawn {
        /// The page.
        page: PageAddress,
        /// The call.
        ticket: Ticket,
    },
    /// To the coordinator: this call comes to the meeting of all nodes with this claim; or leaves it.
    MeetingArrive {
        /// The waiting call.
        ticket: Ticket,
        /// The node that it claims.
        root: NodeId,
        /// The number that it claims.
        number: u64,
        /// Whether it no longer waits.
        leaves: bool,
    },
    /// From the coordinator: the meeting is over.
    MeetingOver {
        /// The waiting call.
        ticket: Ticket,
        /// How.
        end: MeetingEnd,
    },
    /// To everyone, after a meeting: some bytes (in the payload).
    Piece {
        /// The meeting's round.
        round: u64,
        /// Where they lie in what is passed on.
        offset: u32,
        /// Whether these are the last.
        last: bool,
    },
    /// To the lock's home: I want it.
    LockAcquire {
        /// The lock.
        lock: LockId,
        /// The sender's name for the request: that of the first of its calls that wait.
        ticket: Ticket,
    },
    /// To the lock's home: I want it, if it is free.
    LockTry {
        /// The lock.
        lock: LockId,
        /// As for an acquisition.
        ticket: Ticket,
    },
    /// To the lock's home, from who has or awaits the lock: there is nothing for one who tries.
    LockHeld {
        /// The lock.
        lock: LockId,
        /// The call that tries.
        ticket: Ticket,
        /// Its node.
        node: NodeId,
    },
    /// From the lock's home to one who tries: it is not free.
    LockBusy {
        /// The lock.
        lock: LockId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From who has the lock to the next in line: you have it; with `died`, you are the first to have it after the node that had it
    /// was lost.
    LockGrant {
        /// The lock.
        lock: LockId,
        /// The request that this fulfils.
        ticket: Ticket,
        /// The node that was lost with the lock.
        died: Option<NodeId>,
    },
    /// To the lock's home: nobody here needs it.
    LockRelease {
        /// The lock.
        lock: LockId,
        /// The request with which the sender got it.
        ticket: Ticket,
        /// As it would stand in a grant.
        died: Option<NodeId>,
        /// For whom it is, if for anyone: a call that tries.
        wanted: Option<(NodeId, Ticket)>,
    },
    /// From the lock's home to who was last in line: that one comes after you.
    LockForward {
        /// The lock.
        lock: LockId,
        /// The receiver's request.
        ticket: Ticket,
        /// Who comes next.
        node: NodeId,
        /// Its request.
        wanted: Ticket,
        /// Whether it waits for the lock; if not, it is to have it only when it is free.
        waits: bool,
    },
    /// From the lock's home, after a loss: is the lock with you? Keep it until you hear who comes next.
    LockQuery {
        /// The lock.
        lock: LockId,
        /// The home's name for the question.
        round: u64,
    },
    /// The answer.
    LockState {
        /// The lock.
        lock: LockId,
        /// The question's name.
        round: u64,
        /// The request under which the sender has the lock (true) or waits for it (false); `None` when it does neither.
        state: Option<(Ticket, bool)>,
    },
    /// To the home of locks that the sender waits for: it has lost this node, so no lock can come from there.
    LockCut {
        /// The node that the sender has lost.
        node: NodeId,
    },
    /// To the barrier's home: one more has arrived.
    BarrierArrive {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// How many make it complete.
        participants: u32,
    },
    /// To the barrier's home: this call no longer waits.
    BarrierCancel {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the barrier's home: all have arrived.
    BarrierRelease {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// How it is done from now on, if not by one message for each call.
        plan: Option<BarrierPlan>,
    },
    /// To the parent in the tree of a barrier: the calls of this node and of all nodes below it are here.
    BarrierGathered {
        /// The barrier.
        barrier: BarrierId,
        /// The home's name for how it is done.
        generation: u32,
        /// Which round, from 1.
        round: u64,
    },
    /// To the children in the tree of a barrier: all have arrived.
    BarrierOpened {
        /// The barrier.
        barrier: BarrierId,
        /// The home's name for how it is done.
        generation: u32,
        /// Which round, from 1.
        round: u64,
    },
    /// To the barrier's home: it cannot be done so. From the home: it is not any more.
    BarrierDissolve {
        /// The barrier.
        barrier: BarrierId,
        /// The home's name for how it was done.
        generation: u32,
        /// To the home, the round that the sender is in; from the home, how many rounds were opened.
        round: u64,
        /// To the home: the sender has lost a node that stands next to it in the tree.
        cut: bool,
    },
    /// To the parent in the tree of the barriers of `home`: this node and all below it know everything of `writer` up to `interval`.
    BarrierKnown {
        /// The home whose tree it is.
        home: NodeId,
        /// Whose notices.
        writer: NodeId,
        /// Up to which of its intervals.
        interval: u64,
    },
    /// From the barrier's home: others said `first`.
    BarrierMismatch {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// What the first to arrive said.
        first: u32,
        /// What this call said.
        this: u32,
    },
    /// From the barrier's home: node `node` is lost, so this barrier cannot complete.
    BarrierBroken {
        /// The barrier.
        barrier: BarrierId,
        /// The waiting call.
        ticket: Ticket,
        /// The lost node.
        node: NodeId,
    },
    /// From a lock's or barrier's home: its table is full.
    SyncRefused {
        /// The waiting call.
        ticket: Ticket,
    },
    /// To the coordinator: create this region or tell me where it is; `create` false waits until somebody creates it.
    RegionOpen {
        /// The waiting call.
        ticket: Ticket,
        /// Whether to create it.
        create: bool,
        /// What is asked for.
        spec: RegionSpec,
    },
    /// From the coordinator to everyone: map this.
    RegionMap {
        /// The region.
        region: RegionId,
        /// The round of the agreement.
        round: u16,
        /// Its properties, with a proposed address.
        spec: RegionSpec,
    },
    /// To the coordinator: mapped, or the address is taken here.
    RegionMapped {
        /// The region.
        region: RegionId,
        /// The round that this answers.
        round: u16,
        /// Whether it is mapped.
        mapped: bool,
    },
    /// From the coordinator to everyone: give the mapping up.
    RegionDrop {
        /// The region.
        region: RegionId,
        /// The round that is given up.
        round: u16,
    },
    /// From the coordinator to one who asked: the region is mapped everywhere.
    RegionReady {
        /// The waiting call.
        ticket: Ticket,
        /// The region.
        region: RegionId,
        /// Its properties as agreed.
        spec: RegionSpec,
    },
    /// From the coordinator to one who asked: it cannot be had.
    RegionRefused {
        /// The waiting call.
        ticket: Ticket,
        /// Why.
        refusal: RegionRefusal,
    },
    /// To the coordinator: this node has closed a region, once for each RegionReady.
    RegionClose {
        /// The call.
        ticket: Ticket,
        /// The region.
        region: RegionId,
    },
    /// From the coordinator to one who closed a region: it no longer counts as having it.
    RegionClosed {
        /// The call.
        ticket: Ticket,
    },
    /// To all: every node has closed this region. It is to be forgotten, and late messages about it mean nothing.
    RegionGone {
        /// The region.
        region: RegionId,
    },
    /// To the coordinator: this node has forgotten the region, and its addresses are free here.
    RegionForgotten {
        /// The region.
        region: RegionId,
    },
    /// From the coordinator to one who asked: it cannot be agreed on, because this node is lost.
    RegionBroken {
        /// The waiting call.
        ticket: Ticket,
        /// The lost node.
        node: NodeId,
    },
    /// To the page's home: what this node wrote of the page in its `interval` (in the payload, as a diff).
    Diff {
        /// The page.
        page: PageAddress,
        /// The sender's interval.
        interval: u64,
        /// Whether this is the last diff of the interval for this home.
        last: bool,
    },
    /// To the page's home, before the request: it is to be answered only when the diffs of `writer`'s `interval` have come.
    Need {
        /// The page.
        page: PageAddress,
        /// The request that follows.
        request: RequestId,
        /// Whose diffs.
        writer: NodeId,
        /// Up to which of its intervals.
        interval: u64,
    },
    /// A write notice: `writer` wrote these pages, last in its `interval`.
    Wrote {
        /// Who.
        writer: NodeId,
        /// When.
        interval: u64,
        /// The first of the pages.
        first: PageAddress,
        /// How many, at least 1.
        count: u32,
    },
    /// The notices of `writer` up to its `interval` have all been sent.
    Told {
        /// Whose notices.
        writer: NodeId,
        /// Up to which of its intervals.
        interval: u64,
    },
    /// The sender needs no notices of `writer` up to its `interval`.
    Knows {
        /// Whose notices.
        writer: NodeId,
        /// Up to which of its intervals.
        interval: u64,
    },
    /// Nobody needs notices of `writer` up to its `interval`: every node knows.
    Settled {
        /// Whose notices.
        writer: NodeId,
        /// Up to which of its intervals.
        interval: u64,
    },
    /// From the home to the one node that writes the page: keep it for me. The payload is the page as the home has it.
    Lend {
        /// The page.
        page: PageAddress,
        /// The receiver's interval whose diff of the page came to the home last.
        interval: u64,
    },
    /// The answer.
    LendReply {
        /// The page.
        page: PageAddress,
        /// Whether the page is kept from now on, so that its bytes are here and not at the home.
        taken: bool,
    },
    /// From the home to the page's owner: give it back.
    CallIn {
        /// The page.
        page: PageAddress,
    },
    /// To the home: the page's bytes (in the payload), which this node keeps no longer.
    Return {
        /// The page.
        page: PageAddress,
        /// The sender's last interval: its diffs for this home up to there have all been sent.
        interval: u64,
    },
    /// To the home, and from there to the page's owner: send `reader` the page unasked whenever it was written.
    Follow {
        /// The page.
        page: PageAddress,
        /// Who wants it; to the home, the sender.
        reader: NodeId,
    },
    /// As `Follow`: no longer.
    Unfollow {
        /// The page.
        page: PageAddress,
        /// Who wants it no longer; to the home, the sender.
        reader: NodeId,
    },
    /// To a follower: the page (in the payload) has all that `writer` wrote there up to its `interval`.
    Update {
        /// The page.
        page: PageAddress,
        /// Who wrote it; where the sender is not the home, the sender.
        writer: NodeId,
        /// Up to which of its intervals.
        interval: u64,
        /// The receiver's interval up to which its own diffs are in the page; 0 where there are none that are told.
        own: u64,
    },
    /// To the lock's home: I want it for `access`.
    RwAcquire {
        /// The lock.
        lock: RwLockId,
        /// The sender's name for the request: that of the first of its calls that wait.
        ticket: Ticket,
        /// With other readers, or alone.
        access: Access,
        /// Whether the call stands in line.
        waits: bool,
    },
    /// From the lock's home, or from who had it: you have it; with `died`, no writer has had it since its writer died.
    RwGrant {
        /// The lock.
        lock: RwLockId,
        /// The waiting call.
        ticket: Ticket,
        /// The node that died as its writer.
        died: Option<NodeId>,
    },
    /// From the lock's home, to a call that does not wait: others are in the way.
    RwBusy {
        /// The lock.
        lock: RwLockId,
        /// The call.
        ticket: Ticket,
    },
    /// To the lock's home: I no longer want or hold it.
    RwRelease {
        /// The lock.
        lock: RwLockId,
        /// As in the request.
        ticket: Ticket,
    },
    /// From the lock's home: you have it, and your threads take it and give it back among themselves until I call it back: readers, or with
    /// `access` to write all of them. Calls of yours that I have not answered are yours to serve.
    RwLeave {
        /// The lock.
        lock: RwLockId,
        /// The waiting call.
        ticket: Ticket,
        /// What it is left for.
        access: Access,
    },
    /// From the lock's home, to whom it is left with: give it back.
    RwRecall {
        /// The lock.
        lock: RwLockId,
        /// The call that comes next, if it is to have the lock straight from who keeps it alone.
        next: Option<(NodeId, Ticket)>,
    },
    /// To the lock's home, before [`Message::RwYield`]: this call of mine has it.
    RwHold {
        /// The lock.
        lock: RwLockId,
        /// The call.
        ticket: Ticket,
        /// With other readers, or alone.
        access: Access,
    },
    /// To the lock's home: I keep it no longer.
    RwYield {
        /// The lock.
        lock: RwLockId,
        /// What became of the call that was to have it next.
        next: Named,
    },
    /// Between the lock's home and a node that has the lock alone, or is to have it, in the call of this name: how it goes straight to the next.
    RwHandOver {
        /// The lock.
        lock: RwLockId,
        /// That call.
        ticket: Ticket,
        /// What is said about it.
        step: HandOver,
    },
    /// To the semaphore's home: it has so many units at first.
    SemaphoreInit {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
        /// How many.
        value: u32,
    },
    /// To the semaphore's home: I want a unit.
    SemaphoreWait {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
        /// Whether the call stands in line.
        waits: bool,
    },
    /// From the semaphore's home: you have a unit.
    SemaphoreGrant {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the semaphore's home, to a call that does not wait: there is no unit.
    SemaphoreBusy {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The call.
        ticket: Ticket,
    },
    /// To the semaphore's home: this call no longer waits.
    SemaphoreCancel {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The call.
        ticket: Ticket,
    },
    /// To the semaphore's home: one unit more.
    SemaphorePost {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// To the semaphore's home: the unit that it granted found nobody here.
    SemaphoreReturn {
        /// The semaphore.
        semaphore: SemaphoreId,
    },
    /// From the semaphore's home: it has the value, or the unit.
    SemaphoreDone {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the semaphore's home: it was given the value `first` before, which is another.
    SemaphoreMismatch {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
        /// That value.
        first: u32,
    },
    /// From the semaphore's home: it would have more units than it can.
    SemaphoreFull {
        /// The semaphore.
        semaphore: SemaphoreId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// To the condition's home: I wait for a signal.
    ConditionWait {
        /// The condition.
        condition: ConditionId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the condition's home: signals from now on reach you.
    ConditionQueued {
        /// The condition.
        condition: ConditionId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// To the condition's home: wake one, or all, who wait.
    ConditionSignal {
        /// The condition.
        condition: ConditionId,
        /// Whether all.
        all: bool,
    },
    /// From the condition's home: you are woken.
    ConditionWoken {
        /// The condition.
        condition: ConditionId,
        /// The waiting call.
        ticket: Ticket,
    },
    /// To the condition's home: this call's time is over; has it been woken?
    ConditionCancel {
        /// The condition.
        condition: ConditionId,
        /// The call.
        ticket: Ticket,
    },
    /// From the condition's home: it has not, and will not be.
    ConditionWithdrawn {
        /// The condition.
        condition: ConditionId,
        /// The call.
        ticket: Ticket,
    },
    /// To the master of an entry region: I want this range for `access`.
    RangeAcquire {
        /// Which bytes.
        range: ByteRange,
        /// The waiting call, and from the grant on the proof of holding.
        ticket: Ticket,
        /// With other readers, or alone.
        access: Access,
        /// Whether the call stands in line.
        waits: bool,
        /// The sender has all that was written to these bytes up to this time of the master.
        since: u64,
    },
    /// From the master: you have the range, and all of its bytes that you lacked have been sent.
    RangeGrant {
        /// The region.
        region: RegionId,
        /// The waiting call.
        ticket: Ticket,
        /// The master's time when the range was given.
        stamp: u64,
        /// A node that died while it had some of the range for writing.
        died: Option<NodeId>,
    },
    /// From the master, to a call that does not wait: others are in the way.
    RangeBusy {
        /// The region.
        region: RegionId,
        /// The call.
        ticket: Ticket,
    },
    /// To the master: I no longer want or hold the range.
    RangeRelease {
        /// As in the request.
        range: ByteRange,
        /// As in the request.
        ticket: Ticket,
        /// The call has given up: if it was granted the range, nobody has heard of it.
        unused: bool,
    },
    /// From the master: these bytes (in the payload) are part of what you lack.
    RangeBytes {
        /// Which bytes.
        range: ByteRange,
        /// The waiting call.
        ticket: Ticket,
    },
    /// From the master: you have the range, and lack bytes from `next` on; ask for them.
    RangePart {
        /// The region.
        region: RegionId,
        /// The waiting call.
        ticket: Ticket,
        /// Where in the region the first of them lies, bytes.
        next: u64,
    },
    /// To the master: send me of these bytes what was written after this time.
    RangeMore {
        /// The rest of the range.
        range: ByteRange,
        /// As in the request.
        ticket: Ticket,
        /// As in the request.
        since: u64,
    },
    /// To the master: I wrote these bytes (in the payload), which I have for writing.
    RangeWrite {
        /// Which bytes.
        range: ByteRange,
        /// As in the request.
        ticket: Ticket,
    },
    /// To everyone, from a node one of whose calls waited in vain: which of your threads hold this, and which wait for it?
    HoldQuery {
        /// What the call waited for.
        object: SyncObject,
        /// The asking node's name for this question.
        question: u32,
    },
    /// From each to whoever asked.
    HoldReply {
        /// Which question this answers.
        question: u32,
        /// How a thread here holds it; for writing where it can only be held alone.
        hold: Option<Access>,
        /// How many calls of this node wait for it.
        waiting: u32,
        /// How long it has been held so here, milliseconds.
        since_ms: u64,
    },
    /// To everyone: I am done with the shared memory, and go on serving until everyone is.
    Leaving,
    /// To everyone: I am gone.
    Goodbye,
}
