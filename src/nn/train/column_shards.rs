//! Pieces of layers, whose parameters one thread updates.

use std::ops::Range;

use crate::backend::Backend;
use crate::dense;
use crate::error::Result;
use crate::kernels::optimizer::{Parameters, VALUES};
use crate::matrix::{MatMut, MatRef};
use crate::nn::buffer::Buffer;
use crate::nn::optimizers::state::Update;
use crate::nn::train::pass::DensePlan;
use crate::tuning::train::{GRADIENT_BLOCK, GRADIENT_BLOCK_ROWS, LARGE_GRADIENT_BLOCK, MIN_GRADIENT_ROWS};

/// A part of a layer's parameters.
#[derive(Debug)]
pub(crate) struct Piece {
    layer: usize,
    part: Part,
    /// What only this piece has meanwhile.
    panel: Option<Panel>,
    /// Room for the gradients of a block.
    gradients: Buffer,
}

/// Some rows and columns of a kernel, and, if its last rows are among them, the bias behind those.
#[derive(Debug)]
struct Part {
    rows: Range<usize>,
    cols: Range<usize>,
    has_bias: bool,
}

/// Weights, the bias behind them, and the moments of both; row-major, without gaps.
#[derive(Debug, Default)]
struct Panel([Buffer; VALUES]);

impl Piece {
    /// All columns of some rows.
    pub(crate) fn new(number: usize, layer: &DensePlan, rows: Range<usize>) -> Self {
        let has_bias = layer.bias.is_some() && rows.end == layer.inputs;
        Self::of(number, Part { rows, cols: 0..layer.outputs, has_bias }, None)
    }

    /// All rows of some columns of the first layer, in a panel of their own.
    pub(crate) fn with_panel(layer: &DensePlan, cols: Range<usize>) -> Self {
        let part = Part { rows: 0..layer.inputs, cols, has_bias: layer.bias.is_some() };
        Self::of(0, part, Some(Panel::default()))
    }

    fn of(layer: usize, part: Part, panel: Option<Panel>) -> Self {
        let width = part.cols.len();
        let rows =
            (GRADIENT_BLOCK / width).max(GRADIENT_BLOCK_ROWS.min(LARGE_GRADIENT_BLOCK / width)).max(MIN_GRADIENT_ROWS);
        let block = rows.min(part.height());
        Self { layer, gradients: Buffer::new(block * width), part, panel }
    }

    pub(crate) fn layer(&self) -> usize {
        self.layer
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.panel.is_some()
    }

    /// How many columns it has.
    pub(crate) fn width(&self) -> usize {
        self.part.cols.len()
    }

    /// How many parameters it has.
    pub(crate) fn len(&self) -> usize {
        self.part.height() * self.width()
    }

    /// Copies its columns out of its layer's parameters and moments, if it is an owner.
    pub(crate) fn take(&mut self, layer: &DensePlan, from: Parameters<'_>) {
        let (len, cols) = (self.len(), self.part.cols.clone());
        let Some(Panel(panel)) = &mut self.panel else { return };
        for (panel, from) in panel.iter_mut().zip(from.into_slices()) {
            panel.resize(if from.is_empty() { 0 } else { len });
            let rows = from.chunks_exact(layer.outputs).zip(panel.chunks_exact_mut(cols.len()));
            rows.for_each(|(from, row)| row.copy_from_slice(&from[cols.clone()]));
        }
    }

    /// Copies them back.
    pub(crate) fn give(&self, layer: &DensePlan, to: Parameters<'_>) {
        let Some(Panel(panel)) = &self.panel else { return };
        for (panel, to) in panel.iter().zip(to.into_slices()) {
            let rows = to.chunks_exact_mut(layer.outputs).zip(panel.chunks_exact(self.width()));
            rows.for_each(|(to, row)| to[self.part.cols.clone()].copy_from_slice(row));
        }
    }

    /// Takes samples through an owner's columns of the first layer.
    pub(crate) fn forward(
        &self,
        backend: &Backend,
        layer: &DensePlan,
        x: MatRef<'_>,
        sums: Option<MatMut<'_>>,
        y: MatMut<'_>,
    ) -> Result<()> {
        let Some(Panel([w, ..])) = &self.panel else { return Ok(()) };
        let (kernel, bias) = w.split_at(layer.inputs * self.width());
        let kernel = MatRef::new(kernel, layer.inputs, self.width())?;
        layer.forward(backend, x, (kernel, self.part.has_bias.then_some(bias)), sums, y)
    }

    /// Writes the gradients by the piece's parameters; `x` is its layer's input, `dy` the gradients by what the layer's
    /// activation was applied to.
    pub(crate) fn gradients(&self, backend: &Backend, x: MatRef<'_>, dy: MatRef<'_>, to: &mut [f32]) -> Result<()> {
        self.part.gradients(backend, 0, x, dy, to)
    }

    /// Updates the piece's parameters, its own or those that are given, by their gradients.
    pub(crate) fn update(
        &mut self,
        backend: &Backend,
        x: MatRef<'_>,
        dy: MatRef<'_>,
        given: Parameters<'_>,
        update: Update,
    ) -> Result<()> {
        let Self { part, panel, gradients, .. } = self;
        let (height, width) = (part.height(), part.cols.len());
        let mut parameters = match panel {
            Some(Panel(panel)) => {
                let [weights, slots @ ..] = panel.each_mut().map(|buffer| &mut **buffer);
                Parameters { weights, slots }
            }
            None => given,
        };
        let fused = update.run_fused(backend, part.input(x), part.gradient(dy), parameters.reborrow());
        let done = if fused { part.rows.len() } else { 0 };
        parameters.take(done * width);
        // Blocks of about equal height.
        let left = height - done;
        let blocks = left.div_ceil(gradients.len() / width);
        let end = |block: usize| done + left * block / blocks;
        for first in 0..blocks {
            let (first, end) = (end(first), end(first + 1));
            let dw = &mut gradients[..(end - first) * width];
            part.gradients(backend, first, x, dy, dw)?;
            let kernel = (end.min(part.rows.len()) - first) * width;
            update.run(backend, std::iter::once(0..kernel), dw, parameters.take(dw.len()));
        }
        Ok(())
    }
}

impl Part {
    /// How many rows it has; the bias counts as one.
    fn height(&self) -> usize {
        self.rows.len() + usize::from(self.has_bias)
    }

    /// What of a layer's input belongs to its rows.
    fn input<'a>(&self, x: MatRef<'a>) -> MatRef<'a> {
        x.split_at_col(self.rows.start).1.split_at_col(self.rows.len()).0
    }

    /// What of the gradients by a layer's outputs belongs to its columns.
    fn gradient<'a>(&self, dy: MatRef<'a>) -> MatRef<'a> {
        dy.split_at_col(self.cols.start).1.split_at_col(self.cols.len()).0
    }

    /// The gradients by as many rows as fit, from the part's row `first` on.
    fn gradients(&self, backend: &Backend, first: usize, x: MatRef<'_>, dy: MatRef<'_>, to: &mut [f32]) -> Result<()> {
        let width = self.cols.len();
        let rows = (to.len() / width).min(self.rows.len() - first);
        let (dw, db) = to.split_at_mut(rows * width);
        let x = self.input(x).split_at_col(first).1.split_at_col(rows).0;
        let db = if db.is_empty() { None } else { Some(db) };
        dense::backward_params(backend, x, self.gradient(dy), MatMut::new(dw, rows, width)?, db)
    }
}

/// The first `count` elements, or as many as there are; the others stay.
pub(crate) fn cut_one<'a>(slice: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    slice.split_off_mut(..count.min(slice.len())).unwrap_or_default()
}
