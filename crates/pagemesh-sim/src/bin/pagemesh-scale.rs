//! Prints what the standard workloads cost on 2 to 1,024 nodes.

#![forbid(unsafe_code)]

use anyhow::Context;
use clap::Parser;
use pagemesh_sim::scale;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs the standard workloads on real engines in a machine with fixed delays, on 2 to 1,024 nodes.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// The most nodes.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(2..=1024))]
    nodes: u16,
    /// Prints comma-separated values instead of tables.
    #[arg(long)]
    csv: bool,
    /// Writes the drawing, and the tables between the marks of scaling.md, into this folder.
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let lines = scale::measure(arguments.nodes);
    let text = if arguments.csv { scale::csv(&lines) } else { scale::tables(&lines) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if let Some(folder) = arguments.docs {
        let (drawing, document) = (folder.join("scaling.svg"), folder.join("scaling.md"));
        write(&drawing, &scale::plot(&lines))?;
        let old = std::fs::read_to_string(&document)
            .with_context(|| format!("{} cannot be read", document.display()))?;
        let new = scale::with_tables(&old, &lines)
            .with_context(|| format!("{} has no marks around its tables", document.display()))?;
        write(&document, &new)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}
