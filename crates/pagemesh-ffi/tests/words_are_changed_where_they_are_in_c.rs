//! A C program that counts by `dsm_fetch_add_u64` must count each addition once, in memory of every protocol, and a word that it takes by
//! `dsm_compare_swap_u64` must keep others out: three nodes of three threads, with each pager.

mod common;

use common::{Linkage, program, settings, start_nodes};

#[test]
fn three_nodes_of_three_threads_with_each_pager() {
    let words = program("words.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&words, 3, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}
