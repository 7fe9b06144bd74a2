//! `s2dsm LISTEN_PORT REMOTE_PORT`: see `pagemesh_cli::s2dsm`.

#![forbid(unsafe_code)]

use clap::Parser;
use pagemesh_cli::s2dsm::console::InputKind;
use pagemesh_cli::s2dsm::{self, Arguments, S2dsmError};
use std::io::{self, BufWriter, IsTerminal};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A log line in the middle of a prompt helps nobody: only errors, unless PAGEMESH_LOG asks for more.
    let filter = EnvFilter::try_from_env("PAGEMESH_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let input = io::stdin();
    let kind = if input.is_terminal() { InputKind::Terminal } else { InputKind::Stream };
    match s2dsm::run(&arguments, input.lock(), kind, BufWriter::new(io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("s2dsm: {error}");
            // Two ports that cannot work are a usage error, as clap's own are.
            ExitCode::from(if matches!(error, S2dsmError::SamePort { .. }) { 2 } else { 1 })
        }
    }
}
