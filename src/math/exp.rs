//! exp, and the functions that share its argument reduction.

use super::polynomial;
use crate::simd::Simd;

/// ln 2 in two parts: the first has 15 bits, so that its product with an exponent is exact (Cody and
/// Waite, "Software Manual for the Elementary Functions", 1980).
pub(crate) const LN_2_HIGH: f32 = 0.693_145_75;
/// ln 2 less [`LN_2_HIGH`].
pub(crate) const LN_2_LOW: f32 = 1.428_606_8e-6;

/// 1.5 * 2^23: adding it rounds to an integer, which the lowest bits then hold; subtracting it gives that as
/// a float.
pub(crate) const ROUNDER: f32 = 12_582_912.0;
/// Exponent bias of a float.
pub(crate) const BIAS: f32 = 127.0;
/// Above this exp is infinite: arguments are clamped to it.
pub(crate) const EXP_MOST: f32 = 89.0;
/// Below this exp is 0.
pub(crate) const EXP_LEAST: f32 = -104.0;
/// (exp(r) - 1 - r) / r^2 over |r| <= ln(2) / 2: minimax for the error of exp in ulp, then refined by
/// a search over last bits, evaluated on all floats.
pub(crate) const EXP_TERMS: [f32; 5] = [0.499_999_8, 0.166_665_15, 0.041_672_345, 0.008_369_273, 0.001_357_790_4];

/// [`exp_scaled`] carries a factor of 2^`SCALE`, so that it is never subnormal.
pub(crate) const SCALE: f32 = 64.0;
/// 2^-[`SCALE`].
pub(crate) const UNSCALE: f32 = 1.0 / (1u128 << 64) as f32;
/// Below this exp(x), and 112 times that, rounds to 0.
pub(crate) const SCALED_LEAST: f32 = -112.0;
/// Below this [`exp_scaled`] is 0: its power of 2 has the exponent bits of 0 there.
pub(crate) const SCALED_END: f32 = -132.4;
/// Below this exp(x) - 1 is -1.
pub(crate) const EXP_M1_LEAST: f32 = -30.0;

/// exp(x).
///
/// 1. x = n ln 2 + r with |r| <= ln(2) / 2.
/// 2. exp(r) = (1 + r) + (r^2 q(r) + the rounding errors of 1 + r and of r).
/// 3. The result is exp(r) 2^n, with 2^n as two factors, so that it overflows to infinity and
///    becomes subnormal with a single rounding.
///
/// NaN stays NaN, exp(-inf) = 0, exp(±0) = 1. Source: Muller, "Elementary Functions" (2016), ch. 11.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // This order of operands passes NaN on.
    let x = s.min(s.splat(EXP_MOST), s.max(s.splat(EXP_LEAST), x));
    // The shift by 23 leaves only n and the bias, in the exponent's bits: here the sum of two factors'
    // exponents.
    let (exp_r, exponents) = reduced(s, x, 2.0 * BIAS);
    let half = s.shr::<1>(exponents);
    let rest = s.sub_i32(exponents, half);
    s.mul(s.mul(exp_r, s.cast_f32(s.shl::<23>(half))), s.cast_f32(s.shl::<23>(rest)))
}

/// exp(x) 2^64 for x <= 0 and NaN, 0 below [`SCALED_END`].
///
/// Takes fewer operations than [`exp`], since it is never subnormal; what follows from it is rounded once, at
/// the end.
#[inline(always)]
pub(crate) fn exp_scaled<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (exp_r, exponents) = reduced(s, s.max(s.splat(SCALED_END), x), BIAS + SCALE);
    s.mul(exp_r, s.cast_f32(s.shl::<23>(exponents)))
}

/// [`exp_scaled`] for the terms of a sum, with an error below [`SUMMAND_ULP`](super::SUMMAND_ULP).
///
/// Takes still fewer operations: the rounding errors of 1 + r and of r are not added back, and Estrin's
/// scheme shortens the dependency chain from r to the result.
#[inline(always)]
pub(crate) fn exp_summand<S: Simd>(s: S, x: S::F32) -> S::F32 {
    summand_of(s, reduce_summand(s, x))
}

/// The first half of [`exp_summand`]: reduces the argument to r and 2^n.
#[inline(always)]
pub(crate) fn reduce_summand<S: Simd>(s: S, x: S::F32) -> [S::F32; 2] {
    let (n, r_high, exponents) = reduce(s, s.max(s.splat(SCALED_END), x), BIAS + SCALE);
    [s.fma(n, s.splat(-LN_2_LOW), r_high), s.cast_f32(s.shl::<23>(exponents))]
}

/// The second half: exp(r) 2^n.
#[inline(always)]
pub(crate) fn summand_of<S: Simd>(s: S, [r, power]: [S::F32; 2]) -> S::F32 {
    let r_2 = s.mul(r, r);
    let [a, b, c, d, e] = EXP_TERMS;
    let (low, high) = (s.fma(s.splat(b), r, s.splat(a)), s.fma(s.splat(d), r, s.splat(c)));
    let q = s.fma(s.fma(s.splat(e), r_2, high), r_2, low);
    s.mul(s.add(s.splat(1.0), s.fma(q, r_2, r)), power)
}

/// exp(r), and n + `bias` in the lowest bits.
#[inline(always)]
fn reduced<S: Simd>(s: S, x: S::F32, bias: f32) -> (S::F32, S::I32) {
    let (one, low) = (s.splat(1.0), s.splat(-LN_2_LOW));
    let (n, r_high, exponents) = reduce(s, x, bias);
    let r = s.fma(n, low, r_high);
    let sum = s.add(one, r);
    let lost = s.fma(n, low, s.add(s.sub(one, sum), r_high));
    (s.add(sum, s.fma(s.mul(r, r), polynomial(s, &EXP_TERMS, r), lost)), exponents)
}

/// n, x - n ln 2 by the first part of ln 2, and n + `bias` in the lowest bits.
#[inline(always)]
fn reduce<S: Simd>(s: S, x: S::F32, bias: f32) -> (S::F32, S::F32, S::I32) {
    let rounder = s.splat(ROUNDER + bias);
    let shifted = s.fma(x, s.splat(std::f32::consts::LOG2_E), rounder);
    let n = s.sub(shifted, rounder);
    (n, s.fma(n, s.splat(-LN_2_HIGH), x), s.cast_i32(shifted))
}

/// exp(x) - 1 for x <= 0 and NaN: 2^n (r + r^2 q(r)) + (2^n - 1), r and n as in [`exp`].
#[inline(always)]
pub(crate) fn exp_m1_of_nonpositive<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (n, r_high, exponents) = reduce(s, s.max(s.splat(EXP_M1_LEAST), x), BIAS);
    let r = s.fma(n, s.splat(-LN_2_LOW), r_high);
    let exp_m1_r = s.fma(s.mul(r, r), polynomial(s, &EXP_TERMS, r), r);
    let power = s.cast_f32(s.shl::<23>(exponents));
    s.fma(power, exp_m1_r, s.sub(power, s.splat(1.0)))
}
