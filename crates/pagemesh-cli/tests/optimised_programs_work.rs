//! The other tests run what is built for them, with little optimisation. What users run is optimised: there functions are inlined into
//! each other, so that a frame of the fault handler once became larger than the stack it was on. So the released programs are
//! built, as users build them, and do a little of everything with each pager.

mod life_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;

use life_support::reference;
use life_support::user_support::{self, for_every_user_and_pager};
use pagemesh::pager::PagerKind;
use pagemesh_demos::patterns::Named;

/// Builds what a user builds, beside what the tests are built into; returns a folder with all of it that every user can reach. The
/// launcher is `pagemesh-optimised` there: there is a `pagemesh` that was built with the tests.
fn optimised() -> &'static Path {
    static READY: Once = Once::new();
    let folder = user_support::public_folder();
    READY.call_once(|| {
        let release = build();
        let copy = |from: &str, to: &str| {
            fs::copy(release.join(from), folder.join(to)).expect("it was built, and there is room");
        };
        copy("pagemesh", "pagemesh-optimised");
        copy("examples/handler_stack", "handler_stack");
        copy("libpagemesh_preload.so", "libpagemesh_preload.so");
        copy("libdsm.so", "libdsm.so");
        copy("libdsm.so", "libdsm.so.0");
    });
    folder
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's folder");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        // All that it needs was needed by the tests too: nothing is asked of the network.
        .args(["build", "--release", "--locked", "--offline", "--quiet", "--target-dir"])
        .arg(target)
        .args(["-p", "pagemesh-cli", "--bin", "pagemesh", "-p", "pagemesh", "--example", "handler_stack"])
        .args(["-p", "pagemesh-preload", "-p", "pagemesh-ffi", "--lib"])
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
    let population = reference(&Named::RPentomino.grid(), 320, 320, 200).population();
    for_every_user_and_pager(|setting| {
        let run = |arguments: &str| {
            let mut command = user_support::command(&folder.join("pagemesh-optimised"));
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
        let measured = said(&measure.arg(folder.join("handler_stack")).output().expect("it runs"));
        assert!(measured.contains("\nalternate stack "), "{setting:?}: {measured}");
    });
}

#[test]
fn a_c_program_reads_and_writes_files_in_shared_memory() {
    let folder = optimised();
    let program = folder.join("shared_files");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of crates");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(crates.join("pagemesh-ffi/include"))
        .arg(crates.join("pagemesh-cli/tests/c/shared_files.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(folder)
        .args(["-ldsm", "-lpthread"])
        .output()
        .expect("a C compiler is there: cc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for_every_user_and_pager(|setting| {
        let run = |options: &[&str]| {
            let mut command = user_support::command(&folder.join("pagemesh-optimised"));
            command.args(["run", "-n", "2"]).args(options).arg("--").arg(&program);
            command.env("LD_LIBRARY_PATH", folder).env_remove("PAGEMESH_PRELOAD");
            command.output().expect("it runs")
        };
        let lines = said(&run(&[]));
        assert_eq!(lines.matches("done").count(), 2, "{setting:?}: {lines}");
        // What it is that makes it work: without it only the pager that serves the kernel's own accesses does.
        let works = run(&["--no-preload"]).status.success();
        assert_eq!(works, setting.pager == Some(PagerKind::Handler), "{setting:?}");
    });
}
