//! What has to hold in every state of the mesh, seen by somebody who sees all nodes and links at once.

use super::local::{Activity, Local};
use super::plan::{LOCKS, Plan};
use super::store::Facts;
use crate::breach::Breach;
use pagemesh_protocol::{DirectoryState, Failure, NodeId, NodeSet, PageState, Protocol};

/// A state of the mesh; a dead node has none.
pub(super) struct Mesh<'a> {
    pub(super) plan: &'a Plan,
    pub(super) nodes: Vec<Option<&'a Facts>>,
    pub(super) locals: Vec<Option<&'a Local>>,
    /// Pages that messages on their way are about.
    pub(super) pages_under_way: u8,
}

impl Mesh<'_> {
    /// Holds at every moment.
    pub(super) fn check(&self) -> Result<(), Breach> {
        for page in 0..self.plan.pages as usize {
            self.check_exclusion(page)?;
            self.check_home(page)?;
            self.check_directory(page)?;
        }
        self.check_locks()
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Facts)> {
        self.nodes.iter().enumerate().filter_map(|(index, facts)| facts.map(|facts| (index, facts)))
    }

    /// One writer or many readers; where pages migrate, one holder.
    fn check_exclusion(&self, page: usize) -> Result<(), Breach> {
        let with = |least| self.live().filter(|(_, facts)| facts.rights[page] >= least).count();
        let (writers, users) = (with(PageState::Modified), with(PageState::Shared));
        let alone = writers > 0 || self.plan.protocol == Protocol::Migration;
        if users <= 1 || !alone {
            return Ok(());
        }
        Err(Breach::Exclusion(format!("p{page} has {writers} writers and {users} users")))
    }

    /// Everyone who knows the home of a page knows the same.
    fn check_home(&self, page: usize) -> Result<(), Breach> {
        let mut homes = self.live().filter_map(|(_, facts)| facts.homes[page]);
        let Some(first) = homes.next() else { return Ok(()) };
        match homes.find(|home| *home != first) {
            None => Ok(()),
            Some(other) => {
                Err(Breach::Home(format!("p{page} is said to have its home at {first:?} and at {other:?}")))
            }
        }
    }

    /// Nothing about the page is under way, waits for a thread, or comes with the news of a loss.
    fn is_settled(&self, page: usize) -> bool {
        let alive = self.alive();
        self.pages_under_way >> page & 1 == 0
            && self.live().all(|(_, facts)| facts.postponed >> page & 1 == 0 && facts.live == alive)
    }

    fn alive(&self) -> NodeSet {
        self.live().map(|(index, _)| NodeId::new(index as u16)).collect()
    }

    fn holders(&self, page: usize) -> NodeSet {
        let held = self.live().filter(|(_, facts)| facts.rights[page] != PageState::Invalid);
        held.map(|(index, _)| NodeId::new(index as u16)).collect()
    }

    /// When nothing is under way about a page, its home knows who has it.
    fn check_directory(&self, page: usize) -> Result<(), Breach> {
        let entry = self.live().find_map(|(_, facts)| facts.directory[page]);
        let Some(entry) = entry.filter(|entry| entry.busy.is_none() && self.is_settled(page)) else {
            return Ok(());
        };
        let (alive, copies) = (self.alive(), self.holders(page));
        let known = entry.holders.and(alive);
        let writer = self.live().find(|(_, facts)| facts.rights[page] == PageState::Modified);
        let writer = writer.map(|(index, _)| NodeId::new(index as u16));
        let fits = match entry.state {
            DirectoryState::Shared(owner) => {
                copies == known && writer.is_none() && (known.contains(owner) || !alive.contains(owner))
            }
            DirectoryState::Modified(owner) if alive.contains(owner) => {
                copies == NodeSet::only(owner) && known == copies && writer == Some(owner)
            }
            // An owner that dies before its home has heard of a reader takes the page with it.
            _ => copies.is_empty() || self.plan.hints && writer.is_none(),
        };
        if fits {
            return Ok(());
        }
        Err(Breach::Directory(format!(
            "p{page}: its home says {entry:?}, copies are at {copies:?}, the writer is {writer:?}"
        )))
    }

    fn holders_of_lock(&self, lock: usize) -> u8 {
        self.live().map(|(_, facts)| facts.held[lock]).sum()
    }

    fn check_locks(&self) -> Result<(), Breach> {
        for lock in 0..LOCKS {
            let holders = self.holders_of_lock(lock);
            if holders > 1 {
                return Err(Breach::Lock(format!("{holders} threads hold lock {lock}")));
            }
        }
        Ok(())
    }

    /// A call may fail only by a death, and a page may be lost only when nobody has it.
    pub(super) fn check_excuse(&self, node: usize, failure: Failure, page: Option<u8>) -> Result<(), Breach> {
        let excused = match failure {
            Failure::PeerLost(lost) | Failure::Unanswered(lost) => self.nodes[lost.index()].is_none(),
            Failure::PageLost(lost) => {
                let page = page.map(usize::from);
                let is_writable =
                    |page: usize| self.live().any(|(_, facts)| facts.rights[page] == PageState::Modified);
                // A reader that was sent the page by its dead owner may be unknown to the home.
                let is_there =
                    |page| if self.plan.hints { is_writable(page) } else { !self.holders(page).is_empty() };
                let alive = |page| self.is_settled(page) && is_there(page);
                self.nodes[lost.index()].is_none() && !page.is_some_and(alive)
            }
            _ => false,
        };
        if excused {
            return Ok(());
        }
        Err(Breach::Completion(format!("a call of n{node} fails with {failure:?} and nothing excuses it")))
    }

    /// Nothing is under way, so whoever waits must wait for a thread that runs.
    pub(super) fn check_at_rest(&self) -> Result<(), Breach> {
        let locals = || self.locals.iter().enumerate().filter_map(|(index, local)| Some((index, (*local)?)));
        let mut somebody_waits = false;
        for (index, local) in locals() {
            for thread in &local.threads {
                let explained = match thread.activity {
                    Activity::Running => continue,
                    Activity::Page { .. } | Activity::Touching { .. } | Activity::Atomic { .. } => false,
                    Activity::Lock(lock) => self.holders_of_lock(lock as usize) == 1,
                    Activity::Barrier { full } => !full,
                };
                if !explained {
                    return Err(Breach::Stuck(format!("a thread of n{index} waits for ever: {thread:?}")));
                }
                somebody_waits = true;
            }
        }
        for (index, facts) in self.live() {
            let busy = facts.directory.iter().flatten().any(|entry| entry.busy.is_some());
            if busy || !facts.quiet && !somebody_waits {
                return Err(Breach::Stuck(format!("n{index} has work left and nobody to give it")));
            }
        }
        Ok(())
    }
}
