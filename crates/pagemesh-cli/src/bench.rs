//! `pagemesh bench`: starts the measuring nodes and prints what they found.

use crate::run::{Launch, Output, launch};
use clap::{Args, Subcommand};
use pagemesh_bench::{FaultBench, Pinning};
use std::env;
use std::process::ExitCode;

/// What to measure.
#[derive(Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Read misses on pages of another node, beside the same bytes on a plain TCP connection
    Fault(FaultArguments),
    /// One node of the fault suite; started by it
    #[command(hide = true)]
    FaultNode(FaultArguments),
}

#[derive(Args, Clone, Copy)]
struct FaultArguments {
    /// Pages of each figure in each round
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pages: u32,
    /// Rounds; each measures everything once, in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Where the nodes run: one-core, own-cores or free
    #[arg(long, default_value_t = Pinning::OneCore)]
    pin: Pinning,
    /// Threads of the reading node that fault at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

impl From<FaultArguments> for FaultBench {
    fn from(arguments: FaultArguments) -> FaultBench {
        let FaultArguments { pages, rounds, pin: pinning, threads } = arguments;
        FaultBench { pages: pages as usize, rounds: rounds as usize, pinning, threads: threads.into() }
    }
}

/// Runs the suite and returns the exit code.
pub fn main(arguments: &BenchArguments) -> ExitCode {
    let done = match &arguments.suite {
        Suite::Fault(arguments) => start(*arguments),
        Suite::FaultNode(arguments) => pagemesh_bench::run_node((*arguments).into()).map(|report| {
            if let Some(report) = report {
                print!("{report}");
            }
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("pagemesh bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn start(arguments: FaultArguments) -> anyhow::Result<ExitCode> {
    crate::pager::chosen(None)?;
    let mut nodes = Launch::new(FaultBench::NODES as u16, env::current_exe()?);
    "pagemesh bench".clone_into(&mut nodes.title);
    nodes.stdout = Output::Inherited;
    nodes.stderr = Output::Inherited;
    let FaultArguments { pages, rounds, pin, threads } = arguments;
    let numbers = [pages.to_string(), rounds.to_string(), pin.to_string(), threads.to_string()];
    nodes.arguments.extend(["bench", "fault-node"].map(Into::into));
    for (option, value) in ["--pages", "--rounds", "--pin", "--threads"].into_iter().zip(numbers) {
        nodes.arguments.extend([option.into(), value.into()]);
    }
    Ok(ExitCode::from(launch(&nodes)?.code()))
}
