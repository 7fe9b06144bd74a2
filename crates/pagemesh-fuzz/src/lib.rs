//! What is fuzzed: everything that reads bytes from outside, and the engine under any order of events.
//!
//! This crate owns the bodies of the fuzz targets: each takes any bytes and panics when a guarantee does not hold. The
//! programs in `fuzz/`, which need a nightly compiler, call them, and so does an ordinary test with the committed
//! inputs, so that what was found once is looked at by every test run. It is for tests only and must never let
//! anything but the bytes decide.
//!
//! [`TARGETS`] lists all bodies by the names of their programs.
#![forbid(unsafe_code)]
// A broken guarantee is a panic: that is what a body is for.
#![allow(clippy::missing_panics_doc)]

mod engines;
mod frame;
mod handshake;
mod message;
mod pattern;
mod script;
mod settings;

pub use engines::{honest, liar};
pub use frame::frame;
pub use handshake::handshake;
pub use message::message;
pub use pattern::pattern;
pub use settings::settings;

/// What a fuzz target does with an input.
pub type Body = fn(&[u8]);

/// Every body, by the name of its program and of its folder of inputs.
pub const TARGETS: [(&str, Body); 7] = [
    ("frame", frame),
    ("handshake", handshake),
    ("message", message),
    ("pattern", pattern),
    ("settings", settings),
    ("honest", honest),
    ("liar", liar),
];
