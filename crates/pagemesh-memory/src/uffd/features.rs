//! The features of userfaultfd, with the kernel that brought each.

use linux_raw_sys::general as kernel;
use std::fmt;
use std::ops::BitOr;

/// A set of userfaultfd features: the `UFFD_FEATURE_*` bits of `UFFDIO_API`, `ioctl_userfaultfd(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Features(u64);

impl Features {
    /// None.
    pub const NONE: Features = Features(0);
    /// Faults raise SIGBUS in the faulting thread instead of a message on the file descriptor.
    pub const SIGBUS: Features = Features(kernel::UFFD_FEATURE_SIGBUS as u64);
    /// Faults on absent pages of shared memory.
    pub const MISSING_SHMEM: Features = Features(kernel::UFFD_FEATURE_MISSING_SHMEM as u64);
    /// Faults on pages that shared memory holds but that this mapping has no entry for, and `UFFDIO_CONTINUE`.
    pub const MINOR_SHMEM: Features = Features(kernel::UFFD_FEATURE_MINOR_SHMEM as u64);
    /// Write protection.
    pub const WRITE_PROTECT: Features = Features(kernel::UFFD_FEATURE_PAGEFAULT_FLAG_WP as u64);
    /// Write protection of shared memory.
    pub const WRITE_PROTECT_SHMEM: Features = Features(kernel::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64);
    /// Write protection of anonymous pages that do not exist yet. It means nothing for shared memory, but came with the same
    /// kernel as `UFFDIO_CONTINUE_MODE_WP`, which has no bit of its own.
    pub const WRITE_PROTECT_UNPOPULATED: Features = Features(kernel::UFFD_FEATURE_WP_UNPOPULATED as u64);
    /// Write-protection faults that the kernel resolves by itself, to be harvested with `PAGEMAP_SCAN`.
    pub const WRITE_PROTECT_ASYNC: Features = Features(kernel::UFFD_FEATURE_WP_ASYNC as u64);
    /// Poisoned pages.
    pub const POISON: Features = Features(kernel::UFFD_FEATURE_POISON as u64);

    /// Messages say which thread faulted.
    pub const THREAD_ID: Features = Features(kernel::UFFD_FEATURE_THREAD_ID as u64);

    /// Every feature that is known here: its bit, its name in the kernel's header, and the first kernel that has it.
    pub const KNOWN: &'static [(Features, &'static str, KernelVersion)] = &[
        (Features::WRITE_PROTECT, "UFFD_FEATURE_PAGEFAULT_FLAG_WP", KernelVersion(5, 7)),
        (Features::MISSING_SHMEM, "UFFD_FEATURE_MISSING_SHMEM", KernelVersion(4, 11)),
        (Features::SIGBUS, "UFFD_FEATURE_SIGBUS", KernelVersion(4, 14)),
        (Features::THREAD_ID, "UFFD_FEATURE_THREAD_ID", KernelVersion(4, 14)),
        (Features::MINOR_SHMEM, "UFFD_FEATURE_MINOR_SHMEM", KernelVersion(5, 14)),
        (Features::WRITE_PROTECT_SHMEM, "UFFD_FEATURE_WP_HUGETLBFS_SHMEM", KernelVersion(5, 19)),
        (Features::WRITE_PROTECT_UNPOPULATED, "UFFD_FEATURE_WP_UNPOPULATED", KernelVersion(6, 4)),
        (Features::POISON, "UFFD_FEATURE_POISON", KernelVersion(6, 6)),
        (Features::WRITE_PROTECT_ASYNC, "UFFD_FEATURE_WP_ASYNC", KernelVersion(6, 7)),
    ];

    /// The set with these bits, known or not.
    pub const fn from_bits(bits: u64) -> Features {
        Features(bits)
    }

    /// The bits, as the kernel numbers them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `others` are in the set.
    pub const fn contains(self, others: Features) -> bool {
        self.0 & others.0 == others.0
    }

    /// This set less `others`.
    #[must_use]
    pub const fn without(self, others: Features) -> Features {
        Features(self.0 & !others.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The newest of the kernels that brought these features, `None` when one of them is not known here.
    pub fn since(self) -> Option<KernelVersion> {
        let known = Features::KNOWN.iter().fold(Features::NONE, |all, (bit, ..)| all | *bit);
        if !known.contains(self) {
            return None;
        }
        Features::KNOWN.iter().filter(|(bit, ..)| self.contains(*bit)).map(|(.., since)| *since).max()
    }
}

impl BitOr for Features {
    type Output = Features;

    fn bitor(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }
}

impl fmt::Display for Features {
    /// The names in the kernel's header, and the number of a bit that has none here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for bit in (0..u64::BITS).map(|shift| Features(1 << shift)).filter(|bit| self.contains(*bit)) {
            if self.0 & (bit.0 - 1) != 0 {
                f.write_str(", ")?;
            }
            match Features::KNOWN.iter().find(|(known, ..)| *known == bit) {
                Some((_, name, _)) => f.write_str(name)?,
                None => write!(f, "feature bit {}", bit.0.trailing_zeros())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

/// A release of Linux: major and minor number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct KernelVersion(pub u16, pub u16);

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_its_features_and_the_kernel_that_has_them_all() {
        let set = Features::SIGBUS | Features::MINOR_SHMEM;
        assert_eq!(set.to_string(), "UFFD_FEATURE_SIGBUS, UFFD_FEATURE_MINOR_SHMEM");
        assert_eq!(set.since(), Some(KernelVersion(5, 14)));
        assert_eq!(set.without(Features::MINOR_SHMEM).since(), Some(KernelVersion(4, 14)));
        assert_eq!(Features::NONE.to_string(), "none");
    }

    #[test]
    fn a_bit_without_a_name_is_shown_by_its_number() {
        let set = Features::SIGBUS | Features::from_bits(1 << 60);
        assert_eq!(set.to_string(), "UFFD_FEATURE_SIGBUS, feature bit 60");
        assert_eq!(set.since(), None);
    }

    #[test]
    fn the_manual_lists_the_same_features() {
        let manual = include_str!("../../../../docs/memory.md");
        for (_, name, since) in Features::KNOWN {
            let row = manual.lines().find(|line| line.contains(&format!("`{name}`")));
            let row = row.unwrap_or_else(|| panic!("docs/memory.md does not mention {name}"));
            assert!(row.contains(&format!("| {}.{} |", since.0, since.1)), "{row} should say {since}");
        }
    }
}
