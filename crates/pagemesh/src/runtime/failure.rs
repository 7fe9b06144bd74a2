//! Why a call of the runtime failed, and how each family of calls says so.

use super::Runtime;
use crate::Holders;
use crate::{AccessError, AtomicError, RegionError, SyncError};
use pagemesh_protocol::{Failure, NodeId, PageAddress, RegionRefusal, RegionSpec};
use std::time::Duration;

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallFailure {
    /// The engine said so.
    Failed(Failure),
    /// No answer within this time.
    TimedOut(Duration),
    /// No answer within this time to what may have been done.
    Unanswered(Duration),
    /// The kernel refused to map a page.
    Mapping,
    /// This node has left.
    Closed,
}

/// Failed faults that no access has explained yet. A handler has nobody to return its reason to: it leaves it here. The newest few
/// are kept, without allocating.
#[derive(Debug, Default)]
pub(super) struct Failures {
    newest: [Option<(PageAddress, CallFailure)>; 16],
    next: usize,
}

impl Failures {
    pub(super) fn add(&mut self, page: PageAddress, failure: CallFailure) {
        self.newest[self.next % self.newest.len()] = Some((page, failure));
        self.next = self.next.wrapping_add(1);
    }

    /// Why the last fault on `page` failed, once.
    pub(super) fn take(&mut self, page: PageAddress) -> Option<CallFailure> {
        let found = self.newest.iter_mut().find(|slot| slot.is_some_and(|(failed, _)| failed == page))?;
        found.take().map(|(_, failure)| failure)
    }
}

impl CallFailure {
    pub(crate) fn into_access_error(
        self,
        runtime: &Runtime,
        spec: &RegionSpec,
        address: PageAddress,
    ) -> AccessError {
        let region = spec.name.as_str().to_owned();
        let page = address.page;
        let lost = |node: NodeId| (node, runtime.departure_kind(node));
        match self {
            CallFailure::Failed(Failure::PageLost(node)) => {
                let (node, how) = lost(node);
                AccessError::PageLost { region, page, node, how }
            }
            CallFailure::Failed(Failure::PeerLost(node)) => {
                let (node, how) = lost(node);
                AccessError::PeerLost { region, page, node, how }
            }
            CallFailure::Failed(Failure::RegionClosed) => AccessError::RegionClosed { region },
            CallFailure::Failed(_) | CallFailure::Mapping => AccessError::Mapping { region, page },
            CallFailure::TimedOut(after) | CallFailure::Unanswered(after) => {
                AccessError::TimedOut { region, page, node: runtime.asked_node(address), after }
            }
            CallFailure::Closed => AccessError::Closed { region },
        }
    }

    pub(crate) fn into_atomic_error(
        self,
        runtime: &Runtime,
        spec: &RegionSpec,
        address: PageAddress,
    ) -> AtomicError {
        let (region, page) = (spec.name.as_str().to_owned(), address.page);
        match self {
            CallFailure::Failed(Failure::Unanswered(node)) => {
                AtomicError::NodeLost { region, page, node, how: runtime.departure_kind(node) }
            }
            CallFailure::Unanswered(after) => {
                AtomicError::NoAnswer { region, page, node: runtime.asked_node(address), after }
            }
            other => other.into_access_error(runtime, spec, address).into(),
        }
    }

    pub(super) fn into_sync_error(self, runtime: &Runtime, what: String) -> SyncError {
        let how = |node| runtime.departure_kind(node);
        match self {
            CallFailure::Failed(Failure::PeerLost(node) | Failure::PageLost(node)) => {
                SyncError::PeerLost { what, node, how: how(node) }
            }
            CallFailure::Failed(Failure::BarrierMismatch { first, this }) => {
                SyncError::BarrierMismatch { what, first, this }
            }
            CallFailure::Failed(Failure::SemaphoreMismatch { first }) => {
                SyncError::SemaphoreMismatch { what, first, this: first }
            }
            CallFailure::Failed(Failure::Limit(bound)) => SyncError::Limit { what, bound },
            CallFailure::Failed(Failure::RegionClosed) => {
                SyncError::Limit { what, bound: "its region is closed" }
            }
            CallFailure::Failed(_) | CallFailure::Mapping => {
                SyncError::Limit { what, bound: "the answer made no sense" }
            }
            CallFailure::TimedOut(after) | CallFailure::Unanswered(after) => {
                SyncError::TimedOut { what, after, holders: Holders::default() }
            }
            CallFailure::Closed => SyncError::Closed { what },
        }
    }

    pub(super) fn into_region_error(self, runtime: &Runtime, asked: &RegionSpec) -> RegionError {
        let name = asked.name.as_str().to_owned();
        match self {
            CallFailure::Failed(Failure::RegionRefused(refusal)) => refused(name, asked, refusal),
            CallFailure::Failed(Failure::PeerLost(node) | Failure::PageLost(node)) => {
                RegionError::PeerLost { name, node, how: runtime.departure_kind(node) }
            }
            CallFailure::Failed(_) | CallFailure::Mapping => RegionError::Exhausted { name },
            CallFailure::TimedOut(after) | CallFailure::Unanswered(after) => {
                RegionError::TimedOut { name, after }
            }
            CallFailure::Closed => RegionError::Closed { name },
        }
    }
}

fn refused(name: String, asked: &RegionSpec, refusal: RegionRefusal) -> RegionError {
    match refusal {
        RegionRefusal::SizeDiffers { pages } => {
            RegionError::SizeDiffers { name, asked: asked.pages * 4096, found: pages * 4096 }
        }
        RegionRefusal::OptionsDiffer => {
            let RegionSpec { protocol, placement, unit, .. } = *asked;
            RegionError::OptionsDiffer { name, protocol, placement, unit_bytes: unit.bytes() }
        }
        RegionRefusal::AddressDiffers { address } => {
            RegionError::AddressDiffers { name, asked: asked.address, found: address }
        }
        RegionRefusal::AddressTaken { node, address } => RegionError::AddressTaken { name, address, node },
        _ => RegionError::Exhausted { name },
    }
}
