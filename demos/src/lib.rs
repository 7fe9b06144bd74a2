//! Programs that show pagemesh at work: Conway's Game of Life on one grid shared by many processes.
//!
//! This crate owns the demos as libraries: the patterns and their file format ([`rle`], [`patterns`]), the grid and
//! its single-process reference ([`Grid`]), the work of one node on a shared grid ([`life`]) and the picture of it
//! ([`view`]). It must never start processes, read the command line, install signal handlers or exit: that is for the
//! program that calls it. It reaches shared memory only through the public interface of the `pagemesh` crate, exactly
//! as a user's program would.
//!
//! The main types are [`Grid`] and [`GridSize`], [`life::Plan`] and [`view::View`].
#![forbid(unsafe_code)]

pub mod grid;
pub mod life;
pub mod patterns;
mod picture;
pub mod rle;
mod step;
pub mod view;

pub use grid::{Grid, GridSize};
