//! Makes a failing run smaller while it fails in the same way: delta debugging (Zeller and Hildebrandt 2002) of what a
//! configuration has, with several schedules tried for each smaller one, since what is taken away moves everything after it.

use crate::breach::Breach;
use crate::config::{Config, FaultPlan};
use crate::program::{Operation, Pattern, Program, Step};
use crate::random::Random;
use crate::run::{Failed, Options, run_config};
use crate::trace::TraceMode;
use pagemesh_protocol::limits;
use std::mem::{Discriminant, discriminant};

/// Runs that are spent at most.
const RUNS: u64 = 20_000;
/// Schedules that a smaller configuration is tried with.
const SCHEDULES: u64 = 30;
/// Schedules of the smallest configuration among which the shortest run is looked for.
const LAST_SCHEDULES: u64 = 300;
/// The stream from which further schedules are drawn.
const SHRINK_STREAM: u64 = 8;

/// A failing run and how it was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The small run, with its whole trace.
    pub failed: Box<Failed>,
    /// Runs that it took to find.
    pub runs: u64,
}

/// Looks for a run that is smaller than `failed` and breaks the same guarantee. The same failure is always made smaller in the
/// same way.
pub fn shrink(failed: &Failed, options: Options) -> Shrunk {
    let mut search = Search {
        target: discriminant(&failed.breach),
        options: Options { trace: TraceMode::Tail(1), ..options },
        best: failed.config.clone(),
        schedules: Random::stream(failed.config.seed, SHRINK_STREAM),
        runs: 0,
    };
    search.unfold_audit();
    while search.round() {}
    search.shorten();
    let options = Options { trace: TraceMode::Full, ..options };
    // What was found fails again; and if nothing smaller did, the first does.
    let again = run_config(&search.best, options).err().unwrap_or_else(|| Box::new(failed.clone()));
    Shrunk { failed: again, runs: search.runs }
}

struct Search {
    target: Discriminant<Breach>,
    options: Options,
    best: Config,
    schedules: Random,
    runs: u64,
}

impl Search {
    /// The steps that `config` takes to the same breach, if it fails so.
    fn steps(&mut self, config: &Config) -> Option<u64> {
        self.runs += 1;
        let failed = run_config(config, self.options).err()?;
        (discriminant(&failed.breach) == self.target).then_some(failed.counts.steps)
    }

    /// Keeps `candidate` if it fails in the same way, under its own schedule or another.
    fn keep(&mut self, mut candidate: Config) -> bool {
        if candidate == self.best || !is_sound(&candidate) {
            return false;
        }
        for attempt in 0..SCHEDULES {
            if self.runs >= RUNS {
                return false;
            }
            if attempt > 0 {
                candidate.schedule = Some(self.schedules.bits());
            }
            if self.steps(&candidate).is_some() {
                self.best = candidate;
                return true;
            }
        }
        false
    }

    /// Tries `change`; false also when it changes nothing.
    fn attempt(&mut self, change: impl FnOnce(&mut Config)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.keep(candidate)
    }

    /// Leaves the audit out or, if the failure needs it, makes it a part of the programs, from which less can be taken.
    fn unfold_audit(&mut self) {
        if self.attempt(|config| config.audit = false) {
            return;
        }
        self.attempt(|config| {
            config.audit = false;
            for thread in (0..config.programs.len()).step_by(config.threads.max(1)) {
                let audit = Program::audit(config, thread);
                config.programs[thread].operations.extend(audit.operations);
            }
        });
    }

    /// Tries everything once; false when nothing could be taken away.
    fn round(&mut self) -> bool {
        let size = self.size();
        self.drop_faults();
        self.drop_threads();
        self.drop_meetings();
        self.drop_operations();
        self.drop_steps();
        self.drop_regions();
        self.drop_nodes();
        self.size() < size && self.runs < RUNS
    }

    fn size(&self) -> usize {
        let Config { nodes, regions, programs, faults, early_leavers, blocked, .. } = &self.best;
        let steps: usize = programs.iter().flat_map(|p| &p.operations).map(|o| 1 + o.steps.len()).sum();
        let rates = [faults.cancel_percent, faults.late_cancel_percent, faults.spurious_percent]
            .iter()
            .filter(|percent| **percent > 0)
            .count();
        steps
            + rates
            + *nodes as usize
            + regions.len()
            + faults.losses.len()
            + faults.cuts.len()
            + faults.pauses.len()
            + early_leavers.len()
            + blocked.iter().map(Vec::len).sum::<usize>()
    }

    fn drop_faults(&mut self) {
        self.attempt(|config| config.leave = false);
        self.attempt(|config| config.barrier_fan = limits::BARRIER_FAN);
        self.attempt(|config| config.hint_patience = 0);
        self.attempt(|config| config.puts_off = false);
        self.attempt(|config| config.early_leavers.clear());
        self.attempt(|config| config.blocked.iter_mut().for_each(Vec::clear));
        self.attempt(|config| config.faults = FaultPlan::default());
        self.attempt(|config| config.faults.cancel_percent = 0);
        self.attempt(|config| config.faults.late_cancel_percent = 0);
        self.attempt(|config| config.faults.spurious_percent = 0);
        self.attempt(|config| config.faults.interleave_percent = 0);
        self.attempt(|config| config.faults.calm_step = None);
        self.attempt(|config| config.timing.unordered = true);
        for place in (0..self.best.faults.losses.len()).rev() {
            self.attempt(|config| {
                config.faults.losses.remove(place);
            });
        }
        for place in (0..self.best.faults.cuts.len()).rev() {
            self.attempt(|config| {
                config.faults.cuts.remove(place);
            });
        }
        for place in (0..self.best.faults.pauses.len()).rev() {
            self.attempt(|config| {
                config.faults.pauses.remove(place);
            });
        }
    }

    /// All that a thread does by itself.
    fn drop_threads(&mut self) {
        for thread in 0..self.best.programs.len() {
            let alone = |operation: &Operation| operation.meeting.is_some();
            self.attempt(|config| config.programs[thread].operations.retain(alone));
        }
    }

    /// Barriers, each with all who come to it.
    fn drop_meetings(&mut self) {
        let mut meetings: Vec<u32> = self.operations().filter_map(|operation| operation.meeting).collect();
        meetings.sort_unstable();
        meetings.dedup();
        self.attempt(|config| retain(config, |operation| operation.meeting.is_none()));
        for meeting in meetings {
            self.attempt(|config| retain(config, |operation| operation.meeting != Some(meeting)));
        }
    }

    /// Operations, by halves, quarters and so on.
    fn drop_operations(&mut self) {
        let mut chunk = self.operations().count().div_ceil(2);
        while chunk > 0 && self.runs < RUNS {
            let mut start = 0;
            while start < self.operations().count() {
                let mut number = 0;
                let kept = self.attempt(|config| {
                    retain(config, |operation| {
                        number += 1;
                        operation.meeting.is_some() || !(start..start + chunk).contains(&(number - 1))
                    });
                });
                if !kept {
                    start += chunk;
                }
            }
            chunk /= 2;
        }
    }

    /// Single steps of operations whose steps do not depend on each other.
    fn drop_steps(&mut self) {
        for thread in 0..self.best.programs.len() {
            for place in 0..self.best.programs[thread].operations.len() {
                let operation = &self.best.programs[thread].operations[place];
                if matches!(operation.pattern, Pattern::Critical | Pattern::NestedLocks) {
                    continue;
                }
                for step in
                    (0..operation.steps.len()).rev().filter(|_| operation.steps.len() > 1).collect::<Vec<_>>()
                {
                    self.attempt(|config| {
                        config.programs[thread].operations[place].steps.remove(step);
                    });
                }
            }
        }
    }

    /// The last region, as long as nobody opens it.
    fn drop_regions(&mut self) {
        while self.best.regions.len() > 1 {
            let last = self.best.regions.len() - 1;
            if !self.attempt(|config| {
                config.regions.truncate(last);
                retain(config, |operation| operation.regions().all(|region| region < last));
            }) {
                return;
            }
        }
    }

    /// Nodes of which nobody does anything. Others get their numbers, so nothing may name threads: barriers count on all.
    fn drop_nodes(&mut self) {
        let names_threads = |operation: &Operation| {
            operation.meeting.is_some() || matches!(operation.pattern, Pattern::Publish | Pattern::Collect)
        };
        if self.operations().any(names_threads) {
            return;
        }
        for node in (0..self.best.nodes).rev() {
            let threads = node as usize * self.best.threads..(node as usize + 1) * self.best.threads;
            let idle = self.best.programs[threads].iter().all(|program| program.operations.is_empty());
            if self.best.nodes > 1 && idle {
                self.attempt(|config| config.remove_node(node));
            }
        }
    }

    /// Of the smallest configuration, the schedule that fails after the fewest steps.
    fn shorten(&mut self) {
        let mut fewest = self.steps(&self.best.clone()).unwrap_or(u64::MAX);
        for _ in 0..LAST_SCHEDULES {
            let candidate = Config { schedule: Some(self.schedules.bits()), ..self.best.clone() };
            if let Some(steps) = self.steps(&candidate).filter(|steps| *steps < fewest) {
                fewest = steps;
                self.best = candidate;
            }
        }
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.best.programs.iter().flat_map(|program| &program.operations)
    }
}

/// Whether somebody creates each region that others attach to: these would wait for ever otherwise, which is no fault of an engine.
fn is_sound(config: &Config) -> bool {
    let steps = || config.programs.iter().flat_map(|program| &program.operations).flat_map(|o| &o.steps);
    let created = |wanted: usize| {
        steps().any(|step| matches!(*step, Step::Open { plan, create: true } if plan == wanted))
    };
    steps().all(|step| match *step {
        Step::Open { plan, create: false } => created(plan),
        _ => true,
    })
}

fn retain(config: &mut Config, mut wanted: impl FnMut(&Operation) -> bool) {
    for program in &mut config.programs {
        program.operations.retain(&mut wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_creates_a_region_stays_as_long_as_others_attach_to_it() {
        let mut config =
            (0..1000).map(Config::draw).find(|config| config.threads > 1 && is_attached(config)).unwrap();
        assert!(is_sound(&config));
        let creates =
            |operation: &Operation| matches!(operation.steps[..], [Step::Open { create: true, .. }]);
        retain(&mut config, |operation| !creates(operation));
        assert!(!is_sound(&config));
        retain(&mut config, |operation| operation.pattern != Pattern::Open);
        assert!(is_sound(&config));
    }

    fn is_attached(config: &Config) -> bool {
        let mut operations = config.programs.iter().flat_map(|program| &program.operations);
        operations.any(|operation| matches!(operation.steps[..], [Step::Open { create: false, .. }]))
    }
}
