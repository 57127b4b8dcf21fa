#![doc = include_str!("../README.md")]
//!
//! # Contents
//! - The kernel API, over matrix views: [`dense`], [`activation`], [`loss`]; each call takes a [`Backend`].
//! - The network API, with Keras' words: [`nn`].
//! - What most programs import from both: [`prelude`].
//! - The numeric contract, which defines every operation bit for bit: [`mod@reference`].
//! - The error bounds of exp, ln and the activations: [`math`].
//!
//! # Features
//! - `rayon` (default): kernels run on the threads of a rayon pool, see [`Threads`]. Without it they run on
//!   the calling thread.
//! - `safetensors` (default): weights and checkpoints in files.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Products and updates with fused multiply-add are compiled for the tiers that have it.
#![cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
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
pub mod prelude;
pub mod reference;
mod simd;
mod split_at;
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
