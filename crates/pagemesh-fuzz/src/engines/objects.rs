//! Calls about reader-writer locks, semaphores and condition variables.

use super::mesh::Mesh;
use super::node::{Node, Slot, Wanted};
use crate::script::Script;
use pagemesh_protocol::{Access, Actions, ConditionId, LockId, RwLockId, SemaphoreId, Ticket};
use std::collections::{BTreeMap, BTreeSet};

/// Different objects of a kind: more than fit at one home, so that some are refused.
const OBJECTS: usize = 6;

impl Mesh {
    /// Node `at` does something with one of these objects.
    pub(super) fn use_object(&mut self, at: usize, script: &mut Script<'_>) {
        let (what, number) = (script.below(12), script.below(OBJECTS) as u64);
        let (lock, semaphore) = (RwLockId(number), SemaphoreId(number));
        let condition = ConditionId(number);
        let waits = script.below(4) > 0;
        match what {
            0..=2 => {
                let access = script.pick(&[Access::Read, Access::Write]);
                self.call(at, Wanted::RwLock(lock, access), |node, ticket, out| {
                    node.engine.on_rw_acquire(ticket, lock, access, waits, out);
                });
            }
            3..=4 => self.feed(at, |node, out| release_rwlock(node, script, out)),
            5 => self.call(at, Wanted::Answer, |node, ticket, out| {
                node.engine.on_semaphore_init(ticket, semaphore, script.below(4) as u32, out);
            }),
            6 => self.call(at, Wanted::Answer, |node, ticket, out| {
                node.engine.on_semaphore_post(ticket, semaphore, out);
            }),
            7 => self.call(at, Wanted::Others, |node, ticket, out| {
                node.engine.on_semaphore_wait(ticket, semaphore, waits, out);
            }),
            8..=9 => self.wait_for_signal(at, condition, script),
            10 => self.feed(at, |node, out| {
                // A condition whose home is lost wakes nobody.
                let _ = node.engine.on_condition_notify(condition, !waits, out);
            }),
            _ => self.feed(at, |node, out| {
                let open = node.open();
                if !open.is_empty() {
                    node.engine.on_condition_give_up(script.pick(&open), out);
                }
            }),
        }
    }

    fn wait_for_signal(&mut self, at: usize, condition: ConditionId, script: &mut Script<'_>) {
        let Some(node) = &self.nodes[at] else { return };
        if node.held.is_empty() || node.is_full() {
            return;
        }
        let held = script.below(node.held.len());
        let (lock, _) = node.held[held];
        self.call(at, Wanted::Signal(lock), |node, ticket, out| {
            let held = node.held.swap_remove(held);
            node.engine.on_condition_wait(ticket, condition, held, out);
        });
    }

    /// Ends all waits for signals that nobody gives, as if their time were over.
    pub(super) fn give_up_signals(&mut self) {
        for at in 0..self.nodes.len() {
            let waiting = self.nodes[at].as_ref().map(signals_awaited).unwrap_or_default();
            for ticket in waiting {
                self.feed(at, |node, out| node.engine.on_condition_give_up(ticket, out));
            }
        }
    }

    /// Gives back one lock of any kind; false when none is held.
    pub(super) fn release_any(&mut self) -> bool {
        let holds = |node: &Option<Node>| {
            node.as_ref().is_some_and(|node| !node.held.is_empty() || !node.rw_held.is_empty())
        };
        let Some(at) = self.nodes.iter().position(holds) else { return false };
        self.feed(at, |node, out| {
            if let Some((lock, ticket)) = node.held.pop() {
                node.engine.on_lock_release(ticket, lock, out);
            } else {
                release_rwlock(node, &mut Script::new(&[]), out);
            }
        });
        true
    }

    /// A lock has one holder, a reader-writer lock one writer or any readers.
    pub(super) fn check_holders(&self) {
        let mut locks: BTreeSet<LockId> = BTreeSet::new();
        let mut rwlocks: BTreeMap<RwLockId, (usize, usize)> = BTreeMap::new();
        for node in self.nodes.iter().flatten() {
            for (lock, _) in &node.held {
                assert!(locks.insert(*lock), "{lock:?} has two holders");
            }
            for (lock, access, _) in &node.rw_held {
                let (readers, writers) = rwlocks.entry(*lock).or_default();
                *(if *access == Access::Read { readers } else { writers }) += 1;
            }
        }
        for (lock, (readers, writers)) in rwlocks {
            let fits = writers == 0 || (writers == 1 && readers == 0);
            assert!(fits, "{lock:?}: {writers} writers, {readers} readers");
        }
    }
}

fn release_rwlock(node: &mut Node, script: &mut Script<'_>, out: &mut Actions) {
    if !node.rw_held.is_empty() {
        let (lock, _, ticket) = node.rw_held.swap_remove(script.below(node.rw_held.len()));
        node.engine.on_rw_release(ticket, lock, out);
    }
}

fn signals_awaited(node: &Node) -> Vec<Ticket> {
    let ticket = |slot: &Slot| match slot {
        Slot::Waiting(ticket, Wanted::Signal(_)) => Some(*ticket),
        _ => None,
    };
    node.slots.iter().filter_map(ticket).collect()
}
