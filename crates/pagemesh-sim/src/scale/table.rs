//! Samples as tables and as comma-separated values.

use super::{BarrierRound, Sample};
use pagemesh_protocol::{Protocol, limits};
use std::fmt::Write;

/// One number of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What it is, for a heading.
    pub title: &'static str,
    /// The number.
    pub of: fn(&Sample) -> f64,
    /// It counts whole things.
    pub whole: bool,
    /// Whether a workload with this protocol has such a number.
    pub about: fn(Option<Protocol>) -> bool,
}

const ANY: fn(Option<Protocol>) -> bool = |_| true;
const PAGES: fn(Option<Protocol>) -> bool = |protocol| protocol.is_some();
const INTERVALS: fn(Option<Protocol>) -> bool = |protocol| protocol == Some(Protocol::Release);

/// The measures that have a table each.
pub const MEASURES: [Measure; 7] = [
    Measure {
        title: "Messages per operation",
        of: |sample| sample.per_operation(sample.messages),
        whole: false,
        about: ANY,
    },
    Measure {
        title: "Bytes per operation",
        of: |sample| sample.per_operation(sample.bytes),
        whole: true,
        about: ANY,
    },
    Measure {
        title: "Directory bytes of the widest page",
        of: |sample| sample.directory_bytes as f64,
        whole: true,
        about: PAGES,
    },
    Measure { title: "Longest line at a home", of: |sample| sample.in_line as f64, whole: true, about: ANY },
    Measure {
        title: "Most unhandled messages at a node",
        of: |sample| sample.inbox as f64,
        whole: true,
        about: ANY,
    },
    Measure {
        title: "Most runs of pages that a node holds write notices of",
        of: |sample| sample.notices as f64,
        whole: true,
        about: INTERVALS,
    },
    Measure {
        title: "Microseconds per operation, in the model",
        of: |sample| sample.per_operation(sample.waited_us),
        whole: true,
        about: ANY,
    },
];

/// A protocol's name, or a dash where there are no pages.
pub(super) fn protocol_name(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::WriteInvalidate) => "write-invalidate",
        Some(Protocol::Migration) => "migration",
        Some(Protocol::Release) => "release",
        Some(_) => "another",
        None => "-",
    }
}

/// A table in Markdown for each of [`MEASURES`]: a line for each workload and protocol, a column for each number of nodes.
pub fn tables(lines: &[Vec<Sample>]) -> String {
    let tables = MEASURES.iter().map(|measure| table(measure, lines));
    tables.collect::<Vec<_>>().join("\n")
}

/// A table in Markdown: a round of a barrier of all nodes, counted one by one and gathered in a tree.
pub fn barriers() -> String {
    let mut text = String::from(
        "| nodes | how | busiest node, messages | depth, messages | messages | a thread waits, us |\n",
    );
    text.push_str("|---:|---|---:|---:|---:|---:|\n");
    for nodes in [16, 64, 256, 1024] {
        for fan in [None, Some(limits::BARRIER_FAN)] {
            let BarrierRound { busiest, depth, messages, waits_us, .. } = super::barrier_round(nodes, fan);
            let how = if fan.is_some() { "gathered in a tree" } else { "one by one" };
            let _ = writeln!(text, "| {nodes} | {how} | {busiest} | {depth} | {messages} | {waits_us} |");
        }
    }
    text
}

/// The marks in a document between which the tables stand.
const MARKS: [&str; 2] = ["<!-- tables -->\n\n", "\n<!-- end of tables -->"];
/// Those between which that of barriers stands.
const BARRIER_MARKS: [&str; 2] = ["<!-- barriers -->\n\n", "\n<!-- end of barriers -->"];

/// `document` with the tables between its marks replaced; `None` when it has no marks.
pub fn with_tables(document: &str, lines: &[Vec<Sample>]) -> Option<String> {
    let document = replaced(document, MARKS, &tables(lines))?;
    replaced(&document, BARRIER_MARKS, &barriers())
}

fn replaced(document: &str, [start, end]: [&str; 2], text: &str) -> Option<String> {
    let (before, rest) = document.split_once(start)?;
    let (_, after) = rest.split_once(end)?;
    Some([before, start, text, end, after].concat())
}

fn table(measure: &Measure, lines: &[Vec<Sample>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let counts = super::node_counts().take(columns);
    let mut text = format!("### {}\n\n| workload | protocol |", measure.title);
    let mut rule = String::from("|---|---|");
    for nodes in counts {
        let _ = write!(text, " {nodes} |");
        rule.push_str("---:|");
    }
    let _ = writeln!(text, "\n{rule}");
    for line in lines {
        let Some(first) = line.first() else { continue };
        if !(measure.about)(first.protocol) {
            continue;
        }
        let _ = write!(text, "| {} | {} |", first.workload.name(), protocol_name(first.protocol));
        for column in 0..columns {
            let Some(sample) = line.get(column) else {
                text.push_str(" - |");
                continue;
            };
            let value = (measure.of)(sample);
            let _ = if measure.whole { write!(text, " {value:.0} |") } else { write!(text, " {value:.2} |") };
        }
        text.push('\n');
    }
    text
}

/// All samples, a line each, after a line of names.
pub fn csv(lines: &[Vec<Sample>]) -> String {
    let mut text = String::from(
        "workload,protocol,nodes,operations,messages,bytes,directory_bytes,in_line,inbox,notices,waited_us\n",
    );
    for sample in lines.iter().flatten() {
        let Sample {
            nodes,
            operations,
            messages,
            bytes,
            directory_bytes,
            in_line,
            inbox,
            notices,
            waited_us,
            ..
        } = sample;
        let (workload, protocol) = (sample.workload.name(), protocol_name(sample.protocol));
        let _ = writeln!(
            text,
            "{workload},{protocol},{nodes},{operations},{messages},{bytes},{directory_bytes},{in_line},{inbox},{notices},{waited_us}"
        );
    }
    text
}
