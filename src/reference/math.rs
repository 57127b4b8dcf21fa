//! exp, ln and the functions built on them, in the order of operations of every instruction set with fused
//! multiply-add.
//!
//! `src/math` explains the methods.

use crate::math;

/// exp(x), within [`EXP_ULP`](crate::math::EXP_ULP). NaN stays NaN, exp(-inf) = 0, exp(±0) = 1.
///
/// Source: Muller, "Elementary Functions" (2016), ch. 11.
#[must_use]
pub fn exp(x: f32) -> f32 {
    let (exp_r, exponents) = reduced(min(math::EXP_MOST, max(math::EXP_LEAST, x)), 2.0 * math::BIAS);
    let half = exponents >> 1;
    exp_r * power(half) * power(exponents - half)
}

/// exp(x) 2^64 for x <= 0.
fn exp_scaled(x: f32) -> f32 {
    let (exp_r, exponents) = reduced(max(math::SCALED_END, x), math::BIAS + math::SCALE);
    exp_r * power(exponents)
}

/// exp(x) 2^64 for x <= 0, with the error that a term of a sum may have.
pub(crate) fn exp_summand(x: f32) -> f32 {
    let (n, r_high, exponents) = reduce(max(math::SCALED_END, x), math::BIAS + math::SCALE);
    let r = n.mul_add(-math::LN_2_LOW, r_high);
    let [a, b, c, d, e] = math::EXP_TERMS;
    let (low, high) = (b.mul_add(r, a), d.mul_add(r, c));
    let q = e.mul_add(r * r, high).mul_add(r * r, low);
    (1.0 + q.mul_add(r * r, r)) * power(exponents)
}

/// exp(r), and n + `bias` in the lowest bits, where x = n ln 2 + r.
fn reduced(x: f32, bias: f32) -> (f32, i32) {
    let (n, r_high, exponents) = reduce(x, bias);
    let r = n.mul_add(-math::LN_2_LOW, r_high);
    let sum = 1.0 + r;
    let lost = n.mul_add(-math::LN_2_LOW, (1.0 - sum) + r_high);
    (sum + (r * r).mul_add(polynomial(&math::EXP_TERMS, r), lost), exponents)
}

fn reduce(x: f32, bias: f32) -> (f32, f32, i32) {
    let rounder = math::ROUNDER + bias;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, rounder);
    let n = shifted - rounder;
    (n, n.mul_add(-math::LN_2_HIGH, x), shifted.to_bits() as i32)
}

/// 2^e, where e + 127 is in the lowest bits of `exponent`.
fn power(exponent: i32) -> f32 {
    f32::from_bits((exponent as u32) << 23)
}

/// exp(x) - 1 for x <= 0 and NaN, within [`EXP_M1_ULP`](crate::math::EXP_M1_ULP) below 0. Undefined above 0.
#[must_use]
pub fn exp_m1_of_nonpositive(x: f32) -> f32 {
    let (n, r_high, exponents) = reduce(max(math::EXP_M1_LEAST, x), math::BIAS);
    let r = n.mul_add(-math::LN_2_LOW, r_high);
    let exp_m1_r = (r * r).mul_add(polynomial(&math::EXP_TERMS, r), r);
    power(exponents).mul_add(exp_m1_r, power(exponents) - 1.0)
}

/// ln(x), within [`LN_ULP`](crate::math::LN_ULP). ln(1) = 0, ln(±0) = -inf, ln(+inf) = +inf, NaN below 0 and
/// for NaN.
///
/// Source: Muller, "Elementary Functions" (2016), ch. 11.
#[must_use]
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
    let (sum, rest) =
        if x < f32::MIN_POSITIVE { ln_of_normal(x * math::LN_SCALE, -23.0) } else { ln_of_normal(x, 0.0) };
    sum + rest
}

/// ln(x 2^shift), as the two terms of a sum.
fn ln_of_normal(x: f32, shift: f32) -> (f32, f32) {
    let e = (x.to_bits() as i32).wrapping_sub(math::LN_BASE) >> 23;
    let f = f32::from_bits((x.to_bits() as i32).wrapping_sub(e << 23) as u32) - 1.0;
    let e = e as f32 + shift;
    let sum = e.mul_add(math::LN_2_HIGH, f);
    let lost = e.mul_add(math::LN_2_LOW, f - e.mul_add(-math::LN_2_HIGH, sum));
    (sum, f.mul_add(f * polynomial(&math::LN_TERMS, f), lost))
}

/// ln(1 + exp(x)), within [`SOFTPLUS_ULP`](crate::math::SOFTPLUS_ULP). NaN stays NaN, softplus(-inf) = 0.
#[must_use]
pub fn softplus(x: f32) -> f32 {
    let t = exp_scaled(-x.abs()) * math::UNSCALE;
    let u = 1.0 + t;
    let lost = t - (u - 1.0);
    let (sum, rest) = ln_of_normal(u, 0.0);
    max(0.0, x) + (sum + (rest + lost / u))
}

/// The sigmoid in three parts: it is (quotient + correction) scale.
fn parts(x: f32) -> (f32, f32, f32) {
    let scaled = exp_scaled(-x.abs());
    let t = scaled * math::UNSCALE;
    let divisor = 1.0 + t;
    let lost = t - (divisor - 1.0);
    let (dividend, scale) = if x < 0.0 { (scaled, math::UNSCALE) } else { (1.0, 1.0) };
    let reciprocal = 1.0 / divisor;
    let quotient = dividend * reciprocal;
    let rest = (-quotient).mul_add(lost, (-quotient).mul_add(divisor, dividend));
    (quotient, rest * reciprocal, scale)
}

/// 1 / (1 + exp(-x)), within [`SIGMOID_ULP`](crate::math::SIGMOID_ULP). NaN stays NaN.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    let (quotient, correction, scale) = parts(x);
    (quotient + correction) * scale
}

/// x times a sigmoid in three parts.
fn gated(x: f32, (quotient, correction, scale): (f32, f32, f32)) -> f32 {
    let near = max(math::SCALED_LEAST, x);
    let product = near * quotient;
    let lost = near.mul_add(quotient, -product);
    let gated = (product + near.mul_add(correction, lost)) * scale;
    if x < math::SIGMOID_ONE { gated.copysign(x) } else { x }
}

/// x sigmoid(x), within [`SILU_ULP`](crate::math::SILU_ULP). NaN stays NaN, silu(-inf) = -0.
#[must_use]
pub fn silu(x: f32) -> f32 {
    gated(x, parts(x))
}

/// The derivative of [`silu`].
#[must_use]
pub fn silu_slope(x: f32) -> f32 {
    let x = min(-math::SCALED_LEAST, max(math::SCALED_LEAST, x));
    let sigmoid = sigmoid(x);
    sigmoid * x.mul_add(1.0 - sigmoid, 1.0)
}

/// x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), within [`GELU_ULP`](crate::math::GELU_ULP). NaN stays NaN,
/// gelu(-inf) = -0.
#[must_use]
pub fn gelu(x: f32) -> f32 {
    let near = min(math::GELU_MOST, max(-math::GELU_MOST, x));
    let square = near * near;
    let square_lost = near.mul_add(near, -square);
    let term = square * math::GELU_CUBIC;
    let term_lost = square.mul_add(math::GELU_CUBIC_LOW, square.mul_add(math::GELU_CUBIC, -term));
    let term_lost = square_lost.mul_add(math::GELU_CUBIC, term_lost);
    let sum = term + math::GELU_LINEAR;
    let sum_lost = min(term, math::GELU_LINEAR) - (sum - max(term, math::GELU_LINEAR));
    let sum_lost = sum_lost + (term_lost + math::GELU_LINEAR_LOW);
    let u = near * sum;
    let u_lost = near.mul_add(sum_lost, near.mul_add(sum, -u));

    let (quotient, correction, scale) = parts(u);
    let rest = 1.0 - quotient * scale;
    gated(x, (quotient, (quotient * rest).mul_add(u_lost, correction), scale))
}

/// The derivative of [`gelu`].
#[must_use]
pub fn gelu_slope(x: f32) -> f32 {
    let x = min(math::GELU_MOST, max(-math::GELU_MOST, x));
    let gate = sigmoid(x * (x * x).mul_add(math::GELU_CUBIC, math::GELU_LINEAR));
    let slope = (x * x).mul_add(3.0 * math::GELU_CUBIC, math::GELU_LINEAR);
    (x * (gate * (1.0 - gate))).mul_add(slope, gate)
}

/// tanh(x), within [`TANH_ULP`](crate::math::TANH_ULP). NaN stays NaN.
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let size = if size < math::TANH_SMALL {
        (size * square).mul_add(polynomial(&math::TANH_TERMS, square), size)
    } else {
        1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    };
    size.copysign(x)
}

/// The larger number, or x if that is NaN.
fn max(bound: f32, x: f32) -> f32 {
    if bound > x { bound } else { x }
}

/// The smaller number, or x if that is NaN.
fn min(bound: f32, x: f32) -> f32 {
    if bound < x { bound } else { x }
}

/// The sum of terms\[i\] x^i, by Horner's rule.
fn polynomial(terms: &[f32], x: f32) -> f32 {
    terms.iter().rev().fold(0.0, |sum: f32, &term| sum.mul_add(x, term))
}
