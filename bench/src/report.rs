//! What a run of the bench found, in memory and as JSON.

use crate::machine::Machine;
use crate::mode::Mode;
use crate::samples::{Samples, Statistics};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// The version of the JSON that is written, and the only one that is read.
pub const SCHEMA: u32 = 2;

/// By how much a baseline's median may move between the rounds of a run for ratios to it to be told: the highest is at most so many
/// times the lowest. Beyond that, what moved the baseline moved the measured figure too, and by how much nobody knows.
pub const BASELINE_MOVES_MOST: f64 = 1.25;

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of pagemesh.
    pub pagemesh: String,
    /// What it was measured on.
    pub machine: Machine,
    /// One for each suite, mode and number of nodes.
    pub runs: Vec<Run>,
}

/// What one mesh measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The suite's name.
    pub suite: String,
    /// Where the nodes ran.
    pub mode: Mode,
    /// How many.
    pub nodes: usize,
    /// How faults were resolved.
    pub pager: String,
    /// How messages travelled.
    pub transport: String,
    /// How many threads wanted to run in the minute before, on average.
    pub load_before: f64,
    /// And at the end.
    pub load_after: f64,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Where the time of a fault went, in this order; nothing where no faults were traced.
    pub stages: Vec<Stage>,
}

/// A part of the life of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What is done in it.
    pub name: String,
    /// How long it takes, microseconds.
    pub took: Statistics,
}

/// One thing that was measured, beside its baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What.
    pub name: String,
    /// What was measured.
    pub measured: Measured,
    /// What it is a ratio to.
    pub baseline: Option<Baseline>,
    /// What it should be.
    pub target: Option<Target>,
    /// Bytes that each sample moved, where a rate says more than a time.
    pub bytes: Option<u64>,
    /// Rounds that were measured and left out, since the baseline moved in them.
    pub left_out: usize,
}

/// The samples of a figure, microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Of all rounds together.
    pub all: Statistics,
    /// Round by round.
    pub rounds: Vec<Statistics>,
}

/// What was measured in turn with a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What it is.
    pub name: String,
    /// As many rounds as the figure has.
    pub measured: Measured,
}

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// At most this ratio of medians to the baseline.
    Ratio(f64),
    /// At most these ratios to the baseline: of medians, and of what ninety-nine in a hundred do not exceed.
    Tail {
        /// Of medians.
        p50: f64,
        /// Of the 99th percentiles.
        p99: f64,
    },
    /// At most this median, microseconds.
    P50(f64),
}

/// A figure's ratio to its baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ratio {
    /// It has no baseline.
    None,
    /// Ratios of medians, each of one round.
    Of {
        /// The median of the rounds.
        median: f64,
        /// The lowest of a round.
        low: f64,
        /// The highest of a round.
        high: f64,
    },
    /// There is none: the highest median of the baseline was so many times the lowest, more than [`BASELINE_MOVES_MOST`].
    BaselineMoved(f64),
}

/// Why a file is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It cannot be read.
    #[error("{} cannot be read: {cause}; name a file that `pagemesh bench --json` wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is too large to be a report.
    #[error("{} has {found} bytes, and a report at most {limit}; name a file that `pagemesh bench --json` wrote", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What is read at most.
        limit: u64,
    },
    /// It is something else than a report.
    #[error("{} is no report: {what}; name a file that `pagemesh bench --json` wrote", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another version wrote it.
    #[error("{} has schema {found}, and this program reads {SCHEMA}; measure again with this program", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
}

/// The largest file that is read as a report, bytes.
const REPORT_BYTES_MOST: u64 = 64 << 20;

impl Measured {
    /// What the rounds found. `None` when one has no sample, or there is none.
    pub fn from_rounds(rounds: &[Samples]) -> Option<Measured> {
        let mut all = Samples::default();
        for round in rounds {
            all.merge(round);
        }
        let rounds: Option<Vec<_>> = rounds.iter().map(Samples::statistics).collect();
        Some(Measured { all: all.statistics()?, rounds: rounds? })
    }

    /// How many times the lowest median of a round the highest is.
    pub fn movement(&self) -> f64 {
        let (low, high) = extent(self.rounds.iter().map(|round| round.p50));
        high / low
    }
}

/// The least and the greatest.
pub(crate) fn extent(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    numbers.fold((f64::INFINITY, 0.0), |(low, high), number| (low.min(number), high.max(number)))
}

impl Figure {
    /// Its ratio to its baseline, if that stood still.
    pub fn ratio(&self) -> Ratio {
        let Some(baseline) = &self.baseline else { return Ratio::None };
        let movement = baseline.measured.movement();
        if movement > BASELINE_MOVES_MOST {
            return Ratio::BaselineMoved(movement);
        }
        let pairs = self.measured.rounds.iter().zip(&baseline.measured.rounds);
        let mut ratios: Vec<f64> = pairs.map(|(round, base)| round.p50 / base.p50).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        match (ratios.first(), ratios.last()) {
            (Some(low), Some(high)) => {
                Ratio::Of { median: ratios[(ratios.len() - 1) / 2], low: *low, high: *high }
            }
            _ => Ratio::None,
        }
    }

    /// The ratio of the 99th percentiles, in the median of the rounds.
    pub fn tail_ratio(&self) -> Option<f64> {
        let baseline = &self.baseline.as_ref()?.measured;
        let pairs = self.measured.rounds.iter().zip(&baseline.rounds);
        let mut ratios: Vec<f64> = pairs.map(|(round, base)| round.p99 / base.p99).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len().checked_sub(1)? / 2).copied()
    }

    /// Whether the target is met; `None` when there is none, or no ratio to hold against it.
    pub fn meets_target(&self) -> Option<bool> {
        match (self.target?, self.ratio()) {
            (Target::P50(most), _) => Some(self.measured.all.p50 <= most),
            (Target::Ratio(most), Ratio::Of { median, .. }) => Some(median <= most),
            (Target::Tail { p50, p99 }, Ratio::Of { median, .. }) => {
                Some(median <= p50 && self.tail_ratio()? <= p99)
            }
            (Target::Ratio(_) | Target::Tail { .. }, Ratio::None | Ratio::BaselineMoved(_)) => None,
        }
    }

    /// Bytes a second, in millions, of a median sample.
    pub fn megabytes_per_second(&self) -> Option<f64> {
        // Bytes a microsecond.
        self.bytes.map(|bytes| bytes as f64 / self.measured.all.p50)
    }
}

impl Target {
    /// As a text: of a figure whose samples move so many bytes, as the rate at which they are to go.
    pub(crate) fn of(self, bytes: Option<u64>) -> String {
        match (self, bytes) {
            // Bytes a microsecond.
            (Target::P50(most), Some(bytes)) => format!("{:.0} MB/s", bytes as f64 / most),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ratio(most) => write!(f, "{most:.2}x"),
            Target::Tail { p50, p99 } => write!(f, "{p50:.2}x, p99 {p99:.2}x"),
            Target::P50(most) => write!(f, "{most:.2} us"),
        }
    }
}

impl Report {
    /// A report without runs, of this machine.
    pub fn new() -> Report {
        let pagemesh = env!("CARGO_PKG_VERSION").to_owned();
        Report { schema: SCHEMA, pagemesh, machine: Machine::here(), runs: Vec::new() }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        // Only maps with other keys than text cannot be written, and numbers are finite where they come from samples.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads a report, and checks that its numbers can be.
    ///
    /// # Errors
    /// When there is no such file, or it is no report of this version.
    pub fn load(path: &Path) -> Result<Report, ReportError> {
        let unreadable = |cause| ReportError::Read { path: path.to_owned(), cause };
        let found = fs::metadata(path).map_err(unreadable)?.len();
        if found > REPORT_BYTES_MOST {
            return Err(ReportError::Size { path: path.to_owned(), found, limit: REPORT_BYTES_MOST });
        }
        Report::parse(path, &fs::read(path).map_err(unreadable)?)
    }

    /// As [`load`](Report::load), of the bytes of a file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`load`](Report::load).
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Report, ReportError> {
        let format = |what: String| ReportError::Format { path: path.to_owned(), what };
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| format(error.to_string()))?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        let found = schema.ok_or_else(|| format("it names no schema".to_owned()))?;
        if found != u64::from(SCHEMA) {
            return Err(ReportError::Schema { path: path.to_owned(), found });
        }
        let report: Report = serde_json::from_value(value).map_err(|error| format(error.to_string()))?;
        report.fault().map_or(Ok(report), |what| Err(format(what)))
    }

    /// What cannot be in it.
    fn fault(&self) -> Option<String> {
        let mut stages = self.runs.iter().flat_map(|run| &run.stages);
        if let Some(what) = stages.find_map(|stage| stage.took.fault()) {
            return Some(format!("a stage: {what}"));
        }
        let figures = self.runs.iter().flat_map(|run| run.figures.iter().map(move |figure| (run, figure)));
        figures.into_iter().find_map(|(run, figure)| {
            let what = figure.fault()?;
            Some(format!("{} of {} {}: {what}", figure.name, run.suite, run.mode))
        })
    }
}

impl Default for Report {
    fn default() -> Report {
        Report::new()
    }
}

impl Figure {
    pub(crate) fn fault(&self) -> Option<String> {
        let measured = std::iter::once(&self.measured);
        let measured = measured.chain(self.baseline.iter().map(|baseline| &baseline.measured));
        let rounds = self.measured.rounds.len();
        for found in measured {
            if found.rounds.is_empty() || found.rounds.len() != rounds {
                return Some(format!("{} rounds beside {rounds}", found.rounds.len()));
            }
            let fault = std::iter::once(&found.all).chain(&found.rounds).find_map(Statistics::fault);
            if fault.is_some() {
                return fault;
            }
        }
        (self.bytes == Some(0)).then(|| "samples that move no bytes have no rate".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_what_moves_bytes_is_told_as_a_rate() {
        let sample = 64_u64 << 20;
        assert_eq!(Target::P50(sample as f64 / 2500.0).of(Some(sample)), "2500 MB/s");
        assert_eq!(Target::P50(5.4).of(None), "5.40 us");
        assert_eq!(Target::Ratio(1.25).of(Some(sample)), "1.25x");
    }
}
