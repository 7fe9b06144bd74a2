//! Programs that compute in shared memory, each with a sequential version that has the same answer.
//!
//! They are free of data races: what one member writes and another reads has a barrier or a lock in between. So they are right
//! under every protocol. Each is written once, for a [`Team`], and reaches shared memory by [`Shared`].

mod fibonacci;
mod histogram;
mod jacobi;
mod matrix;
pub mod measure;
pub mod plain;
mod quicksort;
mod random;
pub mod report;
mod salesman;
mod shared;
mod team;
mod workload;

pub use fibonacci::Fibonacci;
pub use histogram::Histogram;
pub use jacobi::Jacobi;
pub use matrix::Matrix;
pub use quicksort::Quicksort;
pub use salesman::Salesman;
pub use shared::Shared;
pub use team::{Clock, Cost, Team, TeamError, Work};
pub use workload::{Kind, Scale, Workload, WorkloadError};

/// One program with its sizes.
pub trait Program: Sync {
    /// What it computes.
    type Answer: Send;
    /// What the sequential version starts from, made before its clock starts.
    type Prepared;

    /// Makes what the sequential version starts from.
    fn prepare(&self) -> Self::Prepared;

    /// Computes the answer in one thread and private memory.
    fn sequential(&self, prepared: Self::Prepared) -> Self::Answer;

    /// One member's part; member 0 has the answer.
    ///
    /// # Errors
    /// [`TeamError`] when shared memory failed.
    fn take_part(&self, team: &Team<'_>) -> Result<(Option<Self::Answer>, Cost), TeamError>;

    /// Says what is wrong with an answer.
    ///
    /// # Errors
    /// A sentence that tells where `found` is not what it must be.
    fn check(&self, reference: &Self::Answer, found: &Self::Answer) -> Result<(), String>;
}
