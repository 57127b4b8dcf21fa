//! Softmax, log-softmax and cross-entropy.

use std::ops::AddAssign;

use super::math::{exp, exp_summand, ln};
use super::{at, rows};
use crate::activation;
use crate::contract::{LOSS_ROWS, ROW_LANES, ROW_PIECE};
use crate::dense::check_shape;
use crate::error::{Error, Result};
use crate::loss::{CrossEntropy, Reduction};
use crate::math;
use crate::matrix::{MatMut, MatRef};
use crate::targets::Targets;

/// Sums a row: element j into partial j mod 16, then the partials in a fixed tree.
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

/// Sums a row of any length: [`row_sum`] of pieces of [`ROW_PIECE`], then pairwise, in the tree of
/// [`statistics`].
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

/// Copies a row.
fn row_of(x: MatRef<'_>, row: usize) -> Vec<f32> {
    (0..x.cols()).map(|col| at(x, row, col)).collect()
}

fn write_row(y: &mut MatMut<'_>, row: usize, values: impl IntoIterator<Item = f32>) {
    for (col, value) in values.into_iter().enumerate() {
        y.set(row, col, value);
    }
}

/// Computes a row's max, each exp(x - max) 2^64, and their sum.
fn exponentials(x: &[f32]) -> (f32, Vec<f32>, f32) {
    let (max, sum) = statistics(x);
    (max, x.iter().map(|x| exp_summand(x - max)).collect(), sum)
}

/// Computes a row's max and sum(exp(x - max)) 2^64.
///
/// The max ignores NaN, and is at least the smallest finite number. Each piece of [`ROW_PIECE`] elements has
/// a max of its own; two sums are rescaled to the larger of theirs and added.
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
    let factor = |piece_max| exp_summand(piece_max - max) * math::UNSCALE;
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

/// Cross-entropy, with its gradient if `dlogits` is given: see [`CrossEntropy`].
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

    let mut row_losses = Vec::with_capacity(logits.rows());
    for row in 0..logits.rows() {
        let x = row_of(logits, row);
        // The soft target of each class, and the label with what its target has besides.
        let (soft, label): (Vec<f32>, _) = match targets {
            Targets::Probabilities(t) => {
                let targets = row_of(t, row).into_iter().enumerate();
                (targets.map(|(class, t)| t.mul_add(keep, base) * weight(class)).collect(), None)
            }
            Targets::Labels(labels) => {
                let soft = (0..x.len()).map(|class| base * weight(class)).collect();
                let label = labels.get(row).filter(|&label| !ignored(label));
                (soft, label.map(|label| (label, keep * weight(label))))
            }
        };
        let (max, e, sum) = exponentials(&x);
        let reciprocal = 1.0 / sum;
        let (mut total, mut dot) = target_sums(&x, &soft);
        if let Some((label, share)) = label {
            total += share;
            dot += term(share, x[label] - max);
        }
        let left_out = matches!(targets, Targets::Labels(_)) && (label.is_none() || total <= 0.0);
        let gradient = |class: usize| {
            let target = match label {
                Some((label, share)) if label == class => soft[class] + share,
                _ => soft[class],
            };
            (e[class] * reciprocal).mul_add(total * scale, target * -scale)
        };
        if let Some(dlogits) = &mut dlogits {
            write_row(dlogits, row, (0..x.len()).map(|class| if left_out { 0.0 } else { gradient(class) }));
        }
        row_losses.push(if left_out { 0.0 } else { total * ln(sum * math::UNSCALE) - dot });
    }
    if let Some(losses) = losses {
        losses.copy_from_slice(&row_losses);
    }
    Ok(if divisor == 0.0 { 0.0 } else { (f64::from(pairwise_sum(&row_losses)) / divisor) as f32 })
}

/// Multiplies each row's loss, and its gradient with respect to the logits, by the weight of its sample.
///
/// They are those that [`cross_entropy`] writes for a batch, the gradient divided by the number of rows for
/// the mean. Gives the batch's weighted loss: the sum of the rows' losses, in the order of [`cross_entropy`],
/// divided by the number of rows. `dlogits` is batch x classes. See
/// [`nn::Fit::sample_weights`](crate::nn::Fit::sample_weights).
///
/// # Errors
/// [`Error::Shape`] if `weights` or `losses` do not have an element for each row, [`Error::Value`] if there
/// is no row; nothing is written then.
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
    Ok((f64::from(pairwise_sum(losses)) / batch as f64) as f32)
}

/// Multiplies a target by its logit's x - max; 0 where the target is 0, even if x - max is infinite.
fn term(target: f32, below: f32) -> f32 {
    if target.abs() > 0.0 { target * below } else { 0.0 }
}

/// Sums a row's targets, and their [`term`]s, each relative to the max of its piece, as in [`statistics`].
fn target_sums(x: &[f32], targets: &[f32]) -> (f32, f32) {
    let pieces = x.len().div_ceil(ROW_PIECE);
    let (max, _) = statistics(x);
    if pieces <= 1 {
        let terms: Vec<f32> = x.iter().zip(targets).map(|(x, &target)| term(target, x - max)).collect();
        return (row_sum(targets), row_sum(&terms));
    }
    let at = pieces.next_power_of_two() / 2 * ROW_PIECE;
    let ((left, right), (left_targets, right_targets)) = (x.split_at(at), targets.split_at(at));
    let (left_sums, right_sums) = (target_sums(left, left_targets), target_sums(right, right_targets));
    let left_dot = left_sums.1 + term(left_sums.0, statistics(left).0 - max);
    (left_sums.0 + right_sums.0, left_dot + (right_sums.1 + term(right_sums.0, statistics(right).0 - max)))
}

/// Sums groups of [`LOSS_ROWS`] in ascending order, and their sums pairwise.
fn pairwise_sum(losses: &[f32]) -> f32 {
    let groups = losses.len().div_ceil(LOSS_ROWS);
    if groups <= 1 {
        return losses.iter().copied().reduce(|sum, loss| sum + loss).unwrap_or(0.0);
    }
    let (first, rest) = losses.split_at(groups.next_power_of_two() / 2 * LOSS_ROWS);
    pairwise_sum(first) + pairwise_sum(rest)
}
