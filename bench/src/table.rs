//! Reports as tables for people.

use crate::report::{BASELINE_MOVES_MOST, Figure, Ratio, Report, Run, Stage, Target};
use std::fmt::{self, Write as _};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pagemesh {} on {}", self.pagemesh, self.machine)?;
        for run in &self.runs {
            writeln!(f, "\n{run}")?;
        }
        Ok(())
    }
}

impl Run {
    /// What it was measured under, in one line.
    pub fn title(&self) -> String {
        let rounds = self.figures.iter().map(|figure| figure.measured.rounds.len()).min().unwrap_or(0);
        let nodes = if self.nodes == 1 { "node" } else { "nodes" };
        let times = if rounds == 1 { "round" } else { "rounds" };
        format!(
            "{}, {}: {} {nodes}, {rounds} {times}, pager {}, {}, load {:.1} to {:.1}",
            self.suite, self.mode, self.nodes, self.pager, self.transport, self.load_before, self.load_after
        )
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        writeln!(
            f,
            "  {:<44} {:>8} {:>8} {:>8} {:>8}   ratio of p50 (lowest - highest round)   target",
            "microseconds", "min", "p50", "p90", "p99"
        )?;
        // A baseline that several figures share is shown with each: it was measured with each.
        for figure in &self.figures {
            write!(f, "{}", lines(figure))?;
        }
        if self.figures.iter().any(|figure| figure.left_out > 0) {
            writeln!(f, "  [n]: so many more rounds, in which the baseline moved, are left out")?;
        }
        if !self.stages.is_empty() {
            writeln!(f, "\n  {:<58} {:>8} {:>8}", "where the time of a traced fault goes", "p50", "p99")?;
        }
        for Stage { name, took } in &self.stages {
            writeln!(f, "  {name:<58} {:>8} {:>8}", number(took.p50), number(took.p99))?;
        }
        Ok(())
    }
}

fn lines(figure: &Figure) -> String {
    let all = &figure.measured.all;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "  {:<44} {:>8} {:>8} {:>8} {:>8}",
        figure.name,
        number(all.min),
        number(all.p50),
        number(all.p90),
        number(all.p99)
    );
    let ratio = ratio(figure);
    if !ratio.is_empty() || figure.target.is_some() {
        let _ = write!(text, "   {ratio:<38}");
    }
    if let Some(target) = figure.target {
        let _ = write!(text, "   {}{}", target.of(figure.bytes), met(figure));
    }
    text = text.trim_end().to_owned() + "\n";
    if let Some(rate) = figure.megabytes_per_second() {
        let _ = writeln!(text, "    {rate:.0} MB/s");
    }
    if let Some(baseline) = &figure.baseline {
        let all = &baseline.measured.all;
        let _ = writeln!(
            text,
            "    {:<42} {:>8} {:>8} {:>8} {:>8}",
            format!("beside {}", baseline.name),
            number(all.min),
            number(all.p50),
            number(all.p90),
            number(all.p99)
        );
    }
    text
}

/// Three digits that matter.
pub(crate) fn number(micros: f64) -> String {
    let decimals = match micros {
        ..1.0 => 3,
        1.0..10.0 => 2,
        10.0..1000.0 => 1,
        _ => 0,
    };
    format!("{micros:.decimals$}")
}

/// The ratio with its spread, or why there is none; nothing for a figure without a baseline.
pub(crate) fn ratio(figure: &Figure) -> String {
    match figure.ratio() {
        Ratio::None => String::new(),
        Ratio::Of { median, low, high } => {
            let mut text = format!("{median:.2} ({low:.2} - {high:.2})");
            // Writing to a string cannot fail.
            if let (Some(Target::Tail { .. }), Some(tail)) = (figure.target, figure.tail_ratio()) {
                let _ = write!(text, ", p99 {tail:.2}");
            }
            if figure.left_out > 0 {
                let _ = write!(text, " [{}]", figure.left_out);
            }
            text
        }
        Ratio::BaselineMoved(by) => {
            format!("no ratio: baseline moved {by:.2}x > {BASELINE_MOVES_MOST:.2}x")
        }
    }
}

/// Whether a target is met.
pub(crate) fn met(figure: &Figure) -> &'static str {
    match figure.meets_target() {
        Some(true) => " met",
        Some(false) => " missed",
        None => "",
    }
}
