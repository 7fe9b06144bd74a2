//! A pinned page must not go before its pin ends or a deadline has passed, whatever order messages take, whoever dies, and
//! however pins overlap. And pins must not make nodes wait for each other in a circle: in the runs without deadlines everyone
//! comes to an end all the same. Where a circle cannot be helped, because a thread took pins in the wrong order, a deadline
//! opens it, and only then.

use pagemesh_protocol::{Access, NodeId, Outcome, PageAddress, Placement, Protocol};
use pagemesh_sim::{Breach, Lockstep, PinCounts, Pinners, run_pins};

const SEEDS: u64 = 300;

#[test]
fn pins_hold_in_random_runs() {
    let (mut patient, mut hasty) = (PinCounts::default(), PinCounts::default());
    for seed in 0..SEEDS {
        let config = Pinners::draw(seed);
        match run_pins(&config) {
            Ok(counts) if config.deadlines_permille == 0 => {
                assert_eq!(counts.taken, 0, "seed {seed}: a pin was broken and no deadline had passed");
                patient.add(&counts);
            }
            Ok(counts) => hasty.add(&counts),
            Err(failed) => panic!("{failed}"),
        }
    }
    println!("without deadlines: {patient:?}");
    println!("with deadlines: {hasty:?}");
    assert!(patient.waits > 1000 && hasty.waits > 1000, "pins are waited for");
    assert!(hasty.taken > 1000, "deadlines pass");
    assert!(patient.nested > 1000 && patient.failed > 50);
}

#[test]
fn a_run_of_pins_replays_exactly() {
    for seed in [3, 4, 5] {
        let config = Pinners::draw(seed);
        let runs = [run_pins(&config), run_pins(&config)].map(|run| run.map_err(|failed| failed.to_string()));
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// A mesh of three nodes, node 0 the home of all.
fn mesh(protocol: Protocol) -> Result<(Lockstep, [PageAddress; 6]), Breach> {
    let mut mesh = Lockstep::new(3);
    let region = mesh.open_region_of(protocol, 6, Placement::Single(NodeId::new(0)))?;
    Ok((mesh, [0, 1, 2, 3, 4, 5].map(|page| PageAddress::new(region, page))))
}

/// Two nodes that pin ranges with pages in common, in turns of one page each: `first` and `second` are the pages that nodes 1
/// and 2 take, in this order. Returns who has all his pages first; `None` when they wait for each other.
fn race(mesh: &mut Lockstep, first: &[PageAddress], second: &[PageAddress]) -> Result<Option<usize>, Breach> {
    let ranges = [first, second];
    let mut taken = [0, 0];
    let mut waiting = [None, None];
    loop {
        let mut moved = false;
        for side in 0..2 {
            let node = side + 1;
            if let Some(ticket) = waiting[side] {
                if mesh.outcome(node, ticket) != Some(Outcome::Done) {
                    continue;
                }
                waiting[side] = None;
                taken[side] += 1;
            }
            if taken[side] == ranges[side].len() {
                return Ok(Some(node));
            }
            let page = ranges[side][taken[side]];
            waiting[side] = Some(mesh.pin(node, (node as u64, node as u64), page, Access::Write)?);
            moved = true;
        }
        let before = mesh.messages();
        mesh.settle()?;
        if !moved && mesh.messages() == before {
            return Ok(None);
        }
    }
}

#[test]
fn two_nodes_that_pin_overlapping_ranges_get_on_without_a_deadline() -> Result<(), Breach> {
    for protocol in [Protocol::WriteInvalidate, Protocol::Migration] {
        let (_, pages) = mesh(protocol)?;
        // Either begins below the other, they begin alike, and one lies in the other.
        for (first, second) in [(0..4, 2..6), (2..6, 0..4), (1..5, 1..5), (0..6, 2..3), (2..3, 0..6)] {
            let (mut mesh, _) = mesh(protocol)?;
            let quickest = race(&mut mesh, &pages[first.clone()], &pages[second.clone()])?;
            let quickest = quickest.expect("pages are taken in order, so one gets them all");
            mesh.unpin(quickest, quickest as u64)?;
            mesh.settle()?;
            assert_eq!(mesh.pins_taken(), 0, "{first:?} and {second:?}");
        }
    }
    Ok(())
}

#[test]
fn pins_taken_in_the_wrong_order_wait_for_the_deadline() -> Result<(), Breach> {
    let (mut mesh, pages) = mesh(Protocol::WriteInvalidate)?;
    let (first, second) = ([pages[0], pages[5]], [pages[5], pages[0]]);
    assert_eq!(race(&mut mesh, &first, &second)?, None, "each has what the other wants");
    assert_eq!((mesh.pin_waits(1), mesh.pin_waits(2)), (1, 1));
    mesh.expire_pins(1)?;
    mesh.settle()?;
    assert_eq!(mesh.pins_taken(), 1, "node 1 lets go, and node 2 gets on");
    mesh.unpin(2, 2)?;
    mesh.settle()?;
    mesh.unpin(1, 1)?;
    mesh.settle()
}

#[test]
fn both_readers_that_pin_for_writing_as_well_wait_for_the_deadline() -> Result<(), Breach> {
    let (mut mesh, pages) = mesh(Protocol::WriteInvalidate)?;
    let page = pages[0];
    for node in 1..3 {
        mesh.pin(node, (10 + node as u64, node as u64), page, Access::Read)?;
        mesh.settle()?;
    }
    let one = mesh.pin(1, (1, 1), page, Access::Write)?;
    let other = mesh.pin(2, (2, 2), page, Access::Write)?;
    mesh.settle()?;
    assert_eq!((mesh.outcome(1, one), mesh.outcome(2, other)), (None, None));
    mesh.expire_pins(1)?;
    mesh.expire_pins(2)?;
    mesh.settle()?;
    let done = [mesh.outcome(1, one), mesh.outcome(2, other)].into_iter().flatten().count();
    assert_eq!(done, 1, "one has it, the other waits for that pin");
    for node in 1..3 {
        mesh.unpin(node, 10 + node as u64)?;
    }
    let quick = if mesh.outcome(1, one).is_some() { 1 } else { 2 };
    mesh.unpin(quick, quick as u64)?;
    mesh.settle()?;
    let slow = 3 - quick;
    assert_eq!(mesh.outcome(slow, if slow == 1 { one } else { other }), Some(Outcome::Done));
    mesh.unpin(slow, slow as u64)
}

#[test]
fn a_pin_outlives_its_pages_home_and_everyone_else() -> Result<(), Breach> {
    let (mut mesh, pages) = mesh(Protocol::WriteInvalidate)?;
    mesh.pin(1, (1, 1), pages[0], Access::Write)?;
    mesh.settle()?;
    let waits = mesh.fault(2, pages[0], Access::Write)?;
    mesh.settle()?;
    assert_eq!(mesh.pin_waits(1), 1);
    mesh.kill(0);
    mesh.settle()?;
    assert!(matches!(mesh.outcome(2, waits), Some(Outcome::Failed(_))), "its home is gone");
    mesh.expire_pins(1)?;
    mesh.kill(2);
    mesh.settle()?;
    assert_eq!(mesh.pins_taken(), 0);
    mesh.unpin(1, 1)
}
