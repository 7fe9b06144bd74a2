//! Reader-writer locks, semaphores, condition variables and locked ranges do from C what they do from Rust: nobody is let in who may not, and no
//! signal is lost, which would stop the program.

mod common;

use common::{Linkage, program, settings, start_nodes};

#[test]
fn three_nodes_of_three_threads_with_each_pager() {
    let waits = program("waits.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&waits, 3, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn ranges_are_had_by_one_writer_with_each_pager() {
    let ranges = program("ranges.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&ranges, 3, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}
