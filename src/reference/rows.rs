//! Softmax, log-softmax and cross-entropy.

use super::{at, exp, ln, rows};
use crate::error::Result;
use crate::labels::Labels;
use crate::matrix::{MatMut, MatRef};
use crate::parallel::LOSS_ROWS;
use crate::simd::ROW_LANES;
use crate::{activation, loss};

/// Folds element j of a row into partial j mod 16, and the partials in the fixed tree.
fn reduce(x: &[f32], start: f32, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut partials = [start; ROW_LANES];
    for (j, &x) in x.iter().enumerate() {
        partials[j % ROW_LANES] = op(x, partials[j % ROW_LANES]);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] = op(partials[i], partials[i + half]);
        }
    }
    partials[0]
}

fn row_sum(x: &[f32]) -> f32 {
    reduce(x, 0.0, |x, sum| x + sum)
}

/// A row's elements, in order.
fn row_of(x: MatRef<'_>, row: usize) -> Vec<f32> {
    (0..x.cols()).map(|col| at(x, row, col)).collect()
}

fn write_row(y: &mut MatMut<'_>, row: usize, values: impl IntoIterator<Item = f32>) {
    for (col, value) in values.into_iter().enumerate() {
        y.set(row, col, value);
    }
}

/// A row's maximum, NaNs left out; the exponentials of what the elements lack to it; their sum.
fn exponentials(x: &[f32]) -> (f32, Vec<f32>, f32) {
    let max = reduce(x, f32::NEG_INFINITY, |x, max| if x > max { x } else { max });
    let e: Vec<f32> = x.iter().map(|x| exp(x - max)).collect();
    let sum = row_sum(&e);
    (max, e, sum)
}

/// Softmax of each row: see [`activation::softmax`].
///
/// # Errors
/// As there.
pub fn softmax(x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("x", x)], ("y", &y))?;
    for row in rows(&y) {
        let (_, e, sum) = exponentials(&row_of(x, row));
        let scale = 1.0 / sum;
        write_row(&mut y, row, e.iter().map(|e| e * scale));
    }
    Ok(())
}

/// dx = y * (dy - sum(y * dy)): see [`activation::softmax_backward`].
///
/// # Errors
/// As there.
pub fn softmax_backward(y: MatRef<'_>, dy: MatRef<'_>, mut dx: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    for row in rows(&dx) {
        let (y, dy) = (row_of(y, row), row_of(dy, row));
        let products: Vec<f32> = y.iter().zip(&dy).map(|(y, dy)| y * dy).collect();
        let dot = row_sum(&products);
        write_row(&mut dx, row, y.iter().zip(&dy).map(|(y, dy)| y * (dy - dot)));
    }
    Ok(())
}

/// Log-softmax of each row: see [`activation::log_softmax`].
///
/// # Errors
/// As there.
pub fn log_softmax(x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("x", x)], ("y", &y))?;
    for row in rows(&y) {
        let x = row_of(x, row);
        let (max, _, sum) = exponentials(&x);
        write_row(&mut y, row, x.iter().map(|x| (x - max) - ln(sum)));
    }
    Ok(())
}

/// dx = dy - exp(y) * sum(dy): see [`activation::log_softmax_backward`].
///
/// # Errors
/// As there.
pub fn log_softmax_backward(y: MatRef<'_>, dy: MatRef<'_>, mut dx: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    for row in rows(&dx) {
        let (y, dy) = (row_of(y, row), row_of(dy, row));
        let sum = row_sum(&dy);
        write_row(&mut dx, row, y.iter().zip(&dy).map(|(&y, &dy)| exp(y).mul_add(-sum, dy)));
    }
    Ok(())
}

/// Mean cross-entropy and its gradient: see [`loss::cross_entropy`].
///
/// # Errors
/// As there.
pub fn cross_entropy<'a>(logits: MatRef<'_>, labels: impl Into<Labels<'a>>, mut dlogits: MatMut<'_>) -> Result<f32> {
    let labels = labels.into();
    loss::check_cross_entropy(logits, labels, &dlogits)?;
    let batch = logits.rows() as f32;
    let scale = 1.0 / batch;
    let mut losses = Vec::with_capacity(logits.rows());
    for row in 0..logits.rows() {
        let x = row_of(logits, row);
        let label = labels.get(row).unwrap_or(0);
        let (max, e, sum) = exponentials(&x);
        let reciprocal = 1.0 / sum;
        let p = e.iter().map(|e| e * reciprocal);
        write_row(&mut dlogits, row, p.enumerate().map(|(j, p)| (if j == label { p - 1.0 } else { p }) * scale));
        losses.push(ln(sum) - (x[label] - max));
    }
    Ok(tree_sum(&losses) / batch)
}

/// Adds groups of [`LOSS_ROWS`] in ascending order, and their sums in a binary tree.
fn tree_sum(losses: &[f32]) -> f32 {
    let groups = losses.len().div_ceil(LOSS_ROWS);
    if groups <= 1 {
        return losses.iter().fold(0.0, |sum, loss| sum + loss);
    }
    let (first, rest) = losses.split_at(groups.div_ceil(2) * LOSS_ROWS);
    tree_sum(first) + tree_sum(rest)
}
