//! The batches of an epoch; shuffled samples are gathered while the batch before them is under way.

use std::ops::Range;

use super::super::buffer::Buffer;
use super::super::random::{Random, Stream};
use super::piece::cut_one;
use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::gather;
use crate::matrix::{MatMut, MatRef};
use crate::targets::Labels;

/// Samples in the order in which an epoch takes them, a batch at a time.
pub(in crate::nn) struct Batches<'a> {
    all: Batch<'a>,
    size: usize,
    room: Room,
}

/// Where shuffled samples are put in order.
#[derive(Debug, Default)]
pub(in crate::nn) struct Room {
    /// Of the samples; empty for their own.
    order: Vec<usize>,
    /// Batches of even and odd numbers.
    gathered: [Gathered; 2],
}

/// Samples, and what is known of them.
#[derive(Clone, Copy)]
pub(in crate::nn) struct Batch<'a> {
    pub(in crate::nn) x: MatRef<'a>,
    pub(in crate::nn) labels: Labels<'a>,
    /// By which their losses are multiplied; empty if by nothing.
    pub(in crate::nn) weights: &'a [f32],
}

impl Batch<'_> {
    /// The first `count`, and the others.
    pub(in crate::nn) fn split_at(self, count: usize) -> (Self, Self) {
        let (x, labels) = (self.x.split_at_row(count), self.labels.split_at(count));
        let weights = self.weights.split_at(count.min(self.weights.len()));
        (Self { x: x.0, labels: labels.0, weights: weights.0 }, Self { x: x.1, labels: labels.1, weights: weights.1 })
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
    /// Batches of so many samples; the last may be smaller.
    pub(in crate::nn) fn new(all: Batch<'a>, size: usize, mut room: Room) -> Self {
        room.order.clear();
        Self { all, size: size.min(all.x.rows()), room }
    }

    /// What they worked in.
    pub(in crate::nn) fn into_room(self) -> Room {
        self.room
    }

    /// Shuffles the samples for an epoch.
    pub(in crate::nn) fn shuffle(&mut self, seed: u64, epoch: u32) {
        let Self { all, size, room: Room { order, gathered } } = self;
        order.clear();
        order.extend(0..all.x.rows());
        Random::new(seed, Stream::Epoch(epoch)).shuffle(order);
        let size = *size;
        for batch in gathered {
            batch.x.resize(size * all.x.cols());
            batch.labels.resize(size, 0);
            batch.weights.resize(size.min(all.weights.len()), 0.0);
        }
    }

    /// How many batches an epoch has.
    pub(in crate::nn) fn count(&self) -> usize {
        self.all.x.rows().div_ceil(self.size)
    }

    /// Batch `number`, which has been gathered if the samples are shuffled.
    pub(in crate::nn) fn get(&self, number: usize) -> Result<Batch<'_>> {
        let samples = self.samples(number);
        if self.room.order.is_empty() {
            return Ok(self.all.split_at(samples.end).0.split_at(samples.start).1);
        }
        self.room.gathered[number % 2].view(samples.len(), self.all.x.cols())
    }

    /// Batch `number` and what gathers the next, if there is one.
    pub(in crate::nn) fn get_and_gather(&mut self, number: usize) -> Result<(Batch<'_>, Option<Gather<'_>>)> {
        if self.room.order.is_empty() {
            return Ok((self.get(number)?, None));
        }
        let (rows, next) = (self.samples(number).len(), self.samples(number + 1));
        let Self { all, room: Room { order, gathered: [even, odd] }, .. } = self;
        let (this, other) = if number.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        Ok((this.view(rows, all.x.cols())?, Some(Gather::new(*all, &order[next], other))))
    }

    /// What gathers the first batch, if that must be.
    pub(in crate::nn) fn gather_first(&mut self) -> Option<Gather<'_>> {
        let samples = self.samples(0);
        let Self { all, room: Room { order, gathered: [first, _] }, .. } = self;
        Some(Gather::new(*all, order.get(samples)?, first))
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
pub(in crate::nn) struct Gather<'a> {
    from: Batch<'a>,
    order: &'a [usize],
    to: &'a mut [f32],
    to_labels: &'a mut [usize],
    to_weights: &'a mut [f32],
}

impl<'a> Gather<'a> {
    fn new(from: Batch<'a>, order: &'a [usize], to: &'a mut Gathered) -> Self {
        Self { from, order, to: &mut to.x, to_labels: &mut to.labels, to_weights: &mut to.weights }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The first `count`; the others stay.
    pub(super) fn take(&mut self, count: usize) -> Gather<'a> {
        let (order, rest) = self.order.split_at(count.min(self.order.len()));
        self.order = rest;
        let to = cut_one(&mut self.to, count * self.from.x.cols());
        let to_labels = self.to_labels.split_off_mut(..count.min(self.to_labels.len())).unwrap_or_default();
        let to_weights = cut_one(&mut self.to_weights, count);
        Self { from: self.from, order, to, to_labels, to_weights }
    }

    pub(in crate::nn) fn run(self, backend: &Backend) -> Result<()> {
        let nanoseconds = self.nanoseconds();
        let Self { from: Batch { x, labels, weights }, order, to, to_labels, to_weights } = self;
        let to = MatMut::new(&mut to[..order.len() * x.cols()], order.len(), x.cols())?;
        backend.run(nanoseconds, 1, gather::Gather { from: x, order, to });
        for (to, &sample) in to_labels.iter_mut().zip(order) {
            *to = labels.get(sample).unwrap_or_default();
        }
        for (to, &sample) in to_weights.iter_mut().zip(order) {
            *to = weights.get(sample).copied().unwrap_or_default();
        }
        Ok(())
    }

    /// How long that takes on one thread.
    pub(super) fn nanoseconds(&self) -> usize {
        self.order.len() * self.from.x.cols() / SPEED
    }
}

/// Floats that are gathered in a nanosecond, about.
const SPEED: usize = 2;
