//! The batches of an epoch.
//!
//! Shuffled samples are gathered into contiguous rows: by the thread that passes them through the network,
//! just before it does, or, if other threads read them too, as a prefetch while the batch before them is
//! being trained on.

use std::ops::Range;

use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::gather::GatherRows;
use crate::matrix::{MatMut, MatRef};
use crate::nn::buffer::{Buffer, take_front};
use crate::nn::random::{Random, Stream};
use crate::targets::Labels;
use crate::tuning::cost;

/// The order in which an epoch takes the samples.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shuffle {
    Seed(u64),
    No,
}

impl Default for Shuffle {
    fn default() -> Self {
        Self::Seed(0)
    }
}

/// When the samples of a shuffled batch are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathering {
    /// In the batch's own step, by the threads that read them.
    InStep,
    /// In the step before.
    Prefetch,
}

/// Samples with their labels and weights.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) x: MatRef<'a>,
    pub(crate) labels: Labels<'a>,
    /// Their losses are multiplied by these; empty if by nothing.
    pub(crate) weights: &'a [f32],
}

impl Batch<'_> {
    /// The first `count` samples and the others.
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        let (x, labels) = (self.x.split_at_row(count), self.labels.split_at(count));
        let weights = self.weights.split_at(count.min(self.weights.len()));
        (Self { x: x.0, labels: labels.0, weights: weights.0 }, Self { x: x.1, labels: labels.1, weights: weights.1 })
    }
}

/// All samples, in the order in which an epoch takes them, a batch at a time.
pub(crate) struct Batches<'a> {
    samples: Batch<'a>,
    size: usize,
    gathering: Gathering,
    buffers: BatchBuffers,
}

/// The memory of [`Batches`], which a model keeps between calls of `fit`.
#[derive(Debug, Default)]
pub(crate) struct BatchBuffers {
    /// A permutation of the samples; empty if they are not shuffled.
    order: Vec<usize>,
    /// For batches of even and odd numbers; without prefetch, all are gathered into the first.
    gathered: [GatheredBatch; 2],
}

/// Gathered samples in contiguous rows.
#[derive(Debug, Default)]
struct GatheredBatch {
    x: Buffer,
    labels: Vec<usize>,
    weights: Vec<f32>,
}

impl GatheredBatch {
    fn view(&self, rows: usize, cols: usize) -> Result<Batch<'_>> {
        let x = MatRef::new(&self.x[..rows * cols], rows, cols)?;
        let weights = &self.weights[..rows.min(self.weights.len())];
        Ok(Batch { x, labels: Labels::from(&self.labels[..rows]), weights })
    }
}

impl<'a> Batches<'a> {
    /// Batches of `size` samples; the last may be smaller.
    pub(crate) fn new(samples: Batch<'a>, size: usize, gathering: Gathering, mut buffers: BatchBuffers) -> Self {
        buffers.order.clear();
        Self { samples, size: size.min(samples.x.rows()), gathering, buffers }
    }

    /// Gives the memory back.
    pub(crate) fn into_buffers(self) -> BatchBuffers {
        self.buffers
    }

    /// Shuffles the samples for an epoch.
    pub(crate) fn shuffle(&mut self, seed: u64, epoch: u32) {
        let Self { samples, size, gathering, buffers: BatchBuffers { order, gathered } } = self;
        order.clear();
        order.extend(0..samples.x.rows());
        Random::new(seed, Stream::Epoch(epoch)).shuffle(order);
        let size = *size;
        for batch in &mut gathered[..if *gathering == Gathering::Prefetch { 2 } else { 1 }] {
            batch.x.resize(size * samples.x.cols());
            batch.labels.resize(size, 0);
            batch.weights.resize(size.min(samples.weights.len()), 0.0);
        }
    }

    /// How many batches an epoch has.
    pub(crate) fn count(&self) -> usize {
        self.samples.x.rows().div_ceil(self.size)
    }

    /// Batch `number`, which has been gathered if the samples are shuffled.
    pub(crate) fn get(&self, number: usize) -> Result<Batch<'_>> {
        let range = self.range(number);
        if self.buffers.order.is_empty() {
            return Ok(self.samples.split_at(range.end).0.split_at(range.start).1);
        }
        let prefetched = self.gathering == Gathering::Prefetch;
        let gathered = &self.buffers.gathered[if prefetched { number % 2 } else { 0 }];
        gathered.view(range.len(), self.samples.x.cols())
    }

    /// The samples of the batch after batch `number`, if there is one and they need not be gathered first.
    pub(crate) fn next(&self, number: usize) -> Result<Option<MatRef<'_>>> {
        let is_ready = self.gathering == Gathering::Prefetch || self.buffers.order.is_empty();
        (is_ready && number + 1 < self.count()).then(|| Ok(self.get(number + 1)?.x)).transpose()
    }

    /// Batch `number`, ready or to be gathered, and the prefetch of the next, if that is to be gathered and
    /// there is one.
    pub(crate) fn take(&mut self, number: usize) -> Result<(BatchSource<'_>, Option<ShuffledGather<'_>>)> {
        if self.buffers.order.is_empty() {
            return Ok((BatchSource::Ready(self.get(number)?), None));
        }
        let (range, next) = (self.range(number), self.range(number + 1));
        let Self { samples, gathering, buffers: BatchBuffers { order, gathered: [even, odd] }, .. } = self;
        if *gathering == Gathering::InStep {
            return Ok((BatchSource::Shuffled(ShuffledGather::new(*samples, order, range, even)), None));
        }
        let (this, other) = if number.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let this = this.view(range.len(), samples.x.cols())?;
        Ok((BatchSource::Ready(this), Some(ShuffledGather::new(*samples, order, next, other))))
    }

    /// The prefetch of the first batch, if it is to be gathered.
    pub(crate) fn prefetch_first(&mut self) -> Option<ShuffledGather<'_>> {
        let range = self.range(0);
        let Self { samples, gathering, buffers: BatchBuffers { order, gathered: [first, _] }, .. } = self;
        let wanted = *gathering == Gathering::Prefetch && !order.is_empty();
        wanted.then(|| ShuffledGather::new(*samples, order, range, first))
    }

    /// A batch's range of the order.
    fn range(&self, number: usize) -> Range<usize> {
        let end = |batches: usize| batches.saturating_mul(self.size).min(self.samples.x.rows());
        end(number)..end(number.saturating_add(1))
    }
}

/// Samples that are ready, or are to be gathered.
pub(crate) enum BatchSource<'a> {
    Ready(Batch<'a>),
    Shuffled(ShuffledGather<'a>),
}

impl<'a> BatchSource<'a> {
    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ready(batch) => batch.x.rows(),
            Self::Shuffled(gather) => gather.len(),
        }
    }

    /// Values per sample.
    pub(crate) fn features(&self) -> usize {
        match self {
            Self::Ready(batch) => batch.x.cols(),
            Self::Shuffled(gather) => gather.from.x.cols(),
        }
    }

    /// Splits off the first `count`, as a thread's share of the batch.
    pub(crate) fn take_share(&mut self, count: usize) -> Self {
        self.take(count, ShuffledGather::take_share)
    }

    /// Splits off the first `count`, after which the same thread takes the others.
    pub(crate) fn take_block(&mut self, count: usize) -> Self {
        self.take(count, ShuffledGather::take_block)
    }

    fn take(&mut self, count: usize, take: impl FnOnce(&mut ShuffledGather<'a>, usize) -> ShuffledGather<'a>) -> Self {
        match self {
            Self::Ready(batch) => {
                let (first, rest) = batch.split_at(count);
                *batch = rest;
                Self::Ready(first)
            }
            Self::Shuffled(gather) => Self::Shuffled(take(gather, count)),
        }
    }

    /// Gathers the samples unless they are ready.
    pub(crate) fn get(self, backend: &Backend) -> Result<Batch<'a>> {
        match self {
            Self::Ready(batch) => Ok(batch),
            Self::Shuffled(gather) => gather.run(backend),
        }
    }

    /// Nanoseconds that takes on one thread.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Ready(_) => 0,
            Self::Shuffled(gather) => gather.cost(),
        }
    }
}

/// Samples of a shuffled order, to be gathered.
pub(crate) struct ShuffledGather<'a> {
    from: Batch<'a>,
    order: &'a [usize],
    /// Those that the same thread will likely gather next: the TLB is warmed for their rows.
    later: &'a [usize],
    x: &'a mut [f32],
    labels: &'a mut [usize],
    weights: &'a mut [f32],
}

impl<'a> ShuffledGather<'a> {
    fn new(from: Batch<'a>, order: &'a [usize], range: Range<usize>, to: &'a mut GatheredBatch) -> Self {
        let (order, later) = order[range.start..].split_at(range.len());
        Self { from, order, later, x: &mut to.x, labels: &mut to.labels, weights: &mut to.weights }
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Splits off the first `count`, as a thread's share: it will gather the same share of the next batch.
    pub(crate) fn take_share(&mut self, count: usize) -> Self {
        let front = |slice: &mut &'a [usize]| slice.split_off(..count.min(slice.len())).unwrap_or_default();
        Self {
            from: self.from,
            order: front(&mut self.order),
            later: front(&mut self.later),
            x: take_front(&mut self.x, count * self.from.x.cols()),
            labels: take_front(&mut self.labels, count),
            weights: take_front(&mut self.weights, count),
        }
    }

    /// Splits off the first `count`, after which the same thread gathers the others.
    pub(crate) fn take_block(&mut self, count: usize) -> Self {
        let later = self.later;
        let first = self.take_share(count);
        self.later = later;
        let next = if self.order.is_empty() { later } else { self.order };
        Self { later: &next[..count.min(next.len())], ..first }
    }

    /// Gathers them.
    pub(crate) fn run(self, backend: &Backend) -> Result<Batch<'a>> {
        let cost = self.cost();
        let Self { from, order, later, x: to, labels, weights } = self;
        let (rows, cols) = (order.len(), from.x.cols());
        let to = &mut to[..rows * cols];
        backend.run(cost, 1, GatherRows { from: from.x, order, later, to: MatMut::new(to, rows, cols)? });
        for (label, &sample) in labels.iter_mut().zip(order) {
            *label = from.labels.get(sample).unwrap_or_default();
        }
        for (weight, &sample) in weights.iter_mut().zip(order) {
            *weight = from.weights.get(sample).copied().unwrap_or_default();
        }
        let weights = &weights[..rows.min(weights.len())];
        Ok(Batch { x: MatRef::new(to, rows, cols)?, labels: Labels::from(&labels[..rows]), weights })
    }

    /// Nanoseconds that takes on one thread.
    pub(crate) fn cost(&self) -> usize {
        cost::gather(self.order.len() * self.from.x.cols())
    }
}
