//! Faults that are planted on purpose, to show that the checks see them.

use crate::random::Random;

/// A fault to plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Sabotage {
    /// Two messages on one link change places.
    SwapMessages,
    /// A message is lost though its link lives.
    LoseMessage,
    /// A message comes twice.
    RepeatMessage,
    /// A copy stays mapped that was to be dropped.
    LoseUnmap,
    /// A copy stays writable that was to be readable only.
    LoseProtect,
    /// Received bytes are not put in place.
    SkipFill,
    /// A first touch finds what the memory held before.
    SkipZero,
    /// A page is sent as it was before its last write.
    StaleData,
    /// A page's bytes are read before its rights are taken away.
    SendBeforeUnmap,
    /// A page's home is said to be whoever asks for it.
    TwoHomes,
    /// A thread is said to have used a page before it has.
    EarlyResume,
    /// A lock is granted to two waiters.
    DoubleLockGrant,
    /// A barrier lets its first waiter go before all have arrived.
    EarlyBarrierRelease,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 13] = [
        Sabotage::SwapMessages,
        Sabotage::LoseMessage,
        Sabotage::RepeatMessage,
        Sabotage::LoseUnmap,
        Sabotage::LoseProtect,
        Sabotage::SkipFill,
        Sabotage::SkipZero,
        Sabotage::StaleData,
        Sabotage::SendBeforeUnmap,
        Sabotage::TwoHomes,
        Sabotage::EarlyResume,
        Sabotage::DoubleLockGrant,
        Sabotage::EarlyBarrierRelease,
    ];

    /// The fault of this name, as it is spelled here.
    pub fn named(name: &str) -> Option<Sabotage> {
        Sabotage::ALL.into_iter().find(|sabotage| format!("{sabotage:?}") == name)
    }
}

/// Decides when a planted fault happens.
#[derive(Clone, Debug)]
pub(crate) struct Saboteur {
    fault: Option<Sabotage>,
    random: Random,
    pub(crate) planted: u64,
}

/// In how many of 100 chances the fault happens: rare enough that most of a run is as it should be.
const PERCENT: u32 = 5;

impl Saboteur {
    pub(crate) fn new(fault: Option<Sabotage>, random: Random) -> Saboteur {
        Saboteur { fault, random, planted: 0 }
    }

    /// Whether `fault` happens at this chance.
    pub(crate) fn strikes(&mut self, fault: Sabotage) -> bool {
        if self.fault != Some(fault) || !self.random.chance(PERCENT) {
            return false;
        }
        self.planted += 1;
        true
    }
}
