//! The write-invalidate protocol: MSI a page, many readers or one writer, directory at the page's home (Li and Hudak 1989's
//! fixed distributed manager, with the home serialising the transactions on a page).
//!
//! The holder's part (`docs/protocol.md` has the same table, and a test holds both against the engine):
//!
//! | state | event | actions | next state |
//! |---|---|---|---|
//! | INVALID | read fault | PageRequest(Read) to home | INVALID |
//! | INVALID | write fault | PageRequest(Write) to home | INVALID |
//! | SHARED | read fault | MapRead, Complete | SHARED |
//! | SHARED | write fault | PageRequest(Write) to home | SHARED |
//! | MODIFIED | read fault | MapWrite, Complete | MODIFIED |
//! | MODIFIED | write fault | MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Read) from home | Fill, MapRead, Complete | SHARED |
//! | INVALID | Data(Read) from owner | Fill, MapRead, Done to home, Complete | SHARED |
//! | INVALID | Data(Write) from home | Fill, MapWrite, Complete | MODIFIED |
//! | INVALID | Data(Write) from owner | Fill, MapWrite, Done to home, Complete | MODIFIED |
//! | INVALID | Grant(Read, zero) | FillZero, MapRead, Complete | SHARED |
//! | INVALID | Grant(Write, zero) | FillZero, MapWrite, Complete | MODIFIED |
//! | SHARED | Grant(Write) | Unprotect, Complete | MODIFIED |
//! | SHARED | Grant(Write) after drops | Unprotect, Done to home, Complete | MODIFIED |
//! | INVALID | Data(Write) after drops | Fill, MapWrite, Done to home, Complete | MODIFIED |
//! | INVALID | Deny | Complete(PageLost) | INVALID |
//! | SHARED | evict | Evict to home | SHARED |
//! | MODIFIED | evict | Evict to home | MODIFIED |
//! | SHARED | Invalidate | Unmap, InvalidateAck to home | INVALID |
//! | SHARED | Drop | Unmap, Dropped to requester | INVALID |
//! | SHARED | Fetch(Read) | Data(Read) to requester | SHARED |
//! | SHARED | Fetch(Write) | Unmap, Data(Write) to requester | INVALID |
//! | MODIFIED | Fetch(Read) | Protect, Data(Read) to requester | SHARED |
//! | MODIFIED | Fetch(Write) | Unmap, Data(Write) to requester | INVALID |
//!
//! "After drops": all sharers that the message names have said Dropped (`collecting.rs`). Where one is missing, its Dropped does the rest.
//!
//! The home's part; `k` counts those who drop their copies, and the second number is for more than four of them:
//!
//! | directory | request | what happens | messages |
//! |---|---|---|---|
//! | untouched | any | zero grant | 2 |
//! | shared, home holds a copy | read | the home sends it | 2 |
//! | shared, home holds none | read | the owner sends its copy, the requester reports | 4 |
//! | shared by the requester alone | write | the grant | 2 |
//! | shared, requester among k+1 holders | write | the k others drop theirs and tell the requester, which reports; or tell the home, and then the grant | 2 + 2k |
//! | shared by the home alone | write | the home sends its copy and drops it | 2 |
//! | shared, home among k+1 holders, requester not | write | the home sends its copy and drops it; the k others drop theirs and tell the requester, which reports | 3 + 2k, or 2 + 2k |
//! | shared by k, neither home nor requester among them | write | all but one drop theirs; the last sends its copy and drops it | 4 + 2(k-1) |
//! | modified at the home | any | the home sends it | 2 |
//! | modified at a third node | any | it sends its copy, the requester reports | 4 |
//! | lost | any | denied | 2 |
//! | held by the sender alone | evict | the home asks for the page itself, for writing | 3 |
//! | shared by the sender and others | evict | the sender drops its copy | 3 |

use super::coherence::{Decision, Request};
use super::pages::{DirectoryEntry, DirectoryState};
use crate::ids::{Access, NodeId};

/// What `home` does with the request `asked`, by what its directory says.
pub(super) fn decide(entry: &DirectoryEntry, asked: Request, home: NodeId) -> Decision {
    // A home that holds a copy sends it itself: that saves two messages.
    let supplier = |owner| if entry.holders.contains(home) { home } else { owner };
    match entry.state {
        DirectoryState::Lost(node) => Decision::Deny(node),
        DirectoryState::Untouched => Decision::GrantZero,
        DirectoryState::Shared(owner) if asked.access == Access::Write => {
            let last = if entry.holders.contains(asked.node) { asked.node } else { supplier(owner) };
            let missing = entry.holders.without(last);
            if !missing.is_empty() {
                Decision::Invalidate(missing)
            } else if last == asked.node {
                Decision::Grant
            } else {
                Decision::Move(last)
            }
        }
        DirectoryState::Shared(owner) | DirectoryState::Modified(owner) => Decision::Move(supplier(owner)),
    }
}
