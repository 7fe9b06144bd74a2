//! Whoever installs the library finds it by pkg-config, and the examples and the manual's program are what they try first. So they
//! are built from an installed tree, by its own flags, and run.

mod common;

use common::{Linkage, PATIENCE, Process, built, command, compile, folder, here, settings, start_nodes};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs below a new folder; returns it.
fn install(name: &str, arguments: &[String]) -> PathBuf {
    let prefix = folder().join(name);
    let output = Command::new(here().join("install.sh"))
        .arg(format!("--from={}", built().display()))
        .args(arguments)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "it says nothing when all is well");
    prefix
}

/// What pkg-config says about an installation.
fn flags(pkgconfig: &Path, question: &[&str]) -> Vec<String> {
    let output =
        Command::new("pkg-config").args(question).arg("dsm").env("PKG_CONFIG_PATH", pkgconfig).output();
    let output = output.expect("pkg-config is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_is_installed_is_found_and_works() {
    let prefix = folder().join("there");
    install(
        "there",
        &[format!("--prefix={}", prefix.display()), format!("--libdir={}/lib64", prefix.display())],
    );
    let pkgconfig = prefix.join("lib64/pkgconfig");
    assert_eq!(flags(&pkgconfig, &["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    for (example, arguments) in [("counter", &["--cflags", "--libs"][..]), ("sum", &["--cflags", "--libs"])] {
        let program = folder().join(example);
        let source = prefix.join("share/doc/dsm/examples").join(format!("{example}.c"));
        let output = Command::new("cc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .arg(source)
            .args(flags(&pkgconfig, arguments))
            .arg("-o")
            .arg(&program)
            .output()
            .expect("a C compiler is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let libraries = prefix.join("lib64");
        if example == "sum" {
            let lines = Process::start(command(&program).env("LD_LIBRARY_PATH", &libraries)).output();
            let expected: u64 = (0..1_u64 << 20).map(|item| item % 1000).sum();
            assert_eq!(lines, [format!("the sum of 1048576 items is {expected}")]);
        } else {
            for (node, process) in start_nodes(&program, 3, settings()[0], &[]).into_iter().enumerate() {
                assert_eq!(process.output(), [format!("node {node} of 3 counts 3000")]);
            }
        }
    }
    for file in [
        "include/dsm/dsm.h",
        "include/dsm/types.h",
        "lib64/libdsm.a",
        "lib64/libdsm.so.0",
        "share/man/man7/dsm.7",
    ] {
        assert!(prefix.join(file).exists(), "{file} is installed");
    }
}

#[test]
fn a_packager_installs_below_a_folder_that_nothing_remembers() {
    let below = folder().join("below");
    install("below", &["--prefix=/usr".to_owned(), format!("--destdir={}", below.display())]);
    let text = fs::read_to_string(below.join("usr/lib/pkgconfig/dsm.pc")).expect("it is there");
    assert!(text.contains("prefix=/usr\n") && !text.contains("below"), "{text}");
    let link = fs::read_link(below.join("usr/lib/libdsm.so.0")).expect("a link");
    assert!(link.is_relative(), "{}", link.display());
}

#[test]
fn a_wrong_argument_is_explained() {
    for argument in ["--prefix", "--prefix=here", "--from=/nowhere"] {
        let output = Command::new(here().join("install.sh")).arg(argument).output().expect("it starts");
        assert!(!output.status.success() && !output.stderr.is_empty(), "{argument}");
    }
}

/// The manual page names every call, and its program works.
#[test]
fn the_manual_is_true() {
    let page = fs::read_to_string(here().join("man/dsm.7")).expect("it is there");
    let header = fs::read_to_string(here().join("include/dsm/dsm.h")).expect("it is there");
    let calls = header.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for call in calls.filter(|word| word.starts_with("dsm_") && !word.ends_with("_t")) {
        let shown = page.lines().any(|line| line.starts_with(".B") && line.contains(&format!("{call}(")));
        assert!(shown, "{call} is not in the manual's synopsis");
    }
    let program = page.split(".EX\n").nth(1).and_then(|rest| rest.split(".EE\n").next()).expect("an example");
    let source = folder().join("manual.c");
    fs::write(&source, program.replace("\\-", "-")).expect("there is room");
    for mut node in start_nodes(&compile(&source, Linkage::Shared, &[]), 2, settings()[0], &[]) {
        assert!(node.end().success(), "within {PATIENCE:?}");
    }
}

#[test]
fn the_readme_s_program_counts() {
    let readme = fs::read_to_string(here().join("../../README.md")).expect("it is there");
    let program = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    let source = folder().join("readme.c");
    fs::write(&source, program).expect("there is room");
    let program = compile(&source, Linkage::Shared, &[]);
    for (node, process) in start_nodes(&program, 2, settings()[0], &[]).into_iter().enumerate() {
        assert_eq!(process.output(), [format!("node {node} of 2 counts 2000")]);
    }
}
