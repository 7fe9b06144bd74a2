//! Code that was never written for shared memory reads files into it and writes it out with read(2), fread(3) and their kin; the
//! library that `pagemesh run` preloads makes that work where the kernel by itself would say EFAULT.
//!
//! The code is C, built here as a shared object that knows nothing of pagemesh. Its host is this program, started again by
//! `pagemesh run` as each node.

mod user_support;

use std::env;
use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Once, OnceLock};

use pagemesh::pager::PagerKind;
use pagemesh::{Config, Mesh, RegionOptions};
use user_support::for_every_user_and_pager;

const PAGEMESH: &str = env!("CARGO_BIN_EXE_pagemesh");

/// Says to this program that it is a node, and which function of the object to call.
const GUEST: &str = "PAGEMESH_TEST_GUEST";
/// Where the object is.
const OBJECT: &str = "PAGEMESH_TEST_OBJECT";

const BYTES: usize = 250 * 4096;

static MESH: OnceLock<Mesh> = OnceLock::new();

extern "C" fn barrier() {
    MESH.get().expect("joined").barrier(1).wait().expect("everybody comes");
}

type Guest = unsafe extern "C" fn(*mut c_char, usize, c_int, extern "C" fn()) -> c_int;

/// In a process that `pagemesh run` started: joins, calls the guest, and ends with 0 or says what went wrong.
fn be_a_node() {
    let Ok(name) = env::var(GUEST) else { return };
    let path = CString::new(env::var_os(OBJECT).expect("set").as_bytes()).expect("a path");
    let name = CString::new(name).expect("a name");
    // SAFETY: the object is the one that this file builds, without initialisers.
    let guest = unsafe {
        let object = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!object.is_null(), "the object can be loaded");
        let found = libc::dlsym(object, name.as_ptr());
        assert!(!found.is_null(), "it has the function");
        std::mem::transmute::<*mut libc::c_void, Guest>(found)
    };
    let mesh = MESH.get_or_init(|| Mesh::join(Config::from_env().expect("set")).expect("joins"));
    let region = mesh.region("guest", RegionOptions::new(BYTES)).expect("a region");
    let node = c_int::from(mesh.node().get().cast_signed());
    // SAFETY: the region is as large and stays mapped; the guest makes no references into it.
    let line = unsafe { guest(region.as_ptr().cast(), BYTES, node, barrier) };
    let error = std::io::Error::last_os_error();
    if line != 0 {
        eprintln!("node {node}: line {line} of the guest: {error}");
        std::process::exit(1);
    }
    // Nobody leaves before the other is done.
    barrier();
    std::process::exit(0);
}

/// A folder that every user can reach, with this program, `pagemesh`, the library and the guest in it.
fn folder() -> &'static Path {
    static READY: Once = Once::new();
    let folder = user_support::public_folder();
    READY.call_once(|| {
        let built = Command::new("cc")
            .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
            .arg(format!("{}/tests/c/guest.c", env!("CARGO_MANIFEST_DIR")))
            .arg("-o")
            .arg(folder.join("guest.so"))
            .output()
            .expect("a C compiler is there: cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let own = env::current_exe().expect("this program");
        user_support::public_copy(&own.with_file_name("libpagemesh_preload.so"));
        user_support::public_copy(Path::new(PAGEMESH));
        fs::copy(own, folder.join("host")).expect("there is room");
    });
    folder
}

fn run(options: &[&str], test: &str, guest: &str) -> Output {
    let mut command = user_support::command(&folder().join("pagemesh"));
    command.args(["run", "-n", "2"]).args(options).arg("--").arg(folder().join("host"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env_remove("PAGEMESH_PRELOAD");
    command.env(GUEST, guest).env(OBJECT, folder().join("guest.so"));
    command.output().expect("it runs")
}

#[test]
fn reads_and_writes_of_all_kinds_work_with_every_pager() {
    const TEST: &str = "reads_and_writes_of_all_kinds_work_with_every_pager";
    be_a_node();
    for_every_user_and_pager(|setting| {
        let ran = run(&[], TEST, "guest");
        assert!(ran.status.success(), "{setting:?}: {ran:?}");
    });
}

#[test]
fn without_the_library_the_kernel_cannot_use_absent_pages() {
    const TEST: &str = "without_the_library_the_kernel_cannot_use_absent_pages";
    be_a_node();
    for_every_user_and_pager(|setting| {
        let ran = run(&["--no-preload"], TEST, "plain_guest");
        let works = setting.pager == Some(PagerKind::Handler);
        assert_eq!(ran.status.success(), works, "{setting:?}: {ran:?}");
        if !works {
            let told = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(told.contains("node 1: line ") && told.contains("os error 14"), "{told}");
        }
        assert!(run(&[], TEST, "plain_guest").status.success(), "{setting:?}");
    });
}

#[test]
fn the_library_is_applied_before_others_and_can_be_told_or_refused() {
    let show = |options: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(folder().join("pagemesh"));
        command.args(["run", "-n", "1", "--no-prefix"]).args(options);
        command.args(["--", "sh", "-c", "echo \"$LD_PRELOAD\""]);
        command.env_remove("LD_PRELOAD").env_remove("PAGEMESH_PRELOAD").envs(variables.iter().copied());
        let ran = command.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
    };
    let library = folder().join("libpagemesh_preload.so").display().to_string();
    assert_eq!(show(&[], &[]), (Some(0), library.clone(), String::new()));
    assert_eq!(show(&["--no-preload"], &[]), (Some(0), String::new(), String::new()));
    let (code, list, _) = show(&[], &[("LD_PRELOAD", "libc.so.6")]);
    assert_eq!((code, list), (Some(0), format!("{library}:libc.so.6")));
    let (_, _, told) = show(&["-v"], &[]);
    assert_eq!(told, format!("pagemesh run: preloading {library}"));
    let (code, _, told) = show(&[], &[("PAGEMESH_PRELOAD", "/no/such.so")]);
    assert_eq!(code, Some(2));
    assert!(told.contains("PAGEMESH_PRELOAD is \"/no/such.so\": there is no such file"), "{told}");

    let alone = tempfile::tempdir().expect("a temporary folder");
    let pagemesh = alone.path().join("pagemesh");
    fs::copy(PAGEMESH, &pagemesh).expect("there is room");
    let run_alone = |options: &[&str]| {
        let mut command = Command::new(&pagemesh);
        command.args(["run", "-n", "1"]).args(options).args(["--", "true"]).env_remove("PAGEMESH_PRELOAD");
        command.output().expect("it runs")
    };
    let quiet = run_alone(&[]);
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    let told = run_alone(&["-v"]);
    assert!(told.status.success(), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("no libpagemesh_preload.so"), "{told:?}");
}
