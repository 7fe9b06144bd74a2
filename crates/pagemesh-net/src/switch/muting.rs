//! Sockets that a thread looks at itself, and that tell nobody else meanwhile.
//!
//! What arrives at a socket tells the epoll that watches it, on the sender's core and while the socket is locked: a thread that looks at this very
//! socket without sleeping has its bytes later by that, and the service thread has to be stood down lest it be woken. So such a thread *mutes*
//! the socket: with `SO_RCVLOWAT` above what a reply has (socket(7), tcp(7); Linux 4.18), nobody is told before so many bytes are there, or the
//! end of the connection. That costs less than to stand the service thread down, and it may come after the request was sent.
//!
//! At most one socket is muted. Whoever has the receive lock and finds one muted looks at it, or unmutes it; and **nobody sleeps, and no leader
//! leaves, before it is unmuted**. When the mark goes down, the kernel tells of what is there already. A leader unmutes when it has given back the lock,
//! so that a service thread that is told finds it free. The next leader may have muted the socket by then; it is told of
//! its reply, and unmutes the socket again when it leaves: the last to leave is the last to unmute.
//!
//! Other peers' messages wake the service thread while a leader has muted one socket and has not stood it down. It finds the receive lock held, and
//! leaders do without muting for a while (`Switch::crossed`).

use super::Switch;
use super::receiving::{Incoming, Receiving};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Sets the number of bytes that a socket must hold before it tells anyone: `SO_RCVLOWAT`.
pub type LowMark = fn(BorrowedFd<'_>, u32) -> io::Result<()>;

/// More than the reply with one page has. The kernel keeps room for twice as much, which every socket has from the beginning.
const MUTED_BYTES: u32 = 16 * 1024;
/// Messages in a row from one peer, after which the next is likely to come from there too.
const STEADY: u32 = 4;

/// Which peer's socket a receiving thread looks at itself.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// The peer that was asked last and has sent nothing since: its reply is mostly what is waited for.
    asked: Option<u16>,
    /// The peer that sent last, and how often in a row it did.
    recent: u16,
    times: u32,
    muted: Option<u16>,
}

impl Attention {
    /// Another thread leads from now on.
    pub(super) fn begin_lead(&mut self) {
        self.asked = None;
    }

    /// A request has been sent to `peer`.
    pub(super) fn ask(&mut self, peer: u16) {
        self.asked = Some(peer);
        self.times = 0;
    }

    /// Something has come from `peer`.
    pub(super) fn came(&mut self, peer: u16) {
        if self.asked == Some(peer) {
            self.asked = None;
        }
        self.times = if self.recent == peer { self.times.saturating_add(1) } else { 1 };
        self.recent = peer;
    }

    /// The peer that sent last.
    pub(super) fn recent(&self) -> u16 {
        self.recent
    }

    /// Whether a request is to be answered.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// The peer that the next message is likely to come from.
    pub(super) fn likely(&self) -> Option<u16> {
        if self.is_steady() { Some(self.recent) } else { self.asked }
    }

    /// Whether one peer has sent several messages in a row.
    pub(super) fn is_steady(&self) -> bool {
        self.times >= STEADY
    }

    /// The socket that this thread leaves muted, and has to unmute.
    pub(super) fn take_muted(&mut self) -> Option<u16> {
        self.muted.take()
    }
}

impl Receiving {
    /// Mutes the socket of `peer`, and no other; false when it is not to be muted.
    pub(super) fn mute(&mut self, switch: &Switch, peer: Option<u16>) -> bool {
        let peer = peer.filter(|peer| self.may_mute(switch, *peer));
        if self.attention.muted != peer {
            self.unmute(switch);
            self.attention.muted = peer.filter(|peer| switch.set_low_mark(*peer, MUTED_BYTES));
        }
        self.attention.muted.is_some()
    }

    /// Not where more than the mark comes at a time: that would tell of itself.
    fn may_mute(&mut self, switch: &Switch, peer: u16) -> bool {
        let brings_little = |incoming: &mut Incoming| !incoming.brings(MUTED_BYTES as usize);
        switch.is_socket(peer)
            && self.link_and_incoming(switch, peer).is_some_and(|(_, incoming)| brings_little(incoming))
    }

    pub(super) fn unmute(&mut self, switch: &Switch) {
        if let Some(peer) = self.attention.take_muted() {
            switch.unmute(peer);
        }
    }
}

impl Switch {
    /// Has threads that look without sleeping mute sockets, by means of `low_mark`. Without it, or after it was called once, nothing changes.
    pub fn set_muting(&self, low_mark: LowMark) {
        let _ = self.low_mark.set(low_mark);
    }

    pub(super) fn unmute(&self, peer: u16) {
        self.set_low_mark(peer, 1);
    }

    fn set_low_mark(&self, peer: u16, bytes: u32) -> bool {
        let (Some(set), Some(link)) = (self.low_mark.get(), self.link(peer)) else { return false };
        // Of a socket that is open it can be set.
        set(link.stream.as_fd(), bytes).is_ok()
    }

    /// The service thread is about to sleep. If a leader receives, it is the leader's to unmute what is muted.
    pub(super) fn unmute_before_sleep(&self) {
        if self.low_mark.get().is_some()
            && let Some(mut receiving) = self.try_receiving()
        {
            receiving.unmute(self);
        }
    }
}
