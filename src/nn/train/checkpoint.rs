//! Checkpoints: all that a training goes on from, in a safetensors file.
//!
//! | tensor | | |
//! |---|---|---|
//! | `checkpoint` | U8 | lines of text, see [`Identity`] |
//! | `parameters` | F32 | after the last epoch, in the order of [`Sequential::parameters`] |
//! | `first`, `second` | F32 | what the optimizer remembers of each, or nothing |
//! | `powers` | F64 | of Adam's two betas |
//! | `learning_rate` | F64 | before the schedule |
//! | `steps` | U64 | since the optimizer began |
//! | `best` | F32 | the parameters of the best epoch, or nothing |
//! | `history.*` | F32, F64 | what each epoch came to |
//!
//! What early stopping knows besides the best parameters follows from the history.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::nn::io::tensor_file::{self, Dtype, Tensor, Tensors};
use crate::nn::model::{Metrics, Sequential};
use crate::nn::optimizers::Optimizer;
use crate::nn::train::early_stopping::{Verdict, Watch};
use crate::nn::train::fingerprint::Identity;
use crate::nn::train::fit_loop::Run;
use crate::nn::train::history::{Ended, EpochEnd, History};

const NAMES: [&str; 13] = [
    "checkpoint",
    "parameters",
    "first",
    "second",
    "powers",
    "learning_rate",
    "steps",
    "best",
    "history.loss",
    "history.accuracy",
    "history.learning_rate",
    "history.validation_loss",
    "history.validation_accuracy",
];

/// The checkpoints of a training.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// The file to write, and the number of epochs from one checkpoint to the next.
    pub(crate) write: Option<(PathBuf, usize)>,
    /// The file to resume from.
    pub(crate) resume: Option<PathBuf>,
}

impl Run<'_> {
    /// Resumes from a checkpoint, if there is one to resume from. Gives whether early stopping had ended that training.
    ///
    /// # Errors
    /// As [`read`].
    pub(crate) fn resume(
        &self,
        model: &mut Sequential,
        history: &mut History,
        watch: Option<&mut Watch>,
    ) -> Result<bool> {
        let Some(path) = &self.checkpoints.resume else { return Ok(false) };
        let identity = Identity::new(self, model);
        let has_stopped;
        (history.epochs, has_stopped) = read(path, &identity, model, (self.epochs, self.validation.is_some()), watch)?;
        Ok(has_stopped)
    }

    /// Writes a checkpoint after the last epoch of `history`, if one is due: every n epochs, and at the end.
    ///
    /// # Errors
    /// [`Error::File`] if it can't be written.
    pub(crate) fn write_checkpoint(
        &self,
        model: &Sequential,
        history: &History,
        watch: Option<&Watch>,
        ended: Option<Ended>,
    ) -> Result<()> {
        let epochs = history.epochs.len();
        match &self.checkpoints.write {
            Some((path, every)) if epochs.is_multiple_of(*every) || epochs == self.epochs || ended.is_some() => {
                let best = watch.and_then(Watch::best_parameters);
                write(path, &Identity::new(self, model), model, &history.epochs, best)
            }
            _ => Ok(()),
        }
    }
}

/// Writes a checkpoint behind the last of these epochs.
fn write(
    path: &Path,
    identity: &Identity,
    model: &Sequential,
    epochs: &[EpochEnd],
    best: Option<&[f32]>,
) -> Result<()> {
    let state = model.state.as_ref().ok_or(Error::NotCompiled)?;
    let validation = |metric: fn(Metrics) -> f32| {
        let metrics: Vec<f32> = epochs.iter().filter_map(|end| end.validation.map(metric)).collect();
        singles(&metrics)
    };
    let of_epochs = |metric: fn(&EpochEnd) -> f32| singles(&epochs.iter().map(metric).collect::<Vec<_>>());
    let rates: Vec<f64> = epochs.iter().map(|end| end.learning_rate).collect();
    let text = identity.text().into_bytes();
    let values = [
        (Dtype::U8, text.len(), text),
        singles(&model.parameters),
        singles(&state.first),
        singles(&state.second),
        doubles(&state.powers),
        doubles(&[state.optimizer.rate()]),
        (Dtype::U64, 1, state.steps.to_le_bytes().to_vec()),
        singles(best.unwrap_or_default()),
        of_epochs(|end| end.loss),
        of_epochs(|end| end.accuracy),
        doubles(&rates),
        validation(|metrics| metrics.loss),
        validation(|metrics| metrics.accuracy),
    ];
    let tensors = NAMES.into_iter().zip(values).map(|(name, (dtype, len, bytes))| Tensor {
        name: name.into(),
        dtype,
        shape: vec![len],
        bytes: Cow::Owned(bytes),
    });
    tensor_file::write(path, &tensors.collect::<Vec<_>>())
}

fn singles(values: &[f32]) -> (Dtype, usize, Vec<u8>) {
    (Dtype::F32, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn doubles(values: &[f64]) -> (Dtype, usize, Vec<u8>) {
    (Dtype::F64, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Brings a model, which is compiled, and its early stopping to where they were when this checkpoint was written, of no more
/// than so many epochs, with validation or not. Gives the epochs, and whether early stopping had ended the training.
///
/// # Errors
/// [`Error::File`] if it can't be read, [`Error::Format`] if it is none or does not fit; the model is as it was then.
fn read(
    path: &Path,
    identity: &Identity,
    model: &mut Sequential,
    (most_epochs, validation): (usize, bool),
    mut watch: Option<&mut Watch>,
) -> Result<(Vec<EpochEnd>, bool)> {
    let Sequential { parameters, state, .. } = model;
    let state = state.as_mut().ok_or(Error::NotCompiled)?;
    let bytes = tensor_file::read(path)?;
    let file = Tensors::new(path, &bytes, &NAMES)?;
    identity.check(path, file.get("checkpoint", Dtype::U8, &[file.len("checkpoint")])?)?;

    let count = file.len("history.loss");
    if count > most_epochs {
        let expected = format_args!("a checkpoint of at most {most_epochs} epochs");
        return Err(Error::format(path, expected, format_args!("one of {count}")));
    }
    let epochs = epochs(&file, count, validation)?;
    let mut has_stopped = false;
    if let Some(watch) = &mut watch {
        epochs.clone().for_each(|end| has_stopped = watch.judge(&end) == Verdict::Stop);
    }
    let best = watch.and_then(Watch::best_parameters_mut).unwrap_or_default();

    let places = [
        ("parameters", &mut parameters[..]),
        ("first", &mut state.first[..]),
        ("second", &mut state.second[..]),
        ("best", best),
    ];
    let found = places.map(|(name, values)| Ok((file.singles(name, &[values.len()])?, values)));
    let found = found.into_iter().collect::<Result<Vec<_>>>()?;
    let (optimizer, powers) = optimizer(path, &file, state.optimizer)?;
    let (steps, _) = file.get("steps", Dtype::U64, &[1])?.as_chunks();

    // Everything fits.
    for (found, values) in found {
        values.iter_mut().zip(found).for_each(|(value, found)| *value = found);
    }
    (state.optimizer, state.powers, state.steps) = (optimizer, powers, u64::from_le_bytes(steps[0]));
    Ok((epochs.collect(), has_stopped))
}

/// The optimizer with the checkpoint's learning rate, and the powers of its betas.
fn optimizer(path: &Path, file: &Tensors<'_>, optimizer: Optimizer) -> Result<(Optimizer, [f64; 2])> {
    let rate = file.doubles("learning_rate", 1)?.sum();
    let optimizer = optimizer.with_rate(rate);
    optimizer.check().map_err(|_| Error::format(path, "a learning rate that is finite as f32, at least 0", rate))?;
    let mut powers = [1.0; 2];
    for (power, found) in powers.iter_mut().zip(file.doubles("powers", 2)?) {
        if !(0.0..=1.0).contains(&found) {
            return Err(Error::format(path, "`powers` of betas, 0 to 1", found));
        }
        *power = found;
    }
    Ok((optimizer, powers))
}

fn epochs<'a>(
    file: &Tensors<'a>,
    count: usize,
    validation: bool,
) -> Result<impl Iterator<Item = EpochEnd> + Clone + use<'a>> {
    let metrics = |loss, accuracy, len| {
        let pairs = file.singles(loss, &[len])?.zip(file.singles(accuracy, &[len])?);
        Ok::<_, Error>(pairs.map(|(loss, accuracy)| Metrics { loss, accuracy }))
    };
    let trained = metrics("history.loss", "history.accuracy", count)?;
    let validated = if validation { count } else { 0 };
    let validated = metrics("history.validation_loss", "history.validation_accuracy", validated)?;
    let validated = validated.map(Some).chain(std::iter::repeat(None));
    let rates = file.doubles("history.learning_rate", count)?;
    let ends = trained.zip(rates).zip(validated).enumerate();
    Ok(ends.map(|(epoch, ((Metrics { loss, accuracy }, learning_rate), validation))| EpochEnd {
        epoch,
        loss,
        accuracy,
        learning_rate,
        validation,
    }))
}
