//! The error bounds of exp, ln and what follows from them, as constants.
//!
//! A test checks the bounds on every 4999th of the 2^32 floats, an ignored one on all; its latest record is
//! in `benches/record`. One ulp is the distance between neighbouring floats at the true result, 2^-149 where
//! that is subnormal.
//!
//! The functions stand in `src/math`, written once over `Simd` with fused multiply-add. The public kernels
//! that apply them are in [`activation`](crate::activation); [`reference`](crate::reference) spells them for
//! single numbers.

mod exp;
mod ln;
mod sigmoid;
#[cfg(test)]
mod tests;

pub(crate) use exp::*;
pub(crate) use ln::*;
pub(crate) use sigmoid::*;

use crate::simd::Simd;

/// Largest error of exp on an instruction set with fused multiply-add, in ulp.
pub const EXP_ULP: f64 = 0.78;
/// Largest error of ln on an instruction set with fused multiply-add, in ulp.
pub const LN_ULP: f64 = 0.78;
/// Largest error of exp(x) - 1 for x < 0, as in ELU, on an instruction set with fused multiply-add, in ulp.
pub const EXP_M1_ULP: f64 = 1.0;
/// Largest error of the sigmoid on an instruction set with fused multiply-add, in ulp.
pub const SIGMOID_ULP: f64 = 1.5;
/// Largest error of tanh on an instruction set with fused multiply-add, in ulp.
pub const TANH_ULP: f64 = 1.0;
/// Largest error of softplus on an instruction set with fused multiply-add, in ulp.
pub const SOFTPLUS_ULP: f64 = 1.7;
/// Largest error of SiLU on an instruction set with fused multiply-add, in ulp.
pub const SILU_ULP: f64 = 1.5;
/// Largest error of GELU, in the form with tanh, on an instruction set with fused multiply-add, in ulp.
pub const GELU_ULP: f64 = 1.5;
/// Largest error of the exponentials that softmax adds up, on an instruction set with fused multiply-add, in
/// ulp.
pub const SUMMAND_ULP: f64 = 1.0;
/// Largest error of exp and ln on the portable instruction set, in ulp.
///
/// No bound is promised for the other functions there; the tests hold GELU to 400 ulp, the rest to 4.
pub const PORTABLE_ULP: f64 = 0.86;

/// Evaluates the sum of terms\[i\] x^i by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, terms: &[f32; N], x: S::F32) -> S::F32 {
    let mut sum = s.splat(terms[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(terms[i]));
    }
    sum
}
