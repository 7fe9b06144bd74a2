//! What all nodes agree on about a region.

use crate::limits::REGION_NAME_BYTES;
use crate::placement::{Placement, Protocol};
use std::fmt;

/// A region's name: 1 to 63 bytes of UTF-8 without NUL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName {
    bytes: [u8; REGION_NAME_BYTES],
    length: u8,
}

/// Why a text is no region name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a region name has 1 to {REGION_NAME_BYTES} bytes and no NUL; this one has {found} bytes; choose another"
)]
pub struct RegionNameError {
    /// Bytes of the refused name.
    pub found: usize,
}

impl RegionName {
    /// Checks `name`.
    ///
    /// # Errors
    /// When it is empty, too long, or contains NUL.
    pub fn new(name: &str) -> Result<RegionName, RegionNameError> {
        if name.is_empty() || name.len() > REGION_NAME_BYTES || name.contains('\0') {
            return Err(RegionNameError { found: name.len() });
        }
        let mut bytes = [0; REGION_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(RegionName { bytes, length: name.len() as u8 })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length as usize]).unwrap_or_default()
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What all nodes agree on about a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct RegionSpec {
    /// Its name.
    pub name: RegionName,
    /// Its size; 0 only in a question for an existing region.
    pub pages: u64,
    /// Where its pages have their homes.
    pub placement: Placement,
    /// How its copies are kept coherent.
    pub protocol: Protocol,
    /// Its first byte's virtual address on every node; 0 while none was chosen.
    pub address: u64,
}
