//! Matrix products of dense layers.
//!
//! A product goes from top to bottom: [`product`] (types, split over threads) -> [`driver`] (loops 5 to 2)
//! with its [`plan`] (block sizes, packing modes), [`pack`] and [`scratch`] -> [`macrokernel`] (loop 1) ->
//! [`microkernel`] (registers; its [`k_loop`], by [`columns`] too) on the operands of a [`microtile`], read
//! by an [`access`], stored by an [`epilogue`].
//!
//! Special cases: [`gemv`] for one sample with [`packed`] weights, [`rank_k`] for a small depth,
//! [`fused_update`] for a weight gradient with the optimizer's step on it, [`portable`] for processors
//! without fused multiply-add. An [`element`] is what packed weights are stored in.

#![allow(unsafe_code)]

mod access;
mod columns;
mod driver;
pub(crate) mod element;
pub(crate) mod epilogue;
pub(crate) mod fused_update;
pub(crate) mod gemv;
mod k_loop;
mod macrokernel;
mod microkernel;
mod microtile;
mod pack;
pub(crate) mod packed;
mod plan;
mod portable;
pub(crate) mod product;
mod rank_k;
mod scratch;
