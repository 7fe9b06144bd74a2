//! `pagemesh litmus`: litmus tests on the nodes of a mesh.

use super::reports::{self, Reports};
use super::{PROTOCOLS, PagerName, ProtocolName, chosen_pager};
use crate::run::{Launch, Output, launch};
use crate::say::say;
use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use pagemesh::{Config, Mesh};
use pagemesh_litmus::{LitmusRun, Verdict, combine, play, shapes, table};
use std::env;
use std::io::BufWriter;
use std::process::ExitCode;
use std::time::Instant;

const TITLE: &str = "pagemesh litmus";

/// What follows `pagemesh litmus`.
#[derive(Debug, clap::Args)]
pub struct LitmusArguments {
    #[command(flatten)]
    what: What,
    /// How many processes take part
    #[arg(short, long, value_name = "NODES", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// How the nodes resolve faults [default: PAGEMESH_PAGER, or the best that can be had]
    #[arg(long)]
    pager: Option<PagerName>,
    /// Show every outcome of every test, with its counts
    #[arg(long)]
    outcomes: bool,
    /// Say which tests there are, and what is allowed, without running them
    #[arg(long)]
    list: bool,
}

/// What follows the hidden subcommand for a node.
#[derive(Debug, clap::Args)]
pub struct LitmusNodeArguments {
    #[command(flatten)]
    what: What,
    #[arg(long, value_delimiter = ',')]
    reports: Vec<i32>,
}

/// What the nodes need to know as well.
#[derive(Debug, Clone, clap::Args)]
struct What {
    /// Run only these, with their variants: SB, MP, IRIW+fences and so on; `--list` names them
    shapes: Vec<String>,
    /// Executions of each test with each protocol
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    iterations: u32,
    /// Run only with this protocol
    #[arg(long)]
    protocol: Option<ProtocolName>,
    /// Decides everything but the interleaving
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl What {
    fn protocols(&self) -> Vec<ProtocolName> {
        self.protocol.map_or(PROTOCOLS.to_vec(), |protocol| vec![protocol])
    }

    fn run(&self) -> anyhow::Result<LitmusRun> {
        let mut tests = if self.shapes.is_empty() { shapes::all() } else { Vec::new() };
        for shape in &self.shapes {
            let found = shapes::named(shape);
            if found.is_empty() {
                bail!("there is no test {shape:?}; `pagemesh litmus --list` names all");
            }
            tests.extend(found.into_iter().filter(|test| !tests.contains(test)).collect::<Vec<_>>());
        }
        let protocols = self.protocols().into_iter().map(ProtocolName::protocol).collect();
        Ok(LitmusRun { tests, protocols, iterations: self.iterations as usize, seed: self.seed })
    }
}

pub(super) fn start(arguments: &LitmusArguments) -> anyhow::Result<ExitCode> {
    let run = arguments.what.run()?;
    let names: Vec<&str> = arguments.what.protocols().into_iter().map(ProtocolName::name).collect();
    if arguments.list {
        for test in run.tests {
            say(table::allowed(&Verdict::new(test, 0)))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (pager, environment) = chosen_pager(TITLE, arguments.pager)?;
    let reports = Reports::new(arguments.nodes)?;
    let mut nodes = Launch::new(arguments.nodes, env::current_exe().context("this program has no file")?);
    TITLE.clone_into(&mut nodes.title);
    nodes.arguments = node_arguments(&arguments.what, &reports);
    nodes.environment = environment;
    nodes.stdout = Output::Lines;
    nodes.stderr = Output::Prefixed;
    let begun = Instant::now();
    let code = launch(&nodes)?.code();
    if code != 0 {
        return Ok(ExitCode::from(code));
    }
    let took = begun.elapsed().as_secs_f64();
    let verdicts = combine(&run, &reports.read()?)?;
    say(format_args!(
        "{} nodes, pager {pager}, {} executions of each test, seed {}: {took:.1} s\n\n",
        arguments.nodes, run.iterations, run.seed
    ))?;
    say(table::summary(&verdicts, &names))?;
    let mut forbidden = 0;
    for verdict in &verdicts {
        let count = verdict.forbidden().count();
        forbidden += count;
        if arguments.outcomes || count > 0 {
            let heading = format!("{} with {}", verdict.test.name, names[verdict.protocol]);
            say(table::outcomes(verdict, &heading))?;
        }
    }
    if forbidden > 0 {
        bail!("{forbidden} outcomes were seen that the model forbids");
    }
    Ok(ExitCode::SUCCESS)
}

fn node_arguments(what: &What, reports: &Reports) -> Vec<std::ffi::OsString> {
    let mut line = vec!["litmus-node".to_owned()];
    line.push(format!("--iterations={}", what.iterations));
    line.push(format!("--seed={}", what.seed));
    line.push(format!("--reports={}", reports.argument()));
    if let Some(value) = what.protocol.and_then(|protocol| protocol.to_possible_value()) {
        line.push(format!("--protocol={}", value.get_name()));
    }
    line.extend(what.shapes.iter().cloned());
    line.into_iter().map(Into::into).collect()
}

pub(super) fn node(arguments: &LitmusNodeArguments) -> anyhow::Result<()> {
    let config = Config::from_env().context("this subcommand is for `pagemesh litmus` to start")?;
    let run = arguments.what.run()?;
    let mesh = Mesh::join(config)?;
    let mut report = BufWriter::new(reports::open(&arguments.reports, mesh.node().index())?);
    play(&mesh, &run, &mut report)?;
    mesh.leave()?;
    Ok(())
}
