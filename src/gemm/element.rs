//! `Element`: what the right operand of a product is stored in.
//!
//! Products compute in `f32`. A narrower element type (bf16, int8) is widened as it is loaded, so that it
//! only changes [`packed`](super::packed) and what a micro-kernel's load does.

use crate::contract::ROW_LANES;
use crate::simd::Simd;

/// An element type of packed weights.
pub(crate) trait Element: Copy + Send + Sync {
    /// A row of a panel, [`ROW_LANES`] elements, aligned so that no load straddles a cache line.
    type PanelRow: Copy + Default + AsMut<[Self]> + Send + Sync;

    /// Whether loads widen; packed panels that need not be are read as rows are.
    const WIDENS: bool = true;

    /// Rounds a weight to this type.
    fn narrow(weight: f32) -> Self;

    /// Loads and widens a vector.
    ///
    /// # Safety
    /// `p` points to `LANES` readable elements.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F32;
}

/// A cache line of floats, and a row of an `f32` panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; ROW_LANES]);

impl Default for Line {
    fn default() -> Self {
        Self([0.0; ROW_LANES])
    }
}

impl AsMut<[f32]> for Line {
    fn as_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Element for f32 {
    type PanelRow = Line;
    const WIDENS: bool = false;

    fn narrow(weight: f32) -> Self {
        weight
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F32 {
        // SAFETY: `p` points to `LANES` readable floats.
        unsafe { s.load(p) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::{AnyStrides, Panels as PanelAccess};
    use super::super::gemv;
    use super::super::microkernel::MicroTiles;
    use super::super::microtile::{ATile, BTile, MicroTile, PanelTile, Prefetch, Start, Store};
    use super::super::packed::{PackedMatrix, Panels};
    use super::*;
    use crate::kernels::Kernel;
    use crate::matrix::MatPtr;
    use crate::simd::MAX_LANES;
    use crate::simd::tier::Tier;
    use crate::{Activation, Backend, Isa, MatMut, MatRef, reference};

    /// The upper half of a float, as bfloat16 has it, rounded towards 0.
    #[derive(Clone, Copy, Default)]
    struct Truncated(u16);

    #[derive(Clone, Copy, Default)]
    #[repr(align(32))]
    struct TruncatedRow([Truncated; ROW_LANES]);

    impl AsMut<[Truncated]> for TruncatedRow {
        fn as_mut(&mut self) -> &mut [Truncated] {
            &mut self.0
        }
    }

    impl Element for Truncated {
        type PanelRow = TruncatedRow;

        fn narrow(weight: f32) -> Self {
            Self((weight.to_bits() >> 16) as u16)
        }

        #[inline(always)]
        unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::F32 {
            let mut lanes = [0.0; MAX_LANES];
            // SAFETY: `p` points to `LANES` readable elements, and the array holds as many floats.
            unsafe {
                for (i, lane) in lanes.iter_mut().enumerate().take(S::LANES) {
                    *lane = f32::from_bits(u32::from((*p.add(i)).0) << 16);
                }
                s.load(lanes.as_ptr())
            }
        }
    }

    /// A sample through a layer.
    struct Sample<'a> {
        x: &'a [f32],
        w: Panels<'a, Truncated>,
        bias: &'a [f32],
        y: &'a mut [f32],
    }

    impl Kernel for Sample<'_> {
        type Output = ();

        #[inline(always)]
        fn run<T: Tier>(self, tier: T) {
            gemv::forward(tier, self.x, self.w, Some(self.bias), Activation::Relu, self.y);
        }
    }

    const MR: usize = 2;
    const NV: usize = 2;

    /// A micro-tile of two rows and 32 columns.
    struct Tile<'a> {
        x: &'a [f32],
        w: Panels<'a, Truncated>,
        bias: &'a [f32],
        y: &'a mut [f32],
    }

    impl Kernel for Tile<'_> {
        type Output = ();

        #[inline(always)]
        fn run<T: Tier>(self, tier: T) {
            let (depth, cols) = (self.w.depth(), self.w.cols());
            let tile = MicroTile {
                a: ATile { p: self.x.as_ptr(), row: depth, col: 1 },
                b: BTile {
                    p: self.w.rows_from(0, 0).as_ptr().cast(),
                    row: ROW_LANES,
                    col: 1,
                    vector: depth * ROW_LANES,
                },
                panel: PanelTile { p: std::ptr::null_mut(), row: 0, vector: 0 },
                c: MatPtr { p: self.y.as_mut_ptr(), row_stride: cols, col_stride: 1 },
                depth,
                chunk: usize::MAX,
                gap: 0,
                next_a: Prefetch { p: self.x.as_ptr(), step: 0 },
                cols,
                start: Start::ColBias(self.bias.as_ptr()),
                store: Store::Relu,
            };
            let s = tier.row();
            // SAFETY: the slices have the rows and columns of the micro-tile.
            s.outline(unsafe {
                MicroTiles::<_, AnyStrides, PanelAccess<Truncated>, MR, NV, true>::new(s, &tile, 0, 1)
            });
        }
    }

    #[test]
    fn other_element_types_are_widened_as_they_are_loaded() {
        let value = |i: usize| (i * 7919 % 1013) as f32 / 64.0 - 8.0;
        let (depth, cols) = (11, NV * ROW_LANES);
        let w: Vec<f32> = (0..depth * cols).map(value).collect();
        let widened: Vec<f32> = w.iter().map(|w| f32::from_bits(w.to_bits() >> 16 << 16)).collect();
        assert_ne!(w, widened);
        let (x, bias): (Vec<f32>, Vec<f32>) = ((0..MR * depth).map(value).collect(), (0..cols).map(value).collect());
        let packed = PackedMatrix::<Truncated>::new(MatRef::new(&w, depth, cols).unwrap());
        let mut expected = vec![f32::NAN; MR * cols];
        let (x_view, w_view) = (MatRef::new(&x, MR, depth).unwrap(), MatRef::new(&widened, depth, cols).unwrap());
        let y = MatMut::new(&mut expected, MR, cols).unwrap();
        reference::dense_forward(x_view, w_view, Some(&bias), Activation::Relu, y).unwrap();
        for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Portable) {
            let backend = Backend::with_isa(isa).unwrap();
            let mut y = vec![f32::NAN; MR * cols];
            backend.run_alone(Tile { x: &x, w: packed.panels(), bias: &bias, y: &mut y });
            assert_eq!(y, expected, "micro-kernel on {isa}");
            let (x, y) = (&x[..depth], &mut y[..cols]);
            y.fill(f32::NAN);
            backend.run_alone(Sample { x, w: packed.panels(), bias: &bias, y });
            assert_eq!(y, &expected[..cols], "GEMV on {isa}");
        }
    }
}
