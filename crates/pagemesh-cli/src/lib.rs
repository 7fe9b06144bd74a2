//! What the programs of pagemesh are made of; the binaries only read the command line.
//!
//! This crate owns what faces the user: processes, terminals, prompts and messages. It must never touch shared pages but
//! through the `pagemesh` crate, and holds no unsafe code. Its main type so far is [`run::Launch`], the nodes of one
//! mesh on this machine.

#![forbid(unsafe_code)]

pub mod bench;
pub mod consistency;
pub mod demo;
pub mod doctor;
pub mod environment;
pub mod pager;
pub mod preload;
pub mod run;
pub mod s2dsm;
pub mod say;
