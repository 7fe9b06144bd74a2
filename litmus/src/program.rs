//! What a litmus test is: a few threads of a few instructions each, and what one execution of them left.

use std::fmt;

/// What a thread does to a variable. Values are small: 1 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// A plain aligned load; what it found is an observation.
    Load(usize),
    /// A plain aligned store of a value.
    Store(usize, u8),
    /// An atomic exchange; what it found is an observation.
    Swap(usize, u8),
    /// An atomic addition; what it found is an observation.
    FetchAdd(usize, u8),
    /// A full fence: nothing of this thread passes it.
    Fence,
}

impl Instruction {
    /// Whether it observes a value.
    pub const fn observes(self) -> bool {
        matches!(self, Instruction::Load(_) | Instruction::Swap(..) | Instruction::FetchAdd(..))
    }

    /// The variable that it writes, if any.
    pub const fn writes(self) -> Option<usize> {
        match self {
            Instruction::Store(variable, _)
            | Instruction::Swap(variable, _)
            | Instruction::FetchAdd(variable, _) => Some(variable),
            Instruction::Load(_) | Instruction::Fence => None,
        }
    }
}

/// The names of the variables, in their order.
pub const VARIABLES: [&str; 4] = ["x", "y", "z", "w"];

/// A litmus test. All variables start as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Litmus {
    /// As the literature calls it; `+fences` has a fence between all accesses of a thread.
    pub name: String,
    /// What each thread does.
    pub threads: Vec<Vec<Instruction>>,
}

impl Litmus {
    /// A test with these threads.
    pub fn new(name: &str, threads: &[&[Instruction]]) -> Litmus {
        Litmus { name: name.to_owned(), threads: threads.iter().map(|thread| thread.to_vec()).collect() }
    }

    /// The same test with a fence between each two accesses.
    #[must_use]
    pub fn fenced(&self) -> Litmus {
        let fence = |thread: &Vec<Instruction>| {
            let mut fenced = Vec::new();
            for (index, instruction) in thread.iter().enumerate() {
                if index > 0 {
                    fenced.push(Instruction::Fence);
                }
                fenced.push(*instruction);
            }
            fenced
        };
        Litmus { name: format!("{}+fences", self.name), threads: self.threads.iter().map(fence).collect() }
    }

    /// How many variables it has.
    pub fn variables(&self) -> usize {
        let used = self.threads.iter().flatten().filter_map(|instruction| match instruction {
            Instruction::Load(variable) => Some(*variable),
            other => other.writes(),
        });
        used.max().map_or(0, |last| last + 1)
    }

    /// How many values a thread observes.
    pub fn observations(&self, thread: usize) -> usize {
        self.threads[thread].iter().filter(|instruction| instruction.observes()).count()
    }

    /// Whether what is left in a variable says something: it was written more than once.
    fn end_matters(&self, variable: usize) -> bool {
        self.threads.iter().flatten().filter(|instruction| instruction.writes() == Some(variable)).count() > 1
    }

    /// An outcome in words: `0:r0=1 1:r0=0 x=2`, where registers are numbered by the thread's observations, and variables
    /// stand that were written more than once.
    pub fn describe(&self, outcome: &Outcome) -> String {
        let mut words = Vec::new();
        let mut values = outcome.0.iter().map(|value| Value(*value));
        for thread in 0..self.threads.len() {
            for register in 0..self.observations(thread) {
                let value = values.next().unwrap_or(Value(Outcome::FOREIGN));
                words.push(format!("{thread}:r{register}={value}"));
            }
        }
        for (variable, value) in values.enumerate() {
            // A value that no instruction stores is always worth saying.
            if self.end_matters(variable) || value.0 == Outcome::FOREIGN {
                words.push(format!("{}={value}", VARIABLES[variable]));
            }
        }
        words.join(" ")
    }
}

struct Value(u8);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Outcome::FOREIGN { f.write_str("foreign") } else { self.0.fmt(f) }
    }
}

/// What an execution left: all observations, thread by thread, and then what is in each variable at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome(pub Vec<u8>);

impl Outcome {
    /// Stands for a value that nobody stored in this round: one of an earlier round, or rubbish.
    pub const FOREIGN: u8 = u8::MAX;
}
