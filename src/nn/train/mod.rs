//! Training, in the order in which `fit` goes through the files:
//!
//! ```text
//! fit, sample_weights          options and their checks
//! fit_loop                     epochs, callbacks, early stopping, checkpoints
//! batches                      shuffling, gathering, prefetch
//! step                         a step's two phases, in their order
//! phases                       how each phase is split over threads
//! batch_rows                   some samples: forward pass, loss, backward pass
//! shards, column_shards        some parameters: gradients, the optimizer's step
//! scratch, shard_model         memory and partition, decided before the first step
//! ```
//!
//! [`custom_loop`] has the calls that a caller's own loop is made of.

pub(crate) mod batch_rows;
pub(crate) mod batches;
#[cfg(feature = "safetensors")]
pub(crate) mod checkpoint;
pub(crate) mod column_shards;
pub(crate) mod custom_loop;
pub(crate) mod early_stopping;
#[cfg(feature = "safetensors")]
pub(crate) mod fingerprint;
pub(crate) mod fit;
pub(crate) mod fit_loop;
pub(crate) mod history;
pub(crate) mod phases;
pub(crate) mod sample_weights;
pub(crate) mod scratch;
pub(crate) mod shard_model;
pub(crate) mod shards;
pub(crate) mod step;
pub(crate) mod training;
