//! A grid scaled down to what fits on a screen, each block of cells with the node that owns its page.

use crate::grid::{Grid, GridSize};

/// Bytes in a page, the unit in which ownership moves.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A square of cells that is drawn as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Whether at least one of its cells lives.
    pub(crate) alive: bool,
    /// The node that owns the page of its first live cell, or of its first cell if none lives; `None` if nobody has
    /// touched the page.
    pub(crate) owner: Option<usize>,
}

/// One frame: a grid in blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    scale: usize,
    columns: usize,
    blocks: Vec<Block>,
}

impl Picture {
    /// Scales `grid` down to at most `columns_max` by `rows_max` blocks, each of as few cells as possible.
    ///
    /// The packed rows of the grid lie in shared memory one after the other from the start of a page on; `owner` is
    /// asked at most once for the owner of each page, counted from that one, and only for pages that are drawn.
    ///
    /// # Errors
    /// The first error of `owner`.
    pub(crate) fn new<E>(
        grid: &Grid,
        columns_max: usize,
        rows_max: usize,
        mut owner: impl FnMut(usize) -> Result<Option<usize>, E>,
    ) -> Result<Self, E> {
        let size = grid.size();
        let scale = scale(size, columns_max, rows_max);
        let (columns, rows) = (size.width().div_ceil(scale), size.height().div_ceil(scale));
        let mut first_live = vec![None; columns * rows];
        for row in 0..size.height() {
            for column in grid.live_columns(row) {
                first_live[row / scale * columns + column / scale].get_or_insert((column, row));
            }
        }
        let mut owners = vec![None; (size.words() * 8).div_ceil(PAGE_BYTES)];
        let mut blocks = Vec::with_capacity(first_live.len());
        for (index, &live) in first_live.iter().enumerate() {
            let (column, row) = live.unwrap_or((index % columns * scale, index / columns * scale));
            let page = (row * size.stride_words() + column / 64) * 8 / PAGE_BYTES;
            let owner = match owners[page] {
                Some(known) => known,
                None => *owners[page].insert(owner(page)?),
            };
            blocks.push(Block { alive: live.is_some(), owner });
        }
        Ok(Self { scale, columns, blocks })
    }

    /// Cells along each side of a block.
    pub(crate) fn scale(&self) -> usize {
        self.scale
    }

    /// The rows of blocks, from the top.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[Block]> {
        self.blocks.chunks_exact(self.columns)
    }
}

/// The smallest number of cells a side at which the grid fits.
fn scale(size: GridSize, columns_max: usize, rows_max: usize) -> usize {
    let across = size.width().div_ceil(columns_max.max(1));
    let down = size.height().div_ceil(rows_max.max(1));
    across.max(down)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn grid(width: u64, height: u64, cells: &[(usize, usize)]) -> Grid {
        let mut grid = Grid::new(GridSize::new(width, height).expect("a valid size"));
        for &(column, row) in cells {
            grid.set(column, row, true);
        }
        grid
    }

    #[test]
    fn a_small_grid_is_drawn_cell_by_cell() {
        let picture = Picture::new(&grid(3, 2, &[(1, 0), (2, 1)]), 80, 24, |page| {
            assert_eq!(page, 0);
            Ok::<_, Infallible>(Some(5))
        });
        let picture = picture.expect("owners are known");
        assert_eq!(picture.scale(), 1);
        let alive: Vec<Vec<bool>> =
            picture.rows().map(|row| row.iter().map(|block| block.alive).collect()).collect();
        assert_eq!(alive, [[false, true, false], [false, false, true]]);
        assert!(picture.rows().flatten().all(|block| block.owner == Some(5)));
    }

    #[test]
    fn a_block_lives_if_one_cell_does_and_shows_the_owner_of_its_page() {
        // 8 words a row: 64 rows a page. Blocks of 32 by 32 cells.
        let picture = Picture::new(&grid(512, 100, &[(40, 63), (511, 99)]), 16, 10, |page| {
            Ok::<_, Infallible>([Some(1), None][page])
        });
        let picture = picture.expect("owners are known");
        assert_eq!(picture.scale(), 32);
        let rows: Vec<&[Block]> = picture.rows().collect();
        assert_eq!((rows.len(), rows[0].len()), (4, 16));
        assert_eq!(rows[1][1], Block { alive: true, owner: Some(1) });
        assert_eq!(rows[2][0], Block { alive: false, owner: None });
        assert_eq!(rows[3][15], Block { alive: true, owner: None });
        assert_eq!(rows.iter().copied().flatten().filter(|block| block.alive).count(), 2);
    }

    #[test]
    fn each_page_is_asked_for_once_and_errors_pass_through() {
        let mut asked = Vec::new();
        let large = grid(32_768, 3, &[]);
        Picture::new(&large, 80, 24, |page| {
            asked.push(page);
            Ok::<_, Infallible>(None)
        })
        .expect("owners are known");
        assert_eq!(asked, [0]);
        assert_eq!(Picture::new(&large, 80, 24, |_| Err("lost")), Err("lost"));
    }
}
