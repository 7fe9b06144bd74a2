//! A histogram with false sharing: all nodes count at scattered places of the same pages.
//!
//! Each member has a counter of its own for every bin, and the counters of one bin lie side by side. So members never touch the
//! same word, and nearly always the same pages. A barrier ends a round.

use pagemesh::Placement;

use super::Program;
use super::random::Random;
use super::team::{Cost, Team, TeamError};

/// Counters in a page.
const PAGE_WORDS: usize = 512;

/// Samples that all members together count in a round, for each page.
const SAMPLES_PER_PAGE: usize = 1024;

/// Pages of counters, and how many rounds are counted.
#[derive(Debug, Clone, Copy)]
pub struct Histogram {
    /// Pages.
    pub pages: usize,
    /// Rounds.
    pub rounds: usize,
    /// From which the samples follow.
    pub seed: u64,
    /// Members who count: they have this many counters of each bin.
    pub members: usize,
}

impl Histogram {
    fn bins(self) -> usize {
        self.pages * PAGE_WORDS / self.members
    }

    /// Counts some of the samples of a round.
    fn count<E>(
        self,
        round: usize,
        samples: std::ops::Range<usize>,
        mut count: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = round * self.samples() + samples.start;
        let mut random = Random::from_number(self.seed, first as u64);
        for _ in samples {
            count(random.below(self.bins() as u64) as usize)?;
        }
        Ok(())
    }

    /// Samples of a round.
    fn samples(self) -> usize {
        self.pages * SAMPLES_PER_PAGE
    }
}

impl Program for Histogram {
    type Answer = Vec<u64>;
    type Prepared = Vec<u64>;

    fn prepare(&self) -> Vec<u64> {
        vec![0; self.bins()]
    }

    fn sequential(&self, mut bins: Vec<u64>) -> Vec<u64> {
        for round in 0..self.rounds {
            let Ok(()) = self.count(round, 0..self.samples(), |bin| {
                bins[bin] += 1;
                Ok::<(), std::convert::Infallible>(())
            });
        }
        bins
    }

    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Vec<u64>>, Cost), TeamError> {
        let words = self.pages * PAGE_WORDS;
        let counters = team.share::<u64>(0, words, Placement::Cyclic)?;
        if team.member() == 0 {
            counters.put(0, &vec![0; words])?;
        }
        let clock = team.start_clock()?;
        for round in 0..self.rounds {
            self.count(round, team.band(self.samples()), |bin| {
                let own = bin * self.members + team.member();
                counters.set(own, counters.get(own)? + 1)?;
                Ok::<(), TeamError>(())
            })?;
            team.barrier()?;
        }
        let cost = clock.stop()?;
        let answer = match team.member() {
            0 => {
                let mut all = vec![0; words];
                counters.fetch(0, &mut all)?;
                let bins = all.chunks_exact(self.members).take(self.bins());
                Some(bins.map(|counters| counters.iter().sum()).collect())
            }
            _ => None,
        };
        Ok((answer, cost))
    }

    fn check(&self, reference: &Vec<u64>, found: &Vec<u64>) -> Result<(), String> {
        let differs = reference.iter().zip(found).position(|(a, b)| a != b);
        differs.map_or(Ok(()), |bin| Err(format!("bin {bin} has {}, not {}", found[bin], reference[bin])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_counted_once() {
        let histogram = Histogram { pages: 2, rounds: 3, seed: 1, members: 3 };
        let bins = histogram.sequential(histogram.prepare());
        assert_eq!(bins.len(), 341);
        assert_eq!(bins.iter().sum::<u64>(), 3 * 2 * SAMPLES_PER_PAGE as u64);
    }
}
