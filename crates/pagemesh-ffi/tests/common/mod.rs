//! Compiles C programs against the library of this build and runs them, one process a node. What a program prints after `@@ ` comes
//! back to the test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

#[path = "../../../pagemesh/tests/cluster/public_folder.rs"]
mod public_folder;

use pagemesh::pager::{PagerKind, choose};
use public_folder::public_folder;
use socket2::{Domain, Socket, Type};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, Once, OnceLock};
use std::time::{Duration, Instant};

/// How long any wait of a test may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// What every program has to compile with.
pub const STRICT: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

/// This crate's folder.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the build has put `libdsm.so` and `libdsm.a`.
pub fn built() -> PathBuf {
    let program = std::env::current_exe().expect("this test binary");
    let folders = program.ancestors().skip(1).take(2);
    let found = folders
        .into_iter()
        .find(|folder| folder.join("libdsm.so").exists() && folder.join("libdsm.a").exists());
    found.expect("the libraries are built with the tests").to_owned()
}

/// A folder for this test binary, with the shared library under the names that programs look for.
pub fn folder() -> &'static Path {
    static FILLED: Once = Once::new();
    let folder = public_folder();
    FILLED.call_once(|| {
        fs::copy(built().join("libdsm.so"), folder.join("libdsm.so")).expect("there is room");
        symlink("libdsm.so", folder.join("libdsm.so.0")).expect("a link");
    });
    folder
}

/// How a program gets the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    Shared,
    Static,
}

/// Compiles a file with the system's compiler; returns the program. A warning fails the test.
pub fn compile(source: &Path, linkage: Linkage, options: &[&str]) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = source.file_stem().expect("a file").to_string_lossy().into_owned();
    let program = folder().join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    let is_cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let (compiler, standard) = if is_cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    let mut command = Command::new(compiler);
    command.arg(standard).args(STRICT).args(options);
    command.arg("-I").arg(here().join("include")).arg("-I").arg(here().join("tests/c"));
    command.arg(source).arg("-o").arg(&program);
    match linkage {
        Linkage::Shared => command.arg("-L").arg(folder()).arg("-ldsm"),
        Linkage::Static => command.arg(built().join("libdsm.a")).args(["-ldl", "-lm"]),
    };
    let output = command.arg("-lpthread").output().expect("a C compiler is there");
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    program
}

/// Compiles a program of `tests/c`.
pub fn program(name: &str, linkage: Linkage) -> PathBuf {
    compile(&here().join("tests/c").join(name), linkage, &[])
}

/// The number of the user and of the group nobody.
const NOBODY: &str = "65534";

/// As whom programs are run, and with which pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub pager: PagerKind,
    pub as_nobody: bool,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.pager, if self.as_nobody { " as nobody" } else { "" })
    }
}

/// Every setting there is: each pager that the one who started the tests can have and, if that is root, each that nobody can
/// have. Found once, and said, also what there is not.
pub fn settings() -> &'static [Setting] {
    static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let alone = program("alone.c", Linkage::Shared);
        // SAFETY: asks a number, and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let users = if is_root { &[false, true][..] } else { &[false] };
        let all = users
            .iter()
            .flat_map(|as_nobody| PagerKind::ALL.map(|pager| Setting { pager, as_nobody: *as_nobody }));
        let (had, missing): (Vec<Setting>, Vec<Setting>) =
            all.partition(|setting| can_be_had(&alone, *setting));
        let names =
            |settings: &[Setting]| settings.iter().map(Setting::to_string).collect::<Vec<_>>().join(", ");
        // Past the harness, which would keep it to itself.
        let _ = writeln!(std::io::stderr(), "tested with: {}; not there: {}", names(&had), names(&missing));
        assert!(had.len() >= users.len(), "there is always sigsegv");
        had
    })
}

/// Whether a mesh of one starts; if not, the library must have said so by an error.
fn can_be_had(alone: &Path, setting: Setting) -> bool {
    let mut command = command_in(alone, setting);
    command.env("PAGEMESH_NODE", "0").env("PAGEMESH_NODES", "1").env("PAGEMESH_COORDINATOR", "127.0.0.1:1");
    let said = Process::start(&mut command).said();
    if !setting.as_nobody {
        assert_eq!(said == ["started"], choose(Some(setting.pager)).is_ok(), "{setting}: {said:?}");
    }
    assert!(said == ["started"] || said == ["refused"], "{setting}: {said:?}");
    said == ["started"]
}

/// A command in this setting, and else in an environment without settings of ours.
pub fn command_in(program: &Path, setting: Setting) -> Command {
    let mut command = if setting.as_nobody {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
        prepared(command)
    } else {
        command(program)
    };
    command.env("PAGEMESH_PAGER", setting.pager.to_string());
    command
}

/// A command in an environment without settings of ours.
pub fn command(program: &Path) -> Command {
    prepared(Command::new(program))
}

fn prepared(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PAGEMESH_") {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", folder()).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A running program.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        let mut child = command.spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Process { child, lines }
    }

    /// The next thing that it says to the test.
    pub fn hear_within(&self, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("it says something in time");
            if let Some(said) = line.strip_prefix("@@ ") {
                return said.to_owned();
            }
        }
    }

    /// As [`hear_within`](Process::hear_within); `None` when it says nothing for so long.
    pub fn hear_within_or_none(&self, patience: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(patience).ok()?;
        line.strip_prefix("@@ ").map(str::to_owned)
    }

    /// All lines, once it has ended well.
    pub fn output(mut self) -> Vec<String> {
        let status = self.end();
        let lines: Vec<String> = self.lines.iter().collect();
        assert!(status.success(), "it ended with {status} after {lines:?}");
        lines
    }

    /// What it says to the test until it ends well.
    pub fn said(self) -> Vec<String> {
        let lines = self.output();
        lines.iter().filter_map(|line| line.strip_prefix("@@ ")).map(str::to_owned).collect()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that needs no others; returns what it says.
pub fn run<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> Vec<String> {
    Process::start(command(program).args(arguments)).said()
}

/// An address on loopback that nobody listens at, and that nobody else is given while this test runs: it stays bound here, to a
/// socket that does not listen.
pub fn free_address() -> SocketAddr {
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    RESERVED.lock().expect("no test panics in here").push(socket);
    address
}

/// Starts a program as the nodes of a mesh, as the launcher does.
pub fn start_nodes(program: &Path, nodes: usize, setting: Setting, arguments: &[&str]) -> Vec<Process> {
    let coordinator = free_address().to_string();
    let start = |node: usize| {
        let mut command = command_in(program, setting);
        command.args(arguments);
        command.env("PAGEMESH_NODE", node.to_string()).env("PAGEMESH_NODES", nodes.to_string());
        Process::start(command.env("PAGEMESH_COORDINATOR", &coordinator))
    };
    (0..nodes).map(start).collect()
}
