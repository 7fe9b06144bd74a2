//! `pagemesh bench`: starts the measuring nodes, one mesh after the other, and shows what they found.

use crate::environment;
use crate::run::{Launch, Output, launch};
use crate::say::{failure, say};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use pagemesh_bench::{Comparison, Link, Mode, Plan, Report, Run, Setting, Suite, document};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Whose messages these are.
const TITLE: &str = "pagemesh bench";

/// Rounds where nobody says how many.
const ROUNDS: u32 = 5;

/// What to measure.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    sizes: SizeArguments,
}

#[derive(Subcommand)]
enum What {
    /// Page faults by who has the page: reads, writes, upgrades, several threads, a home that computes
    Fault(SizeArguments),
    /// Locks, barriers, atomic instructions
    Sync(SizeArguments),
    /// How fast much memory is read and written in order
    Bulk(SizeArguments),
    /// First writes and releases in release regions
    Release(SizeArguments),
    /// The demos beside as many processes on one mapping and their sequential versions
    App(SizeArguments),
    /// Faults of 2, 4 and 8 nodes at the same time
    Scale(SizeArguments),
    /// Processor time of a node that does nothing
    Idle(SizeArguments),
    /// Says what moved between two reports beyond the spread of their rounds
    Compare(CompareArguments),
    /// One node of a suite; started by it
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Args)]
struct SizeArguments {
    /// Where the nodes run: one-core, own-cores (whoever waits spins) or free; may be given several times
    /// [default: what suits the suite]
    #[arg(long, value_name = "MODE")]
    mode: Vec<Mode>,
    /// What their messages go through: tcp, or ring, which is memory that they share; may be given several times
    /// [default: what suits the suite]
    #[arg(long, value_name = "TRANSPORT")]
    transport: Vec<Link>,
    /// How many nodes, where the suite leaves a choice [default: several numbers]
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: Option<u16>,
    /// Rounds; everything is measured once in each, in turn with its baseline, and again up to twice as often where the baseline
    /// moved [default: 5; idle: 1]
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Pages or calls of each figure in each round
    #[arg(long, value_name = "SAMPLES", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Only figures whose names hold this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    figures: String,
    /// Write the report as JSON to this file, or to stdout for `-`, where it takes the place of the tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the tables into this document, between its marks
    #[arg(long, value_name = "FILE.md")]
    docs: Option<PathBuf>,
}

#[derive(Args)]
struct CompareArguments {
    /// A file that `pagemesh bench --json` wrote
    before: PathBuf,
    /// Another one, later
    after: PathBuf,
}

#[derive(Args, Clone)]
struct NodeArguments {
    #[arg(long)]
    suite: Suite,
    #[arg(long)]
    mode: Mode,
    #[arg(long)]
    transport: Link,
    #[arg(long)]
    nodes: usize,
    #[arg(long)]
    rounds: usize,
    #[arg(long)]
    samples: usize,
    #[arg(long)]
    figures: String,
    /// Where the node that measures writes what it found
    #[arg(long)]
    result: i32,
    /// The file that is plain memory, for a suite that needs it
    #[arg(long)]
    plain: Option<i32>,
}

/// Runs what is asked for and returns the exit code.
pub fn main(arguments: &BenchArguments) -> ExitCode {
    let done = match &arguments.what {
        None => measure(&Suite::ALL, &arguments.sizes),
        Some(What::Fault(sizes)) => measure(&[Suite::Fault], sizes),
        Some(What::Sync(sizes)) => measure(&[Suite::Sync], sizes),
        Some(What::Bulk(sizes)) => measure(&[Suite::Bulk], sizes),
        Some(What::Release(sizes)) => measure(&[Suite::Release], sizes),
        Some(What::App(sizes)) => measure(&[Suite::App], sizes),
        Some(What::Scale(sizes)) => measure(&[Suite::Scale], sizes),
        Some(What::Idle(sizes)) => measure(&[Suite::Idle], sizes),
        Some(What::Compare(CompareArguments { before, after })) => compare(before, after),
        Some(What::Node(arguments)) => node(arguments),
    };
    done.unwrap_or_else(|error| failure(TITLE, &error))
}

fn compare(before: &Path, after: &Path) -> anyhow::Result<ExitCode> {
    say(Comparison::new(&Report::load(before)?, &Report::load(after)?))?;
    Ok(ExitCode::SUCCESS)
}

/// The file that a report is to be written to: found out before minutes of work whether it can be. If nothing is written, and there was no
/// such file before, none is left.
struct Place {
    path: PathBuf,
    is_new: bool,
    is_written: bool,
}

impl Place {
    fn open(path: &Path) -> anyhow::Result<Place> {
        let is_new = !path.exists();
        let place = Place { path: path.to_owned(), is_new, is_written: false };
        // Opening a pipe would wait for its reader, and closing it would send that reader away.
        if is_new || path.metadata().is_ok_and(|found| found.is_file() || found.is_dir()) {
            let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
            opened.with_context(|| format!("the report cannot be written to {}", path.display()))?;
        }
        Ok(place)
    }

    fn write(&mut self, report: &Report) -> anyhow::Result<()> {
        let path = &self.path;
        let written = fs::write(path, report.to_json() + "\n");
        written.with_context(|| {
            format!(
                "the report cannot be written to {}; make room, or give --json another file",
                path.display()
            )
        })?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_new && !self.is_written {
            // What is left is only untidy.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What each mesh is to measure.
fn plans(suites: &[Suite], sizes: &SizeArguments) -> anyhow::Result<Vec<Plan>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut plans: Vec<Plan> = Vec::new();
    for suite in suites {
        let rounds = sizes.rounds.unwrap_or(if *suite == Suite::Idle { 1 } else { ROUNDS });
        for Setting { mode, nodes, link } in settings(*suite, sizes, cores)? {
            let figures = sizes.figures.clone();
            let (rounds, samples) = (rounds as usize, sizes.samples as usize);
            let plan = Plan { suite: *suite, mode, link, nodes, rounds, samples, figures };
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        }
    }
    Ok(plans)
}

/// Under what a suite runs, as far as the user leaves it open.
fn settings(suite: Suite, sizes: &SizeArguments, cores: usize) -> anyhow::Result<Vec<Setting>> {
    let mut usual = suite.settings(cores);
    if !sizes.transport.is_empty() {
        // Modes and numbers of nodes are those of TCP, for which every suite has some.
        usual.retain(|setting| setting.link == Link::Tcp);
        let all =
            |link: &Link| usual.iter().map(|setting| Setting { link: *link, ..*setting }).collect::<Vec<_>>();
        usual = sizes.transport.iter().flat_map(all).collect();
    }
    if let Some(mode) = sizes.mode.iter().find(|mode| !mode.is_possible()) {
        bail!("{mode} was asked for, and there is one core; ask for another --mode");
    }
    let modes: Vec<Mode> = if sizes.mode.is_empty() {
        usual.iter().map(|setting| setting.mode).collect()
    } else {
        sizes.mode.clone()
    };
    let mut found = Vec::new();
    for mode in modes {
        // What is usual in this mode, or in any.
        let same: Vec<Setting> = usual.iter().filter(|setting| setting.mode == mode).copied().collect();
        for mut setting in if same.is_empty() { usual.clone() } else { same } {
            setting.mode = mode;
            setting.nodes = sizes.nodes.map_or(setting.nodes, usize::from);
            let range = suite.nodes_range();
            if !range.contains(&setting.nodes) {
                bail!(
                    "suite {suite} takes {} to {} nodes, not {}",
                    range.start(),
                    range.end(),
                    setting.nodes
                );
            }
            if !found.contains(&setting) {
                found.push(setting);
            }
        }
    }
    Ok(found)
}

fn measure(suites: &[Suite], sizes: &SizeArguments) -> anyhow::Result<ExitCode> {
    let plans = plans(suites, sizes)?;
    environment::check(TITLE)?;
    crate::pager::chosen(None)?;
    // Before minutes of work that could then not be kept.
    let document =
        sizes.docs.as_deref().map(fs::read_to_string).transpose().context("reading the document")?;
    let mut place =
        sizes.json.as_deref().filter(|path| *path != Path::new("-")).map(Place::open).transpose()?;
    let mut report = Report::new();
    if let Some(document) = &document {
        document::with_tables(document, &report)?;
    }
    for plan in plans {
        let Plan { suite, mode, link, nodes, .. } = plan;
        eprintln!("{TITLE}: {suite}, {mode}, {link}, {nodes} nodes");
        match start(plan)? {
            Ok(run) => report.runs.extend(run),
            Err(code) => return Ok(code),
        }
    }
    if report.runs.is_empty() {
        bail!("no figure of these suites has {:?} in its name; ask for another --figures", sizes.figures);
    }
    if let (Some(document), Some(path)) = (document, sizes.docs.as_deref()) {
        fs::write(path, document::with_tables(&document, &report)?).context("writing the document")?;
    }
    if sizes.json.is_some() && place.is_none() {
        say(report.to_json() + "\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    // What was measured is shown, whatever becomes of the file.
    let written = place.as_mut().map_or(Ok(()), |place| place.write(&report));
    say(&report)?;
    written?;
    Ok(ExitCode::SUCCESS)
}

/// Has one mesh measure: nothing, if it has no such figure. An exit code when a node failed, or was told to stop.
fn start(plan: Plan) -> anyhow::Result<Result<Option<Run>, ExitCode>> {
    // Without MFD_CLOEXEC: the nodes inherit the descriptor.
    let memory = memfd_create("pagemesh-bench", MemfdFlags::empty()).map_err(io::Error::from);
    let mut result = File::from(memory.context("making room for the result")?);
    let plain = plan.plain_memory()?;
    let mut nodes =
        Launch::new(plan.nodes as u16, std::env::current_exe().context("this program has no file")?);
    TITLE.clone_into(&mut nodes.title);
    (nodes.stdout, nodes.stderr) = (Output::Inherited, Output::Lines);
    let mut line: Vec<OsString> = ["bench", "node"].map(OsString::from).to_vec();
    let mut option = |name: &str, value: String| line.push(format!("--{name}={value}").into());
    option("suite", plan.suite.to_string());
    option("mode", plan.mode.to_string());
    option("transport", plan.link.to_string());
    option("nodes", plan.nodes.to_string());
    option("rounds", plan.rounds.to_string());
    option("samples", plan.samples.to_string());
    option("figures", plan.figures);
    option("result", result.as_raw_fd().to_string());
    if let Some(plain) = &plain {
        fcntl_setfd(plain, FdFlags::empty()).context("handing plain memory over")?;
        option("plain", plain.as_raw_fd().to_string());
    }
    nodes.arguments = line;
    let code = launch(&nodes)?.code();
    if code != 0 {
        return Ok(Err(ExitCode::from(code)));
    }
    let mut text = Vec::new();
    result.rewind()?;
    result.read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(Ok(None));
    }
    Ok(Ok(Some(serde_json::from_slice(&text).context("the nodes ended well and left half a result")?)))
}

fn node(arguments: &NodeArguments) -> anyhow::Result<ExitCode> {
    let NodeArguments { suite, mode, transport: link, nodes, rounds, samples, figures, result, plain } =
        arguments.clone();
    let plan = Plan { suite, mode, link, nodes, rounds, samples, figures };
    let inherited = |descriptor: i32, options: &mut OpenOptions| {
        options.write(true).open(format!("/proc/self/fd/{descriptor}"))
    };
    let plain = plain.map(|plain| inherited(plain, File::options().read(true))).transpose();
    let plain = plain.context("opening plain memory")?.map(OwnedFd::from);
    if let Some(run) = pagemesh_bench::run_node(plan, plain)? {
        let file = inherited(result, &mut File::options());
        serde_json::to_writer(file.context("opening the place for the result")?, &run)?;
    }
    Ok(ExitCode::SUCCESS)
}
