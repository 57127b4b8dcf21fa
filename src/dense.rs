//! Dense (fully connected) layers: forward and backward pass.
//!
//! | call | computes |
//! |---|---|
//! | [`forward`] | y = activation(x w + bias) |
//! | [`backward_params`] | dw = xᵀ dy, db = column sums of dy |
//! | [`backward_input`] | dx = dy wᵀ, with a `gate` also times the derivative of an activation |
//!
//! `x` is batch x inputs, `w` inputs x outputs, `bias` has one element per output, and `y` is batch x
//! outputs. A gradient is named after its variable with a `d` in front, and has its shape. Pass weights
//! stored as outputs x inputs as a transposed view, [`MatRef::t`]. All strides are supported; row-major
//! matrices with contiguous rows are fastest. Outputs are overwritten, never accumulated into.
//!
//! `dy` is the gradient of the loss with respect to x w + bias, that is, before the activation. The loss of
//! the last layer gives it directly ([`loss`](crate::loss)). For a hidden layer it is the `dx` of the layer
//! above, computed with that hidden layer's activation as the `gate`.
//!
//! [`reference`](crate::reference) defines the result of every call, bit for bit.
//!
//! # Example: training two layers
//!
//! The exclusive or of two inputs, by gradient descent on the whole batch:
//!
//! ```
//! use densely::{Activation, Backend, MatMut, MatRef, dense, loss};
//!
//! fn main() -> densely::Result<()> {
//!     let (batch, inputs, hidden, classes) = (4, 2, 8, 2);
//!     let x = MatRef::new(&[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], batch, inputs)?;
//!     let labels = [0u8, 1, 1, 0];
//!
//!     let initial = |i: usize| (1.7 * i as f32).sin();
//!     let (mut w1, mut b1) = ((0..inputs * hidden).map(initial).collect::<Vec<_>>(), vec![0.0; hidden]);
//!     let (mut w2, mut b2) = ((0..hidden * classes).map(initial).collect::<Vec<_>>(), vec![0.0; classes]);
//!     let (mut dw1, mut db1, mut dw2, mut db2) = (w1.clone(), b1.clone(), w2.clone(), b2.clone());
//!     let (mut h, mut dh) = (vec![0.0; batch * hidden], vec![0.0; batch * hidden]);
//!     let (mut logits, mut dlogits) = (vec![0.0; batch * classes], vec![0.0; batch * classes]);
//!
//!     let backend = Backend::new()?;
//!     let mut losses = Vec::new();
//!     for _ in 0..200 {
//!         // Forward: h = tanh(x w1 + b1), logits = h w2 + b2.
//!         let y = MatMut::new(&mut h, batch, hidden)?;
//!         dense::forward(&backend, x, MatRef::new(&w1, inputs, hidden)?, Some(&b1), Activation::Tanh, y)?;
//!         let h = MatRef::new(&h, batch, hidden)?;
//!         let w2_view = MatRef::new(&w2, hidden, classes)?;
//!         let y = MatMut::new(&mut logits, batch, classes)?;
//!         dense::forward(&backend, h, w2_view, Some(&b2), Activation::Linear, y)?;
//!
//!         // The loss, and its gradient with respect to the logits.
//!         let dy = MatMut::new(&mut dlogits, batch, classes)?;
//!         losses.push(loss::cross_entropy(&backend, MatRef::new(&logits, batch, classes)?, &labels, dy)?);
//!
//!         // Backward through the second layer, then through the first one's tanh by the gate:
//!         // dh is the gradient with respect to x w1 + b1.
//!         let dy = MatRef::new(&dlogits, batch, classes)?;
//!         dense::backward_params(&backend, h, dy, MatMut::new(&mut dw2, hidden, classes)?, Some(&mut db2))?;
//!         let gate = Some((Activation::Tanh, h));
//!         dense::backward_input(&backend, dy, w2_view, gate, MatMut::new(&mut dh, batch, hidden)?)?;
//!         let dy = MatRef::new(&dh, batch, hidden)?;
//!         dense::backward_params(&backend, x, dy, MatMut::new(&mut dw1, inputs, hidden)?, Some(&mut db1))?;
//!
//!         for (values, gradients) in [(&mut w1, &dw1), (&mut b1, &db1), (&mut w2, &dw2), (&mut b2, &db2)] {
//!             values.iter_mut().zip(gradients).for_each(|(value, gradient)| *value -= 0.5 * gradient);
//!         }
//!     }
//!     assert!(losses[0] > 0.5 && losses[199] < 0.05);
//!     Ok(())
//! }
//! ```

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gemm::epilogue::Epilogue;
use crate::gemm::packed::{BOperand, Weights};
use crate::gemm::product::{Bias, Product, Sizes, Summation};
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};
use crate::split_at::Axis;
use crate::tuning::cost;
use crate::tuning::gemm::{COL_GRAIN, ROW_GRAIN, SPLIT_COLS_B};

/// Computes y = activation(x w + bias) in one pass.
///
/// `x` is batch x inputs, `w` inputs x outputs, `bias` has one element per output (`None` means zeros), and
/// `y` is batch x outputs. A batch of 0 is allowed. `w` is a [`MatRef`], or a reference to
/// [`PackedWeights`](crate::PackedWeights) if the same weights serve many calls.
///
/// The backward pass of an activation that [saves its input](Activation::saves_input) needs x w + bias. To
/// keep it, call this function with [`Activation::Linear`], then
/// [`activation::forward`](crate::activation::forward).
///
/// ```
/// use densely::{Activation, Backend, MatMut, MatRef, dense};
/// let x = [1.0, 2.0];                // 1 x 2
/// let w = [1.0, -1.0, 0.5, 3.0, 0.0, -2.0]; // 2 x 3
/// let mut y = [0.0; 3];
/// dense::forward(
///     &Backend::new()?,
///     MatRef::new(&x, 1, 2)?,
///     MatRef::new(&w, 2, 3)?,
///     Some(&[0.0, 0.5, 1.0]),
///     Activation::Relu,
///     MatMut::new(&mut y, 1, 3)?,
/// )?;
/// assert_eq!(y, [7.0, 0.0, 0.0]);
/// # Ok::<(), densely::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match, [`Error::Value`] if a parameter of the activation is out of
/// range. `y` is left unchanged then.
pub fn forward<'a>(
    backend: &Backend,
    x: MatRef<'_>,
    w: impl Into<Weights<'a>>,
    bias: Option<&[f32]>,
    activation: Activation,
    y: MatMut<'_>,
) -> Result<()> {
    let Weights(w) = w.into();
    activation.check()?;
    check_forward(x, [w.rows(), w.cols()], bias, &y)?;
    run(
        backend,
        Product {
            a: x,
            b: w,
            c: y,
            bias: bias.map_or(Bias::None, Bias::Columns),
            summation: Summation::Running,
            epilogue: Epilogue::Activation(activation),
            column_sums: None,
            split: Axis::Rows,
        },
    );
    Ok(())
}

/// Computes dx = dy wᵀ, and with a `gate` multiplies it by the derivative of an activation.
///
/// `dy` is batch x outputs, `w` inputs x outputs, `dx` batch x inputs. `gate` is the activation that produced
/// this layer's input `x`, and the values it saved for backward: `x` itself, or the activation's input if
/// [`saves_input`](Activation::saves_input) says so, as a matrix with the shape of `dx`. The gate fuses that
/// activation's backward pass into this call, so that `dx` is the `dy` of the layer below. [The module's
/// example](self#example-training-two-layers) shows it.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match, [`Error::Value`] if a parameter of the activation is out of
/// range. `dx` is left unchanged then.
pub fn backward_input(
    backend: &Backend,
    dy: MatRef<'_>,
    w: MatRef<'_>,
    gate: Option<(Activation, MatRef<'_>)>,
    dx: MatMut<'_>,
) -> Result<()> {
    check_backward_input(dy, w, gate, &dx)?;
    let epilogue = gate.map_or(Epilogue::None, |(activation, saved)| Epilogue::Gradient(activation, saved));
    run(
        backend,
        Product {
            a: dy,
            b: BOperand::Strided(w.t()),
            c: dx,
            bias: Bias::None,
            summation: Summation::Running,
            epilogue,
            column_sums: None,
            split: Axis::Rows,
        },
    );
    Ok(())
}

/// Computes dw = xᵀ dy and db = the column sums of dy.
///
/// `x` is batch x inputs, `dy` batch x outputs, `dw` inputs x outputs, and `db` has one element per output
/// (`None` for a layer without bias). Both are sums over the batch, not means: the loss scales `dy`, as
/// [`cross_entropy`](crate::loss::cross_entropy) does. A batch of 0 gives zeros. The batch is summed in
/// chunks of [`CHUNK_ROWS`](crate::CHUNK_ROWS) rows, so the result does not depend on the number of threads.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match. `dw` and `db` are left unchanged then.
pub fn backward_params(
    backend: &Backend,
    x: MatRef<'_>,
    dy: MatRef<'_>,
    dw: MatMut<'_>,
    db: Option<&mut [f32]>,
) -> Result<()> {
    check_backward_params(x, dy, &dw, db.as_deref())?;
    run(
        backend,
        Product {
            a: x.t(),
            b: BOperand::Strided(dy),
            c: dw,
            bias: Bias::None,
            summation: Summation::Chunked,
            epilogue: Epilogue::None,
            column_sums: db,
            split: Axis::Rows,
        },
    );
    Ok(())
}

/// Runs a product, split over threads by rows of C, or by columns if C has few rows or B is large.
fn run(backend: &Backend, mut product: Product<'_>) {
    let Sizes { m, n, k } = product.sizes();
    if m <= ROW_GRAIN || (n > m && k.saturating_mul(n) > SPLIT_COLS_B) {
        product.split = Axis::Columns;
    }
    let unit = if product.split == Axis::Rows { ROW_GRAIN } else { COL_GRAIN };
    backend.run(cost::product(m, n, k), unit, product);
}

pub(crate) fn check_forward(
    x: MatRef<'_>,
    [inputs, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    y: &MatMut<'_>,
) -> Result<()> {
    check_shape("w", [inputs, outputs], [x.cols(), outputs])?;
    check_len("bias", bias, outputs)?;
    check_shape("y", [y.rows(), y.cols()], [x.rows(), outputs])
}

pub(crate) fn check_backward_input(
    dy: MatRef<'_>,
    w: MatRef<'_>,
    gate: Option<(Activation, MatRef<'_>)>,
    dx: &MatMut<'_>,
) -> Result<()> {
    check_shape("w", [w.rows(), w.cols()], [w.rows(), dy.cols()])?;
    check_shape("dx", [dx.rows(), dx.cols()], [dy.rows(), w.rows()])?;
    let Some((activation, saved)) = gate else { return Ok(()) };
    activation.check()?;
    check_shape("gate", [saved.rows(), saved.cols()], [dx.rows(), dx.cols()])
}

pub(crate) fn check_backward_params(x: MatRef<'_>, dy: MatRef<'_>, dw: &MatMut<'_>, db: Option<&[f32]>) -> Result<()> {
    check_shape("dy", [dy.rows(), dy.cols()], [x.rows(), dy.cols()])?;
    check_shape("dw", [dw.rows(), dw.cols()], [x.cols(), dy.cols()])?;
    check_len("db", db, dy.cols())
}

/// Checks a shape against the one that the other arguments imply.
pub(crate) fn check_shape(argument: &'static str, found: [usize; 2], expected: [usize; 2]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let text = |[rows, cols]: [usize; 2]| format!("{rows} x {cols}");
    Err(Error::shape(argument, text(expected), text(found)))
}

fn check_len(argument: &'static str, found: Option<&[f32]>, expected: usize) -> Result<()> {
    match found {
        Some(found) if found.len() != expected => {
            Err(Error::shape(argument, format_args!("{expected} elements"), format_args!("{} elements", found.len())))
        }
        _ => Ok(()),
    }
}
