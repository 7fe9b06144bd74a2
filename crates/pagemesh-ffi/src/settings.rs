//! How a node is told to join: by a structure, a list of addresses, or the environment.

use crate::error::{Answer, Failed};
use crate::types::{MAX_NODES, dsm_config_t};
use pagemesh::{Config, Protocol};
use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Settings of the environment that hold for any start, and are not the mesh's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Of memory that `dsm_malloc` returns.
    pub(crate) protocol: Protocol,
}

impl Settings {
    pub(crate) fn from_env() -> Answer<Settings> {
        let protocol = match text("PAGEMESH_PROTOCOL").as_deref() {
            None | Some("" | "write-invalidate") => Protocol::WriteInvalidate,
            Some("migration") => Protocol::Migration,
            // Memory that every lock brings up to date, those on ranges too: what entry consistency promises of the bytes that are bound to
            // a lock, and more. Ranges alone would leave a program without memory that its other locks protect.
            Some("release" | "entry") => Protocol::Release,
            Some(other) => {
                return unknown("PAGEMESH_PROTOCOL", other, "write-invalidate, migration, release and entry");
            }
        };
        // Looked at again by every start; here for an error before anything is begun.
        Config::transport_from_env()?;
        Ok(Settings { protocol })
    }
}

fn text(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().trim().to_owned())
}

fn unknown<T>(name: &str, found: &str, known: &str) -> Answer<T> {
    Failed::invalid(format!("{name} is {found:?}; this version knows {known}"))
}

/// What `dsm_init` was told.
pub(crate) fn from_structure(asked: &dsm_config_t) -> Answer<Config> {
    let dsm_config_t { node_id, port, manager_port, num_nodes, is_manager, log_level, .. } = *asked;
    let nodes = count(num_nodes)?;
    let Some(node) = u16::try_from(node_id).ok().filter(|node| *node < nodes) else {
        return Failed::invalid(format!(
            "node {node_id} was asked for; {num_nodes} nodes are 0 to {}",
            nodes - 1
        ));
    };
    if is_manager != 0 && node != 0 {
        return Failed::invalid(format!("node {node} cannot be the manager: node 0 is"));
    }
    if !(0..=4).contains(&log_level) {
        return Failed::invalid(format!("log level {log_level} was asked for; there are 0 to 4"));
    }
    let host = host_of(asked)?;
    if nodes == 1 {
        return Ok(Config::single().with_env()?);
    }
    let config = if node == 0 {
        let listen = match (&host, text("PAGEMESH_LISTEN")) {
            (None, Some(address)) => Some(address),
            _ => host,
        };
        Config::new(0, nodes, resolve(listen.as_deref(), port, "port")?)
    } else {
        let manager = resolve(host.as_deref(), manager_port, "manager_port")?;
        Config::new(node, nodes, manager).listen(reachable_like(manager.ip()), port)
    };
    Ok(config.with_env()?)
}

/// What `dsm_start` was told: node i listens at the i-th address, for whoever joins after it.
pub(crate) fn from_addresses(node: i32, addresses: &[&str]) -> Answer<Config> {
    let nodes = count(i32::try_from(addresses.len()).unwrap_or(i32::MAX))?;
    let Some(number) = u16::try_from(node).ok().filter(|node| *node < nodes) else {
        return Failed::invalid(format!("node {node} was asked for; {nodes} nodes are 0 to {}", nodes - 1));
    };
    if nodes == 1 {
        return Ok(Config::single().with_env()?);
    }
    let place = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let port = port.parse().map_err(|_| {
            Failed::invalid::<()>(format!("{text:?} is no address; write host:port")).unwrap_err()
        })?;
        resolve(Some(host.trim_matches(['[', ']'])), port, "the port")
    };
    let config = Config::new(number, nodes, place(addresses[0])?);
    let config = if number == 0 {
        config
    } else {
        let own = place(addresses[usize::from(number)])?;
        config.listen(own.ip(), own.port())
    };
    Ok(config.with_env()?)
}

/// How many nodes there can be.
pub(crate) fn count(nodes: i32) -> Answer<u16> {
    match u16::try_from(nodes) {
        Ok(count) if (1..=MAX_NODES).contains(&usize::from(count)) => Ok(count),
        _ => Failed::invalid(format!("{nodes} nodes were asked for; 1 to {MAX_NODES} are possible")),
    }
}

/// The name in `manager_host`, if there is one.
fn host_of(asked: &dsm_config_t) -> Answer<Option<String>> {
    let bytes: Vec<u8> = asked.manager_host.iter().map(|byte| byte.cast_unsigned()).collect();
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else {
        return Failed::invalid("manager_host has no end: it is a text of at most 255 bytes and a NUL");
    };
    match str::from_utf8(&bytes[..end]) {
        Ok("") => Ok(None),
        Ok(host) => Ok(Some(host.to_owned())),
        Err(_) => Failed::invalid("manager_host is no text in UTF-8"),
    }
}

/// The address of a host, by default this machine alone. Where it has several, the first of version 4: what listens on
/// "localhost" and what dials it then mean the same.
fn resolve(host: Option<&str>, port: u16, name: &str) -> Answer<SocketAddr> {
    if port == 0 {
        return Failed::invalid(format!("{name} is 0; node 0 needs a port that the others know"));
    }
    let Some(host) = host else { return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) };
    let found: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return Failed::invalid(format!("host {host:?} has no address: {error}")),
    };
    match found.iter().find(|address| address.is_ipv4()).or(found.first()) {
        Some(address) => Ok(*address),
        None => Failed::invalid(format!("host {host:?} has no address")),
    }
}

/// Where a node listens whose manager has this address: nowhere but on loopback, if that is enough.
fn reachable_like(manager: IpAddr) -> IpAddr {
    match manager {
        manager if manager.is_loopback() => manager,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
