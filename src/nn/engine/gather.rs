//! The batches of an epoch; shuffled samples are gathered while the batch before them is under way.

use std::ops::Range;

use super::super::random::{Random, Stream};
use super::piece::cut_one;
use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::gather;
use crate::matrix::{MatMut, MatRef};
use crate::targets::Labels;

/// Samples in the order in which an epoch takes them, a batch at a time.
pub(in crate::nn) struct Batches<'a> {
    x: MatRef<'a>,
    labels: Labels<'a>,
    size: usize,
    /// Of the samples; empty for their own.
    order: Vec<usize>,
    /// Batches of even and odd numbers.
    gathered: [Batch; 2],
}

/// Gathered samples, side by side.
#[derive(Clone, Default)]
struct Batch {
    x: Vec<f32>,
    labels: Vec<usize>,
}

impl<'a> Batches<'a> {
    /// Batches of so many samples; the last may be smaller.
    pub(in crate::nn) fn new(x: MatRef<'a>, labels: Labels<'a>, size: usize) -> Self {
        Self { x, labels, size: size.min(x.rows()), order: Vec::new(), gathered: Default::default() }
    }

    /// Shuffles the samples for an epoch.
    pub(in crate::nn) fn shuffle(&mut self, seed: u64, epoch: u32) {
        self.order.clear();
        self.order.extend(0..self.x.rows());
        Random::new(seed, Stream::Epoch(epoch)).shuffle(&mut self.order);
        let Self { size, x, .. } = *self;
        for batch in &mut self.gathered {
            batch.x.resize(size * x.cols(), 0.0);
            batch.labels.resize(size, 0);
        }
    }

    /// How many batches an epoch has.
    pub(in crate::nn) fn count(&self) -> usize {
        self.x.rows().div_ceil(self.size)
    }

    /// Batch `number`, which has been gathered if the samples are shuffled.
    pub(in crate::nn) fn get(&self, number: usize) -> Result<(MatRef<'_>, Labels<'_>)> {
        if self.order.is_empty() {
            let samples = self.samples(number);
            let labels = self.labels.split_at(samples.end).0.split_at(samples.start).1;
            return Ok((self.x.row_range(samples)?, labels));
        }
        self.gathered[number % 2].view(self.samples(number).len(), self.x.cols())
    }

    /// Batch `number` and what gathers the next, if there is one.
    pub(in crate::nn) fn get_and_gather(
        &mut self,
        number: usize,
    ) -> Result<((MatRef<'_>, Labels<'_>), Option<Gather<'_>>)> {
        if self.order.is_empty() {
            return Ok((self.get(number)?, None));
        }
        let (rows, next) = (self.samples(number).len(), self.samples(number + 1));
        let Self { x, labels, order, gathered: [even, odd], .. } = self;
        let (this, other) = if number.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let gather =
            Gather { x: *x, labels: *labels, order: &order[next], to: &mut other.x, to_labels: &mut other.labels };
        Ok((this.view(rows, x.cols())?, Some(gather)))
    }

    /// What gathers the first batch, if that must be.
    pub(in crate::nn) fn gather_first(&mut self) -> Option<Gather<'_>> {
        let samples = self.samples(0);
        let Self { x, labels, order, gathered: [first, _], .. } = self;
        let order = order.get(samples)?;
        Some(Gather { x: *x, labels: *labels, order, to: &mut first.x, to_labels: &mut first.labels })
    }

    /// The places of a batch's samples in the order.
    fn samples(&self, number: usize) -> Range<usize> {
        let end = |batches: usize| batches.saturating_mul(self.size).min(self.x.rows());
        end(number)..end(number.saturating_add(1))
    }
}

impl Batch {
    fn view(&self, rows: usize, cols: usize) -> Result<(MatRef<'_>, Labels<'_>)> {
        Ok((MatRef::new(&self.x[..rows * cols], rows, cols)?, Labels::from(&self.labels[..rows])))
    }
}

/// Samples to be gathered.
pub(in crate::nn) struct Gather<'a> {
    x: MatRef<'a>,
    labels: Labels<'a>,
    order: &'a [usize],
    to: &'a mut [f32],
    to_labels: &'a mut [usize],
}

impl Gather<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The first `count`; the others stay.
    pub(super) fn take(&mut self, count: usize) -> Self {
        let (order, rest) = self.order.split_at(count.min(self.order.len()));
        self.order = rest;
        let to = cut_one(&mut self.to, count * self.x.cols());
        let to_labels = self.to_labels.split_off_mut(..count.min(self.to_labels.len())).unwrap_or_default();
        Self { order, to, to_labels, ..*self }
    }

    pub(in crate::nn) fn run(self, backend: &Backend) -> Result<()> {
        let nanoseconds = self.nanoseconds();
        let Self { x, labels, order, to, to_labels } = self;
        let to = MatMut::new(&mut to[..order.len() * x.cols()], order.len(), x.cols())?;
        backend.run(nanoseconds, 1, gather::Gather { from: x, order, to });
        for (to, &sample) in to_labels.iter_mut().zip(order) {
            *to = labels.get(sample).unwrap_or_default();
        }
        Ok(())
    }

    /// How long that takes on one thread.
    pub(super) fn nanoseconds(&self) -> usize {
        self.order.len() * self.x.cols() / SPEED
    }
}

/// Floats that are gathered in a nanosecond, about.
const SPEED: usize = 2;
