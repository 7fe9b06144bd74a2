//! What the tests of `pagemesh run` share: a launcher under watch, shell scripts as nodes, a pseudo-terminal.
//!
//! Nothing here sleeps to wait for something: everything is polled until it is so or [`PATIENCE`] is over.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate and uses a part of this")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// After this long a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often conditions are looked at.
pub const POLL: Duration = Duration::from_millis(10);

/// The launcher.
pub const PAGEMESH: &str = env!("CARGO_BIN_EXE_pagemesh");

/// Polls until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(POLL);
    }
}

/// For env(1): whoever started the tests may ignore signals, as nohup(1) does, and every process would inherit that.
const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT,TERM";

/// `pagemesh run` with these options, and a shell script as the program.
pub fn run_script(options: &[&str], script: &str) -> Command {
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, PAGEMESH, "run"]).args(options).args(["--", "sh", "-c", script]);
    command
}

/// A line of output and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// What a launcher left when it had ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

impl Finished {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }
}

/// A running launcher whose output is being read.
pub struct Launcher {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    seen: Vec<Line>,
}

impl Launcher {
    pub fn start(mut command: Command) -> Launcher {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdin = child.stdin.take();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let other = sender.clone();
        thread::spawn(move || each_line(out, |line| sender.send(Line::Out(line)).is_ok()));
        thread::spawn(move || each_line(err, |line| other.send(Line::Err(line)).is_ok()));
        Launcher { child, stdin, lines, seen: Vec::new() }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().unwrap()
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for `count` lines on stdout that contain `part`, and returns them all.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found: Vec<String> =
                self.seen.iter().filter_map(out_text).filter(|line| line.contains(part)).collect();
            if found.len() >= count {
                return found;
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("{error}: {count} lines with {part:?}; saw {:?}", self.shown()),
            }
        }
    }

    fn shown(&self) -> Vec<String> {
        let bytes = self.seen.iter().map(|(Line::Out(bytes) | Line::Err(bytes))| bytes);
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// Waits for the launcher's end, and for the end of its output.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        self.stdin = None;
        let mut status = None;
        until("the launcher ends", || {
            status = self.child.try_wait().unwrap();
            self.seen.extend(self.lines.try_iter());
            status.is_some()
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the launcher's output stays open"),
            }
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for line in &self.seen {
            match line {
                Line::Out(bytes) => out.extend_from_slice(bytes),
                Line::Err(bytes) => err.extend_from_slice(bytes),
            }
        }
        Finished { status: status.unwrap(), out, err }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // A failed assertion must not leave processes; the launcher's death ends the nodes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn out_text(line: &Line) -> Option<String> {
    match line {
        Line::Out(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Line::Err(_) => None,
    }
}

fn each_line(stream: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match stream.read_until(b'\n', &mut line) {
            Ok(count) if count > 0 && take(line) => {}
            _ => return,
        }
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: Command) -> Finished {
    Launcher::start(command).finish()
}

/// The numbers after `word` in lines like `[1] word 12 34`.
pub fn numbers(lines: &[String], word: &str) -> Vec<i32> {
    let tails = lines.iter().filter_map(|line| line.split_once(&format!("{word} ")));
    tails.flat_map(|(_, tail)| tail.split_whitespace()).map(|number| number.parse().unwrap()).collect()
}

/// Field 3 of proc_pid_stat(5): `S`, `T`, `Z` and so on; none when there is no such process.
pub fn state(pid: i32) -> Option<char> {
    stat_field(pid, 0)?.chars().next()
}

fn stat_field(pid: i32, field_after_name: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let tail = stat.rsplit_once(") ")?.1;
    tail.split(' ').nth(field_after_name).map(str::to_owned)
}

/// Whether the process runs, sleeps or is stopped, but has not ended.
pub fn is_alive(pid: i32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

#[track_caller]
pub fn until_gone(pids: &[i32]) {
    for pid in pids {
        until(&format!("process {pid} is gone"), || !is_alive(*pid));
    }
}

/// The living child processes of `parent` and their names.
pub fn children(parent: i32) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = pids.filter(|pid| is_alive(*pid) && stat_field(*pid, 1) == Some(parent.to_string()));
    own.map(|pid| {
        (pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned())
    })
    .collect()
}

/// Kills a process that a test deliberately let outlive its run.
pub struct Stray(pub i32);

impl Drop for Stray {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A session of its own on a pseudo-terminal.
pub struct Terminal {
    master: File,
    child: Child,
    bytes: Receiver<Vec<u8>>,
    pub seen: String,
}

impl Terminal {
    /// Starts the command as the leader of a session whose controlling terminal is a new pseudo-terminal.
    pub fn start(program: &str, arguments: &[&str]) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        // setsid(1) is a part of util-linux; a child cannot make its own session in safe Rust.
        let child = Command::new("setsid")
            .args(["--ctty", "env", DEFAULT_SIGNALS])
            .arg(program)
            .args(arguments)
            .env("PS1", "prompt> ")
            .env_remove("ENV")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .expect("setsid(1) of util-linux is needed");
        let master = File::from(master);
        let (sender, bytes) = channel();
        let mut reader = master.try_clone().unwrap();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Reading ends with EIO when the last process has closed the terminal.
            while let Ok(count) = reader.read(&mut chunk) {
                if count == 0 || sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { master, child, bytes, seen: String::new() }
    }

    pub fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    pub fn master(&self) -> &File {
        &self.master
    }

    pub fn type_text(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` was shown `count` times.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.matches(text).count() < count {
            match self.bytes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{error}: {text:?} {count} times; saw:\n{}", self.seen),
            }
        }
    }

    /// Takes what was shown, or waits a moment for it.
    pub fn read_some(&mut self) {
        if let Ok(bytes) = self.bytes.recv_timeout(POLL) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Waits for the end of the session's leader and of all output.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, String) {
        let mut status = None;
        until("the session ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let deadline = Instant::now() + PATIENCE;
        while let Ok(bytes) = self.bytes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let status = status.unwrap();
        (status.code().or(status.signal().map(|signal| 128 + signal)), self.seen.clone())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
