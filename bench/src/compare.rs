//! Two reports, figure by figure: what moved beyond the spread of its rounds.

use crate::mode::Mode;
use crate::report::{Figure, Ratio, Report, Run, extent};
use std::fmt;

/// Two reports held against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Figures that both have, in the order of the second.
    pub rows: Vec<Row>,
    /// Names of figures that only the first has.
    pub gone: Vec<String>,
    /// Names of figures that only the second has.
    pub new: Vec<String>,
    /// The reports are of different machines: only ratios mean anything, and little.
    pub other_machine: bool,
}

/// One figure in both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Suite, mode, transport, nodes and name.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Every round was above every round before; so many times as long.
    Slower(f64),
    /// Every round was below every round before; so many times as long.
    Faster(f64),
    /// Rounds of both lie among each other; so many times as long, which may be chance.
    Within(f64),
    /// There is no ratio to compare: a baseline moved, or only one of them has one.
    Unknown,
}

/// What a figure is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key<'a> {
    suite: &'a str,
    mode: Mode,
    transport: &'a str,
    nodes: usize,
    name: &'a str,
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { suite, mode, transport, nodes, name } = self;
        write!(f, "{suite} {mode} {transport} {nodes}: {name}")
    }
}

fn figures(report: &Report) -> impl Iterator<Item = (Key<'_>, &Figure)> {
    report.runs.iter().flat_map(|run| {
        run.figures.iter().map(move |figure| {
            let Figure { name, .. } = figure;
            let Run { suite, mode, transport, nodes, .. } = run;
            (Key { suite, mode: *mode, transport, nodes: *nodes, name }, figure)
        })
    })
}

impl Comparison {
    /// Compares `after` to `before`: ratios to the baseline where there is one, which leaves out what the machine did to both;
    /// else times.
    pub fn new(before: &Report, after: &Report) -> Comparison {
        let mut rows = Vec::new();
        let mut new = Vec::new();
        for (key, figure) in figures(after) {
            match figures(before).find(|(other, _)| *other == key) {
                Some((_, old)) => rows.push(Row { name: key.to_string(), verdict: verdict(old, figure) }),
                None => new.push(key.to_string()),
            }
        }
        let gone = figures(before)
            .filter(|(key, _)| figures(after).all(|(other, _)| other != *key))
            .map(|(key, _)| key.to_string())
            .collect();
        Comparison { rows, gone, new, other_machine: before.machine != after.machine }
    }
}

/// Median, lowest and highest of what is compared.
fn compared(figure: &Figure) -> Option<(f64, f64, f64)> {
    match figure.ratio() {
        Ratio::Of { median, low, high } => Some((median, low, high)),
        Ratio::BaselineMoved(_) => None,
        Ratio::None => {
            let (low, high) = extent(figure.measured.rounds.iter().map(|round| round.p50));
            Some((figure.measured.all.p50, low, high))
        }
    }
}

fn verdict(before: &Figure, after: &Figure) -> Verdict {
    if before.baseline.is_some() != after.baseline.is_some() {
        return Verdict::Unknown;
    }
    let (Some((was, was_low, was_high)), Some((is, low, high))) = (compared(before), compared(after)) else {
        return Verdict::Unknown;
    };
    let times = is / was;
    if low > was_high {
        Verdict::Slower(times)
    } else if high < was_low {
        Verdict::Faster(times)
    } else {
        Verdict::Within(times)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.other_machine {
            writeln!(f, "the reports are of different machines or kernels\n")?;
        }
        for row in &self.rows {
            match row.verdict {
                Verdict::Slower(times) => writeln!(f, "slower  {times:>6.2}x  {}", row.name)?,
                Verdict::Faster(times) => writeln!(f, "faster  {times:>6.2}x  {}", row.name)?,
                Verdict::Within(times) => writeln!(f, "        {times:>6.2}x  {}", row.name)?,
                Verdict::Unknown => writeln!(f, "no ratio         {}", row.name)?,
            }
        }
        for (what, names) in [("gone", &self.gone), ("new", &self.new)] {
            for name in names {
                writeln!(f, "{what:<16} {name}")?;
            }
        }
        let moved = |row: &&Row| matches!(row.verdict, Verdict::Slower(_) | Verdict::Faster(_));
        let count = self.rows.iter().filter(moved).count();
        writeln!(f, "\n{count} of {} figures moved beyond the spread of their rounds", self.rows.len())
    }
}
