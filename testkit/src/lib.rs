//! Shares what the tests, benches and fuzz targets of densely have in common.
//!
//! - [`matrix`]: matrices of any layout that show a stray read or write, on [`guarded`] memory
//! - [`random`], `values`: numbers that kernels stumble over, the same on every machine
//! - [`bits`], [`tolerance`]: comparisons, on bits wherever the numeric contract promises them
//! - [`backends`]: every instruction set of the host
//! - [`kernel`]: a kernel beside its reference, on all of them
//! - [`network`]: the reference network, which training and inference are compared with
//! - `operations`: every operation of the kernel API on fixed data, for tests that compare whole runs
//! - `images`, `strategies`: Fashion-MNIST and property tests, behind features
//! - [`activations`], [`emulation`], [`folder`], [`watchdog`]: the rest
//!
//! Integration tests use it. Unit tests in `src` cannot: they would meet two copies of densely's types.

pub mod activations;
pub mod backends;
pub mod bits;
pub mod emulation;
pub mod folder;
pub mod guarded;
#[cfg(feature = "images")]
pub mod images;
pub mod kernel;
pub mod matrix;
pub mod network;
#[cfg(feature = "images")]
pub mod operations;
pub mod random;
#[cfg(feature = "proptest")]
pub mod strategies;
pub mod tolerance;
#[cfg(feature = "images")]
pub mod values;
pub mod watchdog;

pub use activations::activations;
pub use backends::{backends, exact_backends, exactly, serial_backends};
pub use bits::{assert_identical, assert_same_bits, canonical};
pub use emulation::{EMULATED, first_if_emulated};
pub use folder::Folder;
#[cfg(feature = "images")]
pub use images::fashion_mnist;
pub use kernel::{check_kernel, check_kernel_serially};
pub use matrix::{Layout, Matrix, Strides, row_major, row_major_mut};
pub use random::{Random, random_labels, random_values};
pub use tolerance::{Tolerance, assert_close};
#[cfg(feature = "images")]
pub use values::Values;
pub use watchdog::within_a_minute;
