//! What messages are made of that is theirs alone, and what they are about.

use crate::ids::{
    BarrierId, ByteRange, LockId, NodeId, PageAddress, RegionId, RwLockId, SemaphoreId, Ticket,
};
use crate::message::Message;
use crate::sharers::Sharers;

/// What follows a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Nothing.
    None,
    /// A page's bytes.
    Page,
    /// What changed of a page; nothing when nothing did.
    Diff,
    /// The bytes of a range: so many.
    Bytes(usize),
    /// Some bytes that are no page's.
    Piece,
}

/// How a meeting of all nodes ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum MeetingEnd {
    /// All came with the same claim.
    Agreed {
        /// How many meetings have ended so, with this one.
        round: u64,
    },
    /// They did not.
    Differs {
        /// The node that the first to come had claimed.
        root: NodeId,
        /// The number that it had claimed.
        number: u64,
    },
    /// They cannot all come.
    Broken {
        /// The lost node.
        lost: NodeId,
    },
}

/// How a barrier is done from now on: gathered in a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct BarrierPlan {
    /// The home's name for it, which it never gives again; not 0.
    pub generation: u32,
    /// How many make it complete; as many of each node.
    pub participants: u32,
}

/// What is said of a call that has a reader-writer lock alone, or is to have it, so that the lock goes from it straight to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum HandOver {
    /// From the home: when it gives the lock back, this call is to have it, beside those that were named before.
    Next {
        /// The node of that call.
        node: NodeId,
        /// The call.
        ticket: Ticket,
    },
    /// To the home: it has given the lock back, and the first so many of those that were named have it, at least one.
    Passed {
        /// How many.
        count: u32,
    },
    /// From the home: one that was named does not wait any more; forget all of them.
    Forget,
    /// The answer. One that has given the lock back before answers too, and nobody minds.
    Forgotten,
}

/// What became of the call that was named when a reader-writer lock was called back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Named {
    /// Nothing, or there was none: it is for the home to let it in.
    Left,
    /// It has the lock: nobody here had it.
    LetIn,
    /// It is to have it from the only call here that has it.
    KeptInMind,
}

/// What is said about a page whose sharers tell the writer itself that their copies are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Collect {
    /// From the home to a sharer: drop your copy.
    Drop {
        /// Whom to tell.
        requester: NodeId,
        /// Tell me instead, whether the copy goes or went before: the requester cannot hear you.
        again: bool,
        /// What to tell: unless this is empty, my grant with these nodes, of whom you are one.
        grant: Sharers,
    },
    /// From a sharer to the requester: the copy is gone.
    Dropped,
    /// To the requester, from the home or, with its own copy gone, from a sharer on the home's behalf: you may write your copy when those of
    /// these nodes are gone.
    Grant(Sharers),
    /// From the home to the requester: the page's bytes (in the payload), which you may write when the copies of these nodes are gone.
    Data(Sharers),
    /// From the requester to the home: I have lost this node, and have not heard that its copy is gone.
    Unheard(NodeId),
    /// From the home to the requester: the copy of a sharer is gone, or the sharer is.
    Gone {
        /// Which.
        sharer: NodeId,
        /// My grant, which may have been with it.
        grant: Sharers,
    },
}

/// What is said about a read of a page that goes to the node which the reader takes for the page's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Hint {
    /// From the reader to the supposed owner: send me your copy, for reading. It is answered by Data, or by a miss.
    Read,
    /// From the supposed owner to the reader: not I; ask the home.
    Miss,
    /// From the reader to the owner: the copy is here (true), or whatever you have sent is not used.
    Got(bool),
    /// From the owner to the home: I had the only copy, and may no longer write it since I have sent it to a reader.
    Served {
        /// The reader.
        reader: NodeId,
        /// What it has said.
        copy: ReaderCopy,
    },
    /// From the home to the owner: I know, and have forgotten what I asked of you about the page before.
    Known,
}

/// What the owner knows of a copy that it has sent to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ReaderCopy {
    /// The reader has it.
    Here,
    /// The reader does not use it.
    Unused,
    /// The owner has lost the reader before it heard.
    Unheard,
}

/// What threads of several nodes wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SyncObject {
    /// A mutual-exclusion lock.
    Lock(LockId),
    /// A reader-writer lock.
    RwLock(RwLockId),
    /// A semaphore.
    Semaphore(SemaphoreId),
    /// A barrier.
    Barrier(BarrierId),
    /// A range that can be locked, or any that has bytes in common with it.
    Range(ByteRange),
}

impl Message {
    /// The region whose pages or ranges the message is about; `None` where it is about none, and where the message is part of the agreement on a region.
    pub(crate) const fn about(&self) -> Option<RegionId> {
        if let Some(page) = self.page() {
            return Some(page.region);
        }
        match self {
            Message::Wrote { first, .. } => Some(first.region),
            Message::RangeAcquire { range, .. }
            | Message::RangeRelease { range, .. }
            | Message::RangeBytes { range, .. }
            | Message::RangeMore { range, .. }
            | Message::RangeWrite { range, .. } => Some(range.region),
            Message::RangeGrant { region, .. }
            | Message::RangeBusy { region, .. }
            | Message::RangePart { region, .. } => Some(*region),
            _ => None,
        }
    }

    /// Whether the sender may put the message off until it sends something else, or hears that somebody waits for it
    /// ([`Action::Hurry`](crate::Action::Hurry)): a report that the page has come, of which the home learns so that the next may have it.
    pub const fn may_wait(&self) -> bool {
        matches!(self, Message::Done { installed: true, .. })
    }

    /// What follows the message.
    pub const fn payload(&self) -> Payload {
        match self {
            Message::Data { .. }
            | Message::Lend { .. }
            | Message::Return { .. }
            | Message::Update { .. }
            | Message::Collect { step: Collect::Data(_), .. } => Payload::Page,
            Message::Diff { .. } => Payload::Diff,
            Message::RangeBytes { range, .. } | Message::RangeWrite { range, .. } => {
                Payload::Bytes(range.bytes as usize)
            }
            Message::Piece { .. } => Payload::Piece,
            _ => Payload::None,
        }
    }
}

impl Message {
    /// Whether handling the message may map memory or allocate: such a message is not for a thread in a fault handler.
    /// What may come after it on the same link does not depend on it until this node has answered it.
    pub const fn is_cold(&self) -> bool {
        matches!(
            self,
            Message::RegionOpen { .. }
                | Message::RegionMap { .. }
                | Message::RegionMapped { .. }
                | Message::RegionDrop { .. }
                | Message::RegionReady { .. }
                | Message::RegionRefused { .. }
                | Message::RegionBroken { .. }
                | Message::RegionClose { .. }
                | Message::RegionClosed { .. }
                | Message::RegionGone { .. }
                | Message::RegionForgotten { .. }
                | Message::HoldQuery { .. }
                | Message::HoldReply { .. }
                | Message::Leaving
                | Message::Goodbye
        )
    }

    /// The page that the message is about.
    pub const fn page(&self) -> Option<PageAddress> {
        match *self {
            Message::PageRequest { page, .. }
            | Message::Data { page, .. }
            | Message::Grant { page, .. }
            | Message::Deny { page, .. }
            | Message::Fetch { page, .. }
            | Message::Done { page, .. }
            | Message::Recall { page, .. }
            | Message::Invalidate { page }
            | Message::InvalidateAck { page }
            | Message::Collect { page, .. }
            | Message::Hint { page, .. }
            | Message::Evict { page }
            | Message::OwnerQuery { page, .. }
            | Message::OwnerReply { page, .. }
            | Message::HomeClaim { page, .. }
            | Message::HomeNamed { page, .. }
            | Message::HomeQuery { page, .. }
            | Message::HomeReply { page, .. }
            | Message::AtomicRequest { page, .. }
            | Message::AtomicForward { page, .. }
            | Message::AtomicDone { page, .. }
            | Message::AtomicReply { page, .. }
            | Message::AtomicDeny { page, .. }
            | Message::AtomicCancel { page, .. }
            | Message::AtomicWithdrawn { page, .. }
            | Message::Diff { page, .. }
            | Message::Need { page, .. }
            | Message::Lend { page, .. }
            | Message::LendReply { page, .. }
            | Message::CallIn { page }
            | Message::Return { page, .. }
            | Message::Follow { page, .. }
            | Message::Unfollow { page, .. }
            | Message::Update { page, .. } => Some(page),
            _ => None,
        }
    }
}
