//! The definition of every operation, in naive scalar loops.
//!
//! The kernels of every instruction set with fused multiply-add (AVX-512, AVX2 with FMA, NEON)
//! give these bits, on any number of threads; all NaNs count as equal. The rules:
//!
//! - A sum over the depth of a product has one accumulator, which takes its terms in ascending
//!   order with `f32::mul_add`. Weight and bias gradients take the batch in chunks of
//!   [`CHUNK_ROWS`] and add the chunks' sums in ascending order.
//! - A reduction of a row has 16 partial results, element j in partial j mod 16; then partial i
//!   meets partial i + 8, then i + 4, i + 2 and i + 1.
//! - The loss is added over [`LOSS_ROWS`] rows in ascending order; these sums are added in a binary
//!   tree, in which the first half is the larger where they are odd.
//! - Rounding is to nearest-even, and subnormals are kept, as Rust takes for granted. On a thread
//!   that another library has put in flush-to-zero mode the promise does not hold.
//!
//! The portable instruction set promises no fused multiply-add: its own code has it only in a build
//! for processors with it, `matrixmultiply` where it finds it. So it may round twice where the
//! definition rounds once. A product of depth k then differs from the exact one by at most
//! `(k + 2) * (2^-23 * (|bias| + sum(|x| |w|)) + 2^-149)`, `exp` and `ln` stay within
//! [`PORTABLE_ULP`](crate::math::PORTABLE_ULP), and the bits are the same on any number of threads,
//! but not on every processor.
//!
//! The functions have the signatures, checks and errors of their namesakes, which are called
//! `dense_*` here for [`dense`]; see there for shapes.

use std::ops::Range;

use crate::dense::{self, Activation};
use crate::error::{Error, Result};
use crate::kernels::CHUNK_ROWS;
use crate::kernels::optimizer::LEAST_MOMENT;
use crate::labels::Labels;
use crate::math;
use crate::matrix::{MatMut, MatRef};
use crate::nn::Optimizer;
use crate::parallel::LOSS_ROWS;
use crate::simd::ROW_LANES;
use crate::{activation, loss};

/// The element at (`row`, `col`); callers stay inside, as the checks before them ensure.
fn at(x: MatRef<'_>, row: usize, col: usize) -> f32 {
    x.get(row, col).unwrap_or(f32::NAN)
}

/// The rows of a matrix that hold something: a view may have more rows of nothing than can be counted.
fn rows(y: &MatMut<'_>) -> Range<usize> {
    0..if y.cols() == 0 { 0 } else { y.rows() }
}

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
    dense::check_forward(x, [w.rows(), w.cols()], bias, &y)?;
    for row in rows(&y) {
        for o in 0..y.cols() {
            let mut acc = bias.map_or(0.0, |bias| bias[o]);
            for k in 0..x.cols() {
                acc = at(x, row, k).mul_add(at(w, k, o), acc);
            }
            let value = match activation {
                Activation::Linear => acc,
                Activation::Relu => step(acc),
            };
            y.set(row, o, value);
        }
    }
    Ok(())
}

/// dx = dy wᵀ, gated: see [`dense::backward_input`].
///
/// # Errors
/// As there.
pub fn dense_backward_input(dy: MatRef<'_>, w: MatRef<'_>, gate: Option<MatRef<'_>>, mut dx: MatMut<'_>) -> Result<()> {
    dense::check_backward_input(dy, w, gate, &dx)?;
    for row in rows(&dx) {
        for k in 0..dx.cols() {
            let mut acc = 0.0;
            for o in 0..dy.cols() {
                acc = at(dy, row, o).mul_add(at(w, k, o), acc);
            }
            let open = gate.is_none_or(|gate| at(gate, row, k) > 0.0);
            dx.set(row, k, if open { acc } else { 0.0 });
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

/// Takes the rows of a batch in chunks, each in ascending order, and adds the chunks' sums.
fn chunked_sum(rows: usize, term: impl Fn(usize, f32) -> f32) -> f32 {
    let chunk = |first: usize| (first..rows.min(first + CHUNK_ROWS)).fold(0.0, |acc, row| term(row, acc));
    let rest = (CHUNK_ROWS..rows).step_by(CHUNK_ROWS);
    rest.fold(chunk(0), |sum, first| sum + chunk(first))
}

/// `if x < 0 { 0 } else { x }`, ReLU's step.
fn step(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// y = relu(x): see [`activation::relu`].
///
/// # Errors
/// As there.
pub fn relu(x: MatRef<'_>, mut y: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("x", x)], ("y", &y))?;
    map([x], &mut y, |[x]| step(x));
    Ok(())
}

/// dx = dy where y > 0, else 0: see [`activation::relu_backward`].
///
/// # Errors
/// As there.
pub fn relu_backward(y: MatRef<'_>, dy: MatRef<'_>, mut dx: MatMut<'_>) -> Result<()> {
    activation::check_same(&[("y", y), ("dy", dy)], ("dx", &dx))?;
    map([y, dy], &mut dx, |[y, dy]| if y > 0.0 { dy } else { 0.0 });
    Ok(())
}

fn map<const INPUTS: usize>(x: [MatRef<'_>; INPUTS], y: &mut MatMut<'_>, f: impl Fn([f32; INPUTS]) -> f32) {
    for row in rows(y) {
        for col in 0..y.cols() {
            y.set(row, col, f(x.map(|x| at(x, row, col))));
        }
    }
}

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
/// Update number `t`, from 1 on, of the weights `w` by their gradients `dw`: see
/// [`nn::Optimizer`](crate::nn::Optimizer). `m` and `v` are what the optimizer remembers, zeros before
/// the first update: momentum or first moment, and second moment. SGD leaves `v` alone, without
/// momentum `m` too. The four slices have one length.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ, [`Error::Value`] if `t` is 0 or a hyperparameter is out of range.
pub fn update(
    optimizer: impl Into<Optimizer>,
    t: u32,
    w: &mut [f32],
    dw: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) -> Result<()> {
    let optimizer = optimizer.into();
    optimizer.check()?;
    for (argument, len) in [("dw", dw.len()), ("m", m.len()), ("v", v.len())] {
        if len != w.len() {
            return Err(Error::shape(argument, format_args!("{} elements", w.len()), len));
        }
    }
    if t == 0 {
        return Err(Error::value("t", "at least 1", 0));
    }
    let slots = w.iter_mut().zip(dw).zip(m.iter_mut().zip(v));
    let (adam, weight_decay) = match optimizer {
        Optimizer::Sgd(sgd) => {
            let (rate, momentum) = (sgd.learning_rate as f32, sgd.momentum as f32);
            for ((w, &dw), (m, _)) in slots {
                if momentum == 0.0 {
                    *w = dw.mul_add(-rate, *w);
                } else {
                    let change = dw * -rate;
                    *m = settle(m.mul_add(momentum, change));
                    *w += if sgd.nesterov { m.mul_add(momentum, change) } else { *m };
                }
            }
            return Ok(());
        }
        Optimizer::Adam(adam) => (adam, None),
        Optimizer::AdamW(adamw) => (adamw.adam, Some(adamw.weight_decay)),
    };
    // Not powi, whose last bit may differ between machines.
    let power = |beta: f64| (0..t).fold(1.0, |power, _| power * beta);
    let alpha = (adam.learning_rate * (1.0 - power(adam.beta_2)).sqrt() / (1.0 - power(adam.beta_1))) as f32;
    let (rate_1, rate_2) = ((1.0 - adam.beta_1) as f32, (1.0 - adam.beta_2) as f32);
    for ((w, &dw), (m, v)) in slots {
        *m = settle((dw - *m).mul_add(rate_1, *m));
        *v = settle((dw * dw - *v).mul_add(rate_2, *v));
        if let Some(weight_decay) = weight_decay {
            *w = w.mul_add(-((weight_decay * adam.learning_rate) as f32), *w);
        }
        *w -= *m * alpha / (v.sqrt() + adam.epsilon as f32);
    }
    Ok(())
}

/// 0 for a moment nearer to 0 than 2^-100.
fn settle(moment: f32) -> f32 {
    if moment.abs() < LEAST_MOMENT { 0.0 } else { moment }
}

/// exp(x), in the order of operations that every instruction set with fused multiply-add follows.
pub fn exp(x: f32) -> f32 {
    let x = if math::EXP_LEAST > x { math::EXP_LEAST } else { x };
    let x = if math::EXP_MOST < x { math::EXP_MOST } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, math::ROUNDER);
    let n = shifted - math::ROUNDER;
    let r_high = n.mul_add(-math::LN_2_HIGH, x);
    let r = n.mul_add(-math::LN_2_LOW, r_high);
    let sum = 1.0 + r;
    let lost = n.mul_add(-math::LN_2_LOW, (1.0 - sum) + r_high);
    let exp_r = sum + (r * r).mul_add(polynomial(&math::EXP_TERMS, r), lost);
    let exponents = shifted.to_bits() as i32;
    let half = exponents >> 1;
    let power = |exponent: i32| f32::from_bits((exponent as u32) << 23);
    exp_r * power(half) * power(exponents - half)
}

/// ln(x), in the order of operations that every instruction set with fused multiply-add follows.
pub fn ln(x: f32) -> f32 {
    if x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x.is_nan() || x == f32::INFINITY {
        return x;
    }
    let (x, shift) = if x < f32::MIN_POSITIVE { (x * math::LN_SCALE, -23.0) } else { (x, 0.0) };
    let e = (x.to_bits() as i32 - math::LN_BASE) >> 23;
    let f = f32::from_bits((x.to_bits() as i32 - (e << 23)) as u32) - 1.0;
    let e = e as f32 + shift;
    let sum = e.mul_add(math::LN_2_HIGH, f);
    let lost = e.mul_add(math::LN_2_LOW, f - e.mul_add(-math::LN_2_HIGH, sum));
    sum + f.mul_add(f * polynomial(&math::LN_TERMS, f), lost)
}

/// The sum of terms\[i\] x^i, by Horner's rule.
fn polynomial(terms: &[f32], x: f32) -> f32 {
    terms.iter().rev().fold(0.0, |sum: f32, &term| sum.mul_add(x, term))
}
