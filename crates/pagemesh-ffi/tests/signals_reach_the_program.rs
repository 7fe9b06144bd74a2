//! Page faults come as SIGBUS or SIGSEGV. A program with handlers of its own for these, set at any time, must get what is its own
//! and be told what it has set; by both libraries, in strict ISO C too, where `signal` is another function.

mod common;

use common::{Linkage, Process, command_in, compile, here, settings};

#[test]
fn whenever_the_handler_was_set() {
    let source = here().join("tests/c/signals.c");
    for (linkage, options) in [
        (Linkage::Shared, &[][..]),
        (Linkage::Shared, &["-DSTRICT"]),
        (Linkage::Static, &[]),
        (Linkage::Static, &["-DSTRICT"]),
    ] {
        let signals = compile(&source, linkage, options);
        for setting in settings() {
            let said = Process::start(&mut command_in(&signals, *setting)).said();
            assert_eq!(said, ["done"], "{linkage:?} {options:?} {setting}");
        }
    }
}
