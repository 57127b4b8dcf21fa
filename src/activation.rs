//! Activations on their own: element by element, and softmax and log-softmax row by row.
//!
//! [`dense::forward`](crate::dense::forward) fuses an element-wise activation into the layer, and
//! [`dense::backward_input`](crate::dense::backward_input) its backward pass. Call these functions if the
//! activation's input has to be saved ([`Activation::saves_input`]), or for work that is no dense layer.
//!
//! Every output has the shape of its inputs and is overwritten; all strides are supported. Functions ending
//! in `_in_place` overwrite their last argument. [`reference`](crate::reference) defines each result, bit for
//! bit.
//!
//! ```
//! use densely::{Activation, Backend, MatMut, MatRef, activation};
//!
//! fn main() -> densely::Result<()> {
//!     let backend = Backend::new()?;
//!     let (x, dy) = ([-1.0, 2.0], [1.0, 1.0]);
//!     let (mut y, mut dx) = ([0.0; 2], [0.0; 2]);
//!     let x = MatRef::new(&x, 1, 2)?;
//!     activation::forward(&backend, Activation::Silu, x, MatMut::new(&mut y, 1, 2)?)?;
//!     // SiLU saves its input for backward; ReLU or tanh would save their output y.
//!     assert!(Activation::Silu.saves_input());
//!     let (dy, dx_view) = (MatRef::new(&dy, 1, 2)?, MatMut::new(&mut dx, 1, 2)?);
//!     activation::backward(&backend, Activation::Silu, x, dy, dx_view)?;
//!     assert!((dx[1] - 1.0908).abs() < 1e-4);
//!     Ok(())
//! }
//! ```

use crate::backend::Backend;
use crate::contract::ROW_PIECE;
use crate::dense::check_shape;
use crate::error::Result;
use crate::kernels::activation::Activation;
use crate::kernels::activation_formulas::{ActivationGradient, ActivationValue, Formula, Visit};
use crate::kernels::elementwise::{Exp, Ln};
use crate::kernels::softmax::driver::ReduceRows;
use crate::kernels::softmax::row_reduction::{LogSoftmax, LogSoftmaxBackward, RowReduction, Softmax, SoftmaxBackward};
use crate::kernels::softmax::split_row::{FinishRow, RowSum};
use crate::kernels::{Input, RowKernel, RowOp};
use crate::matrix::{MatMut, MatRef};
use crate::split_at::{Axis, SplitAt};
use crate::tuning::cost;

/// Computes y = f(x) element by element, where f is the `activation`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Value`](crate::Error::Value) if a
/// parameter of the activation is out of range. `y` is left unchanged then.
pub fn forward(backend: &Backend, activation: Activation, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    activation.check()?;
    activation.visit(Forward { backend, cost: cost_of(activation), x: Input::Matrix(x), y });
    Ok(())
}

/// Replaces y by f(y) element by element, where f is the `activation`.
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) if a parameter of the activation is out of range. `y` is left
/// unchanged then.
pub fn forward_in_place(backend: &Backend, activation: Activation, y: MatMut<'_>) -> Result<()> {
    activation.check()?;
    activation.visit(Forward { backend, cost: cost_of(activation), x: Input::InPlace, y });
    Ok(())
}

/// Computes dx = f'(x) dy element by element, where f is the `activation`.
///
/// `saved` is what the forward pass saved for backward: f's output, or f's input if
/// [`saves_input`](Activation::saves_input) says so.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Value`](crate::Error::Value) if a
/// parameter of the activation is out of range. `dx` is left unchanged then.
pub fn backward(
    backend: &Backend,
    activation: Activation,
    saved: MatRef<'_>,
    dy: MatRef<'_>,
    dx: MatMut<'_>,
) -> Result<()> {
    check_same(&[("saved", saved), ("dy", dy)], ("dx", &dx))?;
    activation.check()?;
    activation.visit(Backward { backend, cost: cost_of(activation), saved, dy: Input::Matrix(dy), dx });
    Ok(())
}

/// [`backward`] that overwrites dy with dx.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Value`](crate::Error::Value) if a
/// parameter of the activation is out of range. `dy` is left unchanged then.
pub fn backward_in_place(backend: &Backend, activation: Activation, saved: MatRef<'_>, dy: MatMut<'_>) -> Result<()> {
    check_same(&[("saved", saved)], ("dy", &dy))?;
    activation.check()?;
    activation.visit(Backward { backend, cost: cost_of(activation), saved, dy: Input::InPlace, dx: dy });
    Ok(())
}

/// The arguments of [`forward`] and [`forward_in_place`], which run once the formula is known.
struct Forward<'a> {
    backend: &'a Backend,
    cost: fn(usize) -> usize,
    x: Input<'a>,
    y: MatMut<'a>,
}

impl Visit for Forward<'_> {
    type Output = ();

    fn visit(self, formula: impl Formula) {
        run(self.backend, ActivationValue(formula), [self.x], self.y, self.cost);
    }
}

/// The arguments of [`backward`] and [`backward_in_place`], which run once the formula is known.
struct Backward<'a> {
    backend: &'a Backend,
    cost: fn(usize) -> usize,
    saved: MatRef<'a>,
    dy: Input<'a>,
    dx: MatMut<'a>,
}

impl Visit for Backward<'_> {
    type Output = ();

    fn visit(self, formula: impl Formula) {
        run(self.backend, ActivationGradient(formula), [Input::Matrix(self.saved), self.dy], self.dx, self.cost);
    }
}

/// Computes y = exp(x) element by element.
///
/// The error is at most [`EXP_ULP`](crate::math::EXP_ULP), on the portable instruction set
/// [`PORTABLE_ULP`](crate::math::PORTABLE_ULP).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `y` is left unchanged then.
pub fn exp(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    unary(backend, Exp, x, y)
}

/// Computes y = ln(x) element by element: -inf at 0, NaN below 0.
///
/// The error is at most [`LN_ULP`](crate::math::LN_ULP), on the portable instruction set
/// [`PORTABLE_ULP`](crate::math::PORTABLE_ULP).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `y` is left unchanged then.
pub fn ln(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    unary(backend, Ln, x, y)
}

/// Computes the softmax of each row: y = exp(x - max) / sum(exp(x - max)), where max is the row's maximum.
///
/// The values of a row are in 0..=1 and sum to 1. A row that contains NaN or +inf, or only -inf, becomes NaN.
/// Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990).
///
/// ```
/// use densely::{Backend, MatMut, MatRef, activation};
/// let logits = [1.0, 2.0, 3.0];
/// let mut y = [0.0; 3];
/// activation::softmax(&Backend::new()?, MatRef::new(&logits, 1, 3)?, MatMut::new(&mut y, 1, 3)?)?;
/// assert!((y.iter().sum::<f32>() - 1.0).abs() < 1e-6);
/// # Ok::<(), densely::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `y` is left unchanged then.
pub fn softmax(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    rows(backend, Softmax, [Input::Matrix(x)], y, cost::exponential);
    Ok(())
}

/// [`softmax`] that overwrites its input.
pub fn softmax_in_place(backend: &Backend, y: MatMut<'_>) {
    rows(backend, Softmax, [Input::InPlace], y, cost::exponential);
}

/// Computes softmax's gradient row by row: dx = y * (dy - sum(y * dy)), where `y` is softmax's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `dx` is left unchanged then.
pub fn softmax_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    rows(backend, SoftmaxBackward, [Input::Matrix(y), Input::Matrix(dy)], dx, cost::streaming);
    Ok(())
}

/// [`softmax_backward`] that overwrites dy with dx.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `dy` is left unchanged then.
pub fn softmax_backward_in_place(backend: &Backend, y: MatRef<'_>, dy: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y)], ("dy", &dy))?;
    rows(backend, SoftmaxBackward, [Input::Matrix(y), Input::InPlace], dy, cost::streaming);
    Ok(())
}

/// Computes the logarithm of the softmax of each row: y = (x - max) - ln(sum(exp(x - max))).
///
/// It stays finite where softmax underflows to 0. Rows with NaN or infinities are treated as in [`softmax`].
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `y` is left unchanged then.
pub fn log_softmax(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    rows(backend, LogSoftmax, [Input::Matrix(x)], y, cost::exponential);
    Ok(())
}

/// [`log_softmax`] that overwrites its input.
pub fn log_softmax_in_place(backend: &Backend, y: MatMut<'_>) {
    rows(backend, LogSoftmax, [Input::InPlace], y, cost::exponential);
}

/// Computes log-softmax's gradient row by row: dx = dy - exp(y) * sum(dy), where `y` is log-softmax's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `dx` is left unchanged then.
pub fn log_softmax_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    rows(backend, LogSoftmaxBackward, [Input::Matrix(y), Input::Matrix(dy)], dx, cost::exponential);
    Ok(())
}

/// [`log_softmax_backward`] that overwrites dy with dx.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ. `dy` is left unchanged then.
pub fn log_softmax_backward_in_place(backend: &Backend, y: MatRef<'_>, dy: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y)], ("dy", &dy))?;
    rows(backend, LogSoftmaxBackward, [Input::Matrix(y), Input::InPlace], dy, cost::exponential);
    Ok(())
}

/// Returns the cost function of an activation: nanoseconds for a number of elements.
fn cost_of(activation: Activation) -> fn(usize) -> usize {
    match activation {
        Activation::Linear | Activation::Relu | Activation::LeakyRelu { .. } => cost::streaming,
        _ => cost::exponential,
    }
}

fn unary(backend: &Backend, op: impl RowOp<1>, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    run(backend, op, [Input::Matrix(x)], y, cost::exponential);
    Ok(())
}

fn run<const INPUTS: usize>(
    backend: &Backend,
    op: impl RowOp<INPUTS>,
    inputs: [Input<'_>; INPUTS],
    output: MatMut<'_>,
    cost: fn(usize) -> usize,
) {
    let elements = output.rows().saturating_mul(output.cols());
    backend.run(cost(elements), 1, RowKernel { op, inputs, output });
}

/// Runs a row reduction, split over threads by rows, or by columns if there are fewer long rows than threads.
fn rows<const INPUTS: usize>(
    backend: &Backend,
    op: impl RowReduction<INPUTS>,
    inputs: [Input<'_>; INPUTS],
    output: MatMut<'_>,
    cost: fn(usize) -> usize,
) {
    let (rows, cols) = (output.rows(), output.cols());
    if cols <= ROW_PIECE || rows >= backend.width() {
        return run(backend, ReduceRows(op), inputs, output, cost);
    }
    let cost = cost(cols);
    let (mut inputs, mut output) = (inputs, output);
    for _ in 0..rows {
        let (row_inputs, mut row_output);
        (row_inputs, inputs) = inputs.split_along(Axis::Rows, 1);
        (row_output, output) = output.split_along(Axis::Rows, 1);
        let read = row_inputs.map(|input| match input {
            Input::Matrix(matrix) => matrix,
            Input::InPlace => row_output.as_ref(),
        });
        let sum = backend.sum(cost, ROW_PIECE, RowSum { op, inputs: read });
        backend.run(cost, ROW_PIECE, FinishRow { op, sum, inputs: row_inputs, output: row_output.reborrow() });
    }
}

/// Checks that all matrices have the shape of the first one.
pub(crate) fn check_same(inputs: &[(&'static str, MatRef<'_>)], output: (&'static str, &MatMut<'_>)) -> Result<()> {
    let shape = inputs.first().map_or([0, 0], |(_, x)| [x.rows(), x.cols()]);
    for (argument, input) in inputs {
        check_shape(argument, [input.rows(), input.cols()], shape)?;
    }
    check_shape(output.0, [output.1.rows(), output.1.cols()], shape)
}
