//! Decides whether the values of one word can have followed each other in some order.
//!
//! Who finds a value stands, in any order that explains what was found, between its write and the next write. So the operations of one value
//! stand together, and it is enough to order values. One must come before another when any operation of it was over
//! before any of the other began (Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 1997, whose zones these are), or
//! when a thread did one of it before one of the other. Values that atomics replaced by each other follow each other directly, and are one
//! chain. An order exists if and only if these demands have no circle; it is looked for by taking first chains away.

use super::violation::Because;
use std::collections::BTreeSet;

/// A time, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// When.
    pub(super) time_ns: u64,
    /// Which operation; none for the zero at the start.
    pub(super) operation: Option<usize>,
}

impl Mark {
    /// Before everything.
    pub(super) const START: Mark = Mark { time_ns: 0, operation: None };
    /// After everything.
    pub(super) const NEVER: Mark = Mark { time_ns: u64::MAX, operation: None };
}

/// That one operation must come before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) before: Option<usize>,
    pub(super) after: Option<usize>,
    pub(super) because: Because,
}

/// Operations that stand together.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// The first of them to be over.
    pub(super) first_over: Mark,
    /// The last of them to begin.
    pub(super) last_call: Mark,
    /// Chains that must come later for other reasons than time.
    pub(super) then: Vec<(usize, Edge)>,
}

/// Finds an order of `chains`; fails with a circle of demands when there is none.
pub(super) fn order(chains: &[Chain]) -> Result<(), Vec<Edge>> {
    let mut left = Left::new(chains);
    while !left.by_over.is_empty() {
        match left.first() {
            Some(chain) => left.take(chain),
            None => return Err(left.circle()),
        }
    }
    Ok(())
}

/// The chains that have no place in the order yet.
struct Left<'run> {
    chains: &'run [Chain],
    /// Demands other than time that other chains make on each.
    demands: Vec<usize>,
    by_over: BTreeSet<(u64, usize)>,
    /// Those without such demands, by their last call.
    ready: BTreeSet<(u64, usize)>,
}

impl Left<'_> {
    fn new(chains: &[Chain]) -> Left<'_> {
        let mut demands = vec![0; chains.len()];
        for (to, _) in chains.iter().flat_map(|chain| &chain.then) {
            demands[*to] += 1;
        }
        let by_over = chains.iter().enumerate().map(|(number, chain)| (chain.first_over.time_ns, number));
        let calls = chains.iter().enumerate().map(|(number, chain)| (chain.last_call.time_ns, number));
        let ready = calls.filter(|(_, number)| demands[*number] == 0).collect();
        Left { chains, by_over: by_over.collect(), ready, demands }
    }

    /// The chain other than this that has the operation which was over first.
    fn earliest_other(&self, chain: usize) -> Option<usize> {
        self.by_over.iter().map(|(_, number)| *number).find(|number| *number != chain)
    }

    /// Whether no other chain that is left must come before this one by time.
    fn is_in_time(&self, chain: usize) -> bool {
        let last_call = self.chains[chain].last_call.time_ns;
        self.earliest_other(chain).is_none_or(|other| self.chains[other].first_over.time_ns >= last_call)
    }

    /// A chain that nothing must come before. If there is one, it is the one that begins first, or else the one that is over first: any
    /// other has that one before it.
    fn first(&self) -> Option<usize> {
        let begins = self.ready.first().map(|(_, chain)| *chain);
        let over = self.by_over.first().map(|(_, chain)| *chain).filter(|chain| self.demands[*chain] == 0);
        begins.into_iter().chain(over).find(|chain| self.is_in_time(*chain))
    }

    fn take(&mut self, chain: usize) {
        self.by_over.remove(&(self.chains[chain].first_over.time_ns, chain));
        self.ready.remove(&(self.chains[chain].last_call.time_ns, chain));
        for (to, _) in &self.chains[chain].then {
            self.demands[*to] -= 1;
            if self.demands[*to] == 0 {
                self.ready.insert((self.chains[*to].last_call.time_ns, *to));
            }
        }
    }

    /// A chain that must come before this one, and why.
    fn before(&self, chain: usize, demanders: &[Vec<(usize, Edge)>]) -> Option<(usize, Edge)> {
        if !self.is_in_time(chain) {
            let other = self.earliest_other(chain)?;
            let (before, after) =
                (self.chains[other].first_over.operation, self.chains[chain].last_call.operation);
            return Some((other, Edge { before, after, because: Because::Time }));
        }
        let is_left = |other: usize| self.by_over.contains(&(self.chains[other].first_over.time_ns, other));
        demanders[chain].iter().copied().find(|(other, _)| is_left(*other))
    }

    /// Some demands that go round in a circle, when nothing that is left can be the first.
    fn circle(&self) -> Vec<Edge> {
        let mut demanders = vec![Vec::new(); self.chains.len()];
        for (from, chain) in self.chains.iter().enumerate() {
            for (to, edge) in &chain.then {
                demanders[*to].push((from, *edge));
            }
        }
        let mut path: Vec<(usize, Edge)> = Vec::new();
        let mut at = self.by_over.first().map_or(0, |(_, chain)| *chain);
        let mut visited = vec![None; self.chains.len()];
        while visited[at].is_none() {
            visited[at] = Some(path.len());
            match self.before(at, &demanders) {
                Some((other, edge)) => {
                    path.push((other, edge));
                    at = other;
                }
                None => break,
            }
        }
        // Walked against the demands: the last comes first.
        path.drain(visited[at].unwrap_or(0)..).rev().map(|(_, edge)| edge).collect()
    }
}
