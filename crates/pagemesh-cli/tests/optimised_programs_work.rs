//! The other tests run what is built for them, with little optimisation. What users run is optimised: there functions are inlined into
//! each other, so that a frame of the fault handler once became larger than the stack it was on. So the released programs are
//! built, as users build them, and do a little of everything with each pager.

mod life_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use life_support::reference;
use life_support::user_support::{self, for_every_user_and_pager};
use pagemesh_demos::patterns::Named;

/// Builds what a user builds, beside what the tests are built into; returns the folder of the programs.
fn optimised() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's folder");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        // All that it needs was needed by the tests too: nothing is asked of the network.
        .args(["build", "--release", "--locked", "--offline", "--quiet", "--target-dir"])
        .arg(target)
        .args(["-p", "pagemesh-cli", "--bin", "pagemesh", "-p", "pagemesh", "--example", "handler_stack"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo is there");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("release")
}

/// What a program says that ends well and complains of nothing.
#[track_caller]
fn said(ran: &Output) -> String {
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn programs_as_users_build_them_are_right_with_every_pager() {
    let folder = optimised();
    // Under a name of its own: there is a `pagemesh` that was built with the tests.
    let pagemesh = user_support::public_folder().join("pagemesh-optimised");
    fs::copy(folder.join("pagemesh"), &pagemesh).expect("there is room");
    let handler_stack = user_support::public_copy(&folder.join("examples/handler_stack"));
    let population = reference(&Named::RPentomino.grid(), 320, 320, 200).population();
    for_every_user_and_pager(|setting| {
        let run = |arguments: &str| {
            let mut command = user_support::command(&pagemesh);
            command.args(arguments.split(' '));
            command
        };
        let life = said(&run("demo life -n 3 --grid 320x320 --generations 200").output().expect("it runs"));
        assert!(life.ends_with(&format!("\npopulation {population}\n")), "{setting:?}: {life}");
        let compare = said(&run("demo compare -n 2 --sizes small --repeat 1").output().expect("it runs"));
        let last = compare.lines().last();
        assert_eq!(last, Some("every answer is that of the sequential program"), "{setting:?}");
        // It fails when the handler needs too much stack.
        let mut measure = run("run -n 2 --no-prefix --no-preload --");
        let measured = said(&measure.arg(&handler_stack).output().expect("it runs"));
        assert!(measured.contains("\nalternate stack "), "{setting:?}: {measured}");
    });
}
