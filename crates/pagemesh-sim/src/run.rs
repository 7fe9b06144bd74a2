//! Runs one seed from beginning to end.

use crate::breach::Breach;
use crate::config::Config;
use crate::engines::Sharding;
use crate::sabotage::Sabotage;
use crate::trace::TraceMode;
use crate::world::{Counts, World};
use pagemesh_protocol::Planted;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a seed is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// How much is written down.
    pub trace: TraceMode,
    /// A fault to plant in the simulated machine.
    pub sabotage: Option<Sabotage>,
    /// A fault to plant in every engine.
    pub planted: Option<Planted>,
    /// Into how many engines nodes divide their pages.
    pub sharding: Sharding,
}

/// A run in which every guarantee held.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub counts: Counts,
    /// As much of it as was asked for.
    pub trace: Vec<String>,
}

/// A run in which a guarantee did not hold.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What the seed decided.
    pub config: Config,
    /// What happened until then.
    pub counts: Counts,
    /// What did not hold.
    pub breach: Breach,
    /// The last lines of the trace, or all of them.
    pub trace: Vec<String>,
}

/// Trace lines in a report when no trace was asked for.
const TAIL_LINES: usize = 60;

/// Runs `seed`.
///
/// # Errors
/// When a guarantee does not hold; the same seed fails in the same way again.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failed>> {
    run_config(&Config::draw(seed), options)
}

/// Runs what `config` says.
///
/// # Errors
/// When a guarantee does not hold.
pub fn run_config(config: &Config, options: Options) -> Result<Report, Box<Failed>> {
    let mut world = World::new(config.clone(), options);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let breach = match outcome {
        Ok(Ok(())) => {
            let trace = world.trace.into_lines();
            return Ok(Report { seed: config.seed, counts: world.counts, trace });
        }
        Ok(Err(breach)) => breach,
        Err(panic) => Breach::Panic(panic_text(panic.as_ref())),
    };
    if options.trace == TraceMode::Off {
        // The same again, this time with a trace.
        return run_config(config, Options { trace: TraceMode::Tail(TAIL_LINES), ..options });
    }
    let trace = world.trace.into_lines();
    Err(Box::new(Failed { config: config.clone(), counts: world.counts, breach, trace }))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, steps) = (self.config.seed, self.counts.steps);
        writeln!(f, "seed {seed} failed at step {steps}: {}", self.breach)?;
        writeln!(f, "configuration: {:?}", self.config)?;
        writeln!(f, "the last {} events:", self.trace.len())?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "again: cargo run --release -p pagemesh-sim -- --seed {seed} --trace")
    }
}

impl std::error::Error for Failed {}
