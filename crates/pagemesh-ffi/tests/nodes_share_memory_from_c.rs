//! Programs in C and C++ share memory as those in Rust do, however their nodes were started: by a launcher's environment, by
//! structures, by a list of addresses, by fork.

mod common;

use common::{
    Linkage, Process, command, command_in, compile, folder, free_address, program, run, settings, start_nodes,
};
use std::fs;

#[test]
fn four_nodes_of_four_threads_with_each_pager() {
    let nodes = program("nodes.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&nodes, 4, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

/// The program orders its accesses by locks and barriers: then the protocol is nothing that it could notice.
#[test]
fn four_nodes_with_another_protocol() {
    let nodes = program("nodes.c", Linkage::Shared);
    for protocol in ["migration", "release", "entry"] {
        let coordinator = free_address().to_string();
        let start = |node: usize| {
            let mut command = command(&nodes);
            command.env("PAGEMESH_NODE", node.to_string()).env("PAGEMESH_NODES", "4");
            command.env("PAGEMESH_COORDINATOR", &coordinator).env("PAGEMESH_PROTOCOL", protocol);
            Process::start(&mut command)
        };
        for node in (0..4).map(start).collect::<Vec<_>>() {
            assert_eq!(node.said(), ["done"], "{protocol}");
        }
    }
}

/// Writers of one page, pins that outlast a barrier, and pins that do not last.
#[test]
fn four_nodes_with_a_release_region_and_pins() {
    let released = program("released.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&released, 4, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn the_static_library_does_the_same() {
    let nodes = program("nodes.c", Linkage::Static);
    for node in start_nodes(&nodes, 2, settings()[0], &[]) {
        assert_eq!(node.said(), ["done"]);
    }
}

#[test]
fn nodes_come_by_structures_in_any_order() {
    let nodes = program("nodes.c", Linkage::Shared);
    let port = free_address().port().to_string();
    for setting in settings() {
        let start = |node: &str| Process::start(command_in(&nodes, *setting).args([node, &port]));
        let started: Vec<Process> = ["3", "2", "0", "1"].into_iter().map(start).collect();
        for node in started {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn nodes_come_by_a_list_of_addresses() {
    let start = program("start.c", Linkage::Shared);
    for setting in settings() {
        let addresses: Vec<String> = (0..3).map(|_| free_address().to_string()).collect();
        let node =
            |node: u32| Process::start(command_in(&start, *setting).arg(node.to_string()).args(&addresses));
        for node in (0..3).map(node).collect::<Vec<_>>() {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

/// As after a mesh of which a thread of the process is still in a call.
#[test]
fn addresses_are_found_beside_terabytes_that_are_in_use() {
    let crowded = program("crowded.c", Linkage::Shared);
    for setting in settings() {
        for node in start_nodes(&crowded, 2, *setting, &[]) {
            assert_eq!(node.said(), ["done"], "{setting}");
        }
    }
}

#[test]
fn nodes_come_by_fork() {
    let fork = program("fork.c", Linkage::Shared);
    for setting in settings() {
        let said = Process::start(&mut command_in(&fork, *setting)).said();
        assert_eq!(said, ["done"], "{setting}");
    }
}

/// A node's number that is taken, and a mesh of another size, are refused at once.
#[test]
fn a_node_that_does_not_fit_is_told_so_at_once() {
    let fits = program("fits.c", Linkage::Shared);
    let port = free_address().port().to_string();
    let start = |arguments: [&str; 2]| Process::start(command(&fits).args(arguments).arg(&port));
    let manager = start(["0", "3"]);
    let first = start(["1", "3"]);
    let second = start(["1", "3"]);
    let other = start(["2", "4"]);
    assert_eq!(other.said(), ["-6"]);
    // One of the two has come first.
    let refused = loop {
        let said =
            [&first, &second].map(|node| node.hear_within_or_none(std::time::Duration::from_millis(5)));
        if let Some(index) = said.iter().position(Option::is_some) {
            assert_eq!(said[index].as_deref(), Some("-6"));
            break index;
        }
    };
    let last = start(["2", "3"]);
    let rest = if refused == 0 { second } else { first };
    for node in [manager, rest, last] {
        assert_eq!(node.said(), ["0"]);
    }
}

#[test]
fn a_program_in_cpp() {
    assert_eq!(run::<&str>(&program("classes.cpp", Linkage::Shared), &[]), ["done"]);
}

/// The program that people know from an older library, line by line.
#[test]
fn the_usage_example_compiles_as_printed_and_runs() {
    let printed = common::here().join("tests/c/usage.c");
    compile(&printed, Linkage::Shared, &[]);
    // Its port may be in use here.
    let port = free_address().port().to_string();
    let text = fs::read_to_string(printed).unwrap();
    assert!(text.contains(".port = 5000,"));
    let moved = folder().join("usage_moved.c");
    fs::write(&moved, text.replace("5000", &port)).unwrap();
    let usage =
        Process::start(command(&compile(&moved, Linkage::Shared, &[])).stderr(std::process::Stdio::null()));
    let worker = program("usage_worker.c", Linkage::Shared);
    let workers: Vec<Process> = ["1", "2", "3"]
        .into_iter()
        .map(|node| Process::start(command(&worker).args([node, &port])))
        .collect();
    for worker in workers {
        assert_eq!(worker.said(), ["done"]);
    }
    usage.output();
}
