//! A fault that is resolved by the pager alone: no engine, no runtime, no network.

use crate::samples::Samples;
use anyhow::Result;
use pagemesh::pager::PagerKind;
use pagemesh_memory::{
    Fault, FaultSink, Mapping, MappingOptions, PAGE_BYTES, PageRange, RegionKey, Resolution,
};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

/// Zeroes whatever page is asked for, and grants it.
#[derive(Default)]
struct Granter(OnceLock<Weak<Mapping>>);

impl FaultSink for Granter {
    fn resolve(&self, fault: Fault) -> Resolution {
        let Some(mapping) = self.0.get().and_then(Weak::upgrade) else { return Resolution::Failed };
        mapping.service().zero_page(fault.page);
        match mapping.pager().map(PageRange::one(fault.page), fault.access) {
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
    /// `pages` pages that nobody touched.
    pub(crate) fn new(kind: PagerKind, pages: usize) -> Result<BarePager> {
        let sink = Arc::new(Granter::default());
        // A number that no region of a mesh has.
        let options = MappingOptions::new(RegionKey(u32::MAX - 1), pages * PAGE_BYTES).pager(kind);
        let mapping = Arc::new(Mapping::new(options, sink.clone())?);
        let _ = sink.0.set(Arc::downgrade(&mapping));
        Ok(BarePager { mapping })
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
