//! A C program that closes its regions must get their memory, names and numbers back, on every node, and must not lose a region that another node
//! still has: two nodes, with each pager.

mod common;

use common::{Linkage, program, settings, start_nodes};

#[test]
fn three_nodes_with_each_pager() {
    let closed = program("closed.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&closed, 3, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}
