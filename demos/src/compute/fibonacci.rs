//! Fibonacci numbers around a ring: each member in turn computes the next from the last two, which others have written.
//!
//! Nothing is done at the same time, so nothing can be won: this shows what it costs to hand a page on. Numbers are those modulo
//! 2^64.

use pagemesh::Placement;

use super::Program;
use super::team::{Cost, Team, TeamError};

/// How many numbers.
#[derive(Debug, Clone, Copy)]
pub struct Fibonacci {
    /// How many, from 0 and 1 on.
    pub numbers: usize,
}

impl Program for Fibonacci {
    type Answer = Vec<u64>;
    type Prepared = Vec<u64>;

    fn prepare(&self) -> Vec<u64> {
        let mut numbers = vec![0; self.numbers];
        numbers[1] = 1;
        numbers
    }

    fn sequential(&self, mut numbers: Vec<u64>) -> Vec<u64> {
        for next in 2..self.numbers {
            numbers[next] = numbers[next - 1].wrapping_add(numbers[next - 2]);
        }
        numbers
    }

    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Vec<u64>>, Cost), TeamError> {
        let numbers = team.share::<u64>(0, self.numbers, Placement::Cyclic)?;
        if team.member() == 0 {
            // Nothing is left of a run before.
            numbers.put(0, &vec![0; self.numbers])?;
            numbers.set(1, 1)?;
        }
        let clock = team.start_clock()?;
        let turns = (2..self.numbers).zip((0..team.members()).cycle());
        for (next, member) in turns.filter(|(_, member)| *member == team.member()) {
            if next > 2 {
                team.hand_over_from((member + team.members() - 1) % team.members())?;
            }
            let mut last = [0; 2];
            numbers.read(next - 2, &mut last)?;
            numbers.set(next, last[0].wrapping_add(last[1]))?;
            if next + 1 < self.numbers {
                team.hand_over_from(member)?;
            }
        }
        let cost = clock.stop()?;
        let answer = match team.member() {
            0 => {
                let mut answer = vec![0; self.numbers];
                numbers.fetch(0, &mut answer)?;
                Some(answer)
            }
            _ => None,
        };
        Ok((answer, cost))
    }

    fn check(&self, reference: &Vec<u64>, found: &Vec<u64>) -> Result<(), String> {
        let differs = reference.iter().zip(found).position(|(a, b)| a != b);
        differs.map_or(Ok(()), |at| Err(format!("number {at} is {}, not {}", found[at], reference[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_fibonaccis() {
        let fibonacci = Fibonacci { numbers: 100 };
        let numbers = fibonacci.sequential(fibonacci.prepare());
        assert_eq!(numbers[..10], [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]);
        assert_eq!(numbers[93], 12_200_160_415_121_876_738);
        assert_eq!(numbers[94], numbers[92].wrapping_add(numbers[93]));
    }
}
