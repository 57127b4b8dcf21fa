//! Data for benches: random, since constants make some kernels look slow or fast.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Numbers uniform in -1..1, the same in every run.
pub fn random(len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(len as u64);
    (0..len).map(|_| (rng.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// Classes below `classes`, the same in every run.
pub fn random_labels(len: usize, classes: u32) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(classes));
    (0..len).map(|_| rng.next_u32() % classes).collect()
}

/// Whether all elements are close, relative to the largest.
pub fn is_close(found: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * largest;
    found.len() == expected.len() && found.iter().zip(expected).all(close)
}

/// Fails unless all elements are close.
pub fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert!(is_close(found, expected), "{name} gives another answer");
}
