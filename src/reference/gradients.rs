//! Preprocessing of gradients before the update rule.

use super::rows::sum_of_pieces;
use crate::error::{Error, Result};
use crate::nn::optimizers::clip::Clip;
use crate::nn::optimizers::optimizer::Optimizer;
use crate::nn::optimizers::sgd::Sgd;

/// Adds the gradient of the L2 penalty: dw = dw + 2 l2 w, or dw if `l2` is 0, for the weights of a kernel.
///
/// See [`nn::Optimizer::l2`](crate::nn::Optimizer::l2). Both slices have one length.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ, [`Error::Value`] if `l2` is out of range; `dw` is unchanged then.
pub fn add_l2(l2: f64, w: &[f32], dw: &mut [f32]) -> Result<()> {
    Optimizer::from(Sgd::default()).l2(l2).check()?;
    if dw.len() != w.len() {
        return Err(Error::shape("dw", format_args!("{} elements", w.len()), dw.len()));
    }
    if l2 == 0.0 {
        return Ok(());
    }
    for (&w, dw) in w.iter().zip(dw) {
        *dw = w.mul_add((2.0 * l2) as f32, *dw);
    }
    Ok(())
}

/// Computes the Euclidean norm of all gradients: their squares, exact in f64, are added as a long row is.
#[must_use]
pub fn global_norm(dw: &[f32]) -> f64 {
    let squares: Vec<f64> = dw.iter().map(|&dw| f64::from(dw) * f64::from(dw)).collect();
    sum_of_pieces(&squares).sqrt()
}

/// Clips the gradients of all parameters: see [`nn::Clip`](crate::nn::Clip).
///
/// # Errors
/// [`Error::Value`] if the bound is out of range; `dw` is unchanged then.
pub fn clip(clip: Clip, dw: &mut [f32]) -> Result<()> {
    clip.check()?;
    match clip {
        Clip::Value(bound) => {
            let bound = bound as f32;
            for dw in dw.iter_mut().filter(|dw| dw.abs() > bound) {
                *dw = bound.copysign(*dw);
            }
        }
        Clip::GlobalNorm(bound) => {
            let norm = global_norm(dw);
            let factor = if norm.is_finite() { (bound / norm) as f32 } else { f32::NAN };
            if norm > bound || norm.is_nan() {
                dw.iter_mut().for_each(|dw| *dw *= factor);
            }
        }
    }
    Ok(())
}
