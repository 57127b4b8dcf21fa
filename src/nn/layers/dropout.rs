//! `Dropout`: drops values in training, at random, by a counter-based generator.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernels::Input;
use crate::kernels::dropout::{self, Mask, Philox};
use crate::matrix::MatMut;
use crate::nn::layers::interface::{
    BackwardSlots, ColumnCounts, DropoutKey, ForwardSlots, LayerConfig, NodeContext, NodeKind, Position,
};
use crate::nn::shape::Shape;
use crate::tuning::cost;

/// In training, drops each value with a probability, and multiplies the others by 1 / (1 - rate), so that
/// their mean stays; elsewhere it does nothing.
///
/// It may be anywhere before the last [`Dense`](crate::nn::Dense). What is dropped in a step follows from
/// the model's [`seed`](crate::nn::Builder::seed), the number of [steps](crate::nn::Sequential::iterations)
/// done before, which dropout it is, and the value's row and column in the batch:
/// [`reference::dropout`](crate::reference::dropout) has the formula.
///
/// Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// Drops this fraction of the values, at least 0 and below 1.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// The fraction of the values that is dropped.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub(crate) fn check(&self) -> Result<()> {
        if (0.0..1.0).contains(&self.rate) { Ok(()) } else { Err(Error::value("rate", "a number in 0..1", self.rate)) }
    }

    /// Random words below the threshold drop a value, the others are multiplied by the scale.
    pub(crate) fn threshold_and_scale(&self) -> (u32, f32) {
        ((self.rate * 2f64.powi(32)) as u32, (1.0 / (1.0 - self.rate)) as f32)
    }

    /// Checks the layer, and makes its node.
    ///
    /// # Errors
    /// [`Error::Value`] if the rate is out of range.
    pub(crate) fn plan(&self, at: &Position<'_>) -> Result<DropoutNode> {
        self.check()?;
        let numbered = Numbered { dropout: *self, number: at.number as u32 };
        Ok(DropoutNode { features: at.input.features().unwrap_or_default(), dropouts: vec![numbered] })
    }
}

impl LayerConfig for Dropout {
    fn kind(&self) -> &'static str {
        "Dropout"
    }

    fn config(&self) -> String {
        format!("Dropout {:?}", self.rate)
    }

    fn output_shape(&self, input: &Shape) -> Shape {
        input.clone()
    }
}

/// The node of one [`Dropout`], or of several that follow each other: these share a slot and have one order.
///
/// Its backward pass works in place, on the gradient of the node below, after that node's gate.
#[derive(Clone, Debug)]
pub(crate) struct DropoutNode {
    features: usize,
    dropouts: Vec<Numbered>,
}

/// A dropout, and which of the model's it is: part of the key of what it drops.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    dropout: Dropout,
    number: u32,
}

impl DropoutNode {
    /// Adds the dropouts of the node above, which has the same inputs.
    pub(crate) fn append(&mut self, mut above: Self) {
        self.dropouts.append(&mut above.dropouts);
    }

    /// Writes to `y` what the dropouts leave of `x`, in the same order in both passes.
    fn drop_values(&self, backend: &Backend, key: DropoutKey, mut x: Input<'_>, mut y: MatMut<'_>) {
        let DropoutKey { seed, step, row } = key;
        let cost = cost::dropout(y.rows().saturating_mul(y.cols()));
        for &Numbered { dropout, number } in &self.dropouts {
            let (threshold, scale) = dropout.threshold_and_scale();
            let (random, mask) = (Philox::new(seed, number, step), Mask { threshold, scale });
            let kernel = dropout::Dropout { random, first_row: row, mask, x, y: y.reborrow() };
            backend.run(cost, 1, kernel);
            x = Input::InPlace;
        }
    }
}

impl NodeKind for DropoutNode {
    fn outputs(&self) -> usize {
        self.features
    }

    fn columns(&self) -> ColumnCounts {
        ColumnCounts { saved: 0, output: self.features, gradient: 0 }
    }

    fn runs_in_inference(&self) -> bool {
        false
    }

    fn work(&self) -> usize {
        cost::FMAS_PER_NS * self.dropouts.len() * cost::dropout(self.features)
    }

    fn forward(&self, backend: &Backend, context: NodeContext<'_>, slots: ForwardSlots<'_>) -> Result<()> {
        self.drop_values(backend, context.dropout, Input::Matrix(slots.x), slots.y);
        Ok(())
    }

    fn backward(&self, backend: &Backend, context: NodeContext<'_>, slots: BackwardSlots<'_>) -> Result<()> {
        self.drop_values(backend, context.dropout, slots.dy, slots.dx);
        Ok(())
    }
}
