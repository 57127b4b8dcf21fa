#![doc = include_str!("../README.md")]
//!
//! # Where things are
//! - Level 1, kernels over views: [`dense`], [`activation`], [`loss`]; each call takes a [`Backend`].
//! - Level 2, networks with Keras' words: [`nn`].
//! - What every kernel must compute, bit for bit: [`mod@reference`].
//! - How far functions are from their true values: [`math`].

#![deny(missing_docs, unsafe_code, unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::incompatible_msrv)]

pub mod activation;
mod backend;
mod contract;
pub mod dense;
mod dispatch;
mod error;
mod gemm;
mod isa;
mod kernels;
mod layout;
pub mod loss;
pub mod math;
mod matrix;
pub mod nn;
mod parallel;
pub mod reference;
mod simd;
mod targets;
mod tuning;

pub use backend::Backend;
pub use contract::{CHUNK_ROWS, LOSS_ROWS, ROW_PIECE};
pub use error::{Error, Result};
pub use gemm::packed::{PackedWeights, Weights};
pub use isa::{ISA_VARIABLE, Isa};
pub use kernels::activation::Activation;
pub use matrix::{MatMut, MatRef, flatten};
pub use parallel::threads::Threads;
pub use targets::{Labels, Targets};
