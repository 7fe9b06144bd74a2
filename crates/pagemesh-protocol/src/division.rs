//! How the pages of one node are divided among its engines.

use crate::ids::PageAddress;
use crate::limits;
use crate::placement::Protocol;

/// How many engines a node has, and which of them decides about a page. It is each node's own affair: nothing of it is said to others.
///
/// The pages of a write-invalidate or migration region have nothing to do with each other: every message, call and transaction is
/// about one of them. So they can be decided about by engines that know nothing of each other. All else stays with the first: the pages of release and
/// entry regions, which intervals and ranges tie together, regions themselves, and every object of synchronisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Division {
    engines: u16,
    stripe_pages: u64,
}

impl Division {
    /// One engine that decides about everything.
    pub const WHOLE: Division = Division { engines: 1, stripe_pages: limits::STRIPE_PAGES };

    /// `engines` engines, each with runs of [`limits::STRIPE_PAGES`] neighbouring pages.
    ///
    /// # Panics
    /// When there is no engine, or there are more than [`limits::ENGINES`].
    pub const fn among(engines: u16) -> Division {
        Division::striped(engines, limits::STRIPE_PAGES)
    }

    /// `engines` engines, each with runs of `stripe_pages` neighbouring pages.
    ///
    /// # Panics
    /// When there is no engine, there are more than [`limits::ENGINES`], or a run has no page.
    pub const fn striped(engines: u16, stripe_pages: u64) -> Division {
        assert!(engines > 0 && engines as usize <= limits::ENGINES && stripe_pages > 0);
        Division { engines, stripe_pages }
    }

    /// How many engines there are.
    pub const fn engines(self) -> u16 {
        self.engines
    }

    /// Whether the pages of regions with `protocol` are divided.
    pub const fn divides(self, protocol: Protocol) -> bool {
        self.engines > 1 && matches!(protocol, Protocol::WriteInvalidate | Protocol::Migration)
    }

    /// Which engine decides about `page` of a region that is divided. Regions begin at different engines, so that small ones spread too.
    pub const fn engine_of(self, page: PageAddress) -> usize {
        ((page.page / self.stripe_pages + page.region.index() as u64) % self.engines as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RegionId;

    #[test]
    fn neighbours_stay_together_and_all_engines_have_some() {
        let division = Division::among(3);
        let engine = |region, page| division.engine_of(PageAddress::new(RegionId(region), page));
        for stripe in 0..6 {
            let first = stripe * limits::STRIPE_PAGES;
            assert_eq!(engine(0, first), stripe as usize % 3);
            assert_eq!(engine(0, first + limits::STRIPE_PAGES - 1), engine(0, first));
            assert_eq!(engine(1, first), (stripe as usize + 1) % 3);
        }
    }

    #[test]
    fn only_regions_of_independent_pages_are_divided() {
        let divided = |engines, protocol| Division::among(engines).divides(protocol);
        assert!(divided(2, Protocol::WriteInvalidate) && divided(2, Protocol::Migration));
        assert!(!divided(2, Protocol::Release) && !divided(2, Protocol::Entry));
        assert!(!divided(1, Protocol::WriteInvalidate));
        assert_eq!(Division::WHOLE, Division::among(1));
    }
}
