//! Diffs: the bytes of a page that changed since its twin was made, and nothing else.
//!
//! Several nodes may write different bytes of one page at the same time. Each keeps a *twin*, the page as it was before its own
//! writes, and later sends the bytes that differ to the page's home, which stores them while its threads and other nodes'
//! diffs store other bytes of the same page. So a diff names single bytes, and applying one touches no byte that it does
//! not name: not even to write back what was there. (Munin introduced diffs, Carter and others, SOSP 1991; they go to a home as in
//! Zhou, Iftode and Li, OSDI 1996.)
//!
//! # Layout
//!
//! A diff has 2 to [`DIFF_MOST`] bytes. Whoever carries it says how many. The first byte is the form:
//!
//! | form | name | then |
//! |---|---|---|
//! | 1 | runs | for each run of changed bytes, in order: a number, how many unchanged bytes lie between the last run, or the start of the page, and this one; a number, how many bytes it has; these bytes |
//! | 2 | bitmap | 512 bytes with a bit for each byte of the page, the lowest bit of the first for the first; then the bytes whose bit is 1, in order |
//! | 3 | whole | 4096 bytes |
//!
//! A number below 128 is one byte. Any other is two: the lower seven bits with 128 added, then the upper bits; so 300 is `AC 02`.
//! No run is empty, and only the first may begin where the last one ended, at the start of the page: so runs neither overlap nor
//! touch.
//!
//! The shortest form is sent; *whole* only when all bytes changed, so it is no exception to the rule above. When nothing
//! changed there is no diff.

mod apply;
mod area;
mod changes;
mod encode;
mod parse;
mod scan;
mod twins;

pub use area::TwinArea;
pub use parse::{Diff, DiffError, DiffForm};
pub use scan::Scanner;
pub use twins::{Twin, TwinError, TwinPool};

use crate::{PAGE_BYTES, PageBytes, ServiceView};
use changes::Changes;
use std::mem::MaybeUninit;

/// The most bytes that a diff has: what 242 runs with one unchanged byte between each two come to, of which 28 are too long
/// for a length of one byte. Then runs and bitmap are equally long; with more runs fewer bytes are changed, and with
/// fewer there is less before them.
pub const DIFF_MOST: usize = 1 + BITMAP_BYTES + 3855;

/// Room for any diff.
pub type DiffBytes = [u8; DIFF_MOST];

/// Working memory for making diffs, some 4.7 KB.
pub struct DiffScratch(Box<MaybeUninit<Changes>>);

impl DiffScratch {
    /// Allocates it.
    pub fn new() -> DiffScratch {
        DiffScratch(Box::new(MaybeUninit::uninit()))
    }
}

impl Default for DiffScratch {
    fn default() -> DiffScratch {
        DiffScratch::new()
    }
}

impl std::fmt::Debug for DiffScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiffScratch").finish_non_exhaustive()
    }
}

/// Bytes of a bitmap with a bit for each byte of a page.
const BITMAP_BYTES: usize = PAGE_BYTES / 8;

/// Writes the bytes in which `current` differs from `twin` to `out`, and returns how many bytes that took: 0 when the pages
/// are equal.
pub fn encode(current: &PageBytes, twin: &PageBytes, out: &mut DiffBytes) -> usize {
    encode_with(Scanner::fastest(), current, twin, out)
}

/// [`encode`] with a scanner of the caller's choice. All of them write the same.
pub fn encode_with(scanner: Scanner, current: &PageBytes, twin: &PageBytes, out: &mut DiffBytes) -> usize {
    // SAFETY: a reference to a page points to a page.
    unsafe { encode_at(scanner, current.as_ptr(), twin, out) }
}

/// Makes `bytes`, a twin for example, what they would be had the diff's writes been made to them. A twin is then what the page
/// was when the diff was made.
///
/// # Errors
/// When `diff` is none; then nothing was changed.
pub fn patch(bytes: &mut PageBytes, diff: &[u8]) -> Result<(), DiffError> {
    let diff = Diff::parse(diff)?;
    // SAFETY: the page is borrowed to be changed.
    unsafe { apply::apply(&diff, bytes.as_mut_ptr()) };
    Ok(())
}

impl ServiceView {
    /// Writes the bytes in which `page` differs from its `twin` to `out`, and returns how many bytes that took: 0 when they are
    /// equal.
    ///
    /// Others may store to the page meanwhile: each byte is read once, and the diff has what was read. Such a store is in this diff
    /// or, after the twin was brought up to this one ([`patch`]), in the next. Needs about 5 KiB of stack.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn diff_page(&self, page: u64, twin: &PageBytes, out: &mut DiffBytes) -> usize {
        // SAFETY: the pointer is checked to be that of a page, which is mapped as long as `self` lives.
        unsafe { encode_at(Scanner::fastest(), self.page_pointer(page), twin, out) }
    }

    /// [`diff_page`](ServiceView::diff_page) with its working memory given to it: for a thread that has little stack, as in a signal
    /// handler on a stack of its own (sigaltstack(2)).
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn diff_page_with(
        &self,
        page: u64,
        twin: &PageBytes,
        scratch: &mut DiffScratch,
        out: &mut DiffBytes,
    ) -> usize {
        // SAFETY: the pointer is checked to be that of a page, which is mapped as long as `self` lives.
        unsafe { encode_with_scratch(Scanner::fastest(), self.page_pointer(page), twin, &mut scratch.0, out) }
    }

    /// Stores the bytes that `diff` names to `page`, and touches no other byte: others may store to those meanwhile, and
    /// nothing is lost.
    ///
    /// # Errors
    /// When `diff` is none; then nothing was changed. All of it is checked before the first byte is stored.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn apply_diff(&self, page: u64, diff: &[u8]) -> Result<(), DiffError> {
        self.apply_checked(page, &Diff::parse(diff)?);
        Ok(())
    }

    /// [`apply_diff`](ServiceView::apply_diff) with a diff that was checked before.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn apply_checked(&self, page: u64, diff: &Diff<'_>) {
        let to = self.page_pointer(page);
        // SAFETY: checked to be a page of the view, which is mapped as long as `self` lives and has no references into it.
        unsafe { apply::apply(diff, to) };
    }
}

/// [`encode`] from wherever a page lies.
///
/// # Safety
/// There are [`PAGE_BYTES`] mapped at `current`. Others may write them.
unsafe fn encode_at(scanner: Scanner, current: *const u8, twin: &PageBytes, out: &mut DiffBytes) -> usize {
    let mut found = MaybeUninit::<Changes>::uninit();
    // SAFETY: passed on.
    unsafe { encode_with_scratch(scanner, current, twin, &mut found, out) }
}

/// [`encode_at`] with a place for what is found.
///
/// # Safety
/// As for [`encode_at`].
unsafe fn encode_with_scratch(
    scanner: Scanner,
    current: *const u8,
    twin: &PageBytes,
    found: &mut MaybeUninit<Changes>,
    out: &mut DiffBytes,
) -> usize {
    // SAFETY: passed on.
    let changes = unsafe { scanner.scan(current, twin, found) };
    encode::encode(scanner, changes, out)
}

#[cfg(test)]
mod tests;
