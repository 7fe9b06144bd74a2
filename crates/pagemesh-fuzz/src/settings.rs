//! The environment of a node.

use pagemesh::Config;
use std::net::SocketAddr;

/// The variables, in the order of the input's lines.
const NAMES: [&str; 17] = [
    "PAGEMESH_NODE",
    "PAGEMESH_NODES",
    "PAGEMESH_COORDINATOR",
    "PAGEMESH_LISTEN",
    "PAGEMESH_JOIN_TIMEOUT_MS",
    "PAGEMESH_FAULT_TIMEOUT_MS",
    "PAGEMESH_SPIN_US",
    "PAGEMESH_PAGER",
    "PAGEMESH_LEASE_MS",
    "PAGEMESH_SERVICE_NICE",
    "PAGEMESH_LEND_AFTER",
    "PAGEMESH_FORESIGHT",
    "PAGEMESH_UPDATES",
    "PAGEMESH_PACK",
    "PAGEMESH_TRACK_WRITES",
    "PAGEMESH_SHARDS",
    "PAGEMESH_OWNER_HINTS",
];

/// Any values of the variables make a configuration, or an error that names a variable. An empty line leaves a variable unset.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut values: Vec<Option<&str>> =
        text.split('\n').map(|line| (!line.is_empty()).then_some(line)).collect();
    values.resize(NAMES.len(), None);
    // The name of a host would be looked up, which is not for a test.
    if values[2].is_some_and(|host| host.contains(':') && host.parse::<SocketAddr>().is_err()) {
        values[2] = None;
    }
    let value = |name: &str| {
        let place = NAMES.iter().position(|known| *known == name)?;
        values[place].map(str::to_owned)
    };
    if let Err(error) = Config::from_variables(value) {
        assert!(error.to_string().starts_with("PAGEMESH_"), "{error}");
    }
}
