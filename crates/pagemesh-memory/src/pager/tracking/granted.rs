//! Which pages of a region are granted: a bit for each, and a bit for each page table that ever had one.

use super::super::check_range;
use crate::{PAGE_BYTES, PageRange};
use std::sync::atomic::{AtomicU64, Ordering};

const WORD_PAGES: u64 = u64::BITS as u64;

/// Pages that one of the kernel's last-level page tables covers, beginning at an address that is a multiple of their bytes.
const TABLE_PAGES: u64 = 512;

/// A set of pages, changed from any thread at any time. Memory is used for what was touched of it: 1 TiB takes 32 MiB of
/// addresses.
pub(super) struct GrantedPages {
    pages: u64,
    words: Box<[AtomicU64]>,
    /// A bit for each page table in which a page was granted some time.
    tables: Box<[AtomicU64]>,
    /// Pages that the first page table covers before the region's first.
    lead: u64,
}

impl GrantedPages {
    /// None of the pages of a region that starts at `address`.
    pub(super) fn new(address: usize, pages: u64) -> GrantedPages {
        let lead = (address / PAGE_BYTES) as u64 % TABLE_PAGES;
        let tables = (lead + pages).div_ceil(TABLE_PAGES);
        GrantedPages { pages, words: zeros(pages), tables: zeros(tables), lead }
    }

    /// Adds pages, then calls `each` for every run of them that were all there before, or all not.
    pub(super) fn insert<E>(
        &self,
        pages: PageRange,
        each: impl FnMut(PageRange, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        check_range(pages, self.pages);
        for (index, mask) in words(self.tables_of(pages)) {
            self.tables[index].fetch_or(mask, Ordering::SeqCst);
        }
        let words = words(pages)
            .map(|(index, mask)| (index, mask, self.words[index].fetch_or(mask, Ordering::SeqCst)));
        runs(words, each)
    }

    /// Takes pages out.
    pub(super) fn remove(&self, pages: PageRange) {
        let done: Result<(), std::convert::Infallible> = self.tables(pages, |part| {
            for (index, mask) in words(part) {
                self.words[index].fetch_and(!mask, Ordering::SeqCst);
            }
            Ok(())
        });
        let Ok(()) = done;
    }

    /// Calls `each` for every run of `pages` that are there.
    pub(super) fn runs(&self, pages: PageRange, mut each: impl FnMut(PageRange)) {
        let words = words(pages).map(|(index, mask)| (index, mask, self.words[index].load(Ordering::SeqCst)));
        let done: Result<(), std::convert::Infallible> = runs(words, |run, there| {
            if there {
                each(run);
            }
            Ok(())
        });
        let Ok(()) = done;
    }

    /// Calls `each` for every run of `pages` whose page tables had a granted page some time.
    pub(super) fn tables<E>(
        &self,
        pages: PageRange,
        mut each: impl FnMut(PageRange) -> Result<(), E>,
    ) -> Result<(), E> {
        check_range(pages, self.pages);
        let words = words(self.tables_of(pages))
            .map(|(index, mask)| (index, mask, self.tables[index].load(Ordering::SeqCst)));
        runs(words, |tables, there| {
            if !there {
                return Ok(());
            }
            let first = (tables.first() * TABLE_PAGES).saturating_sub(self.lead).max(pages.first());
            let end = (tables.end() * TABLE_PAGES - self.lead).min(pages.end());
            each(PageRange::new(first, end - first))
        })
    }

    /// The page tables of `pages`.
    fn tables_of(&self, pages: PageRange) -> PageRange {
        if pages.is_empty() {
            return PageRange::new(0, 0);
        }
        let first = (pages.first() + self.lead) / TABLE_PAGES;
        PageRange::new(first, (pages.end() + self.lead).div_ceil(TABLE_PAGES) - first)
    }
}

/// So many bits, all 0, in memory that the kernel gives when it is touched.
fn zeros(bits: u64) -> Box<[AtomicU64]> {
    let words = Box::new_zeroed_slice(bits.div_ceil(WORD_PAGES) as usize);
    // SAFETY: all zeros are a number.
    unsafe { words.assume_init() }
}

/// The words that hold the bits of a range, each with a mask of those that are in it.
fn words(range: PageRange) -> impl Iterator<Item = (usize, u64)> {
    let mut first = range.first();
    std::iter::from_fn(move || {
        if first >= range.end() {
            return None;
        }
        let (index, bit) = (first / WORD_PAGES, first % WORD_PAGES);
        let bits = (WORD_PAGES - bit).min(range.end() - first);
        first += bits;
        Some((index as usize, (u64::MAX >> (WORD_PAGES - bits)) << bit))
    })
}

/// Calls `each` for every run of equal bits, over all the words: index, mask of what counts, bits.
fn runs<E>(
    words: impl Iterator<Item = (usize, u64, u64)>,
    mut each: impl FnMut(PageRange, bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut pending: Option<(PageRange, bool)> = None;
    for (index, mask, bits) in words {
        let (mut bit, end) = (mask.trailing_zeros(), u64::BITS - mask.leading_zeros());
        while bit < end {
            let set = bits >> bit & 1 == 1;
            let changes_to = if set { !bits } else { bits };
            let count = (changes_to >> bit).trailing_zeros().min(end - bit);
            let run = PageRange::new(index as u64 * WORD_PAGES + u64::from(bit), u64::from(count));
            bit += count;
            pending = match pending {
                // The words come in order and without a gap.
                Some((before, same)) if same == set => {
                    Some((PageRange::new(before.first(), before.count() + run.count()), set))
                }
                Some((before, other)) => {
                    each(before, other)?;
                    Some((run, set))
                }
                None => Some((run, set)),
            };
        }
    }
    pending.map_or(Ok(()), |(run, set)| each(run, set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    const PAGES: u64 = 2_000;

    fn ranges() -> impl Strategy<Value = PageRange> {
        (0..PAGES, 0_u64..300).prop_map(|(first, count)| PageRange::new(first, count.min(PAGES - first)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_set_holds_what_was_put_in_and_not_taken_out(
            lead in 0_usize..512, changes in prop::collection::vec((any::<bool>(), ranges()), 0..30), asked in ranges(),
        ) {
            let set = GrantedPages::new((7 * 512 + lead) * PAGE_BYTES, PAGES);
            let mut model = vec![false; PAGES as usize];
            for (add, pages) in changes {
                if add {
                    let mut seen = Vec::new();
                    set.insert(pages, |run, before| {
                        assert!(!run.is_empty(), "an empty run");
                        seen.extend(run.iter().map(|page| (page, before)));
                        Ok::<(), Infallible>(())
                    }).unwrap();
                    prop_assert_eq!(seen, pages.iter().map(|page| (page, model[page as usize])).collect::<Vec<_>>());
                } else {
                    set.remove(pages);
                }
                pages.iter().for_each(|page| model[page as usize] = add);
            }
            let mut found = Vec::new();
            set.runs(asked, |run| found.extend(run.iter()));
            prop_assert_eq!(&found, &asked.iter().filter(|page| model[*page as usize]).collect::<Vec<_>>());
            let mut looked_at = Vec::new();
            set.tables(asked, |run| {
                looked_at.extend(run.iter());
                Ok::<(), Infallible>(())
            }).unwrap();
            prop_assert!(found.iter().all(|page| looked_at.binary_search(page).is_ok()));
            prop_assert!(looked_at.iter().all(|page| asked.iter().contains(page)));
        }
    }

    #[test]
    fn page_tables_that_never_had_a_page_are_left_out() {
        let set = GrantedPages::new(500 * PAGE_BYTES, 1 << 28);
        set.insert(PageRange::new(12, 1), |_, _| Ok::<(), Infallible>(())).unwrap();
        set.insert(PageRange::one((1 << 28) - 1), |_, _| Ok::<(), Infallible>(())).unwrap();
        let mut found = Vec::new();
        set.tables(PageRange::new(0, 1 << 28), |run| {
            found.push(run);
            Ok::<(), Infallible>(())
        })
        .unwrap();
        // The region begins 12 pages before the end of a page table.
        assert_eq!(found, [PageRange::new(12, 512), PageRange::new((1 << 28) - 500, 500)]);
    }
}
