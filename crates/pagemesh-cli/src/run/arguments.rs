//! The command line of `pagemesh run`.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, value_parser};

use super::{Launch, NODES_MAX, Output, launch};
use crate::environment;
use crate::preload::{self, PreloadError};

/// The title of this command's messages.
const TITLE: &str = "pagemesh run";

/// Start N nodes of a program on this machine and stay with them until the last has ended.
///
/// Each node finds its number in PAGEMESH_NODE, the number of nodes in PAGEMESH_NODES, and in PAGEMESH_COORDINATOR the
/// address on which node 0 listens and to which the others connect. A program that uses none of these runs just as well.
///
/// Node 0 reads this command's stdin, the others read nothing. Each line that a node writes appears with its number in
/// front, `[2] like this`, on the stream the node wrote it to.
///
/// A node that ends with code 0 does not end the others. When one fails, the others have 2.5 s to end by themselves,
/// then get SIGTERM, and are killed 4.5 s after the failure; the exit code is the first failing node's, or 128 and the
/// number of the signal that killed it. Ctrl-C, SIGTERM, SIGHUP and SIGQUIT go to all nodes, which are killed when they
/// have not ended 5 s later; a second Ctrl-C kills them at once. The exit code is then 130, 143, 129 or 131.
///
/// A library is preloaded (LD_PRELOAD) into the nodes and what they start, with which read(2), write(2), fread(3) and
/// their kin work on shared memory. It does not reach programs that are linked statically or run with another user's
/// rights. `pagemesh doctor` tells where it is; PAGEMESH_PRELOAD names another.
///
/// What a node has started ends with it: to outlive the run, a process needs a session of its own (setsid). The exit
/// code is 127 when there is no such program and 126 when it cannot be executed.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RunArguments {
    /// The number of nodes, 1 to 64
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,

    /// Let the nodes write straight to this command's stdout and stderr
    ///
    /// The bytes are exact, and a terminal is a terminal for every node: what prompts and draws needs this. Lines of
    /// different nodes may mix.
    #[arg(long)]
    no_prefix: bool,

    /// Let the other nodes run on when one fails
    #[arg(long)]
    keep_going: bool,

    /// Do not preload the library for system calls on shared memory
    #[arg(long)]
    no_preload: bool,

    /// Say on stderr what is preloaded
    #[arg(short, long)]
    verbose: bool,

    /// The program, and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl From<RunArguments> for Launch {
    fn from(run: RunArguments) -> Launch {
        let mut command = run.command.into_iter();
        let output = if run.no_prefix { Output::Inherited } else { Output::Prefixed };
        Launch {
            title: TITLE.to_owned(),
            nodes: run.nodes,
            program: command.next().unwrap_or_default(),
            arguments: command.collect(),
            environment: Vec::new(),
            stdout: output,
            stderr: output,
            keep_going: run.keep_going,
        }
    }
}

/// Runs the command; says on stderr why nothing could be started.
pub fn execute(arguments: RunArguments) -> ExitCode {
    environment::warn(TITLE);
    let (wanted, verbose) = (!arguments.no_preload, arguments.verbose);
    let mut nodes = Launch::from(arguments);
    if wanted {
        match preload::find() {
            Ok(library) => {
                let before = env::var_os(preload::LOADER_VARIABLE);
                let list = preload::prepended(&library, before.as_deref());
                nodes.environment.push((preload::LOADER_VARIABLE.into(), list));
                if verbose {
                    eprintln!("{TITLE}: preloading {}", library.display());
                }
            }
            Err(error @ PreloadError::NotFound { .. }) => {
                if verbose {
                    eprintln!("{TITLE}: {error}");
                }
            }
            Err(error) => {
                eprintln!("{TITLE}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    match launch(&nodes) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) => {
            eprintln!("{TITLE}: {error}");
            ExitCode::from(error.code())
        }
    }
}
