//! When and how work is split over threads: the only file that names rayon.
//!
//! Work is split along the axis that its kernel names, by halves, with `rayon::join`, which
//! neither allocates nor locks. Where it is split never changes a bit: no element's sum crosses a
//! split, and the one scalar that does, the loss, is added in a tree that depends on the number of
//! rows alone.

use std::num::NonZeroUsize;

use crate::dispatch::Dispatch;
use crate::kernels::Kernel;

/// On how many threads a call runs. No choice changes a bit of any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Threads {
    /// As many of the current rayon pool's as the size of the work pays for; small work stays on
    /// the calling thread.
    #[default]
    Auto,
    /// The calling thread alone.
    One,
    /// So many pieces whatever their size, run by the current rayon pool.
    Exactly(NonZeroUsize),
}

/// Rows whose losses are added one after another, before the sums of such groups are added in a
/// binary tree. Part of the numeric contract.
pub const LOSS_ROWS: usize = 16;

/// Least work for a piece, in nanoseconds, on a thread of the pool: waking another worker costs
/// about 3 us.
const GRAIN_INSIDE: usize = 8_000;
/// Least work for a piece, in nanoseconds, for a call from outside the pool: handing work in and
/// waiting for it costs 13 to 18 us.
const GRAIN_OUTSIDE: usize = 30_000;

impl Threads {
    /// Into how many pieces work of `cost` nanoseconds is split.
    fn pieces(self, cost: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Exactly(pieces) => pieces.get(),
            Self::Auto => {
                let inside = rayon::current_thread_index().is_some();
                let grain = if inside { GRAIN_INSIDE } else { GRAIN_OUTSIDE };
                // Asked second: the number of threads starts the pool, which small work never needs.
                if cost < 2 * grain { 1 } else { rayon::current_num_threads().min(cost / grain) }
            }
        }
    }
}

/// Runs a kernel whose work is `cost` nanoseconds long, split at multiples of `unit`.
pub(crate) fn run<K: Kernel<Output = ()>>(dispatch: Dispatch, threads: Threads, cost: usize, unit: usize, kernel: K) {
    let pieces = threads.pieces(cost).min(kernel.len().div_ceil(unit));
    run_pieces(dispatch, pieces, unit, kernel);
}

fn run_pieces<K: Kernel<Output = ()>>(dispatch: Dispatch, pieces: usize, unit: usize, kernel: K) {
    if pieces <= 1 {
        return dispatch.run(kernel);
    }
    let left = pieces / 2;
    let at = kernel.len() / pieces * left;
    let (first, rest) = kernel.split(at - at % unit);
    rayon::join(|| run_pieces(dispatch, left, unit, first), || run_pieces(dispatch, pieces - left, unit, rest));
}

/// Adds what a kernel gives for groups of [`LOSS_ROWS`] rows, in a binary tree over the groups.
pub(crate) fn sum<K: Kernel<Output = f32>>(dispatch: Dispatch, threads: Threads, cost: usize, kernel: K) -> f32 {
    sum_pieces(dispatch, threads.pieces(cost), kernel)
}

fn sum_pieces<K: Kernel<Output = f32>>(dispatch: Dispatch, pieces: usize, kernel: K) -> f32 {
    let groups = kernel.len().div_ceil(LOSS_ROWS);
    if groups <= 1 {
        return dispatch.run(kernel);
    }
    let (first, rest) = kernel.split(groups.div_ceil(2) * LOSS_ROWS);
    let left = pieces / 2;
    let (first, rest) = if pieces <= 1 {
        (sum_pieces(dispatch, 1, first), sum_pieces(dispatch, 1, rest))
    } else {
        rayon::join(|| sum_pieces(dispatch, left, first), || sum_pieces(dispatch, pieces - left, rest))
    };
    first + rest
}

/// Calls `work` on a thread of the pool, so that the many splits inside need not enter it each.
pub(crate) fn enter<R: Send>(threads: Threads, work: impl FnOnce() -> R + Send) -> R {
    if threads == Threads::One { work() } else { rayon::scope(|_| work()) }
}
