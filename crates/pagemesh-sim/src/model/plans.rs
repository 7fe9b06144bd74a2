//! The meshes that are checked.

use super::plan::Plan;
use pagemesh_protocol::{NodeId, Placement, Protocol};

const AT_FIRST: Placement = Placement::Single(NodeId::new(0));

/// Meshes that are checked with every run of the tests, all but two of them with copies that are given back: both protocols, each placement that a mesh of this size can tell
/// from the others, and each thing that threads do beside reading and writing.
pub fn small_plans() -> Vec<Plan> {
    use Protocol::{Migration, WriteInvalidate};
    let mut plans = Vec::new();
    for protocol in [WriteInvalidate, Migration] {
        // With as many pages as nodes, block is cyclic.
        for placement in [Placement::Cyclic, AT_FIRST, Placement::FirstTouch] {
            plans.push(Plan::new(2, 2).of(protocol, placement));
        }
        for placement in [AT_FIRST, Placement::FirstTouch] {
            plans.push(Plan::new(3, 1).of(protocol, placement));
            plans.push(Plan::new(2, 1).of(protocol, placement).threads(2));
        }
        plans.push(Plan::new(3, 1).of(protocol, AT_FIRST).with_barrier());
        plans.push(Plan::new(2, 1).of(protocol, AT_FIRST).lock_at_first());
        plans.push(Plan::new(2, 2).of(protocol, AT_FIRST).lock_at_first().without_evictions());
        plans.push(Plan::new(3, 1).of(protocol, AT_FIRST).any_may_die());
    }
    plans.push(
        Plan::new(2, 1)
            .of(WriteInvalidate, AT_FIRST)
            .lock_at_first()
            .with_cancel()
            .operations(2)
            .any_may_die(),
    );
    plans.push(Plan::new(3, 1).of(Migration, AT_FIRST).lock_at_first().operations(1).any_may_die());
    plans.push(
        Plan::new(2, 1).of(Migration, AT_FIRST).threads(2).lock_at_first().operations(1).without_evictions(),
    );
    plans.push(Plan::new(2, 2).of(WriteInvalidate, AT_FIRST).with_prefetch());
    plans.push(Plan::new(2, 1).of(WriteInvalidate, Placement::FirstTouch).any_may_die().with_barrier());
    plans.push(Plan::new(3, 1).of(WriteInvalidate, Placement::FirstTouch).any_may_die());
    plans.push(Plan::new(2, 1).of(WriteInvalidate, AT_FIRST).threads(2).with_cancel().with_prefetch());
    for protocol in [WriteInvalidate, Migration] {
        plans.push(Plan::new(3, 1).of(protocol, AT_FIRST).with_atomics());
        plans.push(Plan::new(2, 1).of(protocol, Placement::FirstTouch).with_atomics().any_may_die());
        plans.push(Plan::new(2, 1).of(protocol, AT_FIRST).with_atomics().with_cancel().operations(2));
    }
    plans.push(Plan::new(3, 1).of(WriteInvalidate, Placement::FirstTouch).with_atomics().without_evictions());
    plans.push(Plan::new(3, 1).of(Migration, AT_FIRST).with_tree(1).without_evictions().operations(3));
    plans.push(
        Plan::new(3, 1).of(Migration, AT_FIRST).with_tree(1).without_evictions().operations(2).any_may_die(),
    );
    plans
        .push(Plan::new(3, 1).of(WriteInvalidate, AT_FIRST).with_atomics().without_evictions().any_may_die());
    plans.extend(plans_with_hints());
    plans
}

/// Meshes in which reads go to the owner of a page.
pub fn plans_with_hints() -> Vec<Plan> {
    let mesh = |placement| Plan::new(3, 1).of(Protocol::WriteInvalidate, placement).with_hints();
    vec![
        mesh(AT_FIRST),
        mesh(AT_FIRST).any_may_die().without_evictions(),
        mesh(AT_FIRST).with_atomics().without_evictions(),
        mesh(Placement::FirstTouch).without_evictions(),
    ]
}

/// Those, and meshes that take minutes.
pub fn full_plans() -> Vec<Plan> {
    use Protocol::{Migration, WriteInvalidate};
    let mut plans = small_plans();
    for protocol in [WriteInvalidate, Migration] {
        plans.push(Plan::new(2, 2).of(protocol, AT_FIRST).lock_at_first());
        plans.push(Plan::new(2, 2).of(protocol, Placement::FirstTouch).lock_at_first());
        for placement in [AT_FIRST, Placement::FirstTouch] {
            let one_page = Plan::new(3, 1).of(protocol, placement);
            plans.push(one_page.clone().lock_at_first());
            plans.push(one_page.clone().with_prefetch().any_may_die());
            plans.push(one_page.threads(2));
            plans.push(Plan::new(4, 1).of(protocol, placement));
        }
        plans.push(Plan::new(3, 2).of(protocol, AT_FIRST).without_evictions());
    }
    plans.push(
        Plan::new(3, 1)
            .of(WriteInvalidate, AT_FIRST)
            .lock_at_first()
            .with_cancel()
            .operations(2)
            .any_may_die(),
    );
    let hints = || Plan::new(3, 1).of(WriteInvalidate, AT_FIRST).with_hints();
    plans.push(hints().any_may_die());
    plans.push(hints().with_atomics().without_evictions().any_may_die());
    plans.push(hints().threads(2).without_evictions());
    plans
}

/// Meshes in which planted faults are looked for, the smallest first.
pub fn hunting_plans() -> Vec<Plan> {
    let (first_touch, migration) = (Placement::FirstTouch, Protocol::Migration);
    vec![
        Plan::new(2, 1).with_barrier(),
        Plan::new(3, 1).of(Protocol::WriteInvalidate, AT_FIRST),
        Plan::new(3, 1).of(Protocol::WriteInvalidate, AT_FIRST).with_atomics(),
        Plan::new(3, 1).of(migration, AT_FIRST),
        Plan::new(3, 1).of(Protocol::WriteInvalidate, first_touch),
        Plan::new(2, 1).threads(2),
        Plan::new(3, 1).of(migration, AT_FIRST).lock_at_first().operations(1),
        Plan::new(2, 1).lock_at_first().with_cancel().operations(2),
        Plan::new(2, 1).threads(2).lock_at_first().operations(1).without_evictions(),
        Plan::new(2, 1).of(migration, AT_FIRST).lock_at_first().any_may_die(),
        Plan::new(3, 1).of(Protocol::WriteInvalidate, AT_FIRST).any_may_die(),
        // Bytes that come late take many events; what else may happen would bury them.
        Plan::new(3, 1).of(Protocol::WriteInvalidate, AT_FIRST).any_may_die().without_evictions(),
        Plan::new(3, 1).of(migration, AT_FIRST).lock_at_first().operations(1).any_may_die(),
        Plan::new(3, 1).of(migration, AT_FIRST).with_tree(1).without_evictions().operations(3).any_may_die(),
    ]
}
