//! AVX2 with FMA: 8 floats a register, 16 registers, masks held in vectors.

use core::arch::asm;
use core::arch::x86_64::*;

use super::{Simd, SimdOp, max};

/// Proof that the processor has `avx2` and `fma`.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has `avx2` and `fma`.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }

    /// The mask of the first `n` of 8 lanes.
    #[inline(always)]
    fn first(self, n: usize) -> __m256i {
        // SAFETY: the token proves avx2.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    /// Transposes the 4 x 4 block in each half.
    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        // SAFETY: the token proves avx2.
        unsafe {
            let (ab, cd) = (_mm256_castps_pd(_mm256_unpacklo_ps(a, b)), _mm256_castps_pd(_mm256_unpacklo_ps(c, d)));
            let (ef, gh) = (_mm256_castps_pd(_mm256_unpackhi_ps(a, b)), _mm256_castps_pd(_mm256_unpackhi_ps(c, d)));
            [
                _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
                _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)),
                _mm256_castpd_ps(_mm256_unpacklo_pd(ef, gh)),
                _mm256_castpd_ps(_mm256_unpackhi_pd(ef, gh)),
            ]
        }
    }

    /// Lanes i and i + 4, then i + 2, then i + 1; `op` combines them.
    #[inline(always)]
    fn reduce(self, a: __m256, op: impl Fn(f32, f32) -> f32) -> f32 {
        // SAFETY: __m256 is eight floats, and any bits make a float.
        let l: [f32; 8] = unsafe { core::mem::transmute(a) };
        let half = [op(l[0], l[4]), op(l[1], l[5]), op(l[2], l[6]), op(l[3], l[7])];
        op(op(half[0], half[2]), op(half[1], half[3]))
    }
}

#[target_feature(enable = "avx2,fma")]
fn call<W: SimdOp>(work: W) -> W::Output {
    work.run()
}

// SAFETY (every `unsafe` of this impl): the token proves the instruction set; loads and stores access only
// what the trait's `# Safety` sections say `p` points to.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const MAX_MR: usize = 6;
    const FRONT_END_BOUND: bool = true;
    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256;

    #[inline(always)]
    fn call<W: SimdOp>(self, work: W) -> W::Output {
        unsafe { call(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize, rest: __m256) -> __m256 {
        let mask = self.first(n);
        unsafe { _mm256_blendv_ps(rest, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: __m256) {
        unsafe { _mm256_maskstore_ps(p, self.first(n), v) }
    }
    #[inline(always)]
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [__m256; 4] {
        // Register q holds rows q and q + 4; transposing the 4 x 4 blocks puts them in order.
        let mut quads = [self.splat(0.0); 4];
        let pair = |low, high| unsafe {
            _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high))
        };
        if rows == Self::LANES {
            let (low, high) = (super::opaque_ptr(p), super::opaque_ptr(p.wrapping_add(4 * stride)));
            for (q, v) in quads.iter_mut().enumerate() {
                *v = pair(low.wrapping_add(q * stride), high.wrapping_add(q * stride));
            }
        } else {
            let row = |row: usize| p.wrapping_add(row.min(rows - 1) * stride);
            for (q, v) in quads.iter_mut().enumerate() {
                *v = pair(row(q), row(q + 4));
            }
        }
        self.transpose(quads)
    }
    #[inline(always)]
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, columns: [__m256; 4]) {
        // Register q holds rows q and q + 4. A constant `rows` compiles to no checks.
        for (q, v) in self.transpose(columns).into_iter().enumerate() {
            unsafe {
                if q < rows {
                    _mm_storeu_ps(p.wrapping_add(q * stride), _mm256_castps256_ps128(v));
                }
                if q + 4 < rows {
                    _mm_storeu_ps(p.wrapping_add((q + 4) * stride), _mm256_extractf128_ps::<1>(v));
                }
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    fn prefetch_l2(self, p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    fn load_barrier(self, mut a: *const f32, mut b: *const f32) -> (*const f32, *const f32) {
        // Empty assembly that may write to memory, as far as the compiler knows. Miri does not execute
        // assembly.
        if !cfg!(miri) {
            unsafe { asm!("/* {0} {1} */", inout(reg) a, inout(reg) b, options(nostack, preserves_flags)) };
        }
        (a, b)
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(self.splat(-0.0), a) }
    }
    #[inline(always)]
    fn copysign(self, a: __m256, sign: __m256) -> __m256 {
        unsafe { _mm256_or_ps(self.abs(a), _mm256_and_ps(self.splat(-0.0), sign)) }
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(b, a, mask) }
    }
    #[inline(always)]
    fn cast_i32(self, a: __m256) -> __m256i {
        unsafe { _mm256_castps_si256(a) }
    }
    #[inline(always)]
    fn cast_f32(self, a: __m256i) -> __m256 {
        unsafe { _mm256_castsi256_ps(a) }
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn shl<const BITS: i32>(self, a: __m256i) -> __m256i {
        unsafe { _mm256_slli_epi32::<BITS>(a) }
    }
    #[inline(always)]
    fn shr<const BITS: i32>(self, a: __m256i) -> __m256i {
        unsafe { _mm256_srai_epi32::<BITS>(a) }
    }
    #[inline(always)]
    fn convert_f32(self, a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn reduce_add(self, a: __m256) -> f32 {
        self.reduce(a, |x, y| x + y)
    }
    #[inline(always)]
    fn reduce_max(self, a: __m256) -> f32 {
        self.reduce(a, max)
    }
}
