//! A bare program that resolves its own faults: by itself, or by asking another process through memory that both have.

use super::mailbox::Asker;
use crate::samples::Samples;
use anyhow::{Result, bail};
use pagemesh_memory::{BareFaults, BarePages, BareSpace, PAGE_BYTES};
use std::time::Instant;

/// Memory whose faults nothing but their handler resolves.
pub(crate) struct BareProgram {
    faults: BareFaults,
}

impl BareProgram {
    /// `pages` pages.
    pub(crate) fn new(pages: usize) -> Result<BareProgram> {
        Ok(BareProgram { faults: BareFaults::new(pages)? })
    }

    /// Writes to each of these pages, all of which were written before and are here for reading.
    pub(crate) fn upgrade(&mut self, pages: &[usize]) -> Result<Samples> {
        self.faults.measure(&|_| true, |memory| pages.iter().for_each(|page| memory.store(*page, 1)))?;
        self.faults.protect()?;
        Ok(self.faults.measure(&|_| true, |memory| {
            let mut samples = Samples::default();
            for page in pages {
                let began = Instant::now();
                memory.store(*page, 2);
                samples.add(began.elapsed());
            }
            samples
        })?)
    }

    /// Reads each of these pages, none of which was mapped before; the first word of each is to be this. The bytes are in this process, and are
    /// copied into place in the handler, or were before, as those that came from another node.
    pub(crate) fn publish(&mut self, pages: &[usize], copies: bool, word: u64) -> Result<Samples> {
        let mut bytes = [0; PAGE_BYTES];
        bytes[..8].copy_from_slice(&word.to_ne_bytes());
        self.faults.unmap()?;
        if !copies {
            for page in pages {
                self.faults.write(*page, &bytes);
            }
            return self.faults.measure(&|_| true, |memory| read(memory, pages, |_| word, || false))?;
        }
        let copy = |space: &mut BareSpace<'_>| {
            space.write(&bytes);
            true
        };
        self.faults.measure(&copy, |memory| read(memory, pages, |_| word, || false))?
    }

    /// Reads each of these pages, which another process has; the first word of each is to be this.
    pub(crate) fn ask(
        &mut self,
        asker: &Asker,
        pages: &[usize],
        expected: impl Fn(usize) -> u64,
    ) -> Result<Samples> {
        self.faults.unmap()?;
        let read = |memory: &BarePages<'_>| read(memory, pages, expected, || asker.has_failed());
        let found = self.faults.measure(&|space| asker.fetch(space), read);
        asker.end();
        found?
    }
}

/// Reads each of these pages, and checks its first word, until something fails.
fn read(
    memory: &BarePages<'_>,
    pages: &[usize],
    expected: impl Fn(usize) -> u64,
    has_failed: impl Fn() -> bool,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for page in pages {
        let began = Instant::now();
        let found = memory.load(*page);
        samples.add(began.elapsed());
        if has_failed() {
            bail!("page {page} of the baseline cannot be had");
        }
        if found != expected(*page) {
            bail!("page {page} of the baseline holds {found}, not {}", expected(*page));
        }
    }
    Ok(samples)
}
