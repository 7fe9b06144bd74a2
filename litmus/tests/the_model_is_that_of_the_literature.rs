//! What is forbidden is computed, not written down: so the machines that compute it must be right. Here they are held against the
//! verdicts that were published for these shapes, for x86-TSO and for sequential consistency.

use pagemesh_litmus::program::{Litmus, Outcome};
use pagemesh_litmus::{Model, outcomes, shapes};
use std::collections::BTreeSet;

/// The outcome that each shape is known for, and whether x86-TSO allows it. Observations first, then what is left in the
/// variables; none of the two where the verdict does not depend on it.
const VERDICTS: &[(&str, &[Option<u8>], bool)] = &[
    ("SB", &[Some(0), Some(0), None, None], true),
    ("MP", &[Some(1), Some(0), None, None], false),
    ("LB", &[Some(1), Some(1), None, None], false),
    ("S", &[Some(1), Some(2), None], false),
    ("R", &[Some(0), None, Some(2)], true),
    ("2+2W", &[Some(1), Some(1)], false),
    ("CoRR", &[Some(1), Some(0), None], false),
    ("CoRR2", &[Some(1), Some(2), Some(2), Some(1), None], false),
    ("CoWW", &[None, None, Some(1)], false),
    ("CoRW", &[Some(1), None], false),
    ("CoRW", &[Some(2), Some(2)], false),
    ("CoWR", &[Some(2), Some(1)], false),
    ("CoWR", &[Some(0), None], false),
    ("WRC", &[Some(1), Some(1), Some(0), None, None], false),
    ("RWC", &[Some(1), Some(0), Some(0), None, None], true),
    ("IRIW", &[Some(1), Some(0), Some(1), Some(0), None, None], false),
    ("3.2W", &[Some(1), Some(1), Some(1)], false),
    ("SB+forward", &[Some(1), Some(0), Some(1), Some(0), None, None], true),
    ("n6", &[Some(1), Some(0), Some(1), None], true),
    ("SB+swaps", &[Some(0), Some(0), Some(0), Some(0), None, None], false),
    ("IRIW+swaps", &[Some(0), Some(0), Some(1), Some(0), Some(1), Some(0), None, None], false),
    ("AddStore", &[Some(4), Some(4), Some(4)], false),
];

fn test(name: &str) -> Litmus {
    shapes::all().into_iter().find(|test| test.name == name).expect("a shape")
}

fn shows(found: &BTreeSet<Outcome>, pattern: &[Option<u8>]) -> bool {
    found.iter().any(|Outcome(values)| {
        assert_eq!(values.len(), pattern.len());
        values.iter().zip(pattern).all(|(value, wanted)| wanted.is_none_or(|wanted| wanted == *value))
    })
}

#[test]
fn each_shape_gets_its_published_verdict() {
    for (name, pattern, allowed) in VERDICTS {
        let test = test(name);
        let found = outcomes(Model::TotalStoreOrder, &test);
        assert_eq!(shows(&found, pattern), *allowed, "{name} under x86-TSO: {found:?}");
        assert!(!shows(&outcomes(Model::Sequential, &test), pattern), "{name} is what no single order shows");
    }
}

#[test]
fn fences_between_all_accesses_make_every_shape_sequential() {
    for test in shapes::all() {
        let sequential = outcomes(Model::Sequential, &test);
        let relaxed = outcomes(Model::TotalStoreOrder, &test);
        assert!(sequential.is_subset(&relaxed), "{}", test.name);
        if test.name.ends_with("+fences") || test.name.ends_with("+swaps") {
            assert_eq!(sequential, relaxed, "{}", test.name);
        }
    }
}

#[test]
fn small_shapes_have_the_outcomes_that_one_can_count() {
    // Two independent reads of two flags: every pair but (0, 0) in one order, every pair with buffers.
    assert_eq!(outcomes(Model::Sequential, &test("SB")).len(), 3);
    assert_eq!(outcomes(Model::TotalStoreOrder, &test("SB")).len(), 4);
    assert_eq!(outcomes(Model::TotalStoreOrder, &test("MP")).len(), 3);
    // Four flags of two readers: sixteen, less the one on which they disagree about the order.
    assert_eq!(outcomes(Model::TotalStoreOrder, &test("IRIW")).len(), 15);
    // Who adds when: the thread that adds twice has two of three turns, in order, and the others the rest.
    let adds = outcomes(Model::TotalStoreOrder, &test("Adds"));
    assert_eq!(adds.len(), 12);
    for Outcome(values) in adds {
        let found: BTreeSet<u8> = values[..4].iter().copied().collect();
        assert_eq!((found.len(), values[4]), (4, 4), "each addition found another value");
    }
}
