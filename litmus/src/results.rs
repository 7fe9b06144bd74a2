//! What the nodes report, and what it adds up to.

use crate::model::{Model, outcomes};
use crate::plan::LitmusRun;
use crate::program::{Litmus, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Whose values a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The observations of a thread, by instance.
    Thread(u32),
    /// What was left in the variables, by instance.
    End,
}

/// Values of one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The numbers of protocol, test and round.
    pub at: [u32; 3],
    /// Whose values.
    pub part: Part,
    /// The values.
    pub values: Vec<u8>,
}

impl Record {
    /// Writes it: five little-endian words of 32 bits (protocol, test, round, part, length), then the values.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let part = match self.part {
            Part::Thread(thread) => thread,
            Part::End => u32::MAX,
        };
        for word in self.at.iter().chain(&[part, self.values.len() as u32]) {
            to.write_all(&word.to_le_bytes())?;
        }
        to.write_all(&self.values)
    }

    /// Takes the first record off `bytes`; none when they hold no whole one.
    fn take(bytes: &mut &[u8]) -> Option<Record> {
        let mut word = || {
            let (first, rest) = bytes.split_first_chunk::<4>()?;
            *bytes = rest;
            Some(u32::from_le_bytes(*first))
        };
        let (at, part, length) = ([word()?, word()?, word()?], word()?, word()? as usize);
        let part = if part == u32::MAX { Part::End } else { Part::Thread(part) };
        let (values, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(Record { at, part, values: values.to_vec() })
    }
}

/// How often an outcome was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// In rounds where each thread had a node of its own.
    pub apart: u64,
    /// In rounds where some threads shared a node.
    pub together: u64,
}

impl Count {
    /// Both.
    pub fn total(self) -> u64 {
        self.apart + self.together
    }
}

/// What one test showed with one protocol.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The test.
    pub test: Litmus,
    /// The protocol's number.
    pub protocol: usize,
    /// Outcomes that were seen.
    pub seen: BTreeMap<Outcome, Count>,
    /// Outcomes that one order of all accesses explains.
    pub sequential: BTreeSet<Outcome>,
    /// Outcomes that the processor's own model allows.
    pub allowed: BTreeSet<Outcome>,
}

impl Verdict {
    /// For a test that has shown nothing yet.
    pub fn new(test: Litmus, protocol: usize) -> Verdict {
        let sequential = outcomes(Model::Sequential, &test);
        let allowed = outcomes(Model::TotalStoreOrder, &test);
        Verdict { test, protocol, seen: BTreeMap::new(), sequential, allowed }
    }

    /// Executions.
    pub fn iterations(&self) -> u64 {
        self.seen.values().map(|count| count.total()).sum()
    }

    /// Outcomes that were seen and that the model forbids.
    pub fn forbidden(&self) -> impl Iterator<Item = (&Outcome, &Count)> {
        self.seen.iter().filter(|(outcome, _)| !self.allowed.contains(*outcome))
    }

    /// Outcomes that the model allows and that were not seen.
    pub fn unseen(&self) -> impl Iterator<Item = &Outcome> {
        self.allowed.iter().filter(|outcome| !self.seen.contains_key(*outcome))
    }

    /// How often an outcome was seen that only the processor's store buffers explain.
    pub fn buffered(&self) -> Count {
        let relaxed = self
            .seen
            .iter()
            .filter(|(outcome, _)| self.allowed.contains(*outcome) && !self.sequential.contains(*outcome));
        relaxed.fold(Count::default(), |sum, (_, count)| Count {
            apart: sum.apart + count.apart,
            together: sum.together + count.together,
        })
    }

    fn add(&mut self, outcome: Outcome, apart: bool) {
        let count = self.seen.entry(outcome).or_default();
        if apart { count.apart += 1 } else { count.together += 1 }
    }
}

/// Why the nodes' reports do not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// Protocol, test and round.
    pub at: [u32; 3],
    /// What is missing or too much.
    pub what: &'static str,
}

impl std::fmt::Display for Incomplete {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [protocol, test, round] = self.at;
        write!(
            f,
            "{} in the reports of round {round} of test {test} with protocol {protocol}; a node ended early",
            self.what
        )
    }
}

impl std::error::Error for Incomplete {}

/// Puts together what `nodes` nodes reported of `run`: a verdict for each test with each protocol.
///
/// # Errors
/// When a report lacks something.
pub fn combine(run: &LitmusRun, reports: &[Vec<u8>]) -> Result<Vec<Verdict>, Incomplete> {
    let mut records: BTreeMap<([u32; 3], Part), Vec<u8>> = BTreeMap::new();
    for report in reports {
        let mut rest = report.as_slice();
        while let Some(Record { at, part, values }) = Record::take(&mut rest) {
            records.insert((at, part), values);
        }
    }
    let mut verdicts = Vec::new();
    for protocol in 0..run.protocols.len() {
        for (number, test) in run.tests.iter().enumerate() {
            let mut verdict = Verdict::new(test.clone(), protocol);
            for round in 0..run.rounds().len() {
                let at = [protocol as u32, number as u32, round as u32];
                let apart = run.round(protocol, number, round, reports.len()).is_apart();
                let instances = run.rounds()[round];
                for outcome in round_outcomes(test, at, instances, &records)? {
                    verdict.add(outcome, apart);
                }
            }
            verdicts.push(verdict);
        }
    }
    Ok(verdicts)
}

fn round_outcomes(
    test: &Litmus,
    at: [u32; 3],
    instances: usize,
    records: &BTreeMap<([u32; 3], Part), Vec<u8>>,
) -> Result<Vec<Outcome>, Incomplete> {
    let threads =
        (0..test.threads.len()).map(|thread| (Part::Thread(thread as u32), test.observations(thread)));
    let parts = threads.chain([(Part::End, test.variables())]);
    let mut found = vec![Outcome(Vec::new()); instances];
    for (part, each) in parts {
        let values = records.get(&(at, part)).ok_or(Incomplete { at, what: "a part is missing" })?;
        if values.len() != each * instances {
            return Err(Incomplete { at, what: "a part has the wrong length" });
        }
        for (instance, outcome) in found.iter_mut().enumerate() {
            outcome.0.extend_from_slice(&values[instance * each..][..each]);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes;
    use pagemesh::Protocol;

    fn run() -> LitmusRun {
        let tests = shapes::named("MP").into_iter().take(1).collect();
        LitmusRun { tests, protocols: vec![Protocol::Migration], iterations: 12, seed: 1 }
    }

    /// Reports of rounds of one instance each, in which the reader saw `observed`.
    fn reports(observed: [u8; 2], end: [u8; 2]) -> Vec<Vec<u8>> {
        let mut reports = vec![Vec::new(), Vec::new()];
        for round in 0..12 {
            let mut say = |node: usize, part, values: &[u8]| {
                let record = Record { at: [0, 0, round], part, values: values.to_vec() };
                record.write(&mut reports[node]).unwrap();
            };
            say(0, Part::Thread(0), &[]);
            say(1, Part::Thread(1), &observed);
            say(0, Part::End, &end);
        }
        reports
    }

    #[test]
    fn reports_add_up_to_outcomes() {
        let verdict = combine(&run(), &reports([1, 1], [1, 1])).unwrap().remove(0);
        assert_eq!((verdict.iterations(), verdict.seen.len(), verdict.forbidden().count()), (12, 1, 0));
        assert_eq!(verdict.unseen().count(), 2);
    }

    #[test]
    fn what_is_forbidden_is_told() {
        // The flag without the data; a write that got lost; a value of nobody.
        for (observed, end) in [
            ([1, 0], [1, 1]),
            ([1, 1], [0, 1]),
            ([0, Outcome::FOREIGN], [1, 1]),
            ([0, 0], [1, Outcome::FOREIGN]),
        ] {
            let verdict = combine(&run(), &reports(observed, end)).unwrap().remove(0);
            assert_eq!(verdict.forbidden().count(), 1, "{observed:?} {end:?}");
        }
        let verdict = combine(&run(), &reports([0, Outcome::FOREIGN], [1, 1])).unwrap().remove(0);
        let (outcome, _) = verdict.forbidden().next().unwrap();
        assert_eq!(verdict.test.describe(outcome), "1:r0=0 1:r1=foreign");
    }

    #[test]
    fn a_report_that_ends_early_is_refused() {
        let mut reports = reports([1, 1], [1, 1]);
        let length = reports[1].len();
        reports[1].truncate(length - 1);
        let error = combine(&run(), &reports).unwrap_err();
        assert_eq!(error, Incomplete { at: [0, 0, 11], what: "a part is missing" });
    }
}
