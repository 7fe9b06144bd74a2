//! Memory: allocated, in regions, and questions about its pages.

use crate::error::{Answer, Code, Failed, status, value};
use crate::heap::RESERVED;
use crate::state::{Context, current};
use crate::types::{NO_NODE, access, dsm_region_options_t, page_state, placement, protocol};
use pagemesh::{NodeId, PageState, Placement, Protocol, RegionOptions};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null_mut, without_provenance_mut};

/// Allocates `bytes` bytes of shared memory, rounded up to pages, all zero.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_malloc(bytes: usize) -> *mut c_void {
    value("dsm_malloc", null_mut(), || {
        let context = current()?;
        Ok(without_provenance_mut(context.heap.allocate(&context, bytes)?))
    })
}

/// Frees what `dsm_malloc` returned on any node.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_free(address: *mut c_void) -> c_int {
    status("dsm_free", || {
        let context = current()?;
        if address.is_null() { Ok(()) } else { context.heap.free(&context, address.addr()) }
    })
}

/// The `index`-th allocation of the whole mesh.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_get_allocation(index: c_int) -> *mut c_void {
    value("dsm_get_allocation", null_mut(), || {
        let context = current()?;
        let Ok(index) = usize::try_from(index) else {
            return Failed::invalid(format!("allocation {index} was asked for; they are counted from 0"));
        };
        let found = context.heap.allocation(&context, index)?;
        let missing = || Failed::new(Code::NotFound, format!("there is no allocation {index}, or no more"));
        found.map(without_provenance_mut).ok_or_else(missing)
    })
}

/// Opens region `name`.
///
/// # Safety
/// `name` is null or a text; `options` is null or points to a structure as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsm_region(
    name: *const c_char,
    bytes: usize,
    options: *const dsm_region_options_t,
) -> *mut c_void {
    value("dsm_region", null_mut(), || {
        let context = current()?;
        if name.is_null() {
            return Failed::invalid("the name must not be NULL");
        }
        // SAFETY: promised by the caller.
        let Ok(name) = (unsafe { CStr::from_ptr(name) }).to_str() else {
            return Failed::invalid("the name is no text in UTF-8");
        };
        if name.starts_with(RESERVED) {
            return Failed::invalid("a name does not begin with the byte 1");
        }
        // SAFETY: promised by the caller.
        let options = unsafe { region_options(bytes, options)? };
        let region = context.mesh.region(name, options)?;
        Ok(without_provenance_mut(context.add_region(region)))
    })
}

/// Reads the options. None at all are the same as a structure of zeros: what its first caller opens a region with is for all, so it depends on
/// nothing that is set in the environment of one.
///
/// # Safety
/// `options` is null or points to a structure as long as it says.
unsafe fn region_options(bytes: usize, options: *const dsm_region_options_t) -> Answer<RegionOptions> {
    let defaults = RegionOptions::new(bytes);
    if options.is_null() {
        return Ok(defaults);
    }
    // SAFETY: promised by the caller: it has at least its first field.
    let size = unsafe { (&raw const (*options).struct_size).read() } as usize;
    if size != size_of::<dsm_region_options_t>() {
        let what = format!(
            "struct_size is {size}; this version knows {}: set it to sizeof(dsm_region_options_t)",
            size_of::<dsm_region_options_t>()
        );
        return Failed::invalid(what);
    }
    // SAFETY: promised by the caller: it is that long.
    let asked = unsafe { options.read() };
    if asked.flags != 0 {
        return Failed::invalid(format!("flags are {:#x}; this version knows none", asked.flags));
    }
    let protocol = match asked.protocol {
        protocol::WRITE_INVALIDATE => Protocol::WriteInvalidate,
        protocol::MIGRATION => Protocol::Migration,
        protocol::RELEASE => Protocol::Release,
        protocol::ENTRY if asked.placement != placement::SINGLE => {
            return Failed::invalid("a region with DSM_PROTOCOL_ENTRY has one master; set DSM_PLACE_SINGLE");
        }
        protocol::ENTRY => Protocol::Entry,
        other => {
            let known = "DSM_PROTOCOL_WRITE_INVALIDATE, DSM_PROTOCOL_MIGRATION, DSM_PROTOCOL_RELEASE and DSM_PROTOCOL_ENTRY";
            return Failed::invalid(format!("protocol {other} was asked for; this version knows {known}"));
        }
    };
    let placement = match asked.placement {
        placement::CYCLIC => Placement::Cyclic,
        placement::BLOCK => Placement::Block,
        placement::FIRST_TOUCH => Placement::FirstTouch,
        placement::SINGLE => {
            let node = u16::try_from(asked.placement_node).ok().and_then(NodeId::checked);
            let what = || Failed::new(Code::Invalid, format!("there is no node {}", asked.placement_node));
            Placement::Single(node.ok_or_else(what)?)
        }
        other => {
            let known = "DSM_PLACE_CYCLIC, DSM_PLACE_BLOCK, DSM_PLACE_SINGLE and DSM_PLACE_FIRST_TOUCH";
            return Failed::invalid(format!("placement {other} was asked for; this version knows {known}"));
        }
    };
    let options = defaults.protocol(protocol).placement(placement);
    Ok(if asked.address.is_null() { options } else { options.address(asked.address.addr()) })
}

/// The region of `dsm_start`.
pub(crate) fn open_start_region(context: &Context, bytes: usize) -> Answer<*mut c_void> {
    let region = context.mesh.region(&format!("{RESERVED}start"), RegionOptions::new(bytes))?;
    Ok(without_provenance_mut(context.add_region(region)))
}

/// Makes the region at `base` one that this node does not use any more.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_region_close(base: *mut c_void) -> c_int {
    status("dsm_region_close", || {
        let what =
            || Failed::new(Code::Invalid, format!("{base:p} was not returned by dsm_region, or is closed"));
        current()?.remove_region(base.addr())?.map(drop).ok_or_else(what)
    })
}

/// Gets pages to this node before they are touched.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_prefetch(address: *const c_void, bytes: usize, access: c_int) -> c_int {
    status("dsm_prefetch", || {
        let place = current()?.find(address.addr(), bytes)?;
        match access {
            access::READ => Ok(place.region.prefetch(place.pages())?),
            access::WRITE => Ok(place.region.prefetch_for_writing(place.pages())?),
            other => Failed::invalid(format!(
                "access {other} was asked for; there are ACCESS_READ and ACCESS_WRITE"
            )),
        }
    })
}

/// What this node has of the page at `address`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_page_state(address: *const c_void) -> c_int {
    value("dsm_page_state", page_state::INVALID, || {
        let place = current()?.find(address.addr(), 1)?;
        Ok(match place.region.page_state(place.pages().start) {
            PageState::Invalid => page_state::INVALID,
            PageState::Shared => page_state::READ_ONLY,
            PageState::Modified => page_state::READ_WRITE,
        })
    })
}

/// The home of the page at `address`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_page_home(address: *const c_void) -> u32 {
    value("dsm_page_home", NO_NODE, || {
        let place = current()?.find(address.addr(), 1)?;
        some_node(place.region.page_home(place.pages().start)?)
    })
}

/// The owner of the page at `address`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_page_owner(address: *const c_void) -> u32 {
    value("dsm_page_owner", NO_NODE, || {
        let place = current()?.find(address.addr(), 1)?;
        some_node(place.region.page_owner(place.pages().start)?)
    })
}

fn some_node(node: Option<NodeId>) -> Answer<u32> {
    let nobody = || Failed::new(Code::NotFound, "nobody has touched the page yet");
    node.map(|node| u32::from(node.get())).ok_or_else(nobody)
}
