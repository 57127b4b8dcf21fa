//! Early stopping: training ends when a metric no longer improves.

use crate::error::{Error, Result};
use crate::nn::model::Metrics;
use crate::nn::train::history::EpochEnd;

/// The metric of each [`EpochEnd`] that [`EarlyStopping`] monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Monitor {
    /// [`EpochEnd::loss`]; lower is better.
    Loss,
    /// [`EpochEnd::accuracy`]; higher is better.
    Accuracy,
    /// The loss of [`EpochEnd::validation`]; lower is better.
    ValidationLoss,
    /// The accuracy of [`EpochEnd::validation`]; higher is better.
    ValidationAccuracy,
}

/// Ends training when a metric has not improved for some epochs, and restores the best parameters.
///
/// It differs from Keras' `EarlyStopping` in two things: [`restore_best`](Self::restore_best) is on unless it
/// is turned off, and NaN is never the best value, not even as the first one.
///
/// ```
/// use densely::MatRef;
/// use densely::nn::{Activation, Dense, EarlyStopping, Ended, Fit, Monitor, Sequential, Sgd};
/// let mut model = Sequential::builder(1).layer(Dense::new(2, Activation::Softmax)).build()?;
/// model.compile(Sgd::default().learning_rate(0.0))?; // so that nothing improves
/// let x = MatRef::new(&[0.0, 1.0], 2, 1)?;
/// let stopping = EarlyStopping::new(Monitor::Loss).patience(3);
/// let history = model.fit(x, &[0u8, 1], Fit::default().epochs(10).early_stopping(stopping))?;
/// assert_eq!((history.epochs().len(), history.ended()), (4, Ended::EarlyStopping));
/// assert_eq!(history.best_epoch(), Some(0));
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    min_delta: f64,
    start_from_epoch: usize,
    restore_best: bool,
}

impl EarlyStopping {
    /// Monitors this metric.
    pub fn new(monitor: Monitor) -> Self {
        Self { monitor, patience: 0, min_delta: 0.0, start_from_epoch: 0, restore_best: true }
    }

    /// Sets how many epochs in a row without an improvement end the training, 0 unless set.
    ///
    /// 0 and 1 are the same; the first epoch never ends the training.
    pub fn patience(self, epochs: usize) -> Self {
        Self { patience: epochs, ..self }
    }

    /// Sets the margin by which a value must exceed the best one so far, at least 0, and 0 unless set.
    pub fn min_delta(self, min_delta: f64) -> Self {
        Self { min_delta, ..self }
    }

    /// Ignores the epochs before this one: none of them is the best, and none ends the training.
    pub fn start_from_epoch(self, epoch: usize) -> Self {
        Self { start_from_epoch: epoch, ..self }
    }

    /// Chooses whether the parameters of the best epoch are restored in the end; on unless turned off.
    ///
    /// They are restored however training ends, by an error too, but not by a panic; without a best epoch,
    /// the model keeps its parameters. The optimizer's state stays that of the last step. Keras'
    /// `restore_best_weights` is off unless turned on.
    pub fn restore_best(self, restore_best: bool) -> Self {
        Self { restore_best, ..self }
    }

    /// Checks the options for training with or without validation.
    pub(crate) fn check(&self, validation: bool) -> Result<()> {
        if !(self.min_delta >= 0.0 && self.min_delta.is_finite()) {
            return Err(Error::value("min_delta", "a finite number, at least 0", self.min_delta));
        }
        if !validation && matches!(self.monitor, Monitor::ValidationLoss | Monitor::ValidationAccuracy) {
            let expected = "one of training, since there is no validation";
            return Err(Error::value("monitor", expected, format_args!("{:?}", self.monitor)));
        }
        Ok(())
    }
}

/// Early stopping during training: the best epoch so far, and the epochs since.
#[derive(Debug)]
pub(crate) struct EarlyStopper {
    options: EarlyStopping,
    best: Option<Best>,
    /// Epochs since the best.
    wait: usize,
    /// The parameters of the best epoch; empty if they are not to be restored.
    parameters: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Best {
    epoch: usize,
    value: f64,
}

/// The outcome of an epoch for early stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Improved,
    NotImproved,
    /// Not improved, and the patience is exhausted.
    Stop,
}

impl EarlyStopper {
    /// Begins before the first epoch, with memory for the best parameters if they are to be restored.
    pub(crate) fn new(options: EarlyStopping, parameters: usize) -> Self {
        let parameters = vec![0.0; if options.restore_best { parameters } else { 0 }];
        Self { options, best: None, wait: 0, parameters }
    }

    /// Takes the metrics of an epoch into account.
    pub(crate) fn observe(&mut self, end: &EpochEnd) -> Progress {
        let EarlyStopping { monitor, patience, min_delta, start_from_epoch, .. } = self.options;
        let validation = |metric: fn(Metrics) -> f32| end.validation.map_or(f32::NAN, metric);
        // Higher is better.
        let value = f64::from(match monitor {
            Monitor::Loss => -end.loss,
            Monitor::Accuracy => end.accuracy,
            Monitor::ValidationLoss => -validation(|metrics| metrics.loss),
            Monitor::ValidationAccuracy => validation(|metrics| metrics.accuracy),
        });
        if end.epoch < start_from_epoch {
            return Progress::NotImproved;
        }
        if self.best.map_or(!value.is_nan(), |best| value - min_delta > best.value) {
            self.best = Some(Best { epoch: end.epoch, value });
            self.wait = 0;
            return Progress::Improved;
        }
        self.wait += 1;
        if self.wait >= patience && end.epoch > 0 { Progress::Stop } else { Progress::NotImproved }
    }

    /// Saves the parameters of an epoch that has improved, if they are to be restored.
    pub(crate) fn save_best(&mut self, parameters: &[f32]) {
        if self.options.restore_best {
            self.parameters.copy_from_slice(parameters);
        }
    }

    pub(crate) fn best_epoch(&self) -> Option<usize> {
        self.best.map(|best| best.epoch)
    }

    /// Returns the parameters of the best epoch, if there is one and they are to be restored.
    pub(crate) fn best_parameters(&self) -> Option<&[f32]> {
        (self.options.restore_best && self.best.is_some()).then_some(&self.parameters)
    }

    /// Returns the same, for writing.
    #[cfg(feature = "safetensors")]
    pub(crate) fn best_parameters_mut(&mut self) -> Option<&mut [f32]> {
        (self.options.restore_best && self.best.is_some()).then_some(&mut self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::Progress::{Improved, NotImproved, Stop};
    use super::*;

    /// Observes epochs with these values of the metric; the other metrics have the opposite sign.
    fn observe_all(options: EarlyStopping, values: &[f32]) -> Vec<Progress> {
        let mut stopper = EarlyStopper::new(options, 0);
        let end = |(epoch, &value): (usize, &f32)| {
            let mut end = EpochEnd {
                epoch,
                loss: -value,
                accuracy: -value,
                learning_rate: 0.0,
                validation: Some(Metrics { loss: -value, accuracy: -value }),
            };
            match (options.monitor, &mut end.validation) {
                (Monitor::Loss, _) => (end.loss, end.accuracy) = (value, value),
                (Monitor::Accuracy, _) => (end.accuracy, end.loss) = (value, value),
                (Monitor::ValidationLoss, Some(metrics)) => (metrics.loss, metrics.accuracy) = (value, value),
                (Monitor::ValidationAccuracy, Some(metrics)) => (metrics.accuracy, metrics.loss) = (value, value),
                _ => unreachable!(),
            }
            stopper.observe(&end)
        };
        values.iter().enumerate().map(end).collect()
    }

    const LOWER: [Monitor; 2] = [Monitor::Loss, Monitor::ValidationLoss];
    const HIGHER: [Monitor; 2] = [Monitor::Accuracy, Monitor::ValidationAccuracy];

    /// Asserts the outcomes for metrics of which higher is better, and for metrics of which lower is better.
    #[track_caller]
    fn assert_outcomes(options: impl Fn(EarlyStopping) -> EarlyStopping, values: &[f32], expected: &[Progress]) {
        let negative: Vec<f32> = values.iter().map(|value| -value).collect();
        for (monitors, values) in [(HIGHER, values), (LOWER, &negative)] {
            for monitor in monitors {
                assert_eq!(observe_all(options(EarlyStopping::new(monitor)), values), expected, "{monitor:?}");
            }
        }
    }

    #[test]
    fn no_patience_stops_at_the_first_epoch_without_improvement() {
        for patience in [0, 1] {
            let options = |stopping: EarlyStopping| stopping.patience(patience);
            assert_outcomes(options, &[1.0, 2.0, 2.0], &[Improved, Improved, Stop]);
            assert_outcomes(options, &[1.0, 0.5], &[Improved, Stop]);
        }
        assert_outcomes(|stopping| stopping, &[1.0, 0.5], &[Improved, Stop]);
    }

    #[test]
    fn patience_counts_epochs_in_a_row() {
        let values = [1.0, 0.5, 0.9, 2.0, 1.0, 2.0, 1.9];
        let expected = [Improved, NotImproved, NotImproved, Improved, NotImproved, NotImproved, Stop];
        assert_outcomes(|stopping| stopping.patience(3), &values, &expected);
    }

    #[test]
    fn less_than_min_delta_is_no_improvement() {
        let values = [1.0, 1.5, 1.25, 1.75, 2.0];
        let expected = [Improved, NotImproved, NotImproved, Improved, NotImproved];
        assert_outcomes(|stopping| stopping.patience(9).min_delta(0.5), &values, &expected);
        // Small steps add up, since the best value counts and not the previous one.
        let values = [1.0, 1.4, 1.6, 1.9, 2.2];
        let expected = [Improved, NotImproved, Improved, NotImproved, Improved];
        assert_outcomes(|stopping| stopping.patience(9).min_delta(0.5), &values, &expected);
    }

    #[test]
    fn epochs_before_the_start_do_not_count() {
        let values = [9.0, 8.0, 1.0, 0.5, 0.4];
        let expected = [NotImproved, NotImproved, Improved, NotImproved, Stop];
        assert_outcomes(|stopping| stopping.start_from_epoch(2).patience(2), &values, &expected);
    }

    #[test]
    fn nan_is_never_an_improvement() {
        let nan = f32::NAN;
        let stopping = |stopping: EarlyStopping| stopping.patience(2);
        assert_outcomes(stopping, &[nan, 1.0, nan, nan], &[NotImproved, Improved, NotImproved, Stop]);
        assert_outcomes(stopping, &[nan, nan], &[NotImproved, Stop]);
        assert_outcomes(|stopping| stopping, &[nan, nan], &[NotImproved, Stop]);
        assert_outcomes(stopping, &[f32::NEG_INFINITY, 1.0], &[Improved, Improved]);
    }

    #[test]
    fn the_best_is_saved_if_it_is_to_be_restored() {
        let end = EpochEnd { epoch: 4, loss: 1.0, accuracy: 0.5, learning_rate: 0.0, validation: None };
        for wanted in [true, false] {
            let mut stopper = EarlyStopper::new(EarlyStopping::new(Monitor::Loss).restore_best(wanted), 2);
            assert_eq!((stopper.best_epoch(), stopper.best_parameters()), (None, None));
            assert_eq!(stopper.observe(&end), Improved);
            stopper.save_best(&[3.0, 4.0]);
            assert_eq!((stopper.best_epoch(), stopper.best_parameters()), (Some(4), wanted.then_some(&[3.0, 4.0][..])));
        }
    }
}
