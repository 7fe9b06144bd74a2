//! What a processor may do, as machines small enough to try every step of.
//!
//! [`Model::TotalStoreOrder`] is x86-TSO (Sewell, Sarkar, Owens, Zappa Nardelli and Myreen, CACM 2010): each thread has a queue of stores
//! that have not reached memory; loads look there first; atomics and fences wait until it is empty.
//! [`Model::Sequential`] is Lamport's: one access at a time.

use crate::program::{Instruction, Litmus, Outcome};
use std::collections::{BTreeSet, VecDeque};

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Sequential consistency.
    Sequential,
    /// What `x86_64` promises.
    TotalStoreOrder,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Thread {
    /// The next instruction.
    at: usize,
    observed: Vec<u8>,
    /// Stores that no other thread can see yet, oldest first.
    buffer: VecDeque<(usize, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Machine {
    threads: Vec<Thread>,
    memory: Vec<u8>,
}

impl Machine {
    fn new(test: &Litmus) -> Machine {
        Machine { threads: vec![Thread::default(); test.threads.len()], memory: vec![0; test.variables()] }
    }

    /// The machine after the oldest buffered store of `thread` reached memory.
    fn drained(&self, thread: usize) -> Option<Machine> {
        let mut next = self.clone();
        let (variable, value) = next.threads[thread].buffer.pop_front()?;
        next.memory[variable] = value;
        Some(next)
    }

    /// The machine after the next instruction of `thread`; none when there is none, or when it has to wait.
    fn stepped(&self, model: Model, test: &Litmus, thread: usize) -> Option<Machine> {
        let instruction = *test.threads[thread].get(self.threads[thread].at)?;
        let waits = !matches!(instruction, Instruction::Load(_) | Instruction::Store(..));
        if waits && !self.threads[thread].buffer.is_empty() {
            return None;
        }
        let mut next = self.clone();
        let Machine { threads, memory } = &mut next;
        let state = &mut threads[thread];
        state.at += 1;
        match instruction {
            Instruction::Load(variable) => {
                let own = state.buffer.iter().rev().find(|(of, _)| *of == variable);
                state.observed.push(own.map_or(memory[variable], |(_, value)| *value));
            }
            Instruction::Store(variable, value) if model == Model::Sequential => memory[variable] = value,
            Instruction::Store(variable, value) => state.buffer.push_back((variable, value)),
            Instruction::Swap(variable, value) => {
                state.observed.push(memory[variable]);
                memory[variable] = value;
            }
            Instruction::FetchAdd(variable, value) => {
                state.observed.push(memory[variable]);
                memory[variable] = memory[variable].wrapping_add(value);
            }
            Instruction::Fence => {}
        }
        Some(next)
    }

    fn outcome(&self) -> Outcome {
        let observed = self.threads.iter().flat_map(|thread| &thread.observed);
        Outcome(observed.chain(&self.memory).copied().collect())
    }
}

/// Every outcome that `model` allows for `test`.
pub fn outcomes(model: Model, test: &Litmus) -> BTreeSet<Outcome> {
    let mut found = BTreeSet::new();
    let mut known = BTreeSet::new();
    let mut open = vec![Machine::new(test)];
    while let Some(machine) = open.pop() {
        let before = open.len();
        for thread in 0..test.threads.len() {
            open.extend(machine.drained(thread));
            open.extend(machine.stepped(model, test, thread));
        }
        // A machine that nothing can happen to has come to its end: a thread that waits can drain.
        if open.len() == before {
            found.insert(machine.outcome());
        }
        // Steps that lead where another order of them led already.
        let mut at = before;
        while at < open.len() {
            if known.insert(open[at].clone()) {
                at += 1;
            } else {
                open.swap_remove(at);
            }
        }
    }
    found
}
