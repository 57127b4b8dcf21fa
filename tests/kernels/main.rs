//! Tests the kernel API through its public interface: results, views, instruction sets, threads and errors.
//!
//! One program, since linking takes longer than most of the tests.

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
