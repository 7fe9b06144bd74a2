//! Memory that any node allocates and any node frees, page by page.
//!
//! Two regions of names that C cannot spell. One is the memory. The other is a table of all allocations in the order in which they
//! were made, one word each: where it begins, how many pages, and what became of it. A word is changed only by a
//! compare-and-swap, which is atomic across nodes; so no lock is needed, two nodes never get the same pages, the place in the table is
//! the place in the order, and a node that dies in between harms nobody.
//!
//! Words are added at the end and never taken out. Freed pages are used again by a later allocation of about their size, under a
//! word of its own; they are zeroed then, as fresh ones are. Not so with the release protocol: nothing orders what their last user wrote
//! before what the next one does, and the diffs of both could come to the home in either order. There freed pages stay unused.

use crate::error::{Answer, Code, Failed};
use crate::state::{Context, Place, lock};
use pagemesh::{NodeId, Placement, Protocol, Region, RegionOptions, SharedSlice};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Names that begin so are the library's.
pub(crate) const RESERVED: char = '\u{1}';

const PAGE: usize = 4096;
/// Pages of the memory: 1 TiB. Every node keeps a word for each thousand or so.
const HEAP_PAGES: u64 = 1 << OFFSET_BITS;
/// Allocations of a mesh over its whole life. So many that the table is one of the large regions, of which a node keeps track only
/// where they were touched.
const ALLOCATIONS: usize = (1 << 28) - 1;
/// How many of the newest allocations are looked at for freed pages.
const LOOK_BACK: usize = 4096;
/// Item of the table that counts freed allocations whose pages can be used again; the allocations follow it.
const FREED_COUNT: usize = 0;

const OFFSET_BITS: u32 = 28;
const PAGES_BITS: u32 = 31;

/// An allocation, as its word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Allocation {
    /// First page.
    offset: u64,
    pages: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Live = 1,
    /// Freed, and its pages can be used again.
    Freed = 2,
    /// Freed, and its pages belong to a later one.
    Spent = 3,
}

impl Allocation {
    fn word(self) -> u64 {
        self.offset << (PAGES_BITS + 2) | self.pages << 2 | self.state as u64
    }

    /// `None` for 0, which stands where there is no allocation yet.
    fn read(word: u64) -> Option<Allocation> {
        let state = match word & 3 {
            1 => State::Live,
            2 => State::Freed,
            3 => State::Spent,
            _ => return None,
        };
        let pages = word >> 2 & ((1 << PAGES_BITS) - 1);
        Some(Allocation { offset: word >> (PAGES_BITS + 2), pages, state })
    }

    fn in_state(self, state: State) -> Allocation {
        Allocation { state, ..self }
    }
}

/// Both regions, once this node has asked for them, and what it knows of the table.
struct Opened {
    memory: Region,
    table: SharedSlice<u64>,
    /// Whether freed pages are given out again.
    reuses: bool,
    known: Mutex<Known>,
}

/// The first words of the table, as far as this node has read.
#[derive(Default)]
struct Known {
    count: usize,
    /// Pages that were ever given out.
    end: u64,
    /// The newest allocation at each first page.
    newest_at: HashMap<u64, usize>,
}

impl Known {
    fn note(&mut self, allocation: Allocation) {
        self.newest_at.insert(allocation.offset, self.count);
        self.end = self.end.max(allocation.offset + allocation.pages);
        self.count += 1;
    }
}

/// The heap of one mesh.
#[derive(Default)]
pub(crate) struct Heap {
    opened: Mutex<Option<Arc<Opened>>>,
}

impl Heap {
    fn open(&self, context: &Context) -> Answer<Arc<Opened>> {
        let mut opened = lock(&self.opened);
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        // The table is of no use where the memory is not, and node 0 is needed to open regions anyway.
        let at_node_0 = Placement::Single(NodeId::COORDINATOR);
        let options = RegionOptions::new((ALLOCATIONS + 1) * size_of::<u64>()).placement(at_node_0);
        let table = context.mesh.region(&format!("{RESERVED}allocations"), options)?;
        let options = RegionOptions::new(HEAP_PAGES as usize * PAGE).protocol(context.settings.protocol);
        let memory = context.mesh.region(&format!("{RESERVED}memory"), options)?;
        let table = table.slice::<u64>(0, ALLOCATIONS + 1)?;
        let reuses = context.settings.protocol != Protocol::Release;
        let new = Arc::new(Opened { memory, table, reuses, known: Mutex::default() });
        *opened = Some(new.clone());
        Ok(new)
    }

    pub(crate) fn allocate(&self, context: &Context, bytes: usize) -> Answer<usize> {
        let pages = bytes.div_ceil(PAGE) as u64;
        if pages == 0 {
            return Failed::invalid("0 bytes were asked for");
        }
        if pages > HEAP_PAGES {
            let what =
                format!("{bytes} bytes were asked for; there are {} in all", HEAP_PAGES as usize * PAGE);
            return Err(Failed::new(Code::Memory, what));
        }
        let opened = self.open(context)?;
        let offset = match opened.reuse(pages)? {
            Some(offset) => offset,
            None => opened.append(pages, None)?,
        };
        Ok(opened.memory.base() + offset as usize * PAGE)
    }

    pub(crate) fn free(&self, context: &Context, address: usize) -> Answer<()> {
        let opened = self.open(context)?;
        let what = |what: &str| format!("{address:#x} {what}");
        let offset = address.wrapping_sub(opened.memory.base());
        let known = if offset < opened.memory.bytes() && offset.is_multiple_of(PAGE) {
            let mut known = lock(&opened.known);
            opened.catch_up(&mut known)?;
            known.newest_at.get(&((offset / PAGE) as u64)).copied()
        } else {
            None
        };
        let Some(index) = known else { return Failed::invalid(what("was not returned by dsm_malloc")) };
        let word = opened.table.get(1 + index)?;
        let freed = match Allocation::read(word) {
            Some(live) if live.state == State::Live => live.in_state(State::Freed),
            _ => return Failed::invalid(what("was freed already")),
        };
        if opened.table.compare_exchange(1 + index, word, freed.word())?.is_err() {
            return Failed::invalid(what("was freed already"));
        }
        opened.table.fetch_add(FREED_COUNT, 1)?;
        Ok(())
    }

    /// Where the allocation of this place in the order is; `None` when there is none, or none any more.
    pub(crate) fn allocation(&self, context: &Context, index: usize) -> Answer<Option<usize>> {
        if index >= ALLOCATIONS {
            return Ok(None);
        }
        let opened = self.open(context)?;
        let found = Allocation::read(opened.table.get(1 + index)?);
        let live = found.filter(|allocation| allocation.state == State::Live);
        Ok(live.map(|allocation| opened.memory.base() + allocation.offset as usize * PAGE))
    }

    /// The bytes from `start` to `end`, if they lie where pages were given out.
    pub(crate) fn find(&self, context: &Context, start: usize, end: usize) -> Answer<Option<Place>> {
        // Who has no heap yet may still be told an address in it by another node; other addresses are no reason to open one.
        if !RegionOptions::ADDRESSES.contains(&start) {
            return Ok(None);
        }
        let opened = self.open(context)?;
        let base = opened.memory.base();
        if start < base || end > base + opened.memory.bytes() {
            return Ok(None);
        }
        let mut known = lock(&opened.known);
        if end > base + known.end as usize * PAGE {
            opened.catch_up(&mut known)?;
        }
        let inside = end <= base + known.end as usize * PAGE;
        Ok(inside.then(|| Place { region: opened.memory.clone(), bytes: start - base..end - base }))
    }

    pub(crate) fn clear(&self) {
        *lock(&self.opened) = None;
    }
}

impl Opened {
    /// Reads what others have added to the table.
    fn catch_up(&self, known: &mut Known) -> Answer<()> {
        while known.count < ALLOCATIONS {
            let Some(allocation) = Allocation::read(self.table.get(1 + known.count)?) else { break };
            known.note(allocation);
        }
        Ok(())
    }

    /// Adds an allocation to the table: of `pages` pages at `offset`, or of fresh ones.
    fn append(&self, pages: u64, offset: Option<u64>) -> Answer<u64> {
        let mut known = lock(&self.known);
        loop {
            self.catch_up(&mut known)?;
            let offset = offset.unwrap_or(known.end);
            if offset + pages > HEAP_PAGES || known.count == ALLOCATIONS {
                let what = format!("no {pages} pages in one piece, or no place in the table, are left");
                return Err(Failed::new(Code::Memory, what));
            }
            let added = Allocation { offset, pages, state: State::Live };
            if self.table.compare_exchange(1 + known.count, 0, added.word())?.is_ok() {
                known.note(added);
                return Ok(offset);
            }
        }
    }

    /// Freed pages, at most twice as many as wanted, zeroed and under a new word; `None` when there are none at hand.
    fn reuse(&self, wanted: u64) -> Answer<Option<u64>> {
        if !self.reuses || self.table.get(FREED_COUNT)? == 0 {
            return Ok(None);
        }
        let count = {
            let mut known = lock(&self.known);
            self.catch_up(&mut known)?;
            known.count
        };
        for index in (count.saturating_sub(LOOK_BACK)..count).rev() {
            let word = self.table.get(1 + index)?;
            let fits = |found: &Allocation| {
                found.state == State::Freed && (wanted..=2 * wanted).contains(&found.pages)
            };
            let Some(found) = Allocation::read(word).filter(fits) else { continue };
            let spent = found.in_state(State::Spent).word();
            if self.table.compare_exchange(1 + index, word, spent)?.is_err() {
                continue;
            }
            self.table.fetch_add(FREED_COUNT, u64::MAX)?;
            // Pages that cannot be had any more are nobody's from now on.
            if self.zero(found).is_ok() {
                return self.append(found.pages, Some(found.offset)).map(Some);
            }
        }
        Ok(None)
    }

    fn zero(&self, pages: Allocation) -> Answer<()> {
        let (start, count) = (pages.offset as usize * PAGE, pages.pages as usize);
        let bytes = self.memory.slice::<u8>(start, count * PAGE)?;
        let first = pages.offset as usize;
        self.memory.prefetch_for_writing(first..first + count)?;
        (0..count).try_for_each(|page| bytes.write(page * PAGE, &[0; PAGE]))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_what_was_put_in() {
        for state in [State::Live, State::Freed, State::Spent] {
            for (offset, pages) in [(0, 1), (HEAP_PAGES - 1, 1), (0, HEAP_PAGES), (12345, 6789)] {
                let allocation = Allocation { offset, pages, state };
                assert_eq!(Allocation::read(allocation.word()), Some(allocation));
            }
        }
        assert_eq!(Allocation::read(0), None);
    }
}
