//! The sigmoid, and tanh, SiLU and GELU.

use super::exp::{SCALED_LEAST, UNSCALE, exp, exp_scaled};
use super::polynomial;
use crate::simd::Simd;

/// Below this |x| tanh is a polynomial, whose error is smaller there than the quotient's.
pub(crate) const TANH_SMALL: f32 = 1.0;
/// (tanh(x) - x) / x^3 in powers of x^2 over |x| <= [`TANH_SMALL`]: minimax for the error of tanh.
pub(crate) const TANH_TERMS: [f32; 7] =
    [-0.333_332_95, 0.133_323_45, -0.053_879_8, 0.021_486_657, -0.007_946_106, 0.002_301_364_4, -0.000_358_451_94];
/// 2 sqrt(2 / pi), rounded.
pub(crate) const GELU_LINEAR: f32 = 1.595_769_2;
/// 2 sqrt(2 / pi) less [`GELU_LINEAR`].
pub(crate) const GELU_LINEAR_LOW: f32 = -4.534_068e-8;
/// 0.044715 * 2 sqrt(2 / pi), rounded.
pub(crate) const GELU_CUBIC: f32 = 0.071_354_814;
/// 0.044715 * 2 sqrt(2 / pi) less [`GELU_CUBIC`].
pub(crate) const GELU_CUBIC_LOW: f32 = 2.398_832_5e-9;
/// From this x on the sigmoid rounds to 1.
pub(crate) const SIGMOID_ONE: f32 = 20.0;
/// Beyond this |x|, GELU is x or 0.
pub(crate) const GELU_MOST: f32 = 16.0;

/// The sigmoid in parts: (quotient + correction) scale, where the scale is a power of 2.
///
/// With t = exp(-|x|) it is t / (1 + t) for x < 0, else 1 / (1 + t). The correction holds the
/// rounding errors of the divisor, its reciprocal and the product.
#[inline(always)]
fn parts<S: Simd>(s: S, x: S::F32) -> [S::F32; 3] {
    let (zero, one, unscale) = (s.splat(0.0), s.splat(1.0), s.splat(UNSCALE));
    let scaled = exp_scaled(s, s.sub(zero, s.abs(x)));
    let t = s.mul(scaled, unscale);
    let divisor = s.add(one, t);
    let lost = s.sub(t, s.sub(divisor, one));
    let negative = s.lt(x, zero);
    let dividend = s.select(negative, scaled, one);
    let reciprocal = s.div(one, divisor);
    let quotient = s.mul(dividend, reciprocal);
    let minus = s.sub(zero, quotient);
    let rest = s.fma(minus, lost, s.fma(minus, divisor, dividend));
    [quotient, s.mul(rest, reciprocal), s.select(negative, unscale, one)]
}

/// sigmoid(x) = 1 / (1 + exp(-x)). NaN stays NaN, sigmoid(-inf) = 0, sigmoid(+inf) = 1.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let [quotient, correction, scale] = parts(s, x);
    s.mul(s.add(quotient, correction), scale)
}

/// x times a sigmoid in parts, rounded in the sum and in the product with the scale.
///
/// It is -0 where it rounds to that, down to -inf, and x where the sigmoid rounds to 1.
#[inline(always)]
fn gated<S: Simd>(s: S, x: S::F32, [quotient, correction, scale]: [S::F32; 3]) -> S::F32 {
    let near = s.max(s.splat(SCALED_LEAST), x);
    let product = s.mul(near, quotient);
    let lost = s.fma(near, quotient, s.sub(s.splat(0.0), product));
    let gated = s.mul(s.add(product, s.fma(near, correction, lost)), scale);
    // The sign only matters at -0.
    s.select(s.lt(x, s.splat(SIGMOID_ONE)), s.copysign(gated, x), x)
}

/// silu(x) = x sigmoid(x). NaN stays NaN, silu(-inf) = -0, silu(+inf) = +inf.
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    gated(s, x, parts(s, x))
}

/// silu's derivative: sigmoid(x) (1 + x (1 - sigmoid(x))); 0 at -inf, 1 at +inf.
#[inline(always)]
pub(crate) fn silu_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let x = clamp(s, x, -SCALED_LEAST);
    let sigmoid = sigmoid(s, x);
    s.mul(sigmoid, s.fma(x, s.sub(one, sigmoid), one))
}

/// gelu(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), the form with tanh, since
/// (1 + tanh(u)) / 2 = sigmoid(2 u). NaN stays NaN, gelu(-inf) = -0, gelu(+inf) = +inf.
///
/// Far below 0 the result falls as exp(u), which multiplies u's relative error by |u|. So u's rounding
/// error is carried along, and gelu(x) = x sigmoid(u) (1 + (1 - sigmoid(u)) lost).
///
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016); Dekker's sums and products (1971).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (zero, linear, cubic) = (s.splat(0.0), s.splat(GELU_LINEAR), s.splat(GELU_CUBIC));
    let x_near = clamp(s, x, GELU_MOST);
    let square = s.mul(x_near, x_near);
    let square_lost = s.fma(x_near, x_near, s.sub(zero, square));
    let term = s.mul(square, cubic);
    let term_lost = s.fma(square, s.splat(GELU_CUBIC_LOW), s.fma(square, cubic, s.sub(zero, term)));
    let term_lost = s.fma(square_lost, cubic, term_lost);
    let sum = s.add(term, linear);
    let sum_lost = s.sub(s.min(term, linear), s.sub(sum, s.max(term, linear)));
    let sum_lost = s.add(sum_lost, s.add(term_lost, s.splat(GELU_LINEAR_LOW)));
    let u = s.mul(x_near, sum);
    let u_lost = s.fma(x_near, sum_lost, s.fma(x_near, sum, s.sub(zero, u)));

    let [quotient, correction, scale] = parts(s, u);
    let rest = s.sub(s.splat(1.0), s.mul(quotient, scale));
    let correction = s.fma(s.mul(quotient, rest), u_lost, correction);
    gated(s, x, [quotient, correction, scale])
}

/// gelu's derivative: g + x g (1 - g) u', where g = sigmoid(u); 0 at -inf, 1 at +inf.
#[inline(always)]
pub(crate) fn gelu_slope<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let x = clamp(s, x, GELU_MOST);
    let square = s.mul(x, x);
    let linear = s.splat(GELU_LINEAR);
    let gate = sigmoid(s, s.mul(x, s.fma(square, s.splat(GELU_CUBIC), linear)));
    let slope = s.fma(square, s.splat(3.0 * GELU_CUBIC), linear);
    s.fma(s.mul(x, s.mul(gate, s.sub(s.splat(1.0), gate))), slope, gate)
}

/// Clamps x to -most..=most; NaN stays NaN.
#[inline(always)]
fn clamp<S: Simd>(s: S, x: S::F32, most: f32) -> S::F32 {
    s.min(s.splat(most), s.max(s.splat(-most), x))
}

/// tanh(x): x + x^3 P(x^2) where |x| is small, else 1 - 2 / (exp(2 |x|) + 1) with the sign of x.
///
/// NaN stays NaN, tanh(±0) = ±0, tanh(±inf) = ±1.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (one, two) = (s.splat(1.0), s.splat(2.0));
    let size = s.abs(x);
    let square = s.mul(x, x);
    let small = s.fma(s.mul(size, square), polynomial(s, &TANH_TERMS, square), size);
    let large = s.sub(one, s.div(two, s.add(exp(s, s.mul(two, size)), one)));
    s.copysign(s.select(s.lt(size, s.splat(TANH_SMALL)), small, large), x)
}
