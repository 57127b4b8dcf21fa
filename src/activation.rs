//! Activations on their own: ReLU element by element, softmax and log-softmax row by row.
//!
//! Every output has the shape of its inputs and is written whole; any strides will do. The meaning
//! of every bit is spelled in [`reference`](crate::reference).

use crate::backend::Backend;
use crate::dense::check_shape;
use crate::error::Result;
use crate::kernels::elementwise::{Exp, Ln, Relu, ReluBackward};
use crate::kernels::softmax::{LogSoftmax, LogSoftmaxBackward, Softmax, SoftmaxBackward};
use crate::kernels::{RowOp, Rows};
use crate::matrix::{MatMut, MatRef};

/// y = 0 where x < 0, else x. NaN and -0 stay as they are.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn relu(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    run(backend, Relu, [("x", x)], ("y", y), BY_ELEMENT)
}

/// dx = dy where y > 0, else 0: the gradient of ReLU is the unit step, here taken as 0 at 0.
///
/// `y` is ReLU's output; its input would do as well.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dx` is untouched then.
pub fn relu_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    run(backend, ReluBackward, [("y", y), ("dy", dy)], ("dx", dx), BY_ELEMENT)
}

/// y = exp(x), within [`EXP_ULP`](crate::math::EXP_ULP).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn exp(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    run(backend, Exp, [("x", x)], ("y", y), BY_EXP)
}

/// y = ln(x), within [`LN_ULP`](crate::math::LN_ULP). -inf at 0, NaN below 0.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn ln(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    run(backend, Ln, [("x", x)], ("y", y), BY_EXP)
}

/// Each row of y = exp(x - max) / sum(exp(x - max)): K values in 0..=1 that sum to 1.
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
    run(backend, Softmax, [("x", x)], ("y", y), BY_EXP)
}

/// dx = y * (dy - sum(y * dy)), row by row; `y` is softmax's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dx` is untouched then.
pub fn softmax_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    run(backend, SoftmaxBackward, [("y", y), ("dy", dy)], ("dx", dx), BY_ELEMENT)
}

/// Each row of y = (x - max) - ln(sum(exp(x - max))): the logarithm of softmax, without its
/// underflow. Rows with NaN and infinities as in [`softmax`].
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `y` is untouched then.
pub fn log_softmax(backend: &Backend, x: MatRef<'_>, y: MatMut<'_>) -> Result<()> {
    run(backend, LogSoftmax, [("x", x)], ("y", y), BY_EXP)
}

/// dx = dy - exp(y) * sum(dy), row by row; `y` is log-softmax's output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes differ; `dx` is untouched then.
pub fn log_softmax_backward(backend: &Backend, y: MatRef<'_>, dy: MatRef<'_>, dx: MatMut<'_>) -> Result<()> {
    run(backend, LogSoftmaxBackward, [("y", y), ("dy", dy)], ("dx", dx), BY_EXP)
}

/// Elements a nanosecond, about, of a pass that only loads, computes and stores.
const BY_ELEMENT: usize = 4;
/// Elements a nanosecond, about, where each takes an exponential or a logarithm.
const BY_EXP: usize = 1;

fn run<Op: RowOp<INPUTS>, const INPUTS: usize>(
    backend: &Backend,
    op: Op,
    inputs: [(&'static str, MatRef<'_>); INPUTS],
    (argument, output): (&'static str, MatMut<'_>),
    speed: usize,
) -> Result<()> {
    check_same(&inputs, (argument, &output))?;
    let cost = output.rows().saturating_mul(output.cols()) / speed;
    backend.run(cost, 1, Rows { op, inputs: inputs.map(|(_, input)| input), output });
    Ok(())
}

/// Checks that all matrices have the shape of the first.
pub(crate) fn check_same(inputs: &[(&'static str, MatRef<'_>)], output: (&'static str, &MatMut<'_>)) -> Result<()> {
    let shape = inputs.first().map_or([0, 0], |(_, x)| [x.rows(), x.cols()]);
    for (argument, input) in inputs {
        check_shape(argument, [input.rows(), input.cols()], shape)?;
    }
    check_shape(output.0, [output.1.rows(), output.1.cols()], shape)
}
