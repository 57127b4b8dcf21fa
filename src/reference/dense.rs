//! Dense layers.

use super::activation::{gradient, value};
use super::{at, rows};
use crate::contract::CHUNK_ROWS;
use crate::dense;
use crate::error::Result;
use crate::kernels::activation::Activation;
use crate::matrix::{MatMut, MatRef};

/// y = activation(x w + bias): see [`dense::forward`].
///
/// # Errors
/// As there.
pub fn dense_forward(
    x: MatRef<'_>,
    w: MatRef<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    mut y: MatMut<'_>,
) -> Result<()> {
    activation.check()?;
    dense::check_forward(x, [w.rows(), w.cols()], bias, &y)?;
    for row in rows(&y) {
        for o in 0..y.cols() {
            let mut acc = bias.map_or(0.0, |bias| bias[o]);
            for k in 0..x.cols() {
                acc = at(x, row, k).mul_add(at(w, k, o), acc);
            }
            y.set(row, o, value(activation, acc));
        }
    }
    Ok(())
}

/// dx = dy wᵀ, times the derivative of the gate's activation: see [`dense::backward_input`].
///
/// # Errors
/// As there.
pub fn dense_backward_input(
    dy: MatRef<'_>,
    w: MatRef<'_>,
    gate: Option<(Activation, MatRef<'_>)>,
    mut dx: MatMut<'_>,
) -> Result<()> {
    dense::check_backward_input(dy, w, gate, &dx)?;
    for row in rows(&dx) {
        for k in 0..dx.cols() {
            let mut acc = 0.0;
            for o in 0..dy.cols() {
                acc = at(dy, row, o).mul_add(at(w, k, o), acc);
            }
            let dx_k = gate.map_or(acc, |(activation, saved)| gradient(activation, at(saved, row, k), acc));
            dx.set(row, k, dx_k);
        }
    }
    Ok(())
}

/// dw = xᵀ dy and db = the column sums of dy: see [`dense::backward_params`].
///
/// # Errors
/// As there.
pub fn dense_backward_params(x: MatRef<'_>, dy: MatRef<'_>, mut dw: MatMut<'_>, db: Option<&mut [f32]>) -> Result<()> {
    dense::check_backward_params(x, dy, &dw, db.as_deref())?;
    for k in rows(&dw) {
        for o in 0..dw.cols() {
            let term = |row, acc| at(x, row, k).mul_add(at(dy, row, o), acc);
            dw.set(k, o, chunked_sum(x.rows(), term));
        }
    }
    for (o, sum) in db.into_iter().flatten().enumerate() {
        *sum = chunked_sum(x.rows(), |row, acc| acc + at(dy, row, o));
    }
    Ok(())
}

/// Sums the terms of a batch: rows of a chunk in ascending order, then the chunks' sums likewise.
fn chunked_sum(rows: usize, term: impl Fn(usize, f32) -> f32) -> f32 {
    let chunk = |first: usize| (first..rows.min(first + CHUNK_ROWS)).fold(0.0, |acc, row| term(row, acc));
    let rest = (CHUNK_ROWS..rows).step_by(CHUNK_ROWS);
    rest.fold(chunk(0), |sum, first| sum + chunk(first))
}
