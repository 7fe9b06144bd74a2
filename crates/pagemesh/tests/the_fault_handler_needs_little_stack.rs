//! A fault comes in the middle of any code, on whatever stack that has: an alternate stack of 8 KiB has room for little more
//! than the kernel's frame, and running over its end destroys foreign memory in silence. So the depth is measured, by a program of
//! two nodes whose stacks are painted, in this build; the optimised build is measured where the programs are tested.

mod cluster;

use pagemesh::pager::{PagerKind, choose};
use std::process::{Command, Stdio};

#[test]
fn on_a_painted_stack_little_has_changed() {
    let program = std::env::current_exe().expect("this test binary");
    // Cargo puts a package's examples there when it builds its tests.
    let example = program.ancestors().nth(2).expect("a folder").join("examples/handler_stack");
    for pager in PagerKind::ALL.into_iter().filter(|pager| choose(Some(*pager)).is_ok()) {
        let coordinator = cluster::free_address().to_string();
        let start = |node: &str| {
            let mut command = Command::new(&example);
            command.env("PAGEMESH_NODE", node).env("PAGEMESH_NODES", "2");
            command.env("PAGEMESH_COORDINATOR", &coordinator).env("PAGEMESH_PAGER", pager.to_string());
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("starts")
        };
        let nodes = ["0", "1"].map(start);
        let [first, second] = nodes.map(|node| node.wait_with_output().expect("a child"));
        assert!(first.status.success() && second.status.success(), "{pager}: {first:?} {second:?}");
        let said = String::from_utf8_lossy(&second.stdout).into_owned();
        assert!(said.starts_with(&format!("pager {pager}\nalternate stack ")), "{said}");
        println!("{said}");
    }
}
