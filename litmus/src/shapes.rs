//! The litmus tests that are run, by the names that the literature gives them.
//!
//! The names are those of Alglave, Maranget and Tautschnig, "Herding cats" (TOPLAS 2014). SB+forward and n6 are from Owens, Sarkar
//! and Sewell, "A better x86 memory model: x86-TSO" (TPHOLs 2009), where the first is called iwp2.4.

use crate::program::Instruction::{FetchAdd, Load, Store, Swap};
use crate::program::Litmus;

const X: usize = 0;
const Y: usize = 1;
const Z: usize = 2;

/// The tests without fences.
fn plain() -> Vec<Litmus> {
    vec![
        // Store buffering: may both read before either write is seen?
        Litmus::new("SB", &[&[Store(X, 1), Load(Y)], &[Store(Y, 1), Load(X)]]),
        // Message passing: is the data there when the flag is?
        Litmus::new("MP", &[&[Store(X, 1), Store(Y, 1)], &[Load(Y), Load(X)]]),
        // Load buffering: may a load see a store that depends on it in time?
        Litmus::new("LB", &[&[Load(X), Store(Y, 1)], &[Load(Y), Store(X, 1)]]),
        Litmus::new("S", &[&[Store(X, 2), Store(Y, 1)], &[Load(Y), Store(X, 1)]]),
        Litmus::new("R", &[&[Store(X, 1), Store(Y, 1)], &[Store(Y, 2), Load(X)]]),
        Litmus::new("2+2W", &[&[Store(X, 1), Store(Y, 2)], &[Store(Y, 1), Store(X, 2)]]),
        // Coherence of one location: reads and writes in each order.
        Litmus::new("CoRR", &[&[Store(X, 1)], &[Load(X), Load(X)]]),
        Litmus::new("CoRR2", &[&[Store(X, 1)], &[Store(X, 2)], &[Load(X), Load(X)], &[Load(X), Load(X)]]),
        Litmus::new("CoWW", &[&[Store(X, 1), Store(X, 2)], &[Load(X), Load(X)]]),
        Litmus::new("CoRW", &[&[Load(X), Store(X, 1)], &[Store(X, 2)]]),
        Litmus::new("CoWR", &[&[Store(X, 1), Load(X)], &[Store(X, 2)]]),
        // Write to read causality, through a third thread.
        Litmus::new("WRC", &[&[Store(X, 1)], &[Load(X), Store(Y, 1)], &[Load(Y), Load(X)]]),
        Litmus::new("RWC", &[&[Store(X, 1)], &[Load(X), Load(Y)], &[Store(Y, 1), Load(X)]]),
        // Independent reads of independent writes: do two readers agree on their order?
        Litmus::new("IRIW", &[&[Store(X, 1)], &[Store(Y, 1)], &[Load(X), Load(Y)], &[Load(Y), Load(X)]]),
        // Three writers in a circle.
        Litmus::new(
            "3.2W",
            &[&[Store(X, 1), Store(Y, 2)], &[Store(Y, 1), Store(Z, 2)], &[Store(Z, 1), Store(X, 2)]],
        ),
        // Each reads its own store first, which the processor takes from its buffer.
        Litmus::new("SB+forward", &[&[Store(X, 1), Load(X), Load(Y)], &[Store(Y, 1), Load(Y), Load(X)]]),
        Litmus::new("n6", &[&[Store(X, 1), Load(X), Load(Y)], &[Store(Y, 2), Store(X, 2)]]),
    ]
}

/// The tests with atomics, which need no fences.
fn atomic() -> Vec<Litmus> {
    vec![
        Litmus::new("SB+swaps", &[&[Swap(X, 1), Load(Y)], &[Swap(Y, 1), Load(X)]]),
        Litmus::new("IRIW+swaps", &[&[Swap(X, 1)], &[Swap(Y, 1)], &[Load(X), Load(Y)], &[Load(Y), Load(X)]]),
        // No addition is lost and none is seen twice.
        Litmus::new("Adds", &[&[FetchAdd(X, 1), FetchAdd(X, 1)], &[FetchAdd(X, 1)], &[FetchAdd(X, 1)]]),
        // A store and an addition: neither comes between the other's read and write.
        Litmus::new("AddStore", &[&[FetchAdd(X, 1)], &[Store(X, 4), Load(X)]]),
    ]
}

/// All tests: each without fences and with, and those with atomics.
pub fn all() -> Vec<Litmus> {
    let mut tests = Vec::new();
    for test in plain() {
        let fenced = test.fenced();
        tests.push(test);
        tests.push(fenced);
    }
    tests.extend(atomic());
    tests
}

/// The tests of a shape: `SB` stands for itself, `SB+fences` and `SB+swaps`. None when there is no such shape.
pub fn named(shape: &str) -> Vec<Litmus> {
    let is_of = |test: &Litmus| {
        let name = test.name.to_ascii_lowercase();
        let shape = shape.to_ascii_lowercase();
        name == shape || name.strip_prefix(&shape).is_some_and(|rest| rest.starts_with('+'))
    };
    all().into_iter().filter(is_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_one_each_and_find_their_variants() {
        let names: BTreeSet<String> = all().into_iter().map(|test| test.name).collect();
        assert_eq!(names.len(), all().len());
        let found: Vec<String> = named("sb").into_iter().map(|test| test.name).collect();
        assert_eq!(found, ["SB", "SB+fences", "SB+forward", "SB+forward+fences", "SB+swaps"]);
        assert_eq!(named("2+2W").len(), 2);
        assert!(named("nothing").is_empty() && named("S").len() == 2);
    }
}
