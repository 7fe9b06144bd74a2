//! What the switch counts, so that a measurement can say how many frames, waits and wake-ups an operation cost.

use std::sync::atomic::{AtomicU64, Ordering};

/// One monotonic count, written by any thread without ordering.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Traffic of one link since the switch was made; a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkCounters {
    /// Frames handed to the receiver.
    pub frames_in: u64,
    /// Bytes taken from the socket.
    pub bytes_in: u64,
    /// Frames queued for sending.
    pub frames_out: u64,
    /// Bytes the socket took.
    pub bytes_out: u64,
    /// Bytes of payloads that were not sent because the rest says the same, packed.
    pub bytes_saved: u64,
}

#[derive(Debug, Default)]
pub(super) struct LinkCounts {
    pub(super) frames_in: Count,
    pub(super) bytes_in: Count,
    pub(super) frames_out: Count,
    pub(super) bytes_out: Count,
    pub(super) bytes_saved: Count,
}

impl LinkCounts {
    pub(super) fn snapshot(&self) -> LinkCounters {
        LinkCounters {
            frames_in: self.frames_in.get(),
            bytes_in: self.bytes_in.get(),
            frames_out: self.frames_out.get(),
            bytes_out: self.bytes_out.get(),
            bytes_saved: self.bytes_saved.get(),
        }
    }
}

/// How often threads led, waited and were woken since the switch was made; a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwitchCounters {
    /// Times a thread became the leader.
    pub leads: u64,
    /// Times a leader entered a wait in which it could sleep.
    pub leader_waits: u64,
    /// Times the service thread entered a wait in which it could sleep.
    pub service_waits: u64,
    /// Times the service thread was woken because a socket was ready.
    pub service_wakes: u64,
    /// Times the service thread woke for nothing: a leader held the receive lock.
    pub service_met_leader: u64,
    /// System calls made to wake a sleeping leader.
    pub leader_wakes: u64,
    /// System calls made to wake the sleeping service thread.
    pub service_wake_calls: u64,
    /// Times a socket could not take all that was queued for it.
    pub sends_blocked: u64,
    /// Times a socket took bytes that may wait in it.
    pub sends_put_off: u64,
}

#[derive(Debug, Default)]
pub(super) struct SwitchCounts {
    pub(super) leads: Count,
    pub(super) leader_waits: Count,
    pub(super) service_waits: Count,
    pub(super) service_wakes: Count,
    pub(super) service_met_leader: Count,
    pub(super) leader_wakes: Count,
    pub(super) service_wake_calls: Count,
    pub(super) sends_blocked: Count,
    pub(super) sends_put_off: Count,
}

impl SwitchCounts {
    pub(super) fn snapshot(&self) -> SwitchCounters {
        SwitchCounters {
            leads: self.leads.get(),
            leader_waits: self.leader_waits.get(),
            service_waits: self.service_waits.get(),
            service_wakes: self.service_wakes.get(),
            service_met_leader: self.service_met_leader.get(),
            leader_wakes: self.leader_wakes.get(),
            service_wake_calls: self.service_wake_calls.get(),
            sends_blocked: self.sends_blocked.get(),
            sends_put_off: self.sends_put_off.get(),
        }
    }
}
