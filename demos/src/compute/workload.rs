//! Which program, how large.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Jacobi`](super::Jacobi); size is the side of the grid, rounds are sweeps.
    Jacobi,
    /// [`Matrix`](super::Matrix); size is the side.
    Matrix,
    /// [`Salesman`](super::Salesman); size is the number of cities.
    Salesman,
    /// [`Quicksort`](super::Quicksort); size is the number of items.
    Quicksort,
    /// [`Histogram`](super::Histogram); size is the number of pages.
    Histogram,
    /// [`Fibonacci`](super::Fibonacci); size is how many numbers.
    Fibonacci,
}

/// How large, where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Done in seconds under every protocol.
    Small,
    /// Large enough to be measured.
    Default,
}

/// A program with its sizes. As text: the program's name, size, rounds and seed with colons between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    kind: Kind,
    size: usize,
    rounds: usize,
    seed: u64,
}

/// Why there is no such workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// The size is out of range.
    #[error("{kind} cannot have a size of {found}: it is {meaning}, {} to {}", range.start(), range.end())]
    Size {
        /// The program.
        kind: Kind,
        /// What was asked for.
        found: usize,
        /// What the size is.
        meaning: &'static str,
        /// What it may be.
        range: RangeInclusive<usize>,
    },
    /// The number of rounds is out of range, or the program has none.
    #[error("{kind} cannot have {found} rounds; ask for {} to {}", range.start(), range.end())]
    Rounds {
        /// The program.
        kind: Kind,
        /// What was asked for.
        found: usize,
        /// What it may be.
        range: RangeInclusive<usize>,
    },
    /// The text is not that of a workload.
    #[error("`{0}` is not NAME:SIZE:ROUNDS:SEED with the name of a program")]
    Text(String),
}

impl Kind {
    /// All of them, as they stand in a comparison.
    pub const ALL: [Self; 6] =
        [Self::Jacobi, Self::Matrix, Self::Salesman, Self::Quicksort, Self::Histogram, Self::Fibonacci];

    /// How the user calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jacobi => "jacobi",
            Self::Matrix => "matrix",
            Self::Salesman => "salesman",
            Self::Quicksort => "quicksort",
            Self::Histogram => "histogram",
            Self::Fibonacci => "fibonacci",
        }
    }

    /// Size and rounds of this scale.
    fn sizes(self, scale: Scale) -> (usize, usize) {
        match (self, scale) {
            (Self::Jacobi, Scale::Default) => (2048, 100),
            (Self::Jacobi, Scale::Small) => (130, 6),
            (Self::Matrix, Scale::Default) => (1024, 1),
            (Self::Matrix, Scale::Small) => (90, 1),
            (Self::Salesman, Scale::Default) => (16, 1),
            (Self::Salesman, Scale::Small) => (9, 1),
            (Self::Quicksort, Scale::Default) => (4 << 20, 1),
            (Self::Quicksort, Scale::Small) => (20_000, 1),
            (Self::Histogram, Scale::Default) => (64, 5),
            (Self::Histogram, Scale::Small) => (4, 3),
            (Self::Fibonacci, Scale::Default) => (5000, 1),
            (Self::Fibonacci, Scale::Small) => (100, 1),
        }
    }

    fn size_range(self) -> (&'static str, RangeInclusive<usize>) {
        match self {
            Self::Jacobi => ("points in a row of the grid", 3..=32_768),
            Self::Matrix => ("rows of the matrices", 1..=16_384),
            Self::Salesman => ("cities", 4..=24),
            Self::Quicksort => ("items", 1..=1 << 28),
            Self::Histogram => ("pages", 1..=1 << 16),
            Self::Fibonacci => ("how many numbers", 2..=1 << 20),
        }
    }

    fn rounds_range(self) -> RangeInclusive<usize> {
        match self {
            Self::Jacobi | Self::Histogram => 1..=1_000_000,
            _ => 1..=1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Workload {
    /// A program with sizes of its own, or else those of `scale`.
    ///
    /// # Errors
    /// When a size is out of range.
    pub fn new(
        kind: Kind,
        scale: Scale,
        size: Option<usize>,
        rounds: Option<usize>,
        seed: u64,
    ) -> Result<Self, WorkloadError> {
        let (usual_size, usual_rounds) = kind.sizes(scale);
        let (size, rounds) = (size.unwrap_or(usual_size), rounds.unwrap_or(usual_rounds));
        let (meaning, range) = kind.size_range();
        if !range.contains(&size) {
            return Err(WorkloadError::Size { kind, found: size, meaning, range });
        }
        let range = kind.rounds_range();
        if !range.contains(&rounds) {
            return Err(WorkloadError::Rounds { kind, found: rounds, range });
        }
        Ok(Self { kind, size, rounds, seed })
    }

    /// Which program.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How large.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How often.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// From which random numbers follow.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Bytes of each part of memory that its members share.
    pub(super) fn part_bytes(&self) -> Vec<usize> {
        let size = self.size;
        let items = match self.kind {
            Kind::Jacobi => vec![size * size; 2],
            Kind::Matrix => vec![size * size; 3],
            Kind::Salesman => vec![1 + (size - 1) * (size - 2), 1 + size],
            Kind::Quicksort => vec![size, super::quicksort::STACK_WORDS],
            Kind::Histogram => vec![size * 512],
            Kind::Fibonacci => vec![size],
        };
        items.into_iter().map(|items| items * 8).collect()
    }

    /// Says in words what is computed.
    pub fn description(&self) -> String {
        let Self { size, rounds, .. } = self;
        match self.kind {
            Kind::Jacobi => format!("{size} x {size} points, {rounds} sweeps"),
            Kind::Matrix => format!("{size} x {size} doubles"),
            Kind::Salesman => format!("{size} cities, seed {}", self.seed),
            Kind::Quicksort => format!("{size} items of 64 bits"),
            Kind::Histogram => format!("{size} pages, {rounds} rounds"),
            Kind::Fibonacci => format!("{size} numbers"),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}:{}", self.kind, self.size, self.rounds, self.seed)
    }
}

impl FromStr for Workload {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        let wrong = || WorkloadError::Text(text.to_owned());
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or_else(wrong);
        let name = next()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let (size, rounds) = (number(next()?)?, number(next()?)?);
        let seed = next()?.parse().map_err(|_| wrong())?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::new(kind, Scale::Default, Some(size), Some(rounds), seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_sizes_are_in_range_and_their_text_is_read_back() {
        for kind in Kind::ALL {
            for scale in [Scale::Small, Scale::Default] {
                let workload = Workload::new(kind, scale, None, None, 7).unwrap();
                assert_eq!(workload.to_string().parse(), Ok(workload));
            }
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused_in_words() {
        let refused =
            |size, rounds| Workload::new(Kind::Salesman, Scale::Small, size, rounds, 1).unwrap_err();
        assert_eq!(
            refused(Some(25), None).to_string(),
            "salesman cannot have a size of 25: it is cities, 4 to 24"
        );
        assert_eq!(refused(None, Some(2)).to_string(), "salesman cannot have 2 rounds; ask for 1 to 1");
        for text in ["", "life:1:1:1", "jacobi", "jacobi:9:9", "jacobi:x:1:1", "jacobi:9:9:1:1"] {
            assert!(matches!(text.parse::<Workload>(), Err(WorkloadError::Text(_))), "{text}");
        }
    }
}
