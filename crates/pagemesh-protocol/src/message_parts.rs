//! What messages are made of that is theirs alone.

use crate::ids::NodeId;

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
