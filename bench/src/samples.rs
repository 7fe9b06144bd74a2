//! What was measured, and the few numbers that describe it.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The samples of one measurement, nanoseconds.
#[derive(Debug, Default, Clone)]
pub struct Samples {
    nanos: Vec<u64>,
}

/// Samples in a few numbers, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// How many samples there were.
    pub samples: u64,
    /// The smallest.
    pub min: f64,
    /// Half of them are no greater.
    pub p50: f64,
    /// Nine in ten are no greater.
    pub p90: f64,
    /// Ninety-nine in a hundred are no greater.
    pub p99: f64,
}

impl Samples {
    /// Adds a sample.
    pub fn add(&mut self, sample: Duration) {
        self.nanos.push(u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Times `once` so many times.
    pub(crate) fn of<E>(count: usize, mut once: impl FnMut() -> Result<(), E>) -> Result<Samples, E> {
        let mut samples = Samples::default();
        for _ in 0..count {
            let began = Instant::now();
            once()?;
            samples.add(began.elapsed());
        }
        Ok(samples)
    }

    /// Adds all samples of another.
    pub fn merge(&mut self, other: &Samples) {
        self.nanos.extend(&other.nanos);
    }

    /// `None` when there is no sample. A sample of zero counts as one nanosecond, the clock's own step: a ratio to it exists.
    pub fn statistics(&self) -> Option<Statistics> {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let micros = |percent: usize| sorted[last * percent / 100].max(1) as f64 / 1000.0;
        let samples = sorted.len() as u64;
        Some(Statistics { samples, min: micros(0), p50: micros(50), p90: micros(90), p99: micros(99) })
    }
}

impl Statistics {
    /// Says what cannot be: numbers that are not positive, or not in order.
    pub(crate) fn fault(&self) -> Option<String> {
        let Statistics { samples, min, p50, p90, p99 } = *self;
        let ordered = min > 0.0 && min <= p50 && p50 <= p90 && p90 <= p99 && p99.is_finite();
        (samples == 0 || !ordered)
            .then(|| format!("{samples} samples with min {min}, p50 {p50}, p90 {p90}, p99 {p99}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_the_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.statistics(), None);
        for micros in (1..=101).rev() {
            samples.add(Duration::from_micros(micros));
        }
        let found = samples.statistics().unwrap();
        assert_eq!(found, Statistics { samples: 101, min: 1.0, p50: 51.0, p90: 91.0, p99: 100.0 });
        assert_eq!(found.fault(), None);
    }

    #[test]
    fn numbers_that_cannot_be_are_told() {
        let good = Statistics { samples: 3, min: 1.0, p50: 2.0, p90: 3.0, p99: 4.0 };
        for bad in [
            Statistics { samples: 0, ..good },
            Statistics { min: 0.0, ..good },
            Statistics { p50: f64::NAN, ..good },
            Statistics { p90: 1.0, ..good },
            Statistics { p99: f64::INFINITY, ..good },
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }
}
