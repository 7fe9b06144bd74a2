//! How a region is divided: into spans of pages, and those into blocks of one size.

use std::ops::Range;

pub(super) const PAGE: usize = 4096;
/// Bytes of the smallest block, and what every block is aligned to.
pub(super) const GRAIN: usize = 16;
/// A region of at least so many pages has spans of [`SPAN_PAGES`]; a smaller one has about [`SPANS_LEAST`] smaller ones.
const SPANS_LEAST: usize = 256;
const SPAN_PAGES: usize = 16;
/// A region has no more spans than that; those of a larger one are longer.
const SPANS_MOST: usize = 16_384;
/// Words of a span's page that tell which blocks are allocated: all but the first.
pub(super) const MAP_WORDS: usize = PAGE / 8 - 1;
/// Blocks that one of these words tells of.
pub(super) const BLOCKS_A_WORD: usize = 48;

const _: () = assert!(SPANS_LEAST <= SPANS_MOST);

/// The sizes of a heap, which follow from where its region lies and how many pages it has: so they are the same on every node.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Virtual address of the first span.
    pub(super) origin: usize,
    /// Bytes from there to the end of the region.
    pub(super) bytes: usize,
    pub(super) span_bytes: usize,
    pub(super) spans: usize,
    /// Bytes of a block of each class, rising.
    classes: Vec<usize>,
}

impl Geometry {
    pub(super) fn new(base: usize, region_bytes: usize) -> Geometry {
        let pages = region_bytes / PAGE;
        let by_count = |count: usize| pages.div_ceil(count).next_power_of_two();
        let span_pages = by_count(SPANS_MOST).max(SPAN_PAGES.min(by_count(SPANS_LEAST)));
        let span_bytes = span_pages * PAGE;
        // Spans are aligned to their size, unless a region that asked for its address would lose much by that.
        let skipped = base.next_multiple_of(span_bytes) - base;
        let skipped = if skipped <= region_bytes / 16 { skipped } else { 0 };
        let bytes = region_bytes - skipped;
        let spans = bytes.div_ceil(span_bytes);
        Geometry { origin: base + skipped, bytes, span_bytes, spans, classes: classes(span_bytes / 2) }
    }

    pub(super) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Bytes of a block of a class, if there is that class.
    pub(super) fn class_bytes(&self, class: usize) -> Option<usize> {
        self.classes.get(class).copied()
    }

    /// The class for `bytes` bytes at a multiple of `align`; `None` when it takes whole spans.
    pub(super) fn class(&self, bytes: usize, align: usize) -> Option<usize> {
        if align > PAGE {
            return None;
        }
        let first = self.classes.partition_point(|size| *size < bytes);
        (first..self.classes.len()).find(|class| self.classes[*class].is_multiple_of(align))
    }

    /// Bytes of span `span`: the last one may be short.
    fn bytes_of(&self, span: usize) -> usize {
        self.span_bytes.min(self.bytes - span * self.span_bytes)
    }

    /// Blocks of a class that a span has.
    pub(super) fn blocks(&self, span: usize, class: usize) -> usize {
        (self.bytes_of(span) / self.classes[class]).min(MAP_WORDS * BLOCKS_A_WORD)
    }

    pub(super) fn address(&self, span: usize) -> usize {
        self.origin + span * self.span_bytes
    }

    /// The span in which an address lies, and how far from its beginning.
    pub(super) fn locate(&self, address: usize) -> Option<(usize, usize)> {
        let offset = address.checked_sub(self.origin).filter(|offset| *offset < self.bytes)?;
        Some((offset / self.span_bytes, offset % self.span_bytes))
    }

    /// The spans of `pages` pages from the beginning of span `first` on, if there are so many.
    pub(super) fn run(&self, first: usize, pages: usize) -> Option<Range<usize>> {
        let bytes = pages.checked_mul(PAGE)?;
        let fits = first < self.spans && bytes <= self.bytes - first * self.span_bytes;
        fits.then(|| first..first + bytes.div_ceil(self.span_bytes))
    }
}

/// Multiples of 16 up to 128, then four sizes from each power of two to the next, up to `largest`.
fn classes(largest: usize) -> Vec<usize> {
    let fine = (1..=8).map(|count| count * GRAIN);
    let coarse = (7..).flat_map(|power| (5..=8).map(move |quarters| quarters << (power - 2)));
    fine.chain(coarse).take_while(|size| *size <= largest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: usize = 0x2000_0000_0000;

    fn of_pages(pages: usize) -> Geometry {
        Geometry::new(BASE, pages * PAGE)
    }

    #[test]
    fn every_page_lies_in_one_span_and_tables_stay_small() {
        for pages in [1, 2, 255, 256, 257, 4096, 5000, 1 << 18, (1 << 18) + 1, 1 << 28, 1 << 32] {
            let geometry = of_pages(pages);
            assert!(geometry.spans <= SPANS_MOST, "{pages} pages: {} spans", geometry.spans);
            assert_eq!(geometry.locate(BASE), Some((0, 0)));
            let last = BASE + pages * PAGE - 1;
            assert_eq!(geometry.locate(last).map(|(span, _)| span), Some(geometry.spans - 1));
            assert_eq!(geometry.locate(last + 1), None);
            assert_eq!(geometry.locate(BASE - 1), None);
            assert_eq!(geometry.run(0, pages), Some(0..geometry.spans), "all of it is one block");
            assert_eq!(geometry.run(0, pages + 1), None);
            assert!(geometry.classes() < 200, "a class has its number in a byte");
        }
    }

    #[test]
    fn a_class_holds_what_was_asked_for_and_wastes_little() {
        let geometry = of_pages(1 << 16);
        let largest = geometry.class_bytes(geometry.classes() - 1).unwrap();
        assert_eq!(largest, geometry.span_bytes / 2);
        for bytes in 1..=largest {
            for align in [1, 16, 64, 4096] {
                let class = geometry.class(bytes, align).unwrap();
                let size = geometry.class_bytes(class).unwrap();
                assert!(size >= bytes && size.is_multiple_of(align), "{bytes} at {align}: {size}");
                let needed = bytes.next_multiple_of(align).next_multiple_of(GRAIN);
                assert!(
                    size <= (needed + needed / 4).next_multiple_of(align).max(128),
                    "{bytes} {align}: {size}"
                );
            }
        }
        assert_eq!(geometry.class(largest + 1, 1), None);
        assert_eq!(geometry.class(16, 8192), None);
    }

    #[test]
    fn a_region_at_an_odd_address_has_aligned_spans() {
        let geometry = Geometry::new(BASE + PAGE, 64 << 20);
        assert_eq!(geometry.origin, BASE + geometry.span_bytes);
        assert_eq!(geometry.origin + geometry.bytes, BASE + PAGE + (64 << 20));
    }
}
