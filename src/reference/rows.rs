//! Softmax, log-softmax and cross-entropy.

use super::{at, exp, exp_scaled, ln, rows};
use crate::error::Result;
use crate::kernels::LOSS_ROWS;
use crate::kernels::softmax::ROW_PIECE;
use crate::labels::Labels;
use crate::math;
use crate::matrix::{MatMut, MatRef};
use crate::simd::ROW_LANES;
use crate::{activation, loss};

/// Adds element j of a row to partial j mod 16, and the partials in the fixed tree.
fn row_sum(x: &[f32]) -> f32 {
    let mut partials = [0.0; ROW_LANES];
    for (j, &x) in x.iter().enumerate() {
        partials[j % ROW_LANES] += x;
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            partials[i] += partials[i + half];
        }
    }
    partials[0]
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

/// A row's maximum, the exponentials of what the elements lack to it, and their sum; both 2^64 too large.
fn exponentials(x: &[f32]) -> (f32, Vec<f32>, f32) {
    let (max, sum) = statistics(x);
    (max, x.iter().map(|x| exp_scaled(x - max)).collect(), sum)
}

/// A row's maximum, NaNs left out and no less than the least finite number, and the sum of the
/// exponentials of what the elements lack to it, 2^64 too large; pieces of [`ROW_PIECE`] have a maximum of their own.
fn statistics(x: &[f32]) -> (f32, f32) {
    let pieces = x.len().div_ceil(ROW_PIECE);
    if pieces <= 1 {
        let max = x.iter().fold(f32::MIN, |max, &x| if x > max { x } else { max });
        let e: Vec<f32> = x.iter().map(|x| exp_scaled(x - max)).collect();
        return (max, row_sum(&e));
    }
    let (left, right) = x.split_at(pieces.next_power_of_two() / 2 * ROW_PIECE);
    let (left, right) = (statistics(left), statistics(right));
    let max = if left.0 > right.0 { left.0 } else { right.0 };
    (max, left.1 * exp(left.0 - max) + right.1 * exp(right.0 - max))
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
        write_row(&mut y, row, x.iter().map(|x| (x - max) - ln(sum * math::UNSCALE)));
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
        losses.push(ln(sum * math::UNSCALE) - (x[label] - max));
    }
    Ok(tree_sum(&losses) / batch)
}

/// Adds groups of [`LOSS_ROWS`] in ascending order, and their sums in a binary tree, whose first part
/// has the largest power of 2 groups that leaves some.
fn tree_sum(losses: &[f32]) -> f32 {
    let groups = losses.len().div_ceil(LOSS_ROWS);
    if groups <= 1 {
        return losses.iter().copied().reduce(|sum, loss| sum + loss).unwrap_or(0.0);
    }
    let (first, rest) = losses.split_at(groups.next_power_of_two() / 2 * LOSS_ROWS);
    tree_sum(first) + tree_sum(rest)
}
