//! The process that the user starts: it checks what was asked for before any node runs, and starts the nodes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use pagemesh_demos::life::Plan;
use pagemesh_demos::patterns::Named;
use pagemesh_demos::{Grid, rle, view};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{LifeArguments, TITLE, ViewStyle};
use crate::run::{Launch, Outcome, Output, launch};

/// Largest pattern file that is read.
const PATTERN_FILE_BYTES_MAX: u64 = 64 << 20;

/// How fast the game runs on a terminal unless the user asks otherwise: fast enough to get somewhere, slow enough to
/// be followed.
const TERMINAL_GENERATIONS_PER_SECOND: u32 = 100;

/// Plays a game on nodes of its own, to the end.
///
/// # Errors
/// What the user asked for cannot be done; no node was started.
pub(super) fn life(arguments: &LifeArguments) -> anyhow::Result<ExitCode> {
    let game = &arguments.game;
    let pattern = read_pattern(&arguments.pattern)?;
    // The nodes make the same plan; one that cannot be made is refused here, once.
    Plan::new(game.grid, pattern.clone(), game.generations)?;
    let is_new_output = game.output.as_deref().is_some_and(|output| !output.exists());
    game.output.as_deref().map(check_output).transpose()?;

    crate::environment::check(TITLE)?;
    crate::pager::chosen(None)?;
    let shared_pattern = share_pattern(&pattern).context("the pattern cannot be handed to the nodes")?;
    let style = arguments.view.then(view_style);
    let mut nodes =
        Launch::new(arguments.nodes, std::env::current_exe().context("this program has no file")?);
    TITLE.clone_into(&mut nodes.title);
    nodes.arguments = node_arguments(arguments, &shared_pattern, style);
    // Only node 0 writes to stdout; messages on stderr name their node.
    nodes.stdout = Output::Inherited;
    nodes.stderr = Output::Lines;
    let outcome = launch(&nodes);

    let code = outcome.as_ref().map_or(1, Outcome::code);
    if code != 0 {
        if style.is_some_and(|style| style != ViewStyle::Plain) {
            // Node 0 may have been killed while it drew. A terminal that is gone needs no cursor.
            let _ = view::restore(&mut io::stdout());
        }
        if let Some(output) = game.output.as_deref().filter(|_| is_new_output)
            && output.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
        {
            // Nothing was written to it, and nobody asked for an empty file.
            let _ = fs::remove_file(output);
        }
    }
    outcome?;
    Ok(ExitCode::from(code))
}

/// The hidden command line that makes a copy of this program a node.
fn node_arguments(
    arguments: &LifeArguments,
    shared_pattern: &OwnedFd,
    style: Option<ViewStyle>,
) -> Vec<OsString> {
    let game = &arguments.game;
    let mut line: Vec<OsString> = ["demo", "life-node"].map(OsString::from).to_vec();
    let mut option = |name: &str, value: OsString| {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        line.push(argument);
    };
    option("label", arguments.pattern.clone().into());
    option("pattern", format!("/proc/self/fd/{}", shared_pattern.as_raw_fd()).into());
    option("grid", game.grid.to_string().into());
    option("generations", game.generations.to_string().into());
    let is_terminal = style.is_some_and(|style| style != ViewStyle::Plain);
    if let Some(value) = style.and_then(|style| style.to_possible_value()) {
        option("view", value.get_name().into());
    }
    if let Some(speed) = game.speed.or(is_terminal.then_some(TERMINAL_GENERATIONS_PER_SECOND)) {
        option("speed", speed.to_string().into());
    }
    if let Some(output) = &game.output {
        option("output", output.into());
    }
    line
}

/// Reads a pattern by its name, or else from a file.
fn read_pattern(wanted: &Path) -> anyhow::Result<Grid> {
    if let Some(named) = wanted.to_str().and_then(Named::from_name) {
        return Ok(named.grid());
    }
    let shown = wanted.display();
    let mut bytes = Vec::new();
    File::open(wanted)
        .and_then(|file| file.take(PATTERN_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| {
            let names = Named::ALL.map(Named::name).join(", ");
            format!("`{shown}` is neither a known pattern ({names}) nor a file that can be read")
        })?;
    if bytes.len() as u64 > PATTERN_FILE_BYTES_MAX {
        bail!(
            "pattern file `{shown}` is larger than {} MiB, the most that is read",
            PATTERN_FILE_BYTES_MAX >> 20
        );
    }
    rle::parse(&bytes).with_context(|| format!("pattern file `{shown}`"))
}

/// Makes sure, before a long game, that its end can be written.
fn check_output(output: &Path) -> anyhow::Result<()> {
    if output.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        // Opening a pipe waits for its reader, and closing it would send that reader away.
        return Ok(());
    }
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(output);
    opened.with_context(|| format!("output file `{}` cannot be written", output.display()))?;
    Ok(())
}

/// Puts the pattern where every node can read it: the user's file may be a pipe, or change.
fn share_pattern(pattern: &Grid) -> anyhow::Result<OwnedFd> {
    // Without MFD_CLOEXEC: the nodes inherit the descriptor.
    let mut file =
        File::from(memfd_create("pagemesh-life-pattern", MemfdFlags::empty()).map_err(io::Error::from)?);
    rle::write(pattern, &mut file)?;
    Ok(file.into())
}

/// How to draw on this output: in colour if it is a terminal and nobody minds.
fn view_style() -> ViewStyle {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !io::stdout().is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        ViewStyle::Plain
    } else if is_set("NO_COLOR") {
        // https://no-color.org
        ViewStyle::Digits
    } else {
        ViewStyle::Colour
    }
}
