//! One link of the switch: the socket, its send side, and how it ended.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::counters::LinkCounts;
use super::late::Haste;
use super::loss::LinkLoss;
use super::outgoing::Outgoing;
use crate::frame::FramePrefix;
use crate::ring::RingLink;

/// Everything about one peer except what was received from it, which belongs to whoever receives.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    /// Where there is one, all messages go through it, and the stream only tells of the peer's end.
    pub(super) ring: Option<RingLink>,
    pub(super) outgoing: Outgoing,
    pub(super) counts: LinkCounts,
    /// What this node sends is to be packed, since the peer asks for that; and this node asks the peer.
    pub(super) packs: AtomicBool,
    pub(super) asks: AtomicBool,
    /// What may be put off here and at the peer.
    pub(super) haste: Haste,
    /// Nothing more may be queued.
    ended: AtomicBool,
    /// What still arrives is thrown away.
    deaf: AtomicBool,
    /// The first reason for the end.
    loss: Mutex<Option<LinkLoss>>,
}

impl Link {
    pub(super) fn new(stream: TcpStream, ring: Option<RingLink>) -> Self {
        Self {
            stream,
            ring,
            outgoing: Outgoing::new(),
            counts: LinkCounts::default(),
            packs: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            haste: Haste::default(),
            ended: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            loss: Mutex::new(None),
        }
    }

    /// The prefix of a frame to the peer, with what this node wants of it.
    pub(super) fn wishes(&self, prefix: FramePrefix) -> FramePrefix {
        prefix.asking(self.asks.load(Ordering::Relaxed)).hurrying(self.haste.is_asking())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    /// Sending failed. What the peer sent before its end may still be unread and is delivered first: the broken
    /// socket stays readable (`EPOLLHUP`) until whoever receives has come to its end and reports the loss.
    pub(super) fn end_sending(&self, why: LinkLoss) {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.ended.store(true, Ordering::Release);
    }

    /// This node ends the link. `shutdown(2)` makes the socket readable, so whoever receives wakes and reports the
    /// loss. Returns the reason that counts: the first one.
    pub(super) fn end(&self, why: LinkLoss) -> LinkLoss {
        let first = self.loss.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why).clone();
        self.ended.store(true, Ordering::Release);
        self.deaf.store(true, Ordering::Release);
        // ENOTCONN: the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.outgoing.close();
        first
    }
}
