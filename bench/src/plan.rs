//! What is to be measured.

use crate::mode::Mode;
use crate::raw::mailbox;
use crate::suite::app;
use pagemesh::Transport;
use rustix::fd::OwnedFd;
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
    /// What their messages go through.
    pub link: Link,
    /// How many nodes.
    pub nodes: usize,
    /// How often everything is measured, in turn.
    pub rounds: usize,
    /// How large a round is: pages or calls of each figure. Suites that need more time for each take a part of it.
    pub samples: usize,
    /// Only figures whose names hold this; all of `app`, whose programs run together.
    pub figures: String,
}

/// What messages of the nodes go through. Most baselines are programs on TCP either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// TCP, as the baselines.
    Tcp,
    /// Memory that nodes of one host share.
    Ring,
}

/// Under what a suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Where the nodes run.
    pub mode: Mode,
    /// How many.
    pub nodes: usize,
    /// What their messages go through.
    pub link: Link,
}

impl Plan {
    /// Makes the memory that the nodes share outside of the mesh, where the suite measures that too.
    ///
    /// # Errors
    /// When the kernel refuses the file.
    pub fn plain_memory(&self) -> anyhow::Result<Option<OwnedFd>> {
        match self.suite {
            Suite::App => Ok(Some(app::plain_memory(self)?)),
            _ if self.has_mailbox() => Ok(Some(mailbox::file()?)),
            _ => Ok(None),
        }
    }

    /// Whether a baseline asks for pages through memory, looking without a pause: both sides need cores of their own for that.
    pub(crate) fn has_mailbox(&self) -> bool {
        self.suite == Suite::Fault && self.link == Link::Ring && self.mode == Mode::OwnCores
    }

    /// How many rounds a case can have: as many again, twice, where its baseline moved.
    pub(crate) fn most_rounds(&self) -> usize {
        3 * self.rounds
    }
}

impl Suite {
    /// All of them, in the order in which they run.
    pub const ALL: [Suite; 7] =
        [Suite::Fault, Suite::Sync, Suite::Bulk, Suite::Release, Suite::App, Suite::Scale, Suite::Idle];

    /// Under what it runs where nobody says otherwise.
    pub fn settings(self, cores: usize) -> Vec<Setting> {
        use Link::{Ring, Tcp};
        use Mode::{Free, OneCore, OwnCores};
        let settings = match self {
            Suite::Fault => {
                vec![
                    (OneCore, 4, Tcp),
                    (OwnCores, 4, Tcp),
                    (Free, 4, Tcp),
                    (OneCore, 4, Ring),
                    (OwnCores, 4, Ring),
                ]
            }
            Suite::Sync => {
                vec![
                    (OneCore, 2, Tcp),
                    (OneCore, 4, Tcp),
                    (OneCore, 8, Tcp),
                    (OwnCores, 2, Tcp),
                    (Free, 4, Tcp),
                ]
            }
            Suite::Bulk => {
                vec![(OneCore, 2, Tcp), (OwnCores, 2, Tcp), (OneCore, 2, Ring), (OwnCores, 2, Ring)]
            }
            Suite::Release => vec![(OneCore, 2, Tcp), (OwnCores, 2, Tcp)],
            Suite::App => vec![(Free, cores.clamp(2, 4), Tcp)],
            // With more than two nodes a core, how the kernel shares cores out would be measured.
            Suite::Scale => {
                [2, 4, 8].into_iter().filter(|nodes| *nodes <= 2 * cores).map(|n| (Free, n, Tcp)).collect()
            }
            Suite::Idle => vec![(Free, 2, Tcp)],
        };
        let settings = settings.into_iter().map(|(mode, nodes, link)| Setting { mode, nodes, link });
        settings.filter(|setting| setting.mode.is_possible()).collect()
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

impl Link {
    pub(crate) fn transport(self) -> Transport {
        match self {
            Link::Tcp => Transport::Tcp,
            Link::Ring => Transport::Ring,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Link::Tcp => "tcp",
            Link::Ring => "ring",
        })
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Link, String> {
        let known = [Link::Tcp, Link::Ring].into_iter().find(|link| link.to_string() == text);
        known.ok_or_else(|| format!("{text:?} is neither tcp nor ring"))
    }
}
