//! Nodes made by `fork`: the caller and its children, all on this machine.

use crate::error::{Answer, Code, Failed};
use crate::settings::Settings;
use crate::state::Starting;
use pagemesh::Config;
use std::net::{Ipv4Addr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a child exits with that could not join; its parent is told why it could not join itself.
const CHILD_FAILED: i32 = 1;

/// How often a parent looks whether its children have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Processes that this one has made and not yet waited for. Dropping the value ends them.
#[derive(Debug, Default)]
pub(crate) struct Children(Vec<libc::pid_t>);

impl Children {
    /// Waits until all have ended.
    pub(crate) fn reap(&mut self, timeout: Duration) -> Answer<()> {
        let deadline = Instant::now() + timeout;
        loop {
            self.0.retain(|child| !has_ended(*child));
            if self.0.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let left = std::mem::take(&mut self.0);
                let what =
                    format!("the forked processes {left:?} have not ended after {timeout:?}; end them");
                return Err(Failed::new(Code::Timeout, what));
            }
            sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.drain(..) {
            // SAFETY: signals a child that was not waited for, so that its number is still its own, and waits for it.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Whether a child has ended; if it has, nothing of it is left. A child that the program has waited for itself counts.
fn has_ended(child: libc::pid_t) -> bool {
    // SAFETY: asks about one child without waiting.
    let answer = unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) };
    answer != 0
}

/// Ends a child that did not get as far as being a node, without what the parent had still to write.
struct ExitUnlessJoined;

impl Drop for ExitUnlessJoined {
    fn drop(&mut self) {
        // SAFETY: ends this process.
        unsafe { libc::_exit(CHILD_FAILED) };
    }
}

/// Forks into `nodes` nodes, and joins. Returns this node's number, in each.
pub(crate) fn fork_nodes(nodes: u16) -> Answer<u16> {
    let starting = Starting::begin()?;
    let settings = Settings::from_env()?;
    if nodes == 1 {
        starting.join(Config::single().with_env()?, settings, Children::default())?;
        return Ok(0);
    }
    let failed = |what: &str, error: std::io::Error| Failed::new(Code::Network, format!("{what}: {error}"));
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed("cannot listen", error))?;
    let coordinator = listener.local_addr().map_err(|error| failed("cannot listen", error))?;
    // What can be wrong with the settings is said once, and before anybody is made.
    let config = |node| Config::new(node, nodes, coordinator).with_env();
    let own = config(0)?;
    let mut children = Children::default();
    for node in 1..nodes {
        // SAFETY: this process has no thread of ours yet. The child goes on here with a copy of everything; whatever other
        // threads the program has are not in it, and what they had locked stays locked: the program's business, as with any fork.
        match unsafe { libc::fork() } {
            -1 => {
                let error = std::io::Error::last_os_error();
                return Err(Failed::new(Code::Memory, format!("cannot fork node {node}: {error}")));
            }
            0 => {
                let unless_joined = ExitUnlessJoined;
                Starting::carry_over();
                // They are its siblings, and not its to end.
                children.0.clear();
                drop((own, listener));
                starting.join(config(node)?, settings, Children::default())?;
                std::mem::forget(unless_joined);
                return Ok(node);
            }
            child => children.0.push(child),
        }
    }
    starting.join(own.listener(listener), settings, children)?;
    Ok(0)
}
