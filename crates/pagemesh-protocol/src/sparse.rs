//! A table over all pages of a region that costs memory only where it was written.

use crate::limits::{EAGER_TABLE_PAGES, TABLE_CHUNK};

/// Entries start as `T::default()`; those near each other are allocated together on the first write.
#[derive(Clone, Debug)]
pub(crate) enum Sparse<T> {
    /// Less than a chunk: a small region takes no more than it needs.
    Small(Box<[T]>),
    /// One allocation for so many neighbours.
    Chunked(Vec<Option<Box<[T; TABLE_CHUNK]>>>),
}

impl<T: Copy + Default> Sparse<T> {
    pub(crate) fn new(entries: u64) -> Sparse<T> {
        if entries < TABLE_CHUNK as u64 {
            return Sparse::Small(vec![T::default(); entries as usize].into());
        }
        let count = entries.div_ceil(TABLE_CHUNK as u64) as usize;
        let eager = entries <= EAGER_TABLE_PAGES;
        Sparse::Chunked((0..count).map(|_| eager.then(new_chunk)).collect())
    }

    pub(crate) fn get(&self, index: u64) -> T {
        match self {
            Sparse::Small(entries) => entries[index as usize],
            Sparse::Chunked(chunks) => {
                let (chunk, offset) = split(index);
                chunks[chunk].as_ref().map_or_else(T::default, |entries| entries[offset])
            }
        }
    }

    /// The entries from `first` on, at most `count`, less those of which it is clear that they were never set.
    pub(crate) fn written(&self, first: u64, count: u64) -> impl Iterator<Item = (u64, T)> + '_ {
        let size = TABLE_CHUNK as u64;
        let parts: &[Option<Box<[T; TABLE_CHUNK]>>] = match self {
            Sparse::Small(_) => &[],
            Sparse::Chunked(chunks) => chunks,
        };
        let end = first.saturating_add(count);
        let chunked = parts
            .iter()
            .zip(0_u64..)
            .skip((first / size) as usize)
            .take_while(move |(_, at)| at * size < end);
        let chunked = chunked.filter_map(move |(chunk, at)| Some((chunk.as_deref()?.as_slice(), at * size)));
        let small = match self {
            Sparse::Small(entries) => Some((&entries[..], 0)),
            Sparse::Chunked(_) => None,
        };
        small.into_iter().chain(chunked).flat_map(move |(entries, start)| {
            let from = first.saturating_sub(start).min(entries.len() as u64);
            let to = (end - start).min(entries.len() as u64);
            (from..to.max(from)).map(move |at| (start + at, entries[at as usize]))
        })
    }

    pub(crate) fn set(&mut self, index: u64, value: T) {
        match self {
            Sparse::Small(entries) => entries[index as usize] = value,
            Sparse::Chunked(chunks) => {
                let (chunk, offset) = split(index);
                chunks[chunk].get_or_insert_with(new_chunk)[offset] = value;
            }
        }
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Sparse::Small(entries) => size_of_val(&**entries),
            Sparse::Chunked(chunks) => {
                chunks.capacity() * size_of::<Option<Box<[T; TABLE_CHUNK]>>>()
                    + chunks.iter().flatten().count() * size_of::<[T; TABLE_CHUNK]>()
            }
        }
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "the table holds pointers to chunks, not chunks")]
#[cold]
#[inline(never)]
fn new_chunk<T: Copy + Default>() -> Box<[T; TABLE_CHUNK]> {
    // Never on the stack, of which a fault handler may have as little as 8 KiB (sigaltstack(2)).
    let chunk: Box<[T]> = std::iter::repeat_n(T::default(), TABLE_CHUNK).collect();
    chunk.try_into().unwrap_or_else(|_| unreachable!("it was made of that length"))
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
        let empty = table.bytes();
        table.set(123_456_789, 7);
        assert_eq!(table.get(123_456_789), 7);
        assert_eq!(table.get(123_456_788), 0);
        assert_eq!(table.bytes() - empty, TABLE_CHUNK * size_of::<u32>());
        let seen: Vec<_> = table.written(0, 1 << 28).filter(|(_, value)| *value != 0).collect();
        assert_eq!(seen, [(123_456_789, 7)]);
        assert_eq!(table.written(123_456_780, 12).count(), 12);
        assert_eq!(table.written(0, 1000).count(), 0);
    }

    #[test]
    fn a_small_table_has_the_entries_it_was_made_for() {
        for entries in [1, TABLE_CHUNK as u64 - 1, TABLE_CHUNK as u64, TABLE_CHUNK as u64 + 1] {
            let mut table = Sparse::<u8>::new(entries);
            assert_eq!(table.get(entries - 1), 0);
            table.set(entries - 1, 9);
            assert_eq!(table.get(entries - 1), 9);
            assert_eq!(table.written(entries - 1, 5).next(), Some((entries - 1, 9)));
            assert!(table.written(0, u64::MAX).count() >= entries as usize);
        }
        assert_eq!(Sparse::<u64>::new(3).bytes(), 24);
    }
}
