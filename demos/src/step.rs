//! One generation of B3/S23, 64 cells at a time.
//!
//! A row is a slice of 64-bit words; bit `i` of word `w` is the cell in column `64 * w + i`. Neighbours are counted in
//! all 64 columns at once by full adders on whole words, so the cost of a word does not depend on what lives in it.

/// The words of the rows `above`, `row` and `below` that surround one word, as far as they decide its next generation.
#[derive(Clone, Copy)]
struct Column {
    west: u64,
    here: u64,
    east: u64,
}

impl Column {
    fn of(row: &[u64], word: usize) -> Self {
        Self {
            west: if word == 0 { 0 } else { row[word - 1] },
            here: row[word],
            east: row.get(word + 1).copied().unwrap_or(0),
        }
    }

    /// For each column, the cell to its west.
    fn western(self) -> u64 {
        self.here << 1 | self.west >> 63
    }

    /// For each column, the cell to its east.
    fn eastern(self) -> u64 {
        self.here >> 1 | self.east << 63
    }

    /// Cells that can matter to this word: its own, and one at each end.
    fn any(self) -> u64 {
        self.here | self.west >> 63 | self.east << 63
    }
}

/// Adds three one-bit numbers in every column; returns the ones and the twos.
fn full_add(a: u64, b: u64, c: u64) -> (u64, u64) {
    let half = a ^ b;
    (half ^ c, a & b | half & c)
}

fn next_word(above: Column, row: Column, below: Column) -> u64 {
    let (above_ones, above_twos) = full_add(above.western(), above.here, above.eastern());
    let (below_ones, below_twos) = full_add(below.western(), below.here, below.eastern());
    let (west, east) = (row.western(), row.eastern());
    let (row_ones, row_twos) = (west ^ east, west & east);

    let (ones, carried) = full_add(above_ones, below_ones, row_ones);
    // Two or three neighbours means that exactly one of the four twos is set. When three of them are, one of the two
    // pairs is complete.
    let exactly_one_two =
        (above_twos ^ below_twos ^ row_twos ^ carried) & !(above_twos & below_twos | row_twos & carried);
    exactly_one_two & (ones | row.here)
}

fn is_dead(row: &[u64]) -> bool {
    row.iter().all(|&word| word == 0)
}

/// Writes to `out` the next generation of `row`.
///
/// `last_word_mask` has a bit for each column of the last word that belongs to the grid; all other columns are dead
/// and stay so.
fn step_row(above: &[u64], row: &[u64], below: &[u64], last_word_mask: u64, out: &mut [u64]) {
    for (word, next) in out.iter_mut().enumerate() {
        let columns = [Column::of(above, word), Column::of(row, word), Column::of(below, word)];
        // Most of a large grid is dead: nothing is born where nothing lives nearby.
        *next = if columns.iter().all(|column| column.any() == 0) {
            0
        } else {
            next_word(columns[0], columns[1], columns[2])
        };
    }
    if let Some(last) = out.last_mut() {
        *last &= last_word_mask;
    }
}

/// Computes the next generation of a band of rows.
///
/// `window` holds the row above the band, the rows of the band and the row below it, `stride` words each; `out`
/// receives the rows of the band.
///
/// # Panics
/// If `stride` is zero, or `window` is not two rows larger than `out`: an error of the program, not of its input.
pub(crate) fn step_band(window: &[u64], stride: usize, last_word_mask: u64, out: &mut [u64]) {
    assert_eq!(window.len(), out.len() + 2 * stride, "a window is the band and one row on each side of it");
    let mut rows = window.chunks_exact(stride);
    let (Some(mut above), Some(mut row)) = (rows.next(), rows.next()) else { return };
    let (mut above_dead, mut row_dead) = (is_dead(above), is_dead(row));
    for (below, next) in rows.zip(out.chunks_exact_mut(stride)) {
        let below_dead = is_dead(below);
        if above_dead && row_dead && below_dead {
            next.fill(0);
        } else {
            step_row(above, row, below, last_word_mask, next);
        }
        (above, row) = (row, below);
        (above_dead, row_dead) = (row_dead, below_dead);
    }
}
