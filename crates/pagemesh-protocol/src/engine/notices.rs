//! Write notices: which pages each node wrote, and what each node has been told of it.
//!
//! A node's time is cut into *intervals* by its releases. Interval `k` of a writer is known by the pages that it wrote in
//! it. What a node knows is a *vector time*: of each writer, up to which interval it has been told everything. Whoever
//! passes on a lock or opens a barrier first tells the other what that one lacks, so that knowing of a release always includes
//! all that the releaser knew (Keleher, Cox and Zwaenepoel 1992).
//!
//! Of a page that a writer wrote again and again only the last interval is kept: a page is dropped because of the newest notice
//! just as well as because of all of them, and whoever was told of the newest needs no older one. So the notices never
//! take more room than the pages that were ever written, however often locks change hands. What every node is known to know
//! goes altogether ([`Notices::settle`]).

use crate::ids::{NodeId, PageAddress, RegionId};
use crate::limits;
use std::collections::{BTreeMap, BTreeSet};

/// Neighbouring pages of one region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct PageRun {
    pub(super) first: PageAddress,
    pub(super) count: u64,
}

impl PageRun {
    fn end(self) -> u64 {
        self.first.page + self.count
    }

    /// The part from page `from` up to `to`, if there is one.
    fn part(self, from: u64, to: u64) -> Option<PageRun> {
        let (from, to) = (from.max(self.first.page), to.min(self.end()));
        (from < to).then(|| PageRun { first: PageAddress::new(self.first.region, from), count: to - from })
    }

    pub(super) fn pages(self) -> impl Iterator<Item = PageAddress> {
        (self.first.page..self.end()).map(move |page| PageAddress::new(self.first.region, page))
    }

    /// The longest runs that `pages`, in order and without repetition, make up.
    pub(super) fn gather(pages: &[PageAddress]) -> impl Iterator<Item = PageRun> + '_ {
        pages
            .chunk_by(|one, next| one.region == next.region && one.page + 1 == next.page)
            .map(|run| PageRun { first: run[0], count: run.len() as u64 })
    }
}

/// The last interval in which one writer wrote each page.
#[derive(Clone, Debug, Default, Hash)]
struct Written {
    /// Runs that do not overlap, by their first page, with their intervals.
    by_page: BTreeMap<PageAddress, (u64, u64)>,
    /// The same runs: their intervals and first pages.
    by_interval: BTreeSet<(u64, PageAddress)>,
}

impl Written {
    fn interval(&self, page: PageAddress) -> Option<u64> {
        let (first, (count, interval)) = self.by_page.range(..=page).next_back()?;
        (first.region == page.region && page.page < first.page + count).then_some(*interval)
    }

    fn newer_than(&self, interval: u64) -> impl Iterator<Item = (u64, PageRun)> + '_ {
        let oldest = (interval + 1, PageAddress::new(RegionId(0), 0));
        self.by_interval.range(oldest..).map(|(interval, first)| (*interval, self.run(*first)))
    }

    fn run(&self, first: PageAddress) -> PageRun {
        PageRun { first, count: self.by_page[&first].0 }
    }

    /// Runs that share pages with `run`.
    fn overlapping(&self, run: PageRun) -> Vec<(u64, PageRun)> {
        let before = self.by_page.range(..run.first).next_back();
        let end = PageAddress::new(run.first.region, run.end());
        before
            .into_iter()
            .chain(self.by_page.range(run.first..end))
            .map(|(first, (count, interval))| (*interval, PageRun { first: *first, count: *count }))
            .filter(|(_, old)| old.first.region == run.first.region && old.end() > run.first.page)
            .collect()
    }

    fn put(&mut self, interval: u64, run: PageRun) {
        self.by_page.insert(run.first, (run.count, interval));
        self.by_interval.insert((interval, run.first));
    }

    fn take(&mut self, interval: u64, run: PageRun) {
        self.by_page.remove(&run.first);
        self.by_interval.remove(&(interval, run.first));
    }

    fn insert(&mut self, interval: u64, run: PageRun) {
        let mut at = run.first.page;
        for (old, overlapped) in self.overlapping(run) {
            if old >= interval {
                if let Some(gap) = run.part(at, overlapped.first.page) {
                    self.put(interval, gap);
                }
                at = at.max(overlapped.end());
                continue;
            }
            self.take(old, overlapped);
            let (left, right) = (overlapped.part(0, run.first.page), overlapped.part(run.end(), u64::MAX));
            for rest in left.into_iter().chain(right) {
                self.put(old, rest);
            }
        }
        if let Some(rest) = run.part(at, run.end()) {
            self.put(interval, rest);
        }
    }

    /// Forgets what is not newer than `interval`, but for the runs that `keep` wants.
    fn forget(&mut self, interval: u64, mut keep: impl FnMut(u64, PageRun) -> bool) {
        let newer = self.by_interval.split_off(&(interval + 1, PageAddress::new(RegionId(0), 0)));
        let older = std::mem::replace(&mut self.by_interval, newer);
        for (interval, first) in older {
            if keep(interval, self.run(first)) {
                self.by_interval.insert((interval, first));
            } else {
                self.by_page.remove(&first);
            }
        }
    }
}

/// What this node has to do with one peer's knowledge. All are lower bounds, a number a writer.
#[derive(Clone, Debug, Default, Hash)]
struct Peer {
    /// What the peer will have been told of each writer when the next message comes to it.
    knows: Vec<u64>,
    /// What the peer has said that it knows.
    confirmed: Vec<u64>,
    /// What the peer need not tell this node, as it can tell.
    credits: Vec<u64>,
    /// What this node has said to the peer that it knows.
    said: Vec<u64>,
    /// The state of this node's knowledge when both were last brought up to date.
    told_at: u64,
    asked_at: u64,
}

/// What goes to a peer before a message that passes on a lock or opens a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Tale {
    /// The writer wrote these pages, last in this interval.
    Wrote { writer: NodeId, interval: u64, run: PageRun },
    /// That was all of the writer up to this interval.
    Told { writer: NodeId, interval: u64 },
    /// This node knows all of the writer up to this interval.
    Knows { writer: NodeId, interval: u64 },
}

/// What this node knows of who wrote what, and what it knows of who knows it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Notices {
    node: NodeId,
    /// Of each writer, the interval up to which this node has been told everything.
    known: Vec<u64>,
    /// Of each writer, the interval up to which this node's copies are without what was written.
    applied: Vec<u64>,
    /// Of each writer, the interval up to which all nodes are known to know everything.
    settled: Vec<u64>,
    written: Vec<Written>,
    peers: Vec<Peer>,
    /// Counts the changes of `known`.
    state: u64,
}

impl Notices {
    pub(super) fn new(node: NodeId, nodes: u16) -> Notices {
        let count = nodes as usize;
        Notices {
            node,
            known: vec![0; count],
            applied: vec![0; count],
            settled: vec![0; count],
            written: vec![Written::default(); count],
            peers: vec![Peer::default(); count],
            state: 0,
        }
    }

    /// What `peer` is known to know of `writer`.
    fn knows(&self, peer: NodeId, writer: usize) -> u64 {
        at(&self.peers[peer.index()].knows, writer).max(self.settled[writer])
    }

    fn writers(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.known.len()
    }

    pub(super) fn known(&self, writer: NodeId) -> u64 {
        self.known[writer.index()]
    }

    /// Whether no node has told of any interval, nor this one ended one.
    pub(super) fn knows_of_nobody(&self) -> bool {
        self.state == 0
    }

    /// Up to which of its intervals all nodes are known to know everything of `writer`.
    pub(super) fn settled(&self, writer: NodeId) -> u64 {
        self.settled[writer.index()]
    }

    /// Up to which of its intervals `writer` has told this node of its writes, without anyone between.
    pub(super) fn told_by_itself(&self, writer: NodeId) -> u64 {
        at(&self.peers[writer.index()].confirmed, writer.index())
    }

    /// Who wrote `page`, and when last, as far as that is not settled.
    pub(super) fn writers_of(&self, page: PageAddress) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.written
            .iter()
            .enumerate()
            .filter(|(_, written)| !written.by_page.is_empty())
            .filter_map(move |(writer, written)| Some((NodeId::new(writer as u16), written.interval(page)?)))
    }

    /// When `writer` wrote `page` last, if it did and that is not settled.
    pub(super) fn interval_of(&self, writer: NodeId, page: PageAddress) -> Option<u64> {
        self.written[writer.index()].interval(page)
    }

    /// The interval in which this node wrote `page` last, if it did and that is not settled.
    pub(super) fn written_here(&self, page: PageAddress) -> Option<u64> {
        self.written[self.node.index()].interval(page)
    }

    /// Notices held.
    pub(super) fn held(&self) -> usize {
        self.written.iter().map(|written| written.by_page.len()).sum()
    }

    /// The region is gone: who wrote what there is of no use.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        for written in &mut self.written {
            written.by_page.retain(|first, _| first.region != region);
            written.by_interval.retain(|(_, first)| first.region != region);
        }
    }

    /// A new interval of this node, in which it wrote `pages`, which are in order. Returns its number.
    pub(super) fn close(&mut self, pages: &[PageAddress]) -> u64 {
        let own = self.node.index();
        self.known[own] += 1;
        self.applied[own] = self.known[own];
        self.state += 1;
        for run in PageRun::gather(pages) {
            self.written[own].insert(self.known[own], run);
        }
        self.known[own]
    }

    /// A peer said that `writer` wrote these pages.
    pub(super) fn heard_of(&mut self, writer: NodeId, interval: u64, run: PageRun) {
        if interval > self.known[writer.index()] {
            self.written[writer.index()].insert(interval, run);
        }
    }

    /// A peer has told everything of `writer` up to `interval`.
    pub(super) fn told_by(&mut self, peer: NodeId, writer: NodeId, interval: u64) {
        let known = &mut self.known[writer.index()];
        if interval > *known {
            *known = interval;
            self.state += 1;
        }
        let peer = &mut self.peers[peer.index()];
        for times in [&mut peer.knows, &mut peer.confirmed, &mut peer.credits] {
            raise(times, writer, interval, self.known.len());
        }
    }

    /// A peer said that it knows everything of `writer` up to `interval`.
    pub(super) fn peer_knows(&mut self, peer: NodeId, writer: NodeId, interval: u64) {
        let peer = &mut self.peers[peer.index()];
        for times in [&mut peer.knows, &mut peer.confirmed] {
            raise(times, writer, interval, self.known.len());
        }
    }

    /// What `peer` lacks of what this node knows; from now on it is taken to know it.
    pub(super) fn tell(&mut self, peer: NodeId, tales: &mut Vec<Tale>) {
        if peer == self.node || self.peers[peer.index()].told_at == self.state {
            return;
        }
        for writer in self.writers().filter(|writer| *writer != peer.index()) {
            let (known, name) = (self.known[writer], NodeId::new(writer as u16));
            let knows = self.knows(peer, writer);
            if known > knows {
                // What is newer than `known` has taken the place of what is not.
                let news = self.written[writer].newer_than(knows);
                tales.extend(news.map(|(interval, run)| Tale::Wrote { writer: name, interval, run }));
                tales.push(Tale::Told { writer: name, interval: known });
                let count = self.known.len();
                let peer = &mut self.peers[peer.index()];
                for times in [&mut peer.knows, &mut peer.credits, &mut peer.said] {
                    raise(times, name, known, count);
                }
            }
        }
        self.peers[peer.index()].told_at = self.state;
    }

    /// What `peer` should know that this node knows, lest it tell it again.
    pub(super) fn ask(&mut self, peer: NodeId, tales: &mut Vec<Tale>) {
        if peer == self.node || self.peers[peer.index()].asked_at == self.state {
            return;
        }
        let own = self.node.index();
        for writer in self.writers().filter(|writer| *writer != own) {
            if self.known[writer] > at(&self.peers[peer.index()].credits, writer).max(self.settled[writer]) {
                self.say_known(peer, writer, tales);
            }
        }
        self.peers[peer.index()].asked_at = self.state;
    }

    /// Everything that this node knows, as far as it has not said so to `peer`.
    pub(super) fn confirm(&mut self, peer: NodeId, tales: &mut Vec<Tale>) {
        if peer == self.node {
            return;
        }
        let own = self.node.index();
        for writer in self.writers().filter(|writer| *writer != own) {
            if self.known[writer] > at(&self.peers[peer.index()].said, writer).max(self.settled[writer]) {
                self.say_known(peer, writer, tales);
            }
        }
    }

    fn say_known(&mut self, peer: NodeId, writer: usize, tales: &mut Vec<Tale>) {
        let (name, known, count) = (NodeId::new(writer as u16), self.known[writer], self.known.len());
        tales.push(Tale::Knows { writer: name, interval: known });
        let peer = &mut self.peers[peer.index()];
        for times in [&mut peer.credits, &mut peer.said] {
            raise(times, name, known, count);
        }
    }

    /// What was written by others that this node's copies do not reflect; from now on they are taken to be without it.
    pub(super) fn apply(&mut self, dropped: &mut Vec<(NodeId, u64, PageRun)>) {
        for writer in self.writers().filter(|writer| *writer != self.node.index()) {
            let (known, applied) = (self.known[writer], self.applied[writer]);
            if known > applied {
                let name = NodeId::new(writer as u16);
                let news = self.written[writer].newer_than(applied);
                dropped.extend(news.map(|(interval, run)| (name, interval, run)));
                self.applied[writer] = known;
            }
        }
    }

    /// Of which writers all of `live` are now known to know more: the writers, with the intervals.
    pub(super) fn agreed(&self, live: &[NodeId]) -> Vec<(NodeId, u64)> {
        let news = self.writers().filter_map(|writer| {
            let others = live.iter().filter(|peer| **peer != self.node && peer.index() != writer);
            let least = others.map(|peer| at(&self.peers[peer.index()].confirmed, writer)).min();
            let all = least.unwrap_or(u64::MAX).min(self.known[writer]);
            (all > self.settled[writer]).then_some((NodeId::new(writer as u16), all))
        });
        news.collect()
    }

    /// All nodes know everything of `writer` up to `interval`: notices of it are of use to nobody, but for those that `keep` wants,
    /// once this node's copies are without what was written.
    pub(super) fn settle(&mut self, writer: NodeId, interval: u64, keep: impl FnMut(u64, PageRun) -> bool) {
        let settled = &mut self.settled[writer.index()];
        *settled = interval.max(*settled);
        let over = (*settled).min(self.applied[writer.index()]);
        self.written[writer.index()].forget(over, keep);
    }
}

fn at(times: &[u64], writer: usize) -> u64 {
    times.get(writer).copied().unwrap_or(0)
}

/// Most peers never speak of notices: what is known of them takes no room until then.
fn raise(times: &mut Vec<u64>, writer: NodeId, interval: u64, count: usize) {
    debug_assert!(count <= limits::NODES);
    if times.is_empty() {
        times.resize(count, 0);
    }
    let time = &mut times[writer.index()];
    *time = interval.max(*time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const REGION: RegionId = RegionId(0);

    fn page(number: u64) -> PageAddress {
        PageAddress::new(REGION, number)
    }

    fn run(first: u64, count: u64) -> PageRun {
        PageRun { first: page(first), count }
    }

    proptest! {
        /// The two indices agree with a plain table, whatever overlaps whatever.
        #[test]
        fn each_page_has_its_newest_interval(
            steps in prop::collection::vec((0..40_u64, 1..12_u64, 1..9_u64), 1..40), bound in 0..9_u64
        ) {
            let mut written = Written::default();
            let mut table = BTreeMap::new();
            for (first, count, interval) in steps {
                written.insert(interval, run(first, count));
                for number in first..first + count {
                    let newest = table.entry(number).or_insert(interval);
                    *newest = interval.max(*newest);
                }
            }
            let newer = |written: &Written, bound| {
                let runs: Vec<_> = written.newer_than(bound).collect();
                let mut pages = BTreeMap::new();
                for (interval, run) in runs {
                    for page in run.pages() {
                        assert_eq!(pages.insert(page.page, interval), None, "runs overlap");
                    }
                }
                pages
            };
            for number in 0..60 {
                prop_assert_eq!(written.interval(page(number)), table.get(&number).copied());
            }
            prop_assert_eq!(&newer(&written, 0), &table);
            table.retain(|_, interval| *interval > bound);
            prop_assert_eq!(&newer(&written, bound), &table);
            written.forget(bound, |_, _| false);
            prop_assert_eq!(&newer(&written, 0), &table);
        }
    }

    #[test]
    fn a_peer_is_told_what_it_lacks_and_no_more() {
        let (me, other, third) = (NodeId::new(0), NodeId::new(1), NodeId::new(2));
        let mut notices = Notices::new(me, 3);
        let mut tales = Vec::new();
        notices.close(&[page(1), page(2), page(7)]);
        notices.tell(other, &mut tales);
        assert_eq!(
            tales,
            [
                Tale::Wrote { writer: me, interval: 1, run: run(1, 2) },
                Tale::Wrote { writer: me, interval: 1, run: run(7, 1) },
                Tale::Told { writer: me, interval: 1 },
            ]
        );
        tales.clear();
        notices.tell(other, &mut tales);
        assert_eq!(tales, []);
        // A page written again is told of once, with its newest interval.
        notices.close(&[page(2)]);
        notices.close(&[page(2)]);
        notices.tell(other, &mut tales);
        assert_eq!(
            tales,
            [Tale::Wrote { writer: me, interval: 3, run: run(2, 1) }, Tale::Told { writer: me, interval: 3 }]
        );
        // What the third node wrote is passed on, but not to itself, nor to one who says that it knows.
        notices.heard_of(third, 4, run(9, 1));
        notices.told_by(third, third, 4);
        tales.clear();
        notices.tell(third, &mut tales);
        assert!(tales.iter().all(|tale| !matches!(tale, Tale::Wrote { writer, .. } if *writer == third)));
        notices.peer_knows(other, third, 4);
        tales.clear();
        notices.tell(other, &mut tales);
        assert_eq!(tales, []);
        notices.ask(other, &mut tales);
        assert_eq!(tales, [Tale::Knows { writer: third, interval: 4 }]);
    }

    #[test]
    fn a_million_releases_of_the_same_pages_take_the_room_of_one() {
        let mut notices = Notices::new(NodeId::new(0), 2);
        let pages: Vec<PageAddress> = (0..64).step_by(2).map(page).collect();
        for _ in 0..1_000_000 / pages.len() {
            notices.close(&pages);
        }
        assert_eq!(notices.held(), pages.len());
        assert_eq!(notices.written[0].by_interval.len(), pages.len());
    }

    #[test]
    fn what_everyone_knows_is_forgotten() {
        let (me, other) = (NodeId::new(0), NodeId::new(1));
        let mut notices = Notices::new(me, 2);
        notices.close(&[page(1)]);
        assert_eq!(notices.agreed(&[me, other]), []);
        notices.tell(other, &mut Vec::new());
        assert_eq!(notices.agreed(&[me, other]), [], "what was sent may still be on its way");
        notices.peer_knows(other, me, 1);
        assert_eq!(notices.agreed(&[me, other]), [(me, 1)]);
        notices.settle(me, 1, |_, _| false);
        assert_eq!((notices.held(), notices.agreed(&[me, other])), (0, vec![]));
        // Not before the copies here are without it.
        notices.heard_of(other, 5, run(3, 4));
        notices.told_by(other, other, 5);
        notices.settle(other, 5, |_, _| false);
        assert_eq!(notices.held(), 1);
        let mut dropped = Vec::new();
        notices.apply(&mut dropped);
        assert_eq!(dropped, [(other, 5, run(3, 4))]);
        notices.settle(other, 5, |_, _| false);
        assert_eq!(notices.held(), 0);
    }
}
