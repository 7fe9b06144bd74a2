//! Gathers the operations on a word by value.

use super::event::Event;
use super::order::{Chain, Edge, Mark, order};
use super::violation::{Because, Violation};
use std::collections::BTreeMap;

/// An operation on a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    /// Its record.
    pub(super) event: Event,
    /// When it was over for everybody: `u64::MAX` when nobody can know.
    pub(super) over_ns: u64,
}

/// Judges the operations on `word`, those of each thread in their order.
pub(super) fn judge(word: u32, operations: &[Operation]) -> Option<Violation> {
    match Clusters::gather(operations) {
        Ok(clusters) => clusters.judge(word),
        Err(violation) => Some(*violation),
    }
}

/// A value's write and all who found it.
struct Cluster {
    /// The first of them to be over.
    first_over: Mark,
    /// The last of them to begin.
    last_call: Mark,
}

/// The operations on a word by value. Cluster 0 is that of the zero at the start.
struct Clusters<'run> {
    operations: &'run [Operation],
    all: Vec<Cluster>,
    /// The cluster of the value that the operation wrote, or else found.
    cluster_of: Vec<usize>,
    /// For the cluster of each value, the cluster of the value by which an atomic replaced it.
    replaced_by: BTreeMap<usize, usize>,
}

impl<'run> Clusters<'run> {
    fn gather(operations: &'run [Operation]) -> Result<Clusters<'run>, Box<Violation>> {
        let mut clusters = vec![Cluster { first_over: Mark::START, last_call: Mark::START }];
        let mut of_value = BTreeMap::from([(0, 0)]);
        let mut writers = vec![None];
        for (index, Operation { event, over_ns }) in operations.iter().enumerate() {
            let Some(value) = event.action.wrote() else { continue };
            if let Some(known) = of_value.insert(value, clusters.len()) {
                // Unique values are written twice only by two increments that found the same.
                let other = writers[known].map_or(*event, |other: usize| operations[other].event);
                return Err(Violation::FoundTwice { first: other, second: *event }.into());
            }
            clusters.push(Cluster {
                first_over: Mark { time_ns: *over_ns, operation: Some(index) },
                last_call: Mark { time_ns: event.call_ns, operation: Some(index) },
            });
            writers.push(Some(index));
        }
        let mut gathered =
            Clusters { operations, all: clusters, cluster_of: Vec::new(), replaced_by: BTreeMap::new() };
        for (index, Operation { event, over_ns }) in operations.iter().enumerate() {
            let source = match event.action.found() {
                None => None,
                Some(found) => {
                    let source =
                        of_value.get(&found).ok_or(Box::new(Violation::UnknownValue { found: *event }))?;
                    if let Some(writer) = writers[*source]
                        && event.return_ns < operations[writer].event.call_ns
                    {
                        return Err(
                            Violation::Future { found: *event, written: operations[writer].event }.into()
                        );
                    }
                    Some(*source)
                }
            };
            let target = event.action.wrote().map(|value| of_value[&value]);
            if let (Some(source), Some(target)) = (source, target)
                && let Some(other) = gathered.replaced_by.insert(source, target)
            {
                let first = writers[other].map_or(*event, |other| operations[other].event);
                return Err(Violation::FoundTwice { first, second: *event }.into());
            }
            let own = target.or(source).unwrap_or(0);
            let cluster = &mut gathered.all[own];
            cluster.first_over = cluster.first_over.min(Mark { time_ns: *over_ns, operation: Some(index) });
            cluster.last_call =
                cluster.last_call.max(Mark { time_ns: event.call_ns, operation: Some(index) });
            gathered.cluster_of.push(own);
        }
        Ok(gathered)
    }

    fn judge(&self, word: u32) -> Option<Violation> {
        let no_order = |circle: Vec<Edge>| {
            let tell = |operation: Option<usize>| operation.map(|index| self.operations[index].event);
            let circle =
                circle.iter().map(|edge| (tell(edge.before), tell(edge.after), edge.because)).collect();
            Some(Violation::NoOrder { word, circle })
        };
        let chains = self.chains();
        let mut place = vec![None; self.all.len()];
        for (number, chain) in chains.iter().enumerate() {
            for (position, cluster) in chain.iter().enumerate() {
                place[*cluster] = Some((number, position));
            }
        }
        if let Some(circle) = self.circle_of_atomics(&place) {
            return no_order(circle);
        }
        let mut merged = Vec::new();
        for chain in &chains {
            match self.merge(chain) {
                Ok(chain) => merged.push(chain),
                Err(circle) => return no_order(circle),
            }
        }
        let place = |operation: usize| place[self.cluster_of[operation]].unwrap_or((0, 0));
        for (before, after) in self.program_order() {
            let ((from, early), (to, late)) = (place(before), place(after));
            let edge = Edge { before: Some(before), after: Some(after), because: Because::Program };
            if from != to {
                merged[from].then.push((to, edge));
            } else if early > late {
                let back = Edge { before: Some(after), after: Some(before), because: Because::Value };
                return no_order(vec![edge, back]);
            }
        }
        order(&merged).err().and_then(no_order)
    }

    /// Clusters that must follow each other directly: an atomic read the value of the one and wrote that of the next.
    fn chains(&self) -> Vec<Vec<usize>> {
        let mut is_next = vec![false; self.all.len()];
        for next in self.replaced_by.values() {
            is_next[*next] = true;
        }
        let heads = (0..self.all.len()).filter(|cluster| !is_next[*cluster]);
        let chain = |head| {
            std::iter::successors(Some(head), |cluster| self.replaced_by.get(cluster).copied()).collect()
        };
        heads.map(chain).collect()
    }

    /// Atomics each of which found what the next wrote: they are in no chain, since none is the first.
    fn circle_of_atomics(&self, place: &[Option<(usize, usize)>]) -> Option<Vec<Edge>> {
        let begin = place.iter().position(Option::is_none)?;
        let writer = |cluster: usize| self.all[cluster].last_call.operation;
        let mut circle = Vec::new();
        let mut at = begin;
        loop {
            let next = *self.replaced_by.get(&at)?;
            circle.push(Edge { before: writer(at), after: writer(next), because: Because::Value });
            at = next;
            if at == begin {
                return Some(circle);
            }
        }
    }

    /// One chain for the order: unless a later cluster of it was over before an earlier one had begun.
    fn merge(&self, chain: &[usize]) -> Result<Chain, Vec<Edge>> {
        let mut merged = Chain { first_over: Mark::NEVER, last_call: Mark::START, then: Vec::new() };
        for cluster in chain.iter().map(|cluster| &self.all[*cluster]) {
            if cluster.first_over.time_ns < merged.last_call.time_ns {
                let (early, late) = (cluster.first_over.operation, merged.last_call.operation);
                return Err(vec![
                    Edge { before: early, after: late, because: Because::Time },
                    Edge { before: late, after: early, because: Because::Value },
                ]);
            }
            merged.first_over = merged.first_over.min(cluster.first_over);
            merged.last_call = merged.last_call.max(cluster.last_call);
        }
        Ok(merged)
    }

    /// Each operation and the next of the same thread.
    fn program_order(&self) -> Vec<(usize, usize)> {
        let mut last = BTreeMap::new();
        let pairs = self.operations.iter().enumerate().filter_map(|(index, operation)| {
            let before = last.insert(operation.event.by, index)?;
            Some((before, index))
        });
        pairs.collect()
    }
}
