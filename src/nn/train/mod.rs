//! Training. A sample's way through `fit`, in the order of the files: [`fit`] checks, [`fit_loop`] does the
//! epochs, [`batches`] shuffles and gathers, [`step`] passes batches through the network and updates the
//! parameters.

pub(crate) mod batch_rows;
pub(crate) mod batches;
pub(crate) mod checkpoint;
pub(crate) mod column_shards;
pub(crate) mod custom_loop;
pub(crate) mod early_stopping;
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
