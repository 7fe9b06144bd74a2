//! What the seed decides about each round: which thread runs where, where the variables lie, and who touches them first.
//!
//! Every node computes the same plan and needs no message for it.

use crate::program::Litmus;
use crate::random::Random;
use pagemesh::Protocol;

const PAGE_BYTES: usize = 4096;

/// Instances of a test that one round plays.
pub const ROUND_INSTANCES: usize = 512;

/// A round small enough that a short run has several.
const ROUNDS_MIN: usize = 12;

/// Where an instance's variables lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All on one page.
    SamePage,
    /// Each on a page of its own, with one home.
    SameHome,
    /// Each on a page of its own, with homes as different as there are nodes.
    OtherHomes,
}

const LAYOUTS: [Layout; 3] = [Layout::SamePage, Layout::SameHome, Layout::OtherHomes];

/// What is to be run.
#[derive(Debug, Clone)]
pub struct LitmusRun {
    /// The tests, in turn.
    pub tests: Vec<Litmus>,
    /// The protocols of the regions that they use, in turn.
    pub protocols: Vec<Protocol>,
    /// Executions of each test with each protocol.
    pub iterations: usize,
    /// Decides everything but the interleaving.
    pub seed: u64,
}

impl LitmusRun {
    /// Instances of each round.
    pub fn rounds(&self) -> Vec<usize> {
        let most = (self.iterations / ROUNDS_MIN).clamp(1, ROUND_INSTANCES);
        let whole = self.iterations / most;
        let mut rounds = vec![most; whole];
        if !self.iterations.is_multiple_of(most) {
            rounds.push(self.iterations % most);
        }
        rounds
    }

    /// The plan of round `round` of test `test` with protocol `protocol`, numbers in the order of the lists.
    pub fn round(&self, protocol: usize, test: usize, round: usize, nodes: usize) -> RoundPlan {
        let random = Random::part(self.seed, &[protocol as u64, test as u64, round as u64]);
        RoundPlan::new(random, &self.tests[test], self.rounds()[round], nodes)
    }
}

/// The plan of a round.
#[derive(Debug, Clone)]
pub struct RoundPlan {
    /// The node that runs each thread.
    pub places: Vec<usize>,
    /// Where the variables lie.
    pub layout: Layout,
    /// The node that sets all variables to 0 beforehand, and so has their pages.
    pub initialiser: usize,
    /// The nodes that read every page after that, and so may have copies at the start.
    pub readers: Vec<bool>,
    /// The node that looks at what is left.
    pub judge: usize,
    /// The instances, in the order in which every thread plays them.
    pub order: Vec<u32>,
    /// Threads play in step, by the clock: so long does each step take, in nanoseconds. Otherwise each goes as fast as it can.
    pub step_ns: Option<u64>,
    /// Threads of one node wait a moment for each other before each instance.
    pub together: bool,
    /// Each thread pauses before one in so many of its instructions: often where others are to come between two of them, hardly
    /// ever where two threads are to do something at the same instant.
    pub pauses: usize,
    /// For what each thread decides by itself.
    pub seed: u64,
    instances_per_page: usize,
    variables: usize,
    nodes: usize,
}

impl RoundPlan {
    fn new(mut random: Random, test: &Litmus, instances: usize, nodes: usize) -> RoundPlan {
        let layout = LAYOUTS[random.below(LAYOUTS.len())];
        let instances_per_page = [8, 16, 32, 64][random.below(4)];
        let places = places(&mut random, test.threads.len(), nodes);
        let mut order: Vec<u32> = (0..instances as u32).collect();
        if random.once_in(8) {
            // Every instance on another page than the one before: much ado about each.
            random.shuffle(&mut order);
        } else {
            let mut pages: Vec<Vec<u32>> = order.chunks(instances_per_page).map(<[u32]>::to_vec).collect();
            random.shuffle(&mut pages);
            order = pages.concat();
        }
        RoundPlan {
            places,
            layout,
            initialiser: random.below(nodes),
            readers: (0..nodes).map(|_| random.once_in(2)).collect(),
            judge: random.below(nodes),
            order,
            step_ns: [None, None, Some(30_000), Some(100_000)][random.below(4)],
            together: random.once_in(2),
            pauses: [2, 8, 8, 100][random.below(4)],
            seed: random.word(),
            instances_per_page,
            variables: test.variables(),
            nodes,
        }
    }

    /// Whether no two threads run on one node.
    pub fn is_apart(&self) -> bool {
        self.places.iter().enumerate().all(|(thread, place)| !self.places[..thread].contains(place))
    }

    /// Pages from one variable of an instance to the next, where each has a page: a multiple of the number of nodes, so that
    /// with cyclic placement they have one home.
    fn stride(&self) -> usize {
        stride(self.nodes)
    }

    /// The 64-bit word of the region in which `variable` of instance `instance` lies.
    pub fn word(&self, instance: usize, variable: usize) -> usize {
        let (page, within) = (instance / self.instances_per_page, instance % self.instances_per_page);
        let (page, slot, slots) = match self.layout {
            Layout::SamePage => {
                (page, within * self.variables + variable, self.instances_per_page * self.variables)
            }
            Layout::SameHome => (variable * self.stride() + page, within, self.instances_per_page),
            Layout::OtherHomes => {
                (variable * self.stride() + page + variable, within, self.instances_per_page)
            }
        };
        let slot_words = PAGE_BYTES / 8 / slots;
        page * PAGE_BYTES / 8 + slot * slot_words
    }
}

fn stride(nodes: usize) -> usize {
    // 8 instances to a page at the least, and room for the shift by the variable's number.
    (ROUND_INSTANCES / 8 + 4).next_multiple_of(nodes)
}

/// Pages that a region needs for every layout.
pub(crate) fn region_pages(nodes: usize) -> usize {
    4 * stride(nodes)
}

/// A node for each thread: mostly each another, as far as there are so many; else all on one, or some together.
fn places(random: &mut Random, threads: usize, nodes: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    random.shuffle(&mut all);
    let used = match random.below(8) {
        0 | 1 => 1,
        2 => 1 + random.below(nodes),
        _ => nodes,
    };
    let mut places: Vec<usize> = (0..threads).map(|thread| all[thread % used]).collect();
    random.shuffle(&mut places);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes;
    use std::collections::BTreeSet;

    fn run(iterations: usize) -> LitmusRun {
        let protocols = vec![Protocol::WriteInvalidate];
        LitmusRun { tests: shapes::all(), protocols, iterations, seed: 5 }
    }

    #[test]
    fn rounds_make_up_the_iterations() {
        for iterations in [1, 5, 100, 513, 7777, 100_000] {
            let rounds = run(iterations).rounds();
            assert_eq!(rounds.iter().sum::<usize>(), iterations);
            assert!(rounds.iter().all(|round| (1..=ROUND_INSTANCES).contains(round)));
            assert!(iterations < 100 || rounds.len() >= ROUNDS_MIN);
        }
    }

    #[test]
    fn every_variable_has_a_word_of_its_own_where_its_layout_wants_it() {
        let run = run(100_000);
        for nodes in 1..=5 {
            let mut layouts = BTreeSet::new();
            for round in 0..40 {
                for (number, test) in run.tests.iter().enumerate().step_by(7) {
                    let plan = run.round(0, number, round, nodes);
                    layouts.insert(format!("{:?}", plan.layout));
                    let mut words = BTreeSet::new();
                    for instance in 0..plan.order.len() {
                        let pages: BTreeSet<usize> = (0..test.variables())
                            .map(|variable| {
                                let word = plan.word(instance, variable);
                                assert!(words.insert(word) && word < region_pages(nodes) * 512);
                                word / 512
                            })
                            .collect();
                        let homes: BTreeSet<usize> = pages.iter().map(|page| page % nodes).collect();
                        let (pages_wanted, homes_wanted) = match plan.layout {
                            Layout::SamePage => (1, 1),
                            Layout::SameHome => (test.variables(), 1),
                            Layout::OtherHomes => (test.variables(), test.variables().min(nodes)),
                        };
                        assert_eq!((pages.len(), homes.len()), (pages_wanted, homes_wanted), "{plan:?}");
                    }
                }
            }
            assert_eq!(layouts.len(), 3);
        }
    }

    #[test]
    fn threads_run_apart_and_together() {
        let run = run(100_000);
        let apart = (0..60).filter(|round| run.round(0, 0, *round, 4).is_apart()).count();
        assert!((20..60).contains(&apart), "{apart} of 60 rounds with both threads on nodes of their own");
    }
}
