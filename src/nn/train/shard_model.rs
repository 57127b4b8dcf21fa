//! The cost model of [`ColumnShards`](super::column_shards::ColumnShards): whether to shard, and into how
//! many shards.

use crate::nn::layers::dense::DenseNode;
use crate::tuning::cost::FMAS_PER_NS;
use crate::tuning::train::{REMOTE_READS_PER_NS, ROW_GRAIN, SHARD_COLS, SHARED_WEIGHTS_PER_NS};

/// Gives the number of shards of a first layer, 0 if it is better not sharded: its forward pass is then split
/// by rows of the batch, and its update by rows of its kernel.
///
/// Both do the same multiply-adds. They differ in the number of threads that do them, and in how many floats
/// that another thread has written the busiest one reads: with shards the whole batch and the gradient of its
/// own columns; without, all weights, and for the update its columns of the batch and the whole gradient.
/// More shards are always better.
///
/// Large batches are therefore not sharded, and with more threads smaller ones are not either.
pub(crate) fn count(layer: &DenseNode, batch: usize, threads: usize) -> usize {
    let shards = threads.min(layer.outputs / SHARD_COLS);
    if shards < 2 {
        return 0;
    }
    let reads = |count: usize| count / REMOTE_READS_PER_NS;
    let pass = layer.kernel_len().saturating_mul(batch) / FMAS_PER_NS;
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let sharded = 2 * pass / shards + reads(batch.saturating_mul(inputs + outputs / shards));
    let by_rows = pass / threads.min(batch.div_ceil(ROW_GRAIN)) + pass / threads.min(inputs.div_ceil(ROW_GRAIN));
    let moved = layer.kernel_len() / SHARED_WEIGHTS_PER_NS + reads(batch.saturating_mul(inputs / threads + outputs));
    if sharded <= by_rows + moved { shards } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layers::dense::node;

    #[test]
    fn small_batches_have_a_shard_per_thread_and_cache_line() {
        for (threads, shards) in [(1, 0), (2, 2), (3, 3), (8, 8), (9, 8), (64, 8)] {
            assert_eq!(count(&node(784, 128), 32, threads), shards, "{threads} threads");
        }
        assert_eq!(count(&node(784, 32), 32, 2), 2);
        assert_eq!(count(&node(784, 31), 32, 2), 0);
    }

    #[test]
    fn large_batches_have_none_and_more_threads_sooner() {
        let layer = node(784, 128);
        let sooner = [2, 8, 64].map(|threads| (1..).find(|rows| count(&layer, 8 * rows, threads) == 0).unwrap());
        assert!(sooner.is_sorted_by(|a, b| a > b), "{sooner:?}");
        for threads in [2, 8, 64, 128] {
            assert_eq!(count(&layer, 1024, threads), 0, "{threads} threads");
        }
    }
}
