//! Finding room: where the hints say that it is, and where they do not, if need be.

use super::Heap;
use super::geometry::PAGE;
use super::table::is_loss;
use super::words::{Header, Hint, Kind, Use};
use crate::AccessError;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// How often all of the heap is searched for a large block while others are seen to take spans and to give them back.
const SEARCHES: usize = 4;

/// A search that goes on where tables are lost, and remembers that they are.
#[derive(Default)]
pub(super) struct Losses(Option<AccessError>);

impl Losses {
    fn pass<T>(&mut self, found: Result<Option<T>, AccessError>) -> Result<Option<T>, AccessError> {
        match found {
            Err(error) if is_loss(&error) => {
                self.0 = Some(error);
                Ok(None)
            }
            found => found,
        }
    }

    pub(super) fn add(&mut self, error: AccessError) {
        self.0 = Some(error);
    }

    /// Why nothing was found, if it may be for that.
    pub(super) fn reason(self) -> Option<AccessError> {
        self.0
    }
}

impl Heap {
    /// A span and a block of a class.
    pub(super) fn find_block(
        &self,
        class: u8,
        losses: &mut Losses,
    ) -> Result<Option<(usize, usize)>, AccessError> {
        let current = self.current[usize::from(class)].load(Ordering::Relaxed);
        if let Some(span) = (current as usize).checked_sub(1) {
            let found = self.table.take_block(&self.geometry, span, class);
            if let Some(block) = losses.pass(found)? {
                return Ok(Some((span, block)));
            }
            let _ = self.current[usize::from(class)].compare_exchange(
                current,
                0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            self.retire(span, class, losses)?;
        }
        let hints = self.table.hints()?;
        let own = Use { node: self.node, class };
        let is_of_class = |hint: &Hint| matches!(hint, Hint::Room(of) if of.class == class);
        // What this node has filled before; what nobody has; what others had.
        let wanted: [&dyn Fn(&Hint) -> bool; 3] =
            [&|hint| *hint == Hint::Room(own), &|hint| *hint == Hint::Free, &is_of_class];
        for wanted in wanted {
            for span in self.spans_own_first().filter(|span| wanted(&hints[*span])) {
                let found = self.table.take_block(&self.geometry, span, class);
                if let Some(block) = losses.pass(found)? {
                    self.claim(span, class, hints[span], losses)?;
                    return Ok(Some((span, block)));
                }
                self.repair(span, hints[span], losses)?;
            }
        }
        self.find_block_anywhere(class, &hints, losses)
    }

    /// At last, whatever may have room: so nothing is out of reach that a node claims which is gone.
    fn find_block_anywhere(
        &self,
        class: u8,
        hints: &[Hint],
        losses: &mut Losses,
    ) -> Result<Option<(usize, usize)>, AccessError> {
        let may_have = |span: &usize| !matches!(hints[*span], Hint::Busy(_) | Hint::Free);
        for span in self.spans_own_first().filter(may_have) {
            // To read does not take the page from who allocates there.
            let Some(header) = losses.pass(self.table.header(span).map(Some))? else {
                self.repair(span, hints[span], losses)?;
                continue;
            };
            if !header.is_free() && (header.kind != Kind::Small(class) || !self.has_room(span, header)) {
                continue;
            }
            let found = self.table.take_block(&self.geometry, span, class);
            if let Some(block) = losses.pass(found)? {
                self.claim(span, class, hints[span], losses)?;
                return Ok(Some((span, block)));
            }
        }
        Ok(None)
    }

    /// All spans, from those on that this node takes first: so nodes keep apart as long as there is room.
    fn spans_own_first(&self) -> impl Iterator<Item = usize> + use<> {
        let (spans, first) = (self.geometry.spans, self.first);
        (first..spans).chain(0..first)
    }

    /// Allocates from this span from now on.
    fn claim(&self, span: usize, class: u8, seen: Hint, losses: &mut Losses) -> Result<(), AccessError> {
        let own = Use { node: self.node, class };
        // What another node allocates from stays its own, as far as hints go.
        if !matches!(seen, Hint::Claimed(of) if of.node != self.node && of.class == class) {
            self.table.replace_hint(span, seen, Hint::Claimed(own))?;
        }
        let former = self.current[usize::from(class)].swap(span as u32 + 1, Ordering::Relaxed) as usize;
        match former.checked_sub(1) {
            Some(former) if former != span => self.retire(former, class, losses),
            _ => Ok(()),
        }
    }

    /// Tells that this node does not allocate from a span any more.
    fn retire(&self, span: usize, class: u8, losses: &mut Losses) -> Result<(), AccessError> {
        let own = Use { node: self.node, class };
        if self.table.replace_hint(span, Hint::Claimed(own), Hint::Busy(own))? {
            // Who freed a block before that has found the span claimed, and left the hint as it was.
            self.repair(span, Hint::Busy(own), losses)?;
        }
        Ok(())
    }

    /// Makes a hint that was no help say what the span holds. A claim stays, except on a span that is lost.
    fn repair(&self, span: usize, mut seen: Hint, losses: &mut Losses) -> Result<(), AccessError> {
        loop {
            let node = match seen {
                Hint::Room(of) | Hint::Busy(of) => of.node,
                _ => self.node,
            };
            let hint = match losses.pass(self.table.header(span).map(Some))? {
                None => Hint::Busy(Use { node, class: 0 }),
                Some(_) if matches!(seen, Hint::Claimed(_) | Hint::Unknown) => return Ok(()),
                Some(header) if header.is_free() => Hint::Free,
                Some(header) => match header.kind {
                    Kind::Small(class) if self.has_room(span, header) => Hint::Room(Use { node, class }),
                    Kind::Small(class) => Hint::Busy(Use { node, class }),
                    _ => Hint::Busy(Use { node, class: 0 }),
                },
            };
            let replaced = self.table.replace_hint(span, seen, hint)?;
            // Who frees a block between the look at the header and the change of the hint tells it only to those who see `Busy`.
            if !replaced || hint == seen || !matches!(hint, Hint::Busy(_)) {
                return Ok(());
            }
            seen = hint;
        }
    }

    fn has_room(&self, span: usize, header: Header) -> bool {
        match header.kind {
            Kind::Small(class) if usize::from(class) < self.geometry.classes() => {
                header.count < self.geometry.blocks(span, usize::from(class)) as u64
            }
            _ => false,
        }
    }

    /// Tells those who search that a block of this class was freed.
    pub(super) fn tell_room(&self, span: usize, class: u8, header: Header) -> Result<(), AccessError> {
        let seen = self.table.hint(span)?;
        let new = match seen {
            Hint::Claimed(of) if of.node == self.node && of.class == class => {
                if self.current[usize::from(class)].load(Ordering::Relaxed) as usize == span + 1 {
                    return Ok(());
                }
                // Claimed by a thread of this node that did not keep it.
                Hint::Room(of)
            }
            Hint::Claimed(_) | Hint::Unknown | Hint::Free => return Ok(()),
            // Also where this node still allocates: another may have claimed the span since, and filled it.
            _ if header.count == 0 => Hint::Free,
            Hint::Room(_) => return Ok(()),
            Hint::Busy(of) => Hint::Room(Use { node: of.node, class }),
        };
        self.table.replace_hint(span, seen, new)?;
        Ok(())
    }

    /// Spans for a large block: the first of them.
    pub(super) fn find_spans(
        &self,
        bytes: usize,
        align: usize,
        losses: &mut Losses,
    ) -> Result<Option<usize>, AccessError> {
        let pages = bytes.div_ceil(PAGE);
        for search in 0..SEARCHES {
            let hints = self.table.hints()?;
            let mut others_at_work = false;
            // First what nobody allocates from.
            for any in [false, true] {
                let blocked = |hint: Hint| matches!(hint, Hint::Busy(_)) || !any && hint != Hint::Free;
                let mut free_until = vec![0; hints.len()];
                for span in (0..hints.len()).rev() {
                    let next = free_until.get(span + 1).filter(|until| **until > span + 1);
                    free_until[span] =
                        if blocked(hints[span]) { span } else { next.copied().unwrap_or(span + 1) };
                }
                let mut tried = 0..0;
                for first in self.spans_own_first() {
                    let Some(run) = self.geometry.run(first, pages) else { continue };
                    let aligned = self.geometry.address(first).is_multiple_of(align);
                    if !aligned || free_until[first] < run.end || tried.contains(&first) {
                        continue;
                    }
                    if let Some(used) = self.first_used(run.clone(), &hints, losses)? {
                        tried = first..used + 1;
                        continue;
                    }
                    match self.take_spans(run, pages as u64, losses)? {
                        None => return Ok(Some(first)),
                        // No run that includes this one can be had.
                        Some(taken) => {
                            others_at_work = true;
                            tried = first..taken + 1;
                        }
                    }
                }
            }
            if !others_at_work || search + 1 == SEARCHES {
                break;
            }
        }
        Ok(None)
    }

    /// The first span of a run that is not free. To read does not take tables from those who work with them.
    fn first_used(
        &self,
        run: Range<usize>,
        hints: &[Hint],
        losses: &mut Losses,
    ) -> Result<Option<usize>, AccessError> {
        for span in run {
            let header = losses.pass(self.table.header(span).map(Some))?;
            if !header.is_some_and(Header::is_free) {
                self.repair(span, hints[span], losses)?;
                return Ok(Some(span));
            }
        }
        Ok(None)
    }

    /// Takes all of a run of spans, or none: then, the one that could not be had.
    fn take_spans(
        &self,
        run: Range<usize>,
        pages: u64,
        losses: &mut Losses,
    ) -> Result<Option<usize>, AccessError> {
        if let Some(refused) = self.take_each(run.clone(), losses)? {
            return Ok(Some(refused));
        }
        self.table.change_part(run.start, Kind::Large, pages)?;
        Ok(None)
    }

    /// Makes free spans parts of a large block: all of them or, when one is not free, none.
    pub(super) fn take_parts(&self, run: Range<usize>, losses: &mut Losses) -> Result<bool, AccessError> {
        Ok(self.take_each(run, losses)?.is_none())
    }

    fn take_each(&self, run: Range<usize>, losses: &mut Losses) -> Result<Option<usize>, AccessError> {
        for span in run.clone() {
            let taken = self.table.take_span(span).map(|taken| taken.then_some(()));
            let taken = losses.pass(taken);
            if !matches!(taken, Ok(Some(()))) {
                self.give_spans(run.start..span, losses)?;
                taken?;
                self.repair(span, self.table.hint(span)?, losses)?;
                return Ok(Some(span));
            }
        }
        let busy = Hint::Busy(Use { node: self.node, class: 0 });
        run.into_iter().try_for_each(|span| self.table.set_hint(span, busy))?;
        Ok(None)
    }

    /// Gives spans back of which this thread has made parts.
    pub(super) fn give_spans(&self, run: Range<usize>, losses: &mut Losses) -> Result<(), AccessError> {
        // The first of them last: until then nobody takes it for the beginning of something else.
        for span in run.rev() {
            let given = self.table.change_part(span, Kind::None, 0).map(Some);
            if losses.pass(given)?.is_some() {
                self.table.set_hint(span, Hint::Free)?;
            }
        }
        Ok(())
    }
}
