//! The fingerprint of a training run: what a checkpoint and a run that resumes from it must have in common.

use std::path::Path;

use crate::error::{Error, Result};
use crate::nn::layers::Layer;
use crate::nn::model::Sequential;
use crate::nn::optimizers::optimizer::Optimizer;
use crate::nn::train::early_stopping::EarlyStopping;

/// The options of `fit` that decide its result, beside the model and the data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FitConfig {
    pub(crate) epochs: usize,
    pub(crate) samples: usize,
    pub(crate) has_sample_weights: bool,
    /// None without validation.
    pub(crate) validation_samples: Option<usize>,
    pub(crate) batch_size: usize,
    /// The seed of the order of the samples, if they are shuffled.
    pub(crate) shuffle: Option<u64>,
    pub(crate) early_stopping: Option<EarlyStopping>,
}

/// Lines of a name and a text each.
///
/// Texts are compared, never parsed; floats are written so that no two of them have the same text.
pub(crate) struct Fingerprint(Vec<(&'static str, String)>);

impl Fingerprint {
    /// Takes all but the number of epochs, which a resumed run may raise.
    pub(crate) fn new(model: &Sequential, config: &FitConfig) -> Self {
        let mut lines = vec![("checkpoint", "densely 1".to_owned()), ("layers", layers(model))];
        if model.layers.iter().any(|(_, layer, _)| matches!(layer, Layer::Dropout(_))) {
            lines.push(("seed", model.seed.to_string())); // of the dropout masks
        }
        if let Some(state) = &model.state {
            lines.extend(optimizer(&state.optimizer));
        }
        let shuffle = config.shuffle.map(|seed| format!("seed {seed}"));
        let early_stopping = config.early_stopping.map(|options| format!("{options:?}"));
        lines.extend([
            ("samples", config.samples.to_string()),
            ("sample weights", if config.has_sample_weights { "yes" } else { "no" }.to_owned()),
            ("validation samples", config.validation_samples.unwrap_or(0).to_string()),
            ("batch_size", config.batch_size.min(config.samples).to_string()),
            ("shuffle", or_no(shuffle)),
            ("early_stopping", or_no(early_stopping)),
        ]);
        Self(lines)
    }

    /// Formats the lines for a checkpoint.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, text)| format!("{name}: {text}\n")).collect()
    }

    /// Compares the lines with those of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Format`] with the first line that differs.
    pub(crate) fn check(&self, path: &Path, found: &[u8]) -> Result<()> {
        let expected = self.text();
        // A line or two beyond the expected length are enough to tell the difference.
        let found = String::from_utf8_lossy(&found[..found.len().min(expected.len() + 1000)]);
        let (mut expected, mut found) = (expected.lines(), found.lines());
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return Ok(()),
                (expected, found) if expected == found => {}
                (expected, found) => {
                    let [expected, found] = [expected, found].map(|line| line.unwrap_or("nothing"));
                    return Err(Error::format(path, format_args!("a checkpoint with {expected}"), found));
                }
            }
        }
    }
}

fn or_no(text: Option<String>) -> String {
    text.unwrap_or_else(|| "no".to_owned())
}

fn layers(model: &Sequential) -> String {
    let layer = |layer: &Layer| match layer {
        Layer::Flatten(_) => "Flatten".to_owned(),
        Layer::Dropout(dropout) => format!("Dropout {:?}", dropout.rate()),
        Layer::Dense(dense) => {
            let bias = if dense.use_bias { "" } else { " without bias" };
            format!("Dense {} {:?}{bias}", dense.units, dense.activation)
        }
    };
    let layers: Vec<String> = model.layers.iter().map(|(_, kind, _)| layer(kind)).collect();
    format!("{} {}", model.input, layers.join(", "))
}

/// Describes all but the learning rate, which a callback may change: a resumed run has the checkpoint's.
fn optimizer(Optimizer { rule, weight_decay, l2, clip, schedule }: &Optimizer) -> Vec<(&'static str, String)> {
    let mut lines = rule.get().describe();
    lines.extend([
        ("weight_decay", format!("{weight_decay:?}")),
        ("l2", format!("{l2:?}")),
        ("clip", or_no(clip.map(|clip| format!("{clip:?}")))),
        ("schedule", format!("{schedule:?}")),
    ]);
    lines
}
