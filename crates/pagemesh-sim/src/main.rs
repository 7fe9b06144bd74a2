//! Runs seeds, one seed with its trace, or a failing seed made smaller.

#![forbid(unsafe_code)]

mod campaign;
mod entries;
mod race_free;

use anyhow::anyhow;
use campaign::Campaign;
use clap::Parser;
use pagemesh_sim::{Failed, Options, Sabotage, Sharding, TraceMode, run, shrink};
use race_free::{RaceFree, parse_fault};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// Simulates whole meshes of coherence engines and checks every step.
#[derive(Parser, Debug)]
#[command(version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    start: u64,
    /// On how many cores.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with = "seed")]
    jobs: u16,
    /// Runs this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints every event of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Makes the run smaller if it fails, and prints every event of the small one.
    #[arg(long, requires = "seed", conflicts_with = "trace")]
    shrink: bool,
    /// Plants this fault in the simulated machine: the run has to fail.
    #[arg(long, value_name = "FAULT")]
    plant: Option<String>,
    /// Runs programs without data races instead, on regions of the release protocol and others. A seed that fails prints its events.
    #[arg(long, conflicts_with_all = ["jobs", "trace", "shrink"])]
    race_free: bool,
    /// Nodes divide their pages among up to this many engines, each page with another than its neighbour.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with = "entry")]
    shards: u16,
    /// Locks ranges of entry regions instead. A seed that fails prints its events.
    #[arg(long, conflicts_with_all = ["jobs", "trace", "shrink", "race_free"])]
    entry: bool,
}

fn parse_sabotage(name: &str) -> anyhow::Result<Sabotage> {
    Sabotage::named(name).ok_or_else(|| {
        let names: Vec<String> = Sabotage::ALL.iter().map(|sabotage| format!("{sabotage:?}")).collect();
        anyhow!("there is no fault {name:?}; there are {}", names.join(", "))
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // An assertion that fails inside an engine is a breach like others, and is told with its trace.
    std::panic::set_hook(Box::new(|_| {}));
    if arguments.race_free {
        let fault = arguments.plant.as_deref().map(parse_fault).transpose()?;
        let count = if arguments.seed.is_some() { 1 } else { arguments.seeds };
        let (start, shards) = (arguments.seed.unwrap_or(arguments.start), arguments.shards);
        return RaceFree { start, count, fault, shards }.run();
    }
    if arguments.entry {
        let fault = arguments.plant.as_deref().map(entries::parse_fault).transpose()?;
        let count = if arguments.seed.is_some() { 1 } else { arguments.seeds };
        return entries::run_many(arguments.seed.unwrap_or(arguments.start), count, fault);
    }
    let sabotage = arguments.plant.as_deref().map(parse_sabotage).transpose()?;
    match arguments.seed {
        Some(seed) => run_one(seed, &arguments, sabotage),
        None => run_many(&arguments, sabotage),
    }
}

fn run_one(seed: u64, arguments: &Arguments, sabotage: Option<Sabotage>) -> anyhow::Result<ExitCode> {
    let trace = if arguments.trace { TraceMode::Full } else { TraceMode::Off };
    let options = Options { trace, sabotage, planted: None, sharding: Sharding::up_to(arguments.shards) };
    let mut out = std::io::stdout().lock();
    match run(seed, options) {
        Ok(report) => {
            for line in &report.trace {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "seed {seed}: every guarantee held; {:?}", report.counts)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failed) if arguments.shrink => {
            tell_failure(&mut out, &failed, options)?;
            Ok(ExitCode::FAILURE)
        }
        Err(failed) => {
            writeln!(out, "{failed}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn run_many(arguments: &Arguments, sabotage: Option<Sabotage>) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let sharding = Sharding::up_to(arguments.shards);
    let options = Options { trace: TraceMode::Off, sabotage, planted: None, sharding };
    let (start, count) = (arguments.start, arguments.seeds);
    let (tally, failed) = Campaign { start, count, jobs: arguments.jobs as usize, options }.run()?;
    let mut out = std::io::stdout().lock();
    let seconds = began.elapsed().as_secs_f64();
    let rate = tally.runs as f64 / seconds;
    writeln!(out, "{tally}")?;
    if let Some(failed) = failed {
        writeln!(out, "{} seeds from {start} held, in {seconds:.1} s; then one failed", tally.runs)?;
        tell_failure(&mut out, &failed, options)?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "{count} seeds from {start}: every guarantee held; {seconds:.1} s, {rate:.0} seeds/s")?;
    Ok(ExitCode::SUCCESS)
}

/// The failure, made as small as possible, and how to see it again.
fn tell_failure(out: &mut impl Write, failed: &Failed, options: Options) -> anyhow::Result<()> {
    let seed = failed.config.seed;
    writeln!(out, "seed {seed} failed at step {}: {}", failed.counts.steps, failed.breach)?;
    let small = shrink(failed, options);
    let config = &small.failed.config;
    writeln!(
        out,
        "smaller, after {} runs, at step {}: {}",
        small.runs, small.failed.counts.steps, small.failed.breach
    )?;
    writeln!(out, "configuration: {config:?}")?;
    for (thread, program) in config.programs.iter().enumerate() {
        for line in program.lines() {
            writeln!(out, "thread {thread} of n{}: {line}", thread / config.threads)?;
        }
    }
    writeln!(out, "  step     time node page   state    event")?;
    for line in &small.failed.trace {
        writeln!(out, "{line}")?;
    }
    let plant = options.sabotage.map_or_else(String::new, |sabotage| format!(" --plant {sabotage:?}"));
    let shards = match options.sharding.engines_most {
        1 => String::new(),
        most => format!(" --shards {most}"),
    };
    let command = format!("cargo run --release -p pagemesh-sim -- --seed {seed}{plant}{shards}");
    writeln!(out, "again, small: {command} --shrink")?;
    writeln!(out, "again, whole: {command} --trace")?;
    Ok(())
}
