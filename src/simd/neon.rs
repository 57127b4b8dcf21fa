//! NEON: 4 floats a register, 32 registers. Part of every 64-bit ARM processor.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{Simd, SimdOp, max};

/// Proof that the processor has `neon`.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The processor has `neon`.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }

    /// Rows for columns.
    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: the token proves neon.
        unsafe {
            let (ab, cd) = (vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn1q_f32(c, d)));
            let (ef, gh) = (vreinterpretq_f64_f32(vtrn2q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(c, d)));
            [
                vreinterpretq_f32_f64(vtrn1q_f64(ab, cd)),
                vreinterpretq_f32_f64(vtrn1q_f64(ef, gh)),
                vreinterpretq_f32_f64(vtrn2q_f64(ab, cd)),
                vreinterpretq_f32_f64(vtrn2q_f64(ef, gh)),
            ]
        }
    }

    /// Lanes i and i + 2, then i + 1; `op` combines them.
    #[inline(always)]
    fn reduce(self, a: float32x4_t, op: impl Fn(f32, f32) -> f32) -> f32 {
        // SAFETY: float32x4_t is four floats, and any bits make a float.
        let l: [f32; 4] = unsafe { core::mem::transmute(a) };
        op(op(l[0], l[2]), op(l[1], l[3]))
    }
}

#[target_feature(enable = "neon")]
fn call<W: SimdOp>(work: W) -> W::Output {
    work.run()
}

// SAFETY (every `unsafe` of this impl): the token proves the instruction set; loads and stores access only
// what the trait's `# Safety` sections say `p` points to.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const MAX_MR: usize = 6;
    type F32 = float32x4_t;
    type I32 = int32x4_t;
    type Mask = uint32x4_t;

    #[inline(always)]
    fn call<W: SimdOp>(self, work: W) -> W::Output {
        unsafe { call(work) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize, rest: float32x4_t) -> float32x4_t {
        unsafe {
            let mut lanes: [f32; 4] = core::mem::transmute(rest);
            core::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            core::mem::transmute(lanes)
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: float32x4_t) {
        unsafe {
            let lanes: [f32; 4] = core::mem::transmute(v);
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
    #[inline(always)]
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [float32x4_t; 4] {
        let row = |row: usize| p.wrapping_add(row.min(rows - 1) * stride);
        self.transpose(unsafe { [vld1q_f32(row(0)), vld1q_f32(row(1)), vld1q_f32(row(2)), vld1q_f32(row(3))] })
    }
    #[inline(always)]
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, columns: [float32x4_t; 4]) {
        for (row, v) in self.transpose(columns).into_iter().enumerate().take(rows) {
            unsafe { vst1q_f32(p.wrapping_add(row * stride), v) }
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // The intrinsic is unstable.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) p, options(nomem, nostack, preserves_flags)) }
    }
    #[inline(always)]
    fn prefetch_l2(self, p: *const f32) {
        unsafe { asm!("prfm pldl2keep, [{}]", in(reg) p, options(nomem, nostack, preserves_flags)) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // Not vmaxq_f32, which gives NaN where either is NaN.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        unsafe { vabsq_f32(a) }
    }
    #[inline(always)]
    fn copysign(self, a: float32x4_t, sign: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vdupq_n_u32(1 << 31), sign, a) }
    }
    #[inline(always)]
    fn lt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        unsafe { vcltq_f32(a, b) }
    }
    #[inline(always)]
    fn select(self, mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(mask, a, b) }
    }
    #[inline(always)]
    fn cast_i32(self, a: float32x4_t) -> int32x4_t {
        unsafe { vreinterpretq_s32_f32(a) }
    }
    #[inline(always)]
    fn cast_f32(self, a: int32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_s32(a) }
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> int32x4_t {
        unsafe { vdupq_n_s32(x) }
    }
    #[inline(always)]
    fn sub_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        unsafe { vsubq_s32(a, b) }
    }
    #[inline(always)]
    fn shl<const BITS: i32>(self, a: int32x4_t) -> int32x4_t {
        unsafe { vshlq_n_s32::<BITS>(a) }
    }
    #[inline(always)]
    fn shr<const BITS: i32>(self, a: int32x4_t) -> int32x4_t {
        unsafe { vshrq_n_s32::<BITS>(a) }
    }
    #[inline(always)]
    fn convert_f32(self, a: int32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(a) }
    }
    #[inline(always)]
    fn reduce_add(self, a: float32x4_t) -> f32 {
        self.reduce(a, |x, y| x + y)
    }
    #[inline(always)]
    fn reduce_max(self, a: float32x4_t) -> f32 {
        self.reduce(a, max)
    }
}
