//! Private bytes of one node for all.

use crate::error::{Answer, Failed, status};
use crate::state::current;
use pagemesh::{Mesh, NodeId};
use std::ffi::{c_int, c_void};
use std::slice;

/// The others are told that this node cannot take part; what is wrong here is for this node.
fn decline(mesh: &Mesh, why: String) -> Answer<()> {
    let _ = mesh.decline_broadcast();
    Failed::invalid(why)
}

/// Makes the buffer of every node what the root's is.
///
/// # Safety
/// The buffer has `bytes` bytes of the caller, which nobody else uses until the call returns; at the root they are only read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_broadcast(buffer: *mut c_void, bytes: usize, root: u32) -> c_int {
    status("dsm_broadcast", || {
        let context = current()?;
        let mesh = &context.mesh;
        let node = u16::try_from(root).ok().filter(|node| usize::from(*node) < mesh.nodes());
        let Some(root) = node.map(NodeId::new) else {
            return decline(mesh, format!("node {root} is to be the root, and there are {}", mesh.nodes()));
        };
        if bytes > 0 && buffer.is_null() {
            return decline(mesh, format!("{bytes} bytes at NULL"));
        }
        if isize::try_from(bytes).is_err() {
            return decline(mesh, format!("{bytes} bytes are more than an object can have"));
        }
        if bytes == 0 {
            return Ok(mesh.receive_broadcast(root, &mut [])?);
        }
        let buffer = buffer.cast::<u8>();
        if root == mesh.node() {
            // SAFETY: the caller's, by the contract of the call.
            let from = unsafe { slice::from_raw_parts(buffer, bytes) };
            return Ok(mesh.broadcast(from)?);
        }
        // SAFETY: the caller's, by the contract of the call; any bytes are a valid u8.
        let into = unsafe { slice::from_raw_parts_mut(buffer, bytes) };
        Ok(mesh.receive_broadcast(root, into)?)
    })
}
