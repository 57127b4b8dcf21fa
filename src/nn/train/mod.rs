//! Training: the plan of a step, its phases over threads, and the loop of epochs.

pub(crate) mod batches;
#[cfg(feature = "safetensors")]
pub(crate) mod checkpoint;
pub(crate) mod column_shards;
pub(crate) mod custom_loop;
pub(crate) mod custom_pass;
pub(crate) mod early_stopping;
#[cfg(feature = "safetensors")]
pub(crate) mod fingerprint;
pub(crate) mod fit;
pub(crate) mod fit_loop;
pub(crate) mod history;
pub(crate) mod pass;
pub(crate) mod sample_weights;
pub(crate) mod shard_model;
pub(crate) mod step;
pub(crate) mod workspace;
