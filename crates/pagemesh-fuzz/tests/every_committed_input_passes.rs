//! What fuzzing once found, or reached, stays looked at: every committed input is given to its target here, on any compiler and in
//! every run of the tests.

use pagemesh_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

/// A corpus is read by people and by every test run: it stays small.
const FILES_MAX: usize = 300;
const BYTES_MAX: usize = 300 * 1024;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The inputs of a target and their names, in order.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

/// Says which input failed, should one do so.
struct Named<'a>(&'a str, &'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzz/corpus/{}/{} did not pass", self.0, self.1);
        }
    }
}

#[test]
fn every_input_of_every_target_passes() {
    for (target, body) in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{target} has no inputs");
        for (name, bytes) in &inputs {
            let _named = Named(target, name);
            body(bytes);
        }
        println!("{target}: {} inputs", inputs.len());
    }
}

#[test]
fn no_corpus_outgrows_its_use() {
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        let bytes: usize = inputs.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(inputs.len() <= FILES_MAX, "{target}: {} files; minimise them", inputs.len());
        assert!(bytes <= BYTES_MAX, "{target}: {bytes} bytes; minimise them");
    }
}

#[test]
fn every_target_has_its_program() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    for (target, _) in TARGETS {
        let program = programs.join(format!("{target}.rs"));
        let text =
            fs::read_to_string(&program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert!(text.contains(&format!("pagemesh_fuzz::{target}(data)")), "{}", program.display());
    }
    let count = fs::read_dir(&programs).expect("the folder can be read").count();
    assert_eq!(count, TARGETS.len(), "a program has no entry in TARGETS");
}
