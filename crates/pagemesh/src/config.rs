//! How a node finds its mesh.

use crate::pager::PagerKind;
use crate::{Packing, Transport};
use pagemesh_net::JoinOptions;
use pagemesh_protocol::limits;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

/// The longest that anything waits, a century: the kernel's clock has an end, and `Duration::MAX` lies beyond it.
pub(crate) const FOREVER: Duration = Duration::from_hours(100 * 365 * 24);

const PAGER: &str = "PAGEMESH_PAGER";
const OWNER_HINTS: &str = "PAGEMESH_OWNER_HINTS";
const READ_AHEAD: &str = "PAGEMESH_READ_AHEAD";
const PACK: &str = "PAGEMESH_PACK";
const TRANSPORT: &str = "PAGEMESH_TRANSPORT";
const SHARDS: &str = "PAGEMESH_SHARDS";
/// Shards that a node has where nothing is said, at most; it has one for two processors.
const SHARDS_UNASKED: usize = 8;
/// Whether the kernel is to note writes.
const TRACK_WRITES: &str = "PAGEMESH_TRACK_WRITES";

/// Why a configuration is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable that is needed is not set.
    #[error(
        "{name} is not set; start this program by `pagemesh run -n N PROGRAM`, or set {name} to {wanted}"
    )]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A variable holds something else than it should.
    #[error("{name} is {found:?}; set it to {wanted}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it holds.
        found: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

/// Who this node is, how many there are, and where they meet.
#[derive(Debug)]
pub struct Config {
    pub(crate) node: u16,
    pub(crate) nodes: u16,
    pub(crate) coordinator: SocketAddr,
    pub(crate) listener: Option<TcpListener>,
    pub(crate) listen_address: IpAddr,
    pub(crate) listen_port: u16,
    pub(crate) join_timeout: Duration,
    pub(crate) lease: Duration,
    pub(crate) fault_timeout: Duration,
    pub(crate) wait_timeout: Duration,
    pub(crate) pin_deadline: Duration,
    pub(crate) spin: Option<Duration>,
    pub(crate) service_nice: Option<i32>,
    pub(crate) pager: Option<PagerKind>,
    pub(crate) lend_after: u32,
    pub(crate) transport: Option<Transport>,
    pub(crate) packing: Packing,
    pub(crate) foresight: bool,
    pub(crate) updates: bool,
    pub(crate) reads_ahead: bool,
    pub(crate) owner_hints: OwnerHints,
    pub(crate) track_writes: Option<bool>,
    pub(crate) shards: Option<u16>,
}

/// Whether a thread that misses a page goes by what its node has heard of who owns the page.
///
/// A read of a page that a third node has written takes three messages one after the other: to the page's home, to the owner, and back.
/// With a hint that is right it takes two, and with one that is wrong up to five. It concerns pages that neither this node nor the owner is the home of, in
/// regions of write-invalidate in which a miss brings one page. What a read finds is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OwnerHints {
    /// It does, but for a while after several hints in a row were wrong in the region.
    #[default]
    Auto,
    /// It does whenever there is a hint.
    On,
    /// It asks the home.
    Off,
}

impl OwnerHints {
    pub(crate) fn patience(self) -> u8 {
        match self {
            OwnerHints::Auto => limits::HINT_PATIENCE,
            OwnerHints::On => u8::MAX,
            OwnerHints::Off => 0,
        }
    }
}

impl Config {
    /// Node `node` of `nodes`; node 0 listens at `coordinator`, the others dial it.
    ///
    /// Nothing listens on anything but loopback, unless `coordinator` is another address.
    pub fn new(node: u16, nodes: u16, coordinator: SocketAddr) -> Config {
        Config {
            node,
            nodes,
            coordinator,
            listener: None,
            listen_address: if coordinator.ip().is_loopback() {
                coordinator.ip()
            } else if coordinator.is_ipv4() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
            },
            listen_port: 0,
            join_timeout: Duration::from_secs(30),
            lease: JoinOptions::LEASE,
            fault_timeout: Duration::from_secs(30),
            wait_timeout: Duration::from_mins(10),
            pin_deadline: Duration::from_secs(1),
            spin: None,
            service_nice: None,
            pager: None,
            lend_after: limits::LEND_AFTER,
            transport: None,
            packing: Packing::Auto,
            foresight: false,
            updates: true,
            reads_ahead: true,
            owner_hints: OwnerHints::Auto,
            track_writes: None,
            shards: None,
        }
    }

    /// A mesh of one node, which uses no network.
    pub fn single() -> Config {
        Config::new(0, 1, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// What the environment says: `PAGEMESH_NODE`, `PAGEMESH_NODES` and `PAGEMESH_COORDINATOR` (`host:port`) must be set, as
    /// `pagemesh run` does; `PAGEMESH_LISTEN` (an address), `PAGEMESH_JOIN_TIMEOUT_MS`, `PAGEMESH_LEASE_MS`, `PAGEMESH_FAULT_TIMEOUT_MS`,
    /// `PAGEMESH_WAIT_TIMEOUT_MS`, `PAGEMESH_PIN_MS`, `PAGEMESH_SPIN_US`, `PAGEMESH_READ_AHEAD`, `PAGEMESH_OWNER_HINTS`, `PAGEMESH_LEND_AFTER`,
    /// `PAGEMESH_PACK`, `PAGEMESH_FORESIGHT`, `PAGEMESH_UPDATES`, `PAGEMESH_SERVICE_NICE`, `PAGEMESH_TRACK_WRITES`, `PAGEMESH_SHARDS`,
    /// `PAGEMESH_PAGER` and `PAGEMESH_TRANSPORT` may be.
    ///
    /// # Errors
    /// When a variable is missing or holds something else than it should; the error names it.
    pub fn from_env() -> Result<Config, ConfigError> {
        Config::from_variables(variable)
    }

    /// As [`from_env`](Config::from_env), with the variables that `get` knows.
    ///
    /// # Errors
    /// As [`from_env`](Config::from_env).
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let need = |name, wanted| get(name).ok_or(ConfigError::Missing { name, wanted });
        let node = number(
            "PAGEMESH_NODE",
            &need("PAGEMESH_NODE", "this node's number, from 0")?,
            "a node number, from 0",
        )?;
        let nodes = number(
            "PAGEMESH_NODES",
            &need("PAGEMESH_NODES", "how many nodes there are")?,
            "a number of nodes from 1 to 64",
        )?;
        let name = "PAGEMESH_COORDINATOR";
        let wanted = "host:port of node 0";
        let text = need(name, wanted)?;
        let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let coordinator = resolved.ok_or(ConfigError::Invalid { name, found: text, wanted })?;
        Config::new(node, nodes, coordinator).with_variables(get)
    }

    /// The names of all variables of the environment that [`from_env`](Config::from_env) looks at.
    pub fn variables() -> BTreeSet<String> {
        let names = RefCell::new(BTreeSet::new());
        let noted = |name: &str| {
            names.borrow_mut().insert(name.to_owned());
            let needed =
                [("PAGEMESH_NODE", "0"), ("PAGEMESH_NODES", "1"), ("PAGEMESH_COORDINATOR", "127.0.0.1:1")];
            needed.iter().find(|(needed, _)| *needed == name).map(|(_, value)| (*value).to_owned())
        };
        // It makes a configuration, so it has asked for all.
        let _ = Config::from_variables(noted);
        names.into_inner()
    }

    /// This configuration with those settings of the environment that do not say who or where the nodes are: `PAGEMESH_LISTEN`,
    /// `PAGEMESH_JOIN_TIMEOUT_MS`, `PAGEMESH_LEASE_MS`, `PAGEMESH_FAULT_TIMEOUT_MS`, `PAGEMESH_WAIT_TIMEOUT_MS`, `PAGEMESH_PIN_MS`,
    /// `PAGEMESH_SPIN_US`, `PAGEMESH_READ_AHEAD`, `PAGEMESH_OWNER_HINTS`, `PAGEMESH_LEND_AFTER`, `PAGEMESH_PACK`, `PAGEMESH_FORESIGHT`, `PAGEMESH_UPDATES` and `PAGEMESH_SERVICE_NICE`, where they are set;
    /// `PAGEMESH_TRACK_WRITES`, `PAGEMESH_SHARDS`, `PAGEMESH_PAGER` and `PAGEMESH_TRANSPORT` are looked at too.
    ///
    /// # Errors
    /// When a variable holds something else than it should; the error names it.
    pub fn with_env(self) -> Result<Config, ConfigError> {
        self.with_variables(variable)
    }

    fn with_variables(self, get: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let mut config = self;
        let name = "PAGEMESH_LISTEN";
        if let Some(text) = get(name) {
            let wanted = "an address of this machine, such as 0.0.0.0";
            config.listen_address =
                text.parse().map_err(|_| ConfigError::Invalid { name, found: text, wanted })?;
        }
        let millis = |name, default| match get(name) {
            None => Ok(default),
            Some(text) => number(name, &text, "a number of milliseconds").map(Duration::from_millis),
        };
        config.join_timeout = millis("PAGEMESH_JOIN_TIMEOUT_MS", config.join_timeout)?;
        let name = "PAGEMESH_LEASE_MS";
        config.lease = millis(name, config.lease)?;
        if !(JoinOptions::LEASE_MIN..=JoinOptions::LEASE_MAX).contains(&config.lease) {
            let found = get(name).unwrap_or_default();
            let wanted = "a number of milliseconds from 1000 to 3600000";
            return Err(ConfigError::Invalid { name, found, wanted });
        }
        config.fault_timeout = millis("PAGEMESH_FAULT_TIMEOUT_MS", config.fault_timeout)?;
        config.wait_timeout = millis("PAGEMESH_WAIT_TIMEOUT_MS", config.wait_timeout)?;
        config.pin_deadline = millis("PAGEMESH_PIN_MS", config.pin_deadline)?;
        if let Some(text) = get("PAGEMESH_SPIN_US").filter(|text| text.trim() != "auto") {
            let micros = number("PAGEMESH_SPIN_US", &text, "a number of microseconds, or auto")?;
            config.spin = Some(Duration::from_micros(micros));
        }
        let name = "PAGEMESH_LEND_AFTER";
        if let Some(text) = get(name) {
            let wanted = "a number of releases from 1 to 7, or 0 for never";
            config.lend_after = number(name, &text, wanted)?;
            if config.lend_after > limits::LEND_AFTER_MOST {
                return Err(ConfigError::Invalid { name, found: text, wanted });
            }
        }
        if let Some(found) = get(READ_AHEAD) {
            config.reads_ahead = match found.trim() {
                "" | "auto" => true,
                "off" => false,
                _ => return Err(ConfigError::Invalid { name: READ_AHEAD, found, wanted: "auto or off" }),
            };
        }
        if let Some(found) = get(OWNER_HINTS) {
            config.owner_hints = match found.trim() {
                "" | "auto" => OwnerHints::Auto,
                "on" => OwnerHints::On,
                "off" => OwnerHints::Off,
                _ => {
                    return Err(ConfigError::Invalid { name: OWNER_HINTS, found, wanted: "auto, on or off" });
                }
            };
        }
        if let Some(found) = get(PACK) {
            config.packing = match found.trim() {
                "" | "auto" => Packing::Auto,
                "on" => Packing::On,
                "off" => Packing::Off,
                _ => return Err(ConfigError::Invalid { name: PACK, found, wanted: "auto, on or off" }),
            };
        }
        let name = "PAGEMESH_SERVICE_NICE";
        if let Some(text) = get(name) {
            let wanted = "a nice value, -20 to 19";
            let nice = number(name, &text, wanted)?;
            let is_nice = (-20..=19).contains(&nice);
            if !is_nice {
                return Err(ConfigError::Invalid { name, found: text, wanted });
            }
            config.service_nice = Some(nice);
        }
        let name = "PAGEMESH_FORESIGHT";
        config.foresight = match get(name).as_deref() {
            None => config.foresight,
            Some("yes") => true,
            Some("no") => false,
            Some(found) => {
                return Err(ConfigError::Invalid { name, found: found.to_owned(), wanted: "yes or no" });
            }
        };
        let name = "PAGEMESH_UPDATES";
        config.updates = match get(name).as_deref() {
            None => config.updates,
            Some("on") => true,
            Some("off") => false,
            Some(found) => {
                return Err(ConfigError::Invalid { name, found: found.to_owned(), wanted: "on or off" });
            }
        };
        track_writes_setting(get(TRACK_WRITES).as_deref())?;
        shards_setting(get(SHARDS).as_deref())?;
        pager_setting(get(PAGER))?;
        transport_setting(get(TRANSPORT).as_deref())?;
        Ok(config)
    }

    /// What `PAGEMESH_PAGER` asks for; `None` leaves the choice open.
    ///
    /// # Errors
    /// When it holds something else than a pager's name or `auto`.
    pub fn pager_from_env() -> Result<Option<PagerKind>, ConfigError> {
        pager_setting(variable(PAGER))
    }

    /// What `PAGEMESH_TRACK_WRITES` says; on where it is not set.
    ///
    /// # Errors
    /// When it holds something else than `on` or `off`.
    pub fn track_writes_from_env() -> Result<bool, ConfigError> {
        track_writes_setting(variable(TRACK_WRITES).as_deref())
    }

    /// What `PAGEMESH_SHARDS` says; where it is not set, or is `auto`, half as many as this process has processors, at least one and at most 8.
    ///
    /// # Errors
    /// When it holds something else than `auto` or a number from 1 to 64.
    pub fn shards_from_env() -> Result<u16, ConfigError> {
        let asked = shards_setting(variable(SHARDS).as_deref())?;
        Ok(asked.unwrap_or_else(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            (processors / 2).clamp(1, SHARDS_UNASKED) as u16
        }))
    }

    /// What `PAGEMESH_TRANSPORT` asks for; [`Transport::Auto`] where it is not set.
    ///
    /// # Errors
    /// When it holds something else than `auto`, `tcp` or `ring`.
    pub fn transport_from_env() -> Result<Transport, ConfigError> {
        transport_setting(variable(TRANSPORT).as_deref())
    }

    /// For node 0: meet on this socket, which listens already.
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Config {
        self.listener = Some(listener);
        self
    }

    /// For the other nodes: listen for each other here while joining (loopback where the coordinator is on loopback, else all
    /// addresses), at this port (0: one that the kernel chooses).
    #[must_use]
    pub fn listen(mut self, address: IpAddr, port: u16) -> Config {
        (self.listen_address, self.listen_port) = (address, port);
        self
    }

    /// How long to wait for the others to join (30 s).
    #[must_use]
    pub fn join_timeout(mut self, timeout: Duration) -> Config {
        self.join_timeout = timeout.min(FOREVER);
        self
    }

    /// How long the machine of another node, or the network to it, may be silent before this node takes the other for lost (4 s;
    /// 1 s to 1 h are possible). A process that dies is noticed at once, since its machine says so; one that is only stopped, or
    /// busy, is not lost at all, since its machine answers. A connection without traffic is probed four times in a lease, but at most
    /// once a second, so that the loss may be noticed a probe later.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Config {
        self.lease = lease;
        self
    }

    /// How long an access waits for its page (30 s). A node that was lost is noticed long before.
    #[must_use]
    pub fn fault_timeout(mut self, timeout: Duration) -> Config {
        self.fault_timeout = timeout.min(FOREVER);
        self
    }

    /// How long a lock, a barrier, and leaving wait for others (10 min).
    #[must_use]
    pub fn wait_timeout(mut self, timeout: Duration) -> Config {
        self.wait_timeout = timeout.min(FOREVER);
        self
    }

    /// How long another node waits for a page that this node has pinned (1 s); then it gets the page all the same, and the end of the
    /// pin says so.
    #[must_use]
    pub fn pin_deadline(mut self, deadline: Duration) -> Config {
        self.pin_deadline = deadline.min(FOREVER);
        self
    }

    /// How long a lock, a barrier, and leaving wait for others.
    pub fn allowed_wait(&self) -> Duration {
        self.wait_timeout
    }

    /// How faults are resolved. Without this `PAGEMESH_PAGER` decides, and without that the best that can be had is taken.
    #[must_use]
    pub fn pager(mut self, pager: PagerKind) -> Config {
        self.pager = Some(pager);
        self
    }

    /// In release regions, after how many releases in which one node alone wrote a page its home lends it the page (3): then this node
    /// need not send what it writes, and whoever reads the page fetches it from there. At most 7; with 0 this node lends and
    /// borrows nothing.
    #[must_use]
    pub fn lend_after(mut self, releases: u32) -> Config {
        self.lend_after = releases.min(limits::LEND_AFTER_MOST);
        self
    }

    /// What messages to nodes on the same host may go through. Without this `PAGEMESH_TRANSPORT` decides, and without that shared
    /// memory is taken where it can be had.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Config {
        self.transport = Some(transport);
        self
    }

    /// Whether pages and diffs are packed (LZ4) that this node sends through sockets. By default a node that finds that bytes come
    /// slowly from a peer asks it to.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Config {
        self.packing = packing;
        self
    }

    /// In write-invalidate regions, whether a read that misses goes straight to the node that is likely to own the page
    /// (automatic). [`Region::owner_hints`](crate::Region::owner_hints) says it for one region.
    #[must_use]
    pub fn owner_hints(mut self, hints: OwnerHints) -> Config {
        self.owner_hints = hints;
        self
    }

    /// In release regions, whether this node expects of its threads what they did before (no): then pages that they use in each round are
    /// fetched together after a barrier or a lock, before they ask, and pages that they write each time are writable at once.
    #[must_use]
    pub fn foresight(mut self, foresight: bool) -> Config {
        self.foresight = foresight;
        self
    }

    /// In release regions, whether pages that a node fetches again after each notice are sent to it along with what it synchronises by (yes).
    /// It concerns the pages that this node fetches, and those that it writes.
    #[must_use]
    pub fn updates(mut self, updates: bool) -> Config {
        self.updates = updates;
        self
    }

    /// Into how many shards this node divides the pages of its write-invalidate and migration regions, 1 to 64: threads that fault on pages of different
    /// shards do not wait for each other. Each has runs of 2 MiB and tables of its own for every such region. Nodes of one mesh may differ. Without this `PAGEMESH_SHARDS` decides, and
    /// without that the number of processors ([`shards_from_env`](Config::shards_from_env)).
    ///
    /// # Panics
    /// When it is none, or more than 64.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Config {
        assert!((1..=limits::ENGINES).contains(&shards.into()), "{shards} shards; there can be 1 to 64");
        self.shards = Some(shards);
        self
    }

    /// Whether the kernel is to note which pages of release regions are written, where it can (Linux 6.7, `sigbus` pager): the first
    /// write to a page that is here costs no fault then, and every copy of another home's page has a twin, which doubles the memory of copies that are
    /// only read. Without this `PAGEMESH_TRACK_WRITES` decides, and without that it is.
    #[must_use]
    pub fn track_writes(mut self, track_writes: bool) -> Config {
        self.track_writes = Some(track_writes);
        self
    }

    /// Whether a thread that reads pages one after the other, at any one distance, has the next ones asked for before it comes
    /// to them (yes). So has one that writes neighbouring pages upwards, in write-invalidate regions, or pages at any one distance, in release regions
    /// whose writes the kernel notes. In a region with a larger unit the next units are asked for. Not in regions whose pages migrate.
    #[must_use]
    pub fn read_ahead(mut self, reads_ahead: bool) -> Config {
        self.reads_ahead = reads_ahead;
        self
    }

    /// How long a waiting thread, and the service thread after it has served, polls before it sleeps. Without this they find out
    /// themselves whether there are cores to spare, and poll for up to 50 us where that pays.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Config {
        self.spin = Some(spin.min(FOREVER));
        self
    }

    /// The nice value that the service thread asks for, -20 to 19 (by default [`SERVICE_BELOW`] less than the thread has that joins); it
    /// takes the nearest that this user may have. The program's threads stay as they are.
    ///
    /// [`SERVICE_BELOW`]: crate::priority::SERVICE_BELOW
    #[must_use]
    pub fn service_nice(mut self, nice: i32) -> Config {
        self.service_nice = Some(nice.clamp(-20, 19));
        self
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn track_writes_setting(value: Option<&str>) -> Result<bool, ConfigError> {
    match value.map(str::trim) {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(found) => {
            Err(ConfigError::Invalid { name: TRACK_WRITES, found: found.to_owned(), wanted: "on or off" })
        }
    }
}

fn shards_setting(value: Option<&str>) -> Result<Option<u16>, ConfigError> {
    let wanted = "a number of shards from 1 to 64, or auto";
    match value.map(str::trim) {
        None | Some("auto") => Ok(None),
        Some(found) => {
            let shards = number(SHARDS, found, wanted)?;
            if !(1..=limits::ENGINES).contains(&usize::from(shards)) {
                return Err(ConfigError::Invalid { name: SHARDS, found: found.to_owned(), wanted });
            }
            Ok(Some(shards))
        }
    }
}

fn pager_setting(text: Option<String>) -> Result<Option<PagerKind>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let known = PagerKind::ALL.into_iter().find(|kind| kind.to_string() == text.trim());
    match text.trim() {
        "" | "auto" => Ok(None),
        _ => known.map(Some).ok_or(ConfigError::Invalid {
            name: PAGER,
            found: text,
            wanted: "auto, sigbus, handler or sigsegv",
        }),
    }
}

fn transport_setting(text: Option<&str>) -> Result<Transport, ConfigError> {
    match text.map_or("", str::trim) {
        "" | "auto" => Ok(Transport::Auto),
        "tcp" => Ok(Transport::Tcp),
        "ring" => Ok(Transport::Ring),
        found => Err(ConfigError::Invalid {
            name: TRANSPORT,
            found: found.to_owned(),
            wanted: "auto, tcp or ring",
        }),
    }
}

fn number<T: std::str::FromStr>(
    name: &'static str,
    text: &str,
    wanted: &'static str,
) -> Result<T, ConfigError> {
    text.trim().parse().map_err(|_| ConfigError::Invalid { name, found: text.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_readme_has_every_setting_that_is_looked_at() {
        let readme = include_str!("../../../README.md");
        let names = Config::variables();
        assert!(names.len() > 16, "{names:?}");
        for name in names {
            assert!(readme.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn the_launchers_variables_make_a_configuration() {
        let config = read(&[
            ("PAGEMESH_NODE", "2"),
            ("PAGEMESH_NODES", "4"),
            ("PAGEMESH_COORDINATOR", "127.0.0.1:7000"),
            ("PAGEMESH_JOIN_TIMEOUT_MS", "1500"),
            ("PAGEMESH_PIN_MS", "250"),
            ("PAGEMESH_LEASE_MS", "2500"),
            ("PAGEMESH_SPIN_US", "50"),
        ])
        .unwrap();
        assert_eq!((config.node, config.nodes), (2, 4));
        assert_eq!(config.coordinator, "127.0.0.1:7000".parse().unwrap());
        assert!(config.listen_address.is_loopback());
        assert_eq!(config.join_timeout, Duration::from_millis(1500));
        assert_eq!(config.pin_deadline, Duration::from_millis(250));
        assert_eq!(config.lease, Duration::from_millis(2500));
        assert_eq!(config.spin, Some(Duration::from_micros(50)));
    }

    #[test]
    fn a_pager_is_asked_for_by_name() {
        assert_eq!(pager_setting(None), Ok(None));
        assert_eq!(pager_setting(Some("auto".to_owned())), Ok(None));
        for kind in PagerKind::ALL {
            assert_eq!(pager_setting(Some(kind.to_string())), Ok(Some(kind)));
        }
        let wrong = pager_setting(Some("magic".to_owned())).unwrap_err().to_string();
        assert!(wrong.contains("auto, sigbus, handler or sigsegv") && wrong.contains("magic"), "{wrong}");
    }

    #[test]
    fn packing_is_asked_for_by_name() {
        let single =
            |value| Config::single().with_variables(|name| (name == PACK).then(|| String::from(value)));
        for (value, packing) in [("auto", Packing::Auto), ("on", Packing::On), (" off ", Packing::Off)] {
            assert_eq!(single(value).unwrap().packing, packing);
        }
        let error = single("zip").unwrap_err();
        assert_eq!(error.to_string(), "PAGEMESH_PACK is \"zip\"; set it to auto, on or off");
    }

    #[test]
    fn a_transport_is_asked_for_by_name() {
        let asked = |text| transport_setting(Some(text));
        assert_eq!(transport_setting(None), Ok(Transport::Auto));
        assert_eq!(asked("auto"), Ok(Transport::Auto));
        assert_eq!(asked("tcp"), Ok(Transport::Tcp));
        assert_eq!(asked(" ring"), Ok(Transport::Ring));
        assert!(asked("rdma").unwrap_err().to_string().contains("auto, tcp or ring"));
    }

    #[test]
    fn shards_are_a_number_or_left_to_the_node() {
        assert_eq!(shards_setting(None), Ok(None));
        assert_eq!(shards_setting(Some("auto")), Ok(None));
        assert_eq!(shards_setting(Some(" 4 ")), Ok(Some(4)));
        for wrong in ["", "0", "65", "-1", "many"] {
            let error = shards_setting(Some(wrong)).unwrap_err();
            assert!(error.to_string().contains("from 1 to 64"), "{error}");
        }
    }

    #[test]
    fn updates_are_on_or_off() {
        let node = [("PAGEMESH_NODE", "0"), ("PAGEMESH_NODES", "1"), ("PAGEMESH_COORDINATOR", "127.0.0.1:1")];
        let said =
            |said| read(&[&node[..], &[("PAGEMESH_UPDATES", said)]].concat()).map(|config| config.updates);
        assert!(read(&node).expect("nothing is missing").updates);
        assert_eq!((said("on"), said("off")), (Ok(true), Ok(false)));
        for wrong in ["", "yes", "0"] {
            let name = "PAGEMESH_UPDATES";
            let found = wrong.to_owned();
            assert_eq!(said(wrong), Err(ConfigError::Invalid { name, found, wanted: "on or off" }));
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let missing = read(&[("PAGEMESH_NODE", "0")]).unwrap_err();
        assert!(missing.to_string().contains("PAGEMESH_NODES is not set"), "{missing}");
        let wrong = read(&[("PAGEMESH_NODE", "zero")]).unwrap_err();
        assert!(wrong.to_string().contains("PAGEMESH_NODE is \"zero\""), "{wrong}");
        let wrong = read(&[
            ("PAGEMESH_NODE", "0"),
            ("PAGEMESH_NODES", "1"),
            ("PAGEMESH_COORDINATOR", "127.0.0.1:1"),
            ("PAGEMESH_LISTEN", "everywhere"),
        ]);
        assert!(matches!(wrong, Err(ConfigError::Invalid { name: "PAGEMESH_LISTEN", .. })));
        for lease in ["0", "999", "3600001", "-1", "soon"] {
            let node =
                [("PAGEMESH_NODE", "0"), ("PAGEMESH_NODES", "1"), ("PAGEMESH_COORDINATOR", "127.0.0.1:1")];
            let wrong = read(&[&node[..], &[("PAGEMESH_LEASE_MS", lease)]].concat());
            assert!(
                matches!(wrong, Err(ConfigError::Invalid { name: "PAGEMESH_LEASE_MS", .. })),
                "{wrong:?}"
            );
        }
    }
}
