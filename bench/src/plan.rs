//! What is to be measured.

use crate::mode::Mode;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// What a page fault costs.
    Fault,
    /// Locks, barriers, atomic instructions.
    Sync,
    /// How fast much memory is read and written.
    Bulk,
    /// Writes and synchronisation of release regions.
    Release,
    /// Whole programs.
    App,
    /// Faults of all nodes at the same time.
    Scale,
    /// Processor time of a node that does nothing.
    Idle,
}

/// What one mesh is to measure. All its nodes have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which cases.
    pub suite: Suite,
    /// Where the nodes run.
    pub mode: Mode,
    /// How many nodes.
    pub nodes: usize,
    /// How often everything is measured, in turn.
    pub rounds: usize,
    /// How large a round is: pages or calls of each figure. Suites that need more time for each take a part of it.
    pub samples: usize,
    /// Only figures whose names hold this; all of `app`, whose programs run together.
    pub figures: String,
}

impl Suite {
    /// All of them, in the order in which they run.
    pub const ALL: [Suite; 7] =
        [Suite::Fault, Suite::Sync, Suite::Bulk, Suite::Release, Suite::App, Suite::Scale, Suite::Idle];

    /// The modes and the numbers of nodes in which it runs where nobody says otherwise.
    pub fn settings(self, cores: usize) -> Vec<(Mode, usize)> {
        use Mode::{Free, OneCore, OwnCores};
        let both = |nodes| vec![(OneCore, nodes), (OwnCores, nodes)];
        let mut settings = match self {
            Suite::Fault => vec![(OneCore, 4), (OwnCores, 4), (Free, 4)],
            Suite::Sync => vec![(OneCore, 2), (OneCore, 4), (OneCore, 8), (OwnCores, 2), (Free, 4)],
            Suite::Bulk | Suite::Release => both(2),
            Suite::App => vec![(Free, cores.clamp(2, 4))],
            // With more than two nodes a core, how the kernel shares cores out would be measured.
            Suite::Scale => {
                [2, 4, 8].into_iter().filter(|nodes| *nodes <= 2 * cores).map(|n| (Free, n)).collect()
            }
            Suite::Idle => vec![(Free, 2)],
        };
        settings.retain(|(mode, _)| mode.is_possible());
        settings
    }

    /// The numbers of nodes that it has cases for.
    pub fn nodes_range(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Suite::Fault => 4..=4,
            Suite::Bulk | Suite::Release => 2..=2,
            Suite::Sync | Suite::App | Suite::Scale | Suite::Idle => 2..=16,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Suite::Fault => "fault",
            Suite::Sync => "sync",
            Suite::Bulk => "bulk",
            Suite::Release => "release",
            Suite::App => "app",
            Suite::Scale => "scale",
            Suite::Idle => "idle",
        })
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Suite, String> {
        let known = Suite::ALL.into_iter().find(|suite| suite.to_string() == text);
        known.ok_or_else(|| format!("{text:?} is no suite: {}", Suite::ALL.map(|s| s.to_string()).join(", ")))
    }
}
