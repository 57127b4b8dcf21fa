//! What `fit` tells of the training: to a callback on the way, and in the end.

use std::ops::ControlFlow;

use crate::nn::metrics::Metrics;

/// Where the training stands behind a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchEnd {
    /// The epoch, from 0 on.
    pub epoch: usize,
    /// The batch within the epoch, from 0 on.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// Samples that the epoch has seen so far.
    pub samples: usize,
    /// Mean over the samples that the epoch has seen so far, each judged before its batch's update; in nats.
    pub loss: f32,
    /// Right answers divided by these samples.
    pub accuracy: f32,
    /// Of the batch's step, after the [`Schedule`](super::Schedule).
    pub learning_rate: f64,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct EpochEnd {
    /// The epoch, from 0 on.
    pub epoch: usize,
    /// Mean over the epoch's samples, each judged before its batch's update; in nats.
    pub loss: f32,
    /// Right answers divided by these samples.
    pub accuracy: f32,
    /// Of the epoch's last step, after the [`Schedule`](super::Schedule).
    pub learning_rate: f64,
    /// On the validation samples after the epoch, if there are any.
    pub validation: Option<Metrics>,
}

/// The epochs that a call of [`fit`](super::Sequential::fit) went through, with those before a checkpoint that it
/// [resumed](super::Fit::resume), and why there were no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub(crate) epochs: Vec<EpochEnd>,
    pub(crate) ended: Ended,
    pub(crate) best_epoch: Option<usize>,
}

impl History {
    /// What each epoch came to, in order; one that was not finished is not among them.
    #[must_use]
    pub fn epochs(&self) -> &[EpochEnd] {
        &self.epochs
    }

    /// Why training ended.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended
    }

    /// The epoch, from 0 on, that was best by [`Fit::early_stopping`](super::Fit::early_stopping), if that was asked
    /// for and any was.
    #[must_use]
    pub fn best_epoch(&self) -> Option<usize> {
        self.best_epoch
    }
}

/// Why training ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// All epochs were done.
    #[default]
    Finished,
    /// The metric of [`Fit::early_stopping`](super::Fit::early_stopping) no longer got better.
    EarlyStopping,
    /// A [`Callback`] asked for it.
    Callback,
    /// The flag of [`Fit::stop`](super::Fit::stop) was set.
    Stopped,
}

/// Gets word of the training, and may end it by [`ControlFlow::Break`]: what was learnt so far
/// stays, and the [`History`] holds the epochs that were finished.
#[allow(unused_variables)] // They have names for the docs.
pub trait Callback {
    /// Before each epoch: gets the optimizer's learning rate, before its schedule changes it, and gives what it is to
    /// be from now on, after training too. One that is out of range ends training with an error. Keras'
    /// `LearningRateScheduler`.
    fn learning_rate(&mut self, epoch: usize, rate: f64) -> f64 {
        rate
    }

    /// After each batch.
    fn on_batch_end(&mut self, end: &BatchEnd) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// After each epoch and its validation.
    fn on_epoch_end(&mut self, end: &EpochEnd) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
