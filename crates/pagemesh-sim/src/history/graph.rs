//! What must come before what, and whether that goes in a circle.

use super::Reason;
use std::collections::VecDeque;

/// A directed graph whose nodes are numbers.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    after: Vec<Vec<(u32, Reason)>>,
}

/// Which node can be reached from which.
#[derive(Debug)]
pub(super) struct Closure {
    words: usize,
    bits: Vec<u64>,
}

impl Closure {
    /// Whether there is a path from `before` to `after`.
    pub(super) fn contains(&self, before: usize, after: usize) -> bool {
        self.bits[before * self.words + after / 64] >> (after % 64) & 1 != 0
    }
}

impl Graph {
    pub(super) fn new(nodes: usize) -> Graph {
        Graph { after: vec![Vec::new(); nodes] }
    }

    pub(super) fn add(&mut self, before: usize, after: usize, reason: Reason) {
        self.after[before].push((after as u32, reason));
    }

    fn after(&self, node: usize) -> impl Iterator<Item = (usize, Reason)> {
        self.after[node].iter().map(|(after, reason)| (*after as usize, *reason))
    }

    /// The nodes in an order that fits all edges (Kahn 1962); shorter than the graph when there is a cycle.
    fn order(&self) -> Vec<usize> {
        let count = self.after.len();
        let mut before = vec![0_u32; count];
        for (after, _) in self.after.iter().flatten() {
            before[*after as usize] += 1;
        }
        let mut order: Vec<usize> = (0..count).filter(|node| before[*node] == 0).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            next += 1;
            for (after, _) in self.after(node) {
                before[after] -= 1;
                if before[after] == 0 {
                    order.push(after);
                }
            }
        }
        order
    }

    /// A shortest cycle, each node with the reason why it comes before the next.
    pub(super) fn cycle(&self) -> Option<Vec<(usize, Reason)>> {
        let order = self.order();
        if order.len() == self.after.len() {
            return None;
        }
        let mut in_order = vec![false; self.after.len()];
        for node in order {
            in_order[node] = true;
        }
        let left = (0..self.after.len()).filter(|node| !in_order[*node]);
        left.filter_map(|start| self.way_back(start, &in_order)).min_by_key(Vec::len)
    }

    /// A shortest path from `start` to itself, in breadth-first order.
    fn way_back(&self, start: usize, skipped: &[bool]) -> Option<Vec<(usize, Reason)>> {
        let mut came: Vec<Option<(usize, Reason)>> = vec![None; self.after.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for (after, reason) in self.after(node).filter(|(after, _)| !skipped[*after]) {
                if came[after].is_some() {
                    continue;
                }
                came[after] = Some((node, reason));
                if after != start {
                    queue.push_back(after);
                    continue;
                }
                let mut path = Vec::new();
                let mut at = start;
                while let Some((before, reason)) = came[at] {
                    path.push((before, reason));
                    at = before;
                    if at == start {
                        break;
                    }
                }
                path.reverse();
                return Some(path);
            }
        }
        None
    }

    /// Of a graph without a cycle.
    pub(super) fn closure(&self) -> Closure {
        let (count, order) = (self.after.len(), self.order());
        let words = count.div_ceil(64);
        let mut closure = Closure { words, bits: vec![0; count * words] };
        for node in order.into_iter().rev() {
            for (after, _) in self.after(node) {
                for word in 0..words {
                    let more = closure.bits[after * words + word];
                    closure.bits[node * words + word] |= more;
                }
                closure.bits[node * words + after / 64] |= 1 << (after % 64);
            }
        }
        closure
    }
}
