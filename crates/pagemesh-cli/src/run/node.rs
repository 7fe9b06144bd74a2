//! One node's process and its process group.

use std::io;
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid};

use super::{Launch, LaunchError, NodeEnd, Output};

/// The hidden command that becomes a node's program.
pub(super) const HELPER: &str = "__pagemesh-node";

/// This program, also when its file was replaced since it was started.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

/// How often [`reap`] looks for a killed process.
const REAP_POLL: Duration = Duration::from_millis(2);

/// How long a killed process may take to disappear.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(2);

/// A started node.
///
/// The process is reaped only at the very end: until then its number, which is also the number of its group, cannot
/// be given to a stranger, and signals to the group are safe.
pub(super) struct Node {
    child: Child,
    group: Pid,
    reaped: bool,
}

/// What every node of a run has in common.
pub(super) struct Common<'a> {
    pub(super) launch: &'a Launch,
    pub(super) program: &'a Path,
    pub(super) coordinator: SocketAddrV4,
}

impl Node {
    /// Starts node `number`, in `group` or in a group of its own.
    pub(super) fn start(common: &Common<'_>, number: u16, group: Option<Pid>) -> Result<Node, LaunchError> {
        let launch = common.launch;
        let stream = |output| if output == Output::Inherited { Stdio::inherit() } else { Stdio::piped() };
        let child = Command::new(OWN_PROGRAM)
            .arg0("pagemesh")
            .arg(HELPER)
            .arg(getpid().to_string())
            .arg(&launch.title)
            .arg(common.program)
            .arg(&launch.program)
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .env("PAGEMESH_NODE", number.to_string())
            .env("PAGEMESH_NODES", launch.nodes.to_string())
            .env("PAGEMESH_COORDINATOR", common.coordinator.to_string())
            .stdin(if number == 0 { Stdio::inherit() } else { Stdio::null() })
            .stdout(stream(launch.stdout))
            .stderr(stream(launch.stderr))
            .process_group(group.map_or(0, |group| group.as_raw_nonzero().get()))
            .spawn()
            .map_err(LaunchError::system("start a node"))?;
        let group = group.unwrap_or_else(|| Pid::from_child(&child));
        Ok(Node { child, group, reaped: false })
    }

    /// The process, with its pipes.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The node's process number.
    pub(super) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The node's process group.
    pub(super) fn group(&self) -> Pid {
        self.group
    }

    /// Sends a signal to everything in the node's group.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // The group exists as long as its process is not reaped, and we may signal what we started, unless it
            // took another user's rights: then there is nothing to be done about it.
            if let Err(error) = kill_process_group(self.group, signal) {
                tracing::warn!(group = %self.group, ?signal, %error, "cannot signal a node's process group");
            }
        }
    }

    /// Kills whatever is left of the group and reaps the process. False when the kernel has not let go of it in time.
    pub(super) fn finish(&mut self) -> bool {
        self.signal(Signal::KILL);
        self.reaped = self.reaped || reap(&mut self.child);
        self.reaped
    }
}

/// Reaps a process that was killed or asked to end; false when it has not ended within [`KILL_WAIT`].
pub(super) fn reap(child: &mut Child) -> bool {
    let deadline = Instant::now() + KILL_WAIT;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(REAP_POLL),
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

/// Waits for the end of a process and leaves it unreaped (waitid(2), `WNOWAIT`).
pub(super) fn wait_for_end(process: Pid) -> io::Result<NodeEnd> {
    loop {
        match waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => NodeEnd::Exited(code),
                    (None, Some(signal)) => NodeEnd::Killed(signal),
                    (None, None) => continue,
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
