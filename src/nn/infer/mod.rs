//! Inference.

pub(crate) mod predictor;
