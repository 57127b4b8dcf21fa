//! ln, and softplus, which is computed with it.

use super::exp::{LN_2_HIGH, LN_2_LOW, UNSCALE, exp_scaled};
use super::polynomial;
use crate::simd::Simd;

/// The bits of 0.69: mantissas are reduced to 0.69..1.38, where the largest errors balance.
pub(crate) const LN_BASE: i32 = 0x3f30_a3d7;
/// 2^23, which makes any subnormal normal.
pub(crate) const LN_SCALE: f32 = 8_388_608.0;
/// (ln(1 + f) - f) / f^2 for 1 + f from 0.69 to 1.38, found in the same way as
/// [`EXP_TERMS`](super::exp::EXP_TERMS).
pub(crate) const LN_TERMS: [f32; 9] = [
    -0.499_999_97,
    0.333_332_72,
    -0.250_008_85,
    0.200_067_74,
    -0.166_319_25,
    0.140_779,
    -0.129_027_89,
    0.135_551_12,
    -0.094_753_22,
];

/// ln(x).
///
/// 1. x = m 2^e with m from 0.69 to 1.38, and f = m - 1, which is exact.
/// 2. ln(x) = (e ln 2 + f) + (f^2 g(f) + the rounding error of that sum), where e ln 2 has two
///    parts; the first sum's rounding error is exact (Dekker's Fast2Sum, 1971).
///
/// ln(1) = 0, ln(±0) = -inf, ln(+inf) = +inf, NaN below 0 and for NaN.
/// Source: Muller, "Elementary Functions" (2016), ch. 11.
#[inline(always)]
pub(crate) fn ln<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    let subnormal = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let scaled = s.select(subnormal, s.mul(x, s.splat(LN_SCALE)), x);
    let [sum, rest] = ln_of_normal(s, scaled, s.select(subnormal, s.splat(-23.0), zero));
    let ln = s.add(sum, rest);
    let ln = s.select(s.lt(x, s.splat(f32::INFINITY)), ln, x);
    let ln = s.select(s.lt(x, s.splat(f32::from_bits(1))), s.splat(f32::NEG_INFINITY), ln);
    s.select(s.lt(x, zero), s.splat(f32::NAN), ln)
}

/// ln(x 2^shift) for a normal x above 0, as an unevaluated sum of two numbers.
#[inline(always)]
fn ln_of_normal<S: Simd>(s: S, x: S::F32, shift: S::F32) -> [S::F32; 2] {
    let bits = s.cast_i32(x);
    let e = s.shr::<23>(s.sub_i32(bits, s.splat_i32(LN_BASE)));
    let f = s.sub(s.cast_f32(s.sub_i32(bits, s.shl::<23>(e))), s.splat(1.0));
    let e = s.add(s.convert_f32(e), shift);

    let sum = s.fma(e, s.splat(LN_2_HIGH), f);
    let f_kept = s.fma(e, s.splat(-LN_2_HIGH), sum);
    let lost = s.fma(e, s.splat(LN_2_LOW), s.sub(f, f_kept));
    [sum, s.fma(f, s.mul(f, polynomial(s, &LN_TERMS, f)), lost)]
}

/// softplus(x) = ln(1 + exp(x)) = max(x, 0) + ln(1 + t) with t = exp(-|x|).
///
/// ln(1 + t) = ln(u) + (t - (u - 1)) / u, where u is 1 + t rounded, and the difference exact.
///
/// NaN stays NaN, softplus(-inf) = 0, softplus(+inf) = +inf.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let t = s.mul(exp_scaled(s, s.sub(zero, s.abs(x))), s.splat(UNSCALE));
    let u = s.add(one, t);
    let lost = s.sub(t, s.sub(u, one));
    let [sum, rest] = ln_of_normal(s, u, zero);
    s.add(s.max(zero, x), s.add(sum, s.add(rest, s.div(lost, u))))
}
