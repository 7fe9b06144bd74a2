//! Figures drawn from many samples.

use std::time::Duration;

/// The samples of one measurement.
#[derive(Debug, Default, Clone)]
pub struct Summary {
    nanos: Vec<u64>,
}

impl Summary {
    /// Adds a sample.
    pub fn add(&mut self, sample: Duration) {
        self.nanos.push(sample.as_nanos() as u64);
    }

    /// Adds all samples of another.
    pub fn merge(&mut self, other: &Summary) {
        self.nanos.extend(&other.nanos);
    }

    /// The sample below which `percent` of them lie, microseconds; NaN when there is none.
    pub fn percentile_us(&self, percent: usize) -> f64 {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * percent.min(100) / 100).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
    }

    /// The median, microseconds.
    pub fn p50_us(&self) -> f64 {
        self.percentile_us(50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let mut summary = Summary::default();
        assert!(summary.p50_us().is_nan());
        for micros in (1..=101).rev() {
            summary.add(Duration::from_micros(micros));
        }
        let picked: Vec<f64> = [0, 50, 99, 100].iter().map(|p| summary.percentile_us(*p)).collect();
        assert!(
            picked.iter().zip([1.0, 51.0, 100.0, 101.0]).all(|(a, b)| (a - b).abs() < 1e-9),
            "{picked:?}"
        );
    }
}
