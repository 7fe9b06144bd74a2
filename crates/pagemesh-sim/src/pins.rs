//! Knows which pages are pinned, as an outside observer who sees every right that is given and taken; and pins by hand.

use crate::breach::Breach;
use crate::event::{Event, Wanted};
use crate::lockstep::Lockstep;
use crate::node::Rights;
use pagemesh_protocol::{Access, PageAddress, PinHolder, PinId, PinWait, Ticket};

/// A page that is pinned.
#[derive(Clone, Copy, Debug)]
struct Held {
    node: usize,
    pin: PinId,
    page: PageAddress,
    needs: Rights,
    /// Deadlines that had passed at this node when it came.
    deadlines: u64,
    /// It went in the meantime.
    taken: bool,
}

/// All pins of a run.
#[derive(Clone, Debug)]
pub(crate) struct PinBoard {
    held: Vec<Held>,
    /// Of each node, waits for its pins whose deadline has not passed.
    pub(crate) waits: Vec<Vec<PinWait>>,
    /// Of each node, how many deadlines have passed.
    deadlines: Vec<u64>,
    /// Pages that were pinned, and those of them that a deadline took.
    pub(crate) pages: u64,
    pub(crate) taken: u64,
    /// Waits that ever began.
    pub(crate) awaited: u64,
}

fn needs(access: Access) -> Rights {
    match access {
        Access::Read => Rights::Read,
        Access::Write => Rights::Write,
    }
}

impl PinBoard {
    pub(crate) fn new(nodes: u16) -> PinBoard {
        let nodes = nodes as usize;
        PinBoard {
            held: Vec::new(),
            waits: vec![Vec::new(); nodes],
            deadlines: vec![0; nodes],
            pages: 0,
            taken: 0,
            awaited: 0,
        }
    }

    /// A page came and is pinned from now on.
    pub(crate) fn begins(&mut self, node: usize, pin: PinId, page: PageAddress, access: Access) {
        self.pages += 1;
        let deadlines = self.deadlines[node];
        self.held.push(Held { node, pin, page, needs: needs(access), deadlines, taken: false });
    }

    /// Somebody begins to wait for pins of `node`.
    pub(crate) fn awaited(&mut self, node: usize, wait: PinWait) {
        self.awaited += 1;
        self.waits[node].push(wait);
    }

    /// The deadline of waits at `node` has passed.
    pub(crate) fn expires(&mut self, node: usize, up_to: PinWait) {
        self.waits[node].retain(|wait| *wait > up_to);
        self.deadlines[node] += 1;
    }

    /// The application of `node` will have these rights: a pin allows fewer than it needs only after a deadline.
    pub(crate) fn rights_become(&mut self, node: usize, page: PageAddress, to: Rights) -> Result<(), Breach> {
        let deadlines = self.deadlines[node];
        for held in self.held.iter_mut().filter(|held| (held.node, held.page) == (node, page)) {
            if to >= held.needs || held.taken {
                continue;
            }
            if held.deadlines == deadlines {
                return Err(Breach::Pin(format!(
                    "n{node}: {held:?} is left with {to:?} before any deadline"
                )));
            }
            held.taken = true;
            self.taken += 1;
        }
        Ok(())
    }

    /// `pin` ends, and says which page went before.
    pub(crate) fn ends(&mut self, node: usize, pin: PinId, told: Option<PageAddress>) -> Result<(), Breach> {
        let lost = |held: &Held| (held.node, held.pin) == (node, pin) && held.taken;
        let taken: Vec<PageAddress> =
            self.held.iter().filter(|held| lost(held)).map(|held| held.page).collect();
        self.held.retain(|held| (held.node, held.pin) != (node, pin));
        let fits = told.map_or(taken.is_empty(), |page| taken.contains(&page));
        if fits {
            return Ok(());
        }
        Err(Breach::Pin(format!("n{node}: the end of {pin:?} tells of {told:?}, but {taken:?} were taken")))
    }

    /// Whether `page` is still held for `pin`.
    pub(crate) fn is_held(&self, node: usize, pin: PinId, page: PageAddress) -> bool {
        self.held.iter().any(|held| (held.node, held.pin, held.page, held.taken) == (node, pin, page, false))
    }
}

/// Pins, by hand.
impl Lockstep {
    /// Thread `holder` of node `node` pins `page`, as a part of `pin`; the answer comes with later deliveries.
    ///
    /// # Errors
    /// When a check fails.
    pub fn pin(
        &mut self,
        node: usize,
        (pin, holder): (u64, u64),
        page: PageAddress,
        access: Access,
    ) -> Result<Ticket, Breach> {
        let (pin, holder) = (PinId(pin), PinHolder(holder));
        let ticket = self.begin(node, Wanted::Pin { pin, page, access });
        self.feed(node, Event::Pin { ticket, pin, holder, page, access })?;
        Ok(ticket)
    }

    /// Node `node` ends a pin.
    ///
    /// # Errors
    /// When a check fails.
    pub fn unpin(&mut self, node: usize, pin: u64) -> Result<(), Breach> {
        self.feed(node, Event::Unpin { pin: PinId(pin) })
    }

    /// The deadline of all that waits for pins of node `node` has passed; returns how many waits that were.
    ///
    /// # Errors
    /// When a check fails.
    pub fn expire_pins(&mut self, node: usize) -> Result<usize, Breach> {
        let waits = self.pin_waits(node);
        if let Some(up_to) = self.world.pins.waits[node].last().copied() {
            self.feed(node, Event::PinsExpired { up_to })?;
        }
        Ok(waits)
    }

    /// How many waits for pins of node `node` have begun whose deadline has not passed.
    pub fn pin_waits(&self, node: usize) -> usize {
        self.world.pins.waits[node].len()
    }

    /// Pages that deadlines took from pins until now.
    pub fn pins_taken(&self) -> u64 {
        self.world.pins.taken
    }
}
