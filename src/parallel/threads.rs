//! `Threads`: on how many threads a call runs.

use std::num::NonZeroUsize;

/// On how many threads a call runs. No choice changes a bit of any result.
///
/// Without the crate's feature `rayon`, every call runs on the calling thread, whatever is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Threads {
    /// The calling thread, and as many workers of its rayon pool (outside of any, of the global
    /// one) as the size of the work pays for; small work stays on the calling thread.
    ///
    /// Workers take part while they spin, and a thread that makes call after call keeps them spinning:
    /// they look for work for 500 microseconds before they sleep. The pool decides how many there are:
    /// rayon's `ThreadPoolBuilder`, or, for the global one, `RAYON_NUM_THREADS`.
    #[default]
    Auto,
    /// The calling thread alone. On [`Isa::Portable`](crate::Isa::Portable), `matrixmultiply` has threads of
    /// its own where a program turns on its feature `threading`; `MATMUL_NUM_THREADS=1` turns them off.
    One,
    /// This many tasks whatever their size (128 at most), run by the threads of [`Auto`](Self::Auto): no more
    /// than there are tasks, and fewer if the pool has fewer.
    Exactly(NonZeroUsize),
}
