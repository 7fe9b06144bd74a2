//! What can go wrong with a heap.

use crate::{AccessError, HeapAddress, RegionError, SyncError};

/// Why a heap could not be opened, or a block not be allocated, freed or resized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeapError {
    /// The region of the blocks, or that of the tables, could not be opened.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The tables of these blocks went with a node, or did not come in time.
    #[error("the heap's tables could not be read or changed: {0}")]
    Access(#[from] AccessError),
    /// The lock that orders the memory of a release region could not be had.
    #[error("the heap's operations could not be ordered: {0}")]
    Sync(#[from] SyncError),
    /// A block without bytes was asked for.
    #[error("a block of 0 bytes was asked for; ask for 1 or more")]
    NoBytes,
    /// The alignment is none.
    #[error("an alignment of {align} was asked for; ask for a power of two")]
    Alignment {
        /// What was asked for.
        align: usize,
    },
    /// No room is left in one piece.
    #[error(
        "region {region:?}: no {bytes} bytes aligned to {align} are free in one piece; the heap has {capacity} bytes in all: free something, or make the region larger"
    )]
    Exhausted {
        /// The region.
        region: String,
        /// What was asked for.
        bytes: usize,
        /// The alignment that was asked for.
        align: usize,
        /// Bytes of the largest block that an empty heap of this region has.
        capacity: usize,
    },
    /// No block begins here, and none did.
    #[error(
        "{address} is not the beginning of a block of region {region:?}; give what alloc or realloc returned"
    )]
    NotABlock {
        /// What was given.
        address: HeapAddress,
        /// The region.
        region: String,
    },
    /// A block could begin here, but it is free.
    #[error(
        "the block at {address} of region {region:?} is not allocated; it was freed already, or never handed out"
    )]
    AlreadyFree {
        /// What was given.
        address: HeapAddress,
        /// The region.
        region: String,
    },
}
