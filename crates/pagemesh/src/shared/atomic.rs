//! A word that all nodes change where it is.

use crate::{AtomicError, Protocol, Region, RegionError, SharedSlice};
use pagemesh_protocol::AtomicChange;
use std::marker::PhantomData;

mod sealed {
    /// Which values a word can be: this module's to say.
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for i64 {}
    impl Sealed for usize {}
    impl Sealed for bool {}
}

/// What a word of 8 bytes can be: `u64`, `i64`, `usize` and `bool`. A word that is 0 is 0, or false.
#[diagnostic::on_unimplemented(
    message = "a word that nodes change where it is cannot be a `{Self}`",
    label = "not `u64`, `i64`, `usize` or `bool`"
)]
pub trait AtomicValue: sealed::Sealed + Copy + PartialEq {
    #[doc(hidden)]
    fn to_word(self) -> u64;
    #[doc(hidden)]
    fn from_word(word: u64) -> Self;
}

/// A word that is a number.
pub trait AtomicNumber: AtomicValue + Ord {}

impl AtomicValue for u64 {
    fn to_word(self) -> u64 {
        self
    }

    fn from_word(word: u64) -> u64 {
        word
    }
}

impl AtomicValue for i64 {
    fn to_word(self) -> u64 {
        self.cast_unsigned()
    }

    fn from_word(word: u64) -> i64 {
        word.cast_signed()
    }
}

// The fault handler knows x86-64 only.
const _: () = assert!(size_of::<usize>() == 8, "a word of 8 bytes holds every usize");

impl AtomicValue for usize {
    fn to_word(self) -> u64 {
        self as u64
    }

    fn from_word(word: u64) -> usize {
        word as usize
    }
}

impl AtomicValue for bool {
    fn to_word(self) -> u64 {
        self.into()
    }

    /// Whatever else wrote the word: anything but 0 is true.
    fn from_word(word: u64) -> bool {
        word != 0
    }
}

impl AtomicNumber for u64 {}
impl AtomicNumber for i64 {}
impl AtomicNumber for usize {}

/// As std's `AtomicU64`, for all nodes; see [`Atomic`].
pub type AtomicU64 = Atomic<u64>;
/// As std's `AtomicI64`, for all nodes; see [`Atomic`].
pub type AtomicI64 = Atomic<i64>;
/// As std's `AtomicUsize`, for all nodes; takes 8 bytes. See [`Atomic`].
pub type AtomicUsize = Atomic<usize>;
/// As std's `AtomicBool`, for all nodes; takes 8 bytes. See [`Atomic`].
pub type AtomicBool = Atomic<bool>;

/// A word of 8 bytes in shared memory, as std's atomic types, that is changed where its page is: at the page's home, or at the one node that has
/// the page. Every node makes one of the same region and offset; the word starts as 0.
///
/// A change costs no page transfer: two messages where the page is at its home, four where a third node has it, none where this
/// node has it writable. So a counter or a flag that many nodes change does not drag its page around, as the methods of
/// [`SharedSlice`] of the same names do, which bring the page here. Those are better for a word that one node changes again and again.
///
/// All operations are sequentially consistent, on words of any region. Where the region is not of the release protocol, they are also atomic
/// with the processor's own instructions on the same word, by any node. In a [`Protocol::Release`] region each is at the same time a release and
/// then an acquire of this node, as giving a lock back and taking it; and between two synchronisations a word is to be used by such
/// operations only, since a plain load may find an older value. In a [`Protocol::Entry`] region the word is locked for each as a range.
///
/// An operation is done at most once. One that fails with [`AtomicError::Access`] was not done.
///
/// ```
/// use pagemesh::{AtomicU64, Config, Mesh, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let region = mesh.region("tickets", RegionOptions::new(4096))?;
/// let next = AtomicU64::new(&region, 0)?;
/// assert_eq!(next.fetch_add(1)?, 0);
/// assert_eq!(next.compare_exchange(1, 10)?, Ok(1));
/// assert_eq!(next.compare_exchange(1, 20)?, Err(10));
/// assert_eq!(next.load()?, 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Atomic<T: AtomicValue> {
    word: SharedSlice<u64>,
    region: Region,
    offset: usize,
    value: PhantomData<T>,
}

impl<T: AtomicValue> Atomic<T> {
    /// Bytes that it takes in its region.
    pub const BYTES: usize = 8;

    /// The word at byte `offset` of the region, a multiple of 8.
    ///
    /// # Errors
    /// When it does not lie in the region, or not aligned.
    pub fn new(region: &Region, offset: usize) -> Result<Atomic<T>, RegionError> {
        Ok(Atomic { word: region.slice(offset, 1)?, region: region.clone(), offset, value: PhantomData })
    }

    fn change(&self, change: AtomicChange) -> Result<T, AtomicError> {
        self.region.change_word(self.offset, change).map(T::from_word)
    }

    /// Makes the word that of `value` if it is `expected`; returns what it was.
    fn exchange(&self, expected: u64, value: T) -> Result<u64, AtomicError> {
        let desired = value.to_word();
        self.region.change_word(self.offset, AtomicChange::CompareSwap { expected, desired })
    }

    /// What the word is.
    fn word(&self) -> Result<u64, AtomicError> {
        if matches!(self.region.protocol(), Protocol::Release | Protocol::Entry) {
            return self.region.change_word(self.offset, AtomicChange::Add(0));
        }
        Ok(self.word.get(0)?)
    }

    /// Makes it `value` and returns what was there.
    ///
    /// # Errors
    /// When the page cannot be had where it is, or it is not known whether it was done; see [`AtomicError`].
    pub fn swap(&self, value: T) -> Result<T, AtomicError> {
        self.change(AtomicChange::Swap(value.to_word()))
    }

    /// Makes it `value`.
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn store(&self, value: T) -> Result<(), AtomicError> {
        self.swap(value).map(|_| ())
    }

    /// What it is. Costs what a load costs: nothing where a copy of the page is here. In release and entry regions it is asked for, as a change is.
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn load(&self) -> Result<T, AtomicError> {
        self.word().map(T::from_word)
    }

    /// Makes it `value` if it is `expected`. Returns what was there: `Ok` inside when it was replaced.
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn compare_exchange(&self, expected: T, value: T) -> Result<Result<T, T>, AtomicError> {
        let mut word = expected.to_word();
        loop {
            let found = self.exchange(word, value)?;
            if found == word {
                return Ok(Ok(expected));
            }
            if T::from_word(found) != expected {
                return Ok(Err(T::from_word(found)));
            }
            // The same value in another word, which no operation of this type has stored.
            word = found;
        }
    }

    /// Makes it what `change` makes of it, in one step, and returns what was there: `Ok` inside, or `Err` when `change` wants none. Asks
    /// again, and calls `change` again, as long as others are quicker.
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_update(&self, mut change: impl FnMut(T) -> Option<T>) -> Result<Result<T, T>, AtomicError> {
        let mut found = self.word()?;
        while let Some(next) = change(T::from_word(found)) {
            let other = self.exchange(found, next)?;
            if other == found {
                return Ok(Ok(T::from_word(found)));
            }
            found = other;
        }
        Ok(Err(T::from_word(found)))
    }

    /// Keeps of it the bits that `value` has too, and returns what was there. As [`fetch_update`](Atomic::fetch_update).
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_and(&self, value: T) -> Result<T, AtomicError> {
        let changed = |found: T| Some(T::from_word(found.to_word() & value.to_word()));
        self.fetch_update(changed).map(|found| found.unwrap_or_else(|found| found))
    }

    /// Sets the bits of `value` in it, and returns what was there. As [`fetch_update`](Atomic::fetch_update).
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_or(&self, value: T) -> Result<T, AtomicError> {
        let changed = |found: T| Some(T::from_word(found.to_word() | value.to_word()));
        self.fetch_update(changed).map(|found| found.unwrap_or_else(|found| found))
    }

    /// Turns the bits of `value` in it around, and returns what was there. As [`fetch_update`](Atomic::fetch_update).
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_xor(&self, value: T) -> Result<T, AtomicError> {
        let changed = |found: T| Some(T::from_word(found.to_word() ^ value.to_word()));
        self.fetch_update(changed).map(|found| found.unwrap_or_else(|found| found))
    }
}

impl<T: AtomicNumber> Atomic<T> {
    /// Adds `value`, wrapping around, and returns what was there.
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_add(&self, value: T) -> Result<T, AtomicError> {
        self.change(AtomicChange::Add(value.to_word()))
    }

    /// Subtracts `value`, wrapping around, and returns what was there.
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_sub(&self, value: T) -> Result<T, AtomicError> {
        self.change(AtomicChange::Add(value.to_word().wrapping_neg()))
    }

    /// Makes it the larger of itself and `value`, and returns what was there. As [`fetch_update`](Atomic::fetch_update).
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_max(&self, value: T) -> Result<T, AtomicError> {
        let larger = |found: T| (found < value).then_some(value);
        self.fetch_update(larger).map(|found| found.unwrap_or_else(|found| found))
    }

    /// Makes it the smaller of itself and `value`, and returns what was there. As [`fetch_update`](Atomic::fetch_update).
    ///
    /// # Errors
    /// As for [`swap`](Atomic::swap).
    pub fn fetch_min(&self, value: T) -> Result<T, AtomicError> {
        let smaller = |found: T| (found > value).then_some(value);
        self.fetch_update(smaller).map(|found| found.unwrap_or_else(|found| found))
    }
}
