//! The network API: fully connected networks with Keras' words.
//!
//! A [`Sequential`] model is built from an input shape and layers, compiled with an optimizer,
//! trained with [`fit`](Sequential::fit), and asked with [`predict`](Sequential::predict), or, again and
//! again, through a [`Predictor`]. The loss is sparse categorical cross-entropy, the metric accuracy; for other
//! losses there are [`gradients_with`](Sequential::gradients_with) and [`step`](Sequential::step).
//!
//! ```
//! use densely::MatRef;
//! use densely::nn::{Activation, Adam, Dense, Fit, Flatten, Sequential};
//!
//! let mut model = Sequential::builder((2, 2))
//!     .layer(Flatten)
//!     .layer(Dense::new(8, Activation::Relu))
//!     .layer(Dense::new(2, Activation::Softmax))
//!     .seed(1)
//!     .build()?;
//! model.compile(Adam::default().learning_rate(0.05))?;
//!
//! let images = [1.0, 1.0, 0.0, 0.0, /**/ 0.0, 0.0, 1.0, 1.0]; // bright above, bright below
//! let x = MatRef::new(&images, 2, 4)?;
//! let history = model.fit(x, &[0u8, 1], Fit::default().epochs(60))?;
//! assert!(history.epochs().last().is_some_and(|end| end.accuracy == 1.0));
//! assert_eq!(model.predict_classes(x)?, [0, 1]);
//! # Ok::<(), densely::Error>(())
//! ```
//!
//! The same seeds and data give the same weights, bit for bit, on any number of threads and on
//! every instruction set with fused multiply-add. That holds in the default floating-point mode,
//! round to nearest with subnormals kept, which this crate neither sets nor changes.

mod activation;
mod buffer;
mod infer;
mod initializer;
#[cfg(feature = "safetensors")]
mod io;
mod layers;
mod model;
pub(crate) mod optimizers;
mod random;
mod summary;
mod train;

pub use crate::kernels::activation::Activation;
pub use activation::DenseActivation;
pub use infer::predictor::Predictor;
pub use initializer::Initializer;
pub use layers::{Dense, Dropout, Flatten, Layer, Shape};
pub use model::{Builder, Metrics, Sequential};
pub use optimizers::adam::{Adam, AdamW};
pub use optimizers::clip::Clip;
pub use optimizers::optimizer::Optimizer;
pub use optimizers::schedule::Schedule;
pub use optimizers::sgd::Sgd;
pub use train::early_stopping::{EarlyStopping, Monitor};
pub use train::fit::Fit;
pub use train::history::{BatchEnd, Callback, Ended, EpochEnd, History};
