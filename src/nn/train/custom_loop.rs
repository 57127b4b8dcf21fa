//! Custom training loops: gradients of the model's loss or of any other, and the optimizer's step on
//! gradients.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::matrix::{MatMut, MatRef};
use crate::nn::arena::ArenaValues;
use crate::nn::layers::interface::DropoutKey;
use crate::nn::metrics::Metrics;
use crate::nn::plan::{NetworkParameters, Plan};
use crate::nn::sequential::Sequential;
use crate::nn::train::batch_rows::Network;
use crate::nn::train::batches::{Batch, BatchSource};
use crate::nn::train::scratch::{Scratch, is_layerwise};
use crate::nn::train::shards::even;
use crate::nn::train::step::{ModelParts, Trainer};
use crate::parallel::threads::Threads;
use crate::targets::Labels;
use crate::tuning::train::ROW_GRAIN;

impl Sequential {
    /// One step of the optimizer on a batch; the metrics are those before the step.
    ///
    /// # Errors
    /// [`Error::NotCompiled`], and as [`evaluate`](Self::evaluate) of samples and labels; nothing is changed
    /// then.
    pub fn train_on_batch<'a>(&mut self, x: MatRef<'_>, labels: impl Into<Labels<'a>>) -> Result<Metrics> {
        let labels = labels.into();
        self.check_samples(x, labels)?;
        let Self { plan, loss, parameters, backend, state, seed, cached, .. } = self;
        let state = state.as_mut().ok_or(Error::NotCompiled)?;
        let scratch = Scratch::reuse_unsharded(&mut cached.scratch, backend, plan, x.rows());
        let parts = ModelParts { backend, plan, loss: *loss, parameters, state, seed: *seed };
        let mut trainer = Trainer::new(parts, scratch);
        let before = trainer.forward_backward(BatchSource::Ready(Batch { x, labels, weights: &[] }), None)?;
        trainer.update(x, None)?;
        Ok(Metrics { loss: before.loss, accuracy: before.correct as f32 / x.rows() as f32 })
    }

    /// The mean loss of a batch, and its gradient with respect to every parameter, in the order of
    /// [`parameters`](Self::parameters), written to `gradients`.
    ///
    /// No parameter is changed, and what the optimizer makes of gradients, such as clipping, is not done yet:
    /// that is [`step`](Self::step)'s. [Dropouts](crate::nn::Dropout) drop what they will drop in the next
    /// step.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate) of samples and labels, and [`Error::Shape`] if `gradients` does not
    /// have [`count_params`](Self::count_params) elements; `gradients` is untouched then.
    pub fn gradients<'a>(
        &mut self,
        x: MatRef<'_>,
        labels: impl Into<Labels<'a>>,
        gradients: &mut [f32],
    ) -> Result<f32> {
        let labels = labels.into();
        self.check_samples(x, labels)?;
        self.check_gradients(gradients)?;
        let dropout = self.next_dropout();
        let Self { plan, loss, parameters, backend, cached, .. } = self;
        let scratch = Scratch::reuse_unsharded(&mut cached.scratch, backend, plan, x.rows());
        let network = Network { plan, parameters, loss: *loss, dropout };
        let batch = BatchSource::Ready(Batch { x, labels, weights: &[] });
        let loss = scratch.forward_backward(backend, network, batch, None)?.loss;
        scratch.gradients(backend, plan, x, gradients)?;
        Ok(loss)
    }

    /// The gradients of any loss with respect to every parameter, in the order of
    /// [`parameters`](Self::parameters), written to `gradients`; returns what `loss` returns.
    ///
    /// `loss` gets the last layer's outputs for these samples, batch x [`outputs`](Self::outputs), and writes
    /// the gradient with respect to them to a matrix of the same shape, which holds zeros at first; whether a
    /// mean is taken over the batch is up to it. If the last activation is softmax, outputs are the logits,
    /// before softmax.
    ///
    /// A custom loss, the mean squared error:
    ///
    /// ```
    /// use densely::nn::{Activation, Dense, Sequential, Sgd};
    /// use densely::{MatMut, MatRef};
    ///
    /// let mut model = Sequential::builder(1).layer(Dense::new(1, Activation::Linear)).build()?;
    /// model.compile(Sgd::default().learning_rate(0.1))?;
    /// let (x, targets) = ([0.0, 1.0, 2.0], [1.0, 3.0, 5.0]); // 2 x + 1
    /// let squared_error = |y: MatRef<'_>, mut dy: MatMut<'_>| {
    ///     let mut loss = 0.0;
    ///     for (row, target) in targets.iter().enumerate() {
    ///         let error = y.get(row, 0).unwrap_or(f32::NAN) - target;
    ///         loss += error * error / 3.0;
    ///         dy.set(row, 0, 2.0 * error / 3.0);
    ///     }
    ///     Ok(loss)
    /// };
    /// let mut gradients = vec![0.0; model.count_params()];
    /// for _ in 0..200 {
    ///     model.gradients_with(MatRef::new(&x, 3, 1)?, squared_error, &mut gradients)?;
    ///     model.step(&gradients)?;
    /// }
    /// let [slope, intercept] = model.parameters() else { panic!() };
    /// assert!((slope - 2.0).abs() < 0.01 && (intercept - 1.0).abs() < 0.01);
    /// # Ok::<(), densely::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Value`] if `x` does not fit the model or is empty; [`Error::Shape`] if
    /// `gradients` does not have [`count_params`](Self::count_params) elements; and those of `loss`.
    /// `gradients` is untouched then.
    pub fn gradients_with<T>(
        &mut self,
        x: MatRef<'_>,
        loss: impl FnOnce(MatRef<'_>, MatMut<'_>) -> Result<T>,
        gradients: &mut [f32],
    ) -> Result<T> {
        self.check_batch(x)?;
        self.check_gradients(gradients)?;
        let dropout = self.next_dropout();
        let Self { plan, loss: own_loss, parameters, backend, cached, .. } = self;
        let scratch = Scratch::reuse_unsharded(&mut cached.scratch, backend, plan, x.rows());
        let network = Network { plan, parameters, loss: *own_loss, dropout };
        let value = scratch.forward_backward_with(backend, network, x, loss)?;
        scratch.gradients(backend, plan, x, gradients)?;
        Ok(value)
    }

    /// One step of the optimizer on the gradients with respect to all parameters, in the order of
    /// [`parameters`](Self::parameters): with L2, clipping and weight decay, if it has them.
    /// [`gradients`](Self::gradients) and then this gives the bits of
    /// [`train_on_batch`](Self::train_on_batch).
    ///
    /// Data-parallel training: each of several processes has the same model and a part of the batch.
    ///
    /// ```
    /// use densely::MatRef;
    /// use densely::nn::{Activation, Adam, Clip, Dense, Optimizer, Sequential};
    ///
    /// let mut model = Sequential::builder(2).layer(Dense::new(2, Activation::Softmax)).build()?;
    /// model.compile(Optimizer::from(Adam::default()).clip(Clip::GlobalNorm(1.0)))?;
    /// let (x, labels) = ([1.0, 0.0, 0.0, 1.0, 2.0, 1.0, 1.0, 2.0], [0u8, 1, 0, 1]);
    /// let mut first = vec![0.0; model.count_params()];
    /// let mut second = first.clone();
    /// model.gradients(MatRef::new(&x[..4], 2, 2)?, &labels[..2], &mut first)?; // in one process
    /// model.gradients(MatRef::new(&x[4..], 2, 2)?, &labels[2..], &mut second)?; // in another
    /// let mean: Vec<f32> = first.iter().zip(&second).map(|(a, b)| (a + b) / 2.0).collect();
    /// model.step(&mean)?; // in both
    /// # Ok::<(), densely::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Shape`] if there are not [`count_params`](Self::count_params)
    /// gradients. Nothing is changed then.
    pub fn step(&mut self, gradients: &[f32]) -> Result<()> {
        self.check_gradients(gradients)?;
        let Self { plan, parameters, backend, state, .. } = self;
        let state = state.as_mut().ok_or(Error::NotCompiled)?;
        state.step_by(backend, plan.kernels(), parameters, gradients);
        Ok(())
    }

    /// The key of what the next step drops.
    fn next_dropout(&self) -> DropoutKey {
        DropoutKey { seed: self.seed, step: self.iterations().unwrap_or_default(), row: 0 }
    }

    fn check_gradients(&self, gradients: &[f32]) -> Result<()> {
        let count = self.count_params();
        if gradients.len() == count {
            return Ok(());
        }
        Err(Error::shape("gradients", format_args!("{count} elements"), gradients.len()))
    }
}

impl Scratch {
    /// Passes a batch through the network, softmax left out, and back from the gradient with respect to its
    /// outputs that `loss` writes, over zeros. There are no column shards.
    fn forward_backward_with<T>(
        &mut self,
        backend: &Backend,
        Network { plan, parameters, dropout, .. }: Network<'_>,
        x: MatRef<'_>,
        loss: impl FnOnce(MatRef<'_>, MatMut<'_>) -> Result<T>,
    ) -> Result<T> {
        let Self { arena, values, threads, .. } = self;
        let (nodes, at_row) = (plan.all(), |row| DropoutKey { row, ..dropout });
        let mut rows = arena.rows(&mut values[0], x.rows())?;
        by_rows(backend, plan, *threads, x, rows.reborrow(), |backend, Rows { row, x, values }| {
            let mut values = ArenaValues { arena, samples: x, rows: values };
            plan.forward(backend, nodes.clone(), NetworkParameters::Flat(parameters), at_row(row), &mut values)
        })?;
        let (outputs, mut doutputs) = arena.outputs_and_gradient(rows.reborrow());
        for row in 0..doutputs.rows() {
            (0..doutputs.cols()).for_each(|col| _ = doutputs.set(row, col, 0.0));
        }
        let value = loss(outputs, doutputs)?;
        by_rows(backend, plan, *threads, x, rows, |backend, Rows { row, values, .. }| {
            plan.backward(backend, parameters, at_row(row), arena, values)
        })?;
        Ok(value)
    }
}

/// Some samples and their rows of the arena.
struct Rows<'a> {
    /// The first one's number in the batch.
    row: usize,
    x: MatRef<'a>,
    values: MatMut<'a>,
}

/// Does work on the rows of a batch, split over threads as [`Scratch::forward_backward`] splits them.
fn by_rows(
    backend: &Backend,
    plan: &Plan,
    threads: usize,
    mut x: MatRef<'_>,
    mut values: MatMut<'_>,
    work: impl Fn(&Backend, Rows<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let (batch, nodes) = (x.rows(), plan.all());
    if is_layerwise(plan, nodes.clone(), threads) {
        return work(backend, Rows { row: 0, x, values });
    }
    let parts = even(batch, ROW_GRAIN, threads).filter(|rows| !rows.is_empty()).map(|rows| {
        let first;
        (first, x) = x.split_at_row(rows.len());
        Rows { row: rows.start, x: first, values: values.take_rows(rows.len()) }
    });
    let serial = backend.with_threads(Threads::One);
    backend.share(plan.cost(nodes, batch), parts, |rows| work(&serial, rows))
}
