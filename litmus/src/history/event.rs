//! One operation of one thread, and its record.

use std::fmt;
use std::io::{self, Write};

/// A thread of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadName {
    /// Its node.
    pub node: u16,
    /// Its number there.
    pub thread: u16,
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} thread {}", self.node, self.thread)
    }
}

/// What a thread did. Words, locks and barriers go by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A plain load found a value.
    Read {
        /// Where.
        word: u32,
        /// What it found.
        value: u64,
    },
    /// A plain store of a value.
    Write {
        /// Where.
        word: u32,
        /// What it stored.
        value: u64,
    },
    /// An atomic exchange.
    Swap {
        /// Where.
        word: u32,
        /// What it found.
        found: u64,
        /// What it stored.
        value: u64,
    },
    /// An atomic comparison, which stored if it found what was expected.
    CompareExchange {
        /// Where.
        word: u32,
        /// What was expected.
        expected: u64,
        /// What it found.
        found: u64,
        /// What it stored, or would have.
        value: u64,
    },
    /// An atomic addition of 1.
    Increment {
        /// Where.
        word: u32,
        /// What it found.
        found: u64,
    },
    /// A full fence.
    Fence,
    /// A lock was taken: held from the return on.
    Acquire {
        /// Which.
        lock: u32,
    },
    /// A lock was given back: held until the call.
    Release {
        /// Which.
        lock: u32,
    },
    /// A barrier of all threads was passed.
    Barrier {
        /// Which passage, from 1.
        barrier: u32,
    },
}

impl Action {
    /// The word that it is about.
    pub const fn word(self) -> Option<u32> {
        match self {
            Action::Read { word, .. }
            | Action::Write { word, .. }
            | Action::Swap { word, .. }
            | Action::CompareExchange { word, .. }
            | Action::Increment { word, .. } => Some(word),
            Action::Fence | Action::Acquire { .. } | Action::Release { .. } | Action::Barrier { .. } => None,
        }
    }

    /// The value that it found in its word.
    pub const fn found(self) -> Option<u64> {
        match self {
            Action::Read { value, .. } => Some(value),
            Action::Swap { found, .. }
            | Action::CompareExchange { found, .. }
            | Action::Increment { found, .. } => Some(found),
            _ => None,
        }
    }

    /// The value that it left in its word, if it wrote.
    pub const fn wrote(self) -> Option<u64> {
        match self {
            Action::Write { value, .. } | Action::Swap { value, .. } => Some(value),
            Action::CompareExchange { expected, found, value, .. } if expected == found => Some(value),
            Action::Increment { found, .. } => Some(found.wrapping_add(1)),
            _ => None,
        }
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// The page's only copy is gone.
    Page,
    /// Who knew where the page, the lock or the barrier is, is gone.
    Peer,
    /// The holder of the lock is gone.
    Holder,
}

/// A failure that is blamed on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// What is gone.
    pub kind: LossKind,
    /// With which node.
    pub node: u16,
}

/// An operation that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Who did it.
    pub by: ThreadName,
    /// The how many-th operation of that thread it was.
    pub sequence: u32,
    /// It had not begun before this time.
    pub call_ns: u64,
    /// It was over at this time; if it is not settled, as far as its thread could see.
    pub return_ns: u64,
    /// A fence stood between it and its return, or it is one.
    pub settled: bool,
    /// What it did, or was to do.
    pub action: Action,
    /// Why it did nothing, if it failed.
    pub loss: Option<Loss>,
}

/// A value that no other operation of any thread writes.
pub const fn unique_value(by: ThreadName, sequence: u32) -> u64 {
    (by.node as u64 + 1) << 48 | (by.thread as u64) << 32 | sequence as u64
}

/// The operation that writes this value.
pub(super) const fn writer_of(value: u64) -> Option<(ThreadName, u32)> {
    match (value >> 48).checked_sub(1) {
        Some(node) => {
            let by = ThreadName { node: node as u16, thread: (value >> 32) as u16 };
            Some((by, value as u32))
        }
        None => None,
    }
}

const RECORD_WORDS: usize = 7;

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = RECORD_WORDS * 8;

impl Event {
    /// Writes its record, at once. The node is known from whose report it is.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, place, values) = match self.action {
            Action::Read { word, value } => (0, word, [value, 0, 0]),
            Action::Write { word, value } => (1, word, [value, 0, 0]),
            Action::Swap { word, found, value } => (2, word, [value, found, 0]),
            Action::CompareExchange { word, expected, found, value } => (3, word, [value, found, expected]),
            Action::Increment { word, found } => (4, word, [0, found, 0]),
            Action::Fence => (5, 0, [0; 3]),
            Action::Acquire { lock } => (6, lock, [0; 3]),
            Action::Release { lock } => (7, lock, [0; 3]),
            Action::Barrier { barrier } => (8, barrier, [0; 3]),
        };
        let (lost, blamed) = match self.loss {
            None => (0, 0),
            Some(Loss { kind: LossKind::Page, node }) => (1, node),
            Some(Loss { kind: LossKind::Peer, node }) => (2, node),
            Some(Loss { kind: LossKind::Holder, node }) => (3, node),
        };
        let head = kind
            | u64::from(self.settled) << 8
            | lost << 16
            | u64::from(blamed) << 32
            | u64::from(self.by.thread) << 48;
        let places = u64::from(place) | u64::from(self.sequence) << 32;
        let [value, found, expected] = values;
        let words: [u64; RECORD_WORDS] = [head, places, value, found, expected, self.call_ns, self.return_ns];
        let mut bytes = [0; RECORD_BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        to.write_all(&bytes)
    }

    /// Reads a record of `node`; none when it is none.
    pub(super) fn read(node: u16, bytes: &[u8; RECORD_BYTES]) -> Option<Event> {
        let mut words = [0; RECORD_WORDS];
        for (word, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = from.try_into().map_or(0, u64::from_le_bytes);
        }
        let [head, places, value, found, expected, call_ns, return_ns] = words;
        let word = places as u32;
        let action = match head as u8 {
            0 => Action::Read { word, value },
            1 => Action::Write { word, value },
            2 => Action::Swap { word, found, value },
            3 => Action::CompareExchange { word, expected, found, value },
            4 => Action::Increment { word, found },
            5 => Action::Fence,
            6 => Action::Acquire { lock: word },
            7 => Action::Release { lock: word },
            8 => Action::Barrier { barrier: word },
            _ => return None,
        };
        let loss = match (head >> 16) as u8 {
            0 => None,
            1 => Some(LossKind::Page),
            2 => Some(LossKind::Peer),
            3 => Some(LossKind::Holder),
            _ => return None,
        };
        let loss = loss.map(|kind| Loss { kind, node: (head >> 32) as u16 });
        let by = ThreadName { node, thread: (head >> 48) as u16 };
        let (sequence, settled) = ((places >> 32) as u32, (head >> 8) as u8 != 0);
        Some(Event { by, sequence, call_ns, return_ns, settled, action, loss })
    }
}

struct Value(u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match writer_of(self.0) {
            None => self.0.fmt(f),
            Some((by, sequence)) => write!(f, "{}.{}.{sequence}", by.node, by.thread),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::Read { word, value } => write!(f, "word {word} read as {}", Value(value)),
            Action::Write { word, value } => write!(f, "word {word} made {}", Value(value)),
            Action::Swap { word, found, value } => {
                write!(f, "word {word} swapped from {} to {}", Value(found), Value(value))
            }
            Action::CompareExchange { word, expected, found, value } if expected == found => {
                write!(f, "word {word} exchanged from {} to {}", Value(found), Value(value))
            }
            Action::CompareExchange { word, expected, found, .. } => {
                write!(f, "word {word} compared with {} and found to be {}", Value(expected), Value(found))
            }
            Action::Increment { word, found } => write!(f, "word {word} incremented from {found}"),
            Action::Fence => f.write_str("fence"),
            Action::Acquire { lock } => write!(f, "lock {lock} taken"),
            Action::Release { lock } => write!(f, "lock {lock} given back"),
            Action::Barrier { barrier } => write!(f, "barrier {barrier} passed"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} #{}: {}, {} to {} ns",
            self.by, self.sequence, self.action, self.call_ns, self.return_ns
        )?;
        match self.loss {
            Some(loss) => write!(f, ", failed for the loss of node {}", loss.node),
            None if !self.settled => f.write_str(", not settled"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let by = ThreadName { node: 3, thread: 7 };
        let (word, lock, barrier) = (9, 4, 12);
        let (value, found, expected) = (unique_value(by, 5), u64::MAX - 1, 8);
        for action in [
            Action::Read { word, value },
            Action::Write { word, value },
            Action::Swap { word, found, value },
            Action::CompareExchange { word, expected, found, value },
            Action::Increment { word, found },
            Action::Fence,
            Action::Acquire { lock },
            Action::Release { lock },
            Action::Barrier { barrier },
        ] {
            for (settled, loss) in [
                (false, None),
                (true, Some(Loss { kind: LossKind::Page, node: 2 })),
                (true, Some(Loss { kind: LossKind::Peer, node: 1 })),
                (false, Some(Loss { kind: LossKind::Holder, node: 63 })),
            ] {
                let event =
                    Event { by, sequence: 70_000, call_ns: 1 << 60, return_ns: 3, settled, action, loss };
                let mut bytes = Vec::new();
                event.write(&mut bytes).unwrap();
                assert_eq!(Event::read(3, &bytes.try_into().unwrap()), Some(event));
            }
        }
        assert_eq!(writer_of(value), Some((by, 5)));
        assert_eq!(writer_of(77), None);
    }
}
