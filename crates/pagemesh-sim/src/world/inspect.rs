//! The invariants.

use super::World;
use crate::breach::Breach;
use crate::node::{Node, Rights};
use crate::thread::Activity;
use pagemesh_protocol::{DirectoryState, NodeId, NodeSet, PageAddress, PageState, Protocol};

impl World {
    /// Checks the pages that the last step touched.
    pub(super) fn check_touched(&mut self) -> Result<(), Breach> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.dedup();
        let pages = if self.config.instant_checks { &touched[..] } else { &[] };
        let checked = pages.iter().try_for_each(|page| self.check_page(*page));
        touched.clear();
        self.touched = touched;
        checked
    }

    /// Checks every page.
    pub(super) fn check_all(&self) -> Result<(), Breach> {
        if !self.config.instant_checks {
            return Ok(());
        }
        self.truth.pages().try_for_each(|page| self.check_page(page))
    }

    fn check_page(&self, page: PageAddress) -> Result<(), Breach> {
        self.check_exclusion(page)?;
        self.check_home(page)?;
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            let (rights, state) = (node.rights(page), node.engine.page_state(page));
            if rights != Rights::of(state) {
                return Err(Breach::Rights(format!(
                    "n{index}: the application has {rights:?} of {page:?}, the engine says {state}"
                )));
            }
            self.check_bytes(index, page)?;
        }
        self.check_directory(page)
    }

    /// Everyone who knows the home of a page knows the same.
    fn check_home(&self, page: PageAddress) -> Result<(), Breach> {
        let homes = || self.nodes.iter().filter_map(|node| node.engine.home(page));
        let first = homes().next();
        if homes().all(|home| Some(home) == first) {
            return Ok(());
        }
        Err(Breach::Home(format!("{page:?} is said to have its home at {:?}", homes().collect::<Vec<_>>())))
    }

    /// One writer and nobody else, or any number of readers; where pages migrate, one holder.
    pub(super) fn check_exclusion(&self, page: PageAddress) -> Result<(), Breach> {
        let (mut writers, mut users) = (0, 0);
        for node in self.nodes.iter().filter(|node| node.alive) {
            let rights = node.rights(page);
            if rights > Rights::None && self.is_counted(node.id.index(), page) {
                users += 1;
                writers += u32::from(rights == Rights::Write);
            }
        }
        if users <= 1 || !self.config.instant_checks {
            return Ok(());
        }
        let protocol = self.nodes.iter().find_map(|node| Some(node.engine.region(page.region)?.protocol));
        if writers == 0 && protocol != Some(Protocol::Migration) {
            return Ok(());
        }
        let rights: Vec<Rights> = self.nodes.iter().map(|node| node.rights(page)).collect();
        Err(Breach::Exclusion(format!(
            "{page:?} has {writers} writers and {users} users: {rights:?} by node"
        )))
    }

    /// What the application can read is what was written last.
    pub(super) fn check_bytes(&self, at: usize, page: PageAddress) -> Result<(), Breach> {
        let (Some(copy), Some(truth)) = (self.nodes[at].copy(page), self.truth.page(page)) else {
            return Ok(());
        };
        let fine = copy.rights == Rights::None || copy.words == truth.latest;
        if fine || !self.config.instant_checks || !self.is_counted(at, page) {
            return Ok(());
        }
        Err(Breach::Data(format!(
            "n{at} can read {page:?} as {:x?}; the latest is {:x?}",
            copy.words, truth.latest
        )))
    }

    /// Nothing about a page is on its way, nor waits for a thread.
    pub(super) fn is_settled(&self, page: PageAddress) -> bool {
        let waits = |node: &Node| node.alive && node.engine.is_postponed(page);
        self.truth.page(page).is_some_and(|truth| truth.in_flight == 0) && !self.nodes.iter().any(waits)
    }

    /// While nothing about a page is under way and every loss is known, its home knows who has copies.
    fn check_directory(&self, page: PageAddress) -> Result<(), Breach> {
        let quiet = self.closures == 0 && self.is_settled(page);
        let home = self.nodes.iter().find(|node| node.alive && node.engine.directory(page).is_some());
        let (true, Some(home)) = (quiet, home) else { return Ok(()) };
        if self.is_cut_off(home.id.index()) {
            return Ok(());
        }
        let Some(entry) = home.engine.directory(page).filter(|entry| entry.busy.is_none()) else {
            return Ok(());
        };
        let live = self.nodes.iter().filter(|node| node.alive);
        let alive: NodeSet = live.clone().map(|node| node.id).collect();
        let state_of = |id: pagemesh_protocol::NodeId| self.nodes[id.index()].engine.page_state(page);
        let copies: NodeSet = alive.iter().filter(|id| state_of(*id) != PageState::Invalid).collect();
        let known = entry.holders.and(alive);
        let writer = alive.iter().find(|id| state_of(*id) == PageState::Modified);
        let fits = match entry.state {
            DirectoryState::Shared(owner) => {
                copies == known && writer.is_none() && (known.contains(owner) || !alive.contains(owner))
            }
            DirectoryState::Modified(owner) if alive.contains(owner) => {
                copies == NodeSet::only(owner) && known == copies && writer == Some(owner)
            }
            // Nobody touched it, or the only copy is known to be lost, or will be found to be.
            DirectoryState::Untouched | DirectoryState::Lost(_) | DirectoryState::Modified(_) => {
                // An owner that dies before its home has heard of a reader takes the page with it.
                copies.is_empty() || self.config.hint_patience > 0 && writer.is_none()
            }
        };
        if fits {
            return Ok(());
        }
        Err(Breach::Directory(format!(
            "{page:?}: the directory at {:?} says {entry:?}, the copies are at {copies:?}, the writer is {writer:?}",
            home.id
        )))
    }

    /// Nothing can happen any more: everything has to be over, and everybody to agree.
    pub(crate) fn check_end(&self) -> Result<(), Breach> {
        for thread in &self.threads {
            if thread.activity != Activity::Over {
                let (index, node, activity) = (thread.index, thread.node, thread.activity);
                let step = thread.plan.front();
                return Err(Breach::Stuck(format!(
                    "thread {index} of n{node} will wait for ever at {step:?}: {activity:?}"
                )));
            }
        }
        self.check_all()?;
        // Where two have lost each other, a third may wait for what one was to send the other; and who leaves waits for all.
        let all_trust = self.severed.is_empty();
        for node in self.nodes.iter().filter(|node| all_trust && node.alive && !node.called_leave) {
            if let Some(call) = node.waiting().next() {
                return Err(Breach::Stuck(format!("{:?}: {call:?} was never answered", node.id)));
            }
            if !node.engine.is_quiet() {
                return Err(Breach::Stuck(format!("{:?} has work left and nobody to give it", node.id)));
            }
        }
        self.check_owners()
    }

    /// A page that was used has exactly one who answers for it.
    fn check_owners(&self) -> Result<(), Breach> {
        for page in self.truth.pages() {
            let home = self.nodes.iter().find(|node| node.alive && node.engine.directory(page).is_some());
            let Some(entry) = home.and_then(|node| node.engine.directory(page)) else { continue };
            let used = self.truth.page(page).is_some_and(|truth| truth.touched);
            // A home that has lost a node puts right what it knows of it when the page is used next.
            let reached = |node: NodeId| self.nodes[node.index()].alive && !self.is_cut_off(node.index());
            let wrong = match entry.state {
                DirectoryState::Untouched => used,
                DirectoryState::Shared(owner) | DirectoryState::Modified(owner) => {
                    reached(owner) && !entry.holders.contains(owner)
                }
                DirectoryState::Lost(node) => reached(node),
            };
            if wrong {
                return Err(Breach::Directory(format!("{page:?} ends as {entry:?}, used: {used}")));
            }
        }
        Ok(())
    }

    /// All nodes wanted to leave: each was let go.
    pub(super) fn check_left(&self) -> Result<(), Breach> {
        match self.nodes.iter().find(|node| node.alive) {
            None => Ok(()),
            Some(node) => Err(Breach::Stuck(format!("{:?} wants to leave and is never let go", node.id))),
        }
    }
}
