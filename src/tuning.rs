//! Every block size, rate and threshold that decides speed; none of them changes a bit.
//!
//! Sizes are counted in `f32` elements and costs in nanoseconds on one thread, unless a line says otherwise.
//! The caches are those of the machines that the values were chosen on (Zen 3, Zen 4, Sapphire Rapids: 32 KiB
//! of L1 and at least 512 KiB of L2 per core); the records under `benches/record` named `dense`, `peers`,
//! `loss` and `train` hold the measurements.
//!
//! Where [`size`] has a second value, `--cfg small_blocks` takes that one: fuzz targets and Miri then reach
//! the code for large matrices with shapes that the reference computes in a moment.

/// Gives `value`, or `small` in a build with `--cfg small_blocks`.
const fn size(value: usize, small: usize) -> usize {
    if cfg!(small_blocks) { small } else { value }
}

/// Elements of a cache line of 64 bytes.
pub(crate) const CACHE_LINE: usize = 16;
/// Elements of an L1 data cache of 32 KiB.
const L1: usize = 8 * 1024;
/// Elements of an L2 cache of 1 MiB.
const L2: usize = 256 * 1024;
/// Elements of the smallest L2 cache in use, 256 KiB.
const SMALL_L2: usize = 64 * 1024;
/// Elements of a memory page of 4 KiB.
pub(crate) const PAGE: usize = 1024;

/// Blocking, packing and prefetching of matrix products; MC, KC, NC, MR and NR are those of BLIS.
pub(crate) mod gemm {
    use super::{CACHE_LINE, L1, L2, SMALL_L2, size};
    use crate::contract::CHUNK_ROWS;

    /// Longest KC. Each further block along the depth streams C through the caches once more.
    pub(crate) const KC: usize = 4 * CHUNK_ROWS;
    /// KC of a B whose rows are long and come from DRAM: longer blocks would shorten the contiguous runs that
    /// are read.
    pub(crate) const KC_LONG_ROWS: usize = 2 * CHUNK_ROWS;
    /// KC of a B that is streamed from DRAM once: few rows at a time, so that each is read in one long run.
    pub(crate) const KC_STREAMED: usize = 8;
    /// KC x NC: half of L2.
    pub(crate) const B_BLOCK: usize = size(L2 / 2, 1024);
    /// KC x NC of a front-end bound micro-kernel: half of the smallest L2.
    pub(crate) const SMALL_B_BLOCK: usize = size(SMALL_L2 / 2, 512);
    /// Rows of C up to which [`SMALL_B_BLOCK`] pays: A is read once more for each block, and larger ones come
    /// from DRAM.
    pub(crate) const SMALL_B_BLOCK_ROWS: usize = size(1024, 24);
    /// MC x KC: 8 MiB, read from L3 in one stream. B is packed anew for each block of A.
    pub(crate) const A_BLOCK: usize = size(2 * 1024 * 1024, 512);
    /// Least elements of a B that no cache holds, 16 MiB: it is streamed from DRAM.
    pub(crate) const STREAMED_B: usize = size(4 * 1024 * 1024, 2048);

    /// Row stride whose multiples put neighbouring rows into few sets of a cache: 2 KiB.
    pub(crate) const CONFLICT_STRIDE: usize = size(512, 16);
    /// Row stride from which conflicting rows also take a page each, more than the first-level TLB holds: 8
    /// KiB.
    pub(crate) const PAGE_STRIDE: usize = size(2048, 32);
    /// Depth whose columns of A are more cache lines than L1 has: packing A pays for micro-tiles of few rows.
    pub(crate) const L1_LINES: usize = size(L1 / CACHE_LINE, 16);
    /// Least columns of C over which packing A is amortised.
    pub(crate) const PACK_A_MIN_COLS: usize = size(64, 20);
    /// Rows of micro-tiles above which packing any B is amortised.
    pub(crate) const PACK_B_MIN_TILE_ROWS: usize = size(32, 2);
    /// Most rows of a low micro-tile, that of AVX2 and NEON; low ones read B more often than tall ones.
    pub(crate) const LOW_MR: usize = 6;
    /// Elements of B above which two rows of low micro-tiles amortise packing it: twice L1.
    pub(crate) const PACK_B_LOW_MR: usize = size(2 * L1, 256);
    /// Most columns of a C that is computed transposed, since they would fill few lanes of a vector.
    pub(crate) const MAX_TRANSPOSED_COLS: usize = 25;

    /// Prefetch distance in k-steps while B is packed: some 400 cycles, the latency of L3.
    pub(crate) const PACK_PREFETCH_STEPS: usize = 16;
    /// Prefetch distance into L2 for each of some eight rows or columns of a streamed B: 4 KiB in all, 150 ns
    /// of reading.
    pub(crate) const STREAM_PREFETCH: usize = 128;
    /// k-steps of a front-end bound micro-kernel that are unrolled.
    pub(crate) const UNROLL: usize = 4;
    /// Elements that are staged at a time of a column whose stride conflicts: four cache lines, in different
    /// sets.
    pub(crate) const STAGED_PIECE: usize = 64;
    /// Rows packed into one panel before the next panel: panels lie so far apart that alternating would miss
    /// every cache.
    pub(crate) const PACK_ROWS: usize = 8;

    /// Largest depth of a rank-k update that is written row by row.
    pub(crate) const RANK_K_MAX_DEPTH: usize = 8;
    /// Elements of the largest B of such an update, half of L1: it is read for each pair of rows of C.
    pub(crate) const RANK_K_B: usize = size(L1 / 2, 256);
    /// Elements by which rows of C are prefetched before they are written.
    pub(crate) const WRITE_PREFETCH: usize = 256;

    /// Weights up to which a gradient is fused with its update: with two moments they fit L2.
    ///
    /// More come from L3 or DRAM, which is faster in longer runs than a micro-tile's rows.
    pub(crate) const FUSED_UPDATE_WEIGHTS: usize = size(L2 / 4, 1024);

    /// Rows of C that a thread takes at a time, so that micro-tiles are full.
    pub(crate) const ROW_GRAIN: usize = 8;
    /// Columns of C that a thread takes at a time: a cache line, against false sharing.
    pub(crate) const COL_GRAIN: usize = CACHE_LINE;
    /// Elements of B above which threads split the columns of a C that is wider than high.
    ///
    /// Each thread reads, or packs, all of one operand and its share of the other.
    pub(crate) const SPLIT_COLS_B: usize = size(64 * 1024, 256);
}

/// Softmax, log-softmax, cross-entropy and other operations on rows.
pub(crate) mod rows {
    use super::size;

    /// Columns up to which rows are taken one per lane. Also the vectors whose exponentials are in flight at
    /// a time.
    pub(crate) const ROW_PER_LANE_COLS: usize = 64;
    /// Exponentials that are written before something is made of them: they stay in L1.
    pub(crate) const EXP_BLOCK: usize = size(1024, 32);
    /// Elements by which a row is prefetched before it is written.
    pub(crate) const WRITE_PREFETCH: usize = 256;
    /// Rows by which a gather prefetches: each row comes from DRAM.
    pub(crate) const GATHER_PREFETCH_ROWS: usize = 2;
}

/// What work costs, in nanoseconds on one thread: measured on the slowest processor above, rounded to whole
/// rates.
pub(crate) mod cost {
    /// Multiply-adds per nanosecond: 100 GFLOP/s.
    pub(crate) const FMAS_PER_NS: usize = 50;

    /// C (m x n) = A (m x k) B (k x n).
    ///
    /// Reading B for a single row, or writing C for a depth below 4, takes longer than the multiply-adds.
    pub(crate) const fn product(m: usize, n: usize, k: usize) -> usize {
        let (m, k) = (if m < 2 { 2 } else { m }, if k < 4 { 4 } else { k });
        m.saturating_mul(n).saturating_mul(k) / FMAS_PER_NS
    }

    /// A pass that loads, computes and stores each element.
    pub(crate) const fn streaming(elements: usize) -> usize {
        elements / 4
    }

    /// A pass with an exponential or a logarithm per element.
    pub(crate) const fn exponential(elements: usize) -> usize {
        elements
    }

    /// Cross-entropy: an exponential per logit, and a logarithm and a division per row.
    pub(crate) const fn cross_entropy(rows: usize, cols: usize) -> usize {
        rows.saturating_mul(cols.saturating_add(20))
    }

    /// Summing the losses of rows.
    pub(crate) const fn sum(rows: usize) -> usize {
        rows
    }

    /// Dropout: a random word per element.
    pub(crate) const fn dropout(elements: usize) -> usize {
        elements
    }

    /// Copying shuffled samples, which come from DRAM.
    pub(crate) const fn gather(elements: usize) -> usize {
        elements / 2
    }

    /// Scaling, clipping or squaring gradients.
    pub(crate) const fn gradients(parameters: usize) -> usize {
        parameters / 8
    }

    /// A step of SGD, with or without momentum.
    pub(crate) const fn sgd(parameters: usize) -> usize {
        parameters / 8
    }

    /// A step of Adam: a square root and a division per parameter.
    pub(crate) const fn adam(parameters: usize) -> usize {
        parameters / 3
    }

    /// Overhead of a layer's call for a single sample.
    pub(crate) const LAYER_CALL: usize = 20;
}

/// How work is split over threads.
pub(crate) mod parallel {
    use super::size;

    /// Grain size in nanoseconds: offering work to a spinning worker, and joining it, takes about 500.
    pub(crate) const GRAIN: usize = 800;
    /// Cost of an element of a reduction, such as a row, from which it is a task of its own.
    pub(crate) const LONG_ROW: usize = size(4 * GRAIN, 40);
    /// Cost from which work is split finer while workers sleep: those that wake up take what is left.
    pub(crate) const LONG: usize = 300_000;
    /// Factor by which it is split finer.
    pub(crate) const OVERSPLIT: usize = 4;
    /// Parameters that a thread takes at a time: a page, against false sharing.
    pub(crate) const PARAMETER_GRAIN: usize = size(super::PAGE, 16);
}

/// Spinning workers.
#[cfg(feature = "rayon")]
pub(crate) mod spin_pool {
    use std::time::Duration;

    /// Spin iterations before a waiting thread yields its core, 10 to 50 us.
    pub(crate) const SPINS: usize = 1024;
    /// How long a worker spins without work before it sleeps.
    ///
    /// Also how soon after the last call the next one must come for workers to be woken: to wake one takes 50
    /// us and more.
    pub(crate) const SPIN_TIME: Duration = Duration::from_micros(500);
    /// How long a worker spins before it requeues itself: rayon may have put it on top of a task that waits.
    pub(crate) const REQUEUE_TIME: Duration = Duration::from_millis(20);
    /// Most spinning workers nested on one thread's stack: each yields to rayon, which may run the next on
    /// top.
    pub(crate) const MAX_NESTED_WORKERS: usize = 4;
}

/// The training step.
pub(crate) mod train {
    use super::{CACHE_LINE, L1, L2, size};

    /// Rows of the batch that a thread takes at a time, so that micro-tiles are full.
    pub(crate) const ROW_GRAIN: usize = super::gemm::ROW_GRAIN;
    /// Columns of the first layer in a shard at least: a cache line, against false sharing.
    pub(crate) const SHARD_COLS: usize = CACHE_LINE;
    /// Cost of a step below which it stays on one thread.
    pub(crate) const SERIAL_STEP: usize = 20_000;
    /// Grain size of a layer's update, in nanoseconds.
    pub(crate) const UPDATE_GRAIN: usize = size(500, 1);
    /// Elements of samples that a thread takes through the network at a time: a quarter of L2.
    pub(crate) const SAMPLES_BLOCK: usize = size(L2 / 4, 256);
    /// Weights from which a batch passes layer by layer, each split over all threads, so that no thread reads
    /// all weights.
    pub(crate) const LAYERWISE_WEIGHTS: usize = size(1 << 20, 1500);

    /// Gradients that are computed before the optimizer takes them: half of L1.
    pub(crate) const GRADIENT_BLOCK: usize = size(L1 / 2, 64);
    /// Rows of such a block at least, while it fits [`LARGE_GRADIENT_BLOCK`].
    ///
    /// A block reads all gradients with respect to the outputs, and its first row of micro-tiles waits for
    /// the samples.
    pub(crate) const GRADIENT_BLOCK_ROWS: usize = size(196, 20);
    /// A quarter of L2.
    pub(crate) const LARGE_GRADIENT_BLOCK: usize = size(L2 / 4, 256);
    /// Rows of any block at least: the tallest micro-tile.
    pub(crate) const MIN_GRADIENT_ROWS: usize = 14;

    /// Elements per nanosecond that a thread reads from another core's cache while it computes.
    pub(crate) const REMOTE_READS_PER_NS: usize = 3;
    /// Weights per nanosecond that all threads read and one then writes: each waits for the other cores
    /// twice.
    pub(crate) const SHARED_WEIGHTS_PER_NS: usize = 1;
}

/// Inference.
pub(crate) mod infer {
    use super::size;

    /// Samples that pass the network at a time, so that activations stay in L2.
    pub(crate) const BLOCK: usize = size(128, 16);
    /// Samples that a thread takes at a time, so that micro-tiles are full.
    pub(crate) const ROW_GRAIN: usize = super::gemm::ROW_GRAIN;
    /// Weights from which fewer samples than two grains are split by the columns of each layer.
    ///
    /// One thread would wait for DRAM.
    pub(crate) const SPLIT_COLS_WEIGHTS: usize = size(1 << 20, 2048);
    /// Weights up to which [`GEMV_SAMPLES`] samples pass one by one: planning a product would take longer
    /// than computing it.
    ///
    /// Larger networks, of fewer than [`SPLIT_COLS_WEIGHTS`], take a single sample so.
    pub(crate) const GEMV_WEIGHTS: usize = size(8 * 1024, 700);
    /// See [`GEMV_WEIGHTS`].
    pub(crate) const GEMV_SAMPLES: usize = 3;
    /// Samples that `Sequential::predict` and `evaluate` take at a time.
    pub(crate) const SEQUENTIAL_BLOCK: usize = 1024;
}
