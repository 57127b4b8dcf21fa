//! Softmax, log-softmax and cross-entropy.

use std::ops::AddAssign;

use super::{at, exp, exp_summand, ln, rows};
use crate::activation;
use crate::contract::{LOSS_ROWS, ROW_LANES, ROW_PIECE};
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::loss::{CrossEntropy, Reduction};
use crate::math;
use crate::matrix::{MatMut, MatRef};
use crate::targets::Targets;

/// Adds element j of a row to partial j mod 16, and the partials in the fixed tree.
fn row_sum<T: Copy + Default + AddAssign>(x: &[T]) -> T {
    let mut partials = [T::default(); ROW_LANES];
    for (j, &x) in x.iter().enumerate() {
        partials[j % ROW_LANES] += x;
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            let other = partials[i + half];
            partials[i] += other;
        }
    }
    partials[0]
}

/// [`row_sum`] of pieces of [`ROW_PIECE`], added in the tree that [`statistics`] has.
pub(super) fn sum_of_pieces<T: Copy + Default + AddAssign>(x: &[T]) -> T {
    let pieces = x.len().div_ceil(ROW_PIECE);
    if pieces <= 1 {
        return row_sum(x);
    }
    let (left, right) = x.split_at(pieces.next_power_of_two() / 2 * ROW_PIECE);
    let mut sum = sum_of_pieces(left);
    sum += sum_of_pieces(right);
    sum
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
    (max, x.iter().map(|x| exp_summand(x - max)).collect(), sum)
}

/// A row's maximum, NaNs left out and no less than the least finite number, and the sum of the
/// exponentials of what the elements lack to it, 2^64 too large; pieces of [`ROW_PIECE`] have a maximum of their own.
fn statistics(x: &[f32]) -> (f32, f32) {
    let pieces = x.len().div_ceil(ROW_PIECE);
    if pieces <= 1 {
        let max = x.iter().fold(f32::MIN, |max, &x| if x > max { x } else { max });
        let e: Vec<f32> = x.iter().map(|x| exp_summand(x - max)).collect();
        return (max, row_sum(&e));
    }
    let (left, right) = x.split_at(pieces.next_power_of_two() / 2 * ROW_PIECE);
    let (left, right) = (statistics(left), statistics(right));
    let max = if left.0 > right.0 { left.0 } else { right.0 };
    let factor = |of_piece| exp_summand(of_piece - max) * math::UNSCALE;
    (max, left.1 * factor(left.0) + right.1 * factor(right.0))
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
        let dot = sum_of_pieces(&products);
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
        let sum = sum_of_pieces(&dy);
        write_row(&mut dx, row, y.iter().zip(&dy).map(|(&y, &dy)| exp(y).mul_add(-sum, dy)));
    }
    Ok(())
}

/// Cross-entropy and, if there is room for it, its gradient: see [`CrossEntropy`].
///
/// # Errors
/// As there.
pub fn cross_entropy<'a>(
    options: &CrossEntropy<'_>,
    logits: MatRef<'_>,
    targets: impl Into<Targets<'a>>,
    losses: Option<&mut [f32]>,
    mut dlogits: Option<MatMut<'_>>,
) -> Result<f32> {
    let targets = targets.into();
    let shape = [logits.rows(), logits.cols()];
    options.check(shape, targets, losses.as_deref())?;
    if let Some(dlogits) = &dlogits {
        check_shape("dlogits", [dlogits.rows(), dlogits.cols()], shape)?;
    }
    let weight = |class: usize| options.weights.map_or(1.0, |weights| weights[class]);
    let ignored = |label: usize| options.ignored == Some(label);
    let (keep, base) = (1.0 - options.smoothing, options.smoothing / logits.cols() as f32);

    let divisor: f64 = match (options.reduction, targets) {
        (Reduction::Sum, _) => 1.0,
        (_, Targets::Probabilities(_)) => logits.rows() as f64,
        (_, Targets::Labels(labels)) => {
            let counted = (0..labels.len()).filter_map(|row| labels.get(row)).filter(|&label| !ignored(label));
            counted.map(|label| f64::from(weight(label))).sum()
        }
    };
    let scale = if divisor == 0.0 { 0.0 } else { (1.0 / divisor).min(f32::MAX.into()) as f32 };

    let mut of_rows = Vec::with_capacity(logits.rows());
    for row in 0..logits.rows() {
        let x = row_of(logits, row);
        // What is spread over the classes, and what the label has besides.
        let (spread, label): (Vec<f32>, _) = match targets {
            Targets::Probabilities(t) => {
                let spread = row_of(t, row).into_iter().enumerate();
                (spread.map(|(class, t)| t.mul_add(keep, base) * weight(class)).collect(), None)
            }
            Targets::Labels(labels) => {
                let spread = (0..x.len()).map(|class| base * weight(class)).collect();
                let label = labels.get(row).filter(|&label| !ignored(label));
                (spread, label.map(|label| (label, keep * weight(label))))
            }
        };
        let (max, e, sum) = exponentials(&x);
        let reciprocal = 1.0 / sum;
        let (mut total, mut dot) = spread_sums(&x, &spread);
        if let Some((label, share)) = label {
            total += share;
            dot += part(share, x[label] - max);
        }
        let left_out = matches!(targets, Targets::Labels(_)) && (label.is_none() || total <= 0.0);
        let gradient = |class: usize| {
            let target = match label {
                Some((label, share)) if label == class => spread[class] + share,
                _ => spread[class],
            };
            (e[class] * reciprocal).mul_add(total * scale, target * -scale)
        };
        if let Some(dlogits) = &mut dlogits {
            write_row(dlogits, row, (0..x.len()).map(|class| if left_out { 0.0 } else { gradient(class) }));
        }
        of_rows.push(if left_out { 0.0 } else { total * ln(sum * math::UNSCALE) - dot });
    }
    if let Some(losses) = losses {
        losses.copy_from_slice(&of_rows);
    }
    Ok(if divisor == 0.0 { 0.0 } else { (f64::from(tree_sum(&of_rows)) / divisor) as f32 })
}

/// Multiplies what [`cross_entropy`] writes for a batch by the weights of samples: each row's loss, and each gradient by
/// its logits, which the mean has divided by the number of rows. Gives the batch's weighted loss: the sum of the rows' losses, added as
/// there, divided by the number of rows. `dlogits` is batch x classes. See
/// [`nn::Fit::sample_weights`](crate::nn::Fit::sample_weights).
///
/// # Errors
/// [`Error::Shape`] if `weights` or `losses` do not have an element for each row, [`Error::Value`] if there is no row;
/// nothing is written then.
pub fn weigh(weights: &[f32], losses: &mut [f32], mut dlogits: MatMut<'_>) -> Result<f32> {
    let batch = dlogits.rows();
    for (argument, len) in [("weights", weights.len()), ("losses", losses.len())] {
        if len != batch {
            return Err(Error::shape(argument, format_args!("{batch} elements, one a row"), len));
        }
    }
    if batch == 0 {
        return Err(Error::value("dlogits", "at least one row to take the mean over", "0 rows"));
    }
    for (row, (&weight, loss)) in weights.iter().zip(&mut *losses).enumerate() {
        *loss *= weight;
        let weighted: Vec<f32> = row_of(dlogits.as_ref(), row).iter().map(|gradient| gradient * weight).collect();
        write_row(&mut dlogits, row, weighted);
    }
    Ok((f64::from(tree_sum(losses)) / batch as f64) as f32)
}

/// The product of a target and what a logit lacks to the maximum; 0 where the target is, though that be infinite.
fn part(target: f32, below: f32) -> f32 {
    if target.abs() > 0.0 { target * below } else { 0.0 }
}

/// The sums of a row's targets, and of their [`part`]s, each below the maximum of its piece, as in [`statistics`].
fn spread_sums(x: &[f32], spread: &[f32]) -> (f32, f32) {
    let pieces = x.len().div_ceil(ROW_PIECE);
    let (max, _) = statistics(x);
    if pieces <= 1 {
        let parts: Vec<f32> = x.iter().zip(spread).map(|(x, &target)| part(target, x - max)).collect();
        return (row_sum(spread), row_sum(&parts));
    }
    let at = pieces.next_power_of_two() / 2 * ROW_PIECE;
    let ((left, right), (left_spread, right_spread)) = (x.split_at(at), spread.split_at(at));
    let (left_sums, right_sums) = (spread_sums(left, left_spread), spread_sums(right, right_spread));
    let left_dot = left_sums.1 + part(left_sums.0, statistics(left).0 - max);
    (left_sums.0 + right_sums.0, left_dot + (right_sums.1 + part(right_sums.0, statistics(right).0 - max)))
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
