//! Runs seeds, or one seed with its trace.

#![forbid(unsafe_code)]

use clap::Parser;
use pagemesh_sim::{Counts, Options, TraceMode, run};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Simulates whole meshes of coherence engines and checks every step.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    start: u64,
    /// Runs this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints every event of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => run_one(seed, arguments.trace),
        None => run_many(arguments.start, arguments.seeds),
    }
}

fn run_one(seed: u64, trace: bool) -> anyhow::Result<ExitCode> {
    let trace = if trace { TraceMode::Full } else { TraceMode::Off };
    let options = Options { trace, ..Options::default() };
    let mut out = std::io::stdout().lock();
    match run(seed, options) {
        Ok(report) => {
            for line in &report.trace {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "seed {seed}: every guarantee held; {:?}", report.counts)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failed) => {
            writeln!(out, "{failed}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn run_many(start: u64, count: u64) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut told = began;
    let mut sum = Counts::default();
    let mut out = std::io::stdout().lock();
    for done in 0..count {
        match run(start.wrapping_add(done), Options::default()) {
            Ok(report) => sum.add(&report.counts),
            Err(failed) => {
                writeln!(out, "{failed}")?;
                return Ok(ExitCode::FAILURE);
            }
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            eprintln!("{} of {count} seeds, {} steps", done + 1, sum.steps);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    let Counts { steps, messages, lost, passed_max, .. } = sum;
    writeln!(
        out,
        "{count} seeds from {start}: every guarantee held; {steps} steps, {messages} messages, {lost} nodes lost, \
         nobody waited for more than {passed_max} others, \
         {seconds:.1} s, {rate:.0} seeds/s"
    )?;
    Ok(ExitCode::SUCCESS)
}
