//! Runs one test as several processes: the test binary starts itself once a node, and the same test function then plays
//! that node. What a node prints after `@@ ` comes back to the test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

mod public_folder;

use pagemesh::pager::{PagerKind, choose};
use pagemesh::{Config, Mesh};
use public_folder::public_folder;
use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long any wait of a test may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

const ROLE: &str = "PAGEMESH_TEST_ROLE";

/// How the nodes of a test are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The pager that they are told to use; none leaves the choice to them.
    pub pager: Option<PagerKind>,
    /// They run as the user nobody.
    pub as_nobody: bool,
    /// Their messages go over TCP, not through memory that they share.
    pub over_tcp: bool,
}

pub const AS_IT_COMES: Setting = Setting { pager: None, as_nobody: false, over_tcp: false };

/// Nodes that `start` starts are started in `setting`.
pub fn with_setting<R>(setting: Setting, start: impl FnOnce() -> R) -> R {
    let before = SETTING.replace(setting);
    let result = start();
    SETTING.set(before);
    result
}

thread_local! {
    static SETTING: Cell<Setting> = const { Cell::new(AS_IT_COMES) };
}

/// Runs a test in every setting that this machine and user have: with each pager, over TCP and, for root, as nobody too. In a node's process
/// it runs once, as the node was started.
pub fn everywhere(test: impl Fn()) {
    for setting in settings() {
        // Shown when the test fails.
        println!("in {setting:?}");
        SETTING.set(setting);
        test();
    }
    SETTING.set(AS_IT_COMES);
}

fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for pager in PagerKind::ALL {
        match choose(Some(pager)) {
            // One pager is as good as another to try the other transport with.
            Ok(_) => settings.push(Setting {
                pager: Some(pager),
                over_tcp: pager == PagerKind::Sigsegv,
                ..AS_IT_COMES
            }),
            // Said on stderr itself, which the harness does not keep to itself.
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "without the {pager} pager: {error}");
            }
        }
    }
    // SAFETY: asks a number, and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        settings.push(Setting { as_nobody: true, over_tcp: true, ..AS_IT_COMES });
        settings.push(Setting { pager: Some(PagerKind::Sigsegv), as_nobody: true, over_tcp: false });
    }
    settings
}

/// This test program, where every user can start it.
fn public_program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let copy = public_folder().join("test");
        std::fs::copy(std::env::current_exe().expect("this test binary"), &copy).expect("there is room");
        copy
    })
}

fn program(setting: Setting) -> Command {
    let mut command = if setting.as_nobody {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(public_program());
        command
    } else {
        Command::new(std::env::current_exe().expect("this test binary"))
    };
    match setting.pager {
        Some(pager) => command.env("PAGEMESH_PAGER", pager.to_string()),
        None => command.env_remove("PAGEMESH_PAGER"),
    };
    if setting.over_tcp {
        command.env("PAGEMESH_TRANSPORT", "tcp");
    } else {
        command.env_remove("PAGEMESH_TRANSPORT");
    }
    command
}

/// Says something to the test that started this node.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { println!("@@ {}", format_args!($($text)*)) };
}

/// In a node process that was started for `test`, plays the node and ends; in the test itself, does nothing.
pub fn play(test: &str, node: impl FnOnce(Mesh)) {
    if std::env::var(ROLE).as_deref() != Ok(test) {
        return;
    }
    let mesh = Mesh::join(Config::from_env().expect("the environment was set by the test")).expect("joins");
    node(mesh);
    std::process::exit(0);
}

/// An address on loopback that nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// A running node.
pub struct Node {
    child: Child,
    lines: Receiver<String>,
}

impl Node {
    pub fn start(test: &str, node: usize, nodes: usize, coordinator: SocketAddr) -> Node {
        Node::start_with(test, node, nodes, coordinator, &[])
    }

    pub fn start_with(
        test: &str,
        node: usize,
        nodes: usize,
        coordinator: SocketAddr,
        variables: &[(&str, &str)],
    ) -> Node {
        let mut child = program(SETTING.get())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, test)
            .env("PAGEMESH_NODE", node.to_string())
            .env("PAGEMESH_NODES", nodes.to_string())
            .env("PAGEMESH_COORDINATOR", coordinator.to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once("@@ ") {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        Node { child, lines }
    }

    /// The next thing it says.
    pub fn hear(&self) -> String {
        self.hear_within(PATIENCE)
    }

    pub fn hear_within(&self, patience: Duration) -> String {
        self.lines.recv_timeout(patience).expect("the node says something in time")
    }

    /// Everything else that it says, until it ends well.
    pub fn rest(mut self) -> Vec<String> {
        let status = self.end();
        let said: Vec<String> = self.lines.iter().collect();
        assert!(status.success(), "a node ended with {status} after saying {said:?}");
        said
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "a node does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `nodes` nodes that play `test`.
pub fn start(test: &str, nodes: usize) -> Vec<Node> {
    start_with(test, nodes, &[])
}

/// As [`start`], with more in their environment.
pub fn start_with(test: &str, nodes: usize, variables: &[(&str, &str)]) -> Vec<Node> {
    let coordinator = free_address();
    (0..nodes).map(|node| Node::start_with(test, node, nodes, coordinator, variables)).collect()
}

/// Starts `nodes` nodes that play `test`, and returns what each said.
pub fn run(test: &str, nodes: usize) -> Vec<Vec<String>> {
    start(test, nodes).into_iter().map(Node::rest).collect()
}
