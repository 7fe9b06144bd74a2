//! The launcher's event loop: nodes that end, signals that arrive, deadlines that pass.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::SIGTSTP;
use signal_hook::iterator::Signals;

use super::guard_link::GuardLink;
use super::job::Job;
use super::node::{Common, KILL_WAIT, Node, wait_for_end};
use super::output::{Pump, Sink};
use super::reservation::Reservation;
use super::{
    DRAIN_GRACE, FAILURE_KILL_GRACE, FAILURE_REPORT_GRACE, INTERRUPT_GRACE, Launch, LaunchError, NodeEnd,
    NodeFailure, Outcome, Output, signals,
};

/// timeout(1), for one, signals both a process and its group: the same signal again within this time is the same.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// How often a launcher in the background looks whether the shell has brought it to the foreground.
const FOREGROUND_POLL: Duration = Duration::from_millis(200);

/// How long an interrupted launcher goes on writing the nodes' output after the nodes have ended.
const INTERRUPTED_OUTPUT: Duration = DRAIN_GRACE.saturating_mul(2);

/// What the launcher's threads tell it.
pub(super) enum Event {
    /// A node's process has ended.
    NodeEnded(usize, NodeEnd),
    /// The launcher got this signal.
    Signal(i32),
    /// The terminal sent this signal to its foreground group, which is node 0's.
    Terminal(i32),
    /// One of the output streams is copied to its end, or could not be.
    OutputDone(io::Result<()>),
}

/// Where the run is on its way to the end.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    /// The nodes are expected to end, and told so at `terminate_at`.
    Ending {
        terminate_at: Option<Instant>,
        kill_at: Instant,
    },
    /// All were sent SIGKILL.
    Killed {
        give_up_at: Instant,
    },
}

/// One run.
pub(super) struct Supervisor {
    title: String,
    keep_going: bool,
    nodes: Vec<Node>,
    /// For each node, how it ended.
    ends: Vec<Option<NodeEnd>>,
    guard: GuardLink,
    _reservation: Reservation,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Events that were taken from the queue ahead of their turn.
    backlog: VecDeque<Event>,
    notices: Option<Sender<String>>,
    /// Closed when all nodes have ended: what holds their pipes open then is not a node.
    ended: Option<OwnedFd>,
    outputs_left: usize,
    output_lost: bool,
    phase: Phase,
    failure: Option<NodeFailure>,
    interrupted: Option<i32>,
    last_signal: Option<(i32, Instant)>,
    foreground_poll_at: Instant,
}

impl Supervisor {
    /// Starts all nodes, or none.
    pub(super) fn start(launch: &Launch, program: &Path) -> Result<Supervisor, LaunchError> {
        let (sender, events) = channel();
        // Before the first node: a Ctrl-C from now on ends the run in order.
        watch_signals(sender.clone())?;
        let reservation = Reservation::new()?;
        let coordinator = reservation.address();
        let (stdout, stderr) = Sink::standard().map_err(LaunchError::system("use stdout and stderr"))?;
        let (ended_read, ended) =
            pipe_with(PipeFlags::CLOEXEC).map_err(LaunchError::system("create a pipe"))?;
        let guard = GuardLink::start(sender.clone())?;
        let mut supervisor = Supervisor {
            title: launch.title.clone(),
            keep_going: launch.keep_going,
            nodes: Vec::new(),
            ends: Vec::new(),
            guard,
            _reservation: reservation,
            events,
            sender,
            backlog: VecDeque::new(),
            notices: None,
            ended: Some(ended),
            outputs_left: 0,
            output_lost: false,
            phase: Phase::Running,
            failure: None,
            interrupted: None,
            last_signal: None,
            foreground_poll_at: Instant::now(),
        };
        supervisor.guard.hand_over();
        supervisor.start_notices(stderr.clone())?;
        let ended_read = Arc::new(ended_read);
        let common = Common { launch, program, coordinator };
        for number in 0..launch.nodes {
            supervisor.start_node(&common, number)?;
        }
        for number in 0..supervisor.nodes.len() {
            let child = supervisor.nodes[number].child();
            let pipes = [
                (child.stdout.take().map(OwnedFd::from), launch.stdout, &stdout),
                (child.stderr.take().map(OwnedFd::from), launch.stderr, &stderr),
            ];
            for (pipe, output, sink) in pipes {
                let Some(pipe) = pipe else { continue };
                let prefix = if output == Output::Prefixed { format!("[{number}] ") } else { String::new() };
                let pump = Pump::new(pipe, Arc::clone(&ended_read), sink.clone(), prefix.into_bytes());
                supervisor.start_output(format!("output {number}"), move || pump.run())?;
            }
        }
        Ok(supervisor)
    }

    fn start_node(&mut self, common: &Common<'_>, number: u16) -> Result<(), LaunchError> {
        let group = if number == 0 { self.guard.group_of_node_0() } else { None };
        let node = Node::start(common, number, group)?;
        let process = node.process();
        self.guard.watch(node.group());
        self.nodes.push(node);
        self.ends.push(None);
        let sender = self.sender.clone();
        let wait = move || {
            let end = wait_for_end(process).unwrap_or_else(|error| {
                tracing::error!(%process, %error, "cannot wait for a node");
                NodeEnd::Exited(1)
            });
            let _ = sender.send(Event::NodeEnded(usize::from(number), end));
        };
        spawn(format!("node {number}"), wait)
    }

    /// Starts the thread that writes the launcher's own messages: whoever holds up stderr must not hold up the loop.
    fn start_notices(&mut self, sink: Sink) -> Result<(), LaunchError> {
        let (notices, lines) = channel::<String>();
        self.notices = Some(notices);
        self.start_output("notices".to_owned(), move || {
            lines.iter().try_for_each(|line| sink.write(line.as_bytes()))
        })
    }

    fn start_output<F>(&mut self, name: String, copy: F) -> Result<(), LaunchError>
    where
        F: FnOnce() -> io::Result<()> + Send + 'static,
    {
        let sender = self.sender.clone();
        self.outputs_left += 1;
        spawn(name, move || {
            let _ = sender.send(Event::OutputDone(copy()));
        })
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Outcome {
        while self.ends.iter().any(Option::is_none) {
            let now = Instant::now();
            if let Phase::Killed { give_up_at } = self.phase
                && now >= give_up_at
            {
                break;
            }
            self.on_time(now);
            if let Some(event) = self.next_event(self.next_deadline()) {
                self.on_event(event);
            }
        }
        if matches!(self.ends.first(), Some(Some(NodeEnd::Killed(_)))) {
            self.guard.restore_modes();
        }
        self.guard.release();
        self.finish_output();
        self.finish_processes();
        Outcome { failure: self.failure, interrupted: self.interrupted, output_lost: self.output_lost }
    }

    fn next_event(&mut self, deadline: Option<Instant>) -> Option<Event> {
        if let Some(event) = self.backlog.pop_front() {
            return Some(event);
        }
        match deadline {
            None => self.events.recv().ok(),
            Some(deadline) => {
                self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running => self.guard.wants_terminal().then_some(self.foreground_poll_at),
            Phase::Ending { terminate_at, kill_at } => Some(terminate_at.unwrap_or(kill_at)),
            Phase::Killed { give_up_at } => Some(give_up_at),
        }
    }

    fn on_time(&mut self, now: Instant) {
        match self.phase {
            Phase::Running if self.guard.wants_terminal() && now >= self.foreground_poll_at => {
                self.foreground_poll_at = now + FOREGROUND_POLL;
                if self.guard.hand_over() {
                    // It may have been stopped for reading in the background.
                    self.signal_all(Signal::CONT);
                }
            }
            Phase::Ending { kill_at, .. } if now >= kill_at => {
                self.kill("did not end in time and is killed");
            }
            Phase::Ending { terminate_at: Some(at), kill_at } if now >= at => {
                self.end_all(Signal::TERM, 0);
                self.phase = Phase::Ending { terminate_at: None, kill_at };
            }
            Phase::Running | Phase::Ending { .. } | Phase::Killed { .. } => {}
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::NodeEnded(node, end) => self.on_node_end(node, end),
            Event::Signal(signal) => self.on_signal(signal, false),
            Event::Terminal(signal) => self.on_signal(signal, true),
            Event::OutputDone(result) => self.on_output_done(result),
        }
    }

    fn on_node_end(&mut self, node: usize, end: NodeEnd) {
        self.ends[node] = Some(end);
        if end.success() {
            return;
        }
        // Ctrl-C may have ended the node before the guard's report of it was read: that is no failure.
        self.guard.sync();
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Signal(_) | Event::Terminal(_) => self.on_event(event),
                Event::NodeEnded(..) | Event::OutputDone(_) => self.backlog.push_back(event),
            }
        }
        let by_itself = matches!(self.phase, Phase::Running | Phase::Ending { terminate_at: Some(_), .. });
        if self.interrupted.is_some() || !by_itself {
            return;
        }
        self.notice(&format!("node {node} {end}"));
        self.failure.get_or_insert(NodeFailure { node, end });
        if !self.keep_going && matches!(self.phase, Phase::Running) {
            let now = Instant::now();
            self.phase = Phase::Ending {
                terminate_at: Some(now + FAILURE_REPORT_GRACE),
                kill_at: now + FAILURE_KILL_GRACE,
            };
        }
    }

    fn on_signal(&mut self, signal: i32, from_terminal: bool) {
        let now = Instant::now();
        let same = self.last_signal.is_some_and(|(last, at)| last == signal && now - at < SAME_SIGNAL);
        if same {
            return;
        }
        self.last_signal = Some((signal, now));
        // What the terminal sends, node 0's group has already.
        let first = usize::from(from_terminal);
        if signal == SIGTSTP {
            self.suspend(first);
            return;
        }
        match self.phase {
            Phase::Killed { .. } => {}
            Phase::Ending { .. } if self.interrupted.is_some() && signals::is_impatient(signal) => {
                self.kill("is killed at once");
            }
            Phase::Ending { .. } if self.interrupted.is_some() => {
                self.end_all(signals::named(signal), first);
            }
            Phase::Ending { kill_at, .. } => {
                self.interrupted = Some(signal);
                self.end_all(signals::named(signal), first);
                self.phase = Phase::Ending { terminate_at: None, kill_at };
            }
            Phase::Running => {
                self.interrupted = Some(signal);
                self.end_all(signals::named(signal), first);
                self.phase = Phase::Ending { terminate_at: None, kill_at: now + INTERRUPT_GRACE };
            }
        }
    }

    /// Ctrl-Z: stops the nodes and then the launcher, and goes on when the shell continues it.
    fn suspend(&mut self, first: usize) {
        if matches!(self.phase, Phase::Running) && shell_can_continue_us() {
            for node in &self.nodes[first.min(self.nodes.len())..] {
                node.signal(Signal::TSTP);
            }
            self.guard.release();
            // Returns when SIGCONT has come; the job's shell sees the launcher stopped until then.
            if let Err(error) = kill_process(getpid(), Signal::STOP) {
                tracing::warn!(%error, "cannot stop the launcher");
            }
            self.guard.hand_over();
        }
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        for node in &self.nodes {
            node.signal(signal);
        }
    }

    /// Tells the nodes from `first` on to end, and wakes all that are stopped.
    fn end_all(&self, signal: Signal, first: usize) {
        for node in &self.nodes[first.min(self.nodes.len())..] {
            node.signal(signal);
        }
        self.signal_all(Signal::CONT);
    }

    fn kill(&mut self, how: &str) {
        for node in 0..self.nodes.len() {
            if self.ends[node].is_none() {
                self.notice(&format!("node {node} {how}"));
            }
        }
        self.phase = Phase::Killed { give_up_at: Instant::now() + KILL_WAIT };
        // The guard may be in node 0's group, and after its death nobody could give the terminal back.
        self.guard.restore_modes();
        self.guard.release();
        for node in self.nodes.iter().rev() {
            node.signal(Signal::KILL);
        }
    }

    fn on_output_done(&mut self, result: io::Result<()>) {
        self.outputs_left -= 1;
        if let Err(error) = result
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            // A reader that has left wanted no more; a full disk is another matter.
            self.output_lost = true;
            self.notice(&format!("cannot write the nodes' output: {error}"));
        }
    }

    /// Waits until all output is written. A reader may take its time; an interrupted run does not wait for it.
    fn finish_output(&mut self) {
        self.ended = None;
        let mut abandon_at = self.interrupted.map(|_| Instant::now() + INTERRUPTED_OUTPUT);
        loop {
            if self.outputs_left <= 1 {
                // Only the messages are left: nothing can add to them any more.
                self.notices = None;
            }
            if self.outputs_left == 0 || abandon_at.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            match self.next_event(abandon_at) {
                Some(Event::OutputDone(result)) => self.on_output_done(result),
                Some(Event::Signal(signal) | Event::Terminal(signal)) if signal != SIGTSTP => {
                    self.interrupted.get_or_insert(signal);
                    abandon_at.get_or_insert(Instant::now());
                }
                Some(Event::Signal(_) | Event::Terminal(_) | Event::NodeEnded(..)) | None => {}
            }
        }
    }

    /// Kills what is left of the groups and reaps all processes.
    fn finish_processes(&mut self) {
        self.guard.release();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if !node.finish() {
                tracing::error!(node = number, "the kernel does not let go of a killed node");
            }
        }
        self.guard.finish();
    }

    fn notice(&self, text: &str) {
        if let Some(notices) = &self.notices {
            // The writer is gone when stderr is; there is nobody to tell.
            let _ = notices.send(format!("{}: {text}\n", self.title));
        }
    }
}

impl Drop for Supervisor {
    /// Nothing is left behind, whichever way the launcher leaves.
    fn drop(&mut self) {
        self.finish_processes();
    }
}

fn spawn<F: FnOnce() + Send + 'static>(name: String, work: F) -> Result<(), LaunchError> {
    let started = thread::Builder::new().name(name).spawn(work);
    started.map(drop).map_err(LaunchError::system("start a thread"))
}

fn watch_signals(sender: Sender<Event>) -> Result<(), LaunchError> {
    let mut arriving = Signals::new(signals::watched()).map_err(LaunchError::system("handle signals"))?;
    spawn("signals".to_owned(), move || {
        for signal in arriving.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    })
}

/// Whether somebody in this session waits for the launcher's job and can continue it (the process group is not
/// orphaned, setpgid(2)). Otherwise the kernel would not stop it for Ctrl-Z either.
fn shell_can_continue_us() -> bool {
    let (Some(own), Some(parent)) = (Job::own(), Job::of(parent_id())) else { return false };
    own.session == parent.session && own.group != parent.group
}
