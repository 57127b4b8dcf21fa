//! Level 1, by the public interface: kernels against the reference, views, instruction sets, threads and errors.
//!
//! One program, since what takes long is to build them.

#[path = "../common/mod.rs"]
mod common;
mod dense;
mod edges;
mod errors;
mod isa;
mod loss;
mod modes;
mod rows;
mod special;
mod threads;
mod views;
