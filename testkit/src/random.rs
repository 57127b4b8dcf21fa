//! Pseudo-random numbers that are the same on every machine.

use std::fmt::Debug;

/// SplitMix64.
///
/// Source: Steele et al., "Fast Splittable Pseudorandom Number Generators" (2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// Returns a number uniform in -1..1.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Returns a bell-shaped number in -2..2: the sum of four uniform ones.
    pub fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.uniform() / 2.0).sum()
    }
}

/// Returns numbers uniform in -1..1.
pub fn random_values(seed: u64, len: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.uniform()).collect()
}

/// Returns labels below `classes`, of any type that holds them.
pub fn random_labels<L: TryFrom<usize, Error: Debug>>(seed: u64, len: usize, classes: usize) -> Vec<L> {
    let mut random = Random::new(seed);
    let mut label = || ((random.uniform() + 1.0) / 2.0 * classes as f32) as usize;
    (0..len).map(|_| label().try_into().expect("the type holds every class")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_is_that_of_the_published_generator() {
        // SplitMix64 of Vigna's C source, seed 1234567.
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.bits()), expected);
    }

    #[test]
    fn numbers_stay_in_range() {
        assert!(random_values(1, 10_000).iter().all(|value| (-1.0..1.0).contains(value)));
        assert!(random_labels::<u8>(1, 10_000, 7).iter().all(|&label| label < 7));
        let mut random = Random::new(1);
        assert!((0..10_000).all(|_| (-2.0..2.0).contains(&random.normal()) && random.below(3) < 3));
    }
}
