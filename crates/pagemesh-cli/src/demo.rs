//! `pagemesh demo`: programs that show pagemesh at work.
//!
//! `pagemesh demo life` checks everything the user asked for, puts the pattern where the nodes can read it, and starts
//! copies of itself with the hidden subcommand `life-node`; each plays its band of the grid by [`pagemesh_demos::life`]. The
//! programs of [`pagemesh_demos::compute`] are started alike, with the hidden subcommand `compute-node`.

mod compute;
mod node;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

use pagemesh_demos::GridSize;
use pagemesh_demos::compute::Kind;
use pagemesh_demos::view::Style;

use crate::say::told;
use compute::{CompareArguments, ComputeNodeArguments, ProgramArguments};

/// Whose messages these are.
const TITLE: &str = "pagemesh demo life";

/// What follows `pagemesh demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    #[command(subcommand)]
    demo: Demo,
}

#[derive(Debug, clap::Subcommand)]
enum Demo {
    /// Conway's Game of Life on one grid in memory that several processes share
    ///
    /// Each node computes a band of rows, reads the rows next to it straight from the memory that its neighbours write,
    /// and meets the others at a barrier after each generation. The last line of the output is `population N`.
    Life(LifeArguments),
    /// Jacobi's iteration on a grid of doubles, SIZE points a row, ROUNDS sweeps, measured beside plain memory
    ///
    /// As all demos but `life` it prints how long the program takes in one thread and private memory, in as many processes as
    /// there are nodes on one plain mapping, and on the nodes of a mesh; how many times as fast as each of the
    /// first two that is; and what all nodes together did: page faults, messages, bytes and diffs. A wrong answer is an
    /// error.
    Jacobi(ProgramArguments),
    /// The product of two matrices of doubles with SIZE rows
    Matrix(ProgramArguments),
    /// The shortest trip through SIZE cities by branch and bound, with a queue of work and the best trip under locks
    Salesman(ProgramArguments),
    /// Quicksort of SIZE items of 64 bits, with a stack of parts under a lock
    Quicksort(ProgramArguments),
    /// A histogram with false sharing: all nodes count at scattered places of the same SIZE pages, ROUNDS times
    Histogram(ProgramArguments),
    /// The first SIZE Fibonacci numbers, each computed by the next node of a ring
    Fibonacci(ProgramArguments),
    /// All of these under every protocol, in one table
    Compare(CompareArguments),
    /// One node of a program that another of these has started
    #[command(hide = true)]
    ComputeNode(ComputeNodeArguments),
    /// One node of a game that `life` has started
    #[command(hide = true)]
    LifeNode(LifeNodeArguments),
}

#[derive(Debug, clap::Args)]
struct LifeArguments {
    /// How many processes share the grid
    #[arg(short, long, value_name = "NODES", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// r-pentomino, acorn, gosper-gun, glider, or an RLE file with rule B3/S23
    ///
    /// The pattern is put in the middle of the grid. For a file with one of these names write `./glider`.
    #[arg(long, value_name = "NAME|FILE.rle", default_value = "r-pentomino")]
    pattern: PathBuf,
    #[command(flatten)]
    game: GameArguments,
    /// Draw the grid while the game runs, each cell in the colour of the node that owns its page
    ///
    /// If the output is not a terminal, frames are written as plain text with owners as digits.
    #[arg(long)]
    view: bool,
}

/// What the nodes need to know as well.
#[derive(Debug, clap::Args)]
struct GameArguments {
    /// Width and height of the grid in cells; cells outside are dead
    #[arg(long, value_name = "WxH", default_value = "640x640")]
    grid: GridSize,
    /// How many generations to let pass
    #[arg(long, value_name = "G", default_value_t = 1103)]
    generations: u64,
    /// Let at most this many generations pass in a second [default with --view on a terminal: 100]
    #[arg(long, value_name = "GENERATIONS", requires = "view", value_parser = clap::value_parser!(u32).range(1..))]
    speed: Option<u32>,
    /// Write the last generation to this file, in RLE
    #[arg(long, value_name = "FILE.rle")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct LifeNodeArguments {
    /// What the user calls the pattern
    #[arg(long)]
    label: PathBuf,
    /// Where the pattern is, in RLE
    #[arg(long)]
    pattern: PathBuf,
    #[command(flatten)]
    game: GameArguments,
    /// How node 0 draws the grid
    #[arg(long)]
    view: Option<ViewStyle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ViewStyle {
    Colour,
    Digits,
    Plain,
}

impl From<ViewStyle> for Style {
    fn from(style: ViewStyle) -> Self {
        match style {
            ViewStyle::Colour => Self::Colour,
            ViewStyle::Digits => Self::Digits,
            ViewStyle::Plain => Self::Plain,
        }
    }
}

/// Runs a demo to its end; says on standard error what went wrong, if anything did.
pub fn main(arguments: DemoArguments) -> ExitCode {
    match arguments.demo {
        Demo::Life(arguments) => start::life(&arguments).unwrap_or_else(|error| {
            eprintln!("{TITLE}: {}", told(&error));
            ExitCode::FAILURE
        }),
        Demo::LifeNode(arguments) => node::life(&arguments),
        Demo::Jacobi(arguments) => compute::program(Kind::Jacobi, &arguments),
        Demo::Matrix(arguments) => compute::program(Kind::Matrix, &arguments),
        Demo::Salesman(arguments) => compute::program(Kind::Salesman, &arguments),
        Demo::Quicksort(arguments) => compute::program(Kind::Quicksort, &arguments),
        Demo::Histogram(arguments) => compute::program(Kind::Histogram, &arguments),
        Demo::Fibonacci(arguments) => compute::program(Kind::Fibonacci, &arguments),
        Demo::Compare(arguments) => compute::compare(&arguments),
        Demo::ComputeNode(arguments) => compute::node(arguments),
    }
}
