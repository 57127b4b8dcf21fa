//! `Simd`: one token type per instruction set, and the few operations that kernels are written in.
//!
//! A token's existence proves that the processor has the instruction set: only `dispatch` makes
//! one, behind the detection. Everything here and in the tier files is `#[inline(always)]`, so
//! that it is compiled into the `#[target_feature]` function that `dispatch` wraps around a
//! kernel; anything less inlined would turn each intrinsic into a call.
//!
//! All operations round to nearest-even and mean the same, bit for bit, in every tier, with one
//! exception: `fma` of the portable tier rounds twice.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod pair;
pub(crate) mod portable;
pub(crate) mod strided;
pub(crate) mod tier;

/// Lanes of the widest vector of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// A piece of work with its token, to be compiled as a function of its own.
pub(crate) trait SimdOp {
    /// What is given back.
    type Output;

    /// Does the work. Must be `#[inline(always)]`, as everything below it.
    fn run(self) -> Self::Output;
}

/// The vector operations of one instruction set.
pub(crate) trait Simd: Copy {
    /// Elements of a vector.
    const LANES: usize;
    /// Vector registers; a tile's accumulators and operands must fit them.
    const REGISTERS: usize;
    /// Rows of the tallest tiles: what leaves the fewest registers unused.
    const MAX_MR: usize;
    /// Whether the registers allow a tile so few multiply-adds a step, 12, that what stands beside them
    /// counts: a core takes some 6 instructions a cycle, or 3 while a sibling thread is busy on it.
    const FRONT_END_BOUND: bool = false;
    /// `LANES` floats.
    type F32: Copy;
    /// `LANES` 32-bit integers.
    type I32: Copy;
    /// `LANES` truth values.
    type Mask: Copy;

    /// Does the work in a function that has this instruction set's features: for kernels, which begin there.
    fn call<W: SimdOp>(self, work: W) -> W::Output;

    /// Does a part of a kernel's work in a function of its own.
    #[inline(always)]
    fn outline<W: SimdOp>(self, work: W) -> W::Output {
        outlined(self, work)
    }

    fn splat(self, x: f32) -> Self::F32;

    /// # Safety
    /// `p` points to `LANES` readable floats.
    unsafe fn load(self, p: *const f32) -> Self::F32;

    /// # Safety
    /// `p` points to `LANES` writable floats.
    unsafe fn store(self, p: *mut f32, v: Self::F32);

    /// The first `n` lanes from memory, the others from `rest`; memory past them is not touched.
    ///
    /// # Safety
    /// `p` points to `n` readable floats, `n <= LANES`.
    unsafe fn load_first(self, p: *const f32, n: usize, rest: Self::F32) -> Self::F32;

    /// Stores the first `n` lanes; memory past them is not touched.
    ///
    /// # Safety
    /// `p` points to `n` writable floats, `n <= LANES`.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::F32);

    /// Four neighbouring columns of `rows` rows (at least 1) that stand `stride` apart: lane i is
    /// of row i, or of the last row where there are fewer than `LANES`.
    ///
    /// # Safety
    /// Four floats can be read at each row.
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [Self::F32; 4];

    /// The other way: stores four columns as neighbours, in so many rows (at least 1) that stand `stride` apart.
    ///
    /// # Safety
    /// Four floats can be written at each row.
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, columns: [Self::F32; 4]);

    /// Asks for a cache line that will be needed soon; any address will do.
    fn prefetch(self, p: *const f32);

    /// Asks for a cache line that will be needed later, so that it waits in L2; any address will do.
    fn prefetch_l2(self, p: *const f32);

    /// The same addresses. Where tiles are [`FRONT_END_BOUND`](Self::FRONT_END_BOUND) the compiler does not see that, and moves
    /// no load over this: it would begin with those of many steps at once, for which there are no registers.
    #[inline(always)]
    fn load_barrier(self, a: *const f32, b: *const f32) -> (*const f32, *const f32) {
        (a, b)
    }

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sqrt(self, a: Self::F32) -> Self::F32;

    /// `a * b + c`, rounded once (portable tier: twice).
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// `if a > b { a } else { b }`: b where either is NaN or both are zero.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `if a < b { a } else { b }`: b where either is NaN or both are zero.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// Without its sign.
    fn abs(self, a: Self::F32) -> Self::F32;

    /// `a` with the sign of `sign`.
    fn copysign(self, a: Self::F32, sign: Self::F32) -> Self::F32;

    /// `a < b`, false where either is NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;

    /// `if mask { a } else { b }`.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;

    fn cast_i32(self, a: Self::F32) -> Self::I32;
    fn cast_f32(self, a: Self::I32) -> Self::F32;
    fn splat_i32(self, x: i32) -> Self::I32;
    /// Wrapping.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn shl<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// Arithmetic: the sign is kept.
    fn shr<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// The nearest float.
    fn convert_f32(self, a: Self::I32) -> Self::F32;

    /// Adds the lanes in a fixed tree: lane i with lane i + half, then halves of halves.
    fn reduce_add(self, a: Self::F32) -> f32;

    /// [`max`](Self::max) of the lanes, in the tree of [`reduce_add`](Self::reduce_add).
    fn reduce_max(self, a: Self::F32) -> f32;
}

/// [`Simd::outline`]. rustc (1.95, and 1.97 too) drops `inline(never)` from functions with target features;
/// this one has none, and LLVM inlines no function with more features into it.
#[inline(never)]
fn outlined<S: Simd, W: SimdOp>(s: S, work: W) -> W::Output {
    s.call(work)
}

/// The same address, but the compiler does not know that: it would keep the offset of each row from
/// a common address, in more registers than there are.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read")]
pub(crate) fn opaque_ptr(p: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut p = p;
        // Miri knows no assembly.
        if !cfg!(miri) {
            // SAFETY: no instruction at all.
            unsafe { std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags)) };
        }
        p
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    p
}

/// `if a > b { a } else { b }`, the scalar form of [`Simd::max`].
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
