//! Reader-writer locks, semaphores and condition variables do from C what they do from Rust: nobody is let in who may not, and no
//! signal is lost, which would stop the program.

mod common;

use common::{Linkage, pagers, program, start_nodes};

#[test]
fn three_nodes_of_three_threads_with_each_pager() {
    let waits = program("waits.c", Linkage::Shared);
    for pager in pagers() {
        for node in start_nodes(&waits, 3, pager, &[]) {
            assert_eq!(node.said(), ["done"], "{pager}");
        }
    }
}
