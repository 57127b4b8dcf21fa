//! Inference: [`Sequential::predict`](super::Sequential::predict) and its relatives, and the
//! [`Predictor`](super::Predictor), whose weights are packed.

pub(crate) mod predict;
pub(crate) mod predictor;
