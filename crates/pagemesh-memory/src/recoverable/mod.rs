//! Accesses to the app view that return an error when a page cannot be had.
//!
//! They are plain loads, stores and atomic instructions, as fast as any: a page that is there costs nothing extra, and one
//! that is not faults like for everybody else. The difference shows only when the sink answers
//! [`Resolution::Failed`](crate::Resolution::Failed): these return, other code gets the SIGBUS.
//!
//! A thread that has SIGBUS blocked cannot fault (see [`sigbus_blocked_here`](crate::sigbus_blocked_here)).

pub(crate) mod sites;

use crate::{Mapping, RegionKey};
use sites::Outcome;

/// A page could not be had: the fault sink said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page {page} of region {} could not be had: its fault was not resolved", region.0)]
pub struct AccessFault {
    /// Of which region. The mapping's own, unless the caller's buffer lies in another.
    pub region: RegionKey,
    /// Which page.
    pub page: u64,
}

/// What an atomic read-modify-write found, or the page that it could not have.
type Found<T> = Result<T, AccessFault>;

fn finish(outcome: Outcome) -> Result<u64, AccessFault> {
    outcome.result().map_err(|(region, page)| AccessFault { region, page })
}

/// Defines the accesses to one type of word.
macro_rules! word {
    ($word:ty, $bits:literal, $load:ident, $store:ident) => {
        #[doc = concat!("Loads ", $bits, " bits of the app view at once, with acquire ordering.")]
        ///
        /// # Errors
        /// When the page could not be had.
        ///
        /// # Panics
        /// When they do not lie in the region, or not on a multiple of their size.
        pub fn $load(&self, byte_offset: usize) -> Result<$word, AccessFault> {
            let address = self.word_pointer::<$word>(byte_offset);
            // SAFETY: checked to lie in the app view, which is mapped as long as `self` lives, and to be aligned.
            finish(unsafe { sites::$load(address) }).map(|value| value as $word)
        }

        #[doc = concat!("Stores ", $bits, " bits to the app view at once, with release ordering.")]
        ///
        /// # Errors
        /// When the page could not be had; then nothing was stored.
        ///
        /// # Panics
        /// When they do not lie in the region, or not on a multiple of their size.
        pub fn $store(&self, byte_offset: usize, value: $word) -> Result<(), AccessFault> {
            let address = self.word_pointer::<$word>(byte_offset);
            // SAFETY: as for the load.
            finish(unsafe { sites::$store(address, u64::from(value)) }).map(|_| ())
        }
    };
}

/// Defines the atomic read-modify-write accesses to one type of word.
macro_rules! atomic {
    ($word:ty, $bits:literal, $fetch_add:ident, $swap:ident, $compare_exchange:ident) => {
        #[doc = concat!("Adds to ", $bits, " bits of the app view, wrapping around, and returns what was there.")]
        /// Sequentially consistent.
        ///
        /// # Errors
        /// When the page could not be had; then nothing was changed.
        ///
        /// # Panics
        /// When they do not lie in the region, or not on a multiple of their size.
        pub fn $fetch_add(&self, byte_offset: usize, value: $word) -> Found<$word> {
            let address = self.word_pointer::<$word>(byte_offset);
            // SAFETY: checked to lie in the app view, which is mapped as long as `self` lives, and to be aligned.
            finish(unsafe { sites::$fetch_add(address, u64::from(value)) }).map(|found| found as $word)
        }

        #[doc = concat!("Replaces ", $bits, " bits of the app view and returns what was there.")]
        /// Sequentially consistent.
        ///
        /// # Errors
        /// When the page could not be had; then nothing was changed.
        ///
        /// # Panics
        /// When they do not lie in the region, or not on a multiple of their size.
        pub fn $swap(&self, byte_offset: usize, value: $word) -> Found<$word> {
            let address = self.word_pointer::<$word>(byte_offset);
            // SAFETY: as above.
            finish(unsafe { sites::$swap(address, u64::from(value)) }).map(|found| found as $word)
        }

        #[doc = concat!("Replaces ", $bits, " bits of the app view if they are `expected`.")]
        /// Returns what was there: `Ok` inside when it was replaced, as the standard library's atomics do. Sequentially
        /// consistent. It asks for the right to write in either case, as the processor does.
        ///
        /// # Errors
        /// When the page could not be had; then nothing was changed.
        ///
        /// # Panics
        /// When they do not lie in the region, or not on a multiple of their size.
        pub fn $compare_exchange(
            &self,
            byte_offset: usize,
            expected: $word,
            value: $word,
        ) -> Found<Result<$word, $word>> {
            let address = self.word_pointer::<$word>(byte_offset);
            // SAFETY: as above.
            let outcome = unsafe { sites::$compare_exchange(address, u64::from(expected), u64::from(value)) };
            let found = finish(outcome)? as $word;
            Ok(if found == expected { Ok(found) } else { Err(found) })
        }
    };
}

impl Mapping {
    /// Copies out what the app view holds at `byte_offset`. Not at once: what other threads and nodes store meanwhile may
    /// be seen in part.
    ///
    /// # Errors
    /// When a page could not be had; the pages before it were copied.
    ///
    /// # Panics
    /// When the bytes do not lie in the region.
    pub fn read_app(&self, byte_offset: usize, bytes: &mut [u8]) -> Result<(), AccessFault> {
        let from = self.range_pointer(byte_offset, bytes.len());
        // SAFETY: checked to lie in the app view, which is mapped as long as `self` lives.
        finish(unsafe { sites::copy(bytes.as_mut_ptr(), from, 0, bytes.len()) }).map(|_| ())
    }

    /// Copies `bytes` into the app view at `byte_offset`. Not at once.
    ///
    /// # Errors
    /// When a page could not be had; the pages before it were written.
    ///
    /// # Panics
    /// When the bytes do not lie in the region.
    pub fn write_app(&self, byte_offset: usize, bytes: &[u8]) -> Result<(), AccessFault> {
        let to = self.range_pointer(byte_offset, bytes.len());
        // SAFETY: as in `read_app`; there are no references into the app view.
        finish(unsafe { sites::copy(to, bytes.as_ptr(), 0, bytes.len()) }).map(|_| ())
    }

    word!(u8, "8", load_u8, store_u8);
    word!(u16, "16", load_u16, store_u16);
    word!(u32, "32", load_u32, store_u32);
    word!(u64, "64", load_u64, store_u64);
    atomic!(u32, "32", fetch_add_u32, swap_u32, compare_exchange_u32);
    atomic!(u64, "64", fetch_add_u64, swap_u64, compare_exchange_u64);

    fn range_pointer(&self, byte_offset: usize, bytes: usize) -> *mut u8 {
        assert!(
            byte_offset <= self.bytes() && bytes <= self.bytes() - byte_offset,
            "{bytes} bytes at offset {byte_offset} of a region of {} bytes were asked for",
            self.bytes()
        );
        // SAFETY: just checked to stay within the mapping.
        unsafe { self.app_pointer().add(byte_offset) }
    }

    fn word_pointer<T>(&self, byte_offset: usize) -> *mut u8 {
        assert!(
            byte_offset.is_multiple_of(align_of::<T>()),
            "{} bytes at offset {byte_offset} are not aligned",
            size_of::<T>()
        );
        self.range_pointer(byte_offset, size_of::<T>())
    }
}
