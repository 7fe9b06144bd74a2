//! What was measured, as a table.

use std::fmt;
use std::time::Duration;

use pagemesh::Protocol;

use super::team::Work;
use super::workload::{Kind, Workload};

/// Where a program ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The sequential program, in private memory.
    Private,
    /// As many processes with one mapping, all of which is there.
    Plain,
    /// The nodes of a mesh.
    Mesh(Protocol),
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Private => "sequential",
            Self::Plain => "plain",
            Self::Mesh(Protocol::WriteInvalidate) => "write-invalidate",
            Self::Mesh(Protocol::Migration) => "migration",
            Self::Mesh(Protocol::Release) => "release",
            Self::Mesh(_) => "another protocol",
        })
    }
}

/// One program on one memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The program.
    pub program: Kind,
    /// Where it ran.
    pub memory: Memory,
    /// Median of the times.
    pub elapsed: Duration,
    /// What all nodes together did in the run with that time.
    pub work: Work,
}

/// All that was measured; displayed as a table.
#[derive(Debug, Clone)]
pub struct Report {
    /// The programs and their sizes.
    pub workloads: Vec<Workload>,
    /// Nodes, and processes on plain memory.
    pub nodes: usize,
    /// What was measured, by program.
    pub rows: Vec<Row>,
}

impl Report {
    /// Time on `memory` in units of the time of `row`: how many times as fast `row` is.
    fn ratio(&self, row: &Row, memory: Memory) -> Option<f64> {
        let other = self.rows.iter().find(|other| other.program == row.program && other.memory == memory)?;
        Some(other.elapsed.as_secs_f64() / row.elapsed.as_secs_f64().max(1e-9))
    }

    fn has_several_protocols(&self) -> bool {
        let mut protocols = self.rows.iter().filter(|row| matches!(row.memory, Memory::Mesh(_)));
        protocols.next().is_some_and(|first| protocols.any(|row| row.memory != first.memory))
    }

    fn line(&self, row: &Row, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { program, memory, elapsed, work } = row;
        write!(formatter, "{:<10} {memory:<16} {:>9.4}", program.name(), elapsed.as_secs_f64())?;
        let write_invalidate = Memory::Mesh(Protocol::WriteInvalidate);
        let mut ratio = |to: Option<f64>| match to {
            Some(ratio) => write!(formatter, " {ratio:>9.3}"),
            None => write!(formatter, " {:>9}", ""),
        };
        ratio(self.ratio(row, Memory::Private))?;
        ratio(if *memory == Memory::Private { None } else { self.ratio(row, Memory::Plain) })?;
        let Memory::Mesh(_) = memory else { return writeln!(formatter) };
        if self.has_several_protocols() {
            ratio(self.ratio(row, write_invalidate))?;
        }
        let mebibytes = work.bytes as f64 / f64::from(1 << 20);
        writeln!(formatter, " {:>9} {:>9} {mebibytes:>9.2} {:>9}", work.faults, work.messages, work.diffs)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for workload in &self.workloads {
            writeln!(formatter, "{}: {}", workload.kind(), workload.description())?;
        }
        let nodes = if self.nodes == 1 { "node" } else { "nodes" };
        writeln!(formatter, "{} {nodes}; plain: as many processes on one mapping\n", self.nodes)?;
        write!(
            formatter,
            "{:<10} {:<16} {:>9} {:>9} {:>9}",
            "program", "memory", "seconds", "speed-up", "of plain"
        )?;
        if self.has_several_protocols() {
            write!(formatter, " {:>9}", "to w.-i.")?;
        }
        writeln!(formatter, " {:>9} {:>9} {:>9} {:>9}", "faults", "messages", "MiB", "diffs")?;
        for row in &self.rows {
            self.line(row, formatter)?;
        }
        writeln!(formatter, "\nevery answer is that of the sequential program")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;

    fn row(memory: Memory, millis: u64) -> Row {
        let work = Work { faults: 5, messages: 6, bytes: 3 << 19, diffs: 7 };
        Row { program: Kind::Matrix, memory, elapsed: Duration::from_millis(millis), work }
    }

    #[test]
    fn ratios_are_of_the_same_program() {
        let workload = Workload::new(Kind::Matrix, Scale::Small, None, None, 1).unwrap();
        let rows = vec![
            row(Memory::Private, 1000),
            row(Memory::Plain, 500),
            row(Memory::Mesh(Protocol::WriteInvalidate), 800),
            row(Memory::Mesh(Protocol::Release), 625),
        ];
        let mut report = Report { workloads: vec![workload], nodes: 2, rows };
        let words = |report: &Report| -> Vec<Vec<String>> {
            let text = report.to_string();
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        let table = words(&report);
        assert_eq!(table[4], ["matrix", "sequential", "1.0000", "1.000"]);
        assert_eq!(table[5], ["matrix", "plain", "0.5000", "2.000", "1.000"]);
        assert_eq!(
            table[7],
            ["matrix", "release", "0.6250", "1.600", "0.800", "1.280", "5", "6", "1.50", "7"]
        );
        report.rows.truncate(3);
        let table = words(&report);
        assert_eq!(
            table[6],
            ["matrix", "write-invalidate", "0.8000", "1.250", "0.625", "5", "6", "1.50", "7"]
        );
    }
}
