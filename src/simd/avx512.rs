//! AVX-512: 16 floats a register, 32 registers, masks of their own.

use core::arch::x86_64::*;

use super::{Simd, SimdOp};

/// Proof that the processor has `avx512f`.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has `avx512f`.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }

    /// The mask of the first `n` of 16 lanes.
    #[inline(always)]
    fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }

    /// The upper eight lanes.
    #[inline(always)]
    fn upper(self, a: __m512) -> __m256 {
        // SAFETY: the token proves avx512f.
        unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a))) }
    }

    /// The lower eight lanes, as the AVX2 tier's vector, which finishes reductions.
    #[inline(always)]
    fn lower(self, a: __m512) -> __m256 {
        // SAFETY: the token proves avx512f.
        unsafe { _mm512_castps512_ps256(a) }
    }

    /// Lower and upper eight lanes together.
    #[inline(always)]
    fn join(self, low: __m256, high: __m256) -> __m512 {
        // SAFETY: the token proves avx512f.
        unsafe {
            let low = _mm512_castps_pd(_mm512_castps256_ps512(low));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
        }
    }

    /// avx512f brings avx2 and fma with it.
    #[inline(always)]
    pub(crate) fn half(self) -> super::avx2::Avx2 {
        // SAFETY: the token proves avx512f, which implies avx2 and fma.
        unsafe { super::avx2::Avx2::assume() }
    }
}

// Not dq or vl: rustc 1.95 miscompiles auto-vectorised code under those.
#[target_feature(enable = "avx512f")]
fn call<W: SimdOp>(work: W) -> W::Output {
    work.run()
}

// SAFETY (every `unsafe` of this impl): the token proves the instruction set; loads and stores access only
// what the trait's `# Safety` sections say `p` points to.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const MAX_MR: usize = 14;
    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;

    #[inline(always)]
    fn call<W: SimdOp>(self, work: W) -> W::Output {
        unsafe { call(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize, rest: __m512) -> __m512 {
        unsafe { _mm512_mask_loadu_ps(rest, Self::first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: __m512) {
        unsafe { _mm512_mask_storeu_ps(p, Self::first(n), v) }
    }
    #[inline(always)]
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [__m512; 4] {
        unsafe {
            // In registers half as wide: those load and shuffle two at a time.
            let half = self.half();
            let low = half.load_4_columns(p, stride, rows.min(8));
            let (p, rows) = if rows > 8 { (super::opaque_ptr(p.wrapping_add(8 * stride)), rows - 8) } else { (p, 1) };
            let high = half.load_4_columns(p, stride, rows);
            [
                self.join(low[0], high[0]),
                self.join(low[1], high[1]),
                self.join(low[2], high[2]),
                self.join(low[3], high[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, [a, b, c, d]: [__m512; 4]) {
        let half = self.half();
        unsafe {
            let low = [self.lower(a), self.lower(b), self.lower(c), self.lower(d)];
            half.store_4_columns(p, stride, rows.min(8), low);
            if rows > 8 {
                let high = [self.upper(a), self.upper(b), self.upper(c), self.upper(d)];
                half.store_4_columns(p.wrapping_add(8 * stride), stride, rows - 8, high);
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
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn copysign(self, a: __m512, sign: __m512) -> __m512 {
        // The bits of the mask choose between those of the two others.
        const CHOOSE: i32 = 0xca;
        let mask = self.splat_i32(i32::MIN);
        self.cast_f32(unsafe { _mm512_ternarylogic_epi32::<CHOOSE>(mask, self.cast_i32(sign), self.cast_i32(a)) })
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }
    #[inline(always)]
    fn cast_i32(self, a: __m512) -> __m512i {
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    fn cast_f32(self, a: __m512i) -> __m512 {
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn shl<const BITS: i32>(self, a: __m512i) -> __m512i {
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(BITS)) }
    }
    #[inline(always)]
    fn shr<const BITS: i32>(self, a: __m512i) -> __m512i {
        unsafe { _mm512_sra_epi32(a, _mm_cvtsi32_si128(BITS)) }
    }
    #[inline(always)]
    fn convert_f32(self, a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        let half = self.half();
        half.reduce_add(half.add(self.lower(a), self.upper(a)))
    }
    #[inline(always)]
    fn reduce_max(self, a: __m512) -> f32 {
        let half = self.half();
        half.reduce_max(half.max(self.lower(a), self.upper(a)))
    }
}
