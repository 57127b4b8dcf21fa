//! Initialisation of kernels; biases are initialised to 0, as in Keras.

use crate::nn::random::{Random, Stream};

/// Initialises the kernel of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Initializer {
    /// Uniform within ±sqrt(6 / (inputs + outputs)), Keras' default. Source: Glorot and Bengio,
    /// "Understanding the difficulty of training deep feedforward neural networks" (2010).
    #[default]
    GlorotUniform,
    /// Uniform within ±sqrt(6 / inputs), for ReLU. Source: He et al., "Delving Deep into Rectifiers" (2015).
    HeUniform,
    /// All zeros.
    Zeros,
}

impl Initializer {
    /// Fills the kernel of dense layer `number`.
    pub(crate) fn fill(self, kernel: &mut [f32], [inputs, outputs]: [usize; 2], seed: u64, number: u32) {
        let fan = match self {
            Self::GlorotUniform => inputs as f64 + outputs as f64,
            Self::HeUniform => inputs as f64,
            Self::Zeros => return kernel.fill(0.0),
        };
        let limit = (6.0 / fan.max(1.0)).sqrt() as f32;
        let mut random = Random::new(seed, Stream::Layer(number));
        kernel.iter_mut().for_each(|weight| *weight = random.symmetric(limit));
    }
}
