//! First-in first-out queues of waiting nodes that share one arena, so that queueing allocates nothing.

use crate::ids::NodeId;
use slab::Slab;

#[derive(Clone, Debug)]
struct Link<T> {
    item: T,
    next: Option<u32>,
}

/// A queue in an [`Arena`]; copy it only to move it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Queue {
    first: Option<u32>,
    last: Option<u32>,
}

impl Queue {
    pub(super) fn is_empty(self) -> bool {
        self.first.is_none()
    }
}

/// Who waits, for whatever `T` says.
pub(super) trait Waiter: Copy {
    /// The node that waits.
    fn node(&self) -> NodeId;
}

#[derive(Clone, Debug)]
pub(super) struct Arena<T> {
    links: Slab<Link<T>>,
    /// How many of each node wait.
    waiting: Vec<u32>,
}

impl<T: Waiter> Arena<T> {
    pub(super) fn with_capacity(capacity: usize, nodes: u16) -> Arena<T> {
        Arena { links: Slab::with_capacity(capacity), waiting: vec![0; nodes as usize] }
    }

    /// How many of `node` wait, in all queues.
    pub(super) fn of(&self, node: NodeId) -> usize {
        self.waiting[node.index()] as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// How many wait, in all queues.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn push(&mut self, queue: &mut Queue, item: T) {
        self.waiting[item.node().index()] += 1;
        let index = self.links.insert(Link { item, next: None }) as u32;
        match queue.last {
            Some(last) => self.links[last as usize].next = Some(index),
            None => queue.first = Some(index),
        }
        queue.last = Some(index);
    }

    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<T> {
        let first = queue.first?;
        let link = self.links.remove(first as usize);
        queue.first = link.next;
        if link.next.is_none() {
            queue.last = None;
        }
        self.waiting[link.item.node().index()] -= 1;
        Some(link.item)
    }

    /// Who is next.
    pub(super) fn first(&self, queue: Queue) -> Option<T> {
        queue.first.map(|first| self.links[first as usize].item)
    }

    /// Who is last.
    pub(super) fn last(&self, queue: Queue) -> Option<T> {
        queue.last.map(|last| self.links[last as usize].item)
    }

    /// The first item that is `wanted`.
    pub(super) fn find(&self, queue: Queue, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        self.iter(queue).find(|item| wanted(item))
    }

    /// Who waits in one queue, in order.
    pub(super) fn iter(&self, queue: Queue) -> impl Iterator<Item = T> {
        let mut next = queue.first;
        std::iter::from_fn(move || {
            let link = &self.links[next? as usize];
            next = link.next;
            Some(link.item)
        })
    }

    /// Takes out every item that `unwanted` picks, in order; returns how many.
    pub(super) fn remove_where(&mut self, queue: &mut Queue, mut unwanted: impl FnMut(&T) -> bool) -> usize {
        let mut kept = Queue::default();
        let mut removed = 0;
        while let Some(item) = self.pop(queue) {
            if unwanted(&item) {
                removed += 1;
            } else {
                self.push(&mut kept, item);
            }
        }
        *queue = kept;
        removed
    }

    /// Changes the first item that is `wanted`, but not whose it is.
    pub(super) fn change(&mut self, queue: Queue, wanted: impl Fn(&T) -> bool, change: impl FnOnce(&mut T)) {
        let mut next = queue.first;
        while let Some(index) = next {
            let link = &mut self.links[index as usize];
            if wanted(&link.item) {
                return change(&mut link.item);
            }
            next = link.next;
        }
    }

    /// Takes out the first item that is `wanted`.
    pub(super) fn take_first(&mut self, queue: &mut Queue, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut found = None;
        self.remove_where(queue, |item| {
            let is_it = found.is_none() && wanted(item);
            if is_it {
                found = Some(*item);
            }
            is_it
        });
        found
    }

    /// Takes out everything that `node` waits for.
    pub(super) fn remove_node(&mut self, queue: &mut Queue, node: NodeId) -> usize {
        self.remove_where(queue, |item| item.node() == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Waiter for (NodeId, u32) {
        fn node(&self) -> NodeId {
            self.0
        }
    }

    #[test]
    fn queues_in_one_arena_keep_their_order() {
        let (a, b) = (NodeId::new(0), NodeId::new(1));
        let mut arena = Arena::with_capacity(4, 2);
        let (mut even, mut odd) = (Queue::default(), Queue::default());
        for number in 0..6 {
            let queue = if number % 2 == 0 { &mut even } else { &mut odd };
            arena.push(queue, (if number < 3 { a } else { b }, number));
        }
        assert_eq!((arena.of(a), arena.of(b)), (3, 3));
        assert_eq!(arena.remove_node(&mut even, b), 1);
        assert_eq!((arena.of(a), arena.of(b)), (3, 2));
        let drain = |arena: &mut Arena<_>, mut queue| {
            std::iter::from_fn(|| arena.pop(&mut queue)).map(|(_, number)| number).collect::<Vec<_>>()
        };
        arena.push(&mut even, (a, 2));
        assert_eq!(arena.take_first(&mut even, |item| *item == (a, 2)), Some((a, 2)));
        assert_eq!(arena.take_first(&mut even, |item| *item == (b, 9)), None);
        assert_eq!(drain(&mut arena, even), [0, 2]);
        assert_eq!(drain(&mut arena, odd), [1, 3, 5]);
        assert!(arena.is_empty());
    }
}
