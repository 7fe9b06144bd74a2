//! `pagemesh litmus` and `pagemesh history`: whether the memory of real processes is as it is promised to be.
//!
//! Both start copies of this program as nodes (hidden subcommands), which report what they observed in files that live in memory
//! only. The judging is done here, after the nodes have ended, so that a node that is killed is judged too.

mod history;
mod litmus;
mod reports;

pub use history::{HistoryArguments, HistoryNodeArguments};
pub use litmus::{LitmusArguments, LitmusNodeArguments};

use crate::say::failure;
use pagemesh::Protocol;
use pagemesh::pager::PagerKind;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `pagemesh litmus`.
pub fn litmus(arguments: &LitmusArguments) -> ExitCode {
    finish("pagemesh litmus", litmus::start(arguments))
}

/// Plays one node of `pagemesh litmus`.
pub fn litmus_node(arguments: &LitmusNodeArguments) -> ExitCode {
    finish("pagemesh litmus", litmus::node(arguments).map(|()| ExitCode::SUCCESS))
}

/// Runs `pagemesh history`.
pub fn history(arguments: &HistoryArguments) -> ExitCode {
    finish("pagemesh history", history::start(arguments))
}

/// Plays one node of `pagemesh history`.
pub fn history_node(arguments: &HistoryNodeArguments) -> ExitCode {
    finish("pagemesh history", history::node(arguments).map(|()| ExitCode::SUCCESS))
}

fn finish(title: &str, done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| failure(title, &error))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolName {
    WriteInvalidate,
    Migration,
}

const PROTOCOLS: [ProtocolName; 2] = [ProtocolName::WriteInvalidate, ProtocolName::Migration];

impl ProtocolName {
    const fn name(self) -> &'static str {
        match self {
            ProtocolName::WriteInvalidate => "write-invalidate",
            ProtocolName::Migration => "migration",
        }
    }

    const fn protocol(self) -> Protocol {
        match self {
            ProtocolName::WriteInvalidate => Protocol::WriteInvalidate,
            ProtocolName::Migration => Protocol::Migration,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PagerName {
    Sigbus,
    Handler,
    Sigsegv,
}

impl PagerName {
    const fn kind(self) -> PagerKind {
        match self {
            PagerName::Sigbus => PagerKind::Sigbus,
            PagerName::Handler => PagerKind::Handler,
            PagerName::Sigsegv => PagerKind::Sigsegv,
        }
    }
}

/// Which pager the nodes will take; as a name, and as the environment that makes them take it. Fails when it cannot be had, or a setting in
/// the environment is wrong.
fn chosen_pager(
    title: &str,
    asked: Option<PagerName>,
) -> anyhow::Result<(String, Vec<(OsString, OsString)>)> {
    crate::environment::check(title)?;
    let kind = crate::pager::chosen(asked.map(PagerName::kind))?.kind.to_string();
    let environment = vec![("PAGEMESH_PAGER".into(), kind.clone().into())];
    Ok((kind, environment))
}
