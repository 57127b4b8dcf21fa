//! exp and ln, written once over `Simd` with fused multiply-add; their error bounds, as constants.
//!
//! The bounds hold over all 2^32 floats; one test goes over a stride of them, an ignored one over
//! all. One ulp is the distance between neighbouring floats at the true result, 2^-149 where that
//! is subnormal. The public kernels that apply them are in [`activation`](crate::activation).

use crate::simd::Simd;

/// Largest error of exp on an instruction set with fused multiply-add, in ulp.
pub const EXP_ULP: f64 = 0.78;
/// Largest error of ln on an instruction set with fused multiply-add, in ulp.
pub const LN_ULP: f64 = 0.78;
/// Largest error of exp and ln on the portable instruction set, in ulp.
pub const PORTABLE_ULP: f64 = 0.86;

/// ln 2 in two parts: the first has 15 bits, so that its product with an exponent is exact (Cody and
/// Waite, "Software Manual for the Elementary Functions", 1980).
pub(crate) const LN_2_HIGH: f32 = 0.693_145_75;
/// ln 2 less [`LN_2_HIGH`].
pub(crate) const LN_2_LOW: f32 = 1.428_606_8e-6;

/// 1.5 * 2^23: added and taken away again, it leaves the nearest integer, and its lowest bits hold
/// that; here with the biases of two exponents, 254, on top.
pub(crate) const ROUNDER: f32 = 12_582_912.0 + 254.0;
/// Above this exp is infinite, so more needs no telling apart.
pub(crate) const EXP_MOST: f32 = 89.0;
/// Below this exp is 0.
pub(crate) const EXP_LEAST: f32 = -104.0;
/// (exp(r) - 1 - r) / r^2 over |r| <= ln(2) / 2: minimax for the error of exp in ulp, then the best
/// found by changing last bits, judged on all floats.
pub(crate) const EXP_TERMS: [f32; 5] = [0.499_999_8, 0.166_665_15, 0.041_672_345, 0.008_369_273, 0.001_357_790_4];

/// The bits of 0.69: mantissas are taken from there to 1.38, where the largest errors balance.
pub(crate) const LN_BASE: i32 = 0x3f30_a3d7;
/// 2^23, which makes any subnormal normal.
pub(crate) const LN_SCALE: f32 = 8_388_608.0;
/// (ln(1 + f) - f) / f^2 for 1 + f from 0.69 to 1.38, found as [`EXP_TERMS`].
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

/// exp(x).
///
/// 1. x = n ln 2 + r with |r| <= ln(2) / 2.
/// 2. exp(r) = (1 + r) + (r^2 q(r) + what rounding 1 + r and r has lost).
/// 3. The result is exp(r) 2^n, by way of two factors, so that it overflows to infinity and
///    becomes subnormal with a single rounding.
///
/// NaN stays NaN, exp(-inf) = 0, exp(±0) = 1. Source: Muller, "Elementary Functions" (2016), ch. 11.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    // In this order of operands NaN passes.
    let x = s.min(s.splat(EXP_MOST), s.max(s.splat(EXP_LEAST), x));
    let shifted = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUNDER));
    let n = s.sub(shifted, s.splat(ROUNDER));
    let r_high = s.fma(n, s.splat(-LN_2_HIGH), x);
    let r = s.fma(n, s.splat(-LN_2_LOW), r_high);

    let sum = s.add(one, r);
    let lost = s.fma(n, s.splat(-LN_2_LOW), s.add(s.sub(one, sum), r_high));
    let exp_r = s.add(sum, s.fma(s.mul(r, r), polynomial(s, &EXP_TERMS, r), lost));

    // Shifted to the exponent's place, all but n and a bias is shifted out.
    let exponents = s.cast_i32(shifted);
    let half = s.shr::<1>(exponents);
    let rest = s.sub_i32(exponents, half);
    s.mul(s.mul(exp_r, s.cast_f32(s.shl::<23>(half))), s.cast_f32(s.shl::<23>(rest)))
}

/// ln(x).
///
/// 1. x = m 2^e with m from 0.69 to 1.38, and f = m - 1, which is exact.
/// 2. ln(x) = (e ln 2 + f) + (f^2 g(f) + what rounding that sum has lost), where e ln 2 is taken
///    in two parts; the first sum's loss is exact (Dekker's Fast2Sum, 1971).
///
/// ln(1) = 0, ln(±0) = -inf, ln(+inf) = +inf, NaN below 0 and for NaN.
/// Source: Muller, "Elementary Functions" (2016), ch. 11.
#[inline(always)]
pub(crate) fn ln<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    let subnormal = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let bits = s.cast_i32(s.select(subnormal, s.mul(x, s.splat(LN_SCALE)), x));
    let e = s.shr::<23>(s.sub_i32(bits, s.splat_i32(LN_BASE)));
    let f = s.sub(s.cast_f32(s.sub_i32(bits, s.shl::<23>(e))), s.splat(1.0));
    let e = s.add(s.convert_f32(e), s.select(subnormal, s.splat(-23.0), zero));

    let sum = s.fma(e, s.splat(LN_2_HIGH), f);
    let f_kept = s.fma(e, s.splat(-LN_2_HIGH), sum);
    let lost = s.fma(e, s.splat(LN_2_LOW), s.sub(f, f_kept));
    let ln = s.add(sum, s.fma(f, s.mul(f, polynomial(s, &LN_TERMS, f)), lost));

    let ln = s.select(s.lt(x, s.splat(f32::INFINITY)), ln, x);
    let ln = s.select(s.lt(x, s.splat(f32::from_bits(1))), s.splat(f32::NEG_INFINITY), ln);
    s.select(s.lt(x, zero), s.splat(f32::NAN), ln)
}

/// The sum of terms\[i\] x^i, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, terms: &[f32; N], x: S::F32) -> S::F32 {
    let mut sum = s.splat(terms[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(terms[i]));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Isa, MatMut, MatRef, Result, Threads, activation, reference};

    /// The error of `found`, in ulp of the true result.
    fn ulp(found: f32, truth: f64) -> f64 {
        let rounded = truth as f32;
        if found.is_nan() || rounded.is_nan() || found.is_infinite() || rounded.is_infinite() {
            let same = found.to_bits() == rounded.to_bits() || (found.is_nan() && rounded.is_nan());
            return if same { 0.0 } else { f64::INFINITY };
        }
        let exponent = (truth.abs().to_bits() >> 52) as i32 - 1023;
        (f64::from(found) - truth).abs() / f64::from(exponent.max(-126) - 23).exp2()
    }

    type Apply = fn(&Backend, MatRef<'_>, MatMut<'_>) -> Result<()>;

    /// Largest error over every `stride`-th float, and where; compared bit for bit with the
    /// reference on the way, but for the portable tier.
    fn worst(isa: Isa, stride: usize, kernel: Apply, spelled: fn(f32) -> f32, truth: fn(f64) -> f64) -> (f64, f32) {
        const BLOCK: usize = 1 << 16;
        let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
        let mut worst = (0.0, 0.0);
        let mut y = vec![0.0; BLOCK];
        let floats: Vec<u32> = (0..=u32::MAX).step_by(stride * BLOCK).collect();
        for first in floats {
            let x: Vec<f32> = (0..BLOCK).map(|i| f32::from_bits(first.wrapping_add((i * stride) as u32))).collect();
            kernel(&backend, MatRef::new(&x, 1, BLOCK).unwrap(), MatMut::new(&mut y, 1, BLOCK).unwrap()).unwrap();
            for (&x, &y) in x.iter().zip(&y) {
                let same = y.to_bits() == spelled(x).to_bits() || (y.is_nan() && spelled(x).is_nan());
                assert!(same || isa == Isa::Portable, "{isa}: f({x:e}) = {y:e}, the reference has {:e}", spelled(x));
                let error = ulp(y, truth(f64::from(x)));
                if error > worst.0 {
                    worst = (error, x);
                }
            }
        }
        worst
    }

    /// -inf at both zeros, as a logarithm of the magnitude has it.
    fn true_ln(x: f64) -> f64 {
        if x == 0.0 { f64::NEG_INFINITY } else { x.ln() }
    }

    fn check_bounds(stride: usize) {
        for isa in Isa::available() {
            let portable = isa == Isa::Portable;
            let exp = worst(isa, stride, activation::exp, reference::exp, f64::exp);
            let ln = worst(isa, stride, activation::ln, reference::ln, true_ln);
            println!("{isa}: exp {:.4} ulp at {:e}, ln {:.4} ulp at {:e}", exp.0, exp.1, ln.0, ln.1);
            assert!(exp.0 <= if portable { PORTABLE_ULP } else { EXP_ULP }, "{isa}: exp {exp:?}");
            assert!(ln.0 <= if portable { PORTABLE_ULP } else { LN_ULP }, "{isa}: ln {ln:?}");
        }
    }

    #[test]
    fn bounds_hold_on_a_stride_of_floats() {
        check_bounds(4999);
    }

    /// `cargo test --release --lib -- --ignored --nocapture all_floats`
    #[test]
    #[ignore = "takes minutes: all 2^32 floats on every instruction set"]
    fn bounds_hold_on_all_floats() {
        check_bounds(1);
    }

    #[test]
    fn special_values_are_as_stated() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = [nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, f32::from_bits(1), -f32::MIN_POSITIVE, 88.8, -104.0, -87.5];
        for isa in Isa::available() {
            let backend = Backend::with_isa(isa).unwrap();
            let apply = |kernel: Apply| {
                let mut y = [0.0; 12];
                kernel(&backend, MatRef::new(&x, 1, 12).unwrap(), MatMut::new(&mut y, 1, 12).unwrap()).unwrap();
                y
            };
            let (exp, ln) = (apply(activation::exp), apply(activation::ln));
            assert!(exp[0].is_nan() && ln[0].is_nan());
            assert_eq!(exp[1..6].to_vec(), [inf, 0.0, 1.0, 1.0, std::f32::consts::E]);
            assert_eq!([exp[9], exp[10]], [inf, 0.0]);
            assert!(exp[11] > 0.0 && exp[11].is_subnormal());
            assert!(ln[2].is_nan() && ln[6].is_nan() && ln[8].is_nan());
            assert_eq!([ln[1], ln[3], ln[4]], [inf, -inf, -inf]);
            assert_eq!(ln[5].to_bits(), 0);
        }
    }
}
