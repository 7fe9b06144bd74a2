//! A fault that is resolved by the pager alone, or by the pager and one round trip: no engine, no runtime, no switch.

use super::Pinger;
use crate::samples::Samples;
use anyhow::Result;
use pagemesh::pager::PagerKind;
use pagemesh_memory::{
    Access, Fault, FaultSink, Mapping, MappingOptions, PAGE_BYTES, PageRange, RegionKey, Resolution,
};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

/// Grants whatever page is asked for. One that is read is fetched first, or zeroed where there is nobody to fetch from.
struct Granter {
    mapping: OnceLock<Weak<Mapping>>,
    /// Used inside the fault handler, by one thread at a time.
    source: Option<Mutex<Pinger>>,
}

impl Granter {
    /// Gets a page's bytes.
    fn fill(&self, mapping: &Mapping, page: u64) -> io::Result<()> {
        let Some(source) = &self.source else {
            mapping.service().zero_page(page);
            return Ok(());
        };
        let mut reply = [0; REPLY];
        source.lock().unwrap_or_else(PoisonError::into_inner).fetch(&mut reply)?;
        let bytes = reply.last_chunk::<PAGE_BYTES>().ok_or(io::ErrorKind::InvalidData)?;
        mapping.service().write_page(page, bytes);
        Ok(())
    }
}

/// A page, and as much before it as messages have.
const REPLY: usize = 64 + PAGE_BYTES;

impl FaultSink for Granter {
    fn resolve(&self, fault: Fault) -> Resolution {
        let Some(mapping) = self.mapping.get().and_then(Weak::upgrade) else { return Resolution::Failed };
        let (page, pager) = (PageRange::one(fault.page), mapping.pager());
        let granted = match fault.access {
            Access::Read if self.fill(&mapping, fault.page).is_err() => return Resolution::Failed,
            Access::Read => pager.map(page, Access::Read),
            // Only pages that can be read are written here.
            Access::Write => pager.unprotect(page),
        };
        match granted {
            Ok(()) => Resolution::Resolved,
            Err(_) => Resolution::Failed,
        }
    }
}

/// Memory without a mesh.
pub(crate) struct BarePager {
    mapping: Arc<Mapping>,
}

impl BarePager {
    /// `pages` pages that nobody touched; those that are read come from `source`, if there is one.
    pub(crate) fn new(kind: PagerKind, pages: usize, source: Option<Pinger>) -> Result<BarePager> {
        let sink = Arc::new(Granter { mapping: OnceLock::new(), source: source.map(Mutex::new) });
        // A number that no region of a mesh has.
        let options = MappingOptions::new(RegionKey(u32::MAX - 1), pages * PAGE_BYTES).pager(kind);
        let mapping = Arc::new(Mapping::new(options, sink.clone())?);
        let _ = sink.mapping.set(Arc::downgrade(&mapping));
        Ok(BarePager { mapping })
    }

    /// Writes to each of these pages, all of which are here for reading.
    pub(crate) fn upgrade(&self, pages: &[usize]) -> Result<Samples> {
        for page in pages {
            self.mapping.load_u64(page * PAGE_BYTES)?;
        }
        self.mapping.pager().protect(PageRange::new(0, self.mapping.pages()))?;
        let mut samples = Samples::default();
        for page in pages {
            let began = Instant::now();
            self.mapping.store_u64(page * PAGE_BYTES, 1)?;
            samples.add(began.elapsed());
        }
        Ok(samples)
    }

    /// Reads each of these pages, none of which is here, though there is memory for all.
    pub(crate) fn fetch(&self, pages: &[usize]) -> Result<Samples> {
        for page in 0..self.mapping.pages() {
            self.mapping.service().zero_page(page);
        }
        self.mapping.pager().unmap(PageRange::new(0, self.mapping.pages()))?;
        self.touch(pages.iter().copied())
    }

    /// Reads each of these pages for the first time.
    pub(crate) fn touch(&self, pages: impl Iterator<Item = usize>) -> Result<Samples> {
        let mut samples = Samples::default();
        for page in pages {
            let began = Instant::now();
            self.mapping.load_u64(page * PAGE_BYTES)?;
            samples.add(began.elapsed());
        }
        Ok(samples)
    }
}
