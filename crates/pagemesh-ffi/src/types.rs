//! What crosses the border, as C lays it out. The headers say the same in C; a test compares the two.
#![allow(non_camel_case_types, reason = "the names are those of the header")]

use std::ffi::{c_char, c_int, c_void};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// Nodes of one mesh.
pub const MAX_NODES: usize = 64;
/// Bytes of a host's name, its NUL among them.
pub const MAX_HOSTNAME_LEN: usize = 256;

/// `node_id_t` of nobody.
pub const NO_NODE: u32 = u32::MAX;

/// `page_state_t`.
pub mod page_state {
    use std::ffi::c_int;
    /// No copy here.
    pub const INVALID: c_int = 0;
    /// A copy for reading.
    pub const READ_ONLY: c_int = 1;
    /// The only copy.
    pub const READ_WRITE: c_int = 2;
}

/// `access_type_t`.
pub mod access {
    use std::ffi::c_int;
    /// A readable copy.
    pub const READ: c_int = 0;
    /// The only copy.
    pub const WRITE: c_int = 1;
}

/// Numbers of protocols in `dsm_region_options_t`.
pub mod protocol {
    /// Many readers or one writer.
    pub const WRITE_INVALIDATE: u32 = 0;
    /// One holder.
    pub const MIGRATION: u32 = 1;
    /// Many writers, made one at releases.
    pub const RELEASE: u32 = 2;
    /// Ranges of bytes under locks of their own.
    pub const ENTRY: u32 = 3;
}

/// Numbers of placements in `dsm_region_options_t`.
pub mod placement {
    /// Page mod N.
    pub const CYCLIC: u32 = 0;
    /// N contiguous parts.
    pub const BLOCK: u32 = 1;
    /// All at one node.
    pub const SINGLE: u32 = 2;
    /// At whoever touches it first.
    pub const FIRST_TOUCH: u32 = 3;
}

/// How a node joins.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dsm_config_t {
    /// This node.
    pub node_id: u32,
    /// Where it listens.
    pub port: u16,
    /// Where node 0 is.
    pub manager_host: [c_char; MAX_HOSTNAME_LEN],
    /// At which port.
    pub manager_port: u16,
    /// How many nodes there are.
    pub num_nodes: c_int,
    /// Whether this is node 0. A byte: C may leave anything in it.
    pub is_manager: u8,
    /// How much is logged.
    pub log_level: c_int,
}

/// What a node did.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the header says what each counts")]
pub struct dsm_stats_t {
    pub page_faults: u64,
    pub read_faults: u64,
    pub write_faults: u64,
    pub pages_fetched: u64,
    pub pages_sent: u64,
    pub invalidations_sent: u64,
    pub invalidations_received: u64,
    pub network_bytes_sent: u64,
    pub network_bytes_received: u64,
    pub lock_acquires: u64,
    pub barrier_waits: u64,
    pub total_fault_latency_ns: u64,
    pub max_fault_latency_ns: u64,
    pub min_fault_latency_ns: u64,
    pub queued_requests: u64,
    pub false_sharing_events: u64,
    pub network_retries: u64,
    pub network_failures: u64,
    pub timeouts: u64,
}

/// What a node did, continued.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the header says what each counts")]
pub struct dsm_stats_ext_t {
    pub struct_size: u32,
    pub reserved: u32,
    pub messages_sent: u64,
    pub messages_received: u64,
    pub diffs_sent: u64,
    pub diff_bytes: u64,
    pub faults_resolved_locally: u64,
    pub prefetched_pages: u64,
}

/// What a region is to be like.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dsm_region_options_t {
    /// Bytes of this structure.
    pub struct_size: u32,
    /// One of [`protocol`].
    pub protocol: u32,
    /// One of [`placement`].
    pub placement: u32,
    /// Which node, for [`placement::SINGLE`].
    pub placement_node: u32,
    /// Where it is to be; null leaves the choice to the library.
    pub address: *mut c_void,
    /// 0.
    pub flags: u32,
}

/// A lock, as a handle of its own. Never looked into.
#[repr(C)]
pub struct dsm_lock_t {
    _opaque: [u8; 0],
}
