//! Which pager to take.

use super::{PagerKind, handler, sigbus};
use crate::mapped::{MappedRange, Memory};
use crate::{MappingError, PAGE_BYTES, UffdError};
use rustix::io::Errno;
use std::sync::Arc;

/// A pager, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chosen {
    /// Which.
    pub kind: PagerKind,
    /// Whether someone asked for it.
    pub forced: bool,
    /// Why, in a sentence.
    pub reason: String,
}

impl Chosen {
    pub(crate) fn forced(kind: PagerKind) -> Chosen {
        Chosen { kind, forced: true, reason: format!("{kind} was asked for") }
    }
}

/// Why there is no such pager here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagerChoiceError {
    /// It stands on userfaultfd, which cannot be used for it.
    #[error("asked for the {asked} pager, which cannot be had here: {cause}")]
    Userfaultfd {
        /// Which.
        asked: PagerKind,
        /// What is missing, and what helps.
        cause: UffdError,
    },
    /// The kernel protects larger units.
    #[error(
        "asked for pages of {PAGE_BYTES} bytes, and this kernel's have {found}: it cannot protect less; use a kernel with pages \
         of {PAGE_BYTES} bytes"
    )]
    PageSize {
        /// Bytes of a page here.
        found: usize,
    },
}

/// Says which pager a region gets: the one that is `asked` for, if it can be had, or the best that can be. That is
/// [`Sigbus`](PagerKind::Sigbus) and, where userfaultfd is refused, [`Sigsegv`](PagerKind::Sigsegv);
/// [`Handler`](PagerKind::Handler) is only taken when asked for, since every fault costs more with it.
///
/// What userfaultfd offers is tried out, not guessed from versions.
///
/// # Errors
/// What is missing for the one that was asked for. Without a wish, only that the kernel's pages have another size.
pub fn choose(asked: Option<PagerKind>) -> Result<Chosen, PagerChoiceError> {
    let found = rustix::param::page_size();
    if found != PAGE_BYTES {
        return Err(PagerChoiceError::PageSize { found });
    }
    if let Some(kind) = asked {
        return match try_out(kind) {
            Ok(()) => Ok(Chosen::forced(kind)),
            Err(cause) => Err(PagerChoiceError::Userfaultfd { asked: kind, cause }),
        };
    }
    Ok(match try_out(PagerKind::Sigbus) {
        Ok(()) => Chosen {
            kind: PagerKind::Sigbus,
            forced: false,
            reason: "userfaultfd can be used as it is: sigbus is the fastest and needs no privilege"
                .to_owned(),
        },
        Err(cause) => Chosen {
            kind: PagerKind::Sigsegv,
            forced: false,
            reason: format!("sigsegv needs no userfaultfd, and sigbus cannot be had: {cause}"),
        },
    })
}

/// Does with one page what a region with this pager would begin with.
pub(super) fn try_out(kind: PagerKind) -> Result<(), UffdError> {
    let userfault = match kind {
        PagerKind::Sigbus => sigbus::open_userfault(sigbus::FEATURES)?,
        PagerKind::Handler => handler::open_userfault()?,
        PagerKind::Sigsegv => return Ok(()),
    };
    let page = match Memory::new(PAGE_BYTES).map(Arc::new).and_then(|memory| MappedRange::new(&memory, None))
    {
        Ok(page) => page,
        Err(MappingError::Failed { call, errno, .. }) => return Err(UffdError::Failed { call, errno }),
        // Whoever maps a region then is told of the limit.
        Err(MappingError::FileLimit { .. }) => {
            return Err(UffdError::Failed { call: "ftruncate of a page of memory", errno: Errno::FBIG });
        }
        Err(_) => unreachable!("a page without an address of its own is refused by a call"),
    };
    // SAFETY: the page was mapped for this, nobody knows of it, and it is unmapped before the range is dropped.
    let range = unsafe { userfault.register(page.address(), page.bytes()) }?;
    drop(page);
    drop(range);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_says_why() {
        let chosen = choose(None).unwrap();
        assert!(!chosen.forced);
        match (chosen.kind, try_out(PagerKind::Sigbus)) {
            (PagerKind::Sigbus, Ok(())) => assert!(chosen.reason.contains("fastest"), "{}", chosen.reason),
            (PagerKind::Sigsegv, Err(cause)) => assert!(chosen.reason.contains(&cause.to_string())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_forced_choice_is_taken_or_refused_with_what_is_missing() {
        let chosen = choose(Some(PagerKind::Sigsegv)).unwrap();
        assert_eq!(chosen, Chosen::forced(PagerKind::Sigsegv));
        match choose(Some(PagerKind::Handler)) {
            Ok(chosen) => assert_eq!((chosen.kind, chosen.forced), (PagerKind::Handler, true)),
            Err(error) => assert!(error.to_string().contains("handler pager"), "{error}"),
        }
    }
}
