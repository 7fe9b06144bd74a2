//! Blocks in regions of the program: `dsm_alloc` and its kin, on the heaps of the Rust interface.
//!
//! `dsm_malloc` gives whole pages of one region for all, zeroed and in an order that can be asked for; these give blocks of any
//! size in a region that the program has chosen.

use crate::error::{Answer, Code, Failed, status, value};
use crate::state::{Context, current, lock};
use pagemesh::{Heap, HeapAddress, HeapError, Region};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::{Arc, Mutex};

/// What a block is aligned to when nothing is asked for.
const DEFAULT_ALIGN: usize = 16;

/// The heaps that this node has opened, by the address of their region.
#[derive(Default)]
pub(crate) struct Blocks {
    opened: Mutex<HashMap<usize, Arc<Heap>>>,
}

impl Blocks {
    fn heap(&self, context: &Context, region: Region) -> Answer<Arc<Heap>> {
        let mut opened = lock(&self.opened);
        if let Some(heap) = opened.get(&region.base()) {
            return Ok(heap.clone());
        }
        let base = region.base();
        let heap = Arc::new(Heap::in_region(&context.mesh, region)?);
        opened.insert(base, heap.clone());
        Ok(heap)
    }

    /// The heap of the region in which a block lies.
    fn heap_of(&self, context: &Context, block: usize) -> Answer<(Arc<Heap>, HeapAddress)> {
        let what = || Failed::new(Code::Invalid, format!("{block:#x} lies in no region of dsm_region"));
        let region = context.region_with(block).ok_or_else(what)?;
        let address = HeapAddress::new(block).ok_or_else(what)?;
        Ok((self.heap(context, region)?, address))
    }

    pub(crate) fn close(&self, base: usize) {
        lock(&self.opened).remove(&base);
    }

    pub(crate) fn clear(&self) {
        lock(&self.opened).clear();
    }
}

impl From<HeapError> for Failed {
    fn from(error: HeapError) -> Failed {
        match error {
            HeapError::Region(error) => error.into(),
            HeapError::Access(error) => error.into(),
            HeapError::Sync(error) => error.into(),
            HeapError::Exhausted { .. } => Failed::new(Code::Memory, error.to_string()),
            _ => Failed::new(Code::Invalid, error.to_string()),
        }
    }
}

/// Allocates `bytes` bytes at a multiple of `align` in a region.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_alloc(region: *mut c_void, bytes: usize, align: usize) -> *mut c_void {
    value("dsm_alloc", null_mut(), || {
        let context = current()?;
        let what =
            || Failed::new(Code::Invalid, format!("{region:p} was not returned by dsm_region, or is closed"));
        let opened = context.region_with(region.addr()).filter(|found| found.base() == region.addr());
        let heap = context.blocks.heap(&context, opened.ok_or_else(what)?)?;
        let block = heap.alloc(bytes, if align == 0 { DEFAULT_ALIGN } else { align })?;
        Ok(without_provenance_mut(block.get()))
    })
}

/// Makes a block of `dsm_alloc` one of `bytes` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    value("dsm_realloc", null_mut(), || {
        let context = current()?;
        let (heap, address) = context.blocks.heap_of(&context, block.addr())?;
        Ok(without_provenance_mut(heap.realloc(address, bytes)?.get()))
    })
}

/// Frees a block of `dsm_alloc`.
#[unsafe(no_mangle)]
pub extern "C" fn dsm_release(block: *mut c_void) -> c_int {
    status("dsm_release", || {
        let context = current()?;
        if block.is_null() {
            return Ok(());
        }
        let (heap, address) = context.blocks.heap_of(&context, block.addr())?;
        Ok(heap.free(address)?)
    })
}
