//! What a number of runs had and did, so that it shows what was covered and what was not.

use crate::config::Config;
use crate::program::Pattern;
use crate::world::Counts;
use pagemesh_protocol::{Placement, Protocol};
use std::collections::BTreeMap;
use std::fmt;

/// Sums over runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// What happened in them.
    pub counts: Counts,
    nodes: BTreeMap<u16, u64>,
    threads: BTreeMap<usize, u64>,
    regions: BTreeMap<String, u64>,
    faults: BTreeMap<&'static str, u64>,
    patterns: BTreeMap<Pattern, u64>,
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, config: &Config, counts: &Counts) {
        self.runs += 1;
        self.counts.add(counts);
        *self.nodes.entry(config.nodes).or_default() += 1;
        *self.threads.entry(config.thread_count()).or_default() += 1;
        for plan in &config.regions {
            let protocol = match plan.protocol {
                Protocol::WriteInvalidate => "write-invalidate",
                Protocol::Migration => "migration",
                _ => "another protocol",
            };
            let placement = match plan.placement {
                Placement::Cyclic => "cyclic",
                Placement::Single(_) => "single",
                Placement::Block => "block",
                Placement::FirstTouch => "first-touch",
                _ => "another placement",
            };
            *self.regions.entry(format!("{protocol} {placement}")).or_default() += 1;
        }
        for fault in faults(config) {
            *self.faults.entry(fault).or_default() += 1;
        }
        for pattern in config.programs.iter().flat_map(crate::program::Program::patterns) {
            *self.patterns.entry(pattern).or_default() += 1;
        }
    }

    /// Adds what other runs had.
    pub fn merge(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.counts.add(&other.counts);
        add_all(&mut self.nodes, &other.nodes);
        add_all(&mut self.threads, &other.threads);
        add_all(&mut self.regions, &other.regions);
        add_all(&mut self.faults, &other.faults);
        add_all(&mut self.patterns, &other.patterns);
    }

    /// How many runs had each kind of fault, by its name in the summary.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.faults.iter().map(|(name, count)| (*name, *count))
    }

    /// How many operations of each pattern were drawn.
    pub fn patterns(&self) -> impl Iterator<Item = (Pattern, u64)> {
        self.patterns.iter().map(|(pattern, count)| (*pattern, *count))
    }

    /// How many regions of each protocol and placement there were.
    pub fn regions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.regions.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

fn add_all<K: Clone + Ord>(sum: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, count) in other {
        *sum.entry(key.clone()).or_default() += count;
    }
}

/// The kinds of faults that a configuration has.
fn faults(config: &Config) -> impl Iterator<Item = &'static str> {
    let (plan, timing) = (&config.faults, &config.timing);
    [
        ("deaths", plan.losses.iter().any(|loss| !loss.goodbye)),
        ("goodbyes amid the run", plan.losses.iter().any(|loss| loss.goodbye)),
        ("several losses", plan.losses.len() > 1),
        ("broken connections", !plan.cuts.is_empty()),
        ("pauses", !plan.pauses.is_empty()),
        ("given-up calls", plan.cancel_percent > 0),
        ("late cancels", plan.late_cancel_percent > 0),
        ("faults without cause", plan.spurious_percent > 0),
        ("accesses between actions", plan.interleave_percent > 0),
        ("an early calm", plan.calm_step.is_some()),
        ("early leavers", !config.early_leavers.is_empty()),
        ("leaving at the end", config.leave),
        ("no order between links", timing.unordered),
        ("late messages", !timing.unordered && timing.tail_percent > 0),
        ("slow links", !timing.unordered && timing.slow_link_percent > 0),
        ("a slow node", !timing.unordered && timing.slow_node.is_some()),
        ("taken addresses", config.blocked.iter().any(|taken| !taken.is_empty())),
        ("fixed addresses", config.regions.iter().any(|plan| plan.address != 0)),
        ("regions opened late", config.regions.iter().any(|plan| plan.round > 0)),
        ("full lock tables", config.lock_bound == 1),
        ("several regions", config.regions.len() > 1),
        ("barriers of all", config.workload.common_barrier),
        ("trees of barriers", config.nodes > config.barrier_fan),
        ("hints of owners", config.hint_patience > 0 && config.nodes > 2),
        ("reports put off", config.puts_off && config.nodes > 2),
        ("barriers of groups", config.workload.group > 1),
        ("no fault at all", *plan == crate::config::FaultPlan::default()),
    ]
    .into_iter()
    .filter_map(|(name, has)| has.then_some(name))
}

/// Names and numbers, separated by commas.
fn list<K: fmt::Display>(items: impl Iterator<Item = (K, u64)>) -> String {
    items.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "runs by nodes: {}",
            list(self.nodes.iter().map(|(n, count)| (format!("{n}:"), *count)))
        )?;
        let threads = self.threads.iter().map(|(n, count)| (format!("{n}:"), *count));
        writeln!(f, "runs by threads: {}", list(threads))?;
        writeln!(f, "regions: {}", list(self.regions()))?;
        writeln!(f, "runs with: {}", list(self.faults()))?;
        writeln!(f, "operations: {}", list(self.patterns().map(|(p, count)| (format!("{p:?}"), count))))?;
        writeln!(
            f,
            "happened: {} steps, {} messages ({} with a page), {} accesses, {} faults, {} prefetches",
            counts.steps, counts.messages, counts.payloads, counts.hits, counts.faults, counts.prefetched
        )?;
        writeln!(
            f,
            "barriers in trees: {} nodes passed on that all below were there, {} were told that it is over",
            counts.gathered, counts.dissolved
        )?;
        writeln!(
            f,
            "reads that went to owners: {} were served there, {} were turned away",
            counts.hinted, counts.hinted_wrongly
        )?;
        writeln!(
            f,
            "reports: {} were put off until something else was sent, {} times one was waited for",
            counts.put_off, counts.hurried
        )?;
        writeln!(
            f,
            "calls: {} ended well, {} failed with a reason, {} given up, {} given up too late",
            counts.completed, counts.failed, counts.cancelled, counts.cancelled_late
        )?;
        writeln!(
            f,
            "nodes: {} lost, {} left, {} stood still; connections broken: {}",
            counts.lost, counts.left, counts.paused, counts.severed
        )?;
        write!(
            f,
            "judged: {} deeds in histories; nobody waited for more than {} others, no access took more than {} faults",
            counts.deeds, counts.passed_max, counts.retries_max
        )
    }
}
