//! `Metrics`: a mean loss and an accuracy, and the sums that they are made of.

/// A mean loss and an accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Mean sparse categorical cross-entropy, in nats.
    pub loss: f32,
    /// Correct predictions divided by samples.
    pub accuracy: f32,
}

/// Sums over the samples so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MetricSums {
    pub loss: f64,
    pub correct: usize,
    pub samples: usize,
}

impl MetricSums {
    pub(crate) fn means(self) -> Metrics {
        let samples = self.samples as f64;
        Metrics { loss: (self.loss / samples) as f32, accuracy: (self.correct as f64 / samples) as f32 }
    }
}
