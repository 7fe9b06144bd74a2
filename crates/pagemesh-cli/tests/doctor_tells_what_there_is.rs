//! `pagemesh doctor` is asked when something does not work, so it must be right where things are missing: without privilege,
//! with the device unreadable, and where the system call is refused, as containers do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

const PAGEMESH: &str = env!("CARGO_BIN_EXE_pagemesh");

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// The value of a row.
fn row<'a>(report: &'a str, name: &str) -> &'a str {
    let line = report.lines().find(|line| line.starts_with(name));
    line.map_or_else(|| panic!("no row {name:?} in\n{report}"), |line| line[name.len()..].trim())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A copy of the program that every user can reach, wherever this one lies.
fn public_copy() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = folder.path().join("pagemesh");
    fs::copy(PAGEMESH, &copy).expect("there is room");
    (folder, copy)
}

/// `program` as the user nobody, when this user can become one; as this user otherwise, who is unprivileged already.
fn unprivileged(program: &PathBuf) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command
}

/// Makes userfaultfd(2) fail with EPERM in what the command becomes, and keeps it from opening the device by taking root's
/// rights away.
fn refuse_userfaultfd(command: &mut Command) {
    const USERFAULTFD: u32 = libc::SYS_userfaultfd as u32;
    let step =
        |code: u32, yes: u8, no: u8, k: u32| libc::sock_filter { code: code as u16, jt: yes, jf: no, k };
    let filter = [
        // The number of the system call is the first word of `struct seccomp_data` (seccomp(2)).
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, USERFAULTFD),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: system calls with arguments as prctl(2) wants them; `program` points to a filter that lives meanwhile.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only two system calls are made.
    unsafe { command.pre_exec(install) };
}

#[test]
fn it_says_what_was_chosen_and_why() {
    let told = Command::new(PAGEMESH).arg("doctor").env_remove("PAGEMESH_PAGER").output().unwrap();
    let report = text(&told);
    assert!(told.status.success(), "{report}");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(row(&report, "kernel "), format!("Linux {}", release.trim()));
    assert_eq!(row(&report, "page size"), "4096 bytes");
    let (own, nice) = pagemesh::priority::obtainable().unwrap();
    assert!(row(&report, "service thread").starts_with(&format!("nice {nice}: ")), "{report}");
    assert_eq!(report.contains("ulimit -e 30"), nice > own - pagemesh::priority::SERVICE_BELOW, "{report}");
    let mappings = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    assert_eq!(row(&report, "vm.max_map_count"), mappings.trim());
    assert!(row(&report, "chosen").contains(": "), "{report}");
}

#[test]
fn a_pager_that_is_asked_for_is_chosen_or_missed() {
    for pager in ["sigbus", "handler", "sigsegv"] {
        let told = Command::new(PAGEMESH).arg("doctor").env("PAGEMESH_PAGER", pager).output().unwrap();
        let report = text(&told);
        if row(&report, &format!("pager {pager}")) == "can be had" {
            assert!(told.status.success() && row(&report, "chosen").starts_with(pager), "{report}");
        } else {
            assert_eq!(told.status.code(), Some(1), "{report}");
            assert!(row(&report, "pagemesh cannot run here").contains(pager), "{report}");
        }
    }
    let wrong = Command::new(PAGEMESH).arg("doctor").env("PAGEMESH_PAGER", "magic").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("auto, sigbus, handler or sigsegv"));
}

#[test]
fn without_privilege_it_says_what_is_refused_and_what_would_help() {
    let (_folder, program) = public_copy();
    let told = unprivileged(&program).arg("doctor").env_remove("PAGEMESH_PAGER").output().unwrap();
    let report = text(&told);
    assert!(told.status.success(), "{report}");
    assert!(row(&report, "user").contains("no CAP_SYS_PTRACE"), "{report}");
    let open_to_all =
        fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default().trim() == "1";
    let device =
        fs::metadata("/dev/userfaultfd").is_ok_and(|device| device.permissions().mode() & 0o006 == 0o006);
    let can = row(&report, "pager handler") == "can be had";
    assert_eq!(can, open_to_all || device, "{report}");
    if !can {
        assert!(report.contains("sysctl -w vm.unprivileged_userfaultfd=1"), "{report}");
    }
}

#[test]
fn where_the_system_call_is_refused_another_pager_is_chosen_and_works() {
    let (_folder, program) = public_copy();
    let mut doctor = unprivileged(&program);
    doctor.arg("doctor").env_remove("PAGEMESH_PAGER");
    refuse_userfaultfd(&mut doctor);
    let told = doctor.output().unwrap();
    let report = text(&told);
    assert!(told.status.success(), "{report}");
    assert!(row(&report, "userfaultfd(2) ").starts_with("refused"), "{report}");
    assert!(row(&report, "pager sigbus").starts_with("no: "), "{report}");
    assert!(row(&report, "chosen").starts_with("sigsegv: "), "{report}");
    let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.ends_with("and sigbus cannot be had: see pager sigbus above"), "{report}");
    assert!(row(&report, "user").contains("confined by seccomp"), "{report}");
    assert!(report.contains("would be better"), "{report}");

    let mut life = unprivileged(&program);
    life.args(["demo", "life", "--generations", "200"]).env_remove("PAGEMESH_PAGER");
    refuse_userfaultfd(&mut life);
    let played = life.output().unwrap();
    assert!(played.status.success(), "{played:?}");
    let elsewhere = Command::new(PAGEMESH).args(["demo", "life", "--generations", "200"]).output().unwrap();
    assert_eq!(text(&played).lines().last(), text(&elsewhere).lines().last());
}

#[test]
fn where_it_is_refused_a_pager_that_was_asked_for_is_missed_in_one_sentence() {
    let (_folder, program) = public_copy();
    for pager in ["sigbus", "handler"] {
        for arguments in
            ["demo life", "demo fibonacci", "demo compare", "litmus SB", "history", "bench fault"]
        {
            let mut command = unprivileged(&program);
            command.args(arguments.split(' ')).env("PAGEMESH_PAGER", pager);
            refuse_userfaultfd(&mut command);
            let told = command.output().unwrap();
            assert_eq!(told.status.code(), Some(1), "{told:?}");
            let said = String::from_utf8_lossy(&told.stderr).into_owned();
            let name = arguments.trim_end_matches(" SB").trim_end_matches(" fault");
            let begins = format!(
                "pagemesh {name}: PAGEMESH_PAGER is {pager}: asked for the {pager} pager, which cannot"
            );
            assert!(said.starts_with(&begins) && said.lines().count() == 1, "{said}");
            assert_eq!(said.matches("cannot be had").count(), 1, "{said}");
            assert!(said.contains("seccomp") && said.contains("unset PAGEMESH_PAGER"), "{said}");
        }
    }
}

#[test]
fn s2dsm_says_so_too_before_it_waits_for_its_peer() {
    let (folder, _) = public_copy();
    let program = folder.path().join("s2dsm");
    fs::copy(env!("CARGO_BIN_EXE_s2dsm"), &program).expect("there is room");
    let mut s2dsm = unprivileged(&program);
    // Nobody is there at either port, and nobody is looked for.
    s2dsm.args(["1023", "1022"]).env("PAGEMESH_PAGER", "sigbus");
    refuse_userfaultfd(&mut s2dsm);
    let told = s2dsm.output().unwrap();
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.starts_with("s2dsm: PAGEMESH_PAGER is sigbus: ") && said.lines().count() == 1, "{said}");
    assert!(told.stdout.is_empty(), "{told:?}");
}

#[test]
fn its_lines_fit_on_a_terminal_and_commands_stay_whole() {
    let (_folder, program) = public_copy();
    let mut doctor = unprivileged(&program);
    doctor.arg("doctor").env_remove("PAGEMESH_PAGER").env_remove("PAGEMESH_PRELOAD");
    refuse_userfaultfd(&mut doctor);
    let report = text(&doctor.output().unwrap());
    for line in report.lines() {
        // A path or a command is not broken.
        let whole = line.contains("by: ") || line.split_whitespace().any(|word| word.len() > 60);
        assert!(whole || line.len() <= 100, "{line}");
        assert_eq!(line, line.trim_end());
    }
    let count = |begin: &str| report.lines().filter(|line| line.trim_start().starts_with(begin)).count();
    assert_eq!(count("by: "), count("would be better"), "{report}");
    assert!(count("by: ") > 0, "{report}");
}
