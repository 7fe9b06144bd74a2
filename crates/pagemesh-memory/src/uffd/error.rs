//! What can go wrong between us and userfaultfd.

use super::{DEVICE, Features, KernelVersion};
use rustix::io::Errno;

/// Why userfaultfd cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UffdError {
    /// The kernel has it, but this process may not use it.
    #[error(
        "asked the kernel for userfaultfd (USER_MODE_ONLY), which needs no privilege, and was refused ({errno}): a seccomp \
         filter or security module forbids it; allow the system call userfaultfd, in a container through its seccomp profile"
    )]
    Refused {
        /// What the kernel answered.
        errno: Errno,
    },
    /// The kernel has it, but this process may not have the faults of the kernel itself reported.
    #[error(
        "asked the kernel for userfaultfd that also reports the kernel's own accesses, and was refused: userfaultfd(2) says \
         '{call}', {DEVICE} says '{device}'; run with CAP_SYS_PTRACE, set vm.unprivileged_userfaultfd to 1 (sysctl -w \
         vm.unprivileged_userfaultfd=1), or give this user rights on {DEVICE} (setfacl -m u:NAME:rw {DEVICE}); with all that, a \
         seccomp filter forbids it"
    )]
    KernelFaultsRefused {
        /// What the system call answered.
        call: Errno,
        /// What the attempt through the device answered.
        device: Errno,
    },
    /// The kernel was built without userfaultfd, or something stands in for it that has none.
    #[error(
        "asked the kernel for userfaultfd and it has none ({errno}): a kernel with CONFIG_USERFAULTFD is needed"
    )]
    NotImplemented {
        /// What the kernel answered.
        errno: Errno,
    },
    /// The kernel is older than `UFFD_USER_MODE_ONLY`.
    #[error(
        "asked the kernel for userfaultfd with USER_MODE_ONLY, which it does not know: that flag came with {since}; use a \
         newer kernel"
    )]
    TooOld {
        /// The first kernel that knows the flag.
        since: KernelVersion,
    },
    /// A feature is missing.
    #[error("asked userfaultfd for {asked}, and this kernel lacks {missing}: {}", advice(*missing))]
    MissingFeature {
        /// All that was asked for.
        asked: Features,
        /// Which of them the kernel lacks.
        missing: Features,
    },
    /// The range was accepted, but an operation on it was not.
    #[error(
        "registered a range of shared memory with userfaultfd, and this kernel does not offer {operation} on it: that came \
         with {since}; use a newer kernel"
    )]
    MissingOperation {
        /// Its name in the kernel's header.
        operation: &'static str,
        /// The first kernel that has it.
        since: KernelVersion,
    },
    /// A call failed for a reason of its own.
    #[error("{call} failed: {errno}")]
    Failed {
        /// Which call.
        call: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl UffdError {
    /// The meaning of a failed `userfaultfd(UFFD_USER_MODE_ONLY)`, `userfaultfd(2)`.
    pub(super) fn from_user_mode(errno: Errno) -> UffdError {
        match errno {
            Errno::PERM | Errno::ACCESS => UffdError::Refused { errno },
            Errno::NOSYS => UffdError::NotImplemented { errno },
            Errno::INVAL => UffdError::TooOld { since: KernelVersion(5, 11) },
            _ => UffdError::Failed { call: "userfaultfd(UFFD_USER_MODE_ONLY)", errno },
        }
    }

    /// The meaning of a `userfaultfd(2)` without that flag which failed both ways.
    pub(super) fn from_all_faults(call: Errno, device: Errno) -> UffdError {
        match (call, device) {
            (Errno::NOSYS, Errno::NOENT) => UffdError::NotImplemented { errno: call },
            (Errno::MFILE | Errno::NFILE | Errno::NOMEM, _) => {
                UffdError::Failed { call: "userfaultfd(0)", errno: call }
            }
            _ => UffdError::KernelFaultsRefused { call, device },
        }
    }
}

fn advice(missing: Features) -> String {
    match missing.since() {
        Some(since) => format!(
            "{since} has all of it, unless built without it or on a processor without support; use such a kernel"
        ),
        None => "no kernel known to this program has it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_says_what_to_allow() {
        let text = UffdError::from_user_mode(Errno::PERM).to_string();
        assert!(text.contains("USER_MODE_ONLY") && text.contains("seccomp"), "{text}");
        assert!(text.contains(&Errno::PERM.to_string()), "{text}");
    }

    #[test]
    fn a_kernel_without_userfaultfd_is_told_apart_from_one_that_is_too_old() {
        assert!(matches!(UffdError::from_user_mode(Errno::NOSYS), UffdError::NotImplemented { .. }));
        let old = UffdError::from_user_mode(Errno::INVAL);
        assert!(old.to_string().contains("Linux 5.11"), "{old}");
        let full = UffdError::from_user_mode(Errno::MFILE);
        assert!(matches!(full, UffdError::Failed { errno: Errno::MFILE, .. }));
    }

    #[test]
    fn a_refusal_of_the_kernels_own_faults_says_what_both_ways_answered_and_what_helps() {
        let text = UffdError::from_all_faults(Errno::PERM, Errno::ACCESS).to_string();
        for part in [
            &Errno::PERM.to_string(),
            &Errno::ACCESS.to_string(),
            "CAP_SYS_PTRACE",
            "vm.unprivileged_userfaultfd=1",
            "/dev/userfaultfd",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        let none = UffdError::from_all_faults(Errno::NOSYS, Errno::NOENT);
        assert!(matches!(none, UffdError::NotImplemented { .. }));
        let full = UffdError::from_all_faults(Errno::MFILE, Errno::MFILE);
        assert!(matches!(full, UffdError::Failed { errno: Errno::MFILE, .. }));
    }

    #[test]
    fn a_missing_feature_is_named_with_the_kernel_that_brings_it() {
        let cases = [
            (Features::SIGBUS, "UFFD_FEATURE_SIGBUS", "Linux 4.14"),
            (Features::MINOR_SHMEM, "UFFD_FEATURE_MINOR_SHMEM", "Linux 5.14"),
            (Features::WRITE_PROTECT_SHMEM, "UFFD_FEATURE_WP_HUGETLBFS_SHMEM", "Linux 5.19"),
            (Features::WRITE_PROTECT_UNPOPULATED, "UFFD_FEATURE_WP_UNPOPULATED", "Linux 6.4"),
        ];
        for (missing, name, since) in cases {
            let text = UffdError::MissingFeature { asked: missing, missing }.to_string();
            assert!(text.contains(name) && text.contains(since), "{text}");
        }
    }
}
