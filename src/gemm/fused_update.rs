//! Fuses a weight gradient with the optimizer's step on the weights, for batches of at most one chunk.
//!
//! ```text
//! for each row of micro-tiles, for each micro-tile of MR rows and NV vectors
//!   for k in 0..batch                                 k-steps
//!     acc[i][v] = fma(x[k][i], dy[k][v], acc[i][v])   MR * NV FMAs
//!     step on one vector of the previous micro-tile   until there is none left
//!   staged gradients = acc
//! ```
//!
//! The epilogue of a micro-tile, Adam's division and square root on each of its vectors, takes longer than
//! the FMAs of a few samples. It is therefore software-pipelined: interleaved with the k-steps of the next
//! micro-tile, it costs little, since the two use different execution units. Gradients are staged in a
//! buffer that stays in L1.
//!
//! Sums have the order of [`Product`](super::product::Product): sample after sample.

use std::mem::MaybeUninit;

use super::element::Line;
use crate::contract::{CHUNK_ROWS, ROW_LANES};
use crate::kernels::Kernel;
use crate::kernels::optimizer::{Parameters, VALUES, VectorStep, update};
use crate::matrix::MatRef;
use crate::simd::tier::Tier;
use crate::simd::{MAX_LANES, Simd, SimdOp};
use crate::tuning::gemm::FUSED_UPDATE_WEIGHTS;

/// Takes a step on weights and their slots by the gradient x^T dy.
pub(crate) struct FusedUpdate<'a, V> {
    pub step: V,
    /// Batch x inputs.
    pub x: MatRef<'a>,
    /// Batch x outputs.
    pub dy: MatRef<'a>,
    /// Inputs x outputs, row-major and contiguous.
    pub parameters: Parameters<'a>,
}

/// Tells whether [`FusedUpdate`] takes these operands; it leaves the parameters alone if not.
///
/// Rows must be contiguous, the outputs make whole vectors of any tier, and the samples fit one chunk. More
/// weights than [`FUSED_UPDATE_WEIGHTS`] would leave L2.
pub(crate) fn supports(x: MatRef<'_>, dy: MatRef<'_>) -> bool {
    let batch = x.rows().min(dy.rows());
    let whole = x.col_stride() == 1 && dy.col_stride() == 1 && dy.cols().is_multiple_of(ROW_LANES);
    whole && batch <= CHUNK_ROWS && x.cols().saturating_mul(dy.cols()) <= FUSED_UPDATE_WEIGHTS
}

impl<V: VectorStep> Kernel for FusedUpdate<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run<T: Tier>(self, tier: T) {
        let Self { step, x, dy, parameters } = self;
        let width = dy.cols();
        if !supports(x, dy) || width == 0 {
            return;
        }
        let values = parameters.into_slices();
        let rows = values[..=V::SLOTS].iter().map(|slice| slice.len() / width).fold(x.cols(), usize::min);
        let panel = Panel {
            s: tier.vector(),
            step,
            x: x.as_ptr(),
            x_stride: x.row_stride(),
            dy: dy.as_ptr(),
            dy_stride: dy.row_stride(),
            batch: x.rows().min(dy.rows()),
            values: values.map(<[f32]>::as_mut_ptr),
            width,
            rows,
        };
        let vectors = width / T::Vector::LANES;
        // SAFETY: `rows` rows of `width` parameters are in the slices in use, `batch` rows of at least `rows`
        // and of `width` elements in the views; the panels end at vector `vectors`, the last of a row.
        unsafe {
            panel.run::<2>(0, vectors / 2);
            panel.run::<1>(vectors / 2 * 2, vectors % 2);
        }
    }
}

/// The operands from the first row and column on that are left.
#[derive(Clone, Copy)]
struct Panel<S, V> {
    s: S,
    step: V,
    x: *const f32,
    x_stride: usize,
    dy: *const f32,
    dy_stride: usize,
    batch: usize,
    /// The first weight and its slots.
    values: [*mut f32; VALUES],
    /// Weights of a row.
    width: usize,
    rows: usize,
}

impl<S: Simd, V: VectorStep> Panel<S, V> {
    /// Updates all rows of `count` micro-tiles side by side, `NV` vectors each, from vector `first` on.
    ///
    /// # Safety
    /// The slices in use hold `rows` rows of `width` parameters, x and dy `batch` rows, and
    /// `first + count * NV` vectors fit a row.
    #[inline(always)]
    unsafe fn run<const NV: usize>(mut self, first: usize, count: usize) {
        self.dy = self.dy.wrapping_add(first * S::LANES);
        self.values = self.values.map(|p| p.wrapping_add(first * S::LANES));
        // SAFETY: each call leaves the rows that it has not updated, with pointers to the first of them.
        unsafe {
            // The step's operands need registers beside the accumulators and a row of dy.
            if const { S::REGISTERS >= 32 } {
                self.micro_tiles::<8, NV>(count);
            }
            self.micro_tiles::<4, NV>(count);
            self.micro_tiles::<1, NV>(count);
        }
    }

    /// Updates as many whole micro-tiles of `MR` rows as there are, and moves on to the remaining rows.
    ///
    /// # Safety
    /// From the pointers on, the slices in use hold `rows` rows of `count * NV` vectors, x and dy `batch`
    /// rows.
    #[inline(always)]
    unsafe fn micro_tiles<const MR: usize, const NV: usize>(&mut self, count: usize) {
        let rows = self.rows / MR;
        if rows > 0 && count > 0 {
            // SAFETY: rows * MR of the panel's rows and count * NV of its vectors are there.
            self.s.outline(unsafe { MicroTiles::<S, V, MR, NV>::new(*self, rows, count) });
        }
        self.x = self.x.wrapping_add(rows * MR);
        self.values = self.values.map(|p| p.wrapping_add(rows * MR * self.width));
        self.rows -= rows * MR;
    }
}

/// Micro-tiles of a panel, as a function of its own.
struct MicroTiles<S, V, const MR: usize, const NV: usize> {
    panel: Panel<S, V>,
    /// Rows of micro-tiles.
    rows: usize,
    /// Micro-tiles of a row.
    cols: usize,
}

/// Most vectors of a micro-tile: 8 rows of 2.
const MAX_VECTORS: usize = 16;

impl<S: Simd, V: VectorStep, const MR: usize, const NV: usize> MicroTiles<S, V, MR, NV> {
    /// # Safety
    /// When it runs, the panel has `rows * MR` rows, `cols * NV` vectors of columns and `batch` samples.
    #[inline(always)]
    unsafe fn new(panel: Panel<S, V>, rows: usize, cols: usize) -> Self {
        const { assert!(MR * NV <= MAX_VECTORS) };
        Self { panel, rows, cols }
    }
}

impl<S: Simd, V: VectorStep, const MR: usize, const NV: usize> SimdOp for MicroTiles<S, V, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { panel: Panel { s, step, x_stride, dy_stride, batch, width, .. }, rows, cols } = self;
        let mut staged = [MaybeUninit::<Line>::uninit(); MAX_VECTORS * MAX_LANES / ROW_LANES];
        let staged = staged.as_mut_ptr().cast::<f32>();
        // The previous micro-tile, whose gradients are staged, and how many vectors it has.
        let (mut previous, mut pending) = (self.panel.values, 0);
        // Takes the step on a staged vector: a macro, since a closure with intrinsics may not be inlined.
        macro_rules! update {
            ($number:expr) => {
                let offset = $number / NV * width + $number % NV * S::LANES;
                let gradient = s.load(staged.wrapping_add($number * S::LANES));
                update(s, step, gradient, previous.map(|p| p.wrapping_add(offset)), S::LANES);
            };
        }
        // SAFETY: `new` guarantees the rows and vectors that the two loops visit, and the samples of the
        // k-steps; `staged` has room for MR * NV vectors, of which the first `pending` have been written.
        unsafe {
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                let (row, col) = (row * MR, col * NV * S::LANES);
                let values = self.panel.values.map(|p| p.wrapping_add(row * width + col));
                let (mut x, mut dy) = (self.panel.x.wrapping_add(row), self.panel.dy.wrapping_add(col));
                let mut acc = [[s.splat(0.0); NV]; MR];
                // Adds a sample: a macro, since a function would take the accumulators' address.
                macro_rules! k_step {
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
                        // The sample's elements for the next row of micro-tiles.
                        s.prefetch(x.wrapping_add(2 * MR - 1));
                        (x, dy) = (x.wrapping_add(x_stride), dy.wrapping_add(dy_stride));
                    };
                }
                let interleaved = batch.min(pending);
                for number in 0..interleaved {
                    k_step!();
                    update!(number);
                }
                for _ in interleaved..batch {
                    k_step!();
                }
                for number in interleaved..pending {
                    update!(number);
                }
                for (i, row) in acc.iter().enumerate() {
                    for (v, &acc) in row.iter().enumerate() {
                        s.store(staged.wrapping_add((i * NV + v) * S::LANES), acc);
                    }
                }
                (previous, pending) = (values, MR * NV);
            }
            for number in 0..pending {
                update!(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::optimizer::{AdamStep, MomentumStep, SgdStep, UpdateKernel, WeightDecay};
    use crate::{Backend, Isa, MatMut, Threads, reference};

    /// Deterministic values in -1..1.
    fn values(seed: u32, len: usize) -> Vec<f32> {
        let bits = |i: u32| i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503).rotate_left(i % 32);
        (0..len as u32).map(|i| (bits(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
    }

    fn parameters(values: &mut [Vec<f32>; VALUES]) -> Parameters<'_> {
        let [weights, slots @ ..] = values.each_mut().map(Vec::as_mut_slice);
        Parameters { weights, slots }
    }

    /// Compares with an update by the gradient `dw`.
    fn check<V: VectorStep>(backend: &Backend, step: V, x: MatRef<'_>, dy: MatRef<'_>, dw: &[f32]) {
        let mut found = [3, 4, 5].map(|seed| values(seed, dw.len()));
        found[2].iter_mut().for_each(|v| *v = v.abs());
        let mut expected = found.clone();
        backend.run_alone(UpdateKernel { step, dw, parameters: parameters(&mut expected) });
        assert!(supports(x, dy));
        backend.run_alone(FusedUpdate { step, x, dy, parameters: parameters(&mut found) });
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let same = found.iter().zip(&expected).all(|(found, expected)| bits(found) == bits(expected));
        assert!(same, "{:?} on {}", [x.rows(), x.cols(), dy.cols()], backend.isa());
    }

    #[test]
    fn fused_has_the_bits_of_a_gradient_and_then_an_update() {
        let decay = WeightDecay(Some(0.01));
        let sgd = SgdStep { learning_rate: 0.1, decay: WeightDecay(None) };
        let momentum = MomentumStep { learning_rate: 0.1, momentum: 0.9, nesterov: true, decay };
        let adam = AdamStep { alpha: 0.1, rate_1: 0.1, rate_2: 0.01, epsilon: 1e-7, decay };
        for batch in [1, 2, 7, 15, 16, 17, 33, CHUNK_ROWS] {
            let sizes = [16, 32, 48, 80].into_iter().flat_map(|w| (1..=21).chain([41]).map(move |r| (w, r)));
            for (width, rows) in sizes.filter(|(width, rows)| width * rows <= FUSED_UPDATE_WEIGHTS) {
                // Strides are longer than the rows.
                let (x, dy) = (values(1, batch * (rows + 3)), values(2, batch * (width + 5)));
                let x = MatRef::with_strides(&x, batch, rows, rows + 3, 1).unwrap();
                let dy = MatRef::with_strides(&dy, batch, width, width + 5, 1).unwrap();
                let mut dw = vec![0.0; rows * width];
                // The kernel would compile every matrix product once more for these tests.
                reference::dense_backward_params(x, dy, MatMut::new(&mut dw, rows, width).unwrap(), None).unwrap();
                for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
                    let backend = Backend::with_isa(isa).unwrap().with_threads(Threads::One);
                    check(&backend, sgd, x, dy, &dw);
                    check(&backend, momentum, x, dy, &dw);
                    check(&backend, adam, x, dy, &dw);
                }
            }
        }
    }

    #[test]
    fn unsupported_operands_are_refused() {
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
