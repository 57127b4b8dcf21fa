//! Activations on their own: element by element, or, as softmax and log-softmax, row by row.
//!
//! Every output has the shape of its inputs and is written whole; any strides will do. What ends in
//! `_in_place` has its result where an input stood. The meaning of every bit is spelled in
//! [`reference`](crate::reference).

use crate::backend::Backend;
use crate::contract::ROW_PIECE;
use crate::dense::check_shape;
use crate::error::Result;
use crate::kernels::activation::{Activation, Formula, Gradient, Value, Visit};
use crate::kernels::elementwise::{Exp, Ln};
use crate::kernels::softmax::{
    InRows, LogSoftmax, LogSoftmaxBackward, RowSums, RowWrite, Softmax, SoftmaxBackward, Softmaxes,
};
use crate::kernels::{Input, RowKernel, RowOp};
use crate::matrix::{MatMut, MatRef};
use crate::tuning::cost;

/// y = f(x), element by element; `activation` is f.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Value`](crate::Error::Value) if a
/// parameter of the activation is out of range; `y` is untouched then.
pub fn forward(backend: &Backend, activation: Activation, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    activation.check()?;
    activation.visit(Forward { backend, cost: cost_of(activation), x: Input::Matrix(x), y });
    Ok(())
}

/// y = f(y), element by element; `activation` is f.
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) if a parameter of the activation is out of range; `y` is untouched then.
pub fn forward_in_place(backend: &Backend, activation: Activation, y: MatMut<'_>) -> Result<()> {
    activation.check()?;
    activation.visit(Forward { backend, cost: cost_of(activation), x: Input::InPlace, y });
    Ok(())
}

/// dx = f'(x) dy, element by element; `activation` is f.
///
/// `saved` is what f saves for backward: its output, or, if it [saves its input](Activation::saves_input), x.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Value`](crate::Error::Value) if a
/// parameter of the activation is out of range; `dx` is untouched then.
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

/// [`backward`] with dx in the place of dy.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ, [`Error::Value`](crate::Error::Value) if a
/// parameter of the activation is out of range; `dy` is untouched then.
pub fn backward_in_place(backend: &Backend, activation: Activation, saved: MatRef<'_>, dy: MatMut<'_>) -> Result<()> {
    check_same(&[("saved", saved)], ("dy", &dy))?;
    activation.check()?;
    activation.visit(Backward { backend, cost: cost_of(activation), saved, dy: Input::InPlace, dx: dy });
    Ok(())
}

/// [`forward`] or [`forward_in_place`], of which the formula is missing.
struct Forward<'a> {
    backend: &'a Backend,
    cost: fn(usize) -> usize,
    x: Input<'a>,
    y: MatMut<'a>,
}

impl Visit for Forward<'_> {
    type Output = ();

    fn visit(self, formula: impl Formula) {
        run(self.backend, Value(formula), [self.x], self.y, self.cost);
    }
}

/// [`backward`] or [`backward_in_place`], of which the formula is missing.
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
        run(self.backend, Gradient(formula), [Input::Matrix(self.saved), self.dy], self.dx, self.cost);
    }
}

/// y = exp(x), element by element: within [`EXP_ULP`](crate::math::EXP_ULP), on the portable instruction set
/// [`PORTABLE_ULP`](crate::math::PORTABLE_ULP).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn exp(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    unary(backend, Exp, x, y)
}

/// y = ln(x), element by element: within [`LN_ULP`](crate::math::LN_ULP), on the portable instruction set
/// [`PORTABLE_ULP`](crate::math::PORTABLE_ULP). -inf at 0, NaN below 0.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn ln(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    unary(backend, Ln, x, y)
}

/// Each row of y = exp(x - max) / sum(exp(x - max)), max being the row's largest: K values in 0..=1 that sum to 1.
///
/// A row with NaN or +inf, or of nothing but -inf, gives NaN throughout. Source: Bridle,
/// "Probabilistic interpretation of feedforward classification network outputs" (1990).
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
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn softmax(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    rows(backend, Softmax, [Input::Matrix(x)], y, cost::exponential);
    Ok(())
}

/// [`softmax`] of y, in its place.
pub fn softmax_in_place(backend: &Backend, y: MatMut<'_>) {
    rows(backend, Softmax, [Input::InPlace], y, cost::exponential);
}

/// dx = y * (dy - sum(y * dy)), row by row; `y` is softmax's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dx` is untouched then.
pub fn softmax_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    rows(backend, SoftmaxBackward, [Input::Matrix(y), Input::Matrix(dy)], dx, cost::streaming);
    Ok(())
}

/// [`softmax_backward`] with dx in the place of dy.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dy` is untouched then.
pub fn softmax_backward_in_place(backend: &Backend, y: MatRef<'_>, dy: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y)], ("dy", &dy))?;
    rows(backend, SoftmaxBackward, [Input::Matrix(y), Input::InPlace], dy, cost::streaming);
    Ok(())
}

/// Each row of y = (x - max) - ln(sum(exp(x - max))): the logarithm of softmax, without its
/// underflow. Rows with NaN and infinities as in [`softmax`].
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn log_softmax(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    check_same(&[("x", x)], ("y", &y))?;
    rows(backend, LogSoftmax, [Input::Matrix(x)], y, cost::exponential);
    Ok(())
}

/// [`log_softmax`] of y, in its place.
pub fn log_softmax_in_place(backend: &Backend, y: MatMut<'_>) {
    rows(backend, LogSoftmax, [Input::InPlace], y, cost::exponential);
}

/// dx = dy - exp(y) * sum(dy), row by row; `y` is log-softmax's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dx` is untouched then.
pub fn log_softmax_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    rows(backend, LogSoftmaxBackward, [Input::Matrix(y), Input::Matrix(dy)], dx, cost::exponential);
    Ok(())
}

/// [`log_softmax_backward`] with dx in the place of dy.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dy` is untouched then.
pub fn log_softmax_backward_in_place(backend: &Backend, y: MatRef<'_>, dy: MatMut<'_>) -> Result<()> {
    check_same(&[("y", y)], ("dy", &dy))?;
    rows(backend, LogSoftmaxBackward, [Input::Matrix(y), Input::InPlace], dy, cost::exponential);
    Ok(())
}

/// The cost of an activation by the number of elements.
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

/// Runs an operation on rows: row by row, or, where there are fewer rows than threads and these are long, by the
/// columns of one row after another.
fn rows<const INPUTS: usize>(
    backend: &Backend,
    op: impl Softmaxes<INPUTS>,
    inputs: [Input<'_>; INPUTS],
    output: MatMut<'_>,
    cost: fn(usize) -> usize,
) {
    let (rows, cols) = (output.rows(), output.cols());
    if cols <= ROW_PIECE || rows >= backend.width() {
        return run(backend, InRows(op), inputs, output, cost);
    }
    let cost = cost(cols);
    let (mut inputs, mut output) = (inputs, output);
    for _ in 0..rows {
        let (mut row, rest) = output.split_at_row(1);
        let of_row = inputs.map(|input| input.split_at_row(1).0);
        inputs = inputs.map(|input| input.split_at_row(1).1);
        output = rest;
        let read = of_row.map(|input| match input {
            Input::Matrix(matrix) => matrix,
            Input::InPlace => row.as_ref(),
        });
        let sums = backend.sum(cost, ROW_PIECE, RowSums { op, inputs: read });
        backend.run(cost, ROW_PIECE, RowWrite { op, sums, inputs: of_row, output: row.reborrow() });
    }
}

/// Checks that all matrices have the shape of the first.
pub(crate) fn check_same(inputs: &[(&'static str, MatRef<'_>)], output: (&'static str, &MatMut<'_>)) -> Result<()> {
    let shape = inputs.first().map_or([0, 0], |(_, x)| [x.rows(), x.cols()]);
    for (argument, input) in inputs {
        check_shape(argument, [input.rows(), input.cols()], shape)?;
    }
    check_shape(output.0, [output.1.rows(), output.1.cols()], shape)
}
