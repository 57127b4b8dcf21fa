//! Matrix products of dense layers.
//!
//! [`product`] has the types, [`plan`] chooses blocking and packing mode, [`driver`] runs the five loops, [`microkernel`]
//! computes a micro-tile. Special cases: [`gemv`] for a single sample, [`rank_k`] for a small depth, [`fused_update`] for a
//! gradient whose optimizer step is taken at once, [`portable`] for processors without fused multiply-add.

#![allow(unsafe_code)]

mod driver;
pub(crate) mod fused_update;
pub(crate) mod gemv;
mod microkernel;
mod pack;
pub(crate) mod packed;
mod plan;
mod portable;
pub(crate) mod product;
mod rank_k;
mod scratch;
