//! A table over all pages of a region that costs memory only where it was written.

use crate::limits::{EAGER_TABLE_PAGES, TABLE_CHUNK};

/// Entries start as `T::default()`; those near each other are allocated together on the first write.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<T> {
    chunks: Vec<Option<Box<[T; TABLE_CHUNK]>>>,
}

impl<T: Copy + Default> Sparse<T> {
    pub(crate) fn new(entries: u64) -> Sparse<T> {
        let count = entries.div_ceil(TABLE_CHUNK as u64) as usize;
        let eager = entries <= EAGER_TABLE_PAGES;
        Sparse { chunks: (0..count).map(|_| eager.then(new_chunk)).collect() }
    }

    pub(crate) fn get(&self, index: u64) -> T {
        let (chunk, offset) = split(index);
        self.chunks[chunk].as_ref().map_or_else(T::default, |entries| entries[offset])
    }

    /// The entries from `first` on, at most `count`, less those of which it is clear that they were never set.
    pub(crate) fn written(&self, first: u64, count: u64) -> impl Iterator<Item = (u64, T)> + '_ {
        let size = TABLE_CHUNK as u64;
        let end = (first + count).min(self.chunks.len() as u64 * size);
        (first / size..end.div_ceil(size)).flat_map(move |chunk| {
            let entries = self.chunks[chunk as usize].as_deref();
            let (from, to) = (first.max(chunk * size), end.min((chunk + 1) * size));
            let indices = if entries.is_some() { from..to } else { 0..0 };
            indices
                .map(move |index| (index, entries.map_or_else(T::default, |entries| entries[split(index).1])))
        })
    }

    pub(crate) fn set(&mut self, index: u64, value: T) {
        let (chunk, offset) = split(index);
        self.chunks[chunk].get_or_insert_with(new_chunk)[offset] = value;
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "the table holds pointers to chunks, not chunks")]
fn new_chunk<T: Copy + Default>() -> Box<[T; TABLE_CHUNK]> {
    Box::new([T::default(); TABLE_CHUNK])
}

fn split(index: u64) -> (usize, usize) {
    ((index / TABLE_CHUNK as u64) as usize, (index % TABLE_CHUNK as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_table_allocates_only_what_is_written() {
        let mut table = Sparse::<u32>::new(1 << 28);
        assert!(table.chunks.iter().all(Option::is_none));
        table.set(123_456_789, 7);
        assert_eq!(table.get(123_456_789), 7);
        assert_eq!(table.get(123_456_788), 0);
        assert_eq!(table.chunks.iter().filter(|c| c.is_some()).count(), 1);
        let seen: Vec<_> = table.written(0, 1 << 28).filter(|(_, value)| *value != 0).collect();
        assert_eq!(seen, [(123_456_789, 7)]);
        assert_eq!(table.written(123_456_780, 12).count(), 12);
        assert_eq!(table.written(0, 1000).count(), 0);
    }
}
