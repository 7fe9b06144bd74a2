//! Jacobi's iteration for the heat equation on a square grid whose edge is held at fixed temperatures.
//!
//! Two grids take turns: a sweep reads one and writes into every inner point of the other the mean of its four neighbours. Each
//! member computes a band of rows and reads one row of each neighbour; a barrier ends the sweep. Rows pass through small
//! private buffers: the loop over points is one over plain arrays.

use pagemesh::Placement;

use super::Program;
use super::shared::Shared;
use super::team::{Cost, Team, TeamError};

/// A grid of `side` times `side` doubles, and how many sweeps.
#[derive(Debug, Clone, Copy)]
pub struct Jacobi {
    /// Points in a row, and rows.
    pub side: usize,
    /// Sweeps.
    pub sweeps: usize,
}

impl Jacobi {
    /// The temperature of a point at the start; that of the edge is never changed.
    fn initial(self, row: usize, column: usize) -> f64 {
        let last = self.side - 1;
        if row == 0 {
            100.0
        } else if row == last {
            0.0
        } else if column == 0 || column == last {
            50.0 * (row % 2) as f64
        } else {
            ((row * 31 + column * 17) % 97) as f64
        }
    }

    fn initial_row(self, row: usize) -> Vec<f64> {
        (0..self.side).map(|column| self.initial(row, column)).collect()
    }

    /// The rows that this member computes.
    fn compute(
        self,
        team: &Team<'_>,
        from: &Shared<f64>,
        to: &Shared<f64>,
        window: &mut Window,
    ) -> Result<(), TeamError> {
        let side = self.side;
        let band = team.band(side);
        let inner = band.start.max(1)..band.end.min(side - 1);
        if inner.is_empty() {
            return Ok(());
        }
        from.fetch((inner.start - 1) * side, &mut window.above)?;
        from.fetch(inner.start * side, &mut window.here)?;
        for row in inner.clone() {
            let is_shared = row == inner.start || row + 1 == inner.end;
            // Only the rows at the borders can be elsewhere; asking for the others would cost a look at each page.
            if is_shared {
                from.fetch((row + 1) * side, &mut window.below)?;
            } else {
                from.read((row + 1) * side, &mut window.below)?;
            }
            relax(&window.above, &window.here, &window.below, &mut window.next);
            if is_shared {
                to.put(row * side, &window.next)?;
            } else {
                to.write(row * side, &window.next)?;
            }
            window.slide();
        }
        Ok(())
    }
}

/// Three rows that are read and the one that is written.
struct Window {
    above: Vec<f64>,
    here: Vec<f64>,
    below: Vec<f64>,
    next: Vec<f64>,
}

impl Window {
    fn new(side: usize) -> Self {
        let row = || vec![0.0; side];
        Self { above: row(), here: row(), below: row(), next: row() }
    }

    fn slide(&mut self) {
        std::mem::swap(&mut self.above, &mut self.here);
        std::mem::swap(&mut self.here, &mut self.below);
    }
}

/// Computes the inner points of a row; the first and the last stay what they are.
fn relax(above: &[f64], here: &[f64], below: &[f64], next: &mut [f64]) {
    let last = here.len() - 1;
    (next[0], next[last]) = (here[0], here[last]);
    let neighbours = above[1..last].iter().zip(&below[1..last]).zip(&here[..last - 1]).zip(&here[2..]);
    for (point, (((north, south), west), east)) in next[1..last].iter_mut().zip(neighbours) {
        *point = 0.25 * ((north + south) + (west + east));
    }
}

impl Program for Jacobi {
    type Answer = Vec<f64>;
    type Prepared = [Vec<f64>; 2];

    fn prepare(&self) -> Self::Prepared {
        let grid: Vec<f64> = (0..self.side).flat_map(|row| self.initial_row(row)).collect();
        [grid.clone(), grid]
    }

    fn sequential(&self, [mut from, mut to]: Self::Prepared) -> Vec<f64> {
        let side = self.side;
        for _ in 0..self.sweeps {
            for row in 1..side - 1 {
                let at = row * side;
                let next = &mut to[at..at + side];
                relax(&from[at - side..at], &from[at..at + side], &from[at + side..at + 2 * side], next);
            }
            std::mem::swap(&mut from, &mut to);
        }
        from
    }

    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Vec<f64>>, Cost), TeamError> {
        let points = self.side * self.side;
        let grids = [team.share(0, points, Placement::Block)?, team.share(1, points, Placement::Block)?];
        for row in team.band(self.side) {
            let initial = self.initial_row(row);
            for grid in &grids {
                grid.put(row * self.side, &initial)?;
            }
        }
        let mut window = Window::new(self.side);
        let clock = team.start_clock()?;
        for sweep in 0..self.sweeps {
            self.compute(team, &grids[sweep % 2], &grids[(sweep + 1) % 2], &mut window)?;
            team.barrier()?;
        }
        let cost = clock.stop()?;
        let answer = match team.member() {
            0 => {
                let mut answer = vec![0.0; points];
                grids[self.sweeps % 2].fetch(0, &mut answer)?;
                Some(answer)
            }
            _ => None,
        };
        Ok((answer, cost))
    }

    fn check(&self, reference: &Vec<f64>, found: &Vec<f64>) -> Result<(), String> {
        let differs = reference.iter().zip(found).position(|(a, b)| a.to_bits() != b.to_bits());
        differs.map_or(Ok(()), |point| {
            let (row, column) = (point / self.side, point % self.side);
            Err(format!("row {row}, column {column} is {}, not {}", found[point], reference[point]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_temperature_is_at_rest() {
        let (above, here, below) = ([3.0; 5], [2.0; 5], [1.0; 5]);
        let mut next = [0.0; 5];
        relax(&above, &here, &below, &mut next);
        assert_eq!(next.map(f64::to_bits), here.map(f64::to_bits));
    }
}
