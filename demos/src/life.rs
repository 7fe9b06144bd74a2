//! The Game of Life on one grid in shared memory, seen from one node.
//!
//! The region holds two generations, each from the start of a page on, its rows packed as in [`Grid`] and without
//! gaps. Node `i` of `N` computes the rows from `H * i / N` up to `H * (i + 1) / N`: it reads them and one row on each
//! side out of the one generation, writes the next into the other, and meets the others at a barrier. One barrier a
//! generation is enough: between two of them one generation is only read and the other only written, each row by one
//! node. Pages may hold rows of several nodes.
//!
//! A row is stored only if it differs from what this node stored there two generations ago; what is still or blinks
//! with period two costs no page fault.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pagemesh::{
    AccessError, Barrier, Departure, DepartureKind, Mesh, NodeId, Region, RegionError, RegionOptions,
    SharedSlice, SyncError,
};

use crate::grid::{Grid, GridSize, PatternTooLarge, centred_rows};
use crate::picture::PAGE_BYTES;
use crate::step::step_band;
use crate::view::{Caption, View};

const REGION: &str = "life";
const BARRIER: u64 = 0;

/// How long to wait, when shared memory fails, for word of the node that failed. Peers notice a death at different
/// moments, and some see first that others left because of it.
const DEPARTURE_WAIT: Duration = Duration::from_secs(1);

/// The same when the game is being stopped: then others leave because they were stopped as well.
const DEPARTURE_WAIT_STOPPING: Duration = Duration::from_millis(100);

/// What to play. All nodes must play the same.
#[derive(Debug, Clone)]
pub struct Plan {
    size: GridSize,
    pattern: Grid,
    generations: u64,
}

impl Plan {
    /// `generations` generations on a grid of `size` that starts with `pattern` in its middle, where [`Grid::centred`]
    /// puts it.
    ///
    /// # Errors
    /// [`PatternTooLarge`] if the pattern does not fit into the grid.
    pub fn new(size: GridSize, pattern: Grid, generations: u64) -> Result<Self, PatternTooLarge> {
        centred_rows(size, &pattern, 0..0)?;
        Ok(Self { size, pattern, generations })
    }

    /// Size of the grid.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// How many generations pass.
    pub fn generations(&self) -> u64 {
        self.generations
    }
}

/// How a game ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The last generation, read out of shared memory.
    pub grid: Grid,
    /// Time from the moment all nodes had set up their rows until the last generation was complete.
    pub elapsed: Duration,
}

/// Why a game came to no end. What failed underneath is the error's source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifeError {
    /// Another node is gone, and its rows cannot be computed any more.
    #[error("node {node} {how} in generation {generation}; the game cannot go on without its rows")]
    NodeLost {
        /// The node that is gone.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
        /// The generation that was being computed.
        generation: u64,
        /// What failed here because of it.
        source: SharingError,
    },
    /// Shared memory failed, and no node is known to be gone.
    #[error("sharing the grid failed in generation {generation}")]
    Sharing {
        /// The generation that was being computed.
        generation: u64,
        /// What failed.
        source: SharingError,
    },
    /// The view could not be drawn.
    #[error("the grid cannot be drawn")]
    View(#[from] io::Error),
    /// The caller asked to stop.
    #[error("stopped in generation {generation}")]
    Stopped {
        /// The generation that was being computed.
        generation: u64,
    },
}

/// What failed when the grid was set up or shared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharingError {
    /// The pattern does not fit into the grid.
    #[error(transparent)]
    Pattern(#[from] PatternTooLarge),
    /// The region could not be set up.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The grid could not be read or written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The nodes could not meet at the barrier.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// Why a step of the game failed; made a [`LifeError`] once it is known who is to blame.
#[derive(Debug)]
enum Failure {
    Sharing(SharingError),
    View(io::Error),
    Stopped,
}

impl<E: Into<SharingError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Sharing(error.into())
    }
}

/// A drawing error on its way through [`View::draw`].
#[derive(Debug)]
enum DrawError {
    Access(AccessError),
    View(io::Error),
}

impl From<io::Error> for DrawError {
    fn from(error: io::Error) -> Self {
        Self::View(error)
    }
}

impl From<DrawError> for Failure {
    fn from(error: DrawError) -> Self {
        match error {
            DrawError::Access(error) => error.into(),
            DrawError::View(error) => Self::View(error),
        }
    }
}

/// Plays this node's part of a game, in which every node of `mesh` must take part; returns the ending on node 0 and
/// `None` elsewhere.
///
/// The `view`, if any, is drawn while the game runs; one node should have one. Setting `stop` ends the game between
/// two generations.
///
/// # Errors
/// [`LifeError`]: another node is gone, shared memory or the view failed, or `stop` was set. The mesh can only be left
/// then.
pub fn play<W: Write>(
    mesh: &Mesh,
    plan: &Plan,
    view: Option<&mut View<W>>,
    stop: &AtomicBool,
) -> Result<Option<Ending>, LifeError> {
    let mut generation = 0;
    Player::new(mesh, plan)
        .and_then(|mut player| player.play(plan, view, stop, &mut generation))
        .map_err(|failure| explain(mesh, generation, failure, stop))
}

/// Finds out whether a failure comes from a node that is gone, and which.
fn explain(mesh: &Mesh, generation: u64, failure: Failure, stop: &AtomicBool) -> LifeError {
    let source = match failure {
        Failure::View(error) => return LifeError::View(error),
        Failure::Stopped => return LifeError::Stopped { generation },
        Failure::Sharing(source) => source,
    };
    let stopping = stop.load(Ordering::Relaxed);
    let deadline = Instant::now() + if stopping { DEPARTURE_WAIT_STOPPING } else { DEPARTURE_WAIT };
    let mut left = None;
    while let Some(Departure { node, how }) =
        mesh.wait_departure(deadline.saturating_duration_since(Instant::now()))
    {
        match how {
            DepartureKind::Died => return LifeError::NodeLost { node, how, generation, source },
            // Perhaps it left because of the one that died: word of that one may still come.
            DepartureKind::Left => left = left.or(Some(node)),
        }
    }
    match left {
        _ if stopping => LifeError::Stopped { generation },
        Some(node) => LifeError::NodeLost { node, how: DepartureKind::Left, generation, source },
        None => LifeError::Sharing { generation, source },
    }
}

/// The rows that node `node` of `nodes` computes; none if there are fewer rows than nodes.
fn band(height: usize, node: usize, nodes: usize) -> Range<usize> {
    height * node / nodes..height * (node + 1) / nodes
}

/// Words from the start of one generation to the start of the other.
fn generation_words(size: GridSize) -> usize {
    size.words().next_multiple_of(PAGE_BYTES / 8)
}

/// One node's part of the game.
struct Player<'a> {
    mesh: &'a Mesh,
    barrier: Barrier,
    region: Region,
    shared: SharedSlice<u64>,
    size: GridSize,
    rows: Range<usize>,
    /// The band with one row on each side; those outside the grid stay dead.
    window: Vec<u64>,
    next: Vec<u64>,
    /// What this node last stored in its rows of each of the two generations.
    stored: [Vec<u64>; 2],
}

impl<'a> Player<'a> {
    fn new(mesh: &'a Mesh, plan: &Plan) -> Result<Self, Failure> {
        let size = plan.size;
        let words = 2 * generation_words(size);
        let region = mesh.region(REGION, RegionOptions::new(words * 8))?;
        let rows = band(size.height(), mesh.node().index(), mesh.nodes());
        let band_words = rows.len() * size.stride_words();
        Ok(Self {
            mesh,
            barrier: mesh.barrier(BARRIER),
            shared: region.slice(0, words)?,
            region,
            size,
            rows,
            window: vec![0; band_words + 2 * size.stride_words()],
            next: vec![0; band_words],
            // Shared memory starts as zeros.
            stored: [vec![0; band_words], vec![0; band_words]],
        })
    }

    fn play<W: Write>(
        &mut self,
        plan: &Plan,
        mut view: Option<&mut View<W>>,
        stop: &AtomicBool,
        generation: &mut u64,
    ) -> Result<Option<Ending>, Failure> {
        self.next = centred_rows(self.size, &plan.pattern, self.rows.clone())?;
        self.store(0)?;
        self.barrier.wait()?;
        let started = Instant::now();
        while *generation < plan.generations {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
            if let Some(view) = &mut view {
                view.pace();
                if view.is_due() {
                    self.draw(view, plan, *generation)?;
                }
            }
            self.compute(*generation)?;
            self.store(*generation + 1)?;
            self.barrier.wait()?;
            *generation += 1;
        }
        let elapsed = started.elapsed();
        if let Some(view) = &mut view {
            self.draw(view, plan, *generation)?;
        }
        let ending = match self.mesh.node().index() {
            0 => Some(Ending { grid: self.read_all(*generation)?, elapsed }),
            _ => None,
        };
        // Nobody may take its pages away before node 0 has read them.
        self.barrier.wait()?;
        Ok(ending)
    }

    /// Index of the first word of a generation in the region.
    fn start_of(&self, generation: u64) -> usize {
        (generation % 2) as usize * generation_words(self.size)
    }

    /// Reads this node's rows and those beside them, and computes what comes next.
    fn compute(&mut self, generation: u64) -> Result<(), AccessError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let stride = self.size.stride_words();
        let from = self.rows.start.saturating_sub(1);
        let until = (self.rows.end + 1).min(self.size.height());
        // A band at the top has no row above it: the first row of the window stays dead.
        let skipped = (from + 1 - self.rows.start) * stride;
        let start = self.start_of(generation) + from * stride;
        self.shared.read(start, &mut self.window[skipped..][..(until - from) * stride])?;
        step_band(&self.window, stride, self.size.last_word_mask(), &mut self.next);
        Ok(())
    }

    /// Writes those rows of `next` that are not in shared memory yet, neighbouring ones in one go.
    fn store(&mut self, generation: u64) -> Result<(), AccessError> {
        let stride = self.size.stride_words();
        let start = self.start_of(generation) + self.rows.start * stride;
        let stored = &mut self.stored[(generation % 2) as usize];
        for changed in changed_rows(&self.next, stored, stride) {
            let words = changed.start * stride..changed.end * stride;
            self.shared.write(start + words.start, &self.next[words])?;
        }
        stored.copy_from_slice(&self.next);
        Ok(())
    }

    fn read_all(&self, generation: u64) -> Result<Grid, AccessError> {
        let mut words = vec![0; self.size.words()];
        self.shared.read(self.start_of(generation), &mut words)?;
        Ok(Grid::from_words(self.size, words))
    }

    fn draw<W: Write>(&self, view: &mut View<W>, plan: &Plan, generation: u64) -> Result<(), Failure> {
        let grid = self.read_all(generation)?;
        let first_page = self.start_of(generation) * 8 / PAGE_BYTES;
        let caption = Caption { generation, generations: plan.generations, nodes: self.mesh.nodes() };
        view.draw(&grid, caption, |page| {
            let owner = self.region.page_owner(first_page + page).map_err(DrawError::Access)?;
            Ok::<_, DrawError>(owner.map(NodeId::index))
        })?;
        Ok(())
    }
}

/// The rows in which `new` and `old` differ, as ranges as long as possible.
fn changed_rows(new: &[u64], old: &[u64], stride: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (row, (new, old)) in new.chunks_exact(stride).zip(old.chunks_exact(stride)).enumerate() {
        if new == old {
            continue;
        }
        match ranges.last_mut() {
            Some(range) if range.end == row => range.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_every_row_once_and_differ_by_at_most_one() {
        for height in 1..70 {
            for nodes in 1..=64 {
                let bands: Vec<_> = (0..nodes).map(|node| band(height, node, nodes)).collect();
                assert!(bands.iter().cloned().flatten().eq(0..height), "{height} rows, {nodes} nodes");
                let lengths: Vec<_> = bands.iter().map(Range::len).collect();
                assert!(lengths.iter().max().unwrap_or(&0) - lengths.iter().min().unwrap_or(&0) <= 1);
            }
        }
    }

    #[test]
    fn each_generation_starts_on_a_page() {
        for (width, height) in [(1, 1), (64, 512), (65, 512), (640, 640), (999, 1001)] {
            let size = GridSize::new(width, height).expect("a valid size");
            let bytes = generation_words(size) * 8;
            assert_eq!(bytes % PAGE_BYTES, 0);
            assert!(bytes >= size.words() * 8 && bytes < size.words() * 8 + PAGE_BYTES);
        }
    }

    #[test]
    fn only_rows_that_changed_are_stored() {
        let (old, new) = ([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], [0, 0, 1, 9, 9, 2, 3, 3, 9, 4]);
        assert_eq!(changed_rows(&new, &old, 2), [1..3, 4..5]);
        assert_eq!(changed_rows(&old, &old, 2), []);
        assert_eq!(changed_rows(&[], &[], 2), []);
    }
}
