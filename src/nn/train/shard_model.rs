//! Whether the first layer's columns have owners, and how many: a model of what a step costs either way.

use crate::nn::train::pass::DensePlan;
use crate::nn::train::workspace::weights;
use crate::tuning::cost::FMAS_PER_NS;
use crate::tuning::train::{REMOTE_READS_PER_NS, ROW_GRAIN, SHARD_COLS, SHARED_WEIGHTS_PER_NS};

/// How many owners the first layer's columns have, 0 if there are better none: then its forward pass is shared out by rows of
/// the batch and its update by rows of its kernel.
///
/// Both do the same multiply-adds; what differs is on how many threads, and how many floats the busiest of them gets that
/// another has written. Owners read the whole batch, and their own columns of the gradients. Without owners, a
/// thread reads all weights, and for the update its columns of the batch, and all gradients. More owners are always better
/// than fewer.
///
/// Large batches therefore have no owners, and the more threads there are, the fewer samples are many.
pub(crate) fn count(layer: &DensePlan, batch: usize, threads: usize) -> usize {
    let owners = threads.min(layer.outputs / SHARD_COLS);
    if owners < 2 || !layer.dropouts.is_empty() {
        return 0;
    }
    let values = |count: usize| count / REMOTE_READS_PER_NS;
    let way = weights(layer).saturating_mul(batch) / FMAS_PER_NS;
    let DensePlan { inputs, outputs, .. } = *layer;
    let owned = 2 * way / owners + values(batch.saturating_mul(inputs + outputs / owners));
    let by_rows = way / threads.min(batch.div_ceil(ROW_GRAIN)) + way / threads.min(inputs.div_ceil(ROW_GRAIN));
    let moved = weights(layer) / SHARED_WEIGHTS_PER_NS + values(batch.saturating_mul(inputs / threads + outputs));
    let shared = by_rows + moved;
    if owned <= shared { owners } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::activation::Activation;

    fn count_of([inputs, outputs]: [usize; 2], batch: usize, threads: usize) -> usize {
        let layer = DensePlan {
            name: String::new(),
            inputs,
            outputs,
            activation: Activation::Relu.into(),
            dropouts: Vec::new(),
            kernel: 0..inputs * outputs,
            bias: None,
        };
        count(&layer, batch, threads)
    }

    #[test]
    fn small_batches_have_owners_as_many_as_threads_and_cache_lines_of_columns_allow() {
        for (threads, owners) in [(1, 0), (2, 2), (3, 3), (8, 8), (9, 8), (64, 8)] {
            assert_eq!(count_of([784, 128], 32, threads), owners, "{threads} threads");
        }
        assert_eq!(count_of([784, 32], 32, 2), 2);
        assert_eq!(count_of([784, 31], 32, 2), 0);
    }

    #[test]
    fn large_batches_have_none_and_more_threads_sooner() {
        let sooner = [2, 8, 64].map(|threads| (1..).find(|rows| count_of([784, 128], 8 * rows, threads) == 0).unwrap());
        assert!(sooner.is_sorted_by(|a, b| a > b), "{sooner:?}");
        for threads in [2, 8, 64, 128] {
            assert_eq!(count_of([784, 128], 1024, threads), 0, "{threads} threads");
        }
    }
}
