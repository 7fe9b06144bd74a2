//! Items that the members of a team share.

use std::marker::PhantomData;
use std::ops::Range;
use std::rc::Rc;

use pagemesh::{AccessError, Plain, SharedSlice};
use pagemesh_memory::PlainMemory;
use zerocopy::IntoBytes;

const PAGE_BYTES: usize = 4096;

/// Items in memory that all members of a [`Team`](super::Team) share: in a region of a mesh, or on plain memory.
#[derive(Debug)]
pub struct Shared<T>(Place<T>);

#[derive(Debug)]
enum Place<T> {
    Mesh(SharedSlice<T>),
    Plain { memory: Rc<PlainMemory>, start: usize, len: usize, items: PhantomData<fn() -> T> },
}

impl<T: Plain> Shared<T> {
    pub(super) fn on_mesh(slice: SharedSlice<T>) -> Self {
        Self(Place::Mesh(slice))
    }

    /// `len` items at byte `start`, the beginning of a page.
    pub(super) fn on_plain_memory(memory: Rc<PlainMemory>, start: usize, len: usize) -> Self {
        Self(Place::Plain { memory, start, len, items: PhantomData })
    }

    /// How many.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Mesh(slice) => slice.len(),
            Place::Plain { len, .. } => *len,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Item `index`.
    ///
    /// # Errors
    /// When there is no such item, or its page cannot be had.
    pub fn get(&self, index: usize) -> Result<T, AccessError> {
        match &self.0 {
            Place::Mesh(slice) => slice.get(index),
            Place::Plain { memory, start, len, .. } => {
                let mut item = T::new_zeroed();
                memory.load(start + locate::<T>(index, 1, *len)?, item.as_mut_bytes());
                Ok(item)
            }
        }
    }

    /// Makes item `index` this `item`.
    ///
    /// # Errors
    /// When there is no such item, or its page cannot be had.
    pub fn set(&self, index: usize, item: T) -> Result<(), AccessError> {
        match &self.0 {
            Place::Mesh(slice) => slice.set(index, item),
            Place::Plain { memory, start, len, .. } => {
                memory.store(start + locate::<T>(index, 1, *len)?, item.as_bytes());
                Ok(())
            }
        }
    }

    /// Copies items from `first` on to `items`.
    ///
    /// # Errors
    /// When there are not so many, or a page cannot be had; then `items` may be filled in part.
    pub fn read(&self, first: usize, items: &mut [T]) -> Result<(), AccessError> {
        match &self.0 {
            Place::Mesh(slice) => slice.read(first, items),
            Place::Plain { memory, start, len, .. } => {
                memory.read(start + locate::<T>(first, items.len(), *len)?, items.as_mut_bytes());
                Ok(())
            }
        }
    }

    /// Makes `items` those from `first` on.
    ///
    /// # Errors
    /// When there is not so much room, or a page cannot be had; then they may be written in part.
    pub fn write(&self, first: usize, items: &[T]) -> Result<(), AccessError> {
        match &self.0 {
            Place::Mesh(slice) => slice.write(first, items),
            Place::Plain { memory, start, len, .. } => {
                memory.write(start + locate::<T>(first, items.len(), *len)?, items.as_bytes());
                Ok(())
            }
        }
    }

    /// As [`read`](Self::read); pages that may be elsewhere are asked for all at once.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn fetch(&self, first: usize, items: &mut [T]) -> Result<(), AccessError> {
        let pages = pages_of::<T>(first, items.len());
        if let Place::Mesh(slice) = &self.0
            && pages.len() > 1
        {
            slice.region().prefetch(pages)?;
        }
        self.read(first, items)
    }

    /// As [`write`](Self::write); pages that may be elsewhere are asked for all at once.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn put(&self, first: usize, items: &[T]) -> Result<(), AccessError> {
        let pages = pages_of::<T>(first, items.len());
        if let Place::Mesh(slice) = &self.0
            && pages.len() > 1
        {
            slice.region().prefetch_for_writing(pages)?;
        }
        self.write(first, items)
    }
}

/// How many bytes lie before item `first` of `len`, from which on there must be `count`.
#[inline]
fn locate<T>(first: usize, count: usize, len: usize) -> Result<usize, AccessError> {
    match first.checked_add(count) {
        Some(end) if end <= len => Ok(first * size_of::<T>()),
        end => Err(AccessError::OutOfBounds { start: first, end: end.unwrap_or(usize::MAX), len }),
    }
}

fn pages_of<T>(first: usize, len: usize) -> Range<usize> {
    first * size_of::<T>() / PAGE_BYTES..((first + len) * size_of::<T>()).div_ceil(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_accesses_ask_for_the_pages_that_they_touch() {
        assert_eq!(pages_of::<u64>(0, 512), 0..1);
        assert_eq!(pages_of::<u64>(511, 2), 0..2);
        assert_eq!(pages_of::<u32>(1024, 1024), 1..2);
    }

    #[test]
    fn items_beyond_the_end_are_refused() {
        let file = PlainMemory::file(PAGE_BYTES).unwrap();
        let memory = Rc::new(PlainMemory::open(file).unwrap());
        let shared = Shared::<u64>::on_plain_memory(memory, 0, 3);
        shared.write(1, &[5, 6]).unwrap();
        assert_eq!((shared.get(0).unwrap(), shared.get(2).unwrap()), (0, 6));
        let refused = [shared.get(3).map(drop), shared.set(3, 1), shared.write(2, &[1; 2])];
        assert!(refused.iter().all(|refused| matches!(refused, Err(AccessError::OutOfBounds { .. }))));
    }
}
