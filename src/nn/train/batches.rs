//! The batches of an epoch. Shuffled samples are gathered where a thread takes them through the network, or, if other threads
//! need them, while the batch before them is under way.

use std::ops::Range;

use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::gather::GatherRows;
use crate::matrix::{MatMut, MatRef};
use crate::nn::buffer::Buffer;
use crate::nn::random::{Random, Stream};
use crate::nn::train::column_shards::cut_one;
use crate::targets::Labels;
use crate::tuning::cost;

/// Samples in the order in which an epoch takes them, a batch at a time.
pub(crate) struct Batches<'a> {
    all: Batch<'a>,
    size: usize,
    /// Whether a batch is gathered before its turn.
    ahead: bool,
    room: Room,
}

/// Where shuffled samples are put in order.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Of the samples; empty for their own.
    order: Vec<usize>,
    /// Batches of even and odd numbers, or all in the first.
    gathered: [Gathered; 2],
}

/// Samples, and what is known of them.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) x: MatRef<'a>,
    pub(crate) labels: Labels<'a>,
    /// By which their losses are multiplied; empty if by nothing.
    pub(crate) weights: &'a [f32],
}

impl Batch<'_> {
    /// The first `count`, and the others.
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        let (x, labels) = (self.x.split_at_row(count), self.labels.split_at(count));
        let weights = self.weights.split_at(count.min(self.weights.len()));
        (Self { x: x.0, labels: labels.0, weights: weights.0 }, Self { x: x.1, labels: labels.1, weights: weights.1 })
    }
}

/// Samples that are there, or are to be gathered.
pub(crate) enum Source<'a> {
    Ready(Batch<'a>),
    Gather(Gather<'a>),
}

impl<'a> Source<'a> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ready(batch) => batch.x.rows(),
            Self::Gather(gather) => gather.len(),
        }
    }

    /// The first `count`; the others stay.
    pub(crate) fn take(&mut self, count: usize) -> Self {
        self.cut(count, Gather::take)
    }

    /// The same for a thread that goes on with the others.
    pub(crate) fn take_first(&mut self, count: usize) -> Self {
        self.cut(count, Gather::take_first)
    }

    fn cut(&mut self, count: usize, gather: impl FnOnce(&mut Gather<'a>, usize) -> Gather<'a>) -> Self {
        match self {
            Self::Ready(batch) => {
                let (first, rest) = batch.split_at(count);
                *batch = rest;
                Self::Ready(first)
            }
            Self::Gather(all) => Self::Gather(gather(all, count)),
        }
    }

    /// The samples.
    pub(crate) fn run(self, backend: &Backend) -> Result<Batch<'a>> {
        match self {
            Self::Ready(batch) => Ok(batch),
            Self::Gather(gather) => gather.run(backend),
        }
    }

    /// How long that takes on one thread.
    pub(crate) fn nanoseconds(&self) -> usize {
        match self {
            Self::Ready(_) => 0,
            Self::Gather(gather) => gather.nanoseconds(),
        }
    }
}

/// Gathered samples, side by side.
#[derive(Debug, Default)]
struct Gathered {
    x: Buffer,
    labels: Vec<usize>,
    weights: Vec<f32>,
}

impl<'a> Batches<'a> {
    /// Batches of so many samples; the last may be smaller. If they are gathered ahead, they are so from
    /// [`gather_first`](Self::gather_first) on.
    pub(crate) fn new(all: Batch<'a>, size: usize, ahead: bool, mut room: Room) -> Self {
        room.order.clear();
        Self { all, size: size.min(all.x.rows()), ahead, room }
    }

    /// What they worked in.
    pub(crate) fn into_room(self) -> Room {
        self.room
    }

    /// Shuffles the samples for an epoch.
    pub(crate) fn shuffle(&mut self, seed: u64, epoch: u32) {
        let Self { all, size, ahead, room: Room { order, gathered } } = self;
        order.clear();
        order.extend(0..all.x.rows());
        Random::new(seed, Stream::Epoch(epoch)).shuffle(order);
        let size = *size;
        for batch in &mut gathered[..if *ahead { 2 } else { 1 }] {
            batch.x.resize(size * all.x.cols());
            batch.labels.resize(size, 0);
            batch.weights.resize(size.min(all.weights.len()), 0.0);
        }
    }

    /// How many batches an epoch has.
    pub(crate) fn count(&self) -> usize {
        self.all.x.rows().div_ceil(self.size)
    }

    /// Batch `number`, which has been gathered if the samples are shuffled.
    pub(crate) fn get(&self, number: usize) -> Result<Batch<'_>> {
        let samples = self.samples(number);
        if self.room.order.is_empty() {
            return Ok(self.all.split_at(samples.end).0.split_at(samples.start).1);
        }
        let gathered = &self.room.gathered[if self.ahead { number % 2 } else { 0 }];
        gathered.view(samples.len(), self.all.x.cols())
    }

    /// The samples of the batch behind batch `number`, if there is one and it is not to be gathered first.
    pub(crate) fn next(&self, number: usize) -> Result<Option<MatRef<'_>>> {
        let there = self.ahead || self.room.order.is_empty();
        (there && number + 1 < self.count()).then(|| Ok(self.get(number + 1)?.x)).transpose()
    }

    /// Batch `number`, or what gathers it; and what gathers the next, if that must be and there is one.
    pub(crate) fn take(&mut self, number: usize) -> Result<(Source<'_>, Option<Gather<'_>>)> {
        if self.room.order.is_empty() {
            return Ok((Source::Ready(self.get(number)?), None));
        }
        let (samples, next) = (self.samples(number), self.samples(number + 1));
        let Self { all, ahead, room: Room { order, gathered: [even, odd] }, .. } = self;
        if !*ahead {
            return Ok((Source::Gather(Gather::new(*all, order, samples, even)), None));
        }
        let (this, other) = if number.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let this = this.view(samples.len(), all.x.cols())?;
        Ok((Source::Ready(this), Some(Gather::new(*all, order, next, other))))
    }

    /// What gathers the first batch ahead, if that must be.
    pub(crate) fn gather_first(&mut self) -> Option<Gather<'_>> {
        let samples = self.samples(0);
        let Self { all, ahead, room: Room { order, gathered: [first, _] }, .. } = self;
        (*ahead && !order.is_empty()).then(|| Gather::new(*all, order, samples, first))
    }

    /// The places of a batch's samples in the order.
    fn samples(&self, number: usize) -> Range<usize> {
        let end = |batches: usize| batches.saturating_mul(self.size).min(self.all.x.rows());
        end(number)..end(number.saturating_add(1))
    }
}

impl Gathered {
    fn view(&self, rows: usize, cols: usize) -> Result<Batch<'_>> {
        let x = MatRef::new(&self.x[..rows * cols], rows, cols)?;
        let weights = &self.weights[..rows.min(self.weights.len())];
        Ok(Batch { x, labels: Labels::from(&self.labels[..rows]), weights })
    }
}

/// Samples to be gathered.
pub(crate) struct Gather<'a> {
    from: Batch<'a>,
    order: &'a [usize],
    /// Those that the same thread will likely gather next: their pages are looked up beforehand.
    later: &'a [usize],
    to: &'a mut [f32],
    to_labels: &'a mut [usize],
    to_weights: &'a mut [f32],
}

impl<'a> Gather<'a> {
    /// Those of a range of an order.
    fn new(from: Batch<'a>, order: &'a [usize], samples: Range<usize>, to: &'a mut Gathered) -> Self {
        let (order, later) = order[samples.start..].split_at(samples.len());
        Self { from, order, later, to: &mut to.x, to_labels: &mut to.labels, to_weights: &mut to.weights }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The first `count`; the others stay. Who gathers these will gather as many of the next batch.
    pub(crate) fn take(&mut self, count: usize) -> Gather<'a> {
        let order = front(&mut self.order, count);
        let later = front(&mut self.later, count);
        let to = cut_one(&mut self.to, count * self.from.x.cols());
        let to_labels = self.to_labels.split_off_mut(..count.min(self.to_labels.len())).unwrap_or_default();
        let to_weights = cut_one(&mut self.to_weights, count);
        Self { from: self.from, order, later, to, to_labels, to_weights }
    }

    /// The same, but the thread that gathers these goes on with the others.
    pub(crate) fn take_first(&mut self, count: usize) -> Gather<'a> {
        let later = self.later;
        let first = self.take(count);
        self.later = later;
        let next = if self.order.is_empty() { later } else { self.order };
        Self { later: &next[..count.min(next.len())], ..first }
    }

    /// Gathers them.
    pub(crate) fn run(self, backend: &Backend) -> Result<Batch<'a>> {
        let nanoseconds = self.nanoseconds();
        let Self { from: Batch { x, labels, weights }, order, later, to, to_labels, to_weights } = self;
        let (rows, cols) = (order.len(), x.cols());
        let to = &mut to[..rows * cols];
        backend.run(nanoseconds, 1, GatherRows { from: x, order, later, to: MatMut::new(to, rows, cols)? });
        for (to, &sample) in to_labels.iter_mut().zip(order) {
            *to = labels.get(sample).unwrap_or_default();
        }
        for (to, &sample) in to_weights.iter_mut().zip(order) {
            *to = weights.get(sample).copied().unwrap_or_default();
        }
        let labels = Labels::from(&to_labels[..rows]);
        Ok(Batch { x: MatRef::new(to, rows, cols)?, labels, weights: &to_weights[..rows.min(to_weights.len())] })
    }

    /// How long that takes on one thread.
    pub(crate) fn nanoseconds(&self) -> usize {
        cost::gather(self.order.len() * self.from.x.cols())
    }
}

/// The first `count` elements, or as many as there are; the others stay.
fn front<'a>(slice: &mut &'a [usize], count: usize) -> &'a [usize] {
    slice.split_off(..count.min(slice.len())).unwrap_or_default()
}
