//! The migration protocol: a page is at one node at a time, and moves to whoever touches it (single reader, single writer;
//! Stumm and Zhou 1990 compare it with others). What is here already costs nothing; a touch of any kind from elsewhere
//! takes the page away.
//!
//! To read is to ask for the page itself, so every request is for writing and a copy is INVALID or MODIFIED, never SHARED.
//!
//! The holder's part (`docs/protocol.md` has the same table, and a test holds both against the engine):
//!
//! | state | event | actions | next state |
//! |---|---|---|---|
//! | INVALID | read fault | PageRequest(Write) to home | INVALID |
//! | INVALID | write fault | PageRequest(Write) to home | INVALID |
//! | MODIFIED | read fault | MapWrite, Complete | MODIFIED |
//! | MODIFIED | write fault | MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Write) from home | Fill, MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Write) from owner | Fill, MapWrite, Done to home, Complete | MODIFIED |
//! | INVALID | Grant(Write, zero) | FillZero, MapWrite, Complete | MODIFIED |
//! | INVALID | Deny | Complete(PageLost) | INVALID |
//! | MODIFIED | evict | Evict to home | MODIFIED |
//! | MODIFIED | Fetch(Write) | Unmap, Data(Write) to requester | INVALID |
//!
//! The home's part:
//!
//! | directory | request | what happens | messages |
//! |---|---|---|---|
//! | untouched | any | zero grant | 2 |
//! | modified at the home | any | the home sends it | 2 |
//! | modified at a third node | any | it sends its copy, the requester reports | 4 |
//! | lost | any | denied | 2 |
//! | held by the sender alone | evict | the home asks for the page itself, for writing | 3 |

use super::coherence::Decision;
use super::pages::{DirectoryEntry, DirectoryState};
use crate::ids::Access;

/// What every request asks for.
pub(super) const ASKED: Access = Access::Write;

/// What a home does with a request, by what its directory says.
pub(super) fn decide(entry: &DirectoryEntry) -> Decision {
    match entry.state {
        DirectoryState::Lost(node) => Decision::Deny(node),
        DirectoryState::Untouched => Decision::GrantZero,
        DirectoryState::Modified(owner) => Decision::Move(owner),
        DirectoryState::Shared(owner) => {
            unreachable!("a page that migrates was granted to {owner} for reading only")
        }
    }
}
