//! How kernels begin; biases begin at 0, as in Keras.

use crate::nn::random::{Random, Stream};

/// How a dense layer's kernel begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Initializer {
    /// Uniform within ±sqrt(6 / (inputs + outputs)), Keras' default: Glorot and Bengio,
    /// "Understanding the difficulty of training deep feedforward neural networks" (2010).
    #[default]
    GlorotUniform,
    /// Uniform within ±sqrt(6 / inputs), made for ReLU: He et al., "Delving Deep into Rectifiers" (2015).
    HeUniform,
    /// Nothing but 0.
    Zeros,
}

impl Initializer {
    /// Fills the kernel of the dense layer with this number.
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
