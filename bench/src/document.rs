//! Puts the tables of a report into a document, between marks.

use crate::report::{Figure, Report, Run, Stage};
use crate::table::{met, number, ratio};
use std::fmt::Write as _;

const BEGIN: &str = "<!-- bench tables: begin -->";
const END: &str = "<!-- bench tables: end -->";

/// Why a document got no tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document has no lines `{BEGIN}` and `{END}` in this order; put them where the tables are to be")]
pub struct NoMarks;

/// `document` with the tables of `report` between its marks, in place of what was there.
///
/// # Errors
/// [`NoMarks`].
pub fn with_tables(document: &str, report: &Report) -> Result<String, NoMarks> {
    let (before, rest) = document.split_once(BEGIN).ok_or(NoMarks)?;
    let (_, after) = rest.split_once(END).ok_or(NoMarks)?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", tables(report)))
}

fn tables(report: &Report) -> String {
    let mut text = format!("\npagemesh {} on {}.\n\n", report.pagemesh, report.machine);
    for run in &report.runs {
        text += &table(run);
    }
    text
}

fn table(run: &Run) -> String {
    let mut text = format!("### {}\n\n", run.title());
    text += "| | min | p50 | p90 | p99 | baseline p50 | ratio (lowest - highest) | target |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for figure in &run.figures {
        text += &row(figure);
    }
    if run.figures.iter().any(|figure| figure.left_out > 0) {
        text += "\n[n]: so many more rounds, in which the baseline moved, are left out.\n";
    }
    if !run.stages.is_empty() {
        text += "\n| where the time of a traced fault goes | p50 | p99 |\n|---|---|---|\n";
    }
    for Stage { name, took } in &run.stages {
        let _ = writeln!(text, "| {name} | {} | {} |", number(took.p50), number(took.p99));
    }
    text + "\n"
}

fn row(figure: &Figure) -> String {
    let all = &figure.measured.all;
    let mut text = String::new();
    let rate = figure.megabytes_per_second().map_or(String::new(), |rate| format!(", {rate:.0} MB/s"));
    let baseline = figure.baseline.as_ref().map_or(String::new(), |baseline| {
        format!("{} ({})", number(baseline.measured.all.p50), baseline.name)
    });
    let target = figure.target.map_or(String::new(), |target| target.of(figure.bytes) + met(figure));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "| {}{rate} | {} | {} | {} | {} | {baseline} | {} | {target} |",
        figure.name,
        number(all.min),
        number(all.p50),
        number(all.p90),
        number(all.p99),
        ratio(figure)
    );
    text
}
