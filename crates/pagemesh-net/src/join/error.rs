//! Why a node could not join.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::ring::NoRing;

use super::message::{NodeSet, Refusal, WIRE_VERSION};

/// Why the mesh was not formed, as this node sees it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The options contradict themselves. Nothing was tried.
    #[error("cannot join: {what}")]
    Configuration {
        /// What was asked, and what is possible.
        what: String,
    },
    /// The address to listen on or to dial cannot be used.
    #[error("cannot join: address {address} cannot be used: {source}; give one that this machine has")]
    BadAddress {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// Another process listens on the coordinator's address.
    #[error("cannot join: another process listens on {address}; choose another port, or end that process")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// Not all nodes came in time.
    #[error(
        "cannot join: after {after:?} {waiting_for} had not come; missing nodes: {missing:?}; start them, or allow more time"
    )]
    Timeout {
        /// The time that was allowed.
        after: Duration,
        /// What this node was waiting for.
        waiting_for: &'static str,
        /// The nodes that were not there.
        missing: Vec<u16>,
    },
    /// Another node turned this one away.
    #[error("cannot join: node {by} refused node {node}: {text}")]
    Refused {
        /// This node.
        node: u16,
        /// The node that refused.
        by: u16,
        /// Why, for programs.
        reason: Refusal,
        /// Why, in its words.
        text: String,
    },
    /// A node ended, or was cut off, while the mesh was being formed.
    #[error("cannot join: node {node} vanished while the mesh was being formed; look at its output")]
    PeerVanished {
        /// The node.
        node: u16,
    },
    /// Shared memory was insisted on, and cannot be had with this node.
    #[error(
        "cannot join: no shared memory with node {node}: {reason}; allow TCP, or start the nodes as one user on one host"
    )]
    NoRing {
        /// The node.
        node: u16,
        /// Why.
        reason: NoRing,
    },
    /// Something that is not a pagemesh node of this version answers at the address of one.
    #[error(
        "cannot join: what answers at {address} is no pagemesh node of wire version {WIRE_VERSION}: {what}"
    )]
    NotPagemesh {
        /// The address.
        address: SocketAddr,
        /// What it said.
        what: String,
    },
    /// The kernel refused something else.
    #[error("cannot join: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl JoinError {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// What a node says when `by` has sent it a Refused.
    pub(super) fn refused(
        (node, nodes): (u16, u16),
        by: u16,
        (reason, concerned, text): (Refusal, NodeSet, String),
        after: Duration,
    ) -> Self {
        let concerned = concerned.members(nodes);
        match (reason, concerned.first()) {
            (Refusal::Vanished, Some(vanished)) => Self::PeerVanished { node: *vanished },
            (Refusal::Timeout, Some(_)) => {
                Self::Timeout { after, waiting_for: "all nodes", missing: concerned }
            }
            _ => Self::Refused { node, by, reason, text },
        }
    }
}
