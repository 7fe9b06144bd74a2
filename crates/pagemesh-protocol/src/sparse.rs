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
    }
}
