//! The tables of a heap, in a region of their own, changed by the processor's atomic instructions only.
//!
//! First a word for each span, its [`Hint`]. Then a page for each span: its [`Header`], and the [`Map`] of its blocks. All that one
//! small block needs is on that page. So a page that goes with a lost node takes one span along and no other, and no step
//! needs another to follow: whoever stops between two leaves a count too high or a span without a use, and nobody waits for him.

use super::geometry::{BLOCKS_A_WORD, Geometry, MAP_WORDS, PAGE};
use super::words::{Header, Hint, Kind, Map};
use crate::{AccessError, SharedSlice};

const WORDS_A_PAGE: usize = PAGE / 8;
/// How often a map is gone through for the block that its header has promised.
const ROUNDS: usize = 64;

pub(super) struct Table {
    words: SharedSlice<u64>,
    spans: usize,
}

/// What became of a small block that was to be freed.
pub(super) enum Freed {
    /// It is free now. The header as it is since.
    Done(Header),
    /// It was free.
    Already,
    /// The span has another use by now, or none.
    NotHere,
}

/// Whether the access failed because a node is gone, for good.
pub(super) fn is_loss(error: &AccessError) -> bool {
    matches!(error, AccessError::PageLost { .. } | AccessError::PeerLost { .. })
}

impl Table {
    /// Words of the tables for so many spans.
    pub(super) fn words(spans: usize) -> usize {
        (spans.div_ceil(WORDS_A_PAGE) + spans) * WORDS_A_PAGE
    }

    pub(super) fn new(words: SharedSlice<u64>, spans: usize) -> Table {
        Table { words, spans }
    }

    fn header_at(&self, span: usize) -> usize {
        (self.spans.div_ceil(WORDS_A_PAGE) + span) * WORDS_A_PAGE
    }

    pub(super) fn header(&self, span: usize) -> Result<Header, AccessError> {
        Ok(Header::read(self.words.get(self.header_at(span))?))
    }

    /// As [`header`](Table::header), where it is about to be changed: the page comes once, writable.
    fn header_to_change(&self, span: usize) -> Result<Header, AccessError> {
        Ok(Header::read(self.words.fetch_add(self.header_at(span), 0)?))
    }

    fn replace_header(&self, span: usize, old: Header, new: Header) -> Result<bool, AccessError> {
        Ok(self.words.compare_exchange(self.header_at(span), old.word(), new.word())?.is_ok())
    }

    /// The hints of all spans.
    ///
    /// # Errors
    /// When they do not come in time; those that are lost are [`Hint::Unknown`].
    pub(super) fn hints(&self) -> Result<Vec<Hint>, AccessError> {
        let mut words = vec![0; self.spans];
        for (page, words) in words.chunks_mut(WORDS_A_PAGE).enumerate() {
            match self.words.read(page * WORDS_A_PAGE, words) {
                Ok(()) => {}
                Err(error) if is_loss(&error) => words.fill(Hint::Unknown.word()),
                Err(error) => return Err(error),
            }
        }
        Ok(words.into_iter().map(Hint::read).collect())
    }

    pub(super) fn hint(&self, span: usize) -> Result<Hint, AccessError> {
        match self.words.get(span) {
            Ok(word) => Ok(Hint::read(word)),
            Err(error) if is_loss(&error) => Ok(Hint::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Makes a hint another, unless it has changed or is lost.
    pub(super) fn replace_hint(&self, span: usize, old: Hint, new: Hint) -> Result<bool, AccessError> {
        if old == new {
            return Ok(true);
        }
        match self.words.compare_exchange(span, old.word(), new.word()) {
            Ok(replaced) => Ok(replaced.is_ok()),
            Err(error) if is_loss(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn set_hint(&self, span: usize, hint: Hint) -> Result<(), AccessError> {
        match self.words.set(span, hint.word()) {
            Err(error) if !is_loss(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Allocates a block of a class in a span; `None` when it has no room for that class.
    pub(super) fn take_block(
        &self,
        geometry: &Geometry,
        span: usize,
        class: u8,
    ) -> Result<Option<usize>, AccessError> {
        let blocks = geometry.blocks(span, usize::from(class));
        let mut header = self.header_to_change(span)?;
        // The count goes first: with it the span cannot be given another use, and a free block is there.
        let header = loop {
            let new = if header.kind == Kind::Small(class) && header.count < blocks as u64 {
                Header { count: header.count + 1, ..header }
            } else if header.is_free() && header.kind != Kind::Small(class) && blocks > 0 {
                header.renewed(Kind::Small(class), 1)
            } else {
                return Ok(None);
            };
            if self.replace_header(span, header, new)? {
                break new;
            }
            header = self.header(span)?;
        };
        for word in (0..blocks.div_ceil(BLOCKS_A_WORD)).cycle().take(ROUNDS * MAP_WORDS) {
            let at = self.header_at(span) + 1 + word;
            let mut found = self.words.get(at)?;
            loop {
                let map = Map::read(found, header.generation);
                let Some(bit) = map.first_free(blocks - word * BLOCKS_A_WORD) else { break };
                match self.words.compare_exchange(at, found, map.toggled(bit).word())? {
                    Ok(_) => return Ok(Some(word * BLOCKS_A_WORD + bit)),
                    Err(now) => found = now,
                }
            }
        }
        // Only where somebody else has written into the tables.
        self.count_down(span, header)?;
        Ok(None)
    }

    fn count_down(&self, span: usize, of: Header) -> Result<Option<Header>, AccessError> {
        loop {
            let header = self.header_to_change(span)?;
            let same = (header.kind, header.generation) == (of.kind, of.generation);
            let Some(count) = header.count.checked_sub(1).filter(|_| same) else { return Ok(None) };
            let new = Header { count, ..header };
            if self.replace_header(span, header, new)? {
                return Ok(Some(new));
            }
        }
    }

    /// Frees a block of the use that `header` tells of.
    pub(super) fn give_block(&self, span: usize, header: Header, block: usize) -> Result<Freed, AccessError> {
        let (at, bit) = (self.header_at(span) + 1 + block / BLOCKS_A_WORD, block % BLOCKS_A_WORD);
        let mut found = self.words.fetch_add(at, 0)?;
        loop {
            let map = Map::read(found, header.generation);
            if !map.has(bit) {
                return Ok(Freed::Already);
            }
            match self.words.compare_exchange(at, found, map.toggled(bit).word())? {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        Ok(self.count_down(span, header)?.map_or(Freed::NotHere, Freed::Done))
    }

    /// Whether a block of the use that `header` tells of is allocated.
    pub(super) fn has_block(&self, span: usize, header: Header, block: usize) -> Result<bool, AccessError> {
        let word = self.words.get(self.header_at(span) + 1 + block / BLOCKS_A_WORD)?;
        Ok(Map::read(word, header.generation).has(block % BLOCKS_A_WORD))
    }

    /// Makes a free span a part of a large block; `false` when it is not free.
    pub(super) fn take_span(&self, span: usize) -> Result<bool, AccessError> {
        let mut header = self.header_to_change(span)?;
        while header.is_free() {
            if self.replace_header(span, header, header.renewed(Kind::Part, 0))? {
                return Ok(true);
            }
            header = self.header(span)?;
        }
        Ok(false)
    }

    /// Makes a span of which this thread has made a part one without a use, or the first of the block.
    pub(super) fn change_part(&self, span: usize, kind: Kind, pages: u64) -> Result<(), AccessError> {
        let header = self.header_to_change(span)?;
        if header.kind == Kind::Part {
            self.replace_header(span, header, Header { kind, count: pages, ..header })?;
        }
        Ok(())
    }

    /// Makes the large block of which `header` tells one of `pages` pages; `false` when it is not that any more.
    pub(super) fn resize_large(&self, span: usize, header: Header, pages: u64) -> Result<bool, AccessError> {
        self.replace_header(span, header, Header { count: pages, ..header })
    }

    /// Takes a large block from all who would free it too; `false` when another has.
    pub(super) fn end_large(&self, span: usize, header: Header) -> Result<bool, AccessError> {
        self.replace_header(span, header, Header { kind: Kind::Part, count: 1, ..header })
    }
}
