//! A program may hand its locks over for months. What a node keeps of intervals, notices and twins must depend on the pages that are
//! written, not on how often.

mod common;

use common::mesh::Mesh;
use common::{PAGES, REGION, lock_at};
use pagemesh_protocol::{Access, PageAddress, Placement, Protocol};

const NODES: u16 = 3;
const HAND_OVERS: u64 = 1_000_000;

fn page(number: u64) -> PageAddress {
    PageAddress::new(REGION, number % PAGES)
}

/// All that an engine holds, in one number.
fn held(mesh: &Mesh) -> usize {
    mesh.engines.iter().map(|engine| format!("{engine:?}").len()).sum()
}

/// Each node in turn takes one of two locks, writes a page of the lock and one of its own, and gives the lock back.
fn hand_over(mesh: &mut Mesh, turn: u64) {
    let number = (turn % NODES as u64) as u16;
    let which = turn / 7 % 2;
    let lock = lock_at(which as u16, NODES, 0);
    let ticket = mesh.acquires(number, lock);
    mesh.deliver_all();
    mesh.accesses(number, page(which), Access::Write);
    mesh.accesses(number, page(10 + number as u64 * 8 + turn % 5), Access::Write);
    mesh.releases(number, ticket, lock);
    mesh.deliver_all();
    mesh.forget();
}

#[test]
fn what_is_kept_does_not_grow_with_the_hand_overs() {
    let mut mesh = Mesh::following(Protocol::Release, NODES, Placement::Cyclic);
    let early = HAND_OVERS / 20;
    let (mut early_held, mut most_twins) = (0, 0);
    for turn in 0..HAND_OVERS {
        hand_over(&mut mesh, turn);
        most_twins = mesh.twins.len().max(most_twins);
        if turn == early {
            early_held = held(&mesh);
        }
    }
    for engine in &mesh.engines {
        assert!(engine.is_quiet(), "node {:?} is not at rest", engine.node());
        // Each node writes two pages of locks and five of its own.
        assert!(engine.notices_held() <= 2 * NODES as usize + 5 * NODES as usize);
    }
    // An interval ends when a lock leaves its node: the two last holders have not told anyone of two pages each.
    assert!(mesh.twins.len() <= 4, "{:?}", mesh.twins);
    assert!(most_twins <= 4, "the intervals end with the locks: {most_twins}");
    // Numbers have become longer, and nothing has become more.
    let late = held(&mesh);
    assert!(late < early_held + early_held / 10, "{early_held} bytes of text early, {late} late");
}
