//! The progress of training, as `fit` reports it to a callback and in the end.

use std::ops::ControlFlow;

use crate::nn::model::Metrics;

/// The progress of training after a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchEnd {
    /// The epoch, from 0 on.
    pub epoch: usize,
    /// The batch within the epoch, from 0 on.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Samples of the epoch so far.
    pub samples: usize,
    /// Mean loss of these samples, each evaluated before the update by its batch; in nats.
    pub loss: f32,
    /// Fraction of these samples that were predicted correctly.
    pub accuracy: f32,
    /// Learning rate of the batch's step, after the [`Schedule`](crate::nn::Schedule).
    pub learning_rate: f64,
}

/// The metrics of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EpochEnd {
    /// The epoch, from 0 on.
    pub epoch: usize,
    /// Mean loss of the epoch's samples, each evaluated before the update by its batch; in nats.
    pub loss: f32,
    /// Fraction of these samples that were predicted correctly.
    pub accuracy: f32,
    /// Learning rate of the epoch's last step, after the [`Schedule`](crate::nn::Schedule).
    pub learning_rate: f64,
    /// Metrics of the validation samples after the epoch, if there are any.
    pub validation: Option<Metrics>,
}

/// The epochs of a call of [`fit`](crate::nn::Sequential::fit), and why training ended.
///
/// Epochs before a checkpoint from which it [resumed](crate::nn::Fit::resume) are among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub(crate) epochs: Vec<EpochEnd>,
    pub(crate) ended: Ended,
    pub(crate) best_epoch: Option<usize>,
}

impl History {
    /// Returns the metrics of each completed epoch, in order.
    #[must_use]
    pub fn epochs(&self) -> &[EpochEnd] {
        &self.epochs
    }

    /// Returns why training ended.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended
    }

    /// Returns the best epoch, from 0 on, by [`Fit::early_stopping`](crate::nn::Fit::early_stopping), if that
    /// is set and there is a best one.
    #[must_use]
    pub fn best_epoch(&self) -> Option<usize> {
        self.best_epoch
    }
}

/// Why training ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// All epochs were completed.
    #[default]
    Finished,
    /// The metric of [`Fit::early_stopping`](crate::nn::Fit::early_stopping) no longer improved.
    EarlyStopping,
    /// A [`Callback`] stopped it.
    Callback,
    /// The flag of [`Fit::stop`](crate::nn::Fit::stop) was set.
    Stopped,
}

/// Is called during training, and may stop it by [`ControlFlow::Break`].
///
/// The model then keeps the parameters that it has, and the [`History`] holds the completed epochs.
#[allow(unused_variables)] // They have names for the docs.
pub trait Callback {
    /// Returns the learning rate from now on, before each epoch: Keras' `LearningRateScheduler`.
    ///
    /// `rate` is the optimizer's learning rate, without the factor of its schedule; the new one lasts beyond
    /// training. One that is out of range ends training with an error.
    fn learning_rate(&mut self, epoch: usize, rate: f64) -> f64 {
        rate
    }

    /// Is called after each batch.
    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Is called after each epoch and its validation.
    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
