//! A node that allocates, resizes, hands over and frees blocks at random, and knows of each what is in it.

#![allow(unreachable_pub, dead_code, reason = "a module of tests and of an example")]

use pagemesh::{
    AccessError, Heap, HeapAddress, HeapError, Mesh, NodeId, Protocol, RegionOptions, SharedSlice, SyncError,
};

/// Blocks that nodes leave for each other to find.
const SLOTS: usize = 64;
/// Orders the slots where nothing else does.
const SLOTS_LOCK: u64 = 5;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Mostly some words, now and then pages, rarely many.
    fn size(&mut self) -> usize {
        let bound = match self.below(64) {
            0 => 100_000,
            1..8 => 8192,
            8..32 => 1024,
            _ => 128,
        };
        16 + self.below(bound)
    }
}

/// Blocks of this node. A block begins with its size and a number, and the number fills the rest.
pub struct Player<'a> {
    mesh: &'a Mesh,
    heap: &'a Heap,
    bytes: SharedSlice<u8>,
    slots: SharedSlice<u64>,
    random: Random,
    blocks: Vec<HeapAddress>,
    /// Of a hundred steps, those that pass a block on: each moves some pages from node to node.
    hand_overs: usize,
    /// It has no more blocks than so many.
    most: usize,
    /// A node that is killed some time: errors that this explains are none.
    lost: Option<NodeId>,
}

impl<'a> Player<'a> {
    pub fn new(mesh: &'a Mesh, heap: &'a Heap, seed: u64, lost: Option<NodeId>) -> Player<'a> {
        let name = format!("slots of {}", heap.region().name());
        let slots = mesh.region(&name, RegionOptions::new(SLOTS * 8)).unwrap().slice(0, SLOTS).unwrap();
        let bytes = heap.region().slice(0, heap.region().bytes()).unwrap();
        let random = Random(seed << 16 | mesh.node().index() as u64);
        Player {
            mesh,
            heap,
            bytes,
            slots,
            random,
            blocks: Vec::new(),
            hand_overs: 15,
            most: usize::MAX,
            lost,
        }
    }

    /// Has so many of a hundred steps pass a block on, and no more blocks than so many. What nodes pass on, and what one allocates beside another
    /// because there is no more room apart, takes the more time the more of it there is.
    pub fn apart(self, hand_overs: usize, most: usize) -> Player<'a> {
        Player { hand_overs, most, ..self }
    }

    /// What became of a call; `None` when a lost node has spoilt it.
    pub fn survived<T, E: Into<HeapError>>(&self, result: Result<T, E>) -> Option<T> {
        match result.map_err(Into::into) {
            Ok(value) => Some(value),
            Err(HeapError::Access(
                AccessError::PageLost { node, .. } | AccessError::PeerLost { node, .. },
            )) if self.lost == Some(node) => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn fill(&mut self, address: HeapAddress, size: usize) -> Option<()> {
        let number = self.random.next();
        let mut bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
        bytes[..8].copy_from_slice(&(size as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        self.survived(self.bytes.write(self.heap.offset(address), &bytes))
    }

    /// The size that was asked for, once all bytes are found to be as they were written; the first `most`, of a block that was made
    /// smaller.
    fn check(&self, address: HeapAddress, most: usize) -> Option<usize> {
        let mut bytes = vec![0; 16];
        self.survived(self.bytes.read(self.heap.offset(address), &mut bytes))?;
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let number: [u8; 8] = bytes[8..].try_into().unwrap();
        let usable = self.survived(self.heap.usable_size(address))?;
        assert!(size >= 16 && (size <= usable || most <= usable), "{address} has {size} bytes of {usable}");
        let mut bytes = vec![0; size.min(most)];
        self.survived(self.bytes.read(self.heap.offset(address), &mut bytes))?;
        for (place, byte) in bytes.iter().enumerate().skip(16) {
            assert_eq!(*byte, number[place % 8], "byte {place} of the {size} at {address}");
        }
        Some(size)
    }

    fn allocate(&mut self) {
        let size = self.random.size();
        let powers = if self.random.below(20) == 0 { 17 } else { 8 };
        let align = 1 << self.random.below(powers);
        match self.heap.alloc(size, align) {
            Err(HeapError::Exhausted { .. }) => {}
            got => {
                let Some(address) = self.survived(got) else { return };
                assert!(address.get().is_multiple_of(align), "{address} for {align}");
                if self.fill(address, size).is_some() {
                    self.blocks.push(address);
                }
            }
        }
    }

    fn free(&mut self, address: HeapAddress) {
        if self.check(address, usize::MAX).is_some() {
            self.survived(self.heap.free(address));
        }
    }

    fn resize(&mut self, address: HeapAddress) {
        let size = self.random.size();
        let Some(old) = self.check(address, usize::MAX) else { return };
        match self.heap.realloc(address, size) {
            Err(HeapError::Exhausted { .. }) => self.blocks.push(address),
            got => {
                let Some(moved) = self.survived(got) else { return };
                // What was said about the old size is found, and as much of it as has moved.
                if self.check(moved, size).is_some_and(|said| said == old) && self.fill(moved, size).is_some()
                {
                    self.blocks.push(moved);
                }
            }
        }
    }

    /// Leaves a block for another node, and takes what another has left.
    fn hand_over(&mut self, address: Option<HeapAddress>) {
        let word = address.map_or(0, |address| address.get() as u64);
        let slot = self.random.below(SLOTS);
        let is_release = self.heap.region().protocol() == Protocol::Release;
        let _guard = match is_release.then(|| self.mesh.lock(SLOTS_LOCK).inherit(None)) {
            // The queue of this lock was there.
            Some(Err(SyncError::PeerLost { node, .. })) if self.lost == Some(node) => {
                return self.blocks.extend(address);
            }
            guard => guard.transpose().unwrap(),
        };
        // Nobody knows of a block that was left on a page that is lost.
        let found = self.survived(self.slots.swap(slot, word));
        self.blocks.extend(found.and_then(|word| HeapAddress::new(word as usize)));
    }

    pub fn step(&mut self) {
        let address = match self.blocks.len() {
            0 => None,
            count => Some(self.blocks.swap_remove(self.random.below(count))),
        };
        match (self.random.below(100), address) {
            (share, address) if share < self.hand_overs => self.hand_over(address),
            (0..25, Some(address)) => self.resize(address),
            (25..60, Some(address)) => self.free(address),
            (_, Some(address)) if self.blocks.len() >= self.most => self.free(address),
            (_, address) => {
                self.blocks.extend(address);
                self.allocate();
            }
        }
    }

    pub fn free_all(&mut self) {
        for address in std::mem::take(&mut self.blocks) {
            self.free(address);
        }
    }

    /// What this node has, with the bytes that each block can hold.
    pub fn blocks(&self) -> Vec<(HeapAddress, usize)> {
        let usable = |block: &HeapAddress| (*block, self.heap.usable_size(*block).unwrap());
        self.blocks.iter().map(usable).collect()
    }

    /// Takes all that was left for others, while nobody leaves anything.
    pub fn take_what_is_left(&mut self) {
        for slot in 0..SLOTS {
            let word = self.slots.swap(slot, 0).unwrap();
            self.blocks.extend(HeapAddress::new(word as usize));
        }
    }

    /// On all nodes: frees everything, and finds that the heap is as at the beginning.
    pub fn finish(&mut self) {
        self.free_all();
        self.mesh.barrier(1).wait().unwrap();
        if self.mesh.node() == NodeId::COORDINATOR {
            self.take_what_is_left();
            self.free_all();
            let stats = self.heap.stats().unwrap();
            assert_eq!((stats.blocks, stats.bytes, stats.lost_spans), (0, 0, 0), "{stats:?}");
            assert_eq!(stats.free_spans, stats.spans);
            let all = self.heap.alloc(self.heap.capacity(), 1).unwrap();
            self.heap.free(all).unwrap();
        }
        self.mesh.barrier(1).wait().unwrap();
    }
}
