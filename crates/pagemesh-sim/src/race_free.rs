//! `--race-free`: programs without data races, many seeds or one.

use anyhow::{Context, anyhow};
use pagemesh_sim::Sharding;
use pagemesh_sim::racefree::{Fault, RaceFreeReport, run_divided};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often a line that overwrites itself is renewed, and how often one is added where it cannot.
const TERMINAL_PERIOD: Duration = Duration::from_millis(200);
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaceFree {
    pub(crate) start: u64,
    pub(crate) count: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) shards: u16,
}

/// The fault of this name.
pub(crate) fn parse_fault(name: &str) -> anyhow::Result<Fault> {
    Fault::named(name).ok_or_else(|| {
        let names: Vec<String> = Fault::all().map(|fault| fault.to_string()).collect();
        anyhow!("there is no fault {name:?} with --race-free; there are {}", names.join(", "))
    })
}

impl RaceFree {
    /// Runs seeds until one fails.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let began = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        let period = if terminal { TERMINAL_PERIOD } else { LOG_PERIOD };
        let (mut sum, mut told) = (RaceFreeReport::default(), began);
        let mut failed = None;
        for number in 0..self.count {
            match run_divided(self.start.wrapping_add(number), self.fault, Sharding::up_to(self.shards)) {
                Ok(report) => sum.add(&report),
                Err(failure) => {
                    failed = Some((number, failure));
                    break;
                }
            }
            if told.elapsed() >= period {
                told = Instant::now();
                self.tell(number + 1, &sum, began.elapsed(), terminal)?;
            }
        }
        if terminal {
            write!(std::io::stderr(), "\r\x1b[K").context("clear the progress line")?;
        }
        let (mut out, seconds) = (std::io::stdout().lock(), began.elapsed().as_secs_f64());
        writeln!(out, "{sum:?}")?;
        if let Some((held, failure)) = failed {
            writeln!(out, "{held} seeds from {} held, in {seconds:.1} s; then one failed", self.start)?;
            writeln!(out, "{failure}")?;
            let plant = self.fault.map_or_else(String::new, |fault| format!(" --plant {fault}"));
            let shards = if self.shards == 1 { String::new() } else { format!(" --shards {}", self.shards) };
            let command = "cargo run --release -p pagemesh-sim -- --race-free --seed";
            writeln!(out, "again: {command} {}{plant}{shards}", failure.seed)?;
            return Ok(ExitCode::FAILURE);
        }
        let (count, start) = (self.count, self.start);
        writeln!(out, "{count} race-free seeds from {start}: every read was right; {seconds:.1} s")?;
        Ok(ExitCode::SUCCESS)
    }

    fn tell(self, done: u64, sum: &RaceFreeReport, elapsed: Duration, terminal: bool) -> anyhow::Result<()> {
        let rate = done as f64 / elapsed.as_secs_f64();
        let left = (self.count - done) as f64 / rate.max(f64::MIN_POSITIVE);
        let steps = sum.steps;
        let line =
            format!("{done} of {} seeds, {steps} steps, {rate:.0} seeds/s, {left:.0} s left", self.count);
        let mut err = std::io::stderr();
        if terminal { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") }
            .and_then(|()| err.flush())
            .context("tell how far it is")
    }
}
