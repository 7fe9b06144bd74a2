//! `dsm_broadcast` gives every node the bytes of one, of any size, and tells all nodes when one of them called it otherwise: four nodes, with
//! each pager, and with each protocol that the settings can name, of which it knows nothing.

mod common;

use common::{Linkage, Process, command, free_address, program, settings, start_nodes};

#[test]
fn four_nodes_with_each_pager() {
    let broadcast = program("broadcast.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&broadcast, 4, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn four_nodes_with_each_protocol() {
    let broadcast = program("broadcast.c", Linkage::Shared);
    for protocol in ["migration", "release"] {
        let coordinator = free_address().to_string();
        let start = |node: usize| {
            let mut command = command(&broadcast);
            command.env("PAGEMESH_NODE", node.to_string()).env("PAGEMESH_NODES", "4");
            command.env("PAGEMESH_COORDINATOR", &coordinator).env("PAGEMESH_PROTOCOL", protocol);
            Process::start(&mut command)
        };
        for node in (0..4).map(start).collect::<Vec<_>>() {
            assert_eq!(node.said(), ["done"], "{protocol}");
        }
    }
}
