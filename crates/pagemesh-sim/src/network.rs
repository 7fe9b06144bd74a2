//! The links between nodes: each delivers in order, and none knows of the others.

use crate::config::Timing;
use crate::event::Words;
use crate::random::Random;
use pagemesh_protocol::Message;
use std::collections::VecDeque;

/// What travels on a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parcel {
    Message {
        message: Message,
        payload: Option<Words>,
    },
    /// The sender waits for what the receiver has put off, or will.
    Hurry,
    /// The sender's connection is gone; nothing comes after.
    Closed,
}

/// When a parcel arrives that its sender has put off.
const PUT_OFF: u64 = u64::MAX;

/// All links of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    nodes: usize,
    timing: Timing,
    random: Random,
    /// By sender times nodes plus receiver: parcels, and when each may arrive, in microseconds.
    links: Vec<VecDeque<(u64, Parcel)>>,
    /// When the first parcel of each link may arrive; `u64::MAX` where there is none.
    heads: Vec<u64>,
    /// How much slower than others a link is.
    slowness: Vec<u64>,
    /// Whether a link's connection is broken: what is sent on it is gone.
    broken: Vec<bool>,
    /// Whether the receiver of a link has said that it waits for what is put off there: nothing is, from then on.
    hurried: Vec<bool>,
    parcels: usize,
}

impl Network {
    pub(crate) fn new(nodes: usize, timing: Timing, mut random: Random) -> Network {
        let count = nodes * nodes;
        let slowness = (0..count)
            .map(|link| {
                let ends = [Some((link / nodes) as u16), Some((link % nodes) as u16)];
                let slow_end = timing.slow_node.is_some() && ends.contains(&timing.slow_node);
                let slow_link = random.chance(timing.slow_link_percent);
                if slow_end || slow_link { timing.slow_factor } else { 1 }
            })
            .collect();
        let links = vec![VecDeque::new(); count];
        let heads = vec![u64::MAX; count];
        Network {
            nodes,
            timing,
            random,
            links,
            heads,
            slowness,
            broken: vec![false; count],
            hurried: vec![false; count],
            parcels: 0,
        }
    }

    /// From now on no message takes much longer than others.
    pub(crate) fn calm(&mut self) {
        self.timing = self.timing.calm();
        self.slowness.fill(1);
    }

    /// Nothing more can be sent on this link.
    pub(crate) fn break_off(&mut self, link: usize) {
        self.broken[link] = true;
    }

    pub(crate) fn is_broken(&self, link: usize) -> bool {
        self.broken[link]
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    /// Sender and receiver of a link.
    pub(crate) fn ends(&self, link: usize) -> (usize, usize) {
        (link / self.nodes, link % self.nodes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parcels == 0
    }

    /// A random time on the way, microseconds.
    pub(crate) fn delay(&mut self, link: usize) -> u64 {
        if self.timing.unordered {
            return 0;
        }
        let Timing { delay_us, jitter_us, tail_percent, tail_us, .. } = self.timing;
        let tail = if self.random.chance(tail_percent) { self.random.below(tail_us) } else { 0 };
        (delay_us + self.random.below(jitter_us + 1) + tail) * self.slowness[link]
    }

    /// Puts a parcel on a link that waits there until something else is sent; true unless the receiver waits for it.
    pub(crate) fn put_off(&mut self, link: usize, parcel: Parcel) -> bool {
        if self.hurried[link] {
            return false;
        }
        self.links[link].push_back((PUT_OFF, parcel));
        self.parcels += 1;
        true
    }

    /// What is put off on a link is sent.
    pub(crate) fn release(&mut self, link: usize, now: u64) {
        if self.links[link].back().is_none_or(|(at, _)| *at != PUT_OFF) {
            return;
        }
        let first = self.links[link].iter().position(|(at, _)| *at == PUT_OFF).unwrap_or(0);
        for place in first..self.links[link].len() {
            let earliest = if place == 0 { 0 } else { self.links[link][place - 1].0 };
            self.links[link][place].0 = earliest.max(now + self.delay(link));
        }
        self.note_head(link);
    }

    /// What a node has put off for anybody is sent.
    pub(crate) fn release_from(&mut self, from: usize, now: u64) {
        for to in 0..self.nodes {
            self.release(self.link(from, to), now);
        }
    }

    /// The receiver of a link waits for what is put off there.
    pub(crate) fn hurry(&mut self, link: usize, now: u64) {
        self.hurried[link] = true;
        self.release(link, now);
    }

    pub(crate) fn push(&mut self, link: usize, now: u64, extra: u64, parcel: Parcel) {
        self.release(link, now);
        let earliest = self.links[link].back().map_or(0, |(at, _)| *at);
        let at = earliest.max(now + extra + self.delay(link));
        self.links[link].push_back((at, parcel));
        self.parcels += 1;
        self.note_head(link);
    }

    fn note_head(&mut self, link: usize) {
        self.heads[link] = self.links[link].front().map_or(u64::MAX, |(at, _)| *at);
    }

    /// When the first parcel of each link may arrive.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (usize, u64)> {
        self.heads.iter().copied().enumerate().filter(|(_, at)| *at < u64::MAX)
    }

    pub(crate) fn first(&self, link: usize) -> Option<Parcel> {
        self.links[link].front().map(|(_, parcel)| *parcel)
    }

    pub(crate) fn pop(&mut self, link: usize) -> Option<Parcel> {
        let (_, parcel) = self.links[link].pop_front()?;
        self.parcels -= 1;
        self.note_head(link);
        Some(parcel)
    }

    /// Cuts a link off after `kept` parcels; returns the others.
    pub(crate) fn cut(&mut self, link: usize, kept: usize) -> Vec<Parcel> {
        let kept = kept.min(self.links[link].len());
        let lost: Vec<Parcel> = self.links[link].drain(kept..).map(|(_, parcel)| parcel).collect();
        self.parcels -= lost.len();
        self.note_head(link);
        lost
    }

    pub(crate) fn length(&self, link: usize) -> usize {
        self.links[link].len()
    }

    /// A planted fault: the last two messages of a link change places; false when there are no two.
    pub(crate) fn swap_last(&mut self, link: usize) -> bool {
        let queue = &mut self.links[link];
        let count = queue.len();
        if count < 2 {
            return false;
        }
        let (before, last) = (queue[count - 2].1, queue[count - 1].1);
        if matches!(before, Parcel::Closed) || matches!(last, Parcel::Closed) {
            return false;
        }
        queue[count - 2].1 = last;
        queue[count - 1].1 = before;
        true
    }
}
