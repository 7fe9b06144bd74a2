//! `--entry`: locked ranges of entry regions, many seeds or one.

use anyhow::{Context, anyhow};
use pagemesh_protocol::Planted;
use pagemesh_sim::entry::{EntryReport, run};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often a line tells how far it is.
const PERIOD: Duration = Duration::from_secs(5);

/// The fault of this name, as `Debug` writes it, in any letter case.
pub(crate) fn parse_fault(name: &str) -> anyhow::Result<Planted> {
    let found = Planted::OF_ENTRY.into_iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names: Vec<String> = Planted::OF_ENTRY.iter().map(|fault| format!("{fault:?}")).collect();
        anyhow!("there is no fault {name:?} with --entry; there are {}", names.join(", "))
    })
}

/// Runs seeds until one fails.
pub(crate) fn run_many(start: u64, count: u64, fault: Option<Planted>) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (mut sum, mut told) = (EntryReport::default(), began);
    let mut out = std::io::stdout().lock();
    for number in 0..count {
        match run(start.wrapping_add(number), fault) {
            Ok(report) => sum.add(&report),
            Err(failure) => {
                let seconds = began.elapsed().as_secs_f64();
                writeln!(out, "{sum:?}")?;
                writeln!(out, "{number} seeds from {start} held, in {seconds:.1} s; then one failed")?;
                writeln!(out, "{failure}")?;
                let plant = fault.map_or_else(String::new, |fault| format!(" --plant {fault:?}"));
                let command = "cargo run --release -p pagemesh-sim -- --entry --seed";
                writeln!(out, "again: {command} {}{plant}", failure.seed)?;
                return Ok(ExitCode::FAILURE);
            }
        }
        if told.elapsed() >= PERIOD {
            told = Instant::now();
            let rate = (number + 1) as f64 / began.elapsed().as_secs_f64();
            writeln!(std::io::stderr(), "{} of {count} seeds, {rate:.0} seeds/s", number + 1)
                .context("tell how far it is")?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    writeln!(out, "{sum:?}")?;
    writeln!(out, "{count} entry seeds from {start}: every range was right; {seconds:.1} s")?;
    Ok(ExitCode::SUCCESS)
}
