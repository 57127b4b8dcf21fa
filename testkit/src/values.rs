//! Values that kernels stumble over.

use std::sync::OnceLock;

use crate::images::{PIXELS, fashion_mnist};
use crate::matrix::{Layout, Matrix};
use crate::random::Random;

/// Kinds of values.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    Normal,
    /// Logits of a confident network: exponentials from 1 down to 0.
    Wide,
    Integers,
    OneHot,
    /// Blocks of zeros, as after ReLU.
    ZeroBlocks,
    Subnormal,
    /// Near the largest finite number, so that sums overflow.
    Huge,
    /// Normal, with a [special](SPECIAL) value in 64.
    Rare,
    AnyBits,
    /// Pixels of Fashion-MNIST in 0..=1.
    Images,
}

/// Values that arithmetic treats in its own way.
pub const SPECIAL: [f32; 13] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::from_bits(1),
    f32::from_bits(0x807f_ffff),
    -0.0,
    0.0,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-30,
    88.8,
    -104.0,
];

impl Values {
    pub const ALL: [Self; 10] = [
        Self::Normal,
        Self::Wide,
        Self::Integers,
        Self::OneHot,
        Self::ZeroBlocks,
        Self::Subnormal,
        Self::Huge,
        Self::Rare,
        Self::AnyBits,
        Self::Images,
    ];

    fn at(self, row: usize, col: usize, [_, cols]: [usize; 2], random: &mut Random) -> f32 {
        match self {
            Self::Normal => random.normal(),
            Self::Wide => 60.0 * random.normal(),
            Self::Integers => (random.below(17) as f32) - 8.0,
            Self::OneHot => f32::from(u8::from(col == (5 * row + 3) % cols)),
            Self::ZeroBlocks if (row / 4 + col / 8).is_multiple_of(2) => 0.0,
            Self::ZeroBlocks => random.normal(),
            Self::Subnormal => random.normal() * f32::MIN_POSITIVE,
            Self::Huge => random.normal() * f32::MAX / 2.0,
            Self::Rare if random.below(64) == 0 => SPECIAL[random.below(SPECIAL.len())],
            Self::Rare => random.normal(),
            Self::AnyBits => f32::from_bits(random.bits() as u32),
            Self::Images => pixel(row, col),
        }
    }
}

fn pixel(image: usize, index: usize) -> f32 {
    const IMAGES: usize = 64;
    static DATA: OnceLock<Vec<f32>> = OnceLock::new();
    let data = DATA.get_or_init(|| fashion_mnist(IMAGES).0);
    data[image % IMAGES * PIXELS + index % PIXELS]
}

impl Matrix {
    /// Makes an input of values of a kind; the same seed gives the same values in every layout.
    pub fn random(shape: [usize; 2], layout: Layout, values: Values, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self::from_fn(shape, layout, |row, col| values.at(row, col, shape, &mut random))
    }
}
