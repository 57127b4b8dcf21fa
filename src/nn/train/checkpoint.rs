//! Checkpoints: everything from which training resumes, in a safetensors file.
//!
//! | tensor | type | content |
//! |---|---|---|
//! | `checkpoint` | U8 | lines of text, see [`Fingerprint`] |
//! | `parameters` | F32 | after the last epoch, in the order of [`Sequential::parameters`] |
//! | `first`, `second` | F32 | the optimizer's slots of state, empty if the rule does not keep them |
//! | `powers` | F64 | of the rule's decay rates, such as Adam's betas |
//! | `learning_rate` | F64 | before the schedule |
//! | `steps` | U64 | of the optimizer so far |
//! | `best` | F32 | the parameters of the best epoch, or empty |
//! | `history.*` | F32, F64 | the metrics of each epoch |
//!
//! The state of early stopping, but for the best parameters, follows from the history.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::nn::io::tensor_file::{self, Dtype, Tensor, Tensors};
use crate::nn::metrics::Metrics;
use crate::nn::optimizers::optimizer::check_learning_rate;
use crate::nn::sequential::Sequential;
use crate::nn::train::early_stopping::{EarlyStopper, Progress};
use crate::nn::train::fingerprint::{Fingerprint, FitConfig};
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
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// The file to write.
    pub(crate) path: Option<PathBuf>,
    /// Epochs from one checkpoint to the next.
    pub(crate) every: usize,
    /// The file to resume from.
    pub(crate) resume: Option<PathBuf>,
}

impl Checkpoints {
    /// Resumes from a checkpoint, if there is one to resume from; returns whether early stopping has ended
    /// that training.
    ///
    /// # Errors
    /// As [`read`].
    pub(crate) fn resume(
        &self,
        config: &FitConfig,
        model: &mut Sequential,
        history: &mut History,
        stopper: Option<&mut EarlyStopper>,
    ) -> Result<bool> {
        let Some(path) = &self.resume else { return Ok(false) };
        let Resumed { epochs, has_stopped } = read(path, config, model, stopper)?;
        history.epochs = epochs;
        Ok(has_stopped)
    }

    /// Writes a checkpoint after the last epoch of `history`, if one is due: every n epochs, and at the end.
    ///
    /// # Errors
    /// [`Error::File`] if it can't be written.
    pub(crate) fn write_if_due(
        &self,
        config: &FitConfig,
        model: &Sequential,
        history: &History,
        stopper: Option<&EarlyStopper>,
        ended: Option<Ended>,
    ) -> Result<()> {
        let epochs = history.epochs.len();
        match &self.path {
            Some(path) if epochs.is_multiple_of(self.every) || epochs == config.epochs || ended.is_some() => {
                write(path, config, model, &history.epochs, stopper.and_then(EarlyStopper::best_parameters))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a checkpoint after the last of these epochs; `best` are the parameters of the best one.
fn write(path: &Path, config: &FitConfig, model: &Sequential, epochs: &[EpochEnd], best: Option<&[f32]>) -> Result<()> {
    let state = model.state.as_ref().ok_or(Error::NotCompiled)?;
    let validation = |metric: fn(Metrics) -> f32| {
        let metrics: Vec<f32> = epochs.iter().filter_map(|end| end.validation.map(metric)).collect();
        f32_tensor(&metrics)
    };
    let training = |metric: fn(&EpochEnd) -> f32| f32_tensor(&epochs.iter().map(metric).collect::<Vec<_>>());
    let learning_rates: Vec<f64> = epochs.iter().map(|end| end.learning_rate).collect();
    let text = Fingerprint::new(model, config).text().into_bytes();
    let [first, second] = &state.slots;
    let values = [
        (Dtype::U8, text.len(), text),
        f32_tensor(&model.parameters),
        f32_tensor(first),
        f32_tensor(second),
        f64_tensor(&state.powers),
        f64_tensor(&[state.learning_rate]),
        (Dtype::U64, 1, state.steps.to_le_bytes().to_vec()),
        f32_tensor(best.unwrap_or_default()),
        training(|end| end.loss),
        training(|end| end.accuracy),
        f64_tensor(&learning_rates),
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

fn f32_tensor(values: &[f32]) -> (Dtype, usize, Vec<u8>) {
    (Dtype::F32, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn f64_tensor(values: &[f64]) -> (Dtype, usize, Vec<u8>) {
    (Dtype::F64, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// The progress of a training run that has been read from a checkpoint.
struct Resumed {
    epochs: Vec<EpochEnd>,
    /// Whether early stopping has ended the run.
    has_stopped: bool,
}

/// Restores a compiled model and its early stopping to the state that a checkpoint holds.
///
/// # Errors
/// [`Error::File`] if it can't be read, [`Error::Format`] if it is no checkpoint, one of another run or of
/// more epochs than this one's. The model is unchanged then.
fn read(
    path: &Path,
    config: &FitConfig,
    model: &mut Sequential,
    mut stopper: Option<&mut EarlyStopper>,
) -> Result<Resumed> {
    let fingerprint = Fingerprint::new(model, config);
    let Sequential { parameters, state, .. } = model;
    let state = state.as_mut().ok_or(Error::NotCompiled)?;
    let bytes = tensor_file::read(path)?;
    let file = Tensors::new(path, &bytes, &NAMES)?;
    fingerprint.check(path, file.get("checkpoint", Dtype::U8, &[file.len("checkpoint")])?)?;

    let count = file.len("history.loss");
    if count > config.epochs {
        let expected = format_args!("a checkpoint of at most {} epochs", config.epochs);
        return Err(Error::format(path, expected, format_args!("one of {count}")));
    }
    let epochs = epochs(&file, count, config.validation_samples.is_some())?;
    let mut has_stopped = false;
    if let Some(stopper) = &mut stopper {
        epochs.clone().for_each(|end| has_stopped = stopper.observe(&end) == Progress::Stop);
    }
    let best = stopper.and_then(EarlyStopper::best_parameters_mut).unwrap_or_default();

    let [first, second] = &mut state.slots;
    let destinations = [("parameters", parameters), ("first", first), ("second", second)]
        .map(|(name, values)| (name, &mut values[..]))
        .into_iter()
        .chain([("best", best)]);
    let tensors = destinations.map(|(name, values)| Ok((file.f32_values(name, &[values.len()])?, values)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let learning_rate = learning_rate(path, &file)?;
    let powers = powers(path, &file)?;
    let (steps, _) = file.get("steps", Dtype::U64, &[1])?.as_chunks();

    // Nothing is written before every tensor has been checked.
    for (found, values) in tensors {
        values.iter_mut().zip(found).for_each(|(value, found)| *value = found);
    }
    (state.learning_rate, state.powers, state.steps) = (learning_rate, powers, u64::from_le_bytes(steps[0]));
    Ok(Resumed { epochs: epochs.collect(), has_stopped })
}

fn learning_rate(path: &Path, file: &Tensors<'_>) -> Result<f64> {
    let rate = file.f64_values("learning_rate", 1)?.sum();
    check_learning_rate(rate)
        .map_err(|_| Error::format(path, "a learning rate that is finite as f32, at least 0", rate))?;
    Ok(rate)
}

fn powers(path: &Path, file: &Tensors<'_>) -> Result<[f64; 2]> {
    let mut powers = [1.0; 2];
    for (power, found) in powers.iter_mut().zip(file.f64_values("powers", 2)?) {
        if !(0.0..=1.0).contains(&found) {
            return Err(Error::format(path, "`powers` of betas, 0 to 1", found));
        }
        *power = found;
    }
    Ok(powers)
}

/// Reads the metrics of `count` epochs.
fn epochs<'a>(
    file: &Tensors<'a>,
    count: usize,
    validation: bool,
) -> Result<impl Iterator<Item = EpochEnd> + Clone + use<'a>> {
    let metrics = |loss, accuracy, len| {
        let pairs = file.f32_values(loss, &[len])?.zip(file.f32_values(accuracy, &[len])?);
        Ok::<_, Error>(pairs.map(|(loss, accuracy)| Metrics { loss, accuracy }))
    };
    let trained = metrics("history.loss", "history.accuracy", count)?;
    let validated = if validation { count } else { 0 };
    let validated = metrics("history.validation_loss", "history.validation_accuracy", validated)?;
    let validated = validated.map(Some).chain(std::iter::repeat(None));
    let learning_rates = file.f64_values("history.learning_rate", count)?;
    let ends = trained.zip(learning_rates).zip(validated).enumerate();
    Ok(ends.map(|(epoch, ((Metrics { loss, accuracy }, learning_rate), validation))| EpochEnd {
        epoch,
        loss,
        accuracy,
        learning_rate,
        validation,
    }))
}
