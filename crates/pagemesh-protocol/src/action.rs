//! What the engine asks its caller to do. Plain data: the engine performs nothing itself.

use crate::atomic::AtomicOperation;
use crate::engine::PinWait;
use crate::ids::{ByteRange, NodeId, PageAddress, RegionId, Ticket};
use crate::message::Message;
use crate::region::RegionSpec;

/// The caller's buffer: actions are appended and are to be performed in order.
pub type Actions = Vec<Action>;

/// One effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send `message` to another node; with `payload`, the bytes of that page of this node follow it. They must be
    /// read when the action is performed: rights were removed before, and may be given back after.
    Send {
        /// The receiver, never this node.
        to: NodeId,
        /// What to say.
        message: Message,
        /// The page whose bytes go along.
        payload: Option<PageAddress>,
    },
    /// Send `message` to another node with what differs between the bytes of `page` and its twin, which is over then; or, with
    /// `keep_twin`, is from then on what was sent. Without it nobody can write the page.
    SendDiff {
        /// The receiver, never this node.
        to: NodeId,
        /// What to say.
        message: Message,
        /// The page.
        page: PageAddress,
        /// Whether the page is still being written.
        keep_twin: bool,
    },
    /// Threads could write `page` without a fault until it was unmapped, earlier in this event. If they did since it was granted for
    /// reading, report it by [`Engine::on_flushed`](crate::Engine::on_flushed) after this event; with `diff`, send what differs
    /// from the page's twin by this message to this node, and nothing when nothing does. The twin is over.
    Flush {
        /// The page.
        page: PageAddress,
        /// Who is told, and by what message.
        diff: Option<(NodeId, Message)>,
    },
    /// Send `message` to another node with these bytes of this node, as they are when the action is performed.
    SendBytes {
        /// The receiver, never this node.
        to: NodeId,
        /// What to say.
        message: Message,
        /// The bytes that go along, at most [`RANGE_PIECE_BYTES`](crate::limits::RANGE_PIECE_BYTES).
        range: ByteRange,
    },
    /// Copy the payload of the message being handled into the service view, over these bytes; no thread that keeps to its locks uses them.
    StoreBytes(ByteRange),
    /// See to it that the memory of this page exists, with the bytes that it has: zeros where nothing was stored.
    Materialise(PageAddress),
    /// Keep a twin of this page, which nobody can write yet.
    MakeTwin(PageAddress),
    /// The twin of this page is over.
    DropTwin(PageAddress),
    /// Write what the payload of the message being handled says has changed into the service view of this page, and no other byte:
    /// others are writing those.
    ApplyDiff(PageAddress),
    /// As `ApplyDiff`; and keep in mind which bytes these are until [`Action::FillAround`] or [`Action::DropTwin`]. The page is lent, nobody
    /// here can access it and it has no twin.
    ApplyMarked(PageAddress),
    /// Copy the payload of the message being handled into the service view of this page, but for the bytes that
    /// [`Action::ApplyMarked`] wrote, whose mark is over. Nobody can access the page.
    FillAround(PageAddress),
    /// The payload of the message being handled is this page as others know it: write into the service view what differs there from the
    /// page's twin, which is over; or, where there is none, what differs from the page. The application may be reading the page and, where it
    /// has a twin, writing other bytes.
    Adopt(PageAddress),
    /// As `Adopt`, but the twin, where there is one, stays and is brought to what others know: the payload is newer than the page, and the page is
    /// still this node's own copy.
    Update(PageAddress),
    /// Keep a twin of this page, which is being written: it is to be made before the page's bytes are read for the next action.
    TwinWhileWritten(PageAddress),
    /// Do the operation in place, in the service view of this page, atomically with what threads of this node do to it; then answer
    /// with what the word was. No other node has a copy that can be used, and the page's rights here stay as they are.
    Atomic {
        /// The page.
        page: PageAddress,
        /// What to do.
        operation: AtomicOperation,
        /// The node that wants it.
        requester: NodeId,
        /// Its call.
        ticket: Ticket,
        /// Who is told.
        answer: AtomicAnswer,
    },
    /// Keep the payload of the message being handled: it lies at this offset of what is passed on in this round.
    TakePiece {
        /// The round; what is kept of an older one is over.
        round: u64,
        /// Where the bytes lie.
        offset: u32,
    },
    /// Copy the payload of the message being handled into the service view of this page, which nobody can access.
    Fill(PageAddress),
    /// Zero this page in the service view; nobody can access it.
    FillZero(PageAddress),
    /// Let the application read this page. It was not accessible, or is already readable.
    MapRead(PageAddress),
    /// Let the application read and write this page. It was not accessible, or is already so.
    MapWrite(PageAddress),
    /// Let the application write this page, which it can already read.
    Unprotect(PageAddress),
    /// Take away the right to write this page; it stays readable.
    Protect(PageAddress),
    /// Take away all access to this page; its bytes stay in the service view.
    Unmap(PageAddress),
    /// Map this region at the proposed address and report by
    /// [`Engine::on_region_mapped`](crate::Engine::on_region_mapped).
    MapRegion {
        /// The region.
        region: RegionId,
        /// The round of the agreement, to be reported back.
        round: u16,
        /// Its properties, the proposed address among them.
        spec: RegionSpec,
    },
    /// Undo the mapping of this region: its address was taken somewhere.
    UnmapRegion(RegionId),
    /// The region is gone: every node has closed it, and nothing more is said about it. Undo its mapping, end its twins, and report by
    /// [`Engine::on_region_forgotten`](crate::Engine::on_region_forgotten) when its addresses are free.
    ForgetRegion(RegionId),
    /// A waiting call is over.
    Complete {
        /// The call.
        ticket: Ticket,
        /// How it went.
        outcome: Outcome,
    },
    /// Others want a page that threads of this node were given and may not have touched yet. Let these run first, then call
    /// [`Engine::on_postponed`](crate::Engine::on_postponed); once for any number of these actions is enough.
    Postpone,
    /// Others wait for what this node is to report, which it may have put off ([`Message::may_wait`]).
    Hurry(NodeId),
    /// A demand of another node waits for pins of this node. Unless they end before, call
    /// [`Engine::on_pins_expired`](crate::Engine::on_pins_expired) with this wait when the deadline for pins has passed.
    AwaitUnpin(PinWait),
    /// A node said that it leaves; report it by [`Engine::on_peer_lost`](crate::Engine::on_peer_lost) when its
    /// connection is closed.
    Departed(NodeId),
}

/// Who is told what the word was that an atomic operation has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtomicAnswer {
    /// The call itself, of this node: it is over, with [`Outcome::Word`].
    Call,
    /// The requester, by [`Message::AtomicReply`].
    Requester,
    /// The page's home, by [`Message::AtomicDone`].
    Home(NodeId),
    /// Nobody: the call has given up.
    Nobody,
}

impl AtomicAnswer {
    /// The message that tells `old`, and to whom; `None` where the answer needs none.
    pub const fn message(
        self,
        page: PageAddress,
        requester: NodeId,
        ticket: Ticket,
        old: u64,
    ) -> Option<(NodeId, Message)> {
        match self {
            AtomicAnswer::Requester => Some((requester, Message::AtomicReply { page, ticket, old })),
            AtomicAnswer::Home(home) => Some((home, Message::AtomicDone { page, requester, ticket, old })),
            AtomicAnswer::Call | AtomicAnswer::Nobody => None,
        }
    }
}

/// How a waiting call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has what it asked for.
    Done,
    /// The region is mapped on every node, at this address.
    Region {
        /// Its number.
        region: RegionId,
        /// Its properties as agreed.
        spec: RegionSpec,
    },
    /// The atomic operation is done; the word was this before.
    Word(u64),
    /// All nodes have met, with the same claim, for the so-manieth time.
    Met(u64),
    /// The answer to the question who owns a page.
    Owner(PageOwner),
    /// The answer to the question who is the home of a page; `None` while nobody has touched it.
    Home(Option<NodeId>),
    /// It has the lock, whose holder was this node when it was lost: what the lock protects may be half changed.
    OwnerDied(NodeId),
    /// It failed.
    Failed(Failure),
}

/// Who has the authoritative copy of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PageOwner {
    /// Nobody has touched it yet: it is zero.
    Nobody,
    /// This node.
    Node(NodeId),
    /// Its only copy went with this node.
    Lost(NodeId),
}

/// Why a waiting call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The node that had to answer was lost.
    PeerLost(NodeId),
    /// The only copy of the page was held by this node, which was lost.
    PageLost(NodeId),
    /// Somebody else holds the lock, and the call did not want to wait.
    Busy,
    /// This thread's node already waits for or holds the lock under this ticket's name, or a bound was reached.
    Limit(&'static str),
    /// The barrier was entered with different numbers of participants.
    BarrierMismatch {
        /// What the first to arrive said.
        first: u32,
        /// What this call said.
        this: u32,
    },
    /// The semaphore was given another value before.
    SemaphoreMismatch {
        /// That value.
        first: u32,
    },
    /// The nodes have met with different claims.
    ClaimsDiffer {
        /// The node that the first to come had claimed.
        root: NodeId,
        /// The number that it had claimed.
        number: u64,
    },
    /// The wait for a condition was given up, and nobody had signalled it.
    NotSignalled,
    /// The atomic operation was given up before anything was done.
    Withdrawn,
    /// This node was lost while it was to do the atomic operation, or to have it done: nobody can know whether it was done.
    Unanswered(NodeId),
    /// The region cannot be had.
    RegionRefused(RegionRefusal),
    /// The region is gone: every node has closed it, this one too.
    RegionClosed,
}

/// Why a region cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum RegionRefusal {
    /// It exists with another size.
    SizeDiffers {
        /// Pages of the existing region.
        pages: u64,
    },
    /// It exists with another placement or protocol.
    OptionsDiffer,
    /// It exists at another address than the one asked for.
    AddressDiffers {
        /// Where it is.
        address: u64,
    },
    /// The address asked for, or every address tried, is taken on this node.
    AddressTaken {
        /// The node.
        node: NodeId,
        /// The address that was tried last.
        address: u64,
    },
    /// No more regions, or no address range of this size is left.
    Exhausted,
}
