//! `pagemesh demo jacobi` and its like, and `pagemesh demo compare`: starts the nodes, each of which takes part in all that is
//! measured; node 0 prints the table.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use anyhow::Context as _;
use pagemesh::{Config, Mesh, Protocol};
use pagemesh_demos::compute::measure::{self, Plan};
use pagemesh_demos::compute::plain::{PlainGround, file_for};
use pagemesh_demos::compute::{Kind, Scale, Workload};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::environment;
use crate::run::{Launch, Output, launch};
use crate::say::{say, told};

/// What the user may say about one program.
#[derive(Debug, clap::Args)]
pub(super) struct ProgramArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// How the region is kept coherent
    #[arg(long, value_name = "PROTOCOL", default_value = "release")]
    protocol: ProtocolName,
    /// How large: points in a row, rows, cities, items, pages or numbers, as the program has it
    #[arg(long, value_name = "SIZE")]
    size: Option<usize>,
    /// Sweeps of jacobi, rounds of histogram
    #[arg(long, value_name = "ROUNDS")]
    rounds: Option<usize>,
}

/// What the user may say about a comparison.
#[derive(Debug, clap::Args)]
pub(super) struct CompareArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// How large the programs are
    #[arg(long, value_name = "SIZES", default_value = "default")]
    sizes: Sizes,
}

#[derive(Debug, clap::Args)]
struct CommonArguments {
    /// How many processes share the memory, that of the mesh and plain memory
    #[arg(short, long, value_name = "NODES", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// From which random numbers follow
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// How often everything is run, in turn; medians are printed
    #[arg(long, value_name = "REPEATS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
}

/// What a node is told.
#[derive(Debug, clap::Args)]
pub(super) struct ComputeNodeArguments {
    /// Programs with their sizes
    #[arg(long, required = true)]
    workload: Vec<Workload>,
    /// Protocols, one after the other
    #[arg(long, required = true)]
    protocol: Vec<ProtocolName>,
    #[arg(long)]
    repeat: u16,
    /// The descriptor of the file that is plain memory
    #[arg(long)]
    plain: i32,
    /// Whose messages these are
    #[arg(long)]
    title: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProtocolName {
    WriteInvalidate,
    Migration,
    Release,
    Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sizes {
    Small,
    Default,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::WriteInvalidate => Self::WriteInvalidate,
            ProtocolName::Migration => Self::Migration,
            ProtocolName::Release => Self::Release,
            ProtocolName::Entry => Self::Entry,
        }
    }
}

/// Measures one program under one protocol.
pub(super) fn program(kind: Kind, arguments: &ProgramArguments) -> ExitCode {
    let title = format!("pagemesh demo {kind}");
    let ProgramArguments { common, protocol, size, rounds } = arguments;
    if *protocol == ProtocolName::Entry {
        let why = "it orders its accesses by locks and barriers, which bring nothing to an entry region; choose another protocol";
        return said(&title, Err(anyhow::anyhow!("{kind} cannot run on protocol entry: {why}")));
    }
    let workload = Workload::new(kind, Scale::Default, *size, *rounds, common.seed);
    let started =
        workload.map_err(Into::into).and_then(|workload| start(&title, common, &[workload], &[*protocol]));
    said(&title, started)
}

/// Measures every program under every protocol.
pub(super) fn compare(arguments: &CompareArguments) -> ExitCode {
    let title = "pagemesh demo compare";
    let scale = match arguments.sizes {
        Sizes::Small => Scale::Small,
        Sizes::Default => Scale::Default,
    };
    let workload = |kind| Workload::new(kind, scale, None, None, arguments.common.seed);
    let workloads: Result<Vec<Workload>, _> = Kind::ALL.into_iter().map(workload).collect();
    let protocols = [ProtocolName::WriteInvalidate, ProtocolName::Migration, ProtocolName::Release];
    let started = workloads
        .map_err(Into::into)
        .and_then(|workloads| start(title, &arguments.common, &workloads, &protocols));
    said(title, started)
}

fn said(title: &str, outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("{title}: {}", told(&error));
        ExitCode::FAILURE
    })
}

fn start(
    title: &str,
    common: &CommonArguments,
    workloads: &[Workload],
    protocols: &[ProtocolName],
) -> anyhow::Result<ExitCode> {
    environment::check(title)?;
    crate::pager::chosen(None)?;
    let mut nodes = Launch::new(common.nodes, std::env::current_exe().context("this program has no file")?);
    title.clone_into(&mut nodes.title);
    let mut line: Vec<OsString> = ["demo", "compute-node"].map(OsString::from).to_vec();
    let mut option = |name: &str, value: &str| line.push(format!("--{name}={value}").into());
    option("title", title);
    option("repeat", &common.repeat.to_string());
    // The nodes inherit it.
    let plain = file_for(workloads)?;
    fcntl_setfd(&plain, FdFlags::empty()).context("handing plain memory over")?;
    option("plain", &plain.as_raw_fd().to_string());
    for workload in workloads {
        option("workload", &workload.to_string());
    }
    for protocol in protocols {
        let value = clap::ValueEnum::to_possible_value(protocol).context("every protocol has a name")?;
        option("protocol", value.get_name());
    }
    nodes.arguments = line;
    // Only node 0 writes to stdout; messages on stderr name their node.
    nodes.stdout = Output::Inherited;
    nodes.stderr = Output::Lines;
    Ok(ExitCode::from(launch(&nodes)?.code()))
}

/// Takes part as one node.
pub(super) fn node(arguments: ComputeNodeArguments) -> ExitCode {
    let title = arguments.title.clone();
    let mut name = "a node".to_owned();
    let outcome = take_part(arguments, &mut name);
    outcome.map_or_else(
        |error| {
            eprintln!("{title}: {name}: {}", told(&error));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn take_part(arguments: ComputeNodeArguments, name: &mut String) -> anyhow::Result<()> {
    let config = Config::from_env().context("this subcommand is for `pagemesh demo` to start")?;
    let plan = Plan {
        workloads: arguments.workload,
        protocols: arguments.protocol.into_iter().map(Protocol::from).collect(),
        repeats: arguments.repeat.into(),
    };
    let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", arguments.plain));
    let file = file.context("opening plain memory")?;
    let mesh = Mesh::join(config)?;
    *name = format!("node {}", mesh.node());
    // A node that fails does not wait for the others: dropping the mesh tells them.
    let plain = PlainGround::open(file.into(), mesh.node().index(), mesh.nodes())?;
    let report = measure::run(&mesh, &plain, &plan)?;
    // First: that nobody reads the table is not the others' fault.
    mesh.leave()?;
    Ok(report.map_or(Ok(()), say)?)
}
