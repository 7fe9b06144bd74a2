//! Which pager the nodes of this machine will take, found out before any of them starts: one message, and not one of each node.

use pagemesh::Config;
use pagemesh::pager::{Chosen, PagerKind, choose};

/// Why nodes cannot start here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagerError {
    /// `PAGEMESH_PAGER` holds something else than a pager's name.
    #[error(transparent)]
    Setting(#[from] pagemesh::ConfigError),
    /// `PAGEMESH_PAGER` names one that cannot be had.
    #[error(
        "PAGEMESH_PAGER is {kind}: {cause}; or unset PAGEMESH_PAGER, to have a pager that works here chosen"
    )]
    Named {
        /// Which.
        kind: PagerKind,
        /// What is missing, and what helps.
        cause: pagemesh::pager::PagerChoiceError,
    },
    /// The one that was asked for, or none at all, can be had.
    #[error(transparent)]
    Choice(#[from] pagemesh::pager::PagerChoiceError),
}

/// The pager that was `asked` for, else the one that `PAGEMESH_PAGER` names, else the best that can be had.
///
/// # Errors
/// When it cannot be had.
pub fn chosen(asked: Option<PagerKind>) -> Result<Chosen, PagerError> {
    if let Some(kind) = asked {
        return Ok(choose(Some(kind))?);
    }
    let named = Config::pager_from_env()?;
    match (choose(named), named) {
        (Err(cause), Some(kind)) => Err(PagerError::Named { kind, cause }),
        (choice, _) => Ok(choice?),
    }
}
