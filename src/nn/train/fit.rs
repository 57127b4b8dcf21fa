//! `fit`: its options and their checks. [`FitLoop`] does the epochs.

use std::fmt;
#[cfg(feature = "safetensors")]
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::matrix::MatRef;
use crate::nn::sequential::Sequential;
use crate::nn::train::batches::{Batch, Shuffle};
#[cfg(feature = "safetensors")]
use crate::nn::train::checkpoint::Checkpoints;
use crate::nn::train::early_stopping::EarlyStopping;
use crate::nn::train::fit_loop::FitLoop;
use crate::nn::train::history::{Callback, History};
use crate::nn::train::sample_weights::weights;
use crate::nn::train::training::Training;
use crate::targets::Labels;

/// How to [`fit`](Sequential::fit): 1 epoch, batches of 32, shuffled with seed 0, no validation.
#[derive(Default)]
#[must_use]
pub struct Fit<'a> {
    epochs: Option<usize>,
    batch_size: Option<usize>,
    shuffle: Shuffle,
    validation: Validation<'a>,
    class_weights: Option<&'a [f32]>,
    sample_weights: Option<&'a [f32]>,
    callback: Option<&'a mut dyn Callback>,
    stop: Option<&'a AtomicBool>,
    early_stopping: Option<EarlyStopping>,
    #[cfg(feature = "safetensors")]
    checkpoints: Checkpoints,
}

#[derive(Clone, Copy, Debug, Default)]
enum Validation<'a> {
    #[default]
    None,
    Data(MatRef<'a>, Labels<'a>),
    Split(f64),
}

impl fmt::Debug for Fit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fit")
            .field("epochs", &self.epochs)
            .field("batch_size", &self.batch_size)
            .field("shuffle", &self.shuffle)
            .field("validation", &self.validation)
            .finish_non_exhaustive()
    }
}

impl<'a> Fit<'a> {
    /// Sets the number of epochs, passes over all samples; 1 unless set.
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs: Some(epochs), ..self }
    }

    /// Sets the samples a step, at least 1, and 32 unless set; the last batch of an epoch may be smaller.
    pub fn batch_size(self, batch_size: usize) -> Self {
        Self { batch_size: Some(batch_size), ..self }
    }

    /// Shuffles the samples before each epoch, with seed 0 unless set; the order follows from seed and epoch.
    /// A second `fit` begins at epoch 0 again, and so needs another seed for another order.
    pub fn shuffle(self, seed: u64) -> Self {
        Self { shuffle: Shuffle::Seed(seed), ..self }
    }

    /// Takes the samples in their order.
    pub fn no_shuffle(self) -> Self {
        Self { shuffle: Shuffle::No, ..self }
    }

    /// Evaluates these samples after each epoch. Replaces [`validation_split`](Self::validation_split).
    pub fn validation_data(self, x: MatRef<'a>, labels: impl Into<Labels<'a>>) -> Self {
        Self { validation: Validation::Data(x, labels.into()), ..self }
    }

    /// Keeps the last part of the samples from training and evaluates it after each epoch.
    /// `part` is above 0 and below 1. Replaces [`validation_data`](Self::validation_data).
    pub fn validation_split(self, part: f64) -> Self {
        Self { validation: Validation::Split(part), ..self }
    }

    /// Multiplies each sample's loss by the weight of its class; each class has one, finite and at least 0.
    /// See [`sample_weights`](Self::sample_weights).
    pub fn class_weights(self, weights: &'a [f32]) -> Self {
        Self { class_weights: Some(weights), ..self }
    }

    /// Multiplies each sample's loss by its weight, and by its [class's](Self::class_weights), if both are
    /// given; each sample has one, finite and at least 0.
    ///
    /// As with Keras, a batch's loss is the sum of these products, divided by the number of samples, whatever
    /// their weights; so are the losses that are reported. (The mean of
    /// [`CrossEntropy`](crate::loss::CrossEntropy) is divided by its class weights.) Accuracy and validation
    /// are without weights. A [split](Self::validation_split) takes samples with their weights.
    ///
    /// In the numeric contract, the product of a sample's two weights is rounded to `f32`, and multiplies the
    /// sample's loss and its gradient with respect to the logits, after that has been divided by the number
    /// of samples: [`reference::weigh`](crate::reference::weigh).
    pub fn sample_weights(self, weights: &'a [f32]) -> Self {
        Self { sample_weights: Some(weights), ..self }
    }

    /// Calls this callback after each batch and epoch; it replaces any before.
    pub fn callback(self, callback: &'a mut dyn Callback) -> Self {
        Self { callback: Some(callback), ..self }
    }

    /// Ends the training once this flag is set, by a signal's handler or another thread: the parameters so
    /// far stay, and [`History::ended`] has the reason. The flag is read after each batch; after an epoch's
    /// last one once the epoch is complete, with its validation.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use densely::MatRef;
    /// use densely::nn::{Activation, Dense, Ended, Fit, Sequential, Sgd};
    ///
    /// static STOP: AtomicBool = AtomicBool::new(false);
    /// let mut model = Sequential::builder(1).layer(Dense::new(2, Activation::Softmax)).build()?;
    /// model.compile(Sgd::default())?;
    /// std::thread::spawn(|| STOP.store(true, Ordering::Relaxed));
    /// let x = MatRef::new(&[0.0, 1.0], 2, 1)?;
    /// let history = model.fit(x, &[0u8, 1], Fit::default().epochs(1_000_000_000).stop(&STOP))?;
    /// assert_eq!(history.ended(), Ended::Stopped);
    /// # Ok::<(), densely::Error>(())
    /// ```
    pub fn stop(self, flag: &'a AtomicBool) -> Self {
        Self { stop: Some(flag), ..self }
    }

    /// Ends the training when a metric no longer gets better.
    pub fn early_stopping(self, early_stopping: EarlyStopping) -> Self {
        Self { early_stopping: Some(early_stopping), ..self }
    }

    /// Writes a checkpoint to this file after every `every` epochs, at least 1, after the last, and after one
    /// at whose end training is ended otherwise; each replaces the one before it as a whole. A training that
    /// is ended within an epoch leaves the last one that was written.
    ///
    /// It holds all that [`resume`](Self::resume) goes on from, the data aside. If it can't be written, `fit`
    /// ends with that error; the parameters are the last epoch's, or the best epoch's.
    #[cfg(feature = "safetensors")]
    #[cfg_attr(docsrs, doc(cfg(feature = "safetensors")))]
    pub fn checkpoint(mut self, path: impl Into<PathBuf>, every: usize) -> Self {
        (self.checkpoints.path, self.checkpoints.every) = (Some(path.into()), every);
        self
    }

    /// Goes on from a [`checkpoint`](Self::checkpoint), to as many [`epochs`](Self::epochs) in all, and ends
    /// with the same parameters, optimizer and [`History`], bit for bit, as if it had never been interrupted.
    ///
    /// The model must have the same layers, with dropout the same seed, and the same optimizer, and batch
    /// size, shuffling, early stopping and the samples, for training and validation, with their weights, must
    /// be the same too: all this is compared, of the samples only how many there are, of weights only whether
    /// there are any. Parameters, the optimizer's state and its learning rate, which a callback may have
    /// changed, are the checkpoint's; threads and instruction set may differ, and there may be more epochs.
    ///
    /// ```
    /// use densely::MatRef;
    /// use densely::nn::{Activation, Adam, Dense, Fit, Sequential};
    /// # let file = std::env::temp_dir().join(format!("densely-doctest-{}.safetensors", std::process::id()));
    /// let model = || -> densely::Result<Sequential> {
    ///     let mut model = Sequential::builder(1).layer(Dense::new(2, Activation::Softmax)).build()?;
    ///     model.compile(Adam::default())?;
    ///     Ok(model)
    /// };
    /// let (x, labels) = (MatRef::new(&[0.0, 1.0], 2, 1)?, [0u8, 1]);
    /// let (mut resumed, mut whole) = (model()?, model()?);
    /// model()?.fit(x, &labels, Fit::default().epochs(3).checkpoint(&file, 1))?;
    /// let history = resumed.fit(x, &labels, Fit::default().epochs(5).resume(&file))?;
    /// assert_eq!(history, whole.fit(x, &labels, Fit::default().epochs(5))?);
    /// assert_eq!(resumed.parameters(), whole.parameters());
    /// # std::fs::remove_file(&file).expect("it was written");
    /// # Ok::<(), densely::Error>(())
    /// ```
    #[cfg(feature = "safetensors")]
    #[cfg_attr(docsrs, doc(cfg(feature = "safetensors")))]
    pub fn resume(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoints.resume = Some(path.into());
        self
    }
}

impl Sequential {
    /// Trains on `x`, samples x [`inputs`](Self::inputs), and one label a sample.
    ///
    /// Called again, it goes on with the optimizer as it is, in the memory of the first call, which the model
    /// keeps: two batches with their values in the network, and up to another copy of the parameters and
    /// moments. A clone of the model has none of that. The callback is called on this thread, between the
    /// steps.
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Shape`] or [`Error::Label`] if samples and labels, for training or
    /// validation, or weights, do not fit the model or each other; [`Error::Value`] if there are none, a
    /// weight, or that of a sample times that of its class, is negative or not finite, epochs are 2^32 or
    /// more, the batch size or a checkpoint's number of epochs is 0, the split leaves no sample on one side,
    /// early stopping has a negative `min_delta` or wants a validation that there is not, or the last
    /// activation is neither softmax nor linear. The model is unchanged then. [`Error::Value`] if a callback
    /// gives a learning rate that is out of range; the parameters are those so far, or the best epoch's, if
    /// early stopping restores that, as for any error during training. With checkpoints, [`Error::File`] if
    /// one can't be read, and [`Error::Format`] if what was read is none or does not fit: the model is
    /// unchanged then; [`Error::File`] if one can't be written: the parameters so far stay.
    pub fn fit<'a>(&mut self, x: MatRef<'_>, labels: impl Into<Labels<'a>>, options: Fit<'_>) -> Result<History> {
        let labels = labels.into();
        if self.state.is_none() {
            return Err(Error::NotCompiled);
        }
        let (epochs, batch_size) = options.check_numbers()?;
        self.check_samples(x, labels)?;
        let Fit { class_weights, sample_weights, callback, stop, early_stopping, .. } = options;
        let weights = weights(labels, self.outputs(), class_weights, sample_weights)?;
        let (count, validation) = self.split_validation(x, labels, options.validation)?;
        let samples = Batch { x, labels, weights: &weights }.split_at(count).0;
        early_stopping.map_or(Ok(()), |stopping| stopping.check(validation.is_some()))?;
        let shuffle = options.shuffle;
        let training = Training { samples, validation, epochs, batch_size, shuffle, early_stopping };
        // As short-lived as the samples.
        let callback = callback.map(|callback| callback as &mut dyn Callback);
        let fit_loop = FitLoop {
            training,
            callback,
            stop,
            #[cfg(feature = "safetensors")]
            checkpoints: options.checkpoints,
        };
        fit_loop.run(self)
    }

    /// Gives the number of samples to train on, and those to validate on.
    fn split_validation<'a>(
        &self,
        x: MatRef<'a>,
        labels: Labels<'a>,
        validation: Validation<'a>,
    ) -> Result<(usize, Option<(MatRef<'a>, Labels<'a>)>)> {
        match validation {
            Validation::None => Ok((x.rows(), None)),
            Validation::Data(x, labels) => {
                self.check_samples(x, labels).map_err(of_validation)?;
                Ok((usize::MAX, Some((x, labels))))
            }
            Validation::Split(part) => {
                let train = split_at(x.rows(), part)?;
                Ok((train, Some((x.split_at_row(train).1, labels.split_at(train).1))))
            }
        }
    }
}

impl Fit<'_> {
    /// Checks the numbers of epochs and samples, and gives epochs and batch size.
    fn check_numbers(&self) -> Result<(usize, usize)> {
        let (epochs, batch_size) = (self.epochs.unwrap_or(1), self.batch_size.unwrap_or(32));
        if batch_size == 0 {
            return Err(Error::value("batch_size", "at least 1", 0));
        }
        #[cfg(feature = "safetensors")]
        if self.checkpoints.path.is_some() && self.checkpoints.every == 0 {
            return Err(Error::value("every", "at least 1 epoch", 0));
        }
        if u32::try_from(epochs).is_err() {
            return Err(Error::value("epochs", "at most 2^32 - 1", epochs));
        }
        Ok((epochs, batch_size))
    }
}

/// Names the validation's arguments in an error about its samples.
fn of_validation(mut error: Error) -> Error {
    if let Error::Shape { argument, .. } | Error::Value { argument, .. } | Error::Label { argument, .. } = &mut error {
        *argument = if *argument == "labels" { "validation labels" } else { "validation x" };
    }
    error
}

/// How many samples stay for training, as Keras counts them.
fn split_at(samples: usize, part: f64) -> Result<usize> {
    let train = (samples as f64 * (1.0 - part)).floor();
    if train >= 1.0 && train < samples as f64 {
        Ok(train as usize)
    } else {
        let expected = format_args!("a part of {samples} samples that leaves some for training and for validation");
        Err(Error::value("validation_split", expected, part))
    }
}
