//! Who had what a call waited for in vain.

use crate::{Access, NodeId};
use std::fmt;
use std::time::Duration;

/// What a call waited for, as far as it matters to who can have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Awaited {
    /// Nothing of which a node could tell.
    #[default]
    Other,
    /// What one thread has at a time.
    Lock,
    /// What one thread has for writing, or some have for reading.
    Shared,
    /// A unit of a semaphore.
    Unit,
    /// The others of so many.
    Others(u32),
}

/// What one node knows of its own threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeHold {
    /// The node.
    pub node: NodeId,
    /// Whether it said anything in time. If it did not, nothing else here is known.
    pub answered: bool,
    /// How one of its threads, or some of them, hold it; what only one thread can hold is held for writing.
    pub held: Option<Access>,
    /// For how long, to the hundredth of a second or so; where several threads hold it, the one that has had it longest.
    pub held_for: Duration,
    /// How many of its threads wait for it; of the asking node, with the one that has just given up.
    pub waiting: u32,
}

impl NodeHold {
    pub(crate) fn unanswered(node: NodeId) -> NodeHold {
        NodeHold { node, answered: false, held: None, held_for: Duration::ZERO, waiting: 0 }
    }
}

/// Who held what a call waited for in vain, since when, and who else waited: asked of every node when the time was over, so it
/// may have changed since. Its text is the end of that of [`SyncError::TimedOut`](crate::SyncError::TimedOut).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders {
    pub(crate) awaited: Awaited,
    pub(crate) nodes: Vec<NodeHold>,
}

impl Holders {
    /// What each node knows, by node; nodes that are gone are left out. Empty where nobody could be asked: of a signal, or of the
    /// answer of a node, there are no holders.
    pub fn nodes(&self) -> &[NodeHold] {
        &self.nodes
    }

    fn those(&self, wanted: impl Fn(&NodeHold) -> bool) -> Vec<&NodeHold> {
        self.nodes.iter().filter(|node| wanted(node)).collect()
    }

    fn say_who_holds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holding = self.those(|node| node.held.is_some());
        if holding.is_empty() {
            let all_answered = self.nodes.iter().all(|node| node.answered);
            return f.write_str(if all_answered {
                "; nobody holds it any more"
            } else {
                "; nobody who answered holds it"
            });
        }
        f.write_str("; held")?;
        for (place, hold) in holding.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            match hold.held.filter(|_| self.awaited == Awaited::Shared) {
                Some(Access::Read) => f.write_str(" for reading")?,
                Some(Access::Write) => f.write_str(" for writing")?,
                None => {}
            }
            write!(f, " by node {} for {}", hold.node, Span(hold.held_for))?;
        }
        Ok(())
    }

    fn say_who_waits(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        let waiting = self.those(|node| node.waiting > 0);
        let threads: u64 = waiting.iter().map(|node| u64::from(node.waiting)).sum();
        let (threads_are, wait) = if threads == 1 { ("thread", "waits") } else { ("threads", "wait") };
        if threads == 0 {
            return Ok(());
        }
        write!(f, "; {threads} {threads_are} of {} {wait} for {what}", Names(&waiting))
    }

    fn say_who_came(&self, f: &mut fmt::Formatter<'_>, participants: u32) -> fmt::Result {
        let come = self.those(|node| node.waiting > 0);
        let threads: u64 = come.iter().map(|node| u64::from(node.waiting)).sum();
        write!(f, "; {threads} of {participants} have come")?;
        for (place, node) in come.iter().enumerate() {
            let before = match place {
                0 if come.len() == 1 => ": node",
                0 => ": nodes",
                _ => ",",
            };
            write!(f, "{before} {} ({})", node.node, node.waiting)?;
        }
        let missing = self.those(|node| node.answered && node.waiting == 0);
        if missing.is_empty() { Ok(()) } else { write!(f, "; nobody of {}", Names(&missing)) }
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.awaited {
            Awaited::Other => return Ok(()),
            Awaited::Lock | Awaited::Shared => {
                self.say_who_holds(f)?;
                self.say_who_waits(f, "it")?;
            }
            Awaited::Unit => self.say_who_waits(f, "a unit")?,
            Awaited::Others(participants) => self.say_who_came(f, participants)?,
        }
        let silent = self.those(|node| !node.answered);
        if silent.is_empty() { Ok(()) } else { write!(f, "; {} did not answer", Names(&silent)) }
    }
}

/// `node 1`, `nodes 1 and 2`, `nodes 1, 2 and 3`.
struct Names<'a>(&'a [&'a NodeHold]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "node " } else { "nodes " })?;
        for (place, hold) in self.0.iter().enumerate() {
            let before = match place {
                0 => "",
                _ if place + 1 == self.0.len() => " and ",
                _ => ", ",
            };
            write!(f, "{before}{}", hold.node)?;
        }
        Ok(())
    }
}

/// A duration as people say it.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(node: u16, held: Option<Access>, held_ms: u64, waiting: u32) -> NodeHold {
        let held_for = Duration::from_millis(held_ms);
        NodeHold { node: NodeId::new(node), answered: true, held, held_for, waiting }
    }

    fn text(awaited: Awaited, nodes: Vec<NodeHold>) -> String {
        Holders { awaited, nodes }.to_string()
    }

    #[test]
    fn a_lock_has_a_holder_and_threads_that_wait() {
        let nodes = vec![says(0, None, 0, 1), says(1, None, 0, 2), says(2, Some(Access::Write), 14_230, 0)];
        assert_eq!(
            text(Awaited::Lock, nodes),
            "; held by node 2 for 14.2 s; 3 threads of nodes 0 and 1 wait for it"
        );
        let silent = vec![says(0, None, 0, 1), NodeHold::unanswered(NodeId::new(1))];
        assert_eq!(
            text(Awaited::Lock, silent),
            "; nobody who answered holds it; 1 thread of node 0 waits for it; node 1 did not answer"
        );
        assert_eq!(
            text(Awaited::Lock, vec![says(0, None, 0, 1)]),
            "; nobody holds it any more; 1 thread of node 0 waits for it"
        );
    }

    #[test]
    fn readers_are_told_from_writers() {
        let nodes = vec![says(0, Some(Access::Read), 320, 0), says(1, Some(Access::Read), 2000, 1)];
        assert_eq!(
            text(Awaited::Shared, nodes),
            "; held for reading by node 0 for 320 ms, for reading by node 1 for 2.0 s; 1 thread of node 1 waits for it"
        );
        let nodes = vec![says(3, Some(Access::Write), 1000, 0)];
        assert_eq!(text(Awaited::Shared, nodes), "; held for writing by node 3 for 1.0 s");
    }

    #[test]
    fn a_barrier_says_who_has_come_and_a_semaphore_who_waits() {
        let nodes = vec![says(0, None, 0, 1), says(1, None, 0, 0), says(2, None, 0, 2), says(3, None, 0, 0)];
        assert_eq!(
            text(Awaited::Others(4), nodes.clone()),
            "; 3 of 4 have come: nodes 0 (1), 2 (2); nobody of nodes 1 and 3"
        );
        assert_eq!(text(Awaited::Unit, nodes), "; 3 threads of nodes 0 and 2 wait for a unit");
        assert_eq!(Holders::default().to_string(), "");
    }
}
