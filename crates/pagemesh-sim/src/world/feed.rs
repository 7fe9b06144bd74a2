//! Gives one event to one engine and has its actions performed.

use super::World;
use crate::breach::Breach;
use crate::event::{Event, Wanted, Words, page_of};
use crate::node::Rights;
use crate::sabotage::Sabotage;
use crate::text;
use pagemesh_protocol::{Action, Actions, Message, PageAddress, View};

impl World {
    /// Tells the engine of node `at` what happened and performs what it asks for.
    pub(crate) fn feed(&mut self, at: usize, event: Event) -> Result<(), Breach> {
        let cancelled = match event {
            Event::Cancel { ticket } => self.nodes[at].end_call(ticket).map(|call| call.wanted),
            _ => None,
        };
        self.referee.hears(self.nodes[at].id, &event, cancelled);
        self.note_request(at, &event);
        if let Event::Resumed { ticket } | Event::Cancel { ticket } = event {
            self.nodes[at].set_resuming(ticket, false);
        }
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        let told = self.tell_engine(at, &event, &mut actions);
        self.trace_event(at, &event, &actions);
        told?;
        self.plant_early_send(&mut actions);
        let payload = match event {
            Event::Message { message, payload: Some(words), .. } => page_of(&message).map(|p| (p, words)),
            _ => None,
        };
        let performed = self.perform_all(at, &actions, payload);
        self.actions = actions;
        performed?;
        // Calls made by hand have no thread that would go on.
        while let Some((at, ticket)) = self.used.pop() {
            self.feed(at, Event::Resumed { ticket })?;
        }
        Ok(())
    }

    /// A home hears that a node, or itself, wants a page.
    fn note_request(&mut self, at: usize, event: &Event) {
        let node = &self.nodes[at];
        match *event {
            // What a dead node asked is dropped as soon as the home learns of its death.
            Event::Message { from, message: Message::PageRequest { page, .. }, .. }
                if self.nodes[from.index()].alive =>
            {
                self.turns.asks(page, from);
            }
            Event::Message { message: Message::HomeNamed { page, home, .. }, .. } if home == node.id => {
                self.turns.asks(page, home);
            }
            Event::Fault { ticket, page, access } | Event::Prefetch { ticket, page, access } => {
                let joins = node.waiting().any(|call| {
                    call.ticket != ticket
                        && matches!(call.wanted, Wanted::Page { page: other, .. } if other == page)
                });
                if !joins
                    && node.engine.home(page) == Some(node.id)
                    && !node.engine.page_state(page).allows(access)
                {
                    self.turns.asks(page, node.id);
                }
            }
            _ => {}
        }
    }

    fn tell_engine(&mut self, at: usize, event: &Event, out: &mut Actions) -> Result<(), Breach> {
        let engine = &mut self.nodes[at].engine;
        match *event {
            Event::Message { from, message, .. } => engine.on_message(from, View::FIRST, &message, out)?,
            Event::Fault { ticket, page, access } => engine.on_fault(ticket, page, access, out),
            Event::Prefetch { ticket, page, access } => engine.on_prefetch(ticket, page, access, out),
            Event::Evict { page } => engine.on_evict(page, out),
            Event::Resumed { ticket } => engine.on_resumed(ticket, out),
            Event::Postponed => engine.on_postponed(out),
            Event::Pin { ticket, pin, holder, page, access } => {
                engine.on_pin(ticket, (pin, holder), page, access, out);
            }
            Event::Unpin { pin } => {
                let taken = engine.on_unpin(pin, out);
                self.pins.ends(at, pin, taken)?;
            }
            Event::PinsExpired { up_to } => {
                self.pins.expires(at, up_to);
                engine.on_pins_expired(up_to, out);
            }
            Event::HomeQuery { ticket, page } => engine.on_home_query(ticket, page, out),
            Event::OwnerQuery { ticket, page } => engine.on_owner_query(ticket, page, out),
            Event::LockAcquire { ticket, lock } => engine.on_lock_acquire(ticket, lock, out),
            Event::LockTry { ticket, lock } => engine.on_lock_try(ticket, lock, out),
            Event::LockRelease { ticket, lock } => engine.on_lock_release(ticket, lock, out),
            Event::BarrierArrive { ticket, barrier, participants } => {
                engine.on_barrier_arrive(ticket, barrier, participants, out);
            }
            Event::RegionOpen { ticket, create, spec } => engine.on_region_open(ticket, create, spec, out),
            Event::RegionMapped { region, round, mapped } => {
                engine.on_region_mapped(region, round, mapped, out);
            }
            Event::RegionForgotten { region } => engine.on_region_forgotten(region, out),
            Event::Atomic { ticket, page, operation } => engine.on_atomic(ticket, page, operation, out),
            Event::AtomicGiveUp { ticket } => engine.on_atomic_give_up(ticket, out),
            Event::Cancel { ticket } => engine.on_cancel(ticket, out),
            Event::PeerLost { node } => engine.on_peer_lost(node, out),
            Event::Leave { ticket } => engine.on_leave(ticket, out),
        }
        Ok(())
    }

    /// A planted fault: a page's bytes leave before its rights are taken away.
    fn plant_early_send(&mut self, actions: &mut Actions) {
        let send = actions.iter().position(|action| matches!(action, Action::Send { payload: Some(_), .. }));
        if let Some(place) = send.filter(|place| *place > 0) {
            let removal = matches!(actions[place - 1], Action::Unmap(_) | Action::Protect(_));
            if removal && self.saboteur.strikes(Sabotage::SendBeforeUnmap) {
                actions.swap(place - 1, place);
            }
        }
    }

    fn perform_all(
        &mut self,
        at: usize,
        actions: &Actions,
        payload: Option<(PageAddress, Words)>,
    ) -> Result<(), Breach> {
        for action in actions {
            if self.config.faults.interleave_percent > 0
                && self.schedule.chance(self.config.faults.interleave_percent)
            {
                self.interlope(at)?;
            }
            self.perform(at, action, payload)?;
        }
        Ok(())
    }

    /// One line: step, time, node, page, its state before and after, what happened, what the engine wants done.
    fn trace_event(&mut self, at: usize, event: &Event, actions: &Actions) {
        if !self.trace.is_on() {
            return;
        }
        let (time, step, node) = (self.time, self.counts.steps, &self.nodes[at]);
        let page = event.page().or_else(|| actions.iter().find_map(text::action_page));
        let name = page.map_or_else(|| "-".to_owned(), |page| format!("{page:?}"));
        // The actions are not performed yet: the rights are still those before the event.
        let states = page.map(|page| (node.rights(page), Rights::of(node.engine.page_state(page))));
        let states = match states {
            Some((before, after)) if before == after => before.state().to_owned(),
            Some((before, after)) => format!("{}->{}", before.state(), after.state()),
            None => "-".to_owned(),
        };
        let mut line = format!("{step:>6} {time:>8}us n{at} {name:<6} {states:<17} {}", text::event(event));
        if !actions.is_empty() {
            line.push_str(" =>");
        }
        for action in actions {
            line.push(' ');
            line.push_str(&text::action(action));
        }
        self.trace.line(|| line);
    }

    /// Whether the application of node `at` may do this.
    pub(super) fn allowed(&self, at: usize, page: PageAddress, needed: Rights) -> bool {
        self.nodes[at].rights(page) >= needed
    }
}
