//! What is read from a userfaultfd.

use super::raw;
use crate::Access;

/// Why an access was a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FaultCause {
    /// The file does not hold the page.
    Missing,
    /// The file holds it, the page table has no entry for it.
    Minor,
    /// It is there, and write-protected.
    WriteProtected,
}

/// A fault whose thread sleeps until it is answered: `struct uffd_msg` of `userfaultfd(2)`, for the event
/// `UFFD_EVENT_PAGEFAULT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultMessage {
    /// Where: the first byte of the page.
    pub address: usize,
    /// What the access wanted.
    pub access: Access,
    /// Why it was a fault.
    pub cause: FaultCause,
    /// Whose it was, as `gettid(2)` returns it; 0 without [`Features::THREAD_ID`](super::Features::THREAD_ID). Not
    /// necessarily of this process: a debugger's accesses fault too.
    pub thread: u32,
}

impl FaultMessage {
    /// Size of a message.
    pub(super) const BYTES: usize = size_of::<raw::uffd_msg>();

    /// The fault that a message tells of, `None` when it is about something else.
    pub(super) fn decode(bytes: &[u8; FaultMessage::BYTES]) -> Option<FaultMessage> {
        // Event at 0; then, for a fault: flags at 8, address at 16, thread at 24.
        let word = |offset: usize| {
            u64::from_ne_bytes(*bytes[offset..].first_chunk().expect("a word of the message lies within it"))
        };
        if bytes[0] != raw::EVENT_PAGEFAULT {
            return None;
        }
        let (flags, address, thread) = (word(8), word(16), word(24) as u32);
        let cause = if flags & raw::FAULT_WRITEPROTECT != 0 {
            FaultCause::WriteProtected
        } else if flags & raw::FAULT_MINOR != 0 {
            FaultCause::Minor
        } else {
            FaultCause::Missing
        };
        let stores = flags & (raw::FAULT_WRITE | raw::FAULT_WRITEPROTECT) != 0;
        let access = if stores { Access::Write } else { Access::Read };
        Some(FaultMessage { address: address as usize, access, cause, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: u8, flags: u64) -> Option<FaultMessage> {
        let mut bytes = [0; FaultMessage::BYTES];
        bytes[0] = event;
        bytes[8..16].copy_from_slice(&flags.to_ne_bytes());
        bytes[16..24].copy_from_slice(&0x7000_0000_1000_u64.to_ne_bytes());
        bytes[24..28].copy_from_slice(&77_u32.to_ne_bytes());
        FaultMessage::decode(&bytes)
    }

    #[test]
    fn the_flags_say_what_was_wanted_and_why_it_was_a_fault() {
        let cases = [
            (0, Access::Read, FaultCause::Missing),
            (1, Access::Write, FaultCause::Missing),
            (4, Access::Read, FaultCause::Minor),
            (5, Access::Write, FaultCause::Minor),
            (3, Access::Write, FaultCause::WriteProtected),
            (2, Access::Write, FaultCause::WriteProtected),
        ];
        for (flags, access, cause) in cases {
            let expected = FaultMessage { address: 0x7000_0000_1000, access, cause, thread: 77 };
            assert_eq!(message(0x12, flags), Some(expected));
        }
    }

    #[test]
    fn other_events_are_no_faults() {
        assert_eq!(message(0x13, 0), None);
    }
}
