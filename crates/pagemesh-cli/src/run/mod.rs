//! Starts the nodes of one mesh on this machine and stays with them until the last one has ended.
//!
//! # Who is whose parent
//!
//! ```text
//! launcher ─┬─ guard        ends the nodes' process groups when the launcher dies; watches the terminal
//!           ├─ node 0       PAGEMESH_NODE=0, stdin is the launcher's stdin
//!           ├─ node 1       PAGEMESH_NODE=1, stdin is /dev/null
//!           └─ ...
//! ```
//!
//! **Process groups.** Each node leads a process group of its own, so that ending a node also ends what it started.
//! A process that wants to outlive the run must leave the group, as a daemon does with `setsid(2)`; what is left in a
//! group when the last node has ended and its output is drained is killed.
//!
//! **The terminal.** A terminal has one foreground process group, only that group may read from it, and Ctrl-C goes
//! to that group alone. When the launcher is in the foreground of the terminal on its stdin, it hands the foreground
//! to node 0's group, so that node 0 can read and set modes. The guard is a member of that group: it sees Ctrl-C,
//! Ctrl-\, Ctrl-Z and a hang-up at the same moment as node 0 and reports them, and the launcher passes them on to the
//! other groups only. A signal sent to the launcher itself goes to all groups. Each node so gets each signal once.
//! The foreground is not handed over on a terminal with `stty tostop`, where the launcher could no longer write.
//!
//! **Death of the launcher.** A launcher that ends in any way, SIGKILL included, takes its nodes with it: each node is
//! started through a hidden command of this program that sets the kernel's parent-death signal (`prctl(2)`,
//! `PR_SET_PDEATHSIG`) and then becomes the program, and the guard, seeing its command pipe closed, gives the terminal
//! back and kills the groups.
//!
//! Every program that calls [`launch`] must therefore first call [`helper`] in `main`.

mod arguments;
mod guard;
mod guard_link;
mod job;
mod node;
mod output;
mod program;
mod reservation;
mod signals;
mod supervisor;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

pub use arguments::{RunArguments, execute};

/// The most nodes one mesh can have: the engine keeps a set of nodes in one 64-bit word.
pub const NODES_MAX: u16 = 64;

/// How long the nodes have to end by themselves after Ctrl-C and its like, before SIGKILL.
pub const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// How long the other nodes have after a failure to report their lost peer and end by themselves, before SIGTERM.
pub const FAILURE_REPORT_GRACE: Duration = Duration::from_millis(2500);

/// How long after a failure the other nodes are killed: they are gone within 5 s.
pub const FAILURE_KILL_GRACE: Duration = Duration::from_millis(4500);

/// How long output pipes that something other than a node still holds open are read after the last node's end.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// What becomes of one of the nodes' output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Copied line by line, each line with `[N] ` in front; a last line without a newline gets one.
    Prefixed,
    /// Copied line by line as it is; a last line without a newline gets one.
    Lines,
    /// The nodes write to the launcher's own stream: the bytes are exact and a terminal stays a terminal, but lines
    /// of different nodes may mix.
    Inherited,
}

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The command that messages speak for: `pagemesh run`.
    pub title: String,
    /// The number of nodes, 1 to [`NODES_MAX`].
    pub nodes: u16,
    /// The program; a name without a slash is looked up in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables set for every node beside those of the launcher and the three that number it.
    pub environment: Vec<(OsString, OsString)>,
    /// Where the nodes' stdout goes.
    pub stdout: Output,
    /// Where the nodes' stderr goes.
    pub stderr: Output,
    /// Whether the others run on when a node fails.
    pub keep_going: bool,
}

impl Launch {
    /// Starts `nodes` copies of `program` with prefixed output, and ends all when one fails.
    pub fn new(nodes: u16, program: impl Into<OsString>) -> Launch {
        Launch {
            title: "pagemesh run".to_owned(),
            nodes,
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdout: Output::Prefixed,
            stderr: Output::Prefixed,
            keep_going: false,
        }
    }
}

/// How a node's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEnd {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl NodeEnd {
    /// Whether the node ended well.
    pub fn success(self) -> bool {
        self == NodeEnd::Exited(0)
    }

    /// The code a shell would give: the exit code, or 128 and the signal.
    pub fn code(self) -> u8 {
        match self {
            NodeEnd::Exited(code) => u8::try_from(code).unwrap_or(1),
            NodeEnd::Killed(signal) => signals::code(signal),
        }
    }
}

impl fmt::Display for NodeEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeEnd::Exited(code) => write!(formatter, "exited with code {code}"),
            NodeEnd::Killed(signal) => write!(formatter, "was killed by {}", signals::describe(*signal)),
        }
    }
}

/// The first node that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFailure {
    /// The node's number.
    pub node: usize,
    /// How it ended.
    pub end: NodeEnd,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first node that failed before anything interrupted the run.
    pub failure: Option<NodeFailure>,
    /// The signal that interrupted the run before any node failed.
    pub interrupted: Option<i32>,
    /// Whether some of the nodes' output could not be written.
    pub output_lost: bool,
}

impl Outcome {
    /// The launcher's exit code: that of the first failing node, 128 and the number of the signal that interrupted
    /// the run (130 for Ctrl-C), 1 when output was lost, and 0 otherwise.
    pub fn code(&self) -> u8 {
        match (self.failure, self.interrupted) {
            (Some(failure), _) => failure.end.code(),
            (None, Some(signal)) => signals::code(signal),
            (None, None) => u8::from(self.output_lost),
        }
    }
}

/// Why nothing was started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The number of nodes is out of range.
    #[error("cannot start {asked} nodes: a mesh has 1 to {NODES_MAX}; ask for a number in that range")]
    NodeCount {
        /// The number asked for.
        asked: u16,
    },
    /// There is no such program.
    #[error("cannot find the program {program:?}: {looked}; check the name, or give its path")]
    ProgramNotFound {
        /// The program as it was asked for.
        program: OsString,
        /// Where it was looked for.
        looked: &'static str,
    },
    /// The program is there, but may not be executed.
    #[error("cannot execute the program {program:?}: {found}; name an executable file")]
    ProgramNotExecutable {
        /// The program as it was asked for.
        program: OsString,
        /// What was found instead of an executable file.
        found: String,
    },
    /// The system refused something that every run needs.
    #[error("cannot {action}: {cause}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        cause: io::Error,
    },
}

impl LaunchError {
    /// The exit code a shell gives for the same error: 127 for a program that is not there, 126 for one that cannot be
    /// executed, 2 for a bad number of nodes, 1 otherwise.
    pub fn code(&self) -> u8 {
        match self {
            LaunchError::ProgramNotFound { .. } => 127,
            LaunchError::ProgramNotExecutable { .. } => 126,
            LaunchError::NodeCount { .. } => 2,
            LaunchError::System { .. } => 1,
        }
    }

    /// For `map_err` on a system call that does `action`.
    fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> LaunchError {
        move |error| LaunchError::System { action, cause: error.into() }
    }
}

/// Runs `launch` to its end: returns when all nodes have ended and their output is written.
///
/// To be called from a thread that lives until the end, one call after the other, in a program whose `main` starts with [`helper`]:
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGTSTP of the process are the launcher's from then on, and nobody's between two calls.
///
/// # Errors
/// [`LaunchError`] when the nodes could not be started; nothing runs then. What happens to running nodes is not an
/// error but the [`Outcome`].
pub fn launch(launch: &Launch) -> Result<Outcome, LaunchError> {
    if launch.nodes == 0 || launch.nodes > NODES_MAX {
        return Err(LaunchError::NodeCount { asked: launch.nodes });
    }
    let program = program::find(&launch.program, &launch.environment)?;
    Ok(supervisor::Supervisor::start(launch, &program)?.run())
}

/// Does the launcher's hidden work when this process was started for it, and returns its exit code; `None` in any
/// other process.
///
/// Must be the first thing `main` does, while the process has one thread.
pub fn helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?;
    if name == node::HELPER {
        Some(program::become_program(arguments))
    } else if name == guard::HELPER {
        Some(guard::main(arguments))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_decides_the_code_then_the_interruption() {
        let outcome = Outcome { failure: None, interrupted: None, output_lost: false };
        assert_eq!(outcome.code(), 0);
        assert_eq!(Outcome { output_lost: true, ..outcome }.code(), 1);
        assert_eq!(Outcome { interrupted: Some(2), ..outcome }.code(), 130);
        let failure = Some(NodeFailure { node: 2, end: NodeEnd::Killed(9) });
        assert_eq!(Outcome { failure, interrupted: Some(2), output_lost: false }.code(), 137);
    }

    #[test]
    fn a_failure_is_told_in_words() {
        assert_eq!(NodeEnd::Killed(9).to_string(), "was killed by signal 9 (SIGKILL)");
        assert_eq!(NodeEnd::Exited(3).to_string(), "exited with code 3");
    }

    #[test]
    fn node_counts_out_of_range_start_nothing() {
        for asked in [0, NODES_MAX + 1] {
            let error = launch(&Launch::new(asked, "true")).unwrap_err();
            assert!(matches!(error, LaunchError::NodeCount { .. }), "{error}");
        }
    }
}
