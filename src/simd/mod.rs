//! `Simd`: the vector operations that kernels are written in, with one token type per instruction set.
//!
//! A token proves that the processor has the instruction set: only `dispatch` makes one, after detection.
//! Everything here and in the tier files is `#[inline(always)]` and so compiled into the `#[target_feature]`
//! function that `dispatch` wraps around a kernel; anything less inlined would turn each intrinsic into a
//! call.
//!
//! All operations round to nearest-even and give the same bits in every tier, with one exception: `fma` of
//! the portable tier rounds twice. `tests/kernels` runs every kernel on every instruction set against the
//! scalar reference.

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

/// A computation that holds its token, to be compiled as a function of its own.
pub(crate) trait SimdOp {
    type Output;

    /// Computes. Must be `#[inline(always)]`, as everything below it.
    fn run(self) -> Self::Output;
}

/// The vector operations of one instruction set.
pub(crate) trait Simd: Copy {
    /// Elements of a vector.
    const LANES: usize;
    /// Vector registers, which must hold a micro-kernel's accumulators and operands.
    const REGISTERS: usize;
    /// MR of the tallest micro-kernel, which leaves the fewest registers unused.
    const MAX_MR: usize;
    /// Whether the front end bounds a micro-kernel, since the registers allow only 12 FMAs per k-step.
    ///
    /// A core decodes some 6 instructions per cycle, or 3 while a sibling thread is busy on it.
    const FRONT_END_BOUND: bool = false;
    /// `LANES` floats.
    type F32: Copy;
    /// `LANES` 32-bit integers.
    type I32: Copy;
    /// `LANES` booleans.
    type Mask: Copy;

    /// Computes in a function that has this instruction set's features: the entry point of a kernel.
    fn call<W: SimdOp>(self, work: W) -> W::Output;

    /// Computes a part of a kernel in a function of its own, which keeps large kernels from being duplicated.
    #[inline(always)]
    fn outline<W: SimdOp>(self, work: W) -> W::Output {
        outlined(self, work)
    }

    /// Copies a number to all lanes.
    fn splat(self, x: f32) -> Self::F32;

    /// Loads a vector; no alignment is needed.
    ///
    /// # Safety
    /// `p` points to `LANES` readable floats.
    unsafe fn load(self, p: *const f32) -> Self::F32;

    /// Stores a vector; no alignment is needed.
    ///
    /// # Safety
    /// `p` points to `LANES` writable floats.
    unsafe fn store(self, p: *mut f32, v: Self::F32);

    /// Loads the first `n` lanes and takes the others from `rest`; memory past `n` is not accessed.
    ///
    /// # Safety
    /// `p` points to `n` readable floats, `n <= LANES`.
    unsafe fn load_first(self, p: *const f32, n: usize, rest: Self::F32) -> Self::F32;

    /// Stores the first `n` lanes; memory past `n` is not accessed.
    ///
    /// # Safety
    /// `p` points to `n` writable floats, `n <= LANES`.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::F32);

    /// Loads four contiguous columns of rows that are `stride` apart, transposed in registers (4 x `LANES`).
    ///
    /// Lane i holds row i, or the last row where there are fewer than `LANES`.
    ///
    /// # Safety
    /// `rows >= 1`, and four floats can be read at each of the rows.
    unsafe fn load_4_columns(self, p: *const f32, stride: usize, rows: usize) -> [Self::F32; 4];

    /// Stores four columns to rows that are `stride` apart: the inverse of
    /// [`load_4_columns`](Self::load_4_columns).
    ///
    /// # Safety
    /// `rows >= 1`, and four floats can be written at each of the rows.
    unsafe fn store_4_columns(self, p: *mut f32, stride: usize, rows: usize, columns: [Self::F32; 4]);

    /// Prefetches a cache line into L1: a hint that never faults, whatever the address.
    fn prefetch(self, p: *const f32);

    /// Prefetches a cache line into L2: a hint that never faults, whatever the address.
    fn prefetch_l2(self, p: *const f32);

    /// Returns both pointers; an optimisation barrier where micro-kernels are
    /// [`FRONT_END_BOUND`](Self::FRONT_END_BOUND).
    ///
    /// It keeps the loads of later k-steps from being hoisted: there are no registers for them, and they
    /// would be spilled.
    #[inline(always)]
    fn load_barrier(self, a: *const f32, b: *const f32) -> (*const f32, *const f32) {
        (a, b)
    }

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sqrt(self, a: Self::F32) -> Self::F32;

    /// Computes `a * b + c`, rounded once (portable tier: twice).
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// `if a > b { a } else { b }`: b where either is NaN or both are zero.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `if a < b { a } else { b }`: b where either is NaN or both are zero.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// Clears the sign.
    fn abs(self, a: Self::F32) -> Self::F32;

    /// `a` with the sign of `sign`.
    fn copysign(self, a: Self::F32, sign: Self::F32) -> Self::F32;

    /// `a < b`, false where either is NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;

    /// `if mask { a } else { b }`.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;

    /// Reinterprets the bits.
    fn cast_i32(self, a: Self::F32) -> Self::I32;
    /// Reinterprets the bits.
    fn cast_f32(self, a: Self::I32) -> Self::F32;
    fn splat_i32(self, x: i32) -> Self::I32;
    /// Subtracts, wrapping around.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn shl<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// Shifts right arithmetically: the sign is kept.
    fn shr<const BITS: i32>(self, a: Self::I32) -> Self::I32;
    /// Rounds to the nearest float.
    fn convert_f32(self, a: Self::I32) -> Self::F32;

    /// Adds the lanes in a fixed tree: lane i and lane i + `LANES` / 2, then halves of halves.
    fn reduce_add(self, a: Self::F32) -> f32;

    /// [`max`](Self::max) of the lanes, in the tree of [`reduce_add`](Self::reduce_add).
    fn reduce_max(self, a: Self::F32) -> f32;
}

/// Implements [`Simd::outline`].
///
/// rustc (1.95, and 1.97 too) drops `inline(never)` from functions with target features. This one has none,
/// and LLVM inlines no function with more features into it.
#[inline(never)]
fn outlined<S: Simd, W: SimdOp>(s: S, work: W) -> W::Output {
    s.call(work)
}

/// Returns the pointer; an optimisation barrier.
///
/// Without it the compiler keeps the offset of each row from a common address, in more registers than there
/// are.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read")]
pub(crate) fn opaque_ptr(p: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut p = p;
        // Miri does not execute assembly.
        if !cfg!(miri) {
            // SAFETY: the assembly is empty.
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
