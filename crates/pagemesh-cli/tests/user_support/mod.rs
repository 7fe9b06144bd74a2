//! Runs a test as every user that it can be: as the one who started it and, for root, as nobody too; with each pager that this
//! user can have. Whoever starts the tests without privilege is that user, and sees which pagers were tested.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this")]

#[path = "../../../pagemesh/tests/cluster/public_folder.rs"]
mod public_folder;

pub(crate) use public_folder::public_folder;
use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pagemesh::pager::{PagerKind, choose};

/// The number of the user and of the group nobody.
const NOBODY: &str = "65534";

/// As whom and how programs are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The pager that they are told to use; none leaves the choice to them.
    pub pager: Option<PagerKind>,
    /// They run as the user nobody.
    pub as_nobody: bool,
}

thread_local! {
    static SETTING: Cell<Setting> = const { Cell::new(Setting { pager: None, as_nobody: false }) };
}

/// Runs a test once for each user and pager.
pub fn for_every_user_and_pager(test: impl Fn(Setting)) {
    let before = SETTING.get();
    for setting in settings() {
        // Shown when the test fails.
        println!("in {setting:?}");
        SETTING.set(*setting);
        test(*setting);
    }
    SETTING.set(before);
}

/// All settings there are; found once, and said.
pub fn settings() -> &'static [Setting] {
    static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let own = PagerKind::ALL.into_iter().filter(|pager| choose(Some(*pager)).is_ok()).collect();
        let user = rustix::process::geteuid();
        let mut settings = found(&format!("user {}", user.as_raw()), false, own);
        if user.is_root() {
            settings.extend(found(&format!("user {NOBODY}"), true, pagers_of_nobody()));
        }
        settings
    })
}

fn found(who: &str, as_nobody: bool, pagers: Vec<PagerKind>) -> Vec<Setting> {
    let missing = PagerKind::ALL.into_iter().filter(|pager| !pagers.contains(pager));
    let names = |pagers: &mut dyn Iterator<Item = PagerKind>| {
        pagers.map(|pager| pager.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (tested, missing) = (names(&mut pagers.iter().copied()), names(&mut missing.into_iter()));
    let rest = if missing.is_empty() { String::new() } else { format!("; it cannot have: {missing}") };
    // Past the harness, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "tested as {who} with: {tested}{rest}");
    assert!(!tested.is_empty(), "{who} can have no pager");
    pagers.into_iter().map(|pager| Setting { pager: Some(pager), as_nobody }).collect()
}

/// What `pagemesh doctor` says as nobody.
fn pagers_of_nobody() -> Vec<PagerKind> {
    let mut doctor = as_nobody(Path::new(env!("CARGO_BIN_EXE_pagemesh")));
    let told = doctor.arg("doctor").env_remove("PAGEMESH_PAGER").output().expect("it runs");
    let report = String::from_utf8(told.stdout).expect("text");
    let can_have = |pager: &PagerKind| {
        let words = ["pager".to_owned(), pager.to_string(), "can be had".to_owned()];
        report.lines().any(|line| words.join(" ") == line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    PagerKind::ALL.into_iter().filter(can_have).collect()
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(public_copy(program));
    command
}

/// A copy of a program in the public folder.
pub fn public_copy(program: &Path) -> PathBuf {
    static COPYING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let copy = public_folder().join(program.file_name().expect("a file"));
    let _alone = COPYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !copy.exists() {
        // Under another name first: nobody runs half a program.
        let unfinished = copy.with_extension("unfinished");
        fs::copy(program, &unfinished).expect("there is room");
        fs::rename(&unfinished, &copy).expect("same folder");
    }
    copy
}

/// A program as the test at hand is to run it.
pub fn command(program: &Path) -> Command {
    let setting = SETTING.get();
    let mut command = if setting.as_nobody { as_nobody(program) } else { Command::new(program) };
    if let Some(pager) = setting.pager {
        command.env("PAGEMESH_PAGER", pager.to_string());
    }
    command
}
