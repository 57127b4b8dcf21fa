//! `Pair`: two vectors as one of double width.
//!
//! With it every tier has vectors of 16 lanes, and row reductions have the same 16 partial sums everywhere:
//! AVX2 takes a `Pair`, NEON a `Pair` of `Pair`s.

use super::{Simd, SimdOp};

/// Two vectors of `S` as one.
#[derive(Clone, Copy)]
pub(crate) struct Pair<S>(pub(crate) S);

/// Applies an operation of the half-width tier to the lower and to the upper halves.
macro_rules! both {
    ($token:expr, $operation:ident $(, $v:expr)*) => {
        [$token.0.$operation($($v[0]),*), $token.0.$operation($($v[1]),*)]
    };
}

impl<S: Simd> Simd for Pair<S> {
    const LANES: usize = 2 * S::LANES;
    const REGISTERS: usize = S::REGISTERS / 2;
    const MAX_MR: usize = S::MAX_MR;
    const FRONT_END_BOUND: bool = S::FRONT_END_BOUND;
    type F32 = [S::F32; 2];
    type I32 = [S::I32; 2];
    type Mask = [S::Mask; 2];

    #[inline(always)]
    fn call<W: SimdOp>(self, work: W) -> W::Output {
        self.0.call(work)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [self.0.splat(x); 2]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F32 {
        // SAFETY: `p` points to `LANES` readable floats; each half loads half of them.
        unsafe { [self.0.load(p), self.0.load(p.add(S::LANES))] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F32) {
        // SAFETY: `p` points to `LANES` writable floats; each half stores half of them.
        unsafe {
            self.0.store(p, v[0]);
            self.0.store(p.add(S::LANES), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize, rest: Self::F32) -> Self::F32 {
        let low = n.min(S::LANES);
        // SAFETY: `p` points to `n` readable floats; the two parts add up to `n`.
        unsafe { [self.0.load_first(p, low, rest[0]), self.0.load_first(p.add(low), n - low, rest[1])] }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::F32) {
        let low = n.min(S::LANES);
        // SAFETY: `p` points to `n` writable floats; the two parts add up to `n`.
        unsafe {
            self.0.store_first(p, low, v[0]);
            self.0.store_first(p.add(low), n - low, v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [Self::F32; 4] {
        let low = rows.min(S::LANES);
        // The upper half repeats the last row if none is its own.
        let (upper, high) = if rows > low { (low, rows - low) } else { (low - 1, 1) };
        // SAFETY: each half loads only some of the `rows` rows.
        let (low, high) = unsafe {
            (self.0.load_4_columns(p, stride, low), self.0.load_4_columns(p.add(upper * stride), stride, high))
        };
        [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
    }
    #[inline(always)]
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, [a, b, c, d]: [Self::F32; 4]) {
        let low = rows.min(S::LANES);
        // SAFETY: each half stores only some of the `rows` rows.
        unsafe {
            self.0.store_4_columns(p, stride, low, [a[0], b[0], c[0], d[0]]);
            if rows > low {
                self.0.store_4_columns(p.add(low * stride), stride, rows - low, [a[1], b[1], c[1], d[1]]);
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        self.0.prefetch(p);
    }
    #[inline(always)]
    fn prefetch_l2(self, p: *const f32) {
        self.0.prefetch_l2(p);
    }
    #[inline(always)]
    fn load_barrier(self, a: *const f32, b: *const f32) -> (*const f32, *const f32) {
        self.0.load_barrier(a, b)
    }
    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, add, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, sub, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, mul, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, div, a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F32) -> Self::F32 {
        both!(self, sqrt, a)
    }
    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        both!(self, fma, a, b, c)
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, max, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, min, a, b)
    }
    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        both!(self, abs, a)
    }
    #[inline(always)]
    fn copysign(self, a: Self::F32, sign: Self::F32) -> Self::F32 {
        both!(self, copysign, a, sign)
    }
    #[inline(always)]
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask {
        both!(self, lt, a, b)
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(self, select, mask, a, b)
    }
    #[inline(always)]
    fn cast_i32(self, a: Self::F32) -> Self::I32 {
        both!(self, cast_i32, a)
    }
    #[inline(always)]
    fn cast_f32(self, a: Self::I32) -> Self::F32 {
        both!(self, cast_f32, a)
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        [self.0.splat_i32(x); 2]
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both!(self, sub_i32, a, b)
    }
    #[inline(always)]
    fn shl<const BITS: i32>(self, a: Self::I32) -> Self::I32 {
        [self.0.shl::<BITS>(a[0]), self.0.shl::<BITS>(a[1])]
    }
    #[inline(always)]
    fn shr<const BITS: i32>(self, a: Self::I32) -> Self::I32 {
        [self.0.shr::<BITS>(a[0]), self.0.shr::<BITS>(a[1])]
    }
    #[inline(always)]
    fn convert_f32(self, a: Self::I32) -> Self::F32 {
        both!(self, convert_f32, a)
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F32) -> f32 {
        self.0.reduce_add(self.0.add(a[0], a[1]))
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F32) -> f32 {
        self.0.reduce_max(self.0.max(a[0], a[1]))
    }
}
