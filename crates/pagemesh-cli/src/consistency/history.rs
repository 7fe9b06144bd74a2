//! `pagemesh history`: random programs on the nodes of a mesh, and a check of everything that they saw.

use super::reports::{self, Reports};
use super::{PagerName, chosen_pager};
use crate::run::{Launch, NodeEnd, NodeFailure, Outcome, Output, launch};
use crate::say::say;
use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use pagemesh::{Config, Mesh, Protocol, SyncError};
use pagemesh_litmus::history::{History, HistoryRun, play};
use std::env;
use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Duration;

const TITLE: &str = "pagemesh history";

/// Violations that are shown.
const SHOWN: usize = 10;

/// What kill(2) sends for `--kill`.
const SIGKILL: i32 = signal_hook::consts::SIGKILL;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RegionProtocol {
    WriteInvalidate,
    Migration,
    /// Used without data races
    Release,
}

impl RegionProtocol {
    const fn protocol(self) -> Protocol {
        match self {
            RegionProtocol::WriteInvalidate => Protocol::WriteInvalidate,
            RegionProtocol::Migration => Protocol::Migration,
            RegionProtocol::Release => Protocol::Release,
        }
    }
}

/// What follows `pagemesh history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArguments {
    #[command(flatten)]
    what: What,
    /// How many processes take part
    #[arg(short, long, value_name = "NODES", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// How the nodes resolve faults [default: PAGEMESH_PAGER, or the best that can be had]
    #[arg(long)]
    pager: Option<PagerName>,
}

/// What follows the hidden subcommand for a node.
#[derive(Debug, clap::Args)]
pub struct HistoryNodeArguments {
    #[command(flatten)]
    what: What,
    #[arg(long, value_delimiter = ',')]
    reports: Vec<i32>,
}

/// What the nodes need to know as well.
#[derive(Debug, Clone, clap::Args)]
struct What {
    /// How long the programs run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Threads of each node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// The most operations that a thread does
    #[arg(long, default_value_t = 200_000)]
    operations: u32,
    /// Decides the programs; what interleaves how is the machine's business
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use only this protocol [default: all, side by side]
    #[arg(long)]
    protocol: Option<RegionProtocol>,
    /// Let this node kill itself in the middle; without release regions
    #[arg(long, value_name = "NODE")]
    kill: Option<u16>,
}

impl What {
    fn run(&self) -> HistoryRun {
        let all = RegionProtocol::value_variants().to_vec();
        let protocols = self.protocol.map_or(all, |protocol| vec![protocol]);
        HistoryRun {
            protocols: protocols.into_iter().map(RegionProtocol::protocol).collect(),
            threads: self.threads,
            time: Duration::from_secs(self.seconds.into()),
            operations: self.operations,
            seed: self.seed,
            kill: self.kill,
        }
    }
}

pub(super) fn start(arguments: &HistoryArguments) -> anyhow::Result<ExitCode> {
    let What { kill, seed, threads, .. } = arguments.what;
    if let Some(node) = kill.filter(|node| *node >= arguments.nodes) {
        bail!("there is no node {node} to kill among {}; name one from 0", arguments.nodes);
    }
    if kill.is_some() && arguments.what.protocol == Some(RegionProtocol::Release) {
        bail!(
            "what a killed node wrote last to a release region may be lost: leave --kill away, or name another --protocol"
        );
    }
    let (pager, environment) = chosen_pager(TITLE, arguments.pager)?;
    let reports = Reports::new(arguments.nodes)?;
    let mut nodes = Launch::new(arguments.nodes, env::current_exe().context("this program has no file")?);
    TITLE.clone_into(&mut nodes.title);
    nodes.arguments = node_arguments(&arguments.what, &reports);
    nodes.environment = environment;
    nodes.stdout = Output::Lines;
    nodes.stderr = Output::Prefixed;
    nodes.keep_going = kill.is_some();
    let outcome = launch(&nodes)?;
    if !is_as_planned(&outcome, kill) {
        return Ok(ExitCode::from(outcome.code().max(1)));
    }
    let world = arguments.what.run().world(arguments.nodes.into());
    let history = History::read(world, kill, &reports.read()?).context("a report is no history")?;
    let findings = history.check();
    say(format_args!(
        "{} nodes of {threads} threads, pager {pager}, seed {seed}: {} operations, {} found what another thread wrote, {} failed \
         with the killed node, {} violations\n",
        arguments.nodes,
        findings.operations,
        findings.communications,
        findings.failures,
        findings.violations.len()
    ))?;
    for violation in findings.violations.iter().take(SHOWN) {
        say(format_args!("\n{violation}\n"))?;
    }
    if !findings.violations.is_empty() {
        bail!("the memory was not as docs/consistency.md promises; what conflicts is told above");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether all nodes ended well, but for the one that was to be killed.
fn is_as_planned(outcome: &Outcome, kill: Option<u16>) -> bool {
    let end = NodeEnd::Killed(SIGKILL);
    let planned = kill.map(|node| NodeFailure { node: node.into(), end });
    outcome.failure == planned && outcome.interrupted.is_none() && !outcome.output_lost
}

fn node_arguments(what: &What, reports: &Reports) -> Vec<std::ffi::OsString> {
    let mut line = vec!["history-node".to_owned()];
    line.push(format!("--seconds={}", what.seconds));
    line.push(format!("--threads={}", what.threads));
    line.push(format!("--operations={}", what.operations));
    line.push(format!("--seed={}", what.seed));
    line.push(format!("--reports={}", reports.argument()));
    if let Some(node) = what.kill {
        line.push(format!("--kill={node}"));
    }
    if let Some(value) = what.protocol.and_then(|protocol| protocol.to_possible_value()) {
        line.push(format!("--protocol={}", value.get_name()));
    }
    line.into_iter().map(Into::into).collect()
}

pub(super) fn node(arguments: &HistoryNodeArguments) -> anyhow::Result<()> {
    let config = Config::from_env().context("this subcommand is for `pagemesh history` to start")?;
    let run = arguments.what.run();
    let mesh = Mesh::join(config)?;
    let node = mesh.node().index();
    let report = reports::open(&arguments.reports, node)?;
    if run.kill.is_some_and(|kill| usize::from(kill) == node) {
        // Unbuffered: what a killed process still holds is lost.
        play(&mesh, &run, report)?;
    } else {
        play(&mesh, &run, BufWriter::new(report))?;
    }
    match mesh.leave() {
        // That one is missing was the plan.
        Err(SyncError::PeerLost { node, .. }) if run.kill == Some(node.index() as u16) => Ok(()),
        other => Ok(other?),
    }
}
