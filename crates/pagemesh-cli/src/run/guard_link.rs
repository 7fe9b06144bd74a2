//! The launcher's side of the guard, and the handing over of the terminal.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp, tcsetpgrp};

use super::LaunchError;
use super::guard::{DONE, HELPER, READY, RELEASE, RELEASED, RESTORE, SIGNAL, SYNC, SYNCED, WATCH};
use super::job::Job;
use super::node::{OWN_PROGRAM, reap};
use super::supervisor::Event;

/// How long the guard may take to start.
const START_WAIT: Duration = Duration::from_secs(10);

/// How long the guard may take to answer; without an answer the launcher goes on alone.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// The launcher's process group; none when it is led from outside of the pid namespace.
fn own_group() -> Option<Pid> {
    Job::own()?.group
}

/// The running guard.
pub(super) struct GuardLink {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Whether the launcher's stdin is its controlling terminal.
    terminal: bool,
    /// Whether node 0's group was made the terminal's foreground group.
    handed_over: bool,
}

impl GuardLink {
    /// Starts the guard; the terminal's signals become [`Event::Terminal`].
    pub(super) fn start(events: Sender<Event>) -> Result<GuardLink, LaunchError> {
        // tcgetpgrp(3) succeeds for the controlling terminal of the process only.
        let terminal = tcgetpgrp(io::stdin()).is_ok();
        let mut child = Command::new(OWN_PROGRAM)
            .arg0("pagemesh")
            .arg(HELPER)
            .arg(own_group().map_or(0, Pid::as_raw_pid).to_string())
            .arg(if terminal { "terminal" } else { "none" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(LaunchError::system("start the guard process"))?;
        let commands = child.stdin.take();
        let reports = child.stdout.take();
        let (answer, answers) = channel();
        let mut guard = GuardLink { child, commands, answers, terminal, handed_over: false };
        if let Some(reports) = reports {
            thread::Builder::new()
                .name("guard".to_owned())
                .spawn(move || read_reports(reports, &answer, &events))
                .map_err(LaunchError::system("start a thread"))?;
        }
        if guard.expect(READY, START_WAIT) {
            Ok(guard)
        } else {
            guard.finish();
            let cause =
                io::Error::other("it ended or did not answer; does this program start with `helper`?");
            Err(LaunchError::System { action: "start the guard process", cause })
        }
    }

    /// The process group that node 0 must be in: the guard's, where there is a terminal to be shared.
    pub(super) fn group_of_node_0(&self) -> Option<Pid> {
        self.terminal.then(|| Pid::from_child(&self.child))
    }

    /// Has a node's group killed when the launcher dies.
    pub(super) fn watch(&mut self, group: Pid) {
        self.command(&format!("{WATCH} {group}"));
    }

    /// Whether the terminal could be handed over, but was not yet: it is in the background, or was, when last looked.
    pub(super) fn wants_terminal(&self) -> bool {
        self.terminal && !self.handed_over
    }

    /// Makes node 0's group the terminal's foreground group, if the launcher's group is that now. True when done.
    pub(super) fn hand_over(&mut self) -> bool {
        let stdin = io::stdin();
        let in_foreground = tcgetpgrp(&stdin).is_ok_and(|foreground| Some(foreground) == own_group());
        if !self.wants_terminal() || !in_foreground {
            return false;
        }
        let tostop = tcgetattr(&stdin).map_or(true, |modes| modes.local_modes.contains(LocalModes::TOSTOP));
        self.handed_over = !tostop && tcsetpgrp(&stdin, Pid::from_child(&self.child)).is_ok();
        self.handed_over
    }

    /// Returns when every signal that the terminal has sent so far is in the event queue.
    pub(super) fn sync(&mut self) {
        if self.handed_over {
            self.ask(SYNC, SYNCED);
        }
    }

    /// Takes the terminal back.
    pub(super) fn release(&mut self) {
        if self.handed_over {
            self.ask(RELEASE, RELEASED);
            self.handed_over = false;
        }
    }

    /// Gives the terminal the modes it had at the start, if it is still handed over.
    pub(super) fn restore_modes(&mut self) {
        if self.handed_over {
            self.command(RESTORE);
        }
    }

    /// Ends the guard.
    pub(super) fn finish(&mut self) {
        self.release();
        self.command(DONE);
        self.commands = None;
        if !reap(&mut self.child) {
            tracing::warn!(guard = self.child.id(), "the guard process did not end");
        }
    }

    fn command(&mut self, line: &str) {
        let Some(commands) = &mut self.commands else { return };
        if let Err(error) = commands.write_all(format!("{line}\n").as_bytes()) {
            // The guard shares the fate of node 0's group when that is killed.
            tracing::debug!(%error, line, "the guard process is gone");
            self.commands = None;
        }
    }

    fn ask(&mut self, line: &str, answer: &str) {
        self.command(line);
        if self.commands.is_some() && !self.expect(answer, ANSWER_WAIT) {
            tracing::warn!(line, "the guard process does not answer");
            self.commands = None;
        }
    }

    fn expect(&mut self, answer: &str, wait: Duration) -> bool {
        self.answers.recv_timeout(wait).is_ok_and(|line| line == answer)
    }
}

fn read_reports(reports: ChildStdout, answers: &Sender<String>, events: &Sender<Event>) {
    for line in BufReader::new(reports).lines().map_while(Result::ok) {
        let signal = line.strip_prefix(SIGNAL).and_then(|number| number.trim().parse().ok());
        // A launcher that has stopped listening is about to end.
        let _ = match signal {
            Some(signal) => events.send(Event::Terminal(signal)).is_ok(),
            None => answers.send(line).is_ok(),
        };
    }
}
