//! The buffers of a step, and its two parts.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::Backend;
use crate::error::Result;
use crate::kernels::optimizer::Parameters;
use crate::loss;
use crate::matrix::{MatMut, MatRef};
use crate::nn::buffer::Buffer;
use crate::nn::layers::dropout::Masks;
use crate::nn::optimizers::state::Update;
use crate::nn::train::batches::{Gather, Source};
use crate::nn::train::column_shards::{Piece, cut_one};
use crate::nn::train::pass::{DensePlan, Pass, Places};
use crate::nn::train::shard_model;
use crate::parallel::threads::Threads;
use crate::tuning::cost::{self, FMAS_PER_NS};
use crate::tuning::train::{LAYERWISE_WEIGHTS, ROW_GRAIN, SAMPLES_BLOCK, SERIAL_STEP, SHARD_COLS, UPDATE_GRAIN};

/// Buffers of a step, made beforehand for up to so many samples.
#[derive(Debug)]
pub(crate) struct Workspace {
    batch: usize,
    /// Into how many parts a batch is cut.
    pub(crate) threads: usize,
    pub(crate) places: Places,
    /// The layers' values and gradients, a row for each sample. Owners write those of the next batch into the other
    /// while this one's are still read; without owners there is one.
    pub(crate) values: Vec<Buffer>,
    losses: Vec<f32>,
    /// In the order of the parameters.
    pieces: Vec<Piece>,
}

impl Workspace {
    /// The first layer's columns may have owners if there is more than one step between the begin of an
    /// [`Engine`](super::Engine) and its end, and a step needs no gradients but a piece's own; they have where that pays.
    pub(crate) fn new(backend: &Backend, plan: &[DensePlan], batch: usize, owners: bool) -> Self {
        let (threads, owners) = shares(backend, plan, batch, owners);
        let owned = owners > 0;
        let mut pieces = Vec::new();
        for (i, layer) in plan.iter().enumerate() {
            if owned && i == 0 {
                pieces.extend(even(layer.outputs, SHARD_COLS, owners).map(|cols| Piece::with_panel(layer, cols)));
            } else {
                let count = (nanoseconds(&plan[i..=i], batch) / UPDATE_GRAIN)
                    .min(layer.inputs.div_ceil(ROW_GRAIN))
                    .clamp(1, threads);
                pieces.extend(even(layer.inputs, ROW_GRAIN, count).map(|rows| Piece::new(i, layer, rows)));
            }
        }
        let places = Places::both(plan);
        let values = (0..if owned { 2 } else { 1 }).map(|_| Buffer::new(batch * places.width)).collect();
        Self { batch, threads, places, values, losses: vec![0.0; batch], pieces }
    }

    /// The one that is there, or a new one if it is not just [what is wanted](Self::new).
    pub(crate) fn like(there: Option<Self>, backend: &Backend, plan: &[DensePlan], batch: usize, owners: bool) -> Self {
        let wanted = shares(backend, plan, batch, owners);
        let same = |there: &Self| there.batch == batch && (there.threads, there.owners()) == wanted;
        there.filter(same).unwrap_or_else(|| Self::new(backend, plan, batch, owners))
    }

    /// One without owners for so many samples, new if that which is there is too small.
    pub(crate) fn without_owners<'a>(
        workspace: &'a mut Option<Self>,
        backend: &Backend,
        plan: &[DensePlan],
        batch: usize,
    ) -> &'a mut Self {
        workspace.take_if(|workspace| workspace.batch < batch || workspace.has_owners());
        workspace.get_or_insert_with(|| Self::new(backend, plan, batch, false))
    }

    /// Copies the parameters that have owners, and their moments, to those.
    pub(crate) fn hand_out(&mut self, first_layer: &DensePlan, mut parameters: Parameters<'_>) {
        for piece in &mut self.pieces {
            piece.take(first_layer, parameters.reborrow());
        }
    }

    /// Copies them back.
    pub(crate) fn hand_back(&self, first_layer: &DensePlan, mut parameters: Parameters<'_>) {
        for piece in &self.pieces {
            piece.give(first_layer, parameters.reborrow());
        }
    }

    /// Whether the first layer has some: they need batches that have been gathered before [`through`](Self::through).
    pub(crate) fn has_owners(&self) -> bool {
        self.values.len() > 1
    }

    fn owners(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.is_owner()).count()
    }

    /// Takes a batch through the layer that has owners, if one has.
    pub(crate) fn first_layer(&mut self, backend: &Backend, plan: &[DensePlan], x: MatRef<'_>) -> Result<()> {
        if !self.has_owners() {
            return Ok(());
        }
        let Self { places, values, pieces, .. } = self;
        let (_, mut sums, mut outputs) = places.to_write(plan, 0, rows(&mut values[0], x.rows(), places.width)?);
        let parts = pieces.iter_mut().filter(|piece| piece.is_owner()).map(|piece| {
            let sums = sums.as_mut().map(|sums| sums.take_cols(piece.width()));
            (outputs.take_cols(piece.width()), sums, piece)
        });
        let serial = backend.with_threads(Threads::One);
        backend.share(nanoseconds(&plan[..1], x.rows()), parts, |(y, sums, piece)| {
            piece.forward(&serial, &plan[0], x, sums, y)
        })
    }

    /// Takes a batch through the other layers and back, and gathers it before, or the next one. Gives the mean loss and the
    /// number of right answers.
    pub(crate) fn through(
        &mut self,
        backend: &Backend,
        (plan, parameters, masks): (&[DensePlan], &[f32], Masks),
        samples: Source<'_>,
        mut next: Option<Gather<'_>>,
    ) -> Result<(f32, usize)> {
        let first = usize::from(self.has_owners());
        let Self { places, values, losses, threads, .. } = self;
        let batch = samples.len();
        let losses = &mut losses[..batch];
        let pass = Pass { plan, places, parameters, masks };
        let mut values = rows(&mut values[0], batch, places.width)?;
        let correct = AtomicUsize::new(0);
        let run = |backend: &Backend, Samples { row, source, losses, mut values }: Samples<'_>| {
            let (pass, samples) = (pass.at_row(row), source.run(backend)?);
            pass.forward(backend, first, samples.x, values.reborrow())?;
            let hits = pass.backward(backend, batch, samples, losses, values)?;
            correct.fetch_add(hits, Ordering::Relaxed);
            Ok(())
        };
        let mut cost = samples.nanoseconds() + 2 * nanoseconds(&plan[first..], batch);
        let mut samples = Samples { row: 0, source: samples, losses: &mut *losses, values: values.reborrow() };
        if by_layers(&plan[first..], *threads) {
            run(backend, samples.take(batch, Source::take))?;
            cost = 0;
        }
        cost += next.as_ref().map_or(0, Gather::nanoseconds);
        let next_len = next.as_ref().map_or(0, Gather::len);
        let parts = even(batch, ROW_GRAIN, *threads).zip(even(next_len, 1, *threads)).map(|(rows, others)| {
            let next = next.as_mut().map(|next| next.take(others.len()));
            (samples.take(rows.len(), Source::take), next)
        });
        let serial = backend.with_threads(Threads::One);
        // With owners, the samples themselves are not read here.
        let at_once = if first > 0 { batch } else { (SAMPLES_BLOCK / plan[0].inputs).max(ROW_GRAIN) };
        backend.share(cost, parts, |(mut samples, mut next)| {
            let count = samples.losses.len();
            let count = count.div_ceil(count.div_ceil(at_once).max(1));
            loop {
                if let Some(next) = &mut next {
                    next.take_first(at_once).run(&serial)?;
                }
                if !samples.losses.is_empty() {
                    run(&serial, samples.take(count, Source::take_first))?;
                }
                if samples.losses.is_empty() && next.as_ref().is_none_or(|next| next.len() == 0) {
                    return Ok(());
                }
            }
        })?;
        Ok(((f64::from(loss::sum(&serial, losses)) / batch as f64) as f32, correct.into_inner()))
    }

    /// Updates all parameters by their gradients, after [`through`](Self::through); then does what
    /// [`first_layer`](Self::first_layer) does, with the next batch.
    pub(crate) fn update(
        &mut self,
        backend: &Backend,
        plan: &[DensePlan],
        x: MatRef<'_>,
        (mut parameters, update): (Parameters<'_>, Update),
        next: Option<MatRef<'_>>,
    ) -> Result<()> {
        let owned = self.has_owners();
        let Self { places, values, pieces, .. } = self;
        let (values, others) = values.split_at_mut(1);
        let values = rows(&mut values[0], x.rows(), places.width)?.into_ref();
        let next = next.filter(|_| owned);
        let mut to = match (next, others) {
            (Some(x), [others]) => Some(places.to_write(plan, 0, rows(others, x.rows(), places.width)?)),
            _ => None,
        };
        if owned {
            parameters.take(plan[0].parameters());
        }
        let parts = pieces.iter_mut().map(|piece| {
            let parameters = parameters.take(if piece.is_owner() { 0 } else { piece.len() });
            let to = to.as_mut().filter(|_| piece.is_owner()).map(|(_, sums, outputs)| {
                let sums = sums.as_mut().map(|sums| sums.take_cols(piece.width()));
                (outputs.take_cols(piece.width()), sums)
            });
            (piece, parameters, to)
        });
        let serial = backend.with_threads(Threads::One);
        let cost = nanoseconds(plan, x.rows()) + next.map_or(0, |x| nanoseconds(&plan[..1], x.rows()));
        backend.share(cost, parts, |(piece, parameters, to)| {
            let layer = piece.layer();
            let input = places.input(plan, layer, x, values);
            piece.update(&serial, input, places.gradient(plan, layer, values), parameters, update)?;
            if let (Some((y, sums)), Some(x)) = (to, next) {
                piece.forward(&serial, &plan[0], x, sums, y)?;
            }
            Ok(())
        })?;
        if owned {
            self.values.swap(0, 1);
        }
        Ok(())
    }

    /// Writes the gradients by all parameters, after [`through`](Self::through).
    pub(crate) fn gradients(
        &mut self,
        backend: &Backend,
        plan: &[DensePlan],
        x: MatRef<'_>,
        mut gradients: &mut [f32],
    ) -> Result<()> {
        let Self { places, values, pieces, .. } = self;
        let values = rows(&mut values[0], x.rows(), places.width)?.into_ref();
        let parts = pieces.iter().map(|piece| (piece, cut_one(&mut gradients, piece.len())));
        let serial = backend.with_threads(Threads::One);
        backend.share(nanoseconds(plan, x.rows()), parts, |(piece, gradients)| {
            let layer = piece.layer();
            let input = places.input(plan, layer, x, values);
            piece.gradients(&serial, input, places.gradient(plan, layer, values), gradients)
        })
    }
}

/// On how many threads steps of so many samples run, and how many owners they have, if they may have some.
fn shares(backend: &Backend, plan: &[DensePlan], batch: usize, owners: bool) -> (usize, usize) {
    let cost = 3 * nanoseconds(plan, batch);
    let threads = if cost < SERIAL_STEP && backend.threads() == Threads::Auto { 1 } else { backend.width() };
    (threads, if owners { shard_model::count(&plan[0], batch, threads) } else { 0 })
}

/// Samples on their way through the network.
struct Samples<'a> {
    /// The first one's number in the batch.
    row: usize,
    source: Source<'a>,
    losses: &'a mut [f32],
    values: MatMut<'a>,
}

impl<'a> Samples<'a> {
    /// The first `count`, as this cuts their source; the others stay.
    fn take(&mut self, count: usize, cut: impl FnOnce(&mut Source<'a>, usize) -> Source<'a>) -> Self {
        let count = count.min(self.losses.len());
        let row = self.row;
        self.row += count;
        let source = cut(&mut self.source, count);
        Self { row, source, losses: cut_one(&mut self.losses, count), values: self.values.take_rows(count) }
    }
}

/// So many samples' values.
pub(crate) fn rows(values: &mut [f32], rows: usize, width: usize) -> Result<MatMut<'_>> {
    MatMut::new(&mut values[..rows * width], rows, width)
}

/// Whether a batch goes through these layers one by one.
pub(crate) fn by_layers(plan: &[DensePlan], threads: usize) -> bool {
    threads > 1 && plan.iter().map(weights).sum::<usize>() >= LAYERWISE_WEIGHTS
}

pub(crate) fn weights(layer: &DensePlan) -> usize {
    layer.inputs * layer.outputs
}

/// How long samples take through layers in one direction, or their parameters' gradients, on one thread.
pub(crate) fn nanoseconds(layers: &[DensePlan], samples: usize) -> usize {
    let dropped = |layer: &DensePlan| layer.dropouts.len() * cost::dropout(layer.inputs);
    let sample = |layer: &DensePlan| weights(layer) + FMAS_PER_NS * dropped(layer);
    layers.iter().map(sample).sum::<usize>().saturating_mul(samples) / FMAS_PER_NS
}

/// Cuts a length into so many parts, as even as whole units allow.
pub(crate) fn even(len: usize, unit: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let end = move |part: usize| (len.div_ceil(unit) * part / parts * unit).min(len);
    (0..parts).map(move |part| end(part)..end(part + 1))
}
