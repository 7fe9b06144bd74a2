//! What there is for pagers on this machine, and what would help.

use super::{
    Chosen, HANDLER_FEATURES, PagerChoiceError, PagerKind, SIGBUS_FEATURES, WriteTrackingError, choice,
    sigsegv, tracking,
};
use crate::UffdError;
use crate::uffd::{DEVICE, Features, Scope, Userfault, Way};
use rustix::io::Errno;
use std::fs;

/// The mappings that the `sigsegv` pager is content with.
const MAX_MAP_COUNT_AMPLE: usize = 1 << 20;

/// What helps where a filter forbids the system call.
const SECCOMP_REMEDY: &str = "allow the system call userfaultfd in the seccomp profile (docker run --security-opt \
     seccomp=PROFILE, where PROFILE is the default one with userfaultfd added)";

/// `CAP_SYS_PTRACE`, `capabilities(7)`.
const CAP_SYS_PTRACE: u32 = 19;

/// One attempt to open a userfaultfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// By what.
    pub way: Way,
    /// Whose accesses it was to report.
    pub scope: Scope,
    /// The features that it has, or what the kernel answered.
    pub outcome: Result<Features, Errno>,
}

/// What the calling thread may do beyond others; the threads of a process seldom differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Privileges {
    /// The effective user; 0 is root.
    pub effective_user: u32,
    /// The effective capabilities, a bit each, `capabilities(7)`; `None` when `/proc/thread-self/status` does not tell.
    pub effective_capabilities: Option<u64>,
    /// Whether it is confined by seccomp, `seccomp(2)`; `None` when `/proc/thread-self/status` does not tell.
    pub seccomp: Option<bool>,
}

impl Privileges {
    /// Whether it has `CAP_SYS_PTRACE`, with which userfaultfd reports the kernel's own accesses.
    pub fn may_trace(&self) -> bool {
        self.effective_capabilities.is_some_and(|all| all & 1 << CAP_SYS_PTRACE != 0)
    }
}

/// Something that would be better after a change to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Improvement {
    /// What is gained.
    pub gain: String,
    /// The command that does it, to be run as root, or what to do where there is none.
    pub command: String,
}

/// What there is for pagers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// `uname -r`.
    pub kernel_release: String,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// `vm.max_map_count`: how many mappings a process may have. `None` when it cannot be read.
    pub max_map_count: Option<usize>,
    /// `vm.unprivileged_userfaultfd`: whether everyone gets the kernel's accesses reported. `None` when it cannot be read,
    /// as before Linux 5.2.
    pub unprivileged_userfaultfd: Option<bool>,
    /// What this process may do.
    pub privileges: Privileges,
    /// Every way of opening a userfaultfd.
    pub openings: Vec<Opening>,
    /// For each kind of pager, what is missing.
    pub pagers: Vec<(PagerKind, Result<(), UffdError>)>,
    /// Whether the kernel can note which pages of a region with the `sigbus` pager are written; if not, what is missing.
    pub write_tracking: Result<(), WriteTrackingError>,
    /// What a region gets that leaves the choice open.
    pub choice: Result<Chosen, PagerChoiceError>,
    /// What would help, the most valuable first.
    pub improvements: Vec<Improvement>,
}

impl Probe {
    /// The features that this kernel has, as the first descriptor that could be opened says.
    pub fn features(&self) -> Option<Features> {
        self.openings.iter().find_map(|opening| opening.outcome.ok())
    }

    /// The features that a pager needs and this kernel lacks; all of them where there is no userfaultfd.
    pub fn missing_features(&self, kind: PagerKind) -> Features {
        let needed = match kind {
            PagerKind::Sigbus => SIGBUS_FEATURES,
            PagerKind::Handler => HANDLER_FEATURES,
            PagerKind::Sigsegv => Features::NONE,
        };
        needed.without(self.features().unwrap_or(Features::NONE))
    }
}

/// Looks at everything that decides which pager can be had. Opens descriptors and reads `/proc`; changes nothing.
pub fn probe() -> Probe {
    let ways = [
        (Way::SystemCall, Scope::UserAndKernel),
        (Way::SystemCall, Scope::UserMode),
        (Way::Device, Scope::UserAndKernel),
    ];
    let attempt = |(way, scope)| Opening { way, scope, outcome: Userfault::attempt(way, scope) };
    let mut probe = Probe {
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        page_bytes: rustix::param::page_size(),
        max_map_count: sigsegv::max_map_count(),
        unprivileged_userfaultfd: number("/proc/sys/vm/unprivileged_userfaultfd").map(|value| value != 0),
        privileges: privileges(&fs::read_to_string("/proc/thread-self/status").unwrap_or_default()),
        openings: ways.map(attempt).to_vec(),
        pagers: PagerKind::ALL.map(|kind| (kind, choice::try_out(kind))).to_vec(),
        write_tracking: tracking::try_out(PagerKind::Sigbus),
        choice: choice::choose(None),
        improvements: Vec::new(),
    };
    probe.improvements = improvements(&probe);
    probe
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn privileges(status: &str) -> Privileges {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    Privileges {
        effective_user: rustix::process::geteuid().as_raw(),
        effective_capabilities: field("CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok()),
        seccomp: field("Seccomp").map(|mode| mode != "0"),
    }
}

fn improvements(probe: &Probe) -> Vec<Improvement> {
    let mut found = Vec::new();
    for (kind, outcome) in &probe.pagers {
        let Err(cause) = outcome else { continue };
        let gain = match kind {
            PagerKind::Sigbus => "the sigbus pager: faster faults, and no limit on scattered pages",
            PagerKind::Handler => "the handler pager: system calls on absent pages wait for them",
            PagerKind::Sigsegv => continue,
        };
        found.push(Improvement { gain: gain.to_owned(), command: remedy(cause, &probe.privileges) });
    }
    let can_have_sigbus =
        probe.pagers.iter().any(|(kind, outcome)| *kind == PagerKind::Sigbus && outcome.is_ok());
    if let Err(cause) = &probe.write_tracking
        && can_have_sigbus
    {
        let command = match cause {
            WriteTrackingError::Uffd(cause) => remedy(cause, &probe.privileges),
            WriteTrackingError::Pagemap { .. } => "mount -t proc proc /proc".to_owned(),
            _ => "Linux 6.7 or newer".to_owned(),
        };
        let gain = "tracked writes: the first write to a page costs no signal";
        found.push(Improvement { gain: gain.to_owned(), command });
    }
    let chosen = probe.choice.as_ref().map(|chosen| chosen.kind);
    if chosen == Ok(PagerKind::Sigsegv)
        && let Some(max) = probe.max_map_count.filter(|max| *max < MAX_MAP_COUNT_AMPLE)
    {
        found.push(Improvement {
            gain: format!("more scattered pages at a time than the {} that {max} mappings allow", max / 2),
            command: format!("sysctl -w vm.max_map_count={MAX_MAP_COUNT_AMPLE}"),
        });
    }
    found
}

/// What to do about it.
fn remedy(cause: &UffdError, privileges: &Privileges) -> String {
    match cause {
        UffdError::Refused { .. } => SECCOMP_REMEDY.to_owned(),
        // Who may trace may have it: only a filter is left to forbid it.
        UffdError::KernelFaultsRefused { .. } if privileges.may_trace() => SECCOMP_REMEDY.to_owned(),
        UffdError::KernelFaultsRefused { .. } => {
            format!("sysctl -w vm.unprivileged_userfaultfd=1, or setfacl -m u:NAME:rw {DEVICE} for one user")
        }
        UffdError::NotImplemented { .. } => "a kernel with CONFIG_USERFAULTFD".to_owned(),
        UffdError::TooOld { since } | UffdError::MissingOperation { since, .. } => {
            format!("{since} or newer")
        }
        UffdError::MissingFeature { missing, .. } => match missing.since() {
            Some(since) => format!("{since} or newer"),
            None => "no kernel known to this program".to_owned(),
        },
        UffdError::Failed { call, errno } => format!("find out why {call} fails: {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TRACKING_FEATURES;

    #[test]
    fn a_probe_agrees_with_the_choice() {
        let probe = probe();
        assert_eq!(probe.page_bytes, 4096);
        assert!(probe.kernel_release.contains('.'), "{}", probe.kernel_release);
        assert_eq!((probe.openings.len(), probe.pagers.len()), (3, 3));
        let can = |kind| probe.pagers.iter().any(|(one, outcome)| *one == kind && outcome.is_ok());
        let chosen = probe.choice.as_ref().unwrap();
        assert!(can(chosen.kind) && can(PagerKind::Sigsegv));
        assert!(probe.missing_features(PagerKind::Sigsegv).is_empty());
        if can(PagerKind::Sigbus) {
            assert!(probe.missing_features(PagerKind::Sigbus).is_empty());
        }
        let lacks = probe.pagers.iter().filter(|(_, outcome)| outcome.is_err()).count();
        assert!(probe.improvements.len() >= lacks, "{:?}", probe.improvements);
    }

    #[test]
    fn privileges_are_read_from_the_status_file() {
        let found = privileges("Seccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t0000000000080000\n");
        assert_eq!((found.effective_capabilities, found.seccomp), (Some(1 << 19), Some(true)));
        assert!(found.may_trace());
        let found = privileges("");
        assert_eq!((found.effective_capabilities, found.seccomp, found.may_trace()), (None, None, false));
    }

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        let mut probe = probe();
        let refused = UffdError::Refused { errno: Errno::PERM };
        let kernel_faults = UffdError::KernelFaultsRefused { call: Errno::PERM, device: Errno::ACCESS };
        probe.pagers = vec![
            (PagerKind::Sigbus, Err(refused)),
            (PagerKind::Handler, Err(kernel_faults)),
            (PagerKind::Sigsegv, Ok(())),
        ];
        probe.choice = Ok(Chosen { kind: PagerKind::Sigsegv, forced: false, reason: String::new() });
        probe.max_map_count = Some(65_530);
        probe.privileges.effective_capabilities = Some(0);
        let commands: Vec<String> = improvements(&probe).into_iter().map(|one| one.command).collect();
        assert_eq!(commands.len(), 3);
        assert!(commands[0].contains("seccomp=PROFILE"), "{commands:?}");
        assert!(commands[1].contains("sysctl -w vm.unprivileged_userfaultfd=1"), "{commands:?}");
        assert_eq!(commands[2], "sysctl -w vm.max_map_count=1048576");
        probe.pagers[0].1 = Ok(());
        let missing = TRACKING_FEATURES.without(SIGBUS_FEATURES);
        let too_old = UffdError::MissingFeature { asked: TRACKING_FEATURES, missing };
        probe.write_tracking = Err(WriteTrackingError::Uffd(too_old));
        let tracking =
            improvements(&probe).into_iter().find(|one| one.gain.contains("tracked writes")).unwrap();
        assert_eq!(tracking.command, "Linux 6.7 or newer");
        probe.pagers[0].1 = Err(refused);
        probe.privileges.effective_capabilities = Some(u64::MAX);
        let commands: Vec<String> = improvements(&probe).into_iter().map(|one| one.command).collect();
        assert!(
            commands[1].contains("seccomp=PROFILE"),
            "who may trace is refused by a filter: {commands:?}"
        );
    }
}
