//! Losses: a file for each. This file lists them.

pub(crate) mod cross_entropy;
pub(crate) mod interface;

use std::ops::Deref;

use crate::nn::losses::cross_entropy::SparseCategoricalCrossEntropy;
use crate::nn::losses::interface::Loss;

/// The loss that a model is trained on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum LossKind {
    #[default]
    SparseCategoricalCrossEntropy,
}

/// The one place where losses are told apart.
impl Deref for LossKind {
    type Target = dyn Loss;

    fn deref(&self) -> &(dyn Loss + 'static) {
        match self {
            Self::SparseCategoricalCrossEntropy => &SparseCategoricalCrossEntropy,
        }
    }
}
