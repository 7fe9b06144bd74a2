//! Where the nodes run, and whether who waits spins.

use crate::report::Target;
use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long whoever waits looks before it sleeps, where it has a core of its own; pagemesh and the baseline alike.
const SPIN: Duration = Duration::from_micros(50);

/// Where the nodes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All on one core, and whoever waits sleeps: the work of all sides, nothing in parallel.
    OneCore,
    /// The measuring node on a core of its own, and whoever waits spins for 50 us first.
    OwnCores,
    /// Wherever the kernel puts them; whoever waits sleeps.
    Free,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::OneCore, Mode::OwnCores, Mode::Free];

    /// How long a waiting thread spins.
    pub(crate) fn spin(self) -> Duration {
        if self == Mode::OwnCores { SPIN } else { Duration::ZERO }
    }

    /// The target that is asked for in this mode. Left to the kernel, who waits and who works move from core to core, and so do the ends of the
    /// baseline: no ratio to a bare program is asked for there.
    pub(crate) fn asks(self, target: Option<Target>) -> Option<Target> {
        target.filter(|target| self != Mode::Free || !matches!(target, Target::Ratio(_)))
    }

    /// Whether this machine has cores enough.
    pub fn is_possible(self) -> bool {
        self != Mode::OwnCores || allowed_cores().is_ok_and(|cores| cores.len() > 1)
    }

    /// Puts all threads of this process, and those that they start, where node `node` belongs; the one that measures has the last
    /// core.
    pub(crate) fn pin(self, node: usize, measures: bool) -> Result<()> {
        let cores = allowed_cores()?;
        let last = *cores.last().context("no core may be used")?;
        let core = match self {
            Mode::Free => return Ok(()),
            Mode::OwnCores if cores.len() < 2 => bail!("own cores were asked for, and there is one"),
            Mode::OwnCores if !measures => cores[node % (cores.len() - 1)],
            Mode::OneCore | Mode::OwnCores => last,
        };
        let mut set = CpuSet::new();
        set.set(core);
        // Threads that run already keep their cores: each is set through its own number.
        for task in std::fs::read_dir("/proc/self/task").context("listing this process's threads")? {
            let name = task?.file_name();
            let number = name.to_str().and_then(|text| text.parse().ok());
            sched_setaffinity(number.and_then(rustix::process::Pid::from_raw), &set)
                .context("choosing a core")?;
        }
        Ok(())
    }
}

fn allowed_cores() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("asking for the cores that may be used")?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::OneCore => "one-core",
            Mode::OwnCores => "own-cores",
            Mode::Free => "free",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let known = Mode::ALL.into_iter().find(|mode| mode.to_string() == text);
        known.ok_or_else(|| format!("{text:?} is none of one-core, own-cores, free"))
    }
}
