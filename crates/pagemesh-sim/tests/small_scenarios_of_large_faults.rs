//! Faults that random runs found, each as the smallest scenario that shows it, driven message by message.

use pagemesh_protocol::{Access, Failure, NodeId, Outcome, PageAddress, PageState, Placement};
use pagemesh_sim::{Breach, Lockstep};

fn mesh(nodes: u16) -> Result<(Lockstep, PageAddress), Breach> {
    let mut mesh = Lockstep::new(nodes);
    let region = mesh.open_region(4, Placement::Single(NodeId::new(0)))?;
    Ok((mesh, PageAddress::new(region, 0)))
}

/// The home is granted a page, and the next request in the queue takes it away before the home has looked at its own
/// grant: then two nodes have the page, or the home refuses its own message.
#[test]
fn a_home_has_what_it_was_granted_before_the_next_is_served() -> Result<(), Breach> {
    for next in [Access::Read, Access::Write] {
        let (mut mesh, page) = mesh(3)?;
        mesh.access(0, page, Access::Read)?;
        mesh.access(1, page, Access::Read)?;
        let home = mesh.fault(0, page, Access::Write)?;
        let other = mesh.fault(2, page, next)?;
        mesh.deliver(2, 0)?.expect("the request waits in the queue");
        mesh.deliver(0, 1)?.expect("the sharer is told to drop its copy");
        mesh.deliver(1, 0)?.expect("it has");
        mesh.settle()?;
        assert_eq!(mesh.outcome(0, home), Some(Outcome::Done));
        assert_eq!(mesh.outcome(2, other), Some(Outcome::Done));
    }
    Ok(())
}

/// The owner sends its copy and dies. The home knows first and asks the requester, who has nothing yet; then the
/// copy comes after all. Whatever the requester makes of it, the two must agree.
#[test]
fn bytes_that_come_after_a_recall_change_nothing() -> Result<(), Breach> {
    for access in [Access::Read, Access::Write] {
        let (mut mesh, page) = mesh(3)?;
        mesh.access(1, page, Access::Write)?;
        let ticket = mesh.fault(2, page, access)?;
        mesh.deliver(2, 0)?.expect("the request");
        mesh.deliver(0, 1)?.expect("the fetch");
        mesh.kill(1);
        mesh.deliver(1, 0)?;
        mesh.deliver(0, 2)?.expect("the recall");
        mesh.deliver(2, 0)?.expect("nothing has come");
        mesh.deliver(1, 2)?.expect("the bytes come after all");
        mesh.settle()?;
        let lost = Outcome::Failed(Failure::PageLost(NodeId::new(1)));
        assert_eq!(mesh.outcome(2, ticket), Some(lost));
        assert_eq!(mesh.state(2, page), PageState::Invalid);
    }
    Ok(())
}

/// The same, but the bytes come before the recall: then the page is saved.
#[test]
fn bytes_that_come_before_a_recall_are_kept() -> Result<(), Breach> {
    let (mut mesh, page) = mesh(3)?;
    mesh.access(1, page, Access::Write)?;
    let ticket = mesh.fault(2, page, Access::Write)?;
    mesh.deliver(2, 0)?.expect("the request");
    mesh.deliver(0, 1)?.expect("the fetch");
    mesh.kill(1);
    mesh.deliver(1, 0)?;
    mesh.deliver(1, 2)?.expect("the bytes");
    mesh.settle()?;
    assert_eq!(mesh.outcome(2, ticket), Some(Outcome::Done));
    assert_eq!(mesh.state(2, page), PageState::Modified);
    Ok(())
}
