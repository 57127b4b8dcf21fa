//! Dense (fully connected) layers: y = activation(x w + b), and back.
//!
//! Shapes: `x` is batch x inputs, `w` inputs x outputs, `b` (`bias`) outputs, `y` batch x outputs.
//! Gradients have a `d` before the name and the shape of what they belong to. Weights stored as
//! (outputs, inputs) are passed as a transposed view, [`MatRef::t`]. Any strides will do; matrices
//! whose columns are neighbours are fastest. Results replace what stood in their place: none is added to it.
//!
//! On the way back, `dy` is the gradient by x w + b, before the activation. The `gate` of the next layer's
//! [`backward_input`] gives that, or [`activation::backward`](crate::activation::backward).
//!
//! The meaning of every bit is spelled in [`reference`](crate::reference).

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gemm::epilogue::Epilogue;
use crate::gemm::packed::{BOperand, Weights};
use crate::gemm::product::{Axis, Bias, Product, Sizes, Summation};
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};
use crate::tuning::cost;
use crate::tuning::gemm::{COL_GRAIN, ROW_GRAIN, SPLIT_COLS_B};

/// y = activation(x w + bias), in one pass.
///
/// `x` is batch x inputs, `w` inputs x outputs, `bias` outputs (none stands for zeros), `y` batch
/// x outputs; all of `y` is written. A batch of 0 is legal. `w` is a [`MatRef`], or, where the same
/// weights serve many calls, a reference to [`PackedWeights`](crate::PackedWeights). The way back through an activation
/// that [keeps its input](Activation::saves_input) needs x w + bias: for that, call this with [`Activation::Linear`],
/// then [`activation::forward`](crate::activation::forward).
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
/// [`Error::Shape`] if the shapes do not fit, [`Error::Value`] if a parameter of the activation is
/// out of range; `y` is untouched then.
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

/// dx = dy wᵀ, and, where there is a `gate`, that times the derivative of an activation.
///
/// `dy` is batch x outputs, `w` inputs x outputs, `dx` batch x inputs. `gate` is the activation that
/// this layer's input `x` came out of, with what that keeps: `x` itself, or, if it
/// [keeps its input](Activation::saves_input), what it was applied to. The call then goes back through
/// it in the same pass. The matrix has the shape of `dx`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit, [`Error::Value`] if a parameter of the activation is
/// out of range; `dx` is untouched then.
pub fn backward_input(
    backend: &Backend,
    dy: MatRef<'_>,
    w: MatRef<'_>,
    gate: Option<(Activation, MatRef<'_>)>,
    dx: MatMut<'_>,
) -> Result<()> {
    check_backward_input(dy, w, gate, &dx)?;
    let epilogue = gate.map_or(Epilogue::None, |(activation, kept)| Epilogue::Gradient(activation, kept));
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

/// dw = xᵀ dy and db = the column sums of dy.
///
/// `x` is batch x inputs, `dy` batch x outputs, `dw` inputs x outputs, `db` outputs (none if the
/// layer has no bias). They are sums over the batch, not means: scale `dy`, as
/// [`cross_entropy`](crate::loss::cross_entropy) does. A batch of 0 gives zeros. The sum is taken
/// in chunks of [`CHUNK_ROWS`](crate::CHUNK_ROWS) rows, whatever the number of threads.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit; `dw` and `db` are untouched then.
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

/// Runs a product, whose time on one thread is taken to be that at 100 GFLOP/s; to read B for a single
/// row, or to write C for a few steps of the depth, takes longer than that.
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
    let Some((activation, kept)) = gate else { return Ok(()) };
    activation.check()?;
    check_shape("gate", [kept.rows(), kept.cols()], [dx.rows(), dx.cols()])
}

pub(crate) fn check_backward_params(x: MatRef<'_>, dy: MatRef<'_>, dw: &MatMut<'_>, db: Option<&[f32]>) -> Result<()> {
    check_shape("dy", [dy.rows(), dy.cols()], [x.rows(), dy.cols()])?;
    check_shape("dw", [dw.rows(), dw.cols()], [x.cols(), dy.cols()])?;
    check_len("db", db, dy.cols())
}

/// Compares a shape with what the other arguments ask for.
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
