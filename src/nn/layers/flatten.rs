//! `Flatten`: makes one axis of a sample's axes; it computes nothing and so has no node.

use crate::nn::layers::interface::LayerConfig;
use crate::nn::shape::Shape;

/// Makes one row of each sample, whatever its shape; the last axis is the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten;

impl LayerConfig for Flatten {
    fn kind(&self) -> &'static str {
        "Flatten"
    }

    fn config(&self) -> String {
        "Flatten".to_owned()
    }

    fn output_shape(&self, input: &Shape) -> Shape {
        Shape::from(input.features().unwrap_or_default())
    }
}
