//! Many exponentials, in two steps: all arguments are reduced before the first polynomial begins. An exponential is a
//! chain of operations that wait for one another; of chains half as long, twice as many are under way at a time.

use std::mem::MaybeUninit;

use super::row_at_a_time::{Partials, Row, RowMut};
use crate::math;
use crate::simd::Simd;
use crate::tuning::rows::ROW_PER_LANE_COLS;

/// Vectors that are worked on at a time.
const AT_ONCE: usize = ROW_PER_LANE_COLS;

/// Writes the exponentials of what the elements of rows in the lanes lack to their maximum, at most [`ROW_PER_LANE_COLS`].
#[inline(always)]
pub(super) fn exponentials<S: Simd>(s: S, x: &[S::F32], max: S::F32, e: &mut [S::F32]) {
    let mut powers = [MaybeUninit::uninit(); AT_ONCE];
    for ((e, power), &x) in e.iter_mut().zip(&mut powers).zip(x) {
        let [r, power_of_2] = math::reduce_summand(s, s.sub(x, max));
        (*e, *power) = (r, MaybeUninit::new(power_of_2));
    }
    for ((e, power), _) in e.iter_mut().zip(&powers).zip(x) {
        // SAFETY: it was written with this element.
        *e = math::summand_of(s, [*e, unsafe { power.assume_init() }]);
    }
}

/// Adds up the exponentials of what a row's elements lack to `max`, element j in partial sum j mod
/// [`ROW_LANES`](crate::contract::ROW_LANES), and writes them to `keep`, which may be x; `next` elements on, x is asked for.
///
/// # Safety
/// The rows have `cols` elements, a multiple of `ROW_LANES`, which are neighbours if `UNIT`.
#[inline(always)]
pub(super) unsafe fn sum_of_exponentials<S: Simd, const UNIT: bool>(
    s: S,
    x: Row,
    [cols, next]: [usize; 2],
    max: S::F32,
    keep: Option<RowMut>,
    sums: &mut Partials<S>,
) {
    let vectors = Partials::<S>::VECTORS;
    let mut reduced = [[MaybeUninit::uninit(); 2]; AT_ONCE];
    for first in (0..cols).step_by(AT_ONCE * S::LANES) {
        let reduced = &mut reduced[..AT_ONCE.min((cols - first) / S::LANES)];
        for (i, reduced) in reduced.iter_mut().enumerate() {
            let col = first + i * S::LANES;
            s.prefetch(x.p.wrapping_add(next + col));
            // SAFETY: the caller's.
            let x = unsafe { x.load::<S, UNIT>(s, col, S::LANES, max) };
            *reduced = math::reduce_summand(s, s.sub(x, max)).map(MaybeUninit::new);
        }
        for (i, reduced) in reduced.chunks_exact(vectors).enumerate() {
            for (j, reduced) in reduced.iter().enumerate() {
                // SAFETY: both are written above; the caller's.
                unsafe {
                    let e = math::summand_of(s, [reduced[0].assume_init(), reduced[1].assume_init()]);
                    if let Some(keep) = keep {
                        keep.store::<S, UNIT>(s, first + (i * vectors + j) * S::LANES, S::LANES, e);
                    }
                    sums.add(s, j, e);
                }
            }
        }
    }
}

/// Writes the exponentials of what a row's elements lack to `max`; `e` may be x.
///
/// # Safety
/// The rows have `cols` elements, which are neighbours if `UNIT`.
#[inline(always)]
pub(super) unsafe fn write_exponentials<S: Simd, const UNIT: bool>(s: S, x: Row, max: f32, e: RowMut, cols: usize) {
    let max = s.splat(max);
    let whole = cols - cols % S::LANES;
    let mut reduced = [[MaybeUninit::uninit(); 2]; AT_ONCE];
    for first in (0..whole).step_by(AT_ONCE * S::LANES) {
        let reduced = &mut reduced[..AT_ONCE.min((whole - first) / S::LANES)];
        for (i, reduced) in reduced.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let x = unsafe { x.load::<S, UNIT>(s, first + i * S::LANES, S::LANES, max) };
            *reduced = math::reduce_summand(s, s.sub(x, max)).map(MaybeUninit::new);
        }
        for (i, reduced) in reduced.iter().enumerate() {
            // SAFETY: both are written above; the caller's.
            unsafe {
                let summand = math::summand_of(s, [reduced[0].assume_init(), reduced[1].assume_init()]);
                e.store::<S, UNIT>(s, first + i * S::LANES, S::LANES, summand);
            }
        }
    }
    if whole < cols {
        // SAFETY: the caller's.
        unsafe {
            let x = x.load::<S, UNIT>(s, whole, cols - whole, max);
            e.store::<S, UNIT>(s, whole, cols - whole, math::exp_summand(s, s.sub(x, max)));
        }
    }
}
