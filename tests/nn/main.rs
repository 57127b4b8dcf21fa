//! Tests the network API through its public interface: networks, training, inference and files.
//!
//! One program, since linking takes longer than most of the tests.

mod bits;
mod checkpoint;
mod checkpoint_errors;
mod common;
mod dropout;
mod errors;
mod faults;
mod fit;
mod gradients;
mod keras;
mod optimizer;
mod predictor;
mod sample_weights;
mod schedule;
mod small;
mod stopping;
mod threads;
mod weights;
