//! What can go wrong in a simulated run: one variant for each guarantee.

use crate::history::Disorder;
use pagemesh_protocol::Violation;

/// A guarantee that did not hold, and where.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// The engine asked for something that its own description of actions forbids.
    #[error("an action that its description forbids: {0}")]
    Action(String),
    /// Two writers, or a writer beside readers.
    #[error("neither one writer nor many readers: {0}")]
    Exclusion(String),
    /// A request was passed over, or a page was taken away before it was used.
    #[error("an unfair turn: {0}")]
    Turn(String),
    /// A pinned page was taken before its deadline, or the end of its pin did not tell what became of it.
    #[error("a pin failed: {0}")]
    Pin(String),
    /// Nodes differ about the home of a page.
    #[error("a page has two homes: {0}")]
    Home(String),
    /// The application's rights are not what the engine's page state says.
    #[error("rights and page state differ: {0}")]
    Rights(String),
    /// A readable copy is not the latest.
    #[error("stale bytes: {0}")]
    Data(String),
    /// What the threads read cannot have happened in any order.
    #[error("not sequentially consistent: {0}")]
    Order(#[from] Disorder),
    /// The home's directory does not tell who has copies.
    #[error("the directory is wrong: {0}")]
    Directory(String),
    /// Two holders, an overtaken waiter, or a wrong counter.
    #[error("a lock failed: {0}")]
    Lock(String),
    /// Somebody passed before all had arrived.
    #[error("a barrier failed: {0}")]
    Barrier(String),
    /// Nodes differ about a region.
    #[error("a region failed: {0}")]
    Region(String),
    /// A call ended twice, or in a way that nothing excuses.
    #[error("a call ended wrongly: {0}")]
    Completion(String),
    /// An engine refused another engine's message.
    #[error("a message was refused: {0}")]
    Violation(#[from] Violation),
    /// A message did not survive its own encoding.
    #[error("the wire form is wrong: {0}")]
    Wire(String),
    /// Somebody waits and nothing will ever happen, or nothing ends.
    #[error("no progress: {0}")]
    Stuck(String),
    /// An assertion failed inside an engine.
    #[error("a panic: {0}")]
    Panic(String),
}
