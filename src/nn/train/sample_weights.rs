//! Weights of samples and classes.

use crate::error::{Error, Result};
use crate::targets::Labels;

/// Multiplies each sample's weight by its class's; empty if neither are given.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Value`] if weights do not fit, or products are not finite.
pub(crate) fn weights(
    labels: Labels<'_>,
    classes: usize,
    class_weights: Option<&[f32]>,
    sample_weights: Option<&[f32]>,
) -> Result<Vec<f32>> {
    if class_weights.is_none() && sample_weights.is_none() {
        return Ok(Vec::new());
    }
    check("class_weights", class_weights, classes, "one a class")?;
    check("sample_weights", sample_weights, labels.len(), "one a sample")?;
    let of_class = |sample| class_weights.map_or(Some(1.0), |weights| weights.get(labels.get(sample)?).copied());
    let of_sample = |sample| sample_weights.map_or(Some(1.0), |weights| weights.get(sample).copied());
    let product = |sample| Some(of_class(sample)? * of_sample(sample)?);
    let weights: Vec<f32> = (0..labels.len()).map(|sample| product(sample).unwrap_or(f32::NAN)).collect();
    match weights.iter().find(|weight| !weight.is_finite()) {
        Some(weight) => Err(Error::value("sample_weights", "finite products with class_weights", weight)),
        None => Ok(weights),
    }
}

fn check(argument: &'static str, weights: Option<&[f32]>, count: usize, what: &str) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    if weights.len() != count {
        return Err(Error::shape(argument, format_args!("{count} weights, {what}"), weights.len()));
    }
    match weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        Some(weight) => Err(Error::value(argument, "finite weights of at least 0", weight)),
        None => Ok(()),
    }
}
