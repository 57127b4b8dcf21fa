//! `Predictor`: a model made ready to answer.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use crate::activation;
use crate::backend::Backend;
use crate::dense::{self, check_shape};
use crate::error::{Error, Result};
use crate::gemm::gemv;
use crate::gemm::packed::PackedWeights;
use crate::kernels::{Kernel, Split};
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::model::Sequential;
use crate::parallel::threads::Threads;
use crate::simd::tier::Tier;
use crate::tuning::cost;
use crate::tuning::infer::{BLOCK, GEMV_SAMPLES, GEMV_WEIGHTS, ROW_GRAIN, SPLIT_COLS_WEIGHTS};

/// A trained model's layers with their weights laid out for forward calls: it answers with the same bits as
/// [`Sequential::predict_into`].
///
/// It may be asked by many threads at once. Batches are shared out over the caller's rayon pool, as
/// [`Threads`] says, and small ones stay on the calling thread, unless the network has 2^20 weights or more: then the columns of
/// each layer are shared out for fewer than 16 samples, since one thread would wait for memory. What stands between the layers is kept by each thread,
/// for the next call, so that no call allocates once its thread has seen as many samples at a time, but on
/// [`Isa::Portable`](crate::Isa::Portable), whose products are `matrixmultiply`'s.
///
/// ```
/// use densely::nn::{Activation, Dense, Predictor, Sequential};
/// use densely::{MatMut, MatRef};
/// let model = Sequential::builder(2)
///     .layer(Dense::new(8, Activation::Relu))
///     .layer(Dense::new(3, DenseActivation::Softmax))
///     .build()?;
/// let predictor = Predictor::new(&model);
/// let (x, mut y) = ([0.5, -1.0], [0.0; 3]);
/// predictor.predict_into(MatRef::new(&x, 1, 2)?, MatMut::new(&mut y, 1, 3)?)?;
/// assert_eq!(y[..], model.predict(MatRef::new(&x, 1, 2)?)?);
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone)]
pub struct Predictor {
    layers: Vec<Packed>,
    backend: Backend,
    inputs: usize,
    outputs: usize,
    /// The most values that a sample has behind a layer.
    widest: usize,
    /// About how long a sample takes on one thread, in nanoseconds.
    cost: usize,
    weights: usize,
    /// As many samples go one by one; none where the sums of products are `matrixmultiply`'s.
    few: usize,
}

impl fmt::Debug for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Predictor({} -> {}, {} weights, {:?})", self.inputs, self.outputs, self.weights, self.backend)
    }
}

/// A dense layer.
#[derive(Clone)]
struct Packed {
    weights: PackedWeights,
    bias: Option<Vec<f32>>,
    activation: DenseActivation,
}

/// What is made of the last layer's values, where its activation is softmax.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Probabilities,
    LogProbabilities,
    Logits,
}

impl Predictor {
    /// Copies a model's weights, biases and backend; what the model learns afterwards changes nothing here.
    #[must_use]
    pub fn new(model: &Sequential) -> Self {
        let layers: Vec<_> = model
            .dense_layers()
            .map(|(activation, weights, bias)| Packed {
                weights: PackedWeights::new(weights),
                bias: bias.map(<[f32]>::to_vec),
                activation,
            })
            .collect();
        let sizes = || layers.iter().map(|layer| layer.weights.inputs().saturating_mul(layer.weights.outputs()));
        let weights = sizes().fold(0, usize::saturating_add);
        let backend = model.backend().clone();
        let few = if weights <= GEMV_WEIGHTS { GEMV_SAMPLES } else { usize::from(weights < SPLIT_COLS_WEIGHTS) };
        Self {
            few: if backend.has_fma() { few } else { 0 },
            backend,
            inputs: model.inputs(),
            outputs: model.outputs(),
            widest: layers.iter().map(|layer| layer.weights.outputs()).max().unwrap_or(0),
            cost: weights / cost::FMAS_PER_NS + cost::LAYER_CALL * layers.len(),
            weights,
            layers,
        }
    }

    /// The same on another choice of threads.
    #[must_use]
    pub fn with_threads(self, threads: Threads) -> Self {
        Self { backend: self.backend.with_threads(threads), ..self }
    }

    /// The number of values in a sample.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of values for a sample: the classes.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The last layer's values for each sample: probabilities if its activation is softmax. `x` is batch x
    /// [`inputs`](Self::inputs), `y` batch x [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// [`Error::Shape`] if a shape does not fit; `y` is untouched then.
    pub fn predict_into(&self, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
        self.run(x, y, Last::Probabilities)
    }

    /// The logarithms of the probabilities, in nats. Shapes are those of [`predict_into`](Self::predict_into).
    ///
    /// # Errors
    /// As there, and [`Error::Value`] if the last layer's activation is not softmax.
    pub fn log_probabilities_into(&self, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
        self.check_softmax()?;
        self.run(x, y, Last::LogProbabilities)
    }

    /// The last layer's values before softmax. Shapes are those of [`predict_into`](Self::predict_into).
    ///
    /// # Errors
    /// As there, and [`Error::Value`] if the last layer's activation is not softmax.
    pub fn logits_into(&self, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
        self.check_softmax()?;
        self.run(x, y, Last::Logits)
    }

    fn check_softmax(&self) -> Result<()> {
        match self.layers.last().map(|layer| layer.activation) {
            Some(DenseActivation::Softmax) => Ok(()),
            other => {
                let found = other.map_or("none", DenseActivation::name);
                Err(Error::value("activation", "softmax in the last layer", found))
            }
        }
    }

    fn run(&self, x: MatRef<'_>, y: MatMut<'_>, last: Last) -> Result<()> {
        check_shape("x", [x.rows(), x.cols()], [x.rows(), self.inputs])?;
        check_shape("y", [y.rows(), y.cols()], [x.rows(), self.outputs])?;
        let failed = OnceLock::new();
        let work = Samples { predictor: self, x, y, last, failed: &failed };
        if x.rows() < 2 * ROW_GRAIN && self.weights >= SPLIT_COLS_WEIGHTS {
            return work.through(&self.backend);
        }
        self.backend.run(x.rows().saturating_mul(self.cost), ROW_GRAIN, work);
        failed.into_inner().map_or(Ok(()), Err)
    }
}

/// Samples on their way through the network.
struct Samples<'a> {
    predictor: &'a Predictor,
    x: MatRef<'a>,
    y: MatMut<'a>,
    last: Last,
    /// What a part of them ended with.
    failed: &'a OnceLock<Error>,
}

impl Kernel for Samples<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) {
        let serial = self.predictor.backend.with_threads(Threads::One);
        if self.x.rows() <= self.predictor.few && self.x.row(0).is_some() {
            let mut kept = self.predictor.take_room(1);
            self.one_by_one(tier, &mut kept);
            keep_room(kept);
            self.predictor.finish(&serial, self.y, self.last);
            return;
        }
        let failed = self.failed;
        if let Err(error) = self.through(&serial) {
            let _ = failed.set(error);
        }
    }
}

impl Split for Samples<'_> {
    fn len(&self) -> usize {
        self.x.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        let (x, y) = (self.x.split_at_row(at), self.y.split_at_row(at));
        (Self { x: x.0, y: y.0, ..self }, Self { x: x.1, y: y.1, ..self })
    }
}

thread_local! {
    /// What stands before and behind a layer; kept, so that no call of a known size allocates.
    static KEPT: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

impl Predictor {
    /// Room for what stands before and behind a layer, of so many samples; its values are anything.
    fn take_room(&self, samples: usize) -> [Vec<f32>; 2] {
        // A thread that is ending has no buffers any more.
        let mut kept = KEPT.try_with(Cell::take).unwrap_or_default();
        let room = self.widest * samples;
        for kept in &mut kept {
            if kept.len() < room {
                kept.resize(room, 0.0);
            }
        }
        kept
    }
}

fn keep_room(kept: [Vec<f32>; 2]) {
    let _ = KEPT.try_with(|place| place.set(kept));
}

impl Samples<'_> {
    /// Each through all layers by itself, but for the last one's softmax; their values are neighbours.
    #[inline(always)]
    fn one_by_one<T: Tier>(&mut self, tier: T, [even, odd]: &mut [Vec<f32>; 2]) {
        for (row, x) in (0..self.x.rows()).filter_map(|row| Some((row, self.x.row(row)?))) {
            let mut width = None;
            for (number, layer) in self.predictor.layers.iter().enumerate() {
                let (from, to) = if number.is_multiple_of(2) { (&*odd, &mut *even) } else { (&*even, &mut *odd) };
                let x = width.map_or(x, |width| &from[..width]);
                let y = &mut to[..layer.weights.outputs()];
                let (weights, bias) = (layer.weights.panels(), layer.bias.as_deref());
                gemv::forward(tier, x, weights, bias, layer.activation.elementwise(), y);
                width = Some(y.len());
            }
            let last = if self.predictor.layers.len().is_multiple_of(2) { &*odd } else { &*even };
            for (col, &value) in last.iter().enumerate().take(self.y.cols()) {
                self.y.set(row, col, value);
            }
        }
    }

    #[inline(never)]
    fn through(self, backend: &Backend) -> Result<()> {
        let Self { predictor, mut x, mut y, last, .. } = self;
        let mut kept = predictor.take_room(BLOCK.min(x.rows()));
        while x.rows() > 0 {
            let (block, block_y);
            (block, x) = x.split_at_row(BLOCK);
            (block_y, y) = y.split_at_row(BLOCK);
            predictor.block(backend, block, block_y, &mut kept, last)?;
        }
        keep_room(kept);
        Ok(())
    }
}

impl Predictor {
    fn block(
        &self,
        backend: &Backend,
        x: MatRef<'_>,
        mut y: MatMut<'_>,
        [from, to]: &mut [Vec<f32>; 2],
        last: Last,
    ) -> Result<()> {
        let rows = x.rows();
        let Some((output, inner)) = self.layers.split_last() else { return Ok(()) };
        let mut width = None;
        for layer in inner {
            let outputs = layer.weights.outputs();
            let input = match width {
                None => x,
                Some(width) => MatRef::new(&from[..rows * width], rows, width)?,
            };
            layer.forward(backend, input, MatMut::new(&mut to[..rows * outputs], rows, outputs)?)?;
            std::mem::swap(from, to);
            width = Some(outputs);
        }
        let input = match width {
            None => x,
            Some(width) => MatRef::new(&from[..rows * width], rows, width)?,
        };
        output.forward(backend, input, y.reborrow())?;
        self.finish(backend, y, last);
        Ok(())
    }

    /// Makes of the last layer's values what is asked for.
    fn finish(&self, backend: &Backend, y: MatMut<'_>, last: Last) {
        match (self.layers.last().map(|layer| layer.activation), last) {
            (Some(DenseActivation::Softmax), Last::Probabilities) => activation::softmax_in_place(backend, y),
            (Some(DenseActivation::Softmax), Last::LogProbabilities) => activation::log_softmax_in_place(backend, y),
            _ => {}
        }
    }
}

impl Packed {
    fn forward(&self, backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
        dense::forward(backend, x, &self.weights, self.bias.as_deref(), self.activation.elementwise(), y)
    }
}
