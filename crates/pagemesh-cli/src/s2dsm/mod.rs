//! s2dsm, the super simple distributed shared memory: two processes, one set of pages, and a user at each.
//!
//! The processes find each other ([`pairing`]); the first asks how many pages there shall be; both map them at the same
//! address and then run commands ([`session`]). All coherence is the mesh's own: this module touches pages and reports
//! what the runtime counted. It never keeps states or faults of its own.
//!
//! | module | what |
//! |---|---|
//! | [`pairing`] | who is first |
//! | [`screen`], [`console`] | lines, prompts, notices; the questions and their answers |
//! | [`message`] | text in a page |
//! | [`session`] | the commands over any [`session::SharedPages`] |
//! | [`mesh_pages`] | the pages of a mesh's region |

pub mod console;
mod hello;
pub mod mesh_pages;
pub mod message;
pub mod pairing;
pub mod screen;
pub mod session;

use crate::pager::{self, PagerError};
use clap::Parser;
use console::{Answer, Console, InputKind};
use mesh_pages::{MeshPages, Sharing};
use message::PAGE_BYTES;
use pagemesh::{Config, DepartureKind, JoinError, Mesh, Region, RegionError, RegionOptions, SyncError};
use pairing::{PairingError, PairingOptions, Part};
use screen::Screen;
use session::Session;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long the two may take to form their mesh once they have found each other.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the second process waits while the first one's user thinks: the loss of the peer ends it sooner.
const THINKING_TIME: Duration = Duration::from_hours(366 * 24);

/// How long a fault waits for a peer that is there but does not answer, stopped by Ctrl-Z perhaps. An access gives up after two
/// of them, so that every command ends within five seconds.
const FAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the watch over the peer looks whether the program is ending.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// The region both share.
const REGION: &str = "s2dsm";

/// Stage 1c: the one page through which the first process tells the second where it mapped its own pages.
const LAYOUT_REGION: &str = "s2dsm-layout";

/// Stage 1c: the barrier after which that page can be read.
const LAYOUT_WRITTEN: u64 = 0;

/// Stage 1c: the barrier after which the first process may leave, and the page with it.
const LAYOUT_READ: u64 = 1;

/// Two processes share pages of memory: read, write, and watch their states. Start one with the ports of the other swapped:
/// `s2dsm 5000 6000` and `s2dsm 6000 5000`.
#[derive(Parser, Clone, Debug)]
#[command(name = "s2dsm", version)]
pub struct Arguments {
    /// The port this process listens on.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: u16,

    /// The port the other process listens on.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub remote_port: u16,

    /// The machine of the other process. This process listens on loopback only, or, when the other machine is not this
    /// one, on all interfaces: anybody who reaches the port can then pair, so use it on a network you trust.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub remote_host: String,

    /// How long to wait for the other process to be started.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: u64,

    /// What to do once paired.
    #[arg(long, value_enum, default_value_t = Stage::Shared)]
    pub stage: Stage,
}

/// How far to go.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Map the pages at the same address in both processes, print where, and exit
    #[value(name = "1b")]
    Paired,
    /// Pages at the same address but local to each process: each faults once, at its first touch
    #[value(name = "1c")]
    Local,
    /// Coherent pages: what one process writes the other reads
    #[value(name = "2")]
    Shared,
}

impl Stage {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Paired => "1b",
            Stage::Local => "1c",
            Stage::Shared => "2",
        }
    }

    fn from_name(name: &str) -> Option<Stage> {
        [Stage::Paired, Stage::Local, Stage::Shared].into_iter().find(|stage| stage.name() == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the program ends with exit code 1. The text is complete.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum S2dsmError {
    /// The name of the other machine is unknown.
    #[error("cannot find the host {host}: {source}")]
    Host {
        /// The name given.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Both ports are the same on the same machine.
    #[error("LISTEN_PORT and REMOTE_PORT are both {port}: two processes on one machine need two ports")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// Page faults cannot be resolved in the way that was asked for.
    #[error(transparent)]
    Pager(#[from] PagerError),
    /// No pair.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The pair could not form a mesh.
    #[error("paired, but the mesh did not form: {0}")]
    Join(#[from] JoinError),
    /// The pages could not be had.
    #[error("the pages could not be mapped: {0}")]
    Region(#[from] RegionError),
    /// The other process went before the pages were there.
    #[error("the peer (node {node}) left before the pages were mapped")]
    PeerLeft {
        /// The peer.
        node: u16,
    },
    /// The peer is gone in the middle of an agreement.
    #[error("the peer did not follow: {0}")]
    Sync(#[from] SyncError),
    /// The layout page could not be exchanged.
    #[error("the address of the pages did not reach the second process: {0}")]
    Layout(#[from] pagemesh::AccessError),
    /// Standard input or output failed.
    #[error("input or output failed: {0}")]
    Console(#[from] io::Error),
}

/// Runs the program on `input` and `output` until its user leaves.
///
/// # Errors
/// When there is no pair, no mesh or no memory, and when the input or output breaks. That a peer leaves later is no error.
pub fn run<R: BufRead, W: Write + Send>(
    arguments: &Arguments,
    input: R,
    kind: InputKind,
    output: W,
) -> Result<(), S2dsmError> {
    // Before anybody waits for anybody.
    pager::chosen(None)?;
    let screen = Screen::new(output);
    let part = find_peer(arguments, &screen)?;
    let first = matches!(part, Part::First(_));
    let config = match part {
        Part::First(listener) => {
            let address = listener.local_addr()?;
            Config::new(0, 2, address).listener(listener)
        }
        Part::Second(coordinator) => Config::new(1, 2, coordinator),
    };
    // Every page is to fault by itself: that is what is shown.
    let config = config.join_timeout(JOIN_TIMEOUT).fault_timeout(FAULT_TIMEOUT).read_ahead(false);
    let mesh = Mesh::join(config)?;
    let place = if first { "first" } else { "second" };
    screen.print(format!(" [*] Paired: this is the {place} process (node {}).\n", mesh.node()).as_bytes())?;

    let console = Console::new(input, kind, &screen);
    let program = Program { mesh: &mesh, screen: &screen, stage: arguments.stage };
    let ending = if first { program.run_first(console)? } else { program.run_second(console)? };
    if ending == Ending::Together {
        // The second must not lose its peer while it maps.
        mesh.leave()?;
    }
    Ok(())
}

/// How a process leaves the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// At once: the other goes on without it.
    Alone,
    /// When the other does: both have only shown where the pages are.
    Together,
}

fn find_peer<W: Write>(arguments: &Arguments, screen: &Screen<W>) -> Result<Part, S2dsmError> {
    let remote = resolve(&arguments.remote_host, arguments.remote_port)?;
    if arguments.listen_port == arguments.remote_port && remote.ip().is_loopback() {
        return Err(S2dsmError::SamePort { port: arguments.listen_port });
    }
    let wait = Duration::from_secs(arguments.wait);
    let options = PairingOptions { listen_port: arguments.listen_port, remote, stage: arguments.stage, wait };
    let mut printed = Ok(());
    let part = pairing::pair(&options, &mut || {
        let host =
            if remote.ip().is_loopback() { String::new() } else { format!(" of {}", arguments.remote_host) };
        let Arguments { remote_port, wait, .. } = arguments;
        printed = screen.print(
            format!(" [*] Waiting for the peer on port {remote_port}{host} (at most {wait} s).\n").as_bytes(),
        );
    })?;
    printed?;
    Ok(part)
}

/// The peer's address. A name can have several; one of IP version 4 goes first, because both sides must listen in the version in
/// which the other dials.
fn resolve(host: &str, port: u16) -> Result<SocketAddr, S2dsmError> {
    let failed = |source| S2dsmError::Host { host: host.to_owned(), source };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first())
        .copied()
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "it has no address")))
}

/// What both processes do once they form a mesh.
struct Program<'a, W> {
    mesh: &'a Mesh,
    screen: &'a Screen<W>,
    stage: Stage,
}

impl<W: Write + Send> Program<'_, W> {
    fn run_first<R: BufRead>(&self, mut console: Console<'_, R, W>) -> Result<Ending, S2dsmError> {
        self.watched(|| {
            let Answer::Given(pages) = console.ask_page_count()? else { return Ok(Ending::Alone) };
            let options = RegionOptions::new(pages * PAGE_BYTES);
            if self.stage != Stage::Local {
                let region = self.mesh.region(REGION, options)?;
                return self.converse(console, self.mesh, region, Sharing::Coherent);
            }
            let local_mesh = alone()?;
            let region = local_mesh.region(REGION, options)?;
            let layout =
                self.mesh.region(LAYOUT_REGION, RegionOptions::new(PAGE_BYTES))?.slice::<u64>(0, 2)?;
            layout.write(0, &[region.base() as u64, region.bytes() as u64])?;
            self.mesh.barrier(LAYOUT_WRITTEN).wait()?;
            self.mesh.barrier(LAYOUT_READ).wait()?;
            self.converse(console, &local_mesh, region, Sharing::Local)
        })
    }

    fn run_second<R: BufRead>(&self, console: Console<'_, R, W>) -> Result<Ending, S2dsmError> {
        self.screen.print(b" [*] The first process chooses the number of pages.\n")?;
        if self.stage != Stage::Local {
            let region = self.attach(REGION)?;
            return self.watched(|| self.converse(console, self.mesh, region, Sharing::Coherent));
        }
        let layout = self.attach(LAYOUT_REGION)?.slice::<u64>(0, 2)?;
        self.mesh.barrier(LAYOUT_WRITTEN).wait()?;
        let (base, bytes) = (layout.get(0)? as usize, layout.get(1)? as usize);
        self.mesh.barrier(LAYOUT_READ).wait()?;
        let local_mesh = alone()?;
        let region = local_mesh.region(REGION, RegionOptions::new(bytes).address(base))?;
        self.watched(|| self.converse(console, &local_mesh, region, Sharing::Local))
    }

    /// Waits until the first process has made `region`. That its user left instead is the peer's leaving, not a fault here.
    fn attach(&self, region: &str) -> Result<Region, S2dsmError> {
        self.mesh.attach(region, THINKING_TIME).map_err(|error| match error {
            RegionError::PeerLost { node, .. } => S2dsmError::PeerLeft { node: node.get() },
            error => error.into(),
        })
    }

    /// Says where the pages are and, after stage 1b, runs commands on them.
    fn converse<R: BufRead>(
        &self,
        console: Console<'_, R, W>,
        mesh: &Mesh,
        region: Region,
        sharing: Sharing,
    ) -> Result<Ending, S2dsmError> {
        let (base, bytes, pages) = (region.base(), region.bytes(), region.pages());
        let line = format!(" [*] Mapped address: {base:#x}, size: {bytes} bytes ({pages} pages)\n");
        self.screen.print(line.as_bytes())?;
        if self.stage == Stage::Paired {
            return Ok(Ending::Together);
        }
        let pages = MeshPages::new(mesh, region, sharing)?;
        Session::new(&pages, console, self.stage == Stage::Shared).run()?;
        Ok(Ending::Alone)
    }

    /// Does `work` while another thread reports the peer's leaving. In stage 1b both leave at the end and nothing is said.
    fn watched<T>(&self, work: impl FnOnce() -> Result<T, S2dsmError>) -> Result<T, S2dsmError> {
        if self.stage == Stage::Paired {
            return work();
        }
        let ending = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.watch_peer(&ending));
            let _end = EndOnDrop(&ending);
            work()
        })
    }

    fn watch_peer(&self, ending: &AtomicBool) {
        while !ending.load(Ordering::Acquire) {
            if let Some(departure) = self.mesh.wait_departure(WATCH_INTERVAL) {
                let node = departure.node;
                let how = match departure.how {
                    DepartureKind::Left => "has left",
                    DepartureKind::Died => "has left without a word: it died or was cut off",
                };
                // When the screen is gone the conversation finds out by itself.
                let _ = self.screen.notice(&format!(" [!] The peer (node {node}) {how}."));
                return;
            }
        }
    }
}

/// A mesh of this process alone, for stage 1c.
fn alone() -> Result<Mesh, JoinError> {
    Mesh::join(Config::single())
}

/// Tells the watch to end, also when the conversation panics: the scope waits for the watch.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
