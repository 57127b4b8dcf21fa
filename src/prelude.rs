//! What a program that trains networks or runs kernels imports: `use densely::prelude::*`.
//!
//! ```
//! use densely::prelude::*;
//!
//! let mut model = Sequential::builder(2).layer(Dense::new(2, Activation::Softmax)).build()?;
//! model.compile(Adam::default())?;
//! let x = [0.0, 1.0, 1.0, 0.0];
//! model.fit(MatRef::new(&x, 2, 2)?, &[0u8, 1], Fit::default())?;
//!
//! let mut y = [0.0; 4];
//! let backend = Backend::new()?;
//! activation::forward(&backend, Activation::Relu, MatRef::new(&x, 2, 2)?, MatMut::new(&mut y, 2, 2)?)?;
//! # Ok::<(), Error>(())
//! ```

pub use crate::activation;
pub use crate::backend::Backend;
pub use crate::dense;
pub use crate::error::{Error, Result};
pub use crate::gemm::packed::PackedWeights;
pub use crate::isa::Isa;
pub use crate::kernels::activation::Activation;
pub use crate::loss::{self, CrossEntropy, Reduction};
pub use crate::matrix::{MatMut, MatRef, flatten};
pub use crate::nn::{
    Adam, AdamW, BatchEnd, Callback, Clip, Dense, Dropout, EarlyStopping, EpochEnd, Fit, Flatten, History, Initializer,
    Metrics, Monitor, Optimizer, Predictor, Schedule, Sequential, Sgd,
};
pub use crate::parallel::threads::Threads;
pub use crate::targets::{Labels, Targets};
