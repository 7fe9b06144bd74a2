//! What messages that came together ask of the memory, done together.
//!
//! To grant a page or to take it away costs a system call, and for sixteen neighbours hardly more than for one (Linux 6.18: 0.8 us for one
//! UFFDIO_CONTINUE, 3.9 for sixteen; taking rights away interrupts the other processors once a call). Where one `recv(2)`
//! brings many messages, those about neighbouring pages mostly ask for the same. So what such a message asks for is put off until the
//! next one asks for something else, or none is left, and then done for all pages by one call.
//!
//! Nobody can see that it was put off: the shard's lock is held from the first such message until all is done. Within it the order is that
//! of the engine, but for one thing: the rights to a page are taken before what earlier messages of the row have sent is
//! queued, which is earlier than asked for. Bytes go into the service view at once, since they are the receive buffer's.

use super::Runtime;
use super::shard::{ACTIONS, Load, Shard};
use pagemesh_memory::PageRange;
use pagemesh_protocol::{Access, Action, Actions, PageAddress};

/// What happens to the rights to a row of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    MapRead,
    MapWrite,
    Unprotect,
    Protect,
    Unmap,
}

impl Change {
    fn of(action: &Action) -> Option<(Change, PageAddress)> {
        match *action {
            Action::MapRead(page) => Some((Change::MapRead, page)),
            Action::MapWrite(page) => Some((Change::MapWrite, page)),
            Action::Unprotect(page) => Some((Change::Unprotect, page)),
            Action::Protect(page) => Some((Change::Protect, page)),
            Action::Unmap(page) => Some((Change::Unmap, page)),
            _ => None,
        }
    }

    fn action(self, page: PageAddress) -> Action {
        match self {
            Change::MapRead => Action::MapRead(page),
            Change::MapWrite => Action::MapWrite(page),
            Change::Unprotect => Action::Unprotect(page),
            Change::Protect => Action::Protect(page),
            Change::Unmap => Action::Unmap(page),
        }
    }

    fn takes_rights(self) -> bool {
        matches!(self, Change::Protect | Change::Unmap)
    }
}

/// All that one message asks for, where it is a change of one page and then messages and calls that end.
struct Step<'a> {
    /// [`Action::Fill`] or [`Action::FillZero`] of the page.
    fill: Option<&'a Action>,
    /// It gets a twin, before anybody can write it.
    twin: bool,
    change: Change,
    page: PageAddress,
    rest: &'a [Action],
}

impl Step<'_> {
    fn of(actions: &[Action]) -> Option<Step<'_>> {
        let (first, after) = actions.split_first()?;
        let fill = matches!(first, Action::Fill(_) | Action::FillZero(_)).then_some(first);
        let (mut changing, mut rest) = if fill.is_some() { after.split_first()? } else { (first, after) };
        let twin = match *changing {
            Action::MakeTwin(page) if fill.is_some() => Some(page),
            _ => None,
        };
        if twin.is_some() {
            (changing, rest) = rest.split_first()?;
        }
        let (change, page) = Change::of(changing)?;
        let filled = match fill {
            Some(Action::Fill(filled) | Action::FillZero(filled)) => {
                *filled == page && !change.takes_rights() && twin.is_none_or(|twin| twin == page)
            }
            _ => true,
        };
        // Bytes that are sent are read when the row is done; those of a page that was just filled are not known to stay.
        let may_wait = |action: &Action| match action {
            Action::Send { payload, .. } => payload.is_none() || change.takes_rights(),
            Action::Complete { .. } => true,
            _ => false,
        };
        (filled && rest.iter().all(may_wait)).then_some(Step {
            fill,
            twin: twin.is_some(),
            change,
            page,
            rest,
        })
    }
}

/// A row of neighbouring pages with one change to come, and what is to be done after it.
pub(super) struct PutOff {
    row: Option<(Change, PageAddress, u64)>,
    later: Actions,
}

impl PutOff {
    pub(super) fn new() -> PutOff {
        PutOff { row: None, later: Vec::with_capacity(ACTIONS) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.row.is_none()
    }

    /// Whether `step` lengthens the row.
    fn is_next(&self, step: &Step<'_>) -> bool {
        self.row.is_some_and(|(change, first, count)| {
            change == step.change
                && first.region == step.page.region
                && first.page + count == step.page.page
                && self.later.len() + step.rest.len() <= ACTIONS
        })
    }
}

impl Shard {
    /// Puts off what `actions` ask for, all of it, if it can wait for the messages behind. What was put off before is done first
    /// where it does not go with it.
    pub(super) fn put_off(&mut self, runtime: &Runtime, load: Load<'_>, actions: &[Action]) -> bool {
        let Some(step) = Step::of(actions).filter(|step| step.rest.len() <= ACTIONS) else { return false };
        if step.change == Change::MapRead && self.ahead.arrives(step.page) {
            // Left unmapped until a thread comes to it, and nobody waits for it.
            if !self.fill(runtime, load, &step) {
                return false;
            }
            self.perform_rest(runtime, step.rest, false);
            return true;
        }
        if matches!(step.change, Change::MapWrite | Change::Unprotect) {
            self.write_ahead.arrives(step.page);
        }
        if !self.put_off.is_next(&step) {
            // Before the bytes of the page are changed, which may be among what is to be sent.
            self.catch_up(runtime);
        }
        if !self.fill(runtime, load, &step) {
            return false;
        }
        let (_, _, count) = self.put_off.row.get_or_insert((step.change, step.page, 0));
        *count += 1;
        self.put_off.later.extend_from_slice(step.rest);
        true
    }

    /// Puts the bytes of a step in their place. False when there is no room for a twin: then it is to be done by itself, and fails.
    fn fill(&mut self, runtime: &Runtime, load: Load<'_>, step: &Step<'_>) -> bool {
        if let Some(fill) = step.fill {
            self.change_page(runtime, load, fill);
        }
        !step.twin || self.make_twin(step.page)
    }

    /// Does what was put off.
    pub(super) fn catch_up(&mut self, runtime: &Runtime) {
        let Some((change, first, count)) = self.put_off.row.take() else { return };
        let pages = PageRange::new(first.page, count);
        let done = match change {
            Change::Protect | Change::Unmap => {
                self.take_row(runtime, &change.action(first), pages, first);
                true
            }
            Change::MapRead => self.map_read_row(first, count),
            Change::MapWrite => self.mapped(first).pager().map(pages, pagemesh_memory::Access::Write).is_ok(),
            Change::Unprotect => self.mapped(first).pager().unprotect(pages).is_ok(),
        };
        let mut later = std::mem::take(&mut self.put_off.later);
        self.perform_rest(runtime, &later, !done);
        later.clear();
        self.put_off.later = later;
    }

    /// Makes `count` pages readable, and with them what was asked for ahead and lies next to them. False when the kernel refused.
    pub(super) fn map_read_row(&mut self, first: PageAddress, count: u64) -> bool {
        let may = |page| self.engine.page_state(page).allows(Access::Read);
        let pages = self.ahead.take_run(PageRange::new(first.page, count), first.region, may);
        self.mapped(first).pager().map(pages, pagemesh_memory::Access::Read).is_ok()
    }

    fn perform_rest(&self, runtime: &Runtime, rest: &[Action], refused: bool) {
        for action in rest {
            match *action {
                Action::Send { to, ref message, payload } => self.send(runtime, to, message, payload),
                Action::Complete { ticket, outcome } => Shard::complete(runtime, ticket, outcome, refused),
                _ => unreachable!("only messages and calls that end come after a change that is put off"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagemesh_protocol::{Message, NodeId, Outcome, RegionId, RequestId, Ticket};

    fn page(page: u64) -> PageAddress {
        PageAddress::new(RegionId(0), page)
    }

    fn data(page: PageAddress) -> Action {
        let message = Message::Data { page, request: RequestId(1), access: Access::Read };
        Action::Send { to: NodeId::new(1), message, payload: Some(page) }
    }

    fn complete() -> Action {
        Action::Complete { ticket: Ticket::new(0, 1), outcome: Outcome::Done }
    }

    #[test]
    fn what_is_one_change_and_then_messages_or_ends_of_calls_can_wait() {
        let grant = [Action::Fill(page(3)), Action::MapRead(page(3)), complete()];
        let step = Step::of(&grant).unwrap();
        assert_eq!((step.change, step.page, step.rest.len()), (Change::MapRead, page(3), 1));
        let noted = [Action::Fill(page(3)), Action::MakeTwin(page(3)), Action::MapRead(page(3)), complete()];
        let step = Step::of(&noted).unwrap();
        assert_eq!((step.change, step.twin, step.rest.len()), (Change::MapRead, true, 1));
        let supply = [Action::Protect(page(3)), data(page(3))];
        assert_eq!(Step::of(&supply).unwrap().change, Change::Protect);
        assert!(Step::of(&[Action::Unprotect(page(3)), complete()]).is_some());
    }

    #[test]
    fn whatever_else_cannot_wait() {
        let other: [&[Action]; 9] = [
            &[Action::MakeTwin(page(3)), Action::MapWrite(page(3))],
            &[Action::Fill(page(3)), Action::MakeTwin(page(4)), Action::MapRead(page(3))],
            &[Action::Fill(page(3)), Action::MakeTwin(page(3)), complete()],
            &[],
            &[complete()],
            &[data(page(3))],
            &[Action::Fill(page(3)), Action::MapRead(page(4))],
            &[Action::Fill(page(3)), Action::MapRead(page(3)), data(page(3))],
            &[Action::Unmap(page(3)), data(page(3)), Action::Unmap(page(4))],
        ];
        assert!(other.iter().all(|actions| Step::of(actions).is_none()));
    }

    #[test]
    fn a_row_is_of_neighbours_with_one_change() {
        let mut put_off = PutOff::new();
        put_off.row = Some((Change::Unmap, page(3), 2));
        let next = |change: Change, at| {
            put_off.is_next(&Step { fill: None, twin: false, change, page: page(at), rest: &[] })
        };
        assert!(next(Change::Unmap, 5));
        assert!(!next(Change::Unmap, 4) && !next(Change::Unmap, 6) && !next(Change::Protect, 5));
    }
}
