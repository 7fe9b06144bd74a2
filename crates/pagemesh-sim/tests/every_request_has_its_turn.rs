//! A node that asks for a page while others pass it around must get it, and its thread must get to use it. The bound is
//! that of a fair queue: a request waits while at most each other node is served once. Here nodes that want the page all the
//! time try to keep another from it, the home among them; every access is then counted, and a page that is gone before it was used
//! fails the run by itself.

use pagemesh_protocol::{Access, NodeId, Outcome, PageAddress, Placement, Protocol, Ticket};
use pagemesh_sim::{Breach, Config, FaultPlan, Lockstep, Options, PATTERNS, Pattern, Timing, run_config};

const NODES: u16 = 5;
const ROUNDS: usize = 40;

/// Nodes that want one page again as soon as they have lost it.
struct Crowd {
    mesh: Lockstep,
    page: PageAddress,
    access: Access,
    /// The fault of each node, while it waits or its thread has not gone on.
    faults: Vec<Option<Ticket>>,
    /// Who used the page, in order.
    used: Vec<usize>,
}

impl Crowd {
    fn new(protocol: Protocol, access: Access) -> Result<Crowd, Breach> {
        let mut mesh = Lockstep::new(NODES);
        let region = mesh.open_region_of(protocol, 1, Placement::Single(NodeId::new(0)))?;
        mesh.slow_threads();
        let faults = vec![None; NODES as usize];
        Ok(Crowd { mesh, page: PageAddress::new(region, 0), access, faults, used: Vec::new() })
    }

    /// `node` faults, if it has not the page and does not wait for it.
    fn want(&mut self, node: usize) -> Result<(), Breach> {
        if self.faults[node].is_none() && !self.mesh.state(node, self.page).allows(self.access) {
            self.faults[node] = Some(self.mesh.fault(node, self.page, self.access)?);
        }
        Ok(())
    }

    /// The thread of whoever got the page uses it.
    fn use_page(&mut self) -> Result<(), Breach> {
        self.mesh.settle()?;
        for node in 0..NODES as usize {
            let Some(ticket) = self.faults[node] else { continue };
            let Some(outcome) = self.mesh.outcome(node, ticket) else { continue };
            assert_eq!(outcome, Outcome::Done);
            let state = self.mesh.state(node, self.page);
            assert!(state.allows(self.access), "node {node} was given the page and has it {state}");
            self.used.push(node);
            self.faults[node] = None;
            self.mesh.resume(node, ticket)?;
        }
        self.mesh.settle()
    }
}

#[test]
fn nobody_is_passed_over_by_nodes_that_want_a_page_all_the_time() -> Result<(), Breach> {
    for (protocol, access) in [
        (Protocol::Migration, Access::Read),
        (Protocol::Migration, Access::Write),
        (Protocol::WriteInvalidate, Access::Write),
    ] {
        // The patient one is the home too, whose page is always wanted when it comes.
        for patient in 0..NODES as usize {
            let mut crowd = Crowd::new(protocol, access)?;
            for _ in 0..ROUNDS {
                for node in (0..NODES as usize).filter(|node| *node != patient) {
                    crowd.want(node)?;
                }
                let since = crowd.used.len();
                crowd.want(patient)?;
                while !crowd.used[since..].contains(&patient) {
                    crowd.use_page()?;
                    for node in (0..NODES as usize).filter(|node| *node != patient) {
                        crowd.want(node)?;
                    }
                    let others = crowd.used[since..].iter().filter(|node| **node != patient).count();
                    assert!(others < NODES as usize, "{others} others used the page before node {patient}");
                }
            }
            assert!(crowd.mesh.passed_max() < NODES as u64);
        }
    }
    Ok(())
}

#[test]
fn two_nodes_that_bounce_a_page_do_not_keep_it_from_a_third() -> Result<(), Breach> {
    for third in [0, 3] {
        let mut crowd = Crowd::new(Protocol::Migration, Access::Write)?;
        for _ in 0..ROUNDS {
            crowd.want(1)?;
            crowd.want(2)?;
            crowd.want(third)?;
            crowd.use_page()?;
        }
        let last = crowd.used.len() - 1;
        let uses = |node| crowd.used[..last].iter().filter(move |used| **used == node).count();
        assert!(uses(1).abs_diff(uses(2)) <= 1 && uses(1).abs_diff(uses(third)) <= 1, "{:?}", crowd.used);
    }
    Ok(())
}

#[test]
fn in_random_runs_on_one_page_every_access_takes_one_fault() {
    let (mut passed, mut faults) = (0, 0);
    for seed in 0..60 {
        let mut config = Config::draw(seed);
        // Everyone on one page, and nothing that gives up or asks for what it has.
        config.workload.weights = PATTERNS.map(|pattern| u32::from(pattern == Pattern::Hot));
        config.workload.operations = 14;
        config.nodes = 4;
        config.threads = 3;
        config.regions.truncate(1);
        config.blocked = vec![Vec::new(); 4];
        config.faults = FaultPlan::default();
        config.early_leavers.clear();
        config.timing = Timing { slow_node: None, ..config.timing };
        for plan in &mut config.regions {
            plan.protocol = Protocol::Migration;
            if matches!(plan.placement, Placement::Single(_)) {
                plan.placement = Placement::Single(NodeId::new(0));
            }
        }
        config.draw_programs();
        match run_config(&config, Options::default()) {
            Ok(report) => {
                assert!(report.counts.retries_max <= 1, "seed {seed}: {:?}", report.counts);
                passed = passed.max(report.counts.passed_max);
                faults += report.counts.faults;
            }
            Err(failed) => panic!("{failed}"),
        }
    }
    assert!(faults > 1000, "the page is fought for");
    assert!((2..=3).contains(&passed), "some wait, and nobody for more than three others: {passed}");
}
