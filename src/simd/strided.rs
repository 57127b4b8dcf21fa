//! Loads and stores of vectors whose elements are not contiguous.

use super::{MAX_LANES, Simd};

/// Loads `n` elements that are `stride` apart; the other lanes are those of `rest`.
///
/// # Safety
/// The `n` elements can be read, and `n <= LANES`.
#[inline(always)]
pub(crate) unsafe fn load_strided<S: Simd>(s: S, p: *const f32, stride: usize, n: usize, rest: S::F32) -> S::F32 {
    // SAFETY: the elements can be read; `lanes` has room for a vector.
    unsafe {
        if stride != 1 {
            let mut lanes = [0.0f32; MAX_LANES];
            for (lane, value) in lanes.iter_mut().enumerate().take(n) {
                *value = *p.add(lane * stride);
            }
            s.load_first(lanes.as_ptr(), n, rest)
        } else if n == S::LANES {
            s.load(p)
        } else {
            s.load_first(p, n, rest)
        }
    }
}

/// Stores the first `n` lanes to elements that are `stride` apart.
///
/// # Safety
/// The `n` elements can be written, and `n <= LANES`.
#[inline(always)]
pub(crate) unsafe fn store_strided<S: Simd>(s: S, p: *mut f32, stride: usize, n: usize, v: S::F32) {
    // SAFETY: the elements can be written; `lanes` has room for a vector.
    unsafe {
        if stride != 1 {
            let mut lanes = [0.0f32; MAX_LANES];
            s.store(lanes.as_mut_ptr(), v);
            for (lane, value) in lanes.iter().enumerate().take(n) {
                *p.add(lane * stride) = *value;
            }
        } else if n == S::LANES {
            s.store(p, v);
        } else {
            s.store_first(p, n, v);
        }
    }
}
