//! The pattern files of the Game of Life.

use pagemesh_demos::rle;

/// Grids up to this many cells are written again.
const WRITTEN_CELLS_MAX: usize = 1 << 20;

/// Any file is a pattern or is refused at a line and column that it has; a pattern that was read and written again is the same.
pub fn pattern(data: &[u8]) {
    match rle::parse(data) {
        Err(error) => {
            let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
            assert!((1..=lines.len()).contains(&error.line), "{error}");
            // One past the end, and a byte order mark that is not counted.
            assert!((1..=lines[error.line - 1].len() + 1).contains(&error.column), "{error}");
        }
        Ok(grid) => {
            let size = grid.size();
            if size.width() * size.height() > WRITTEN_CELLS_MAX {
                return;
            }
            let mut file = Vec::new();
            rle::write(&grid, &mut file).expect("a vector takes everything");
            assert!(rle::parse(&file) == Ok(grid), "it is read differently the second time");
        }
    }
}
