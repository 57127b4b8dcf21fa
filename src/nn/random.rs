//! Random numbers that are the same on every machine: ChaCha8 streams.
//!
//! The distributions are computed from the bits here, so that no new version of a library changes what a seed
//! gives.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Streams of a seed, independent of each other.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    /// The initial weights of the dense layer with this number.
    Layer(u32),
    /// The order of the samples in this epoch.
    Epoch(u32),
}

pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match stream {
            Stream::Layer(number) => u64::from(number),
            Stream::Epoch(number) => 1 << 32 | u64::from(number),
        });
        Self(rng)
    }

    /// Draws uniformly from -limit..limit, in steps of limit / 2^23.
    pub(crate) fn symmetric(&mut self, limit: f32) -> f32 {
        let steps = (self.0.next_u32() >> 8) as f32 - 8_388_608.0;
        steps * (1.0 / 8_388_608.0) * limit
    }

    /// Draws uniformly from 0..n, without bias: Lemire, "Fast Random Integer Generation in an Interval"
    /// (2019).
    fn below(&mut self, n: u64) -> u64 {
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Shuffles a slice: Fisher and Yates, in Durstenfeld's form (1964).
    pub(crate) fn shuffle(&mut self, slice: &mut [usize]) {
        for last in (1..slice.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            slice.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_are_permutations_that_differ_by_epoch_and_seed() {
        let order = |seed, epoch| {
            let mut order: Vec<usize> = (0..100).collect();
            Random::new(seed, Stream::Epoch(epoch)).shuffle(&mut order);
            order
        };
        let mut sorted = order(1, 0);
        assert_ne!(sorted, order(1, 1));
        assert_ne!(sorted, order(2, 0));
        assert_eq!(sorted, order(1, 0));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn integers_are_uniform() {
        let mut random = Random::new(5, Stream::Epoch(0));
        let mut counts = [0; 7];
        (0..70_000).for_each(|_| counts[random.below(7) as usize] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn symmetric_stays_within_its_limit_with_mean_0() {
        let mut random = Random::new(3, Stream::Layer(0));
        let values: Vec<f32> = (0..100_000).map(|_| random.symmetric(0.5)).collect();
        assert!(values.iter().all(|value| (-0.5..0.5).contains(value)));
        assert!(values.iter().sum::<f32>().abs() / 1e5 < 3e-3);
    }
}
