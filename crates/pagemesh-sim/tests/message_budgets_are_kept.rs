//! A protocol can be right and slow. These scenarios count the messages between nodes that one access costs.

use pagemesh_protocol::{Access, BarrierId, LockId, NodeId, Outcome, PageAddress, PageState, Placement};
use pagemesh_sim::{Breach, Lockstep};

/// A mesh with one region whose pages all have their home at node 0.
fn mesh(nodes: u16) -> Result<(Lockstep, PageAddress), Breach> {
    let mut mesh = Lockstep::new(nodes);
    let region = mesh.open_region(4, Placement::Single(NodeId::new(0)))?;
    Ok((mesh, PageAddress::new(region, 0)))
}

#[test]
fn a_first_touch_is_two_messages_or_none() -> Result<(), Breach> {
    for access in [Access::Read, Access::Write] {
        let (mut mesh, page) = mesh(3)?;
        assert_eq!(mesh.access(1, page, access)?, 2);
        let other = PageAddress::new(page.region, 1);
        assert_eq!(mesh.access(0, other, access)?, 0, "the home asks itself");
    }
    Ok(())
}

#[test]
fn a_hit_is_no_message() -> Result<(), Breach> {
    let (mut mesh, page) = mesh(3)?;
    mesh.access(1, page, Access::Write)?;
    assert_eq!(mesh.access(1, page, Access::Read)?, 0);
    assert_eq!(mesh.access(1, page, Access::Write)?, 0);
    Ok(())
}

#[test]
fn a_read_of_a_page_that_its_home_has_is_two_messages() -> Result<(), Breach> {
    for first in [Access::Read, Access::Write] {
        let (mut mesh, page) = mesh(3)?;
        mesh.access(0, page, first)?;
        assert_eq!(mesh.access(1, page, Access::Read)?, 2);
        assert_eq!(mesh.access(2, page, Access::Read)?, 2);
    }
    Ok(())
}

#[test]
fn a_page_that_is_dirty_at_a_third_node_is_at_most_four_messages() -> Result<(), Breach> {
    for access in [Access::Read, Access::Write] {
        let (mut mesh, page) = mesh(3)?;
        mesh.access(1, page, Access::Write)?;
        assert!(mesh.access(2, page, access)? <= 4);
        assert_eq!(
            mesh.state(1, page),
            if access == Access::Read { PageState::Shared } else { PageState::Invalid }
        );
    }
    Ok(())
}

#[test]
fn an_upgrade_is_two_messages_and_two_for_each_other_sharer() -> Result<(), Breach> {
    for sharers in 0..5 {
        let (mut mesh, page) = mesh(8)?;
        // The home has no copy, so every message is between two nodes.
        mesh.access(1, page, Access::Write)?;
        for sharer in 0..sharers {
            mesh.access(2 + sharer, page, Access::Read)?;
        }
        mesh.access(7, page, Access::Read)?;
        let others = sharers as u64 + 1;
        assert_eq!(mesh.access(7, page, Access::Write)?, 2 + 2 * others, "{others} other sharers");
    }
    Ok(())
}

#[test]
fn a_free_lock_is_two_messages_once_and_a_barrier_two_for_each_remote_thread() -> Result<(), Breach> {
    let nodes = 4;
    let mut mesh = Lockstep::new(nodes);
    let lock = LockId(9);
    let home = pagemesh_protocol::lock_home(lock, nodes).index();
    let taker = (home + 1) % nodes as usize;
    let ticket = mesh.lock(taker, lock)?;
    mesh.settle()?;
    assert_eq!(mesh.outcome(taker, ticket), Some(Outcome::Done));
    assert_eq!(mesh.messages(), 2);
    mesh.unlock(taker, lock, ticket)?;
    mesh.settle()?;
    assert_eq!(mesh.messages(), 2, "it stays where it was used");
    let barrier = BarrierId(5);
    for node in 0..nodes as usize {
        mesh.arrive(node, barrier, nodes as u32)?;
    }
    mesh.settle()?;
    assert_eq!(mesh.messages(), 2 + 2 * (nodes as u64 - 1));
    Ok(())
}
