//! The portable tier: `wide`'s vectors, in the instruction set that the crate was built for.
//!
//! Only a build with `-C target-feature=+fma` fuses `fma` here; else it rounds twice, and
//! results differ from the other tiers' within the bound that `reference` states.

use wide::{f32x16, i32x16};

use super::{Simd, SimdOp};
use crate::contract::ROW_LANES;

/// A token that proves nothing: every processor runs this tier.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Portable {
    /// Lanes i and i + 8, then i + 4, i + 2 and i + 1; `op` combines them.
    #[inline(always)]
    fn reduce(self, a: f32x16, op: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = a.to_array();
        let mut half = ROW_LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] = op(lanes[i], lanes[i + half]);
            }
            half /= 2;
        }
        lanes[0]
    }
}

impl Simd for Portable {
    const LANES: usize = ROW_LANES;
    const REGISTERS: usize = 4;
    const MAX_MR: usize = 1;
    type F32 = f32x16;
    type I32 = i32x16;
    type Mask = f32x16;

    #[inline(always)]
    fn call<W: SimdOp>(self, work: W) -> W::Output {
        work.run()
    }
    #[inline(always)]
    fn splat(self, x: f32) -> f32x16 {
        f32x16::splat(x)
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x16 {
        // SAFETY: `p` points to `16` readable floats.
        f32x16::new(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x16) {
        // SAFETY: `p` points to `16` writable floats.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize, rest: f32x16) -> f32x16 {
        let mut lanes = rest.to_array();
        // SAFETY: `p` points to `n` readable floats, and n <= 16.
        unsafe { core::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n) };
        f32x16::new(lanes)
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: f32x16) {
        let lanes = v.to_array();
        // SAFETY: `p` points to `n` writable floats, and n <= 16.
        unsafe { core::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n) };
    }
    // Not inlined: that would be two hundred moves of single floats each time.
    #[inline(never)]
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [f32x16; 4] {
        let mut columns = [[0.0; ROW_LANES]; 4];
        for lane in 0..ROW_LANES {
            for (col, column) in columns.iter_mut().enumerate() {
                // SAFETY: the caller gives four floats at each row.
                column[lane] = unsafe { *p.add(lane.min(rows - 1) * stride + col) };
            }
        }
        columns.map(f32x16::new)
    }
    #[inline(never)]
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, columns: [f32x16; 4]) {
        let columns = columns.map(f32x16::to_array);
        for lane in 0..ROW_LANES.min(rows) {
            for (col, column) in columns.iter().enumerate() {
                // SAFETY: the caller gives four floats at each row.
                unsafe { *p.add(lane * stride + col) = column[lane] };
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    #[inline(always)]
    fn prefetch_l2(self, _: *const f32) {}
    #[inline(always)]
    fn add(self, a: f32x16, b: f32x16) -> f32x16 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x16, b: f32x16) -> f32x16 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x16, b: f32x16) -> f32x16 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x16, b: f32x16) -> f32x16 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32x16) -> f32x16 {
        a.sqrt()
    }
    #[inline(always)]
    fn fma(self, a: f32x16, b: f32x16, c: f32x16) -> f32x16 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn max(self, a: f32x16, b: f32x16) -> f32x16 {
        // Not wide's own max: what that gives for NaN depends on the build.
        self.select(self.lt(b, a), a, b)
    }
    #[inline(always)]
    fn min(self, a: f32x16, b: f32x16) -> f32x16 {
        self.select(self.lt(a, b), a, b)
    }
    #[inline(always)]
    fn abs(self, a: f32x16) -> f32x16 {
        f32x16::new(a.to_array().map(f32::abs))
    }
    #[inline(always)]
    fn copysign(self, a: f32x16, sign: f32x16) -> f32x16 {
        let (a, sign) = (a.to_array(), sign.to_array());
        f32x16::new(core::array::from_fn(|lane| a[lane].copysign(sign[lane])))
    }
    #[inline(always)]
    fn lt(self, a: f32x16, b: f32x16) -> f32x16 {
        a.simd_lt(b)
    }
    #[inline(always)]
    fn select(self, mask: f32x16, a: f32x16, b: f32x16) -> f32x16 {
        mask.bitselect(a, b)
    }
    #[inline(always)]
    fn cast_i32(self, a: f32x16) -> i32x16 {
        i32x16::new(a.to_array().map(|lane| lane.to_bits() as i32))
    }
    #[inline(always)]
    fn cast_f32(self, a: i32x16) -> f32x16 {
        f32x16::new(a.to_array().map(|lane| f32::from_bits(lane as u32)))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> i32x16 {
        i32x16::splat(x)
    }
    #[inline(always)]
    fn sub_i32(self, a: i32x16, b: i32x16) -> i32x16 {
        a - b
    }
    #[inline(always)]
    fn shl<const BITS: i32>(self, a: i32x16) -> i32x16 {
        a << BITS
    }
    #[inline(always)]
    fn shr<const BITS: i32>(self, a: i32x16) -> i32x16 {
        a >> BITS
    }
    #[inline(always)]
    fn convert_f32(self, a: i32x16) -> f32x16 {
        f32x16::new(a.to_array().map(|lane| lane as f32))
    }
    #[inline(always)]
    fn reduce_add(self, a: f32x16) -> f32 {
        self.reduce(a, |x, y| x + y)
    }
    #[inline(always)]
    fn reduce_max(self, a: f32x16) -> f32 {
        self.reduce(a, |x, y| if x > y { x } else { y })
    }
}
