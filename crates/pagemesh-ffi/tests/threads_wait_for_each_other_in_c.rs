//! Reader-writer locks, semaphores, condition variables and locked ranges do from C what they do from Rust: nobody is let in who may not, and no
//! signal is lost, which would stop the program.

mod common;

use common::{Linkage, Process, command_in, free_address, program, settings, start_nodes};

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

/// With the entry protocol set, memory that is allocated has ranges to be locked, and every other lock brings it up to date too.
#[test]
fn ranges_of_allocated_memory_are_had_by_one_writer_with_each_pager() {
    let ranges = program("ranges.c", Linkage::Shared);
    for setting in settings() {
        let coordinator = free_address().to_string();
        let start = |node: usize| {
            let mut command = command_in(&ranges, *setting);
            command.arg("malloc").env("PAGEMESH_PROTOCOL", "entry");
            command.env("PAGEMESH_NODE", node.to_string()).env("PAGEMESH_NODES", "3");
            Process::start(command.env("PAGEMESH_COORDINATOR", &coordinator))
        };
        for node in (0..3).map(start).collect::<Vec<_>>() {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

/// A lock that nobody else wanted meanwhile is taken without asking anyone.
#[test]
fn locks_are_taken_again_without_a_message_with_each_pager() {
    let again = program("again.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&again, 3, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}
