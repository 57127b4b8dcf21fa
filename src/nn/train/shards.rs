//! `Shard`: a block of a node's parameters, which one thread updates.

use std::iter;
use std::ops::Range;

use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::optimizer::Parameters;
use crate::nn::buffer::Buffer;
use crate::nn::layers::interface::{GradientInputs, NodeKind, ParameterBlock};
use crate::nn::optimizers::state::Update;
use crate::tuning::train::{GRADIENT_BLOCK, GRADIENT_BLOCK_ROWS, LARGE_GRADIENT_BLOCK, MIN_GRADIENT_ROWS};

/// A block of a node's parameters, and memory for some of their gradients.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) node: usize,
    pub(crate) block: ParameterBlock,
    gradients: Buffer,
}

impl Shard {
    pub(crate) fn new(node: usize, block: ParameterBlock) -> Self {
        let width = block.width();
        let rows =
            (GRADIENT_BLOCK / width).max(GRADIENT_BLOCK_ROWS.min(LARGE_GRADIENT_BLOCK / width)).max(MIN_GRADIENT_ROWS);
        let gradients = Buffer::new(rows.min(block.height()) * width);
        Self { node, block, gradients }
    }

    /// Takes the optimizer's step on the block's parameters by their gradients.
    ///
    /// As many rows as the fused update supports are updated while their gradients are in registers; of the
    /// others, the gradients of a few rows are computed into the L1 cache, then the step is taken on these.
    pub(crate) fn update(
        &mut self,
        backend: &Backend,
        node: &dyn NodeKind,
        inputs: GradientInputs<'_>,
        mut parameters: Parameters<'_>,
        update: Update,
    ) -> Result<()> {
        let Self { block, gradients, .. } = self;
        let (height, width) = (block.height(), block.width());
        let factors = node.kernel_gradient_factors(block, inputs);
        let is_fused =
            factors.is_some_and(|GradientInputs { x, dy }| update.run_fused(backend, x, dy, parameters.reborrow()));
        let done = if is_fused { block.rows.len() } else { 0 };
        parameters.take(done * width);
        // Blocks of about equal height.
        let left = height - done;
        let count = left.div_ceil(gradients.len() / width);
        let end = |number: usize| done + left * number / count;
        for number in 0..count {
            let (first, end) = (end(number), end(number + 1));
            let kernel_end = end.min(block.rows.len());
            let rows = block.rows.start + first..block.rows.start + kernel_end;
            let has_bias = end > block.rows.len();
            let some = ParameterBlock { rows, cols: block.cols.clone(), has_bias };
            let dw = &mut gradients[..some.len()];
            node.gradients(backend, &some, inputs, dw)?;
            let kernel = 0..some.rows.len() * width;
            update.run(backend, iter::once(kernel), dw, parameters.take(dw.len()));
        }
        Ok(())
    }
}

/// Splits a length into parts as even as whole units allow.
pub(crate) fn even(len: usize, unit: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let end = move |part: usize| (len.div_ceil(unit) * part / parts * unit).min(len);
    (0..parts).map(move |part| end(part)..end(part + 1))
}
