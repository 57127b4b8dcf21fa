//! The gradient by a layer's weights and an optimizer's step on them at once, for batches of a single chunk.
//!
//! ```text
//! for each row of tiles, for each tile of MR rows and NV vectors
//!   for k in 0..batch
//!     acc[i][v] = fma(x[k][i], dy[k][v], acc[i][v])   MR * NV fmas
//!     the step on one vector of the tile before       while there is one
//!   the gradients of the tile, acc, wait for the next
//! ```
//!
//! A step of Adam divides and takes a root: units that do nothing else are busy with that for longer than the fused
//! multiply-adds of a few samples take. In turn, each would wait for the other; side by side, the steps cost little. Gradients
//! stay in the L1 cache.
//!
//! Sums are taken as [`Product`](super::product::Product) takes them, sample after sample.

use std::mem::MaybeUninit;

use super::element::Line;
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::kernels::Kernel;
use crate::kernels::optimizer::{UpdateRule, step};
use crate::matrix::MatRef;
use crate::simd::tier::Tier;
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tuning::gemm::FUSED_UPDATE_WEIGHTS;

/// The step of `rule` on weights and moments by the gradient xᵀ dy.
pub(crate) struct FusedUpdate<'a, R> {
    pub rule: R,
    /// Batch x inputs.
    pub x: MatRef<'a>,
    /// Batch x outputs.
    pub dy: MatRef<'a>,
    /// Weights and moments, inputs x outputs, without gaps; those that the rule does not keep may be empty.
    pub parameters: [&'a mut [f32]; 3],
}

/// Whether [`FusedUpdate`] does all of it: rows without gaps, columns that make whole vectors, samples that are one chunk, and not
/// too many weights.
pub(crate) fn supports(x: MatRef<'_>, dy: MatRef<'_>) -> bool {
    let samples = x.rows().min(dy.rows());
    let whole = x.col_stride() == 1 && dy.col_stride() == 1 && dy.cols().is_multiple_of(ROW_LANES);
    whole && samples <= CHUNK_ROWS && x.cols().saturating_mul(dy.cols()) <= FUSED_UPDATE_WEIGHTS
}

impl<R: UpdateRule> Kernel for FusedUpdate<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let Self { rule, x, dy, parameters } = self;
        let s = tier.vector();
        let width = dy.cols();
        if !supports(x, dy) || width == 0 {
            return;
        }
        let kept = parameters[..=R::MOMENTS].iter().map(|slice| slice.len() / width);
        let rows = kept.fold(x.cols(), usize::min);
        let block = Block {
            s,
            rule,
            x: x.as_ptr(),
            x_row: x.row_stride(),
            dy: dy.as_ptr(),
            dy_row: dy.row_stride(),
            samples: x.rows().min(dy.rows()),
            at: parameters.map(<[f32]>::as_mut_ptr),
            width,
            rows,
        };
        let vectors = width / T::Vector::LANES;
        // SAFETY: all rows and columns, which have whole vectors, are within the views and slices.
        unsafe {
            block.columns::<2>(0, vectors / 2);
            block.columns::<1>(vectors / 2 * 2, vectors % 2);
        }
    }
}

/// Some rows of a layer's weights, and what they need.
#[derive(Clone, Copy)]
struct Block<S, R> {
    s: S,
    rule: R,
    x: *const f32,
    x_row: usize,
    dy: *const f32,
    dy_row: usize,
    samples: usize,
    /// The first row's weights and moments.
    at: [*mut f32; 3],
    /// Weights of a row.
    width: usize,
    rows: usize,
}

impl<S: Simd, R: UpdateRule> Block<S, R> {
    /// All rows of so many times `NV` vectors, from vector `first` on.
    ///
    /// # Safety
    /// So many rows and columns, and all samples, are there.
    #[inline(always)]
    unsafe fn columns<const NV: usize>(mut self, first: usize, tiles: usize) {
        self.dy = self.dy.wrapping_add(first * S::LANES);
        self.at = self.at.map(|at| at.wrapping_add(first * S::LANES));
        // SAFETY: the caller's.
        unsafe {
            // Beside the accumulators and a row of dy, a step needs registers.
            if const { S::REGISTERS >= 32 } {
                self.tiles::<8, NV>(tiles);
            }
            self.tiles::<4, NV>(tiles);
            self.tiles::<1, NV>(tiles);
        }
    }

    /// As many rows of so many tiles of `MR` rows as there are; the other rows are left.
    ///
    /// # Safety
    /// As for [`columns`](Self::columns).
    #[inline(always)]
    unsafe fn tiles<const MR: usize, const NV: usize>(&mut self, in_row: usize) {
        let rows = self.rows / MR;
        if rows > 0 && in_row > 0 {
            // SAFETY: the caller's.
            self.s.outline(unsafe { Tiles::<S, R, MR, NV>::new(*self, [rows, in_row]) });
        }
        self.x = self.x.wrapping_add(rows * MR);
        self.at = self.at.map(|at| at.wrapping_add(rows * MR * self.width));
        self.rows -= rows * MR;
    }
}

/// Rows of tiles, so many in each, as a function of its own.
struct Tiles<S, R, const MR: usize, const NV: usize> {
    block: Block<S, R>,
    count: [usize; 2],
}

/// The most vectors of a tile.
const MAX_VECTORS: usize = 16;

impl<S: Simd, R: UpdateRule, const MR: usize, const NV: usize> Tiles<S, R, MR, NV> {
    /// # Safety
    /// The block has all their rows and columns, and all samples, when they are run.
    #[inline(always)]
    unsafe fn new(block: Block<S, R>, count: [usize; 2]) -> Self {
        Self { block, count }
    }
}

impl<S: Simd, R: UpdateRule, const MR: usize, const NV: usize> SimdOp for Tiles<S, R, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { block: Block { s, rule, x_row, dy_row, samples, width, .. }, count: [rows, in_row] } = self;
        let mut gradients = [MaybeUninit::<Line>::uninit(); MAX_VECTORS * MAX_LANES / ROW_LANES];
        let gradients = gradients.as_mut_ptr().cast::<f32>();
        // The tile before, whose gradients wait, and how many of its vectors.
        let (mut before, mut waiting) = (self.block.at, 0);
        // A macro, since a closure with intrinsics may not be inlined: the step on a vector that waits.
        macro_rules! step {
            ($number:expr) => {
                let place = $number / NV * width + $number % NV * S::LANES;
                let gradient = s.load(gradients.wrapping_add($number * S::LANES));
                step(s, rule, gradient, before.map(|at| at.wrapping_add(place)), S::LANES);
            };
        }
        // SAFETY: the word of the caller of `new`; the buffer has room for the vectors of a tile, and holds those that wait.
        unsafe {
            for (row, tile) in (0..rows).flat_map(|row| (0..in_row).map(move |tile| (row, tile))) {
                let (row, col) = (row * MR, tile * NV * S::LANES);
                let at = self.block.at.map(|at| at.wrapping_add(row * width + col));
                let (mut x, mut dy) = (self.block.x.wrapping_add(row), self.block.dy.wrapping_add(col));
                let mut acc = [[s.splat(0.0); NV]; MR];
                // Likewise, since a function would take the accumulators' address.
                macro_rules! sample {
                    () => {
                        let mut row = [s.splat(0.0); NV];
                        for (v, value) in row.iter_mut().enumerate() {
                            *value = s.load(dy.wrapping_add(v * S::LANES));
                        }
                        for (i, acc) in acc.iter_mut().enumerate() {
                            let x = s.splat(x.wrapping_add(i).read());
                            for (acc, &dy) in acc.iter_mut().zip(&row) {
                                *acc = s.fma(x, dy, *acc);
                            }
                        }
                        // The next tile's share of the sample.
                        s.prefetch(x.wrapping_add(2 * MR - 1));
                        (x, dy) = (x.wrapping_add(x_row), dy.wrapping_add(dy_row));
                    };
                }
                let together = samples.min(waiting);
                for number in 0..together {
                    sample!();
                    step!(number);
                }
                for _ in together..samples {
                    sample!();
                }
                for number in together..waiting {
                    step!(number);
                }
                for (i, row) in acc.iter().enumerate() {
                    for (v, &acc) in row.iter().enumerate() {
                        s.store(gradients.wrapping_add((i * NV + v) * S::LANES), acc);
                    }
                }
                (before, waiting) = (at, MR * NV);
            }
            for number in 0..waiting {
                step!(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::optimizer::{AdamStep, MomentumStep, SgdStep, Update, WeightDecay};
    use crate::{Backend, Isa, MatMut, Threads, reference};

    /// Deterministic values in -1..1.
    fn values(seed: u32, len: usize) -> Vec<f32> {
        let bits = |i: u32| i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503).rotate_left(i % 32);
        (0..len as u32).map(|i| (bits(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
    }

    /// Compares with an update by the gradient `dw`.
    fn check<R: UpdateRule>(backend: &Backend, rule: R, x: MatRef<'_>, dy: MatRef<'_>, dw: &[f32]) {
        let mut found = [3, 4, 5].map(|seed| values(seed, dw.len()));
        found[2].iter_mut().for_each(|v| *v = v.abs());
        let mut expected = found.clone();
        backend.run_alone(Update { rule, dw, parameters: expected.each_mut().map(Vec::as_mut_slice) });
        assert!(supports(x, dy));
        backend.run_alone(FusedUpdate { rule, x, dy, parameters: found.each_mut().map(Vec::as_mut_slice) });
        let bits =
            |values: &[Vec<f32>; 3]| values.each_ref().map(|v| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        let size = [x.rows(), x.cols(), dy.cols()];
        assert!(bits(&found) == bits(&expected), "{size:?} on {}", backend.isa());
    }

    #[test]
    fn it_has_the_bits_of_a_gradient_and_an_update() {
        let decay = WeightDecay(Some(0.01));
        let plain = SgdStep { learning_rate: 0.1, decay: WeightDecay(None) };
        let momentum = MomentumStep { learning_rate: 0.1, momentum: 0.9, nesterov: true, decay };
        let adam = AdamStep { alpha: 0.1, rate_1: 0.1, rate_2: 0.01, epsilon: 1e-7, decay };
        for samples in [1, 2, 7, 15, 16, 17, 33, CHUNK_ROWS] {
            let sizes = [16, 32, 48, 80].into_iter().flat_map(|w| (1..=21).chain([41]).map(move |r| (w, r)));
            for (width, rows) in sizes.filter(|(width, rows)| width * rows <= FUSED_UPDATE_WEIGHTS) {
                // Rows stand further apart than they are long.
                let (x, dy) = (values(1, samples * (rows + 3)), values(2, samples * (width + 5)));
                let x = MatRef::with_strides(&x, samples, rows, rows + 3, 1).unwrap();
                let dy = MatRef::with_strides(&dy, samples, width, width + 5, 1).unwrap();
                let mut dw = vec![0.0; rows * width];
                // Not the kernel: all of the matrix products would be compiled once more for these tests.
                reference::dense_backward_params(x, dy, MatMut::new(&mut dw, rows, width).unwrap(), None).unwrap();
                for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
                    let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
                    check(&backend, plain, x, dy, &dw);
                    check(&backend, momentum, x, dy, &dw);
                    check(&backend, adam, x, dy, &dw);
                }
            }
        }
    }

    #[test]
    fn what_it_does_not_do_it_refuses() {
        let values = values(1, 300 * 40);
        let matrix = |rows, cols| MatRef::new(&values[..rows * cols], rows, cols).unwrap();
        let strided = MatRef::with_strides(&values, 8, 16, 40, 2).unwrap();
        assert!(supports(matrix(8, 3), matrix(8, 32)));
        assert!(!supports(matrix(8, 3), matrix(8, 24)));
        assert!(!supports(strided, matrix(8, 32)) && !supports(matrix(8, 3), strided));
        assert!(!supports(matrix(CHUNK_ROWS + 1, 3), matrix(CHUNK_ROWS + 1, 16)));
        assert!(!supports(matrix(2, 4097), matrix(2, 16)));
    }
}
