//! exp and ln, written once over `Simd`.
use crate::simd::Simd;
/// x
pub const EXP_ULP: f32 = 1.0;
/// x
pub const LN_ULP: f32 = 1.0;
/// x
pub const PORTABLE_ULP: f32 = 4.0;
pub(crate) fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let _ = s;
    x
}
pub(crate) fn ln<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let _ = s;
    x
}
