//! Typed access to a region, by value.

use crate::{AccessError, Region};
use std::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Types that mean the same on every node: plain data without padding, pointers or forbidden bit patterns. Derive
/// `zerocopy`'s `FromBytes`, `IntoBytes` and `Immutable` to have it for a struct.
#[diagnostic::on_unimplemented(
    message = "values of type `{Self}` cannot lie in memory that nodes share",
    label = "means nothing on another node, or has bytes that are no value",
    note = "numbers, arrays of them and structures of both can: for a structure of your own, derive `Clone`, `Copy` and `zerocopy`'s `FromBytes`, `IntoBytes` and `Immutable`"
)]
pub trait Plain: Copy + FromBytes + IntoBytes + Immutable + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Copy + FromBytes + IntoBytes + Immutable + 'static> Plain for T {}

/// A run of values in a region.
///
/// Every access is a plain load or store of this processor, on the shared pages themselves, and faults as any other does. Items
/// of 1, 2, 4 and 8 bytes are loaded and stored whole by [`get`](SharedSlice::get) and [`set`](SharedSlice::set); nothing else is
/// atomic: order what several threads do by a [`Lock`](crate::Lock) or a [`Barrier`](crate::Barrier).
#[derive(Debug)]
pub struct SharedSlice<T> {
    region: Region,
    offset: usize,
    len: usize,
    items: PhantomData<fn() -> T>,
}

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        SharedSlice { region: self.region.clone(), offset: self.offset, len: self.len, items: PhantomData }
    }
}

impl<T: Plain> SharedSlice<T> {
    pub(crate) fn new(region: Region, offset: usize, len: usize) -> SharedSlice<T> {
        SharedSlice { region, offset, len, items: PhantomData }
    }

    /// Items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The region that it lies in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    fn locate(&self, start: usize, count: usize) -> Result<usize, AccessError> {
        match start.checked_add(count) {
            Some(end) if end <= self.len => Ok(self.offset + start * size_of::<T>()),
            end => Err(AccessError::OutOfBounds { start, end: end.unwrap_or(usize::MAX), len: self.len }),
        }
    }

    /// Item `index`.
    ///
    /// # Errors
    /// When there is no such item, or its page cannot be had.
    pub fn get(&self, index: usize) -> Result<T, AccessError> {
        let at = self.locate(index, 1)?;
        let mut item = T::new_zeroed();
        self.region.load(at, item.as_mut_bytes())?;
        Ok(item)
    }

    /// Makes item `index` this `item`.
    ///
    /// # Errors
    /// When there is no such item, or its page cannot be had.
    pub fn set(&self, index: usize, item: T) -> Result<(), AccessError> {
        let at = self.locate(index, 1)?;
        self.region.store(at, item.as_bytes())
    }

    /// Copies items from `start` on to `items`.
    ///
    /// # Errors
    /// When there are not so many, or a page cannot be had; then `items` may be filled in part.
    pub fn read(&self, start: usize, items: &mut [T]) -> Result<(), AccessError> {
        let at = self.locate(start, items.len())?;
        self.region.copy_out(at, items.as_mut_bytes())
    }

    /// Copies `items` to the slice, from `start` on.
    ///
    /// # Errors
    /// When there is not so much room, or a page cannot be had; then `items` may be written in part.
    pub fn write(&self, start: usize, items: &[T]) -> Result<(), AccessError> {
        let at = self.locate(start, items.len())?;
        self.region.copy_in(at, items.as_bytes())
    }
}

/// Defines the atomic operations on slices of one type of word.
macro_rules! atomic {
    ($word:ty, $fetch_add:ident, $swap:ident, $compare_exchange:ident) => {
        /// Atomic instructions of the processor, on the shared page itself: atomic between all threads of all nodes, and
        /// sequentially consistent. Each needs the page writable here, also a comparison that fails.
        impl SharedSlice<$word> {
            fn word(&self, index: usize) -> Result<usize, AccessError> {
                let at = self.locate(index, 1)?;
                // An aligned type in a region that begins on a page.
                debug_assert!(at.is_multiple_of(size_of::<$word>()));
                Ok(at)
            }

            /// Adds `value` to item `index`, wrapping around, and returns what was there.
            ///
            /// # Errors
            /// When there is no such item, or its page cannot be had; then nothing was changed.
            pub fn fetch_add(&self, index: usize, value: $word) -> Result<$word, AccessError> {
                self.region.$fetch_add(self.word(index)?, value)
            }

            /// Makes item `index` this `value` and returns what was there.
            ///
            /// # Errors
            /// When there is no such item, or its page cannot be had; then nothing was changed.
            pub fn swap(&self, index: usize, value: $word) -> Result<$word, AccessError> {
                self.region.$swap(self.word(index)?, value)
            }

            /// Makes item `index` this `value` if it is `expected`. Returns what was there: `Ok` inside when it was replaced,
            /// as the standard library's atomics do.
            ///
            /// # Errors
            /// When there is no such item, or its page cannot be had; then nothing was changed.
            pub fn compare_exchange(
                &self,
                index: usize,
                expected: $word,
                value: $word,
            ) -> Result<Result<$word, $word>, AccessError> {
                self.region.$compare_exchange(self.word(index)?, expected, value)
            }
        }
    };
}

atomic!(u32, fetch_add_u32, swap_u32, compare_exchange_u32);
atomic!(u64, fetch_add_u64, swap_u64, compare_exchange_u64);
