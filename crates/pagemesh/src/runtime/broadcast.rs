//! Private bytes that one node passes on to all others.
//!
//! Every node comes to a meeting, after which each has room for the next bytes; then the root sends these in pieces straight to each other node, so
//! that they move once a node and no page moves. More than [`limits::PIECES_BYTES`] take further meetings, so that nobody is sent more than
//! it has room for.

use super::shard::Load;
use super::{CallFailure, Runtime, lock};
use crate::{Holders, NodeId, SyncError};
use pagemesh_protocol::limits::{PIECE_BYTES, PIECES_BYTES};
use pagemesh_protocol::{Failure, Message, Outcome};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Marks the claim of a meeting that is not the first of its broadcast, and so tells those who are at the first from those who are not.
const FURTHER: u64 = 1 << 63;
/// The claim of a node that cannot take part: more bytes than there can be.
const NEITHER: u64 = u64::MAX;

/// What this node does in a broadcast.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// These bytes are passed on.
    From(&'a [u8]),
    /// The bytes of `root` come here.
    Into(NodeId, &'a mut [u8]),
    /// Nothing: the others are to be told.
    Neither,
}

/// What was sent here in a round.
#[derive(Debug, Default)]
struct Inbox {
    round: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Broadcast {
    /// Whether a thread of this node is at it.
    taken: Mutex<bool>,
    free: Condvar,
    inbox: Mutex<Inbox>,
}

/// The right of one thread to be at it.
struct Turn<'a>(&'a Broadcast);

impl Broadcast {
    fn take(&self, timeout: Duration) -> Option<Turn<'_>> {
        let waited = self.free.wait_timeout_while(lock(&self.taken), timeout, |taken| *taken);
        let (mut taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        *taken = true;
        Some(Turn(self))
    }

    /// Keeps a piece; there is room for it since before this node came to the meeting.
    pub(super) fn keep(&self, round: u64, offset: u32, load: Load<'_>) {
        let Load::Bytes(piece) = load else { return };
        let mut inbox = lock(&self.inbox);
        if inbox.round != round {
            inbox.round = round;
            inbox.bytes.clear();
        }
        let end = offset as usize + piece.len();
        if inbox.bytes.len() < end {
            inbox.bytes.resize(end, 0);
        }
        inbox.bytes[offset as usize..end].copy_from_slice(piece);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        self.0.free.notify_one();
    }
}

impl Runtime {
    /// Takes part in a broadcast of all nodes.
    pub(crate) fn broadcast(&self, part: Part<'_>) -> Result<(), SyncError> {
        let mut part = part;
        let (root, bytes) = match &part {
            Part::From(bytes) => (self.node, bytes.len()),
            Part::Into(root, bytes) => (*root, bytes.len()),
            Part::Neither => (self.node, NEITHER as usize),
        };
        let what = || format!("a broadcast of {bytes} bytes from node {root}");
        let Some(_turn) = self.broadcast.take(self.wait_timeout) else {
            return Err(SyncError::TimedOut {
                what: what(),
                after: self.wait_timeout,
                holders: Holders::default(),
            });
        };
        if matches!(part, Part::Into(..)) {
            let mut inbox = lock(&self.broadcast.inbox);
            let there = inbox.bytes.len();
            inbox.bytes.reserve(bytes.min(PIECES_BYTES).saturating_sub(there));
        }
        let mut done = 0;
        loop {
            let left = (bytes - done) as u64;
            let claim = if done == 0 { left } else { left | FURTHER };
            let met = self.meet(root, claim);
            let round = met.map_err(|failure| self.broadcast_failed(failure, (root, bytes), what()))?;
            let here = done..done + (bytes - done).min(PIECES_BYTES);
            done = here.end;
            if !here.is_empty() {
                let passed = match &mut part {
                    Part::From(bytes) => {
                        self.send_pieces(round, &bytes[here]);
                        Ok(())
                    }
                    Part::Into(root, bytes) => self.receive_pieces(round, *root, &mut bytes[here]),
                    Part::Neither => Ok(()),
                };
                passed.map_err(|failure| self.broadcast_failed(failure, (root, bytes), what()))?;
            }
            if done == bytes || matches!(part, Part::Neither) {
                return Ok(());
            }
        }
    }

    fn meet(&self, root: NodeId, claim: u64) -> Result<u64, CallFailure> {
        let met =
            self.call(self.wait_timeout, |engine, ticket, out| engine.on_meeting(ticket, root, claim, out));
        match met? {
            Outcome::Met(round) => Ok(round),
            _ => unreachable!("a meeting that ends well has a round"),
        }
    }

    fn send_pieces(&self, round: u64, bytes: &[u8]) {
        self.wait_room(Instant::now() + self.fault_timeout);
        let view = pagemesh_protocol::View::FIRST;
        let last = (bytes.len() - 1) / PIECE_BYTES;
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let offset = (index * PIECE_BYTES) as u32;
            let mut encoded = [0; Message::MAX_BYTES];
            let message = Message::Piece { round, offset, last: index == last };
            let length = message.encode(view, &mut encoded);
            for peer in (0..self.nodes).filter(|peer| *peer != self.node.get()) {
                // A link that has ended is reported to whoever receives, and those who meet next are told.
                let _ = self.switch.enqueue(peer, &encoded[..length], piece);
            }
        }
        self.switch.flush();
    }

    fn receive_pieces(&self, round: u64, root: NodeId, bytes: &mut [u8]) -> Result<(), CallFailure> {
        self.call(self.wait_timeout, |engine, ticket, out| {
            engine.on_pieces_wanted(ticket, root, round, out);
        })?;
        // The caller's bytes may fault, and what is received meanwhile may be a piece.
        let taken = std::mem::take(&mut lock(&self.broadcast.inbox).bytes);
        let found = taken.get(..bytes.len()).filter(|_| taken.len() == bytes.len());
        let fits = found.map(|found| bytes.copy_from_slice(found));
        let mut inbox = lock(&self.broadcast.inbox);
        if inbox.bytes.is_empty() && inbox.round == round {
            inbox.bytes = taken;
            inbox.bytes.clear();
        }
        fits.ok_or(CallFailure::Failed(Failure::Limit("the root sent other bytes than were agreed on")))
    }

    fn broadcast_failed(
        &self,
        failure: CallFailure,
        (root, bytes): (NodeId, usize),
        what: String,
    ) -> SyncError {
        match failure {
            CallFailure::Failed(Failure::ClaimsDiffer { root: first_root, number }) => {
                SyncError::BroadcastMismatch {
                    root,
                    bytes: bytes as u64,
                    first_root,
                    first_bytes: number & !FURTHER,
                }
            }
            failure => failure.into_sync_error(self, what),
        }
    }
}
