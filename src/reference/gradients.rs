//! What happens to gradients before an optimizer's rule takes them.

use super::rows::sum_of_pieces;
use crate::error::{Error, Result};
use crate::nn::{Clip, Optimizer, Sgd};

/// dw = dw + 2 l2 w, or dw if `l2` is 0, for the weights of a kernel: see
/// [`nn::Optimizer::l2`](crate::nn::Optimizer::l2). Both slices have one length.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ, [`Error::Value`] if `l2` is out of range; `dw` is untouched then.
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

/// The Euclidean norm of all gradients: their squares, which are exact in f64, are added as a long row is.
#[must_use]
pub fn global_norm(dw: &[f32]) -> f64 {
    let squares: Vec<f64> = dw.iter().map(|&dw| f64::from(dw) * f64::from(dw)).collect();
    sum_of_pieces(&squares).sqrt()
}

/// Clips the gradients by all parameters: see [`nn::Clip`](crate::nn::Clip).
///
/// # Errors
/// [`Error::Value`] if the bound is out of range; `dw` is untouched then.
pub fn clip(clip: Clip, dw: &mut [f32]) -> Result<()> {
    clip.check()?;
    match clip {
        Clip::Value(most) => {
            let most = most as f32;
            for dw in dw.iter_mut().filter(|dw| dw.abs() > most) {
                *dw = most.copysign(*dw);
            }
        }
        Clip::GlobalNorm(most) => {
            let norm = global_norm(dw);
            let factor = if norm.is_finite() { (most / norm) as f32 } else { f32::NAN };
            if norm > most || norm.is_nan() {
                dw.iter_mut().for_each(|dw| *dw *= factor);
            }
        }
    }
    Ok(())
}
