//! Shares contestants, limits and timing among the benches.
#![allow(dead_code, reason = "each bench uses a part")]

pub mod layer;
pub mod peak;
pub mod sgemm;

use std::time::Instant;

use criterion::Bencher;

/// Times `work` on a thread of the rayon pool.
///
/// From outside, each call would pay for entering the pool.
pub fn iter_in_pool(bencher: &mut Bencher<'_>, mut work: impl FnMut() + Send) {
    bencher.iter_custom(|times| {
        rayon::scope(|_| {
            let start = Instant::now();
            (0..times).for_each(|_| work());
            start.elapsed()
        })
    });
}
