//! Programs that show pagemesh at work: Conway's Game of Life on one grid shared by many processes, and six programs that
//! compute in shared memory and are measured beside plain memory.
//!
//! This crate owns the demos as libraries: the patterns and their file format ([`rle`], [`patterns`]), the grid and
//! its single-process reference ([`Grid`]), the work of one node on a shared grid ([`life`]), the picture of it
//! ([`view`]), and the computing programs with their references and measurements ([`compute`]). It must never start processes, read the
//! command line, install signal handlers or exit: that is for the program that calls it. It reaches the memory of a mesh only through the
//! public interface of the `pagemesh` crate, exactly as a user's program would; from `pagemesh-memory` it has the plain memory that the
//! programs are measured beside.
//!
//! The main types are [`Grid`] and [`GridSize`], [`life::Plan`], [`view::View`], and [`compute::Workload`].
#![forbid(unsafe_code)]

pub mod compute;
pub mod grid;
pub mod life;
pub mod patterns;
mod picture;
pub mod rle;
mod step;
pub mod view;

pub use grid::{Grid, GridSize};
