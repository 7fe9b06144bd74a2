//! Joining: how N processes become a full mesh of TCP streams.
//!
//! Node 0 is the coordinator and listens at an address that all nodes know. Every other node listens at a port of its
//! own, dials the coordinator and says `Hello`; the answer is `Welcome` or `Refused`. When all have come the
//! coordinator sends everybody the `Roster` of addresses; node *i* then dials every node *j* with 0 < *j* < *i*, and the
//! connection to the coordinator becomes the link with node 0. A node that has all its links says `Ready`; when all
//! have, the coordinator says `Go`. So [`join`] returns on no node before the mesh is whole, and a node that dies
//! before that is noticed by the coordinator and named to all.
//!
//! The coordinator makes up a random job id for each run and gives it out in its `Welcome`; a link presents
//! it, so that two jobs cannot be mixed up. It is no secret and no proof of anything: who can reach the listener can
//! join. Listeners are therefore on loopback unless another address is asked for.
//!
//! Then each two nodes find out whether they share a host, and with it memory: `same_host.rs`.
//!
//! Anything else that connects is dropped or refused, with a warning in the log, and delays nobody. The byte layout of
//! every message is in [`message`].

mod channel;
mod coordinator;
mod error;
mod lobby;
mod member;
pub mod message;
mod same_host;
mod socket;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::Coordinator;
pub use error::JoinError;
use member::Member;
pub use message::{Refusal, WIRE_VERSION};

use crate::ring::{LinkKind, RingLink, RingSource, Transport};
use crate::switch::MAX_NODES;

const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// How a node joins. Start from [`JoinOptions::new`].
#[derive(Debug)]
pub struct JoinOptions {
    /// The number of this node, below `nodes`.
    pub node: u16,
    /// How many nodes the mesh has, 1 to 64. All must agree.
    pub nodes: u16,
    /// Where node 0 listens. Only node 0 may be given "any address" of its machine.
    pub coordinator: SocketAddr,
    /// For node 0 only: a socket that listens at `coordinator` already. It is closed when the mesh is formed.
    pub listener: Option<TcpListener>,
    /// Where the other nodes listen for each other.
    pub listen_address: IpAddr,
    /// At which port; 0 lets the kernel choose.
    pub listen_port: u16,
    /// How long joining may take in all.
    pub timeout: Duration,
    /// How long the machine of a peer may be silent before the peer is lost: [`LEASE_MIN`](JoinOptions::LEASE_MIN) to
    /// [`LEASE_MAX`](JoinOptions::LEASE_MAX). Each node decides for itself.
    pub lease: Duration,
    /// What the links may consist of.
    pub transport: Transport,
    /// Who maps memory that is shared with nodes on the same host; without it all links are TCP.
    pub rings: Option<Arc<dyn RingSource>>,
}

impl JoinOptions {
    /// The lease of a node that asks for no other.
    pub const LEASE: Duration = Duration::from_secs(4);
    /// The shortest lease: connections without traffic are probed once a second at most.
    pub const LEASE_MIN: Duration = Duration::from_secs(1);
    /// The longest lease.
    pub const LEASE_MAX: Duration = Duration::from_hours(1);

    /// Listens on loopback only, allows 30 s, and has a lease of 4 s.
    pub fn new(node: u16, nodes: u16, coordinator: SocketAddr) -> Self {
        let listen_address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (timeout, lease) = (Duration::from_secs(30), Self::LEASE);
        let transport = Transport::Auto;
        Self {
            node,
            nodes,
            coordinator,
            listener: None,
            listen_address,
            listen_port: 0,
            timeout,
            lease,
            transport,
            rings: None,
        }
    }

    fn check(&self) -> Result<(), JoinError> {
        let Self { node, nodes, .. } = *self;
        let what = if nodes == 0 || nodes > MAX_NODES {
            format!("a mesh of {nodes} nodes was asked for; 1 to {MAX_NODES} are possible")
        } else if node >= nodes {
            format!(
                "node {node} was asked for in a mesh of {nodes} nodes; its number must be 0 to {}",
                nodes - 1
            )
        } else if node != 0 && self.listener.is_some() {
            format!("node {node} was given a coordinator's listener; only node 0 can use one")
        } else if !(Self::LEASE_MIN..=Self::LEASE_MAX).contains(&self.lease) {
            let (asked, min, max) = (self.lease, Self::LEASE_MIN, Self::LEASE_MAX);
            format!("a lease of {asked:?} was asked for; {min:?} to {max:?} are possible")
        } else {
            return Ok(());
        };
        Err(JoinError::Configuration { what })
    }
}

/// A formed mesh.
#[derive(Debug)]
pub struct Joined {
    /// The number of this node.
    pub node: u16,
    /// How many nodes there are.
    pub nodes: u16,
    /// The link to each node, by number; `None` for this node. Non-blocking, no delay, and set to end when the peer's machine has
    /// been silent for the lease. What [`Switch::new`](crate::Switch::new) wants.
    pub streams: Vec<Option<TcpStream>>,
    /// What the link to each node is; `None` for this node.
    pub kinds: Vec<Option<LinkKind>>,
    /// The rings of those links that have one. What [`Switch::with_rings`](crate::Switch::with_rings) wants.
    pub rings: Vec<Option<RingLink>>,
}

/// Forms the mesh together with the other nodes, which call this too. Returns when all links of all nodes are up.
///
/// # Errors
/// [`JoinError`]: at once for options that cannot work, and at the latest when the time is over.
pub fn join(options: JoinOptions) -> Result<Joined, JoinError> {
    options.check()?;
    let mut options = options;
    let (node, nodes) = (options.node, options.nodes);
    if nodes == 1 {
        return Ok(Joined { node, nodes, streams: vec![None], kinds: vec![None], rings: vec![None] });
    }
    let deadline = Instant::now() + options.timeout;
    let streams: Vec<Option<TcpStream>> = if node == 0 {
        let listener = match options.listener.take() {
            Some(listener) => listener,
            None => listen(usable(options.coordinator, node)?)?,
        };
        Coordinator::new(&options, listener, deadline)?.run()?
    } else {
        usable(options.coordinator, node)?;
        let listener = listen(SocketAddr::new(options.listen_address, options.listen_port))?;
        Member::admitted(&options, listener, deadline)?.run()?
    };
    for stream in streams.iter().flatten() {
        socket::set_lease(stream, options.lease).map_err(JoinError::io("setting the options of a link"))?;
    }
    let found = same_host::introduce(&options, &streams, deadline)?;
    let found = found.into_iter().map(|found| found.map_or((None, None), |(kind, ring)| (Some(kind), ring)));
    let (kinds, rings) = found.unzip();
    Ok(Joined { node, nodes, streams, kinds, rings })
}

fn listen(address: SocketAddr) -> Result<TcpListener, JoinError> {
    socket::listen(address).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => JoinError::AddressInUse { address },
        _ => JoinError::BadAddress { address, source },
    })
}

/// The coordinator's address must be one that the other nodes can dial.
fn usable(address: SocketAddr, node: u16) -> Result<SocketAddr, JoinError> {
    let what = if address.port() == 0 {
        "port 0 is none that others could dial"
    } else if node != 0 && address.ip().is_unspecified() {
        "it stands for any address of a machine and is none that could be dialled"
    } else {
        return Ok(address);
    };
    Err(JoinError::BadAddress { address, source: std::io::Error::new(ErrorKind::InvalidInput, what) })
}
