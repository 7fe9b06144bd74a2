//! Runs `pagemesh demo life` and waits for what it does, never without a deadline.
#![allow(dead_code, reason = "each test program uses its own part")]

#[path = "../user_support/mod.rs"]
pub(crate) mod user_support;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pagemesh_demos::{Grid, GridSize, rle};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough for every game in these tests on a machine that is busy with others.
pub(crate) const GAME_DEADLINE: Duration = Duration::from_mins(3);

/// How long streams may stay open after the launcher's end.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(5);

/// `pagemesh demo life` with arguments separated by blanks.
pub(crate) fn life(arguments: &str) -> Command {
    let mut command = user_support::command(Path::new(env!("CARGO_BIN_EXE_pagemesh")));
    command.args(["demo", "life"]).args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running game.
pub(crate) struct Game {
    launcher: Child,
    pub(crate) stdout: Text,
    pub(crate) stderr: Text,
}

/// What has come out of a stream so far.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<Mutex<Vec<u8>>>);

/// A game that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Text {
    /// Collects a stream to its end; returns at once.
    pub(crate) fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let collected = text.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // The other end of a terminal that is closed is an error (EIO) and not an end.
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                collected.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
            }
        });
        text
    }

    /// What has come so far.
    pub(crate) fn get(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Everything, once the stream has ended.
    #[track_caller]
    pub(crate) fn complete(&self) -> String {
        let deadline = Instant::now() + OUTPUT_DEADLINE;
        // The reader lets go of the text when it is done.
        while Arc::strong_count(&self.0) > 1 {
            assert!(Instant::now() < deadline, "output that does not end: {}", tail(&self.get()));
            thread::sleep(POLL);
        }
        self.get()
    }
}

impl Game {
    /// Starts the command; streams that are not pipes stay empty.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut launcher = command.spawn().expect("pagemesh starts");
        let text = |stream: Option<Box<dyn Read + Send>>| stream.map(Text::collect).unwrap_or_default();
        let stdout = text(launcher.stdout.take().map(|stream| Box::new(stream) as _));
        let stderr = text(launcher.stderr.take().map(|stream| Box::new(stream) as _));
        Self { launcher, stdout, stderr }
    }

    /// Waits until `condition` holds and returns what it found.
    #[track_caller]
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "no {what} within {limit:?}\nstdout: {}\nstderr: {}",
                tail(&self.stdout.get()),
                tail(&self.stderr.get())
            );
            thread::sleep(POLL);
        }
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn finish(mut self, limit: Duration) -> Finished {
        let status =
            self.wait_for("end of the game", limit, |game| game.launcher.try_wait().expect("a child"));
        Finished { status, stdout: self.stdout.complete(), stderr: self.stderr.complete() }
    }

    pub(crate) fn signal_launcher(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.launcher), signal).expect("the launcher runs");
    }

    /// The process of a node, once it has become one.
    pub(crate) fn node(&self, node: usize) -> Option<Pid> {
        let wanted = format!("PAGEMESH_NODE={node}");
        fs::read_dir("/proc").expect("proc is mounted").flatten().find_map(|entry| {
            let process: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // proc_pid_stat(5): after the name in parentheses come the state and the parent.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
            let words = |file| {
                Some(
                    fs::read(entry.path().join(file))
                        .ok()?
                        .split(|&byte| byte == 0)
                        .map(<[u8]>::to_vec)
                        .collect::<Vec<_>>(),
                )
            };
            let is_node = parent == self.launcher.id().to_string()
                && words("cmdline")?.get(2).is_some_and(|word| word.ends_with(b"-node"))
                && words("environ")?.iter().any(|word| word == wanted.as_bytes());
            is_node.then(|| Pid::from_raw(process)).flatten()
        })
    }
}

impl Drop for Game {
    /// A test that fails leaves nothing behind; the nodes die with the launcher.
    fn drop(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

/// The end of a text that may be long.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Plays a game to its end.
#[track_caller]
pub(crate) fn finished(arguments: &str) -> Finished {
    Game::start(life(arguments)).finish(GAME_DEADLINE)
}

/// Plays a game to its end, which must be a good one, and returns its last generation and its output.
#[track_caller]
pub(crate) fn last_generation(arguments: &str) -> (Grid, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("last.rle");
    let finished = finished(&format!("{arguments} --output {}", output.display()));
    assert!(finished.status.success(), "{arguments}: {finished:?}");
    assert_eq!(finished.stderr, "", "{arguments}");
    let file = fs::read(&output).expect("the output was written");
    let grid = rle::parse(&file).unwrap_or_else(|error| panic!("{arguments}: {error}"));
    let expected = format!("population {}\n", grid.population());
    assert!(finished.stdout.ends_with(&expected), "{arguments}: {finished:?}");
    (grid, finished.stdout)
}

/// The same game played in this process.
pub(crate) fn reference(pattern: &Grid, width: u64, height: u64, generations: u64) -> Grid {
    let size = GridSize::new(width, height).expect("a valid size");
    let mut grid = Grid::centred(size, pattern).expect("the pattern fits");
    grid.advance(generations);
    grid
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_running(process: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
