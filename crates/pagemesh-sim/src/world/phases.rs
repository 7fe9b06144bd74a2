//! The course of a run: programs among faults, then a calm in which everything has to come to rest.

use super::World;
use crate::breach::Breach;
use crate::program::Program;
use crate::thread::Activity;

impl World {
    /// Runs every program to its end, then without faults an audit by each node, then lets the nodes leave if the seed says so.
    pub(crate) fn run(&mut self) -> Result<(), Breach> {
        self.run_until_rest()?;
        self.calm_down();
        if self.config.audit {
            self.start_audits();
        }
        self.run_until_rest()?;
        self.check_end()?;
        if self.config.leave || !self.config.early_leavers.is_empty() {
            for index in 0..self.nodes.len() {
                if !self.nodes[index].called_leave && self.nodes[index].leave_at.is_none() {
                    self.nodes[index].leave_at = Some(self.time + self.schedule.below(2000));
                }
            }
            self.run_until_rest()?;
            self.check_left()?;
        }
        self.counts.deeds = self.history.len() as u64;
        self.history.check()?;
        Ok(())
    }

    /// What was put off may wait until the very end, unless somebody waits for it.
    fn run_until_rest(&mut self) -> Result<(), Breach> {
        loop {
            while self.step()? {}
            let waits = self.threads.iter().any(|thread| thread.activity != Activity::Over);
            if waits || self.network.is_empty() {
                return Ok(());
            }
            for node in 0..self.nodes.len() {
                self.network.release_from(node, self.time);
            }
        }
    }

    /// The faults whose step has come.
    pub(super) fn strike(&mut self) {
        if self.calm {
            return;
        }
        let now = self.counts.steps;
        if self.config.faults.calm_step.is_some_and(|step| step <= now) {
            self.counts.calmed = 1;
            return self.calm_down();
        }
        while let Some(loss) = self.losses.pop_if(|loss| loss.step <= now) {
            self.lose(
                loss.node as usize,
                if loss.goodbye { super::Manner::Goodbye } else { super::Manner::Death },
            );
        }
        while let Some(cut) = self.cuts.pop_if(|cut| cut.step <= now) {
            self.sever(cut.one as usize, cut.other as usize);
        }
        while let Some(pause) = self.pauses.pop_if(|pause| pause.step <= now) {
            let (time, index) = (self.time, pause.node as usize);
            self.trace
                .line(|| format!("{now:>6} {time:>8}us n{index} stands still for {} us", pause.length_us));
            self.nodes[index].paused_until = time + pause.length_us;
            self.counts.paused += 1;
        }
    }

    /// No more faults from now on; what they have done stays.
    fn calm_down(&mut self) {
        if self.calm {
            return;
        }
        self.calm = true;
        let (time, step) = (self.time, self.counts.steps);
        self.trace.line(|| format!("{step:>6} {time:>8}us all faults are over"));
        self.losses.clear();
        self.cuts.clear();
        for node in &mut self.nodes {
            node.paused_until = 0;
        }
        let faults = &mut self.config.faults;
        faults.cancel_percent = 0;
        faults.late_cancel_percent = 0;
        faults.spurious_percent = 0;
        faults.interleave_percent = 0;
        self.network.calm();
    }

    /// One thread of every node that stays uses pages and locks once more.
    fn start_audits(&mut self) {
        for index in (0..self.threads.len()).step_by(self.config.threads.max(1)) {
            let node = &self.nodes[self.threads[index].node];
            if node.alive && !self.config.early_leavers.contains(&node.id.get()) {
                let program = Program::audit(&self.config, index);
                self.threads[index].begin(program, self.time);
            }
        }
    }
}
