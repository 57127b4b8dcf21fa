//! What a checkpoint and the training that goes on from it must have in common.

use std::path::Path;

use crate::error::{Error, Result};
use crate::nn::layers::Layer;
use crate::nn::optimizers::{Optimizer, Rule};
use crate::nn::sequential::Sequential;
use crate::nn::train::batches::Shuffle;
use crate::nn::train::early_stopping::EarlyStopping;
use crate::nn::train::training::Training;

/// Lines of a name and a text each. Texts are compared, never read; floats are written so that no two have the same.
pub(crate) struct Identity(Vec<(&'static str, String)>);

impl Identity {
    pub(crate) fn new(training: &Training<'_>, model: &Sequential) -> Self {
        let mut lines = vec![("checkpoint", "densely 1".to_owned()), ("layers", layers(model))];
        if model.layers.iter().any(|named| matches!(named.layer, Layer::Dropout(_))) {
            lines.push(("seed", model.seed.to_string())); // of what is dropped
        }
        if let Some(state) = &model.state {
            lines.extend(optimizer(state.optimizer));
        }
        let shuffle = match training.shuffle {
            Shuffle::Seed(seed) => format!("seed {seed}"),
            Shuffle::No => "no".to_owned(),
        };
        let samples = training.samples.x.rows();
        let weights = if training.samples.weights.is_empty() { "no" } else { "yes" };
        let validation = training.validation.map_or(0, |(x, _)| x.rows());
        lines.extend([
            ("samples", samples.to_string()),
            ("sample weights", weights.to_owned()),
            ("validation samples", validation.to_string()),
            ("batch_size", training.batch_size.min(samples).to_string()),
            ("shuffle", shuffle),
            ("early_stopping", early_stopping(training.early_stopping)),
        ]);
        Self(lines)
    }

    /// What stands in a checkpoint.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, text)| format!("{name}: {text}\n")).collect()
    }

    /// Compares this with what a checkpoint holds.
    ///
    /// # Errors
    /// [`Error::Format`] with the first line that differs.
    pub(crate) fn check(&self, path: &Path, found: &[u8]) -> Result<()> {
        let expected = self.text();
        // Behind the end of what is expected, a line or two will do.
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

fn layers(model: &Sequential) -> String {
    let layers: Vec<String> = model.layers.iter().map(|named| named.layer.as_config().config()).collect();
    format!("{} {}", model.input, layers.join(", "))
}

/// All but the learning rate, which a callback may have changed: the checkpoint's holds.
fn optimizer(Optimizer { rule, weight_decay, l2, clip, schedule }: Optimizer) -> Vec<(&'static str, String)> {
    let mut lines = match rule {
        Rule::Sgd(sgd) => vec![
            ("optimizer", "SGD".to_owned()),
            ("momentum", format!("{:?}", sgd.momentum)),
            ("nesterov", sgd.nesterov.to_string()),
        ],
        Rule::Adam(adam) => vec![
            ("optimizer", "Adam".to_owned()),
            ("beta_1", format!("{:?}", adam.beta_1)),
            ("beta_2", format!("{:?}", adam.beta_2)),
            ("epsilon", format!("{:?}", adam.epsilon)),
        ],
    };
    lines.extend([
        ("weight_decay", format!("{weight_decay:?}")),
        ("l2", format!("{l2:?}")),
        ("clip", clip.map_or("no".to_owned(), |clip| format!("{clip:?}"))),
        ("schedule", format!("{schedule:?}")),
    ]);
    lines
}

fn early_stopping(options: Option<EarlyStopping>) -> String {
    options.map_or("no".to_owned(), |options| format!("{options:?}"))
}
