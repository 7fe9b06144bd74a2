//! Joining and leaving.

use crate::error::{Code, Failed, status, value};
use crate::fork::{Children, fork_nodes};
use crate::settings::{Settings, count, from_addresses, from_structure};
use crate::state::{self, Starting};
use crate::types::{NO_NODE, dsm_config_t};
use crate::{logging, memory};
use pagemesh::Config;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// Joins, as `config` says or, for null, the environment.
///
/// # Safety
/// `config` is null or points to a whole structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_init(config: *const dsm_config_t) -> c_int {
    status("dsm_init", || {
        let starting = Starting::begin()?;
        let settings = Settings::from_env()?;
        // SAFETY: promised by the caller.
        let config = match unsafe { config.as_ref() } {
            None => Config::from_env()?,
            Some(asked) => {
                let config = from_structure(asked)?;
                logging::set_level(asked.log_level);
                config
            }
        };
        starting.join(config, settings, Children::default())?;
        Ok(())
    })
}

/// Leaves: waits for the other nodes, then lets go of everything.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_finalize() -> c_int {
    status("dsm_finalize", state::finalize)
}

/// Forks into `nodes` nodes and returns the number of each, or what went wrong.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_fork(nodes: c_int) -> c_int {
    let number = Cell::new(0);
    let failed = status("dsm_fork", || {
        number.set(c_int::from(fork_nodes(count(nodes)?)?));
        Ok(())
    });
    if failed == 0 { number.get() } else { failed }
}

/// Joins `num_nodes` nodes that know each other's addresses, and shares `pages` pages.
///
/// # Safety
/// `addresses` is null or points to `num_nodes` texts; `base` is null or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_start(
    node: c_int,
    num_nodes: c_int,
    addresses: *const *const c_char,
    pages: usize,
    base: *mut *mut c_void,
) -> c_int {
    status("dsm_start", || {
        let nodes = count(num_nodes)?;
        if addresses.is_null() || base.is_null() {
            return Failed::invalid("addresses and base must not be NULL");
        }
        let Some(bytes) = pages.checked_mul(4096).filter(|bytes| *bytes > 0) else {
            return Failed::invalid(format!("{pages} pages were asked for"));
        };
        let mut places = Vec::new();
        for index in 0..usize::from(nodes) {
            // SAFETY: promised by the caller.
            let address = unsafe { *addresses.add(index) };
            if address.is_null() {
                return Failed::invalid(format!("the address of node {index} is NULL"));
            }
            // SAFETY: promised by the caller.
            let Ok(text) = (unsafe { CStr::from_ptr(address) }).to_str() else {
                return Failed::invalid(format!("the address of node {index} is no text in UTF-8"));
            };
            places.push(text);
        }
        let starting = Starting::begin()?;
        let settings = Settings::from_env()?;
        let context = starting.join(from_addresses(node, &places)?, settings, Children::default())?;
        match memory::open_start_region(&context, bytes) {
            // SAFETY: promised by the caller.
            Ok(address) => unsafe { base.write(address) },
            Err(failed) => {
                drop(context);
                // It could not share: the others find out as they do, and this process is as it was before.
                let _ = state::abandon();
                return Err(failed);
            }
        }
        Ok(())
    })
}

/// This node's number; `(node_id_t)-1` when it has not joined.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_get_node_id() -> u32 {
    value("dsm_get_node_id", NO_NODE, || Ok(u32::from(state::current()?.mesh.node().get())))
}

/// How many nodes joined; -1 when this one has not.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_get_num_nodes() -> c_int {
    value("dsm_get_num_nodes", -1, || {
        let nodes = state::current()?.mesh.nodes();
        c_int::try_from(nodes).map_err(|_| Failed::new(Code::Invalid, "too many nodes"))
    })
}
