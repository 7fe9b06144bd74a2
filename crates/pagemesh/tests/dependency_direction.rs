//! The house stands because its parts know little of each other: an engine that never performs anything can be tested to the
//! last row, a transport that knows no message can be replaced, and `unsafe` in one place can be read by one person. Each
//! of these is lost by one careless import. So the direction of every dependency, the places of `unsafe`, the purity of
//! the engine and the size of files are checked here, from the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom, of the crates of this workspace; for normal, build and test dependencies alike.
const PERMITTED: &[(&str, &[&str])] = &[
    ("pagemesh-protocol", &[]),
    ("pagemesh-memory", &[]),
    ("pagemesh-net", &[]),
    ("pagemesh-sim", &["pagemesh-protocol"]),
    ("pagemesh", &["pagemesh-protocol", "pagemesh-memory", "pagemesh-net"]),
    ("pagemesh-ffi", &["pagemesh"]),
    ("pagemesh-preload", &[]),
    ("pagemesh-demos", &["pagemesh", "pagemesh-memory"]),
    ("pagemesh-bench", &["pagemesh", "pagemesh-memory", "pagemesh-demos"]),
    ("pagemesh-litmus", &["pagemesh"]),
    ("pagemesh-fuzz", &["pagemesh-protocol", "pagemesh-net", "pagemesh", "pagemesh-demos"]),
    (
        "pagemesh-cli",
        &["pagemesh", "pagemesh-demos", "pagemesh-bench", "pagemesh-litmus", "pagemesh-preload"],
    ),
];

/// Crates whose work is `unsafe`.
const UNSAFE_CRATES: &[&str] = &["pagemesh-memory", "pagemesh-ffi", "pagemesh-preload"];

/// What a pure state machine has no use for.
const IMPURE: &[&str] = &["time", "thread", "net", "fs", "io", "env", "process", "os"];

/// A file above the first number is reported, one above the second fails; lines without unit tests.
const FILE_LINES: (usize, usize) = (600, 900);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A line of a manifest, its section before it: `dependencies`, `target.'cfg(unix)'.dev-dependencies`.
fn lines_by_section(manifest: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or("").trim()) {
        if let Some(head) = line.strip_prefix('[').filter(|_| line.ends_with(']')) {
            section = String::from(head.trim_start_matches('[').trim_end_matches(']'));
        }
        if !line.is_empty() {
            lines.push((section.clone(), line.to_owned()));
        }
    }
    lines
}

fn value_of<'a>(lines: &'a [(String, String)], section: &str, key: &str) -> Option<&'a str> {
    let found = lines.iter().filter(|(of, _)| of == section).find_map(|(_, line)| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then_some(value.trim())
    });
    found.map(|value| value.trim_matches('"'))
}

/// Words that could name a package: in `net = { path = "../pagemesh-net" }`, among others, `pagemesh-net`.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '_')
}

struct Package {
    name: String,
    folder: PathBuf,
    manifest: Vec<(String, String)>,
}

/// Every member of the workspace, by the list in its manifest.
fn packages() -> Vec<Package> {
    let root = root();
    let manifest = read(&root.join("Cargo.toml"));
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let members = members.expect("the workspace lists its members");
    let folders = members.split(',').map(|member| member.trim().trim_matches('"')).filter(|m| !m.is_empty());
    let packages: Vec<Package> = folders
        .map(|folder| {
            let folder = root.join(folder);
            let manifest = lines_by_section(&read(&folder.join("Cargo.toml")));
            let name = value_of(&manifest, "package", "name").expect("a package has a name").to_owned();
            Package { name, folder, manifest }
        })
        .collect();
    assert!(packages.len() >= 7, "only {} members were found", packages.len());
    packages
}

/// Names under which a member may be spelt in a dependency: its own, its folder, and those that the workspace gives it.
fn spellings(packages: &[Package]) -> BTreeMap<String, String> {
    let mut spellings = BTreeMap::new();
    for package in packages {
        spellings.insert(package.name.clone(), package.name.clone());
        let folder = package.folder.file_name().expect("a member is a folder").to_string_lossy();
        spellings.insert(folder.into_owned(), package.name.clone());
    }
    for (section, line) in lines_by_section(&read(&root().join("Cargo.toml"))) {
        let Some((name, value)) = line.split_once('=') else { continue };
        if section == "workspace.dependencies" && value.contains("path") {
            let package = words(value).find_map(|word| spellings.get(word).cloned());
            let package = package.unwrap_or_else(|| panic!("{line}: not a member"));
            spellings.insert(name.trim().to_owned(), package);
        }
    }
    spellings
}

/// The members that `package` depends on in any way.
fn dependencies(package: &Package, spellings: &BTreeMap<String, String>) -> BTreeSet<String> {
    let about_dependencies = |section: &str| {
        section.split('.').any(|part| part.trim_matches(['"', '\'']).ends_with("dependencies"))
    };
    let lines = package.manifest.iter().filter(|(section, _)| about_dependencies(section));
    lines.flat_map(|(_, line)| words(line)).filter_map(|word| spellings.get(word).cloned()).collect()
}

#[test]
fn every_crate_depends_only_in_the_permitted_direction() {
    let packages = packages();
    let spellings = spellings(&packages);
    let mut found = 0;
    for package in &packages {
        let permitted = PERMITTED.iter().find(|(name, _)| *name == package.name);
        let (_, permitted) =
            permitted.unwrap_or_else(|| panic!("say in PERMITTED what {} may depend on", package.name));
        for other in dependencies(package, &spellings) {
            assert!(permitted.contains(&other.as_str()), "{} must not depend on {other}", package.name);
            found += 1;
        }
    }
    assert!(found >= 5, "only {found} dependencies were found: the manifests are not read rightly");
}

#[test]
fn the_permitted_direction_has_no_circle() {
    let mut built: BTreeSet<&str> = BTreeSet::new();
    while built.len() < PERMITTED.len() {
        let ready = PERMITTED
            .iter()
            .find(|(name, needs)| !built.contains(name) && needs.iter().all(|need| built.contains(need)));
        let (name, _) = ready.expect("some crates need each other");
        built.insert(name);
    }
}

#[test]
fn a_dependency_is_found_however_it_is_spelt() {
    let packages = packages();
    let spellings = spellings(&packages);
    for manifest in [
        "[dependencies]\npagemesh-net.workspace = true",
        "[dev-dependencies]\npagemesh-net = { workspace = true }",
        "[build-dependencies]\nx = { package = \"pagemesh-net\", path = \"..\" }",
        "[dependencies]\nx = { path = \"../pagemesh-net\" }",
        "[target.'cfg(unix)'.dependencies]\npagemesh-net = \"0.1\"",
        "[dependencies.pagemesh-net]\nversion = \"0.1\"",
    ] {
        let package =
            Package { name: String::new(), folder: PathBuf::new(), manifest: lines_by_section(manifest) };
        let found = dependencies(&package, &spellings);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["pagemesh-net"], "{manifest}");
    }
    let innocent = lines_by_section("[package]\nname = \"pagemesh-net\"\n# pagemesh-net\n[features]\n");
    let package = Package { name: String::new(), folder: PathBuf::new(), manifest: innocent };
    assert!(dependencies(&package, &spellings).is_empty());
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        assert_eq!(value_of(&package.manifest, "lints", "workspace"), Some("true"), "{}", package.name);
    }
}

/// Rust files below `folder`, in order; none when it does not exist.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The roots of a package's library and programs.
fn crate_roots(package: &Package) -> Vec<PathBuf> {
    let source = package.folder.join("src");
    let mut roots = vec![source.join("lib.rs"), source.join("main.rs")];
    for path in rust_files(&source.join("bin")) {
        let nested = path.parent() != Some(&source.join("bin"));
        if !nested || path.file_name().is_some_and(|name| name == "main.rs") {
            roots.push(path);
        }
    }
    roots.retain(|path| path.exists());
    assert!(!roots.is_empty(), "{} has no crate root", package.name);
    roots
}

/// Lines of code that hold `text`, comments left out.
fn lines_with(text: &str, source: &str) -> usize {
    source.lines().filter(|line| !line.trim_start().starts_with("//") && line.contains(text)).count()
}

#[test]
fn unsafe_code_lives_where_it_is_meant_to() {
    for package in packages() {
        if UNSAFE_CRATES.contains(&package.name.as_str()) {
            continue;
        }
        let joins = package.name == "pagemesh";
        let word = if joins { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        for path in crate_roots(&package) {
            assert_eq!(lines_with(word, &read(&path)), 1, "{} must say {word}", path.display());
        }
        // `deny` can be taken back, in the one module of typed access; `forbid` cannot.
        let allowed = |path: &PathBuf| {
            let source = read(path);
            lines_with("allow(unsafe_code", &source) + lines_with("expect(unsafe_code", &source) > 0
        };
        let modules: Vec<PathBuf> =
            rust_files(&package.folder.join("src")).into_iter().filter(allowed).collect();
        assert!(modules.len() <= usize::from(joins), "unsafe code in more than one place: {modules:?}");
    }
}

/// Modules of std that `source` names, directly or in a list: `use std::{fmt, io::Write}`.
fn std_modules(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let code: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
    let mut modules = BTreeSet::new();
    for library in ["std::", "core::", "alloc::"] {
        for (at, _) in code.match_indices(library) {
            let rest = &code[at + library.len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => top_level(list),
                None => vec![rest],
            };
            let first = |name: &str| {
                name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
            };
            modules.extend(names.into_iter().map(first));
        }
    }
    modules
}

/// The parts of a list that ends at its closing brace.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                parts.push(&list[start..at]);
                break;
            }
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn the_engine_touches_nothing_outside_itself() {
    let packages = packages();
    let engine = packages.iter().find(|package| package.name == "pagemesh-protocol").expect("it is a member");
    let files = rust_files(&engine.folder.join("src"));
    assert!(files.len() > 10, "only {} files of the engine were found", files.len());
    for path in files {
        let named = std_modules(&read(&path));
        let impure: Vec<&String> = named.iter().filter(|name| IMPURE.contains(&name.as_str())).collect();
        assert!(impure.is_empty(), "{} names {impure:?} of std", path.display());
    }
}

#[test]
fn an_impure_import_is_found_however_it_is_written() {
    for source in [
        "use std::time::Instant;",
        "use std::{fmt, time::{Duration, Instant}};",
        "use std::{\n    collections::{BTreeMap, VecDeque},\n    time,\n};",
        "fn f() { let _ = std::time::Instant::now(); }",
        "use core::time::Duration;",
    ] {
        assert!(std_modules(source).contains("time"), "{source}");
    }
    assert!(!std_modules("// std::time would be wrong\nuse std::{fmt, mem};").contains("time"));
    assert!(!std_modules("use std::collections::{time};").contains("time"));
}

/// Lines before the unit tests.
fn lines_of_code(source: &str) -> usize {
    let tests = source.lines().collect::<Vec<_>>();
    let start =
        tests.windows(2).position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod tests {"));
    start.unwrap_or(tests.len())
}

#[test]
fn no_file_outgrows_its_reader() {
    let (report_above, fail_above) = FILE_LINES;
    let mut long = Vec::new();
    for package in packages() {
        for folder in ["src", "tests", "examples", "benches"] {
            for path in rust_files(&package.folder.join(folder)) {
                let lines = lines_of_code(&read(&path));
                if lines > report_above {
                    long.push((lines, path));
                }
            }
        }
    }
    long.sort();
    for (lines, path) in &long {
        println!("{lines} lines, more than {report_above}: {}", path.display());
    }
    let too_long: Vec<_> = long.iter().filter(|(lines, _)| *lines > fail_above).collect();
    assert!(too_long.is_empty(), "split these: {too_long:?}");
}
