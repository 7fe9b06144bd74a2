//! The single-process grid reproduces what has been published about famous patterns. Shared runs are compared with it
//! cell for cell, so it must be right on its own.

use pagemesh_demos::patterns::Named;
use pagemesh_demos::{Grid, GridSize};

fn centred(pattern: Named, side: u64) -> Grid {
    let size = GridSize::new(side, side).expect("a valid size");
    Grid::centred(size, &pattern.grid()).expect("the pattern fits")
}

#[test]
fn r_pentomino_settles_in_generation_1103_with_116_cells() {
    let mut grid = centred(Named::RPentomino, 640);
    grid.advance(1103);
    assert_eq!(grid.population(), 116);
    // Settled: the rest is still, blinks with period 2 or glides with period 4.
    let at_rest = grid.clone();
    grid.advance(4);
    assert_eq!(grid.population(), 116);
    assert!(grid != at_rest, "six gliders are on their way");
}

#[test]
fn acorn_settles_in_generation_5206_with_633_cells() {
    let mut grid = centred(Named::Acorn, 2560);
    grid.advance(5206);
    assert_eq!(grid.population(), 633);
}

#[test]
fn the_gun_emits_a_glider_of_five_cells_every_30_generations() {
    let mut grid = centred(Named::GosperGun, 640);
    let (left, top) = ((640 - 36) / 2, (640 - 9) / 2);
    let gun = |grid: &Grid| -> Vec<bool> {
        (top..top + 9)
            .flat_map(|row| (left..left + 36).map(move |column| (column, row)))
            .map(|(column, row)| grid.is_alive(column, row))
            .collect()
    };
    let first = gun(&grid);
    for emitted in 1..=30 {
        grid.advance(30);
        assert_eq!(grid.population(), 36 + 5 * emitted);
        assert!(gun(&grid) == first, "the gun is as it was");
    }
}

#[test]
fn a_glider_moves_one_cell_diagonally_every_four_generations() {
    let mut grid = centred(Named::Glider, 300);
    let (left, top) = (148, 148);
    grid.advance(4 * 100);
    let glider = Named::Glider.grid();
    assert_eq!(grid.population(), 5);
    for row in 0..3 {
        for column in glider.live_columns(row) {
            assert!(grid.is_alive(left + 100 + column, top + 100 + row));
        }
    }
}
