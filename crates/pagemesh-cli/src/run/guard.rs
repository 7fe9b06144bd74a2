//! The guard: a small process beside the nodes that the launcher starts before them.
//!
//! It knows the nodes' process groups, and kills them when its command pipe is closed without `done`: then the launcher
//! has died. When node 0 has the terminal, the guard leads node 0's process group. It so gets the signals that the
//! terminal sends to its foreground group, and reports them, and it is allowed to give the foreground back.
//!
//! One command a line on stdin, one report a line on stdout; see the constants.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, getpgrp, kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr, tcsetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

/// The hidden command that is the guard.
pub(super) const HELPER: &str = "__pagemesh-guard";

/// Command, with the number of a process group: kill it when the launcher dies.
pub(super) const WATCH: &str = "watch";
/// Command: answer [`SYNCED`] when all signals received so far are reported.
pub(super) const SYNC: &str = "sync";
/// Command: give the terminal the modes it had at the start.
pub(super) const RESTORE: &str = "restore";
/// Command: give the terminal's foreground back to the launcher's group, and answer [`RELEASED`].
pub(super) const RELEASE: &str = "release";
/// Command: end, and touch nothing.
pub(super) const DONE: &str = "done";

/// Report: signals are being caught from now on.
pub(super) const READY: &str = "ready";
/// Report: answer to [`SYNC`].
pub(super) const SYNCED: &str = "synced";
/// Report: answer to [`RELEASE`].
pub(super) const RELEASED: &str = "released";
/// Report, with a number: the terminal sent this signal.
pub(super) const SIGNAL: &str = "signal";

/// sigaction(2): `si_code` of a signal that the kernel sent of itself, as a terminal does for Ctrl-C. What one process
/// sends to another has `SI_USER`, and is no news: the launcher sends the like to the group that the guard is in.
const SI_KERNEL: i32 = 0x80;

struct Guard {
    /// The launcher's process group, to which the terminal belongs.
    home: Option<Pid>,
    terminal: Option<(File, Termios)>,
    signals: SignalDelivery<UnixStream, WithRawSiginfo>,
    groups: Vec<Pid>,
    unread: Vec<u8>,
}

/// Runs the guard. The arguments are the number of the launcher's process group and `terminal` or `none`.
pub(super) fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // The name that `ps` and `pkill` see: whoever kills every `pagemesh` by name must not get the guard too.
    let _ = rustix::thread::set_name(c"pagemesh-guard");
    let home = arguments.next().and_then(|home| parse(home.to_str()?));
    let with_terminal = arguments.next().is_some_and(|with| with == "terminal");
    match Guard::new(home, with_terminal).and_then(Guard::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse(number: &str) -> Option<Pid> {
    number.parse().ok().and_then(Pid::from_raw)
}

fn report(line: &str) {
    // A launcher that no longer reads has died; its end of the command pipe tells the same.
    let _ = writeln!(io::stdout(), "{line}");
}

impl Guard {
    fn new(home: Option<Pid>, with_terminal: bool) -> io::Result<Guard> {
        let terminal = if with_terminal {
            let file = File::options().read(true).write(true).open("/dev/tty")?;
            let modes = tcgetattr(&file)?;
            Some((file, modes))
        } else {
            None
        };
        let (read, write) = UnixStream::pair()?;
        // The guard must also survive what a node sends to its own group.
        let caught = [SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2];
        let signals = SignalDelivery::with_pipe(read, write, WithRawSiginfo, caught)?;
        Ok(Guard { home, terminal, signals, groups: Vec::new(), unread: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        report(READY);
        loop {
            let stdin = io::stdin();
            let mut fds =
                [PollFd::new(&stdin, PollFlags::IN), PollFd::new(self.signals.get_read(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let commanded = !fds[0].revents().is_empty();
            self.report_signals();
            if commanded && !self.read_commands()? {
                return Ok(());
            }
        }
    }

    fn report_signals(&mut self) {
        for info in self.signals.pending() {
            if info.si_code == SI_KERNEL {
                report(&format!("{SIGNAL} {}", info.si_signo));
            }
        }
    }

    /// Obeys what is in the pipe; false when this was the end.
    fn read_commands(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let count = match io::stdin().lock().read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            result => result?,
        };
        if count == 0 {
            self.launcher_died();
            return Ok(false);
        }
        self.unread.extend_from_slice(&chunk[..count]);
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            if !self.obey(String::from_utf8_lossy(&line).trim()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn obey(&mut self, command: &str) -> bool {
        match command.split_once(' ').unwrap_or((command, "")) {
            (WATCH, group) => self.groups.extend(parse(group)),
            (SYNC, _) => {
                self.report_signals();
                report(SYNCED);
            }
            (RESTORE, _) => self.restore_modes(),
            (RELEASE, _) => {
                self.release_terminal();
                report(RELEASED);
            }
            (DONE, _) => return false,
            _ => {}
        }
        true
    }

    fn restore_modes(&self) {
        if let Some((terminal, modes)) = &self.terminal {
            // A terminal that is gone needs no modes.
            let _ = tcsetattr(terminal, OptionalActions::Drain, modes);
        }
    }

    fn release_terminal(&self) {
        if let (Some((terminal, _)), Some(home)) = (&self.terminal, self.home) {
            // Fails when the launcher's group is gone, or the terminal: then there is nobody to give it back to.
            let _ = tcsetpgrp(terminal, home);
        }
    }

    fn launcher_died(&mut self) {
        self.restore_modes();
        self.release_terminal();
        let own = getpgrp();
        // Our own group comes last: that kills the guard as well.
        self.groups.sort_by_key(|group| *group == own);
        for group in &self.groups {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}
