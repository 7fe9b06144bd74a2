//! The `pagemesh` command.

#![forbid(unsafe_code)]

use std::env;
use std::io::stderr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use pagemesh_cli::bench::{self, BenchArguments};
use pagemesh_cli::consistency::{
    self, HistoryArguments, HistoryNodeArguments, LitmusArguments, LitmusNodeArguments,
};
use pagemesh_cli::demo::{self, DemoArguments};
use pagemesh_cli::doctor::{self, DoctorArguments};
use pagemesh_cli::environment;
use pagemesh_cli::run::{self, RunArguments};
use signal_hook::consts::SIGXFSZ;
use tracing_subscriber::EnvFilter;

/// Shared memory for ordinary processes, on one machine or many.
#[derive(Parser)]
#[command(
    name = "pagemesh",
    version,
    after_help = "PAGEMESH_LOG=debug (or info, error; default warn) sets what is logged to stderr."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(RunArguments),
    /// Programs that show pagemesh at work
    Demo(DemoArguments),
    Doctor(DoctorArguments),
    /// What pagemesh costs, as ratios to a baseline of the same run
    Bench(BenchArguments),
    /// Litmus tests on real processes: no outcome may be seen that the processor's memory model forbids
    Litmus(LitmusArguments),
    /// One node of the litmus tests; started by `litmus`
    #[command(hide = true)]
    LitmusNode(LitmusNodeArguments),
    /// Random programs on real processes, whose recorded operations must fit the memory model
    History(HistoryArguments),
    /// One node of a history; started by `history`
    #[command(hide = true)]
    HistoryNode(HistoryNodeArguments),
}

fn main() -> ExitCode {
    if let Some(code) = run::helper() {
        return code;
    }
    // A file that grows beyond the limit (ulimit -f) is an error to be told, not the end without a word.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    start_log();
    match Cli::parse().command {
        Command::Run(arguments) => run::execute(arguments),
        Command::Demo(arguments) => demo::main(arguments),
        Command::Doctor(arguments) => doctor::main(&arguments),
        Command::Bench(arguments) => bench::main(&arguments),
        Command::Litmus(arguments) => consistency::litmus(&arguments),
        Command::LitmusNode(arguments) => consistency::litmus_node(&arguments),
        Command::History(arguments) => consistency::history(&arguments),
        Command::HistoryNode(arguments) => consistency::history_node(&arguments),
    }
}

fn start_log() {
    let filter = environment::log_filter().unwrap_or_else(|error| {
        // The nodes have it from whoever started them, who has said so.
        if env::var_os("PAGEMESH_NODE").is_none() {
            eprintln!("pagemesh: warning: {error}");
        }
        EnvFilter::new("warn")
    });
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(false).init();
}
