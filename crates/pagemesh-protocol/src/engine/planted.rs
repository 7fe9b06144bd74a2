//! Faults that are planted in an engine on purpose, to show that the checks see them.
//!
//! Each is one line where the fault would be made, behind [`Engine::planted`]. Without the feature `verification` that is
//! a constant `false`, and neither the lines nor a field for them are in the program; with it, an engine is sound
//! until [`Engine::plant`] is called on it.

use super::Engine;
use super::queue::{Arena, Queue, Waiter};
use crate::action::{Action, Actions};

/// A fault to plant: what the engine gets wrong.
#[cfg_attr(
    not(feature = "verification"),
    expect(unreachable_pub, reason = "it is public with the feature only")
)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Planted {
    /// A home grants a write when the first of several sharers has dropped its copy.
    GrantBeforeLastAck,
    /// A home does not write down that a reader has a copy.
    ForgetSharer,
    /// A writer's request takes the owner's copy while other sharers keep theirs.
    MoveWithoutInvalidate,
    /// A home writes its copy of a page beside those of others.
    WriteBesideSharers,
    /// A home sends a reader its copy whatever is under way on the page, and does not write down that it has one.
    SupplyWithoutEntry,
    /// A sharer whose own upgrade is under way keeps its copy when it is told to drop it.
    LoseUpgradeRace,
    /// A node that reads a page anew takes the bytes that it had before.
    StaleRefetch,
    /// A sharer whose thread still uses its copy says at once that the copy is gone.
    AckBeforeDrop,
    /// A home forgets the next request of a page's queue.
    SkipQueuedRequest,
    /// A home does not tell a node that others wait for its report.
    NeverHurries,
    /// A page's queue is served from its end.
    ServeNewestFirst,
    /// An owner that sends its copy for reading keeps the right to write.
    DowngradeStaysWritable,
    /// An owner sends its bytes before it gives up the right to write them.
    SendBeforeProtect,
    /// A holder of a page that migrates keeps its copy when it has sent it.
    KeepMigratedCopy,
    /// After a write the directory still names the owner before.
    KeepOldOwner,
    /// What a home grants itself comes after it has served the next request.
    AnswerSelfLate,
    /// A writer that joined the request of a reader is forgotten.
    ForgetJoinedWriter,
    /// A requester does not report that a third node's copy has come.
    ForgetReport,
    /// A copy is given up before the thread that waited for it has used it.
    TakeBeforeUse,
    /// A lock that is held is granted to the next who asks.
    DoubleLockGrant,
    /// A lock passes to the last who asked.
    LockNewestFirst,
    /// A call that gave up waiting for a lock is granted it.
    GrantCancelledLock,
    /// A barrier opens when one is still missing.
    BarrierOneEarly,
    /// A node that gathers a barrier speaks for its children when one is still missing.
    TreePassesEarly,
    /// A node that gathers a barrier does not tell its parent what was written below it.
    TreeTellsNothingUp,
    /// A node that gathers a barrier lets those below it go without what others wrote.
    TreeTellsNothingDown,
    /// The home goes on counting those who were gathered when they arrive anew.
    TreeCountsTwice,
    /// A call that gives up stays counted where its node has spoken for it.
    TreeKeepsCancelled,
    /// A node takes those below it in the tree to know what it knows.
    TreeKnowsForOthers,
    /// A lock is not set free when its holder dies.
    KeepDeadLockHolder,
    /// A node that was asked where a lock is sends it to who came next before that.
    KeepNextOverQuery,
    /// A page that was lost with its owner comes back as zeros.
    ZeroLostPage,
    /// A requester does not answer whether a lost supplier's copy has come.
    IgnoreRecall,
    /// A requester answers that twice.
    AnswerRecallTwice,
    /// A requester asks anew under the old number, so that it takes bytes which come late.
    RecallKeepsNumber,
    /// A home waits for the acknowledgement of a sharer that was lost.
    AwaitLostSharer,
    /// An anchor names everyone who asks as the home of the page.
    SettleHomeTwice,
    /// A node that was the home before it knew forgets who asked meanwhile.
    ForgetEarlyRequests,
    /// A node that gives a copy back takes it for gone at once, and its application keeps it.
    EvictWithoutUnmap,
    /// A home has the only copy of a page dropped when that is given back.
    EvictOnlyCopy,
    /// A home has an atomic operation done while others hold copies.
    AtomicBesideSharers,
    /// A holder does an atomic operation for another node twice.
    AtomicTwice,
    /// A home that has done an atomic operation in a release region writes no notice.
    AtomicUntold,
    /// A requester that collects drops writes as soon as the home has named the sharers.
    WriteBeforeLastDrop,
    /// A sharer that drops its copy for a requester does not tell it.
    DropUntold,
    /// A home grants a write with sharers to be waited for, and keeps its own copy.
    KeepOwnSharedCopy,
    /// A requester forgets a sharer that has told it before the home did.
    ForgetEarlyDrop,
    /// A home does not tell a requester that a sharer was lost.
    ForgetLostSharer,
    /// A requester takes the copy of a sharer that it has lost itself for gone.
    CountOwnLoss,
    /// A node that is taken for the owner of a page sends its copy although others have copies too.
    HintServesShared,
    /// An owner does what the home asks although the home does not know of the reader yet.
    HintAnswersEarly,
    /// An owner tells the home that the reader has its copy before the reader has said so.
    HintToldEarly,
    /// An owner does not tell the home whom it has sent the page.
    HintUntold,
    /// An owner does not tell the home that a reader was lost before it was heard.
    HintForgetsLoss,
    /// A home that is told of a reader does not write it down.
    HintForgetsReader,
    /// A home that is told of a reader does not ask the owner again.
    HintForgetsWaiting,
    /// A node keeps a region where it was when another address is agreed on.
    KeepOldAddress,
    /// A region counts as mapped everywhere when one node has not answered.
    RegionReadyEarly,
    /// A home takes note of a diff and leaves its page as it was.
    LoseDiff,
    /// A node leaves the last page that it wrote out of its notice.
    MissNotice,
    /// Who passes on a lock or opens a barrier does not tell what was written before.
    TellNothing,
    /// A twin is made when the application can write already.
    TwinAfterWriting,
    /// A home answers before the diffs have come that the requester's time demands.
    ServeBeforeDiffs,
    /// A home takes the first diff of an interval for all of them.
    FirstDiffIsLast,
    /// Notices count as known to all when the home of a barrier knows them.
    SettleUnknown,
    /// A home forgets settled notices although their diffs have not come.
    ForgetAwaitedDiffs,
    /// An acquirer keeps a copy that it can only read and that others have written.
    KeepNoticedCopy,
    /// An acquirer drops a copy with what its own threads have written there and not released.
    DropUnreleased,
    /// A copy that was on its way when its page was told of is used after the acquire.
    UseOutdatedData,
    /// A home goes on writing a page in place, without a notice, when another node gets a copy.
    HomeWritesUntold,
    /// A node takes over an update that lacks what it has written itself.
    UpdateOverOwnWrites,
    /// A notice takes nothing where an update has brought something of its writer, however old.
    SpareUnheard,
    /// A home sends an update, and only then writes the diff into the page that it tells of.
    UpdateBeforeDiff,
    /// Whoever sends an update forgets that its receiver has a copy then.
    UpdateUncounted,
    /// A reader-writer lock lets a writer in beside readers.
    WriterBesideReaders,
    /// Readers who stand in line for a reader-writer lock are never let in.
    StarveReaders,
    /// A reader-writer lock is not set free when its reader dies.
    KeepDeadReader,
    /// A home lets a writer in while the lock is left with others for reading.
    WriterBesideKeepers,
    /// A node that gives a lock back which was left with it does not say which of its threads have it.
    YieldAsFree,
    /// A node lets its threads in under a lock that it has given back to the home.
    KeepYieldedLock,
    /// A node that gives such a lock back does not tell what was written.
    YieldUntold,
    /// Who lets the next in to a reader-writer lock does not tell it what was written.
    HandOverUntold,
    /// Who lets the next in to a reader-writer lock does not tell the home what was written.
    HandOverHomeUntold,
    /// A home names a writer to one reader of several, as if that had the lock alone.
    NameAmongReaders,
    /// A home takes a call that gave up, and was let in all the same, for one that has the lock.
    CountGivenUp,
    /// A home minds nobody who has let others in before it heard that this one was let in.
    ForgetEarlyHandOver,
    /// A home that leaves a lock with a node goes on counting calls of that node as having it.
    LeaveBesideHold,
    /// A semaphore that somebody waits for forgets a unit that it is given.
    LosePost,
    /// A unit of a semaphore that was granted is still there.
    DoubleUnit,
    /// A unit that was granted to a call which gave up does not go back.
    KeepReturnedUnit,
    /// A signal takes the first from a condition's queue and does not wake it.
    LoseSignal,
    /// One signal wakes two.
    WakeTwo,
    /// A master grants ranges past those who stand in line.
    RangeBargesIn,
    /// A master takes ranges that overlap only in part for different ones.
    RangeMissesOverlap,
    /// A master does not keep in mind what was written.
    RangeForgetWrite,
    /// A master sends the first pieces of a range, and not the rest.
    RangeSkipsRest,
    /// A locker that got some bytes of a page takes itself to have the page.
    RangeKnowsWholePages,
    /// A call that gave up waiting for a range stays in line.
    RangeKeepsCancelled,
    /// The ranges of a node that died stay locked.
    RangeKeepsDeadHolder,
    /// Nobody is told that a writer died.
    RangeForgetDied,
    /// A copy whose writes the kernel notes is compared with its twin before it is unmapped.
    FlushBeforeUnmap,
    /// What was written to such a copy until it was unmapped is in no notice.
    ForgetFlushed,
    /// A copy that stays when its page goes back to the home has the twin of an earlier time.
    ReturnWithoutTwin,
    /// The diff of a page that is pinned for writing is made while it can be written, though the page goes.
    DiffWhilePinned,
    /// A release passes over all pages that are pinned for writing.
    PinnedUntold,
}

#[cfg(feature = "verification")]
impl Planted {
    /// Those of the entry protocol.
    pub const OF_ENTRY: [Planted; 8] = [
        Planted::RangeBargesIn,
        Planted::RangeMissesOverlap,
        Planted::RangeForgetWrite,
        Planted::RangeSkipsRest,
        Planted::RangeKnowsWholePages,
        Planted::RangeKeepsCancelled,
        Planted::RangeKeepsDeadHolder,
        Planted::RangeForgetDied,
    ];

    /// Those of barriers that are gathered in a tree.
    pub const OF_TREES: [Planted; 6] = [
        Planted::TreePassesEarly,
        Planted::TreeTellsNothingUp,
        Planted::TreeTellsNothingDown,
        Planted::TreeCountsTwice,
        Planted::TreeKeepsCancelled,
        Planted::TreeKnowsForOthers,
    ];

    /// Those of reader-writer locks that go from holder to holder.
    pub const OF_HAND_OVERS: [Planted; 6] = [
        Planted::HandOverUntold,
        Planted::HandOverHomeUntold,
        Planted::NameAmongReaders,
        Planted::CountGivenUp,
        Planted::ForgetEarlyHandOver,
        Planted::LeaveBesideHold,
    ];

    /// Those of reads that go to the owner of a page.
    pub const OF_HINTS: [Planted; 7] = [
        Planted::HintServesShared,
        Planted::HintAnswersEarly,
        Planted::HintToldEarly,
        Planted::HintUntold,
        Planted::HintForgetsLoss,
        Planted::HintForgetsReader,
        Planted::HintForgetsWaiting,
    ];

    /// All others.
    pub const ALL: [Planted; 78] = [
        Planted::GrantBeforeLastAck,
        Planted::ForgetSharer,
        Planted::MoveWithoutInvalidate,
        Planted::WriteBesideSharers,
        Planted::SupplyWithoutEntry,
        Planted::LoseUpgradeRace,
        Planted::StaleRefetch,
        Planted::AckBeforeDrop,
        Planted::SkipQueuedRequest,
        Planted::NeverHurries,
        Planted::ServeNewestFirst,
        Planted::DowngradeStaysWritable,
        Planted::SendBeforeProtect,
        Planted::KeepMigratedCopy,
        Planted::KeepOldOwner,
        Planted::AnswerSelfLate,
        Planted::ForgetJoinedWriter,
        Planted::ForgetReport,
        Planted::TakeBeforeUse,
        Planted::DoubleLockGrant,
        Planted::LockNewestFirst,
        Planted::GrantCancelledLock,
        Planted::BarrierOneEarly,
        Planted::KeepDeadLockHolder,
        Planted::KeepNextOverQuery,
        Planted::ZeroLostPage,
        Planted::IgnoreRecall,
        Planted::AnswerRecallTwice,
        Planted::RecallKeepsNumber,
        Planted::AwaitLostSharer,
        Planted::SettleHomeTwice,
        Planted::ForgetEarlyRequests,
        Planted::EvictWithoutUnmap,
        Planted::EvictOnlyCopy,
        Planted::WriteBeforeLastDrop,
        Planted::DropUntold,
        Planted::KeepOwnSharedCopy,
        Planted::ForgetEarlyDrop,
        Planted::ForgetLostSharer,
        Planted::CountOwnLoss,
        Planted::AtomicBesideSharers,
        Planted::AtomicTwice,
        Planted::KeepOldAddress,
        Planted::RegionReadyEarly,
        Planted::LoseDiff,
        Planted::MissNotice,
        Planted::TellNothing,
        Planted::TwinAfterWriting,
        Planted::ServeBeforeDiffs,
        Planted::FirstDiffIsLast,
        Planted::SettleUnknown,
        Planted::ForgetAwaitedDiffs,
        Planted::KeepNoticedCopy,
        Planted::DropUnreleased,
        Planted::UseOutdatedData,
        Planted::HomeWritesUntold,
        Planted::WriterBesideReaders,
        Planted::StarveReaders,
        Planted::KeepDeadReader,
        Planted::LosePost,
        Planted::DoubleUnit,
        Planted::KeepReturnedUnit,
        Planted::LoseSignal,
        Planted::WakeTwo,
        Planted::AtomicUntold,
        Planted::FlushBeforeUnmap,
        Planted::ForgetFlushed,
        Planted::ReturnWithoutTwin,
        Planted::WriterBesideKeepers,
        Planted::YieldAsFree,
        Planted::KeepYieldedLock,
        Planted::YieldUntold,
        Planted::UpdateOverOwnWrites,
        Planted::SpareUnheard,
        Planted::UpdateBeforeDiff,
        Planted::UpdateUncounted,
        Planted::DiffWhilePinned,
        Planted::PinnedUntold,
    ];
}

#[cfg(feature = "verification")]
impl Engine {
    /// From now on this engine has the fault.
    pub fn plant(&mut self, fault: Planted) {
        self.planted = Some(fault);
    }

    /// Whether this engine has the fault.
    pub(super) fn planted(&self, fault: Planted) -> bool {
        self.planted == Some(fault)
    }
}

#[cfg(not(feature = "verification"))]
impl Engine {
    /// No engine has a fault.
    #[expect(clippy::unused_self, reason = "with the feature it is a question to this engine")]
    pub(super) const fn planted(&self, _fault: Planted) -> bool {
        false
    }
}

/// Queues `item` before all others.
pub(super) fn push_first<T: Waiter>(arena: &mut Arena<T>, queue: &mut Queue, item: T) {
    let others: Vec<T> = std::iter::from_fn(|| arena.pop(queue)).collect();
    for item in std::iter::once(item).chain(others) {
        arena.push(queue, item);
    }
}

/// Makes a page's bytes leave before its rights are taken away.
pub(super) fn swap_last(out: &mut Actions) {
    if let [.., rights @ (Action::Protect(_) | Action::Unmap(_)), send @ Action::Send { .. }] = &mut out[..] {
        std::mem::swap(rights, send);
    }
}

/// Makes a twin be made after the right to write was given.
pub(super) fn swap_twin(out: &mut Actions) {
    if let [
        ..,
        twin @ Action::MakeTwin(_),
        right @ (Action::Unprotect(_) | Action::MapWrite(_) | Action::MapRead(_)),
    ] = &mut out[..]
    {
        std::mem::swap(twin, right);
    }
}
