//! Who is at the barrier that threads may give up: nobody passes it before as many have come as it waits for.

use super::Checked;
use pagemesh_protocol::{BarrierId, barrier_home};

/// The barrier that may be given up: one with the same home as `other`, so that not both need be gathered in a tree at a time.
pub(super) fn barrier(other: BarrierId, nodes: u16) -> BarrierId {
    let home = barrier_home(other, nodes);
    let mut others = (other.0 + 1..).map(BarrierId).filter(|barrier| barrier_home(*barrier, nodes) == home);
    others.next().expect("a hash of all numbers meets every home")
}

/// The threads that have come.
#[derive(Default)]
pub(super) struct Meeting {
    /// Those who have come and whose calls have not ended well, once for each call.
    here: Vec<usize>,
    /// Those who have given up and may be counted all the same, since not all nodes have heard of it.
    perhaps: usize,
    /// How many may yet be let go with the first of their round.
    going: usize,
}

impl Meeting {
    pub(super) fn comes(&mut self, thread: usize) {
        self.here.push(thread);
    }

    pub(super) fn gives_up(&mut self, thread: usize) {
        self.leaves(thread);
        self.perhaps += 1;
    }

    fn leaves(&mut self, thread: usize) {
        if let Some(place) = self.here.iter().position(|other| *other == thread) {
            self.here.swap_remove(place);
        }
    }

    /// Nothing is on its way: who has given up does not count, and who was let go is gone.
    pub(super) fn all_is_heard(&mut self) {
        (self.perhaps, self.going) = (0, 0);
    }

    /// The call of `thread` ends well, at a barrier of `all`.
    pub(super) fn ends(&mut self, thread: usize, all: usize) -> Checked {
        if self.going == 0 {
            let (here, perhaps) = (self.here.len(), self.perhaps);
            if here + perhaps < all {
                return Err(format!(
                    "thread {thread} leaves a meeting of {all} to which {here} have come; {perhaps} gave up just now"
                ));
            }
            self.going = all;
        }
        self.going -= 1;
        self.leaves(thread);
        Ok(())
    }
}
