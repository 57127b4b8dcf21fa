//! Level 2, by the public interface: networks, their training and inference, and their files.
//!
//! One program, since what takes long is to build them.

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
