//! What a history can do wrong, told by the operations that conflict.

use super::event::Event;
use std::fmt;

/// Why one operation must come before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// It was over before the other began.
    Time,
    /// The same thread did it earlier.
    Program,
    /// Its value was replaced by one that leads to the other's.
    Value,
}

/// A breach of what is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A value was found that no operation wrote.
    UnknownValue {
        /// Who found it.
        found: Event,
    },
    /// A value was found before its write began.
    Future {
        /// Who found it.
        found: Event,
        /// Who wrote it.
        written: Event,
    },
    /// Two atomic operations found the same value, and both replaced it: one of them is lost.
    FoundTwice {
        /// One.
        first: Event,
        /// The other.
        second: Event,
    },
    /// No order of the operations on a word explains what they found. Of each pair the first must come before the second; and the second
    /// stands together with the first of the next pair, since they are of one value, or of values that atomics replaced by each
    /// other. So they would have to go round in a circle. `None` stands for the zeros at the start.
    NoOrder {
        /// The word.
        word: u32,
        /// Pairs of operations that must follow each other, and why.
        circle: Vec<(Option<Event>, Option<Event>, Because)>,
    },
    /// A lock was held by two at a time.
    HeldTwice {
        /// When one took it.
        first: Event,
        /// When the other did, before the first gave it back.
        second: Event,
    },
    /// A thread was through a barrier before another came to it.
    BarrierPassed {
        /// Who was through.
        early: Event,
        /// Who came later.
        late: Event,
    },
    /// An operation failed although nobody was killed, or blames another node than the one that was.
    WronglyFailed {
        /// Which.
        event: Event,
    },
    /// A value was found that an operation was to write which failed.
    FailedButDone {
        /// Which failed.
        failed: Event,
        /// Who found its value.
        found: Event,
    },
    /// A node could read a page again that it had been told was lost.
    CameBack {
        /// The read that failed.
        failed: Event,
        /// A later one on the page, which did not.
        later: Event,
    },
    /// A page of which only the killed node had a copy was not reported as lost.
    NotLost {
        /// The access to it.
        event: Event,
    },
    /// A node did not come to its end: it was to access a page that must be lost.
    NotTold {
        /// Which node.
        node: u16,
        /// The word on that page.
        word: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::UnknownValue { found } => write!(f, "a value that nobody wrote:\n  {found}"),
            Violation::Future { found, written } => {
                write!(f, "a value was found before it was written:\n  {found}\n  {written}")
            }
            Violation::FoundTwice { first, second } => {
                write!(f, "two atomics found the same value, and one of them is lost:\n  {first}\n  {second}")
            }
            Violation::NoOrder { word, circle } => {
                write!(f, "no order explains what was found in word {word}:")?;
                for (before, after, because) in circle {
                    let why = match because {
                        Because::Time => "ended before the other began",
                        Because::Program => "is earlier in the same thread",
                        Because::Value => "is of an older value than",
                    };
                    write!(f, "\n  {}\n    {why}:\n  {}", Told(before), Told(after))?;
                }
                Ok(())
            }
            Violation::HeldTwice { first, second } => {
                write!(f, "a lock was held twice at a time:\n  {first}\n  {second}")
            }
            Violation::BarrierPassed { early, late } => {
                write!(f, "a barrier was passed before all had come:\n  {early}\n  {late}")
            }
            Violation::WronglyFailed { event } => {
                write!(f, "an operation failed for a node that was not killed:\n  {event}")
            }
            Violation::FailedButDone { failed, found } => {
                write!(f, "an operation failed, and was done all the same:\n  {failed}\n  {found}")
            }
            Violation::CameBack { failed, later } => {
                write!(f, "a page was lost, and came back:\n  {failed}\n  {later}")
            }
            Violation::NotLost { event } => {
                write!(f, "a page must be lost with its node, and is not reported so:\n  {event}")
            }
            Violation::NotTold { node, word } => {
                write!(f, "node {node} did not report that word {word} is lost: it ended early")
            }
        }
    }
}

struct Told<'event>(&'event Option<Event>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(event) => event.fmt(f),
            None => f.write_str("the zero at the start"),
        }
    }
}
