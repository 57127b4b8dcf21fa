//! Training and inference of dense neural networks on the CPU, fast and bit-reproducible.
//!
//! ```
//! use densely::MatRef;
//! use densely::nn::{Activation, Adam, Dense, Fit, Sequential};
//!
//! fn main() -> densely::Result<()> {
//!     // Exclusive or: four samples of two features.
//!     let x = MatRef::new(&[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], 4, 2)?;
//!     let hidden = Dense::new(16, Activation::Tanh);
//!     let output = Dense::new(2, Activation::Softmax);
//!     let mut model = Sequential::builder(2).layer(hidden).layer(output).build()?;
//!     model.compile(Adam::default().learning_rate(0.05))?;
//!     model.fit(x, &[0u8, 1, 1, 0], Fit::default().epochs(200))?;
//!     assert_eq!(model.predict_classes(x)?, [0, 1, 1, 0]);
//!     Ok(())
//! }
//! ```
//!
//! # Two APIs
//!
//! The **network API**, [`nn`], has Keras' names: build a [`Sequential`](nn::Sequential) model, train it with
//! [`fit`](nn::Sequential::fit), serve it with a [`Predictor`](nn::Predictor), or write a training loop of
//! your own with [`gradients_with`](nn::Sequential::gradients_with) and [`step`](nn::Sequential::step).
//!
//! The **kernel API** is what it is made of: forward and backward passes over borrowed matrices, [`MatRef`]
//! and [`MatMut`], on the instruction set and threads of a [`Backend`].
//!
//! | module | contents |
//! |---|---|
//! | [`dense`] | layers and their gradients, bias and activation fused; an example that trains two layers |
//! | [`activation`] | activations, softmax, log-softmax, exp and ln on their own |
//! | [`loss`] | cross-entropy, fused with its gradient |
//! | [`mod@reference`] | the scalar definition of every result, bit for bit: the numeric contract |
//! | [`math`] | error bounds of exp, ln, tanh and the other functions |
//!
//! Weights that serve many calls can be packed once, as [`PackedWeights`]. The [`prelude`] has what most
//! programs import from both APIs.
//!
//! # Guarantees
//!
//! - AVX-512, AVX2 with FMA and NEON give the same bits for any number of [`Threads`]: those of
//!   [`mod@reference`].
//! - Bad input gives an [`Error`] that names the argument, what was expected and what was found. No call
//!   panics, and nothing is written before all arguments have been checked.
//! - Kernels allocate nothing once a thread has seen a shape, except to wake a sleeping worker thread, and on
//!   [`Isa::Portable`].
//!
//! # Instruction sets
//!
//! [`Backend::new`] takes the best [`Isa`] of the processor, or the one that the environment variable
//! `DENSELY_ISA` names: `avx512`, `avx2`, `neon` or `portable`.
//!
//! # Cargo features
//!
//! Both are on by default.
//!
//! - `rayon`: calls compute on several threads of a rayon pool; without it, on the calling thread alone.
//! - `safetensors`: weights and checkpoints in files.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Products and updates with fused multiply-add are compiled for the instruction sets that have it.
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

// Tests the examples of README.md. It is not the front page: rustdoc cannot resolve its pictures and links.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
