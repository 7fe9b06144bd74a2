//! A finite grid of cells in one process: the reference that shared runs are compared with.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::step::step_band;

/// The widest and highest grid that is accepted, in cells. Two generations of the largest grid take 256 MiB.
pub const SIDE_CELLS_MAX: usize = 32_768;

/// The width and height of a grid, in cells; both from 1 to [`SIDE_CELLS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridSize {
    width: usize,
    height: usize,
}

/// Why a size was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GridSizeError {
    /// The text is not two whole numbers with an `x` between them.
    #[error(
        "`{text}` is not a grid size; write the width and the height in cells with an x between, such as 640x640"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// A side is zero or larger than [`SIDE_CELLS_MAX`].
    #[error(
        "a grid of {width}x{height} cells is out of bounds; each side must be from 1 to {SIDE_CELLS_MAX} cells"
    )]
    OutOfBounds {
        /// Width asked for, in cells.
        width: u64,
        /// Height asked for, in cells.
        height: u64,
    },
}

/// A pattern is larger than the grid it should lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is {pattern} cells and does not fit into a grid of {grid}; ask for a larger grid")]
pub struct PatternTooLarge {
    /// Size of the pattern.
    pub pattern: GridSize,
    /// Size of the grid.
    pub grid: GridSize,
}

impl GridSize {
    /// A size of `width` by `height` cells.
    ///
    /// # Errors
    /// [`GridSizeError::OutOfBounds`] if a side is zero or larger than [`SIDE_CELLS_MAX`].
    pub fn new(width: u64, height: u64) -> Result<Self, GridSizeError> {
        let bounds = 1..=SIDE_CELLS_MAX as u64;
        if !bounds.contains(&width) || !bounds.contains(&height) {
            return Err(GridSizeError::OutOfBounds { width, height });
        }
        Ok(Self { width: width as usize, height: height as usize })
    }

    /// Width in cells.
    pub fn width(self) -> usize {
        self.width
    }

    /// Height in cells.
    pub fn height(self) -> usize {
        self.height
    }

    /// Words of 64 cells that one row takes; the last may be used in part.
    pub fn stride_words(self) -> usize {
        self.width.div_ceil(64)
    }

    /// Words of 64 cells that one generation takes.
    pub fn words(self) -> usize {
        self.stride_words() * self.height
    }

    /// The columns of the last word of a row that belong to the grid, as set bits.
    pub(crate) fn last_word_mask(self) -> u64 {
        u64::MAX >> (self.stride_words() * 64 - self.width)
    }
}

impl fmt::Display for GridSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}x{}", self.width, self.height)
    }
}

impl FromStr for GridSize {
    type Err = GridSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || GridSizeError::Malformed { text: text.to_owned() };
        let (width, height) = text.split_once(['x', 'X']).ok_or_else(malformed)?;
        Self::new(side(width).ok_or_else(malformed)?, side(height).ok_or_else(malformed)?)
    }
}

/// A run of decimal digits; one that no 64-bit number holds counts as the largest, which no grid allows.
fn side(text: &str) -> Option<u64> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A finite grid of cells; everything outside is dead and stays so.
///
/// Rows are packed into 64-bit words: bit `i` of word `w` of a row is the cell in column `64 * w + i`. Bits of the last
/// word that lie past the width are always zero, so two grids are equal exactly when their cells are.
#[derive(Clone, PartialEq, Eq)]
pub struct Grid {
    size: GridSize,
    words: Vec<u64>,
}

impl Grid {
    /// A grid on which nothing lives.
    pub fn new(size: GridSize) -> Self {
        Self { size, words: vec![0; size.words()] }
    }

    /// A grid made of packed rows, [`GridSize::words`] words in all; columns past the width are cleared.
    ///
    /// # Panics
    /// If there are more or fewer words than the size asks for.
    pub fn from_words(size: GridSize, mut words: Vec<u64>) -> Self {
        assert_eq!(words.len(), size.words(), "a grid of {size} has {} words", size.words());
        for row in words.chunks_exact_mut(size.stride_words()) {
            row[size.stride_words() - 1] &= size.last_word_mask();
        }
        Self { size, words }
    }

    /// A grid of `size` with `pattern` in its middle: the corner of the pattern lies at
    /// (`(W - w) / 2`, `(H - h) / 2`), rounded down.
    ///
    /// # Errors
    /// [`PatternTooLarge`] if the pattern is wider or higher than the grid.
    pub fn centred(size: GridSize, pattern: &Self) -> Result<Self, PatternTooLarge> {
        Ok(Self { size, words: centred_rows(size, pattern, 0..size.height)? })
    }

    /// Width and height.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// All rows, packed, from the top.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// One packed row.
    ///
    /// # Panics
    /// If the grid has no such row.
    pub fn row(&self, row: usize) -> &[u64] {
        let stride = self.size.stride_words();
        &self.words[row * stride..][..stride]
    }

    /// Whether the cell lives; cells outside the grid do not.
    pub fn is_alive(&self, column: usize, row: usize) -> bool {
        column < self.size.width
            && row < self.size.height
            && self.row(row)[column / 64] >> (column % 64) & 1 == 1
    }

    /// Makes a cell live or die.
    ///
    /// # Panics
    /// If the cell lies outside the grid.
    pub fn set(&mut self, column: usize, row: usize, alive: bool) {
        assert!(
            column < self.size.width && row < self.size.height,
            "cell {column},{row} lies outside a grid of {}",
            self.size
        );
        let word = &mut self.words[row * self.size.stride_words() + column / 64];
        let bit = 1 << (column % 64);
        *word = if alive { *word | bit } else { *word & !bit };
    }

    /// The columns of the cells that live in a row, from the west.
    ///
    /// # Panics
    /// If the grid has no such row.
    pub fn live_columns(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        self.row(row).iter().enumerate().flat_map(|(word, &bits)| {
            let mut rest = bits;
            std::iter::from_fn(move || {
                let column = (rest != 0).then(|| word * 64 + rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(column)
            })
        })
    }

    /// How many cells live.
    pub fn population(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Lets `generations` pass, in this process alone.
    pub fn advance(&mut self, generations: u64) {
        let stride = self.size.stride_words();
        let mut window = vec![0; self.words.len() + 2 * stride];
        for _ in 0..generations {
            window[stride..][..self.words.len()].copy_from_slice(&self.words);
            step_band(&window, stride, self.size.last_word_mask(), &mut self.words);
        }
    }
}

/// The packed rows `rows` of a grid of `size` with `pattern` in its middle, as [`Grid::centred`] puts it there.
pub(crate) fn centred_rows(
    size: GridSize,
    pattern: &Grid,
    rows: Range<usize>,
) -> Result<Vec<u64>, PatternTooLarge> {
    let inner = pattern.size;
    if inner.width > size.width || inner.height > size.height {
        return Err(PatternTooLarge { pattern: inner, grid: size });
    }
    let (left, top) = ((size.width - inner.width) / 2, (size.height - inner.height) / 2);
    let mut words = vec![0; rows.len() * size.stride_words()];
    for row in rows.start.max(top)..rows.end.min(top + inner.height) {
        let packed = &mut words[(row - rows.start) * size.stride_words()..];
        for column in pattern.live_columns(row - top) {
            packed[(left + column) / 64] |= 1 << ((left + column) % 64);
        }
    }
    Ok(words)
}

/// The size and the population: a grid of millions of cells would drown the message it is part of.
impl fmt::Debug for Grid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Grid({}, population {})", self.size, self.population())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(width: u64, height: u64) -> GridSize {
        GridSize::new(width, height).expect("a valid size")
    }

    /// Counts neighbours one by one, as the rule is told to children.
    fn naive_generation(grid: &Grid) -> Grid {
        let mut next = Grid::new(grid.size());
        for row in 0..grid.size().height() {
            for column in 0..grid.size().width() {
                let mut neighbours = 0;
                for (across, down) in [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)] {
                    let neighbour = (column.checked_add_signed(across), row.checked_add_signed(down));
                    if let (Some(column), Some(row)) = neighbour
                        && grid.is_alive(column, row)
                    {
                        neighbours += 1;
                    }
                }
                let alive = neighbours == 3 || neighbours == 2 && grid.is_alive(column, row);
                next.set(column, row, alive);
            }
        }
        next
    }

    prop_compose! {
        fn any_grid()(width in 1_u64..200, height in 1_u64..24)
            (words in prop::collection::vec(any::<u64>(), size(width, height).words()),
             thin in prop::collection::vec(any::<u64>(), size(width, height).words()),
             width in Just(width), height in Just(height)) -> Grid {
            // A quarter of the cells: the density at which most of the rule's cases occur.
            let words = words.iter().zip(&thin).map(|(word, thin)| word & thin).collect();
            Grid::from_words(size(width, height), words)
        }
    }

    proptest! {
        #[test]
        fn the_adder_agrees_with_counting_neighbours(grid in any_grid()) {
            let (mut fast, mut slow) = (grid.clone(), grid);
            for _ in 0..4 {
                fast.advance(1);
                slow = naive_generation(&slow);
                prop_assert!(fast == slow);
            }
        }

        #[test]
        fn population_is_the_number_of_live_cells(grid in any_grid()) {
            let rows = 0..grid.size().height();
            let by_column: usize = rows.clone().map(|row| grid.live_columns(row).count()).sum();
            let one_by_one = rows
                .flat_map(|row| (0..grid.size().width()).map(move |column| (column, row)))
                .filter(|&(column, row)| grid.is_alive(column, row))
                .count();
            prop_assert_eq!(grid.population(), one_by_one as u64);
            prop_assert_eq!(by_column, one_by_one);
        }
    }

    #[test]
    fn sizes_are_read_and_bounded() {
        assert_eq!("640x480".parse(), Ok(size(640, 480)));
        assert_eq!("1X32768".parse(), Ok(size(1, 32_768)));
        for text in ["", "640", "x", "640x", "x640", "640x480x2", "-1x5", "+1x5", "6.5x5", " 6x6", "axb"] {
            assert_eq!(
                text.parse::<GridSize>(),
                Err(GridSizeError::Malformed { text: text.to_owned() }),
                "{text}"
            );
        }
        for text in ["0x5", "5x0", "32769x5", "5x32769", "99999999999999999999999x5"] {
            let refused = text.parse::<GridSize>().expect_err(text);
            assert!(matches!(refused, GridSizeError::OutOfBounds { .. }), "{text}: {refused}");
            assert!(refused.to_string().contains("32768"), "{refused}");
        }
    }

    #[test]
    fn a_pattern_lies_in_the_middle_rounded_down() {
        let mut pattern = Grid::new(size(2, 3));
        pattern.set(0, 0, true);
        let grid = Grid::centred(size(7, 8), &pattern).expect("it fits");
        assert!(grid.is_alive(2, 2));
        assert_eq!(grid.population(), 1);
        assert!(Grid::centred(size(2, 3), &pattern).expect("it fits exactly") == pattern);
        for (width, height) in [(1, 8), (7, 2)] {
            let refused = Grid::centred(size(width, height), &pattern).expect_err("it does not fit");
            assert!(refused.to_string().contains("2x3"), "{refused}");
        }
    }

    #[test]
    fn bands_of_a_centred_pattern_make_up_the_whole() {
        let pattern = crate::patterns::Named::GosperGun.grid();
        let size = size(101, 29);
        let whole = Grid::centred(size, &pattern).expect("it fits");
        let bands =
            [0..0, 0..7, 7..12, 12..12, 12..15, 15..29].map(|rows| centred_rows(size, &pattern, rows));
        let words: Vec<u64> = bands.into_iter().flat_map(|band| band.expect("it fits")).collect();
        assert_eq!(words, whole.words());
        assert_eq!(whole.population(), 36);
    }

    #[test]
    fn cells_outside_the_grid_are_dead() {
        // A blinker on a grid of one row has no room to turn: its ends die, and the middle next.
        let mut grid = Grid::from_words(size(3, 1), vec![0b111]);
        grid.advance(1);
        assert_eq!(grid.words(), [0b010]);
        grid.advance(1);
        assert_eq!(grid.population(), 0);
        assert!(!grid.is_alive(3, 0) && !grid.is_alive(0, 1));
    }
}
