//! The commands' pages as a region of a mesh.

use super::message::PAGE_BYTES;
use super::session::{SharedPages, Touch};
use pagemesh::{AccessError, Mesh, PageState, Region, RegionError, SharedSlice};

/// What the pages of a region are to the two processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Kept coherent between both (stage 2).
    Coherent,
    /// This process's own memory (stage 1c): the region of a mesh of one node.
    Local,
}

/// A region, accessed by plain loads and stores that fault like any others.
pub struct MeshPages<'a> {
    mesh: &'a Mesh,
    region: Region,
    bytes: SharedSlice<u8>,
    sharing: Sharing,
}

impl<'a> MeshPages<'a> {
    /// The pages of `region` in `mesh`.
    ///
    /// # Errors
    /// When the runtime cannot give access to the region.
    pub fn new(mesh: &'a Mesh, region: Region, sharing: Sharing) -> Result<MeshPages<'a>, RegionError> {
        let bytes = region.slice(0, region.bytes())?;
        Ok(MeshPages { mesh, region, bytes, sharing })
    }

    /// Does `access` and says whether it faulted: the runtime counts the faults of this process, and nobody here but the
    /// caller makes any. An access is one touch even if the peer took the page away in its middle and it faulted twice.
    fn touch(&self, access: impl FnOnce() -> Result<(), AccessError>) -> Result<Touch, AccessError> {
        let faults = || {
            let stats = self.mesh.stats();
            stats.read_faults + stats.write_faults
        };
        let before = faults();
        access()?;
        Ok(if faults() == before { Touch::Hit } else { Touch::Faulted })
    }
}

impl SharedPages for MeshPages<'_> {
    type Error = AccessError;

    fn pages(&self) -> usize {
        self.region.pages()
    }

    fn state(&self, page: usize) -> PageState {
        self.region.page_state(page)
    }

    fn read(&self, page: usize, bytes: &mut [u8; PAGE_BYTES]) -> Result<Touch, AccessError> {
        let start = page * PAGE_BYTES;
        self.touch(|| {
            if self.sharing == Sharing::Local && self.state(page) == PageState::Invalid {
                // Local memory faults once, whatever the first touch is; a coherent page would fault again at its first
                // write. A page never touched is all zeros, so storing a zero first asks for both rights in one fault
                // and changes nothing.
                self.bytes.set(start, 0)?;
            }
            self.bytes.read(start, bytes)
        })
    }

    fn write(&self, page: usize, bytes: &[u8; PAGE_BYTES]) -> Result<Touch, AccessError> {
        self.touch(|| self.bytes.write(page * PAGE_BYTES, bytes))
    }
}
