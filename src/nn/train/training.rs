//! `Training`: samples and options of a `fit` that have been checked.

use crate::matrix::MatRef;
use crate::nn::train::batches::{Batch, Shuffle};
use crate::nn::train::early_stopping::EarlyStopping;
#[cfg(feature = "safetensors")]
use crate::nn::train::fingerprint::FitConfig;
use crate::targets::Labels;

/// What the result of a training follows from, besides the model.
pub(crate) struct Training<'a> {
    pub(crate) samples: Batch<'a>,
    pub(crate) validation: Option<(MatRef<'a>, Labels<'a>)>,
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) shuffle: Shuffle,
    pub(crate) early_stopping: Option<EarlyStopping>,
}

#[cfg(feature = "safetensors")]
impl Training<'_> {
    /// What the fingerprint of a checkpoint depends on.
    pub(crate) fn config(&self) -> FitConfig {
        FitConfig {
            epochs: self.epochs,
            samples: self.samples.x.rows(),
            has_sample_weights: !self.samples.weights.is_empty(),
            validation_samples: self.validation.map(|(x, _)| x.rows()),
            batch_size: self.batch_size,
            shuffle: match self.shuffle {
                Shuffle::Seed(seed) => Some(seed),
                Shuffle::No => None,
            },
            early_stopping: self.early_stopping,
        }
    }
}
