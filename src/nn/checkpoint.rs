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
use std::path::Path;

use super::early_stopping::{Verdict, Watch};
use super::file::{self, Dtype, Tensor, Tensors};
use super::history::EpochEnd;
use super::identity::Identity;
use super::model::{Metrics, Sequential};
use super::state::State;
use crate::error::{Error, Result};

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

/// Writes a checkpoint behind the last of these epochs.
pub(super) fn write(
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
    file::write(path, &tensors.collect::<Vec<_>>())
}

fn singles(values: &[f32]) -> (Dtype, usize, Vec<u8>) {
    (Dtype::F32, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn doubles(values: &[f64]) -> (Dtype, usize, Vec<u8>) {
    (Dtype::F64, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// What was read of a checkpoint, and fits.
pub(super) struct Checkpoint {
    pub(super) parameters: Vec<f32>,
    pub(super) state: State,
    pub(super) epochs: Vec<EpochEnd>,
    /// Whether early stopping had ended the training.
    pub(super) has_stopped: bool,
}

impl Checkpoint {
    /// Reads a checkpoint for this model, of no more than so many epochs, with validation or not; brings early stopping
    /// to where it was.
    ///
    /// # Errors
    /// [`Error::File`] if it can't be read, [`Error::Format`] if it is none or does not fit.
    pub(super) fn read(
        path: &Path,
        identity: &Identity,
        model: &Sequential,
        (most_epochs, validation): (usize, bool),
        watch: Option<&mut Watch>,
    ) -> Result<Self> {
        let bytes = file::read(path)?;
        let file = Tensors::new(path, &bytes, &NAMES)?;
        identity.check(path, file.get("checkpoint", Dtype::U8, &[file.len("checkpoint")])?)?;
        let parameters = file.singles("parameters", model.count_params())?;
        let state = read_state(path, &file, model.state.clone().ok_or(Error::NotCompiled)?)?;

        let count = file.len("history.loss");
        if count > most_epochs {
            let expected = format_args!("a checkpoint of at most {most_epochs} epochs");
            return Err(Error::format(path, expected, format_args!("one of {count}")));
        }
        let epochs = read_epochs(&file, count, validation)?;

        let mut has_stopped = false;
        let mut best = None;
        if let Some(watch) = watch {
            for end in &epochs {
                has_stopped = watch.judge(end) == Verdict::Stop;
            }
            best = watch.best_parameters_mut();
        }
        let expected = best.as_ref().map_or(0, |best| best.len());
        let found = file.singles("best", expected)?;
        if let Some(best) = best {
            best.copy_from_slice(&found);
        }
        Ok(Self { parameters, state, epochs, has_stopped })
    }
}

/// An optimizer as the checkpoint has it, from one that has not been at work but is the same.
fn read_state(path: &Path, file: &Tensors<'_>, mut state: State) -> Result<State> {
    state.first = file.singles("first", state.first.len())?;
    state.second = file.singles("second", state.second.len())?;
    state.powers.copy_from_slice(&file.doubles("powers", 2)?);
    let (steps, _) = file.get("steps", Dtype::U64, &[1])?.as_chunks();
    state.steps = u64::from_le_bytes(steps[0]);
    let rate = file.doubles("learning_rate", 1)?[0];
    state.optimizer = state.optimizer.with_rate(rate);
    match state.optimizer.check() {
        Ok(()) => Ok(state),
        Err(_) => Err(Error::format(path, "a learning rate that is finite as f32, at least 0", rate)),
    }
}

fn read_epochs(file: &Tensors<'_>, count: usize, validation: bool) -> Result<Vec<EpochEnd>> {
    let singles = |name, len| Ok(file.singles(name, len)?.into_iter());
    let mut losses = singles("history.loss", count)?;
    let mut accuracies = singles("history.accuracy", count)?;
    let rates = file.doubles("history.learning_rate", count)?;
    let validated = if validation { count } else { 0 };
    let validation_losses = singles("history.validation_loss", validated)?;
    let validation_accuracies = singles("history.validation_accuracy", validated)?;
    let mut metrics = validation_losses.zip(validation_accuracies).map(|(loss, accuracy)| Metrics { loss, accuracy });
    let end = |(epoch, learning_rate)| {
        let (loss, accuracy) = (losses.next()?, accuracies.next()?);
        Some(EpochEnd { epoch, loss, accuracy, learning_rate, validation: metrics.next() })
    };
    Ok(rates.into_iter().enumerate().map_while(end).collect())
}
