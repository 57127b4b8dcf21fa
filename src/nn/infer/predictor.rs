//! `Predictor`: a model made ready for inference, its weights packed.
//!
//! ```text
//! few samples           one by one, a GEMV a layer: planning a product would take longer than computing it
//! more                  blocks of rows through all layers; threads share the blocks
//! few, large weights    layer by layer, threads share the columns: one would wait for DRAM
//! ```

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use crate::activation;
use crate::backend::Backend;
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::gemm::gemv;
use crate::kernels::{Kernel, Split};
use crate::matrix::{MatMut, MatRef};
use crate::nn::activation::DenseActivation;
use crate::nn::arena::Values;
use crate::nn::layers::Node;
use crate::nn::layers::interface::{DropoutKey, ForwardSlots, PackedParameters};
use crate::nn::plan::{NetworkParameters, Plan};
use crate::nn::sequential::Sequential;
use crate::parallel::threads::Threads;
use crate::simd::tier::Tier;
use crate::split_at::{Axis, split_fields};
use crate::tuning::cost;
use crate::tuning::infer::{BLOCK, GEMV_SAMPLES, GEMV_WEIGHTS, ROW_GRAIN, SPLIT_COLS_WEIGHTS};

/// A trained model's layers with their weights packed for forward calls: its predictions have the same bits
/// as [`Sequential::predict_into`]'s.
///
/// Many threads may call it at once. Batches are shared between the threads of the caller's rayon pool, as
/// [`Threads`] says, and small ones stay on the calling thread, unless the network has 2^20 weights or more:
/// then the columns of each layer are shared for fewer than 16 samples, since one thread would wait for
/// memory. Each thread keeps the memory of the layers' values for the next call, so that no call allocates
/// once its thread has seen as many samples at a time, but on [`Isa::Portable`](crate::Isa::Portable), whose
/// products are `matrixmultiply`'s.
///
/// ```
/// use densely::nn::{Activation, Dense, Predictor, Sequential};
/// use densely::{MatMut, MatRef};
/// let model = Sequential::builder(2)
///     .layer(Dense::new(8, Activation::Relu))
///     .layer(Dense::new(3, Activation::Softmax))
///     .build()?;
/// let predictor = Predictor::new(&model);
/// let (x, mut y) = ([0.5, -1.0], [0.0; 3]);
/// predictor.predict_into(MatRef::new(&x, 1, 2)?, MatMut::new(&mut y, 1, 3)?)?;
/// assert_eq!(y[..], model.predict(MatRef::new(&x, 1, 2)?)?);
/// # Ok::<(), densely::Error>(())
/// ```
#[derive(Clone)]
pub struct Predictor {
    plan: Plan,
    /// Of each node of the plan.
    parameters: Vec<PackedParameters>,
    backend: Backend,
    inputs: usize,
    outputs: usize,
    /// The most outputs of a layer.
    widest: usize,
    /// Nanoseconds of a sample on one thread.
    cost: usize,
    /// Elements of all kernels.
    weights: usize,
    /// Up to this number of samples pass one by one; none where products are `matrixmultiply`'s, or a node is
    /// not dense.
    gemv_samples: usize,
}

impl fmt::Debug for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Predictor({} -> {}, {} weights, {:?})", self.inputs, self.outputs, self.weights, self.backend)
    }
}

/// What is computed from the outputs of a last layer whose activation is softmax.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OutputKind {
    Probabilities,
    LogProbabilities,
    Logits,
}

impl Predictor {
    /// Copies a model's parameters and backend; training the model afterwards changes nothing here.
    #[must_use]
    pub fn new(model: &Sequential) -> Self {
        let (mut plan, mut parameters) = (Plan::default(), Vec::new());
        for (number, node) in model.plan.nodes().iter().enumerate().filter(|(_, node)| node.runs_in_inference()) {
            plan.push(node.clone());
            parameters.push(node.pack(&model.parameters[model.plan.range(number)]));
        }
        let weights = plan.kernel_elements(plan.all());
        let backend = model.backend().clone();
        let few = if weights <= GEMV_WEIGHTS { GEMV_SAMPLES } else { usize::from(weights < SPLIT_COLS_WEIGHTS) };
        let is_dense = plan.nodes().iter().all(|node| matches!(node, Node::Dense(_)));
        Self {
            gemv_samples: if backend.has_fma() && is_dense { few } else { 0 },
            backend,
            inputs: model.inputs(),
            outputs: model.outputs(),
            widest: plan.nodes().iter().map(|node| node.outputs()).max().unwrap_or(0),
            cost: weights / cost::FMAS_PER_NS + cost::LAYER_CALL * plan.nodes().len(),
            weights,
            plan,
            parameters,
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
        self.run(x, y, OutputKind::Probabilities)
    }

    /// The logarithms of the probabilities, in nats. Shapes are those of
    /// [`predict_into`](Self::predict_into).
    ///
    /// # Errors
    /// As there, and [`Error::Value`] if the last layer's activation is not softmax.
    pub fn log_probabilities_into(&self, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
        self.check_softmax()?;
        self.run(x, y, OutputKind::LogProbabilities)
    }

    /// The last layer's values before softmax. Shapes are those of [`predict_into`](Self::predict_into).
    ///
    /// # Errors
    /// As there, and [`Error::Value`] if the last layer's activation is not softmax.
    pub fn logits_into(&self, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
        self.check_softmax()?;
        self.run(x, y, OutputKind::Logits)
    }

    fn check_softmax(&self) -> Result<()> {
        match self.plan.output_activation() {
            DenseActivation::Softmax => Ok(()),
            other => Err(Error::value("activation", "softmax in the last layer", other.name())),
        }
    }

    fn run(&self, x: MatRef<'_>, y: MatMut<'_>, output: OutputKind) -> Result<()> {
        check_shape("x", [x.rows(), x.cols()], [x.rows(), self.inputs])?;
        check_shape("y", [y.rows(), y.cols()], [x.rows(), self.outputs])?;
        let failed = OnceLock::new();
        let prediction = Prediction { predictor: self, x, y, output, failed: &failed };
        if x.rows() < 2 * ROW_GRAIN && self.weights >= SPLIT_COLS_WEIGHTS {
            return prediction.by_blocks(&self.backend);
        }
        self.backend.run(x.rows().saturating_mul(self.cost), ROW_GRAIN, prediction);
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Computes what is wanted from the last layer's values, in place.
    fn finish(&self, backend: &Backend, y: MatMut<'_>, output: OutputKind) {
        match (self.plan.output_activation(), output) {
            (DenseActivation::Softmax, OutputKind::Probabilities) => activation::softmax_in_place(backend, y),
            (DenseActivation::Softmax, OutputKind::LogProbabilities) => activation::log_softmax_in_place(backend, y),
            _ => {}
        }
    }
}

/// The prediction of some samples; threads share it by rows.
struct Prediction<'a> {
    predictor: &'a Predictor,
    x: MatRef<'a>,
    y: MatMut<'a>,
    output: OutputKind,
    /// The first error of any part.
    failed: &'a OnceLock<Error>,
}

impl Kernel for Prediction<'_> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(mut self, tier: T) {
        let serial = self.predictor.backend.with_threads(Threads::One);
        if self.x.rows() <= self.predictor.gemv_samples && self.x.row(0).is_some() {
            let mut buffers = LayerBuffers::take(self.predictor.widest);
            self.one_by_one(tier, &mut buffers);
            buffers.keep();
            self.predictor.finish(&serial, self.y, self.output);
            return;
        }
        let failed = self.failed;
        if let Err(error) = self.by_blocks(&serial) {
            let _ = failed.set(error);
        }
    }
}

impl Split for Prediction<'_> {
    fn len(&self) -> usize {
        self.x.rows()
    }

    fn split(self, at: usize) -> (Self, Self) {
        split_fields!(self, Axis::Rows, at, [x, y])
    }
}

impl Prediction<'_> {
    /// Passes each sample through all layers by itself, softmax left out. Samples are contiguous.
    #[inline(always)]
    fn one_by_one<T: Tier>(&mut self, tier: T, LayerBuffers([even, odd]): &mut LayerBuffers) {
        let Predictor { plan, parameters, .. } = self.predictor;
        for (row, x) in (0..self.x.rows()).filter_map(|row| Some((row, self.x.row(row)?))) {
            let mut width = None;
            let dense = plan.nodes().iter().zip(parameters).filter_map(|(node, parameters)| match node {
                Node::Dense(node) => Some((node, parameters.kernel.as_ref()?, &parameters.others)),
                _ => None,
            });
            for (number, (node, kernel, bias)) in dense.enumerate() {
                let (from, to) = if number.is_multiple_of(2) { (&*odd, &mut *even) } else { (&*even, &mut *odd) };
                let x = width.map_or(x, |width| &from[..width]);
                let y = &mut to[..node.outputs];
                let bias = node.has_bias.then_some(&bias[..]);
                gemv::forward(tier, x, kernel.panels(), bias, node.activation.elementwise(), y);
                width = Some(y.len());
            }
            let last = if plan.nodes().len().is_multiple_of(2) { &*odd } else { &*even };
            for (col, &value) in last.iter().enumerate().take(self.y.cols()) {
                self.y.set(row, col, value);
            }
        }
    }

    /// Passes the samples through all layers, a block of rows at a time.
    #[inline(never)]
    fn by_blocks(self, backend: &Backend) -> Result<()> {
        let Self { predictor, mut x, mut y, output, .. } = self;
        let Predictor { plan, parameters, widest, .. } = predictor;
        let (nodes, parameters) = (plan.all(), NetworkParameters::Packed(parameters));
        let mut buffers = LayerBuffers::take(widest * BLOCK.min(x.rows()));
        while x.rows() > 0 {
            let (block, mut block_y);
            (block, x) = x.split_at_row(BLOCK);
            (block_y, y) = y.split_at_row(BLOCK);
            let mut values = BlockValues { plan, x: block, y: block_y.reborrow(), buffers: &mut buffers };
            plan.forward(backend, nodes.clone(), parameters, DropoutKey::default(), &mut values)?;
            predictor.finish(backend, block_y, output);
        }
        buffers.keep();
        Ok(())
    }
}

/// Values of a block of samples: those of a node with an even number in the first buffer, the others in the
/// second, the last node's in `y`.
struct BlockValues<'a> {
    plan: &'a Plan,
    x: MatRef<'a>,
    y: MatMut<'a>,
    buffers: &'a mut LayerBuffers,
}

impl Values for BlockValues<'_> {
    fn forward_slots(&mut self, node: usize) -> Result<Option<ForwardSlots<'_>>> {
        let (nodes, rows) = (self.plan.nodes(), self.x.rows());
        let LayerBuffers([even, odd]) = &mut *self.buffers;
        let (to, from) = if node.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let x = match node.checked_sub(1).map(|below| nodes[below].outputs()) {
            None => self.x,
            Some(width) => MatRef::new(&from[..rows * width], rows, width)?,
        };
        let width = nodes[node].outputs();
        let is_last = node + 1 == nodes.len();
        let y = if is_last { self.y.reborrow() } else { MatMut::new(&mut to[..rows * width], rows, width)? };
        Ok(Some(ForwardSlots { x, saved: None, y }))
    }
}

/// Memory for the values before and after a layer.
#[derive(Default)]
struct LayerBuffers([Vec<f32>; 2]);

thread_local! {
    /// This thread's, kept so that no call of a known size allocates.
    static CACHED: Cell<LayerBuffers> = const { Cell::new(LayerBuffers([Vec::new(), Vec::new()])) };
}

impl LayerBuffers {
    /// Takes this thread's, with `len` elements each, whatever they hold.
    fn take(len: usize) -> Self {
        // A thread that is ending has no buffers any more.
        let mut buffers = CACHED.try_with(Cell::take).unwrap_or_default();
        for buffer in &mut buffers.0 {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        }
        buffers
    }

    /// Keeps them for the thread's next call.
    fn keep(self) {
        let _ = CACHED.try_with(|cached| cached.set(self));
    }
}
