//! Random runs find what is likely. In a small mesh everything that can happen can be looked at, so that nothing rests on
//! luck: the real engine, in every order of messages, threads and one death; and release regions, in every order of messages and threads.

use pagemesh_sim::model::{check, check_intervals, small_interval_plans, small_plans};

/// Far more than any of these has: a mesh that goes beyond it has states without end.
const BOUND: usize = 5_000_000;

#[test]
fn every_state_of_small_meshes_is_right() {
    let mut states = 0;
    for plan in small_plans() {
        match check(&plan, BOUND) {
            Ok(found) => {
                assert!(found.complete, "{plan}: more than {BOUND} states");
                println!("{plan}: {} states, {} transitions", found.states, found.transitions);
                states += found.states;
            }
            Err(broken) => panic!("{broken}"),
        }
    }
    println!("{states} states in all");
}

#[test]
fn every_run_of_a_small_program_without_data_races_reads_what_was_written_last() {
    for plan in small_interval_plans() {
        match check_intervals(&plan, BOUND) {
            Ok(found) => {
                assert!(found.complete, "{plan}: more than {BOUND} states");
                println!("{plan}: {} states, {} transitions", found.states, found.transitions);
            }
            Err(broken) => panic!("{broken}"),
        }
    }
}
