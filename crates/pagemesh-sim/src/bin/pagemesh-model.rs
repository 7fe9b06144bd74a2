//! Looks at every state of small meshes, and prints how many there are; or the shortest way to a planted fault's breach.

#![forbid(unsafe_code)]

use anyhow::anyhow;
use clap::Parser;
use pagemesh_protocol::Planted;
use pagemesh_sim::model::{self, Explored, IntervalPlan, Plan};
use std::io::Write;
use std::process::ExitCode;

/// Checks the coherence engine in every state of small meshes.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// Checks the large meshes too: minutes, and some gigabytes.
    #[arg(long)]
    full: bool,
    /// Checks only meshes whose description contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Looks at this many states of one mesh at most.
    #[arg(long, default_value_t = 100_000_000)]
    bound: usize,
    /// Plants this fault in every engine and looks for the shortest way to a breach.
    #[arg(long)]
    planted: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut plans = match (&arguments.planted, arguments.full) {
        (Some(name), _) => plans_with(name)?,
        (None, true) => model::full_plans(),
        (None, false) => model::small_plans(),
    };
    plans.retain(|plan| plan.to_string().contains(&arguments.only));
    let mut intervals = match (&arguments.planted, arguments.full) {
        (Some(name), _) => with_fault(name)?,
        (None, true) => model::full_interval_plans(),
        (None, false) => model::small_interval_plans(),
    };
    intervals.retain(|plan| plan.to_string().contains(&arguments.only));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| mesh | states | transitions | depth | node states | seconds |\n|---|---|---|---|---|---|"
    )?;
    for plan in plans {
        match model::check(&plan, arguments.bound) {
            Ok(found) => writeln!(out, "{}", row(&plan.to_string(), &found))?,
            Err(broken) => {
                writeln!(out, "{broken}")?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    for plan in intervals {
        match model::check_intervals(&plan, arguments.bound) {
            Ok(found) => writeln!(out, "{}", row(&plan.to_string(), &found))?,
            Err(broken) => {
                writeln!(out, "{broken}")?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(mesh: &str, found: &Explored) -> String {
    let all = if found.complete { "" } else { " (not all)" };
    let Explored { states, transitions, depth, locals, .. } = found;
    format!(
        "| {mesh} | {states}{all} | {transitions} | {depth} | {locals} | {:.1} |",
        found.time.as_secs_f64()
    )
}

fn plans_with(name: &str) -> anyhow::Result<Vec<Plan>> {
    let fault = fault(name)?;
    Ok(model::hunting_plans().into_iter().map(|plan| plan.planted(fault)).collect())
}

fn with_fault(name: &str) -> anyhow::Result<Vec<IntervalPlan>> {
    let fault = fault(name)?;
    let plans =
        [model::hunting_interval_plans(), model::tracking_interval_plans(), model::update_interval_plans()];
    Ok(plans.into_iter().flatten().map(|plan| plan.planted(fault)).collect())
}

fn fault(name: &str) -> anyhow::Result<Planted> {
    let known = || Planted::ALL.into_iter().map(|fault| format!("{fault:?}"));
    let fault = Planted::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
    fault.ok_or_else(|| {
        anyhow!(
            "{name} is no fault that can be planted; there are {}",
            known().collect::<Vec<_>>().join(", ")
        )
    })
}
