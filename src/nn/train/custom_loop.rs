//! What custom training loops are made of: gradients, by the model's loss or another, and a step by gradients.

use crate::error::{Error, Result};
use crate::matrix::{MatMut, MatRef};
use crate::nn::layers::dropout::Masks;
use crate::nn::model::Sequential;
use crate::nn::train::batches::{Batch, Source};
use crate::nn::train::workspace::Workspace;
use crate::targets::Labels;

impl Sequential {
    /// The mean loss of a batch, and its gradient by every parameter, in the order of
    /// [`parameters`](Self::parameters), written to `gradients`; nothing is learnt, and what the optimizer makes
    /// of gradients, such as clipping, is not done yet: that is [`step`](Self::step)'s. [Dropouts](super::Dropout) drop what
    /// they will drop in the next step.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate) of samples and labels, and [`Error::Shape`] if `gradients` does not have
    /// [`count_params`](Self::count_params) elements; `gradients` is untouched then.
    pub fn gradients<'a>(
        &mut self,
        x: MatRef<'_>,
        labels: impl Into<Labels<'a>>,
        gradients: &mut [f32],
    ) -> Result<f32> {
        let labels = labels.into();
        self.check_samples(x, labels)?;
        self.check_gradients(gradients)?;
        let masks = self.next_masks();
        let Self { plan, parameters, backend, kept, .. } = self;
        let workspace = Workspace::without_owners(&mut kept.workspace, backend, plan, x.rows());
        let (loss, _) = workspace.through(
            backend,
            (plan, parameters, masks),
            Source::Ready(Batch { x, labels, weights: &[] }),
            None,
        )?;
        workspace.gradients(backend, plan, x, gradients)?;
        Ok(loss)
    }

    /// The gradients of any loss by every parameter, in the order of [`parameters`](Self::parameters), written to
    /// `gradients`; gives what `loss` gives.
    ///
    /// `loss` gets the last layer's outputs for these samples, batch x [`outputs`](Self::outputs), and writes the
    /// gradient by them to a matrix of the same shape, which holds zeros at first; whether a mean is taken over
    /// the batch is up to it. If the last activation is softmax, outputs are the logits, before softmax.
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
    /// [`Error::Shape`] or [`Error::Value`] if `x` does not fit the model or is empty; [`Error::Shape`] if `gradients`
    /// does not have [`count_params`](Self::count_params) elements; and those of `loss`. `gradients` is untouched then.
    pub fn gradients_with<T>(
        &mut self,
        x: MatRef<'_>,
        loss: impl FnOnce(MatRef<'_>, MatMut<'_>) -> Result<T>,
        gradients: &mut [f32],
    ) -> Result<T> {
        self.check_batch(x)?;
        self.check_gradients(gradients)?;
        let masks = self.next_masks();
        let Self { plan, parameters, backend, kept, .. } = self;
        let workspace = Workspace::without_owners(&mut kept.workspace, backend, plan, x.rows());
        let value = workspace.through_with(backend, (plan, parameters, masks), x, loss)?;
        workspace.gradients(backend, plan, x, gradients)?;
        Ok(value)
    }

    /// One step of the optimizer by the gradients of all parameters, in the order of [`parameters`](Self::parameters):
    /// with L2, clipping and weight decay, if it has them. [`gradients`](Self::gradients) and then this gives the
    /// bits of [`train_on_batch`](Self::train_on_batch).
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
    /// let mean: Vec<f32> = first.iter().zip(&second).map(|(first, second)| (first + second) / 2.0).collect();
    /// model.step(&mean)?; // in both
    /// # Ok::<(), densely::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Shape`] if there are not [`count_params`](Self::count_params) gradients. Nothing
    /// is learnt then.
    pub fn step(&mut self, gradients: &[f32]) -> Result<()> {
        self.check_gradients(gradients)?;
        let Self { plan, parameters, backend, state, .. } = self;
        let state = state.as_mut().ok_or(Error::NotCompiled)?;
        state.step_by(backend, plan.iter().map(|layer| layer.kernel.clone()), parameters, gradients);
        Ok(())
    }

    /// What the next step drops.
    fn next_masks(&self) -> Masks {
        Masks { seed: self.seed, step: self.iterations().unwrap_or_default(), row: 0 }
    }

    fn check_gradients(&self, gradients: &[f32]) -> Result<()> {
        let count = self.count_params();
        if gradients.len() == count {
            return Ok(());
        }
        Err(Error::shape("gradients", format_args!("{count} elements"), gradients.len()))
    }
}
