//! The nodes' memories: what the engines' actions on pages do to them.

use super::super::plan::{CELLS, Fault};
use super::{Checked, Load, PageCopy, Rights, World};
use pagemesh_protocol::{Action, PageAddress};

impl World {
    pub(super) fn copy(&mut self, node: usize, page: PageAddress) -> &mut PageCopy {
        &mut self.nodes[node].pages[page.region.index()][page.page as usize]
    }

    pub(super) fn make_diff(&mut self, node: usize, page: PageAddress, keep: bool) -> Result<Load, String> {
        let (whole, old) = (self.fault == Some(Fault::WholePage), self.fault == Some(Fault::OldTwin));
        let copy = self.copy(node, page);
        let twin = copy.twin.take().ok_or_else(|| format!("node {node} has no twin of {page:?}"))?;
        if keep {
            copy.twin = Some(if old { twin } else { copy.cells });
        } else if copy.rights == Rights::Write {
            return Err(format!("node {node} makes a diff of {page:?}, which can be written"));
        }
        let changed = (0..CELLS).filter(|cell| whole || copy.cells[*cell] != twin[*cell]);
        Ok(Load::Diff(changed.map(|cell| (cell, copy.cells[cell])).collect()))
    }

    pub(super) fn apply(&mut self, node: usize, page: PageAddress, diff: &[(usize, u32)]) {
        let copy = self.copy(node, page);
        for (cell, value) in diff {
            copy.cells[*cell] = *value;
        }
    }

    pub(super) fn change_page(&mut self, node: usize, action: &Action, load: &Load) -> Checked {
        let late = self.fault == Some(Fault::LateTwin) && self.random.chance(20);
        let fault = |what: &str| Err(format!("node {node}: {action:?} {what}"));
        match *action {
            Action::Fill(page) => {
                let Load::Page(cells) = load else { return fault("without bytes") };
                self.copy(node, page).cells = *cells;
            }
            Action::FillZero(page) => self.copy(node, page).cells = [0; CELLS],
            Action::MapRead(page) => self.copy(node, page).enter(),
            Action::Protect(page) => self.copy(node, page).clean(),
            Action::MapWrite(page) | Action::Unprotect(page) => self.copy(node, page).rights = Rights::Write,
            Action::Unmap(page) => self.copy(node, page).leave(),
            Action::MakeTwin(page) => {
                let tracked = self.is_tracked(node, page.region);
                let copy = self.copy(node, page);
                let can_be_written = copy.rights == Rights::Write || tracked && copy.rights == Rights::Read;
                if copy.twin.is_some() || can_be_written {
                    return fault("of a page that is being written");
                }
                (copy.twin, copy.late) = (Some(copy.cells), late);
            }
            Action::TwinWhileWritten(page) => {
                let copy = self.copy(node, page);
                copy.twin = Some(copy.cells);
            }
            Action::DropTwin(page) => {
                let copy = self.copy(node, page);
                (copy.twin, copy.marks) = (None, [false; CELLS]);
            }
            Action::ApplyMarked(page) => {
                let Load::Diff(diff) = load else { return fault("without a diff") };
                self.apply(node, page, diff);
                for (cell, _) in diff {
                    self.copy(node, page).marks[*cell] = true;
                }
            }
            Action::FillAround(page) => {
                let Load::Page(cells) = load else { return fault("without bytes") };
                let bare = self.fault == Some(Fault::BareReturn);
                let copy = self.copy(node, page);
                if copy.rights != Rights::None {
                    return fault("though it can be read");
                }
                let marks = std::mem::take(&mut copy.marks);
                for (cell, value) in cells.iter().enumerate().filter(|(cell, _)| bare || !marks[*cell]) {
                    copy.cells[cell] = *value;
                }
            }
            Action::Adopt(page) => {
                let Load::Page(cells) = load else { return fault("without bytes") };
                let stale = self.fault == Some(Fault::StaleOwner);
                let copy = self.copy(node, page);
                let known = copy.twin.take().unwrap_or(copy.cells);
                for (cell, value) in cells.iter().enumerate().filter(|_| !stale) {
                    if *value != known[cell] {
                        copy.cells[cell] = *value;
                    }
                }
            }
            Action::Update(page) => {
                let Load::Page(cells) = load else { return fault("without bytes") };
                let bare = self.fault == Some(Fault::UpdateBesideTwin);
                let copy = self.copy(node, page);
                if copy.rights == Rights::None {
                    return fault("of a page that is not here");
                }
                let mut known = copy.twin.unwrap_or(copy.cells);
                for (cell, value) in cells.iter().enumerate() {
                    if *value != known[cell] {
                        (copy.cells[cell], known[cell]) = (*value, *value);
                    }
                }
                copy.twin = copy.twin.map(|twin| if bare { twin } else { known });
            }
            Action::ApplyDiff(page) => {
                let Load::Diff(diff) = load else { return fault("without a diff") };
                match self.fault {
                    Some(Fault::LostDiff) if self.random.chance(20) => return Ok(()),
                    Some(Fault::RepeatedDiff) if self.random.chance(20) => {
                        self.repeated = Some((node, page, diff.clone()));
                    }
                    _ => {}
                }
                self.apply(node, page, diff);
            }
            _ => return fault("is not known here"),
        }
        Ok(())
    }
}
