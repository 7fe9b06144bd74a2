//! The product of two square matrices of doubles.
//!
//! Each member computes a band of rows. It reads its rows of the left factor once and all of the right factor, a block of rows at a
//! time, and writes its rows of the product at the end. All elements are small whole numbers, so sums are exact.

use pagemesh::Placement;

use super::Program;
use super::team::{Cost, Team, TeamError};

/// Rows of the right factor that are used at a time: 512 KiB at 1024 columns, which a core's second-level cache holds.
const BLOCK_ROWS: usize = 64;

/// The size of the matrices.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Rows, and columns.
    pub side: usize,
}

/// The factors, and room for the product.
#[derive(Debug, Clone)]
pub struct Factors {
    left: Vec<f64>,
    right: Vec<f64>,
    product: Vec<f64>,
}

fn left_element(row: usize, column: usize) -> f64 {
    ((row * 7 + column * 3) % 17) as f64 - 8.0
}

fn right_element(row: usize, column: usize) -> f64 {
    ((row * 5 + column * 11) % 19) as f64 - 9.0
}

impl Matrix {
    fn rows(self, rows: std::ops::Range<usize>, element: fn(usize, usize) -> f64) -> Vec<f64> {
        rows.flat_map(|row| (0..self.side).map(move |column| element(row, column))).collect()
    }

    /// Adds to each row of `product` the products of its row of `left` with the rows of `block`, which are those of the right
    /// factor from `first` on.
    fn add_block(self, left: &[f64], block: &[f64], first: usize, product: &mut [f64]) {
        let side = self.side;
        let rows = block.len() / side;
        for (left, product) in left.chunks_exact(side).zip(product.chunks_exact_mut(side)) {
            let factors = &left[first..first + rows];
            let (quads, rest) = factors.as_chunks::<4>();
            for (place, [a, b, c, d]) in quads.iter().enumerate() {
                let mut of_block = block[place * 4 * side..][..4 * side].chunks_exact(side);
                let mut next = || of_block.next().expect("there are four rows");
                let (e, f, g, h) = (next(), next(), next(), next());
                for ((((sum, e), f), g), h) in product.iter_mut().zip(e).zip(f).zip(g).zip(h) {
                    *sum += (a * e + b * f) + (c * g + d * h);
                }
            }
            for (factor, row) in rest.iter().zip(block[quads.len() * 4 * side..].chunks_exact(side)) {
                for (sum, element) in product.iter_mut().zip(row) {
                    *sum += factor * element;
                }
            }
        }
    }
}

impl Program for Matrix {
    type Answer = Vec<f64>;
    type Prepared = Factors;

    fn prepare(&self) -> Factors {
        Factors {
            left: self.rows(0..self.side, left_element),
            right: self.rows(0..self.side, right_element),
            // Not zeros from the allocator: those are touched only when they are written.
            product: vec![1.0; self.side * self.side],
        }
    }

    fn sequential(&self, factors: Factors) -> Vec<f64> {
        let Factors { left, right, mut product } = factors;
        product.fill(0.0);
        for (place, block) in right.chunks(BLOCK_ROWS * self.side).enumerate() {
            self.add_block(&left, block, place * BLOCK_ROWS, &mut product);
        }
        product
    }

    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Vec<f64>>, Cost), TeamError> {
        let side = self.side;
        let share = |part| team.share::<f64>(part, side * side, Placement::Block);
        let (left, right, product) = (share(0)?, share(1)?, share(2)?);
        let band = team.band(side);
        left.put(band.start * side, &self.rows(band.clone(), left_element))?;
        right.put(band.start * side, &self.rows(band.clone(), right_element))?;
        // Nothing is left of a run before.
        product.put(band.start * side, &vec![0.0; band.len() * side])?;
        let mut own_left = vec![0.0; band.len() * side];
        let mut own_product = vec![1.0; band.len() * side];
        let mut block = vec![1.0; BLOCK_ROWS * side];

        let clock = team.start_clock()?;
        left.fetch(band.start * side, &mut own_left)?;
        own_product.fill(0.0);
        for first in (0..side).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(side - first);
            right.fetch(first * side, &mut block[..rows * side])?;
            self.add_block(&own_left, &block[..rows * side], first, &mut own_product);
        }
        product.put(band.start * side, &own_product)?;
        let cost = clock.stop()?;

        let answer = match team.member() {
            0 => {
                let mut answer = vec![0.0; side * side];
                product.fetch(0, &mut answer)?;
                Some(answer)
            }
            _ => None,
        };
        Ok((answer, cost))
    }

    fn check(&self, reference: &Vec<f64>, found: &Vec<f64>) -> Result<(), String> {
        let differs = reference.iter().zip(found).position(|(a, b)| a.to_bits() != b.to_bits());
        differs.map_or(Ok(()), |at| {
            let (row, column) = (at / self.side, at % self.side);
            Err(format!("row {row}, column {column} is {}, not {}", found[at], reference[at]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_the_sum_over_its_row_and_column() {
        for side in [1, 3, 64, 70] {
            let matrix = Matrix { side };
            let product = matrix.sequential(matrix.prepare());
            for (at, found) in product.iter().enumerate() {
                let (row, column) = (at / side, at % side);
                let sum: f64 = (0..side).map(|k| left_element(row, k) * right_element(k, column)).sum();
                assert_eq!(found.to_bits(), sum.to_bits(), "{row}, {column} of {side}");
            }
        }
    }
}
