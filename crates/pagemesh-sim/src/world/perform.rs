//! Performs one action, and refuses what its description forbids.

use super::World;
use crate::breach::Breach;
use crate::event::Words;
use crate::network::Parcel;
use crate::node::{Proposal, Rights};
use crate::sabotage::Sabotage;
use pagemesh_protocol::{
    Access, Action, Collect, Hint, Message, NodeId, PageAddress, Payload, RegionId, RegionSpec, View,
};

impl World {
    pub(super) fn perform(
        &mut self,
        at: usize,
        action: &Action,
        payload: Option<(PageAddress, Words)>,
    ) -> Result<(), Breach> {
        match *action {
            Action::Send { to, message, payload } => self.send(at, to, message, payload),
            Action::Fill(page) => match payload {
                Some((of, words)) if of == page => self.fill(at, page, words, Sabotage::SkipFill),
                _ => Err(Breach::Action(format!("n{at}: Fill({page:?}) without that page's bytes"))),
            },
            Action::FillZero(page) => self.fill(at, page, Words::default(), Sabotage::SkipZero),
            Action::Postpone => {
                self.nodes[at].postponed_at = Some(self.time + self.pause(at));
                Ok(())
            }
            Action::Hurry(node) => {
                if node.index() == at || node.index() >= self.nodes.len() {
                    return Err(Breach::Action(format!("n{at} hurries {node:?}")));
                }
                let link = self.network.link(at, node.index());
                if self.config.puts_off && self.nodes[node.index()].alive && !self.network.is_broken(link) {
                    self.counts.hurried += 1;
                    self.network.push(link, self.time, 0, Parcel::Hurry);
                }
                Ok(())
            }
            Action::AwaitUnpin(wait) => {
                self.pins.awaited(at, wait);
                Ok(())
            }
            Action::MapRead(page) => self.give(at, page, &[Rights::None, Rights::Read], Rights::Read),
            Action::MapWrite(page) => self.give(at, page, &[Rights::None, Rights::Write], Rights::Write),
            Action::Unprotect(page) => self.give(at, page, &[Rights::Read], Rights::Write),
            Action::Protect(page) => {
                self.take(at, page, &[Rights::Write], Rights::Read, Sabotage::LoseProtect)
            }
            Action::Unmap(page) => {
                self.take(at, page, &[Rights::Read, Rights::Write], Rights::None, Sabotage::LoseUnmap)
            }
            Action::MapRegion { region, round, spec } => {
                let at_time = self.time + self.pause(at);
                self.nodes[at].proposals.push_back(Proposal { at: at_time, region, round, spec: Some(spec) });
                Ok(())
            }
            Action::UnmapRegion(region) => self.unmap_region(at, region),
            Action::ForgetRegion(region) => {
                // Calls for it were given up, and nobody else had asked for it.
                self.nodes[at].unmap_region(region);
                let at_time = self.time + self.pause(at);
                self.nodes[at].proposals.push_back(Proposal { at: at_time, region, round: 0, spec: None });
                Ok(())
            }
            Action::Atomic { page, operation, requester, ticket, answer } => {
                self.operate(at, page, operation, (requester, ticket, answer))
            }
            Action::Complete { ticket, outcome } => self.complete(at, ticket, outcome),
            Action::TakePiece { .. } => Err(Breach::Action(format!("n{at}: {action:?}, but nobody met"))),
            Action::SendDiff { .. }
            | Action::MakeTwin(_)
            | Action::TwinWhileWritten(_)
            | Action::Flush { .. }
            | Action::DropTwin(_)
            | Action::Adopt(_)
            | Action::Update(_)
            | Action::FillAround(_)
            | Action::ApplyMarked(_)
            | Action::ApplyDiff(_) => {
                Err(Breach::Action(format!("n{at}: {action:?}, but no region here has twins")))
            }
            Action::SendBytes { .. } | Action::StoreBytes(_) | Action::Materialise(_) => {
                Err(Breach::Action(format!("n{at}: {action:?}, but no region here has ranges")))
            }
            Action::Departed(node) => {
                if self.nodes[node.index()].said_goodbye {
                    return Ok(());
                }
                Err(Breach::Action(format!("n{at}: {node:?} is said to have departed and has not")))
            }
        }
    }

    fn unmap_region(&mut self, at: usize, region: RegionId) -> Result<(), Breach> {
        let used = self.nodes[at]
            .region(region)
            .is_some_and(|mapped| mapped.pages.iter().any(|copy| copy.rights != Rights::None));
        if used {
            return Err(Breach::Region(format!("n{at}: region {} is unmapped while in use", region.0)));
        }
        if self.nodes[at].unmap_region(region) {
            return Ok(());
        }
        Err(Breach::Action(format!("n{at}: region {} is unmapped, but was not mapped", region.0)))
    }

    fn fill(&mut self, at: usize, page: PageAddress, words: Words, skip: Sabotage) -> Result<(), Breach> {
        self.touched.push(page);
        let skipped = self.saboteur.strikes(skip);
        match self.nodes[at].copy_mut(page) {
            Some(copy) if copy.rights == Rights::None => {
                if !skipped {
                    copy.words = words;
                }
                Ok(())
            }
            copy => Err(Breach::Action(format!("n{at}: {page:?} is filled, but is {copy:?}"))),
        }
    }

    /// Gives the application rights; from then on it may look, so everything has to be right at once.
    fn give(&mut self, at: usize, page: PageAddress, from: &[Rights], to: Rights) -> Result<(), Breach> {
        let served = self.nodes[at].rights(page) < to;
        self.change(at, page, from, to)?;
        // Who asks for what it has is not served by its home.
        if served && self.nodes[at].engine.home(page) == Some(self.nodes[at].id) {
            self.note_service(page, self.nodes[at].id)?;
        }
        if let Some(truth) = self.truth.page_mut(page) {
            truth.touched = true;
        }
        self.check_exclusion(page)?;
        self.check_bytes(at, page)
    }

    fn take(
        &mut self,
        at: usize,
        page: PageAddress,
        from: &[Rights],
        to: Rights,
        fault: Sabotage,
    ) -> Result<(), Breach> {
        if self.saboteur.strikes(fault) {
            self.touched.push(page);
            return Ok(());
        }
        self.change(at, page, from, to)
    }

    fn change(&mut self, at: usize, page: PageAddress, from: &[Rights], to: Rights) -> Result<(), Breach> {
        self.touched.push(page);
        self.pins.rights_become(at, page, to)?;
        match self.nodes[at].copy_mut(page) {
            Some(copy) if from.contains(&copy.rights) => {
                copy.rights = to;
                Ok(())
            }
            copy => Err(Breach::Action(format!("n{at}: {page:?} is to become {to:?}, but is {copy:?}"))),
        }
    }

    pub(super) fn send(
        &mut self,
        at: usize,
        to: NodeId,
        message: Message,
        payload: Option<PageAddress>,
    ) -> Result<(), Breach> {
        if to.index() == at || to.index() >= self.nodes.len() {
            return Err(Breach::Action(format!("n{at} sends to {to:?}: {message:?}")));
        }
        if payload.is_some() != (message.payload() == Payload::Page) {
            return Err(Breach::Action(format!("n{at} sends a payload {payload:?} with {message:?}")));
        }
        check_wire(&message)?;
        let words = match payload {
            Some(page) => Some(self.read_payload(at, page, &message)?),
            None => None,
        };
        self.observe_sync(at, to, &message)?;
        self.observe_service(at, to, &message)?;
        let message = self.plant_second_home(to, message);
        self.counts.messages += 1;
        self.counts.gathered += u64::from(matches!(message, Message::BarrierGathered { .. }));
        if let Message::Hint { step, .. } = message {
            self.counts.hinted += u64::from(step == Hint::Got(true));
            self.counts.hinted_wrongly += u64::from(step == Hint::Miss);
        }
        self.counts.dissolved += u64::from(matches!(message, Message::BarrierDissolve { .. }));
        self.counts.payloads += u64::from(words.is_some());
        self.post(at, to.index(), message, words);
        Ok(())
    }

    /// The page as it is now: rights that the receiver's access excludes must be gone.
    fn read_payload(&mut self, at: usize, page: PageAddress, message: &Message) -> Result<Words, Breach> {
        let rights = self.nodes[at].rights(page);
        let most = match message {
            Message::Data { access: Access::Write, .. } | Message::Collect { step: Collect::Data(_), .. } => {
                Rights::None
            }
            _ => Rights::Read,
        };
        if rights > most {
            return Err(Breach::Action(format!("n{at} sends {page:?} while it has {rights:?}: {message:?}")));
        }
        let words = self
            .bytes(at, page)
            .ok_or_else(|| Breach::Action(format!("n{at} sends {page:?}, which is not mapped")))?;
        if let Some(truth) = self.truth.page(page)
            && truth.previous != words
            && self.saboteur.strikes(Sabotage::StaleData)
        {
            return Ok(truth.previous);
        }
        Ok(words)
    }

    /// Puts a message on its link; what is sent to a dead node is gone.
    pub(super) fn post(&mut self, from: usize, to: usize, message: Message, payload: Option<Words>) {
        let link = self.network.link(from, to);
        let dead = !self.nodes[to].alive || self.network.is_broken(link);
        let lost = self.saboteur.strikes(Sabotage::LoseMessage);
        let copies = if self.saboteur.strikes(Sabotage::RepeatMessage) { 2 } else { 1 };
        if dead || lost {
            return;
        }
        let may_wait = self.config.puts_off && message.may_wait();
        for _ in 0..copies {
            self.note_departure(&message);
            let parcel = Parcel::Message { message, payload };
            if may_wait && self.network.put_off(link, parcel) {
                self.counts.put_off += 1;
            } else {
                self.network.release_from(from, self.time);
                self.network.push(link, self.time, 0, parcel);
            }
        }
        if self.network.length(link) > 1 && self.saboteur.strikes(Sabotage::SwapMessages) {
            self.network.swap_last(link);
        }
    }

    /// The region that all nodes have agreed on is mapped where it should be, everywhere.
    pub(super) fn check_mapped(&self, region: RegionId, spec: RegionSpec) -> Result<(), Breach> {
        for node in self.nodes.iter().filter(|node| node.alive) {
            let mapped = node.region(region).map(|mapped| mapped.spec);
            if mapped != Some(spec) {
                let id = region.0;
                let node = node.id;
                return Err(Breach::Region(format!(
                    "region {id} was agreed as {spec:?}, {node:?} has {mapped:?}"
                )));
            }
        }
        Ok(())
    }
}

/// What is sent must be what arrives.
fn check_wire(message: &Message) -> Result<(), Breach> {
    let mut bytes = [0; Message::MAX_BYTES];
    let count = message.encode(View::FIRST, &mut bytes);
    match Message::decode(&bytes[..count]) {
        Ok((View::FIRST, decoded)) if decoded == *message => Ok(()),
        other => Err(Breach::Wire(format!("{message:?} was read as {other:?}"))),
    }
}
