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

/// How much of a region a miss brings: the unit around the page, which begins at a multiple of its size. Coherence stays that of pages: a
/// unit comes in parts where others have parts of it, and goes page by page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Unit {
    /// One page of 4096 bytes.
    #[default]
    Page,
    /// 16 KiB, 4 pages.
    KiB16,
    /// 64 KiB, 16 pages.
    KiB64,
    /// 2 MiB, 512 pages.
    MiB2,
}

impl Unit {
    /// All there are, from the smallest.
    pub const ALL: [Unit; 4] = [Unit::Page, Unit::KiB16, Unit::KiB64, Unit::MiB2];

    /// The unit of so many bytes; `None` when there is none.
    pub fn from_bytes(bytes: usize) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.pages() as usize * 4096 == bytes)
    }

    /// Its size in pages.
    pub const fn pages(self) -> u64 {
        match self {
            Unit::Page => 1,
            Unit::KiB16 => 4,
            Unit::KiB64 => 16,
            Unit::MiB2 => 512,
        }
    }

    /// Its size in bytes.
    pub const fn bytes(self) -> usize {
        self.pages() as usize * 4096
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
    /// How much of it a miss brings. The engine does nothing with it: its callers ask for the other pages.
    pub unit: Unit,
    /// Its first byte's virtual address on every node; 0 while none was chosen.
    pub address: u64,
}
